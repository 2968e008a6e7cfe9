//! What was learnt as a short text, for a Function's status, and back.
//!
//! What always holds: at most [`MAX_TEXT_BYTES`]; what was written is read back as it was; whatever else is read gives an error or a value
//! that is within its bounds, never a panic.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD_NO_PAD;

use super::gaps::{BINS, Bin, FULL, Gaps};
use super::learnt::Learnt;

/// The layout that is written. A reader refuses others: what was learnt is then learnt anew.
const VERSION: u8 = 1;
/// The longest number: 32 bits, seven to a byte.
const NUMBER: usize = 5;
/// The longest stretch: two numbers up to [`FULL`] and two of 16 bits.
const BIN: usize = 4 * 2;
const MAX_BYTES: usize = 1 + 6 * NUMBER + 1 + 2 * (1 + BINS * BIN);

/// The longest text, in bytes; what is known of an ordinary Function takes a quarter of it.
pub const MAX_TEXT_BYTES: usize = (MAX_BYTES * 4).div_ceil(3);

/// Why a text cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LearntError {
    /// Not base64, or too long.
    #[error("what was learnt of the Function's idle gaps is no text that Pilotlight wrote; it is learnt anew")]
    NotText,
    /// Another version wrote it.
    #[error(
        "what was learnt of the Function's idle gaps has version {0}, and this version of Pilotlight reads {VERSION}; it is learnt anew"
    )]
    Version(u8),
    /// Cut off, or out of bounds.
    #[error("what was learnt of the Function's idle gaps is damaged; it is learnt anew")]
    Damaged,
}

impl Learnt {
    /// As text of at most [`MAX_TEXT_BYTES`].
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut bytes = vec![VERSION];
        let (end, begin) = self.surprise.unwrap_or_default();
        bytes.push(u8::from(self.surprise.is_some()));
        for value in [end, begin, self.wakes[0], self.wakes[1], self.wakes[2], self.memory_mib] {
            put(&mut bytes, value);
        }
        for gaps in [&self.after_end, &self.after_begin] {
            let used = gaps.0.iter().rposition(|bin| bin.at_risk > 0).map_or(0, |last| last + 1);
            put(&mut bytes, used as u32);
            for bin in &gaps.0[..used] {
                put(&mut bytes, u32::from(bin.at_risk));
                put(&mut bytes, u32::from(bin.ended));
                if bin.ended > 0 {
                    bytes.extend(bin.place.to_le_bytes());
                    bytes.extend(bin.spread.to_le_bytes());
                }
            }
        }
        BASE64_STANDARD_NO_PAD.encode(bytes)
    }

    /// From text.
    ///
    /// # Errors
    /// The text is not one that this version wrote.
    pub fn from_text(text: &str) -> Result<Self, LearntError> {
        if text.len() > MAX_TEXT_BYTES {
            return Err(LearntError::NotText);
        }
        let bytes = BASE64_STANDARD_NO_PAD.decode(text).map_err(|_| LearntError::NotText)?;
        match bytes.split_first() {
            Some((&VERSION, rest)) => read(rest).ok_or(LearntError::Damaged),
            Some((version, _)) => Err(LearntError::Version(*version)),
            None => Err(LearntError::NotText),
        }
    }
}

fn read(mut rest: &[u8]) -> Option<Learnt> {
    let rest = &mut rest;
    let known = byte(rest)?;
    let surprise = (take(rest)?, take(rest)?);
    let wakes = [take(rest)?, take(rest)?, take(rest)?];
    let memory_mib = take(rest)?;
    let (after_end, after_begin) = (gaps(rest)?, gaps(rest)?);
    let surprise = (known == 1).then_some(surprise);
    rest.is_empty().then_some(Learnt { after_end, after_begin, surprise, wakes, memory_mib })
}

fn gaps(rest: &mut &[u8]) -> Option<Gaps> {
    let mut gaps = Gaps::default();
    let used = take(rest)? as usize;
    for bin in gaps.0.get_mut(..used)? {
        let count = |rest: &mut &[u8]| u16::try_from(take(rest)?).ok();
        let (at_risk, ended) = (count(rest)?, count(rest)?);
        if at_risk > FULL || ended > at_risk {
            return None;
        }
        *bin = Bin { at_risk, ended, ..Bin::default() };
        if ended > 0 {
            bin.place = u16::from_le_bytes([byte(rest)?, byte(rest)?]);
            bin.spread = u16::from_le_bytes([byte(rest)?, byte(rest)?]);
        }
    }
    Some(gaps)
}

/// Appends a number, seven bits to a byte, the lowest first.
fn put(bytes: &mut Vec<u8>, mut value: u32) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

fn take(rest: &mut &[u8]) -> Option<u32> {
    let mut value = 0_u64;
    for place in 0..NUMBER {
        let next = byte(rest)?;
        value += u64::from(next & 0x7f) << (7 * place);
        if next & 0x80 == 0 {
            return u32::try_from(value).ok();
        }
    }
    None
}

