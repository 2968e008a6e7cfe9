//! No desync: whatever bytes a client sends, the app sees exactly the requests that a strict reader finds in them, a request that
//! may be understood in two ways is answered 4xx, and nothing after it is read.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use futures::future::join_all;

use crate::app::App;
use crate::corpus::{Fate, corpus};
use crate::harness::{FakePod, World, eventually};
use crate::mutate::{cuts, mutation};
use crate::oracle::{End, meaning};
use crate::ports::free_port;
use crate::wire::Wire;

/// Sent behind everything.
pub(crate) const MARKER: &[u8] = b"GET /marker HTTP/1.1\r\nHost: marker\r\nX-S-Marker: 1\r\n\r\n";
const MUTATIONS: u64 = 12_000;
const LANES: u64 = 4;

/// An activator whose route port leads to a recording app, so that every host does.
pub(crate) struct Lane {
    pub(crate) world: World,
    pub(crate) app: App,
    pub(crate) address: SocketAddr,
}

impl Lane {
    pub(crate) async fn new() -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port([])));
        let world = World::with_function(|f| f.status.as_mut().unwrap().route.as_mut().unwrap().port = address.port());
        let app = App::start().await;
        world.pod(&FakePod::silent(app.address));
        eventually("the route port is open", || world.activator.shared.publisher.routes().len() == 1).await;
        Self { world, app, address }
    }

    /// Sends `bytes` and a marker, and compares what the app and the client saw with what the bytes mean.
    async fn check(&self, bytes: &[u8], cuts: &[usize]) -> Result<End, String> {
        let sent = [bytes, MARKER].concat();
        let meaning = meaning(&sent);
        let mut wire = Wire::connect(self.address).await;
        wire.heads = meaning.messages.iter().map(|m| m.method == "HEAD").collect();
        wire.may_be_head = sent.windows(4).any(|w| w == b"HEAD");
        let mut from = 0;
        for cut in cuts {
            wire.send(&sent[from..*cut]).await;
            tokio::task::yield_now().await;
            from = *cut;
        }
        wire.send(&sent[from..]).await;
        let forwarded: Vec<_> = meaning.messages.iter().filter(|m| m.method != "CONNECT").collect();
        for message in &forwarded {
            let answer = wire.answer().await?.ok_or_else(|| format!("closed before the answer to {message:?}"))?;
            if answer.status != 200 || !answer.app {
                return Err(format!("{message:?} was answered {answer:?}"));
            }
        }
        let refused = matches!(meaning.end, End::Ambiguous(_)) || forwarded.len() < meaning.messages.len();
        if refused {
            match wire.answer().await? {
                Some(answer) if (400..500).contains(&answer.status) && !answer.app => {}
                other => return Err(format!("not refused: {other:?}")),
            }
        }
        if (refused || meaning.end == End::Last)
            && let Some(more) = wire.answer().await?
        {
            return Err(format!("the connection went on: {more:?}"));
        }
        drop(wire);
        self.world.until_load((0, 0)).await;
        let seen = self.app.take();
        if !seen.ambiguous.is_empty() {
            return Err(format!("the app was sent something ambiguous: {:?}", seen.ambiguous));
        }
        let saw: Vec<_> = seen.messages.iter().map(|m| m.essence()).collect();
        let meant: Vec<_> = forwarded.iter().map(|m| m.essence()).collect();
        if saw != meant {
            return Err(format!("desync: the app saw {saw:?}, meant was {meant:?}"));
        }
        Ok(meaning.end)
    }
}

fn shown(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_entry_of_the_corpus_has_its_fate() {
    let lane = Lane::new().await;
    let mut wrong = Vec::new();
    for (name, fate, bytes) in corpus() {
        let meant = meaning(&[&bytes[..], MARKER].concat());
        let expected = match meant.end {
            _ if meant.messages.iter().any(|m| m.method == "CONNECT") => Fate::Refused,
            End::Clean => Fate::Passes,
            End::Last => Fate::Last,
            End::Part | End::Ambiguous(_) => Fate::Refused,
        };
        if fate != expected {
            wrong.push(format!("{name}: the oracle says {:?}", meant.end));
        }
        for cuts in [vec![], vec![bytes.len() / 2], vec![1, bytes.len() - 1, bytes.len()], (0..bytes.len()).collect()] {
            if let Err(what) = lane.check(&bytes, &cuts).await {
                wrong.push(format!("{name}, cut at {:?}: {what}\n    {}", cuts.first(), shown(&bytes)));
            }
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_mutation_desyncs() {
    let lanes = (0..LANES).map(|lane| {
        tokio::spawn(async move {
            let own = Lane::new().await;
            let (mut ends, mut wrong) = (BTreeMap::<&str, u32>::new(), Vec::new());
            for number in (lane..MUTATIONS).step_by(LANES as usize) {
                let bytes = mutation(number);
                match own.check(&bytes, &cuts(number, bytes.len())).await {
                    Ok(End::Clean | End::Last) => *ends.entry("forwarded").or_default() += 1,
                    Ok(End::Part) => *ends.entry("unfinished").or_default() += 1,
                    Ok(End::Ambiguous(why)) => *ends.entry(why).or_default() += 1,
                    Err(what) => wrong.push(format!("{number}: {what}\n    {}", shown(&bytes))),
                }
                if wrong.len() >= 5 {
                    break;
                }
            }
            (ends, wrong)
        })
    });
    let (mut ends, mut wrong) = (BTreeMap::<&str, u32>::new(), Vec::new());
    for lane in join_all(lanes).await {
        let (some, other) = lane.expect("no panic");
        some.into_iter().for_each(|(end, count)| *ends.entry(end).or_default() += count);
        wrong.extend(other);
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    let total: u32 = ends.values().sum();
    println!("{total} mutations: {ends:?}");
    assert_eq!(u64::from(total), MUTATIONS);
    for end in
        ["forwarded", "unfinished", "framing", "LF without CR", "control character", "chunk size", "field name", "host"]
    {
        assert!(ends.get(end).is_some_and(|count| *count > 10), "the mutations no longer try {end:?}: {ends:?}");
    }
}
