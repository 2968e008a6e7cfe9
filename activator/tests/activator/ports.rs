//! Ports that a test must know before anything listens on them.

use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};

/// Below those that the system gives to outgoing connections and to whoever asks for any port (32768 and up on Linux): no other test can
/// be given one of these between the look at it and its use.
const FIRST: u32 = 12_000;
const COUNT: u32 = 20_000;

/// A port that is free on loopback and on `also`. No other test of this process gets it.
pub(crate) fn free_port(also: impl IntoIterator<Item = IpAddr> + Clone) -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let own = std::process::id().wrapping_mul(101);
    for _ in 0..COUNT {
        let at = own.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT;
        let port = u16::try_from(FIRST + at).unwrap();
        let is_free = |address| TcpListener::bind((address, port)).is_ok();
        if is_free(IpAddr::V4(Ipv4Addr::LOCALHOST)) && also.clone().into_iter().all(is_free) {
            return port;
        }
    }
    panic!("no port from {FIRST} to {} is free on loopback", FIRST + COUNT - 1);
}
