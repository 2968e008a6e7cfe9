//! The whole decision as a table.

use super::*;
use crate::fixtures;
use crate::index::PodBeacon;
use std::collections::HashSet;

const POD: &str = "10.0.0.7";

fn beacon() -> Beacon {
    Beacon {
        namespace: "shop".to_owned(),
        function: "hello".to_owned(),
        revision: "hello-2".to_owned(),
        uid: "u1".to_owned(),
        ip: ip(POD),
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A pod that starts: Kubernetes has not reported its address.
fn starting() -> PodView {
    PodView {
        uid: "u1".into(),
        revision: "hello-2".into(),
        address: None,
        beacon: PodBeacon { expected: true, scheduled: true, port: 8080, ..PodBeacon::default() },
        ..fixtures::pod(7)
    }
}

/// A name, what is changed of the word, its source and the pod, and what is expected.
type Row = (&'static str, fn(&mut Beacon), &'static str, fn(&mut PodView), Result<Word, Disbelief>);

const ROWS: &[Row] = &[
    ("a starting pod's own word", |_| {}, POD, |_| {}, Ok(Word::News)),
    ("said again", |_| {}, POD, |p| announced(p, POD), Ok(Word::Known)),
    ("what Kubernetes reports", |_| {}, POD, |p| reported(p, POD), Ok(Word::Known)),
    ("from another address", |_| {}, "10.0.0.8", |_| {}, Err(Disbelief::OtherSource)),
    ("through NAT", |_| {}, "192.168.0.1", |_| {}, Err(Disbelief::OtherSource)),
    ("for another address", |b| b.ip = ip("10.0.0.8"), POD, |_| {}, Err(Disbelief::OtherSource)),
    ("from nowhere", |b| b.ip = ip("0.0.0.0"), "0.0.0.0", |_| {}, Err(Disbelief::OtherSource)),
    ("from a group", |b| b.ip = ip("224.0.0.1"), "224.0.0.1", |_| {}, Err(Disbelief::OtherSource)),
    ("of another revision", |b| b.revision = "hello-1".to_owned(), POD, |_| {}, Err(Disbelief::OtherRevision)),
    ("for a pod without one", |_| {}, POD, |p| p.beacon.expected = false, Err(Disbelief::NoBeacon)),
    ("for a pod without a node", |_| {}, POD, |p| p.beacon.scheduled = false, Err(Disbelief::NotScheduled)),
    ("for a pod that ends", |_| {}, POD, |p| p.terminating = true, Err(Disbelief::Ending)),
    ("for a pod that is over", |_| {}, POD, |p| p.finished = true, Err(Disbelief::Ending)),
    ("against Kubernetes", |_| {}, POD, |p| reported(p, "10.0.0.8"), Err(Disbelief::OtherAddress)),
    ("against the first word", |_| {}, POD, |p| announced(p, "10.0.0.8"), Err(Disbelief::OtherAddress)),
    ("for a disputed pod", |_| {}, POD, |p| p.beacon.disputed = true, Err(Disbelief::Disputed)),
    ("mapped into IPv6", |b| b.ip = ip("::ffff:10.0.0.7"), POD, |_| {}, Ok(Word::News)),
    ("by IPv6", |b| b.ip = ip("fd00::7"), "fd00::7", |_| {}, Ok(Word::News)),
];

fn announced(pod: &mut PodView, address: &str) {
    reported(pod, address);
    pod.beacon.announced = true;
}

fn reported(pod: &mut PodView, address: &str) {
    pod.address = Some((ip(address), 8080).into());
}

#[test]
fn a_word_is_believed_only_where_pod_source_and_kubernetes_agree() {
    for (name, say, source, change, expected) in ROWS {
        let (mut beacon, mut pod) = (beacon(), starting());
        say(&mut beacon);
        change(&mut pod);
        assert_eq!(judge(&beacon, ip(source), Some(&pod)), *expected, "{name}");
    }
    assert_eq!(judge(&beacon(), ip(POD), None), Err(Disbelief::UnknownPod));
}

#[test]
fn reasons_are_distinct() {
    let all: HashSet<&str> = Disbelief::ALL.iter().map(|reason| reason.as_str()).collect();
    assert_eq!(all.len(), Disbelief::ALL.len());
}
