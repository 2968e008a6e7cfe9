//! Which EndpointSlices lead here: an activator that is told to go accepts connections until none does any more, because the next
//! client may be led here however quiet it was before. They also name the other activators of a Function.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::ResourceExt as _;

/// Namespace and name.
pub type SliceKey = (String, String);

/// The slices that lead to this activator, as the watch tells.
#[derive(Default)]
pub struct Led {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    /// With the other addresses that each leads to.
    slices: HashMap<SliceKey, Box<[IpAddr]>>,
    left: Option<Instant>,
}

/// The key of a slice.
pub fn key(slice: &EndpointSlice) -> SliceKey {
    (slice.namespace().unwrap_or_default(), slice.name_any())
}

impl Led {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A slice was added or changed; `own` are this activator's addresses. Whether it leads here.
    pub fn apply(&self, slice: &EndpointSlice, own: &[IpAddr]) -> bool {
        let addresses = slice.endpoints.iter().flat_map(|endpoint| &endpoint.addresses);
        let (here, others): (Vec<IpAddr>, Vec<IpAddr>) =
            addresses.filter_map(|address| address.parse().ok()).partition(|ip| own.contains(ip));
        let (mut inner, leads) = (self.lock(), !here.is_empty());
        if leads {
            inner.slices.insert(key(slice), others.into());
        } else {
            inner.remove(&key(slice));
        }
        leads
    }

    /// A slice is gone.
    pub fn delete(&self, slice: &EndpointSlice) {
        self.lock().remove(&key(slice));
    }

    /// Forgets the slices that are not listed, and gives them.
    pub fn retain(&self, listed: &HashSet<SliceKey>) -> Vec<SliceKey> {
        let mut inner = self.lock();
        let gone: Vec<SliceKey> = inner.slices.keys().filter(|key| !listed.contains(*key)).cloned().collect();
        for key in &gone {
            inner.remove(key);
        }
        gone
    }

    /// The other addresses that a slice leads to, where it leads here, too.
    pub fn others(&self, key: &SliceKey) -> Vec<IpAddr> {
        self.lock().slices.get(key).map(|others| others.to_vec()).unwrap_or_default()
    }

    /// How many lead here.
    pub fn count(&self) -> usize {
        self.lock().slices.len()
    }

    /// The last moment at which one led here: `now` while one does, `None` where none ever did.
    pub fn last(&self, now: Instant) -> Option<Instant> {
        let inner = self.lock();
        if inner.slices.is_empty() { inner.left } else { Some(now) }
    }
}

impl Inner {
    fn remove(&mut self, key: &SliceKey) {
        if self.slices.remove(key).is_some() {
            self.left = Some(Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn slice(name: &str, addresses: &[&str]) -> EndpointSlice {
        let endpoints: Vec<_> = addresses.iter().map(|address| json!({"addresses": [address]})).collect();
        serde_json::from_value(json!({
            "metadata": {"name": name, "namespace": "shop"}, "addressType": "IPv4", "endpoints": endpoints
        }))
        .unwrap()
    }

    #[test]
    fn it_is_led_to_until_the_last_slice_leaves() {
        let own = ["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()];
        let (led, now) = (Led::default(), Instant::now());
        led.apply(&slice("other", &["10.0.0.2"]), &own);
        assert_eq!((led.count(), led.last(now)), (0, None));
        led.apply(&slice("a", &["10.0.0.2", "10.0.0.1"]), &own);
        led.apply(&slice("b", &["fd00:0::1"]), &own);
        led.apply(&slice("c", &["10.0.0.1"]), &own);
        assert_eq!((led.count(), led.last(now)), (3, Some(now)));
        let others = |name: &str| led.others(&("shop".to_owned(), name.to_owned()));
        assert_eq!(others("a"), ["10.0.0.2".parse::<IpAddr>().unwrap()]);
        assert!(others("c").is_empty() && others("other").is_empty(), "alone, and not led here");
        led.apply(&slice("a", &["10.0.0.2"]), &own);
        led.delete(&slice("b", &[]));
        assert_eq!((led.count(), led.last(now)), (1, Some(now)));
        assert_eq!(led.retain(&HashSet::new()), [("shop".to_owned(), "c".to_owned())]);
        let left = led.last(now).unwrap();
        assert!(led.count() == 0 && left > now);
        led.delete(&slice("c", &[]));
        assert_eq!(led.last(now), Some(left), "what was gone already changes nothing");
    }
}
