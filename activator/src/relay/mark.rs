//! The mark of a relayed request: `<epoch> <uid of the owner> <tag>`. The tag proves that whoever wrote it knows the control token,
//! without showing it: an address that has changed hands since learns nothing that it could use elsewhere. Pure.

use hmac::{Hmac, KeyInit, Mac};
use http::HeaderValue;
use sha2::Sha256;

/// Says under which epoch, and to which owner, a request is relayed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The epoch that the sender knows.
    pub epoch: i64,
    /// Uid of the pod that it names.
    pub owner: String,
    tag: [u8; 32],
}

impl Mark {
    /// A mark that those who know `key` believe.
    pub fn new(key: &str, epoch: i64, owner: &str) -> Self {
        let tag = mac(key, epoch, owner).finalize().into_bytes().into();
        Self { epoch, owner: owner.to_owned(), tag }
    }

    /// Whether it was made with `key`. Takes the same time wherever the first difference is.
    pub fn is_by(&self, key: &str) -> bool {
        !key.is_empty() && mac(key, self.epoch, &self.owner).verify_slice(&self.tag).is_ok()
    }

    /// As a header's value.
    pub fn value(&self) -> Option<HeaderValue> {
        let mut text = format!("{} {} ", self.epoch, self.owner);
        for byte in self.tag {
            text.push_str(&format!("{byte:02x}"));
        }
        let mut value = HeaderValue::try_from(text).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    /// Reads a header's value; `None` where it is no mark.
    pub fn parse(value: &HeaderValue) -> Option<Self> {
        let mut parts = value.to_str().ok()?.split(' ');
        let (epoch, owner, hex) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() || hex.len() != 64 || !hex.is_ascii() {
            return None;
        }
        let mut tag = [0; 32];
        for (byte, digits) in tag.iter_mut().zip(hex.as_bytes().chunks(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
        }
        Some(Self { epoch: epoch.parse().ok()?, owner: owner.to_owned(), tag })
    }
}

fn mac(key: &str, epoch: i64, owner: &str) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).expect("HMAC takes keys of any length");
    mac.update(b"pilotlight relay\0");
    mac.update(&epoch.to_be_bytes());
    mac.update(owner.as_bytes());
    mac
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_mark_is_believed_by_those_who_know_the_key_and_names_one_owner_and_epoch() {
        let mark = Mark::new("key", 7, "uid-1");
        let value = mark.value().unwrap();
        assert!(value.is_sensitive());
        assert!(!value.to_str().unwrap().contains("key"));
        let read = Mark::parse(&value).unwrap();
        assert_eq!(read, mark);
        assert!(read.is_by("key"));
        assert!(!read.is_by("other") && !read.is_by(""));
        for forged in [Mark { epoch: 8, ..mark.clone() }, Mark { owner: "uid-2".into(), ..mark.clone() }] {
            assert!(!forged.is_by("key"));
        }
        assert!(!Mark::new("", 7, "uid-1").is_by(""), "no key proves nothing");
    }

    proptest! {
        #[test]
        fn any_value_is_survived(bytes in prop::collection::vec(32u8..255, 0..120)) {
            if let Ok(value) = HeaderValue::from_bytes(&bytes) {
                let _ = Mark::parse(&value);
            }
        }

        #[test]
        fn what_is_written_is_read(epoch: i64, owner in "[!-~]{1,40}") {
            let mark = Mark::new("key", epoch, &owner);
            prop_assert_eq!(Mark::parse(&mark.value().unwrap()), Some(mark));
        }
    }
}
