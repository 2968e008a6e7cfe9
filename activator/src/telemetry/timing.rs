//! The value of `Server-Timing`: where the time of a request went, in milliseconds. Pure, and without the formatting machinery, because
//! every response may get one.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::HeaderValue;

use crate::function::trace::WakeTrace;

/// Which responses tell their timing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum TimingHeaders {
    /// None.
    Off,
    /// Those of cold starts.
    Cold,
    /// Every one.
    #[default]
    All,
}

/// Where the time of one request went.
#[derive(Clone, Copy, Debug)]
pub struct Timing<'a> {
    /// When it came.
    pub arrived: Instant,
    /// How long it waited for a slot.
    pub queue: Duration,
    /// How long the pod took for the head of the response.
    pub upstream: Duration,
    /// The wake that it waited for.
    pub wake: Option<&'a WakeTrace>,
}

impl Timing<'_> {
    /// Milliseconds: waiting, then from the request's arrival to each phase of the wake (0 for phases that were over before it came), then
    /// the pod.
    pub fn header(&self) -> HeaderValue {
        let mut out = Vec::with_capacity(if self.wake.is_some() { 160 } else { 48 });
        entry(&mut out, "queue", self.queue);
        for (name, at) in self.wake.into_iter().flat_map(WakeTrace::phases) {
            entry(&mut out, name, at.saturating_duration_since(self.arrived));
        }
        entry(&mut out, "upstream", self.upstream);
        HeaderValue::from_maybe_shared(Bytes::from(out)).expect("names and numbers are a header's value")
    }
}

fn entry(out: &mut Vec<u8>, name: &str, duration: Duration) {
    if !out.is_empty() {
        out.extend_from_slice(b", ");
    }
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b";dur=");
    let micros = duration.as_micros();
    let mut digits = itoa::Buffer::new();
    out.extend_from_slice(digits.format(micros / 1000).as_bytes());
    let fraction = (micros % 1000) as u16;
    let [hundreds, tens, ones] = [fraction / 100, fraction / 10 % 10, fraction % 10].map(|digit| b'0' + digit as u8);
    out.extend_from_slice(&[b'.', hundreds, tens, ones]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn warm_requests_tell_queue_and_pod() {
        let (queue, upstream) = (Duration::from_micros(7), Duration::from_micros(12_034));
        let timing = Timing { arrived: Instant::now(), queue, upstream, wake: None };
        assert_eq!(timing.header(), "queue;dur=0.007, upstream;dur=12.034");
    }

    #[test]
    fn phases_are_told_from_the_requests_arrival() {
        let began = Instant::now();
        let mut wake = WakeTrace::new(began);
        wake.patched = Some(began + Duration::from_millis(4));
        wake.reachable = Some(began + Duration::from_millis(250));
        let arrived = began + Duration::from_millis(10);
        let (queue, upstream) = (Duration::from_millis(240), Duration::from_millis(2));
        let timing = Timing { arrived, queue, upstream, wake: Some(&wake) };
        assert_eq!(timing.header(), "queue;dur=240.000, patched;dur=0.000, reachable;dur=240.000, upstream;dur=2.000");
    }

    proptest! {
        #[test]
        fn numbers_are_milliseconds(micros in 0u64..10_000_000_000) {
            let mut out = Vec::new();
            entry(&mut out, "x", Duration::from_micros(micros));
            let text = std::str::from_utf8(&out).unwrap();
            prop_assert_eq!(text, format!("x;dur={}.{:03}", micros / 1000, micros % 1000));
        }
    }
}