fn byte(rest: &mut &[u8]) -> Option<u8> {
    let (first, others) = rest.split_first()?;
    *rest = others;
    Some(*first)
}

#[cfg(test)]
mod tests {
    use super::super::learnt::Gap;
    use super::*;
    use crate::time::Millis;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn learnt_of(gaps: &[(u64, u64)]) -> Learnt {
        let mut learnt = Learnt::default();
        let mut now = 0;
        for (work, idle) in gaps {
            learnt.observe_gap(Gap { began: Millis(now), ended: Millis(now + work), next: Millis(now + work + idle) });
            now += work + idle;
        }
        learnt
    }

    #[test]
    fn the_longest_text_is_as_long_as_is_said() {
        let full = Bin { at_risk: FULL, ended: FULL, place: u16::MAX, spread: u16::MAX };
        let learnt = Learnt {
            after_end: Gaps([full; BINS]),
            after_begin: Gaps([full; BINS]),
            surprise: Some((u32::MAX, u32::MAX)),
            wakes: [u32::MAX; 3],
            memory_mib: u32::MAX,
        };
        let text = learnt.to_text();
        assert_eq!((text.len(), MAX_TEXT_BYTES), (1_198, 1_198));
        assert_eq!(Learnt::from_text(&text), Ok(learnt));
    }

    #[test]
    fn a_number_takes_a_byte_for_each_seven_bits() {
        for (number, length) in
            [(0, 1), (0x7f, 1), (0x80, 2), (0x81, 2), (0x3fff, 2), (0x4000, 3), (0x0fff_ffff, 4), (u32::MAX, 5)]
        {
            let mut bytes = Vec::new();
            put(&mut bytes, number);
            assert_eq!((bytes.len(), take(&mut &bytes[..])), (length, Some(number)));
        }
    }

    #[test]
    fn an_ordinary_timer_takes_little() {
        let learnt = learnt_of(&[(1_000, 299_000); 200]);
        assert!(learnt.to_text().len() < 300, "{}", learnt.to_text().len());
    }

    #[test]
    fn what_is_not_ours_is_refused_with_the_reason() {
        let encode = |bytes: &[u8]| BASE64_STANDARD_NO_PAD.encode(bytes);
        let good = BASE64_STANDARD_NO_PAD.decode(learnt_of(&[(1_000, 60_000)]).to_text()).unwrap();
        let table = [
            (String::new(), LearntError::NotText),
            ("äöü".to_owned(), LearntError::NotText),
            ("A".repeat(MAX_TEXT_BYTES + 1), LearntError::NotText),
            (encode(&[2, 0]), LearntError::Version(2)),
            (encode(&good[..good.len() - 1]), LearntError::Damaged),
            (encode(&[&good[..], &[0]].concat()), LearntError::Damaged),
            // More stretches than there are; a number that does not end; more ended than there were.
            (encode(&[1, 0, 0, 0, 0, 0, 0, 0, 55]), LearntError::Damaged),
            (encode(&[1, 0, 255, 255, 255, 255, 255, 255]), LearntError::Damaged),
            (encode(&[1, 0, 0, 0, 0, 0, 0, 0, 1, 64, 65, 0, 0, 0, 0, 0]), LearntError::Damaged),
            // 4,097 of at most 4,096 at risk.
            (encode(&[1, 0, 0, 0, 0, 0, 0, 0, 1, 0x81, 0x20, 0, 0]), LearntError::Damaged),
        ];
        for (text, error) in table {
            assert_eq!(Learnt::from_text(&text), Err(error), "{text}");
            assert!(error.to_string().contains("learnt anew"));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_was_written_is_read(
            gaps in vec((0_u64..100_000, 0_u64..500_000_000), 0..100), wakes in vec((1_usize..4, any::<u64>()), 0..6), memory in any::<u32>(),
        ) {
            let mut learnt = learnt_of(&gaps);
            for (rung, millis) in wakes {
                learnt.observe_wake(super::super::Rung::ALL[rung], millis);
            }
            learnt.observe_memory(memory);
            let text = learnt.to_text();
            prop_assert!(text.len() <= MAX_TEXT_BYTES);
            prop_assert_eq!(Learnt::from_text(&text), Ok(learnt));
        }

        #[test]
        fn garbage_gives_an_error_or_something_within_its_bounds(bytes in vec(any::<u8>(), 0..900), ours in any::<bool>()) {
            let bytes = if ours { [&[VERSION, 1][..], &bytes].concat() } else { bytes };
            if let Ok(learnt) = Learnt::from_text(&BASE64_STANDARD_NO_PAD.encode(bytes)) {
                for bin in learnt.after_end.0.iter().chain(&learnt.after_begin.0) {
                    prop_assert!(bin.ended <= bin.at_risk && bin.at_risk <= FULL);
                }
                prop_assert!(learnt.to_text().len() <= MAX_TEXT_BYTES);
            }
        }
    }
}
