//! Mutations of the corpus: seeded, so that every run sends the same bytes.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

use crate::corpus::{Fate, corpus};

const LINES: &[&str] = &[
    "Content-Length: 0",
    "Content-Length: 3",
    "Content-Length: 40",
    "content-length: 5",
    "Content-Length:5,5",
    "Content-Length: 05",
    "Transfer-Encoding: chunked",
    "Transfer-Encoding: identity",
    "transfer-encoding: Chunked",
    "Transfer-Encoding: chunked, identity",
    "Transfer-Encoding:\tchunked",
    "Host: other",
    "Connection: close",
    "Connection: keep-alive",
    "Connection: transfer-encoding, host",
    "Upgrade: h2c",
    "Upgrade: websocket",
    "Expect: 100-continue",
    "X-S-B: c",
    "TE: trailers",
    "Trailer: Content-Length",
    " X-S-F: fold",
    "Content-Encoding: gzip",
    "Content_Length: 9",
    "Forwarded: for=x",
];
const SCRAPS: &[&[u8]] = &[
    b"\r\n",
    b"\n",
    b"\r",
    b"\r\n\r\n",
    b"\n\n",
    b"\0",
    b"\x0b",
    b"\x0c",
    b"\x7f",
    b"\x85",
    b"\xa0",
    b" ",
    b"\t",
    b":",
    b",",
    b";",
    b"0",
    b"0\r\n\r\n",
    b"5\r\n",
    b"ffffffff",
    b"+",
    b"-",
    b"0x",
    b"#",
    b"?",
    b"@",
    b"//",
    b"\\",
    b"%0d%0a",
    b"HTTP/1.1",
    b"chunked",
    b"GET ",
    b"\xc3\xa4",
    b"\xff",
];

/// Makes the `number`-th stream: some request or two, changed in one to three places.
pub(crate) fn mutation(number: u64) -> Vec<u8> {
    let mut rng = StdRng::seed_from_u64(0x5eed_0000 + number);
    let seeds = corpus();
    let valid = rng.random_bool(0.7);
    let seeds: Vec<_> = seeds.iter().filter(|(_, fate, _)| !valid || *fate == Fate::Passes).collect();
    let mut bytes = seeds.choose(&mut rng).expect("the corpus is not empty").2.clone();
    if rng.random_bool(0.3) {
        bytes.extend_from_slice(&seeds.choose(&mut rng).expect("the corpus is not empty").2);
    }
    for _ in 0..rng.random_range(1..=3) {
        change(&mut bytes, &mut rng);
    }
    bytes
}

/// Where `bytes` is cut into the parts that are sent one after the other.
pub(crate) fn cuts(number: u64, length: usize) -> Vec<usize> {
    let mut rng = StdRng::seed_from_u64(0xc0_0000 + number);
    let mut cuts: Vec<usize> = (0..rng.random_range(0..3)).map(|_| rng.random_range(0..=length)).collect();
    cuts.sort_unstable();
    cuts
}

fn change(bytes: &mut Vec<u8>, rng: &mut StdRng) {
    let at = rng.random_range(0..=bytes.len());
    match rng.random_range(0..10) {
        0 => insert(bytes, at, SCRAPS.choose(rng).expect("not empty")),
        1 if at < bytes.len() => drop(bytes.remove(at)),
        2 if at < bytes.len() => bytes[at] = rng.random(),
        3 | 4 => {
            let line = format!("{}\r\n", LINES.choose(rng).expect("not empty"));
            let starts = line_starts(bytes);
            insert(bytes, *starts.choose(rng).unwrap_or(&0), line.as_bytes());
        }
        5 => swap_or_repeat(bytes, rng),
        6 => around_a_colon(bytes, rng),
        7 => digits(bytes, rng),
        8 => line_end(bytes, rng),
        _ => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 0x20;
            }
        }
    }
}

fn insert(bytes: &mut Vec<u8>, at: usize, scrap: &[u8]) {
    bytes.splice(at..at, scrap.iter().copied());
}

fn line_starts(bytes: &[u8]) -> Vec<usize> {
    bytes.windows(2).enumerate().filter(|(_, w)| w == b"\r\n").map(|(at, _)| at + 2).collect()
}

fn swap_or_repeat(bytes: &mut Vec<u8>, rng: &mut StdRng) {
    let starts = line_starts(bytes);
    let Some(pair) = starts.windows(2).collect::<Vec<_>>().choose(rng).map(|pair| (pair[0], pair[1])) else { return };
    let line = bytes[pair.0..pair.1].to_vec();
    let to = *starts.choose(rng).expect("there is a pair");
    if rng.random_bool(0.5) {
        insert(bytes, to, &line);
    } else {
        insert(bytes, pair.1, b" ");
        insert(bytes, to, &line);
    }
}

fn around_a_colon(bytes: &mut Vec<u8>, rng: &mut StdRng) {
    let colons: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at] == b':').collect();
    let Some(at) = colons.choose(rng) else { return };
    let at = at + usize::from(rng.random_bool(0.5));
    insert(bytes, at, SCRAPS.choose(rng).expect("not empty"));
}

fn digits(bytes: &mut Vec<u8>, rng: &mut StdRng) {
    let places: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at].is_ascii_digit()).collect();
    let Some(at) = places.choose(rng).copied() else { return };
    match rng.random_range(0..3) {
        0 => bytes[at] = rng.random_range(b'0'..=b'9'),
        1 => insert(bytes, at, b"0"),
        _ => {
            insert(bytes, at, [&b"+"[..], b"-", b"0x", b" ", b"1", b"ffffffffffffffff"].choose(rng).expect("not empty"))
        }
    }
}

fn line_end(bytes: &mut Vec<u8>, rng: &mut StdRng) {
    let starts = line_starts(bytes);
    let Some(at) = starts.choose(rng).map(|at| at - 2) else { return };
    let ends: [&[u8]; 6] = [b"\n", b"\r", b"\r\r\n", b"\n\r", b"\r\n\r\n", b" \r\n\t"];
    bytes.splice(at..at + 2, ends.choose(rng).expect("not empty").iter().copied());
}
