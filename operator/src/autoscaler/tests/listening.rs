//! The stream of samples: garbage, huge lines, cuts.

use std::time::Duration;

use hyper::body::{Bytes, Frame};
use pilotlight_crds::control::{FunctionSample, SampleBatch};
use pilotlight_scaling::ActivatorId;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::fakes::{FakeActivator, Mood, TOKEN};
use crate::autoscaler::clock::Clock;
use crate::autoscaler::control::ControlClient;
use crate::autoscaler::metrics::AutoscalerMetrics;
use crate::autoscaler::stream::{Heard, Listener};

pub(super) fn batch(age_millis: u64, full: bool) -> SampleBatch {
    SampleBatch { age_millis, full, routes: vec![], poke: false, functions: vec![] }
}

pub(super) fn line(batch: &SampleBatch) -> String {
    serde_json::to_string(batch).unwrap() + "\n"
}

pub(super) fn piece(text: &str) -> Result<Frame<Bytes>, std::io::Error> {
    Ok(Frame::data(Bytes::from(text.to_owned())))
}

fn listen(activator: &FakeActivator, token: &str) -> (mpsc::Receiver<Heard>, JoinHandle<()>) {
    let (sender, heard) = mpsc::channel(8);
    let listener = Listener {
        id: ActivatorId(1),
        pod: "activator".to_owned(),
        address: activator.address,
        control: ControlClient::new(token),
        clock: Clock::start(),
        heard: sender,
        metrics: AutoscalerMetrics::default(),
    };
    (heard, tokio::spawn(listener.run()))
}

async fn next(heard: &mut mpsc::Receiver<Heard>) -> Option<SampleBatch> {
    let heard = tokio::time::timeout(Duration::from_secs(10), heard.recv()).await;
    match heard.expect("in time").expect("it goes on") {
        Heard::Batch { batch, .. } => Some(batch),
        Heard::Cut { .. } => None,
        Heard::Gone { .. } => panic!("it listens"),
    }
}

#[tokio::test]
async fn batches_arrive_however_the_stream_is_cut_into_pieces() {
    let activator = FakeActivator::start(Mood::Drained).await;
    let script = activator.script();
    let mut first = batch(0, true);
    first.functions.push(FunctionSample {
        namespace: "shop".to_owned(),
        name: "hello".to_owned(),
        peak: 7,
        ..FunctionSample::default()
    });
    let text = line(&first) + &line(&batch(5_000, false)) + &line(&batch(0, false));
    for piece_of in text.as_bytes().chunks(7) {
        script.send(piece(std::str::from_utf8(piece_of).unwrap())).unwrap();
    }
    let (mut heard, _task) = listen(&activator, TOKEN);
    assert_eq!(next(&mut heard).await, Some(first));
    assert_eq!(next(&mut heard).await, Some(batch(5_000, false)));
    assert_eq!(next(&mut heard).await, Some(batch(0, false)));
}

#[tokio::test]
async fn a_cut_is_told_and_the_stream_opened_again() {
    let activator = FakeActivator::start(Mood::Drained).await;
    let script = activator.script();
    script.send(piece(&line(&batch(0, true)))).unwrap();
    script.send(piece("{\"ageMillis\":0,\"fu")).unwrap();
    drop(script);
    let script = activator.script();
    script.send(piece(&line(&batch(1_000, true)))).unwrap();
    let (mut heard, _task) = listen(&activator, TOKEN);
    assert_eq!(next(&mut heard).await, Some(batch(0, true)));
    assert_eq!(next(&mut heard).await, None);
    assert_eq!(next(&mut heard).await, Some(batch(1_000, true)), "and no half a line before it");
}

#[tokio::test]
async fn a_process_that_is_gone_is_told_of() {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap();
    drop(taken);
    let (sender, mut heard) = mpsc::channel(8);
    let listener = Listener {
        id: ActivatorId(1),
        pod: "activator".to_owned(),
        address,
        control: ControlClient::new(TOKEN),
        clock: Clock::start(),
        heard: sender,
        metrics: AutoscalerMetrics::default(),
    };
    tokio::spawn(listener.run());
    assert!(matches!(heard.recv().await, Some(Heard::Cut { .. })));
    assert!(matches!(heard.recv().await, Some(Heard::Gone { .. })));
}

#[tokio::test]
async fn garbage_ends_the_stream_for_what_it_said_is_lost() {
    for garbage in ["not json\n", "{}\n", "[1,2]\n", "\u{0}\u{1}\n", "{\"ageMillis\":-1}\n"] {
        let activator = FakeActivator::start(Mood::Drained).await;
        let script = activator.script();
        script.send(piece(garbage)).unwrap();
        script.send(piece(&line(&batch(0, false)))).unwrap();
        let again = activator.script();
        again.send(piece(&line(&batch(3_000, true)))).unwrap();
        let (mut heard, _task) = listen(&activator, TOKEN);
        assert_eq!(next(&mut heard).await, None, "{garbage:?}");
        assert_eq!(next(&mut heard).await, Some(batch(3_000, true)), "{garbage:?}");
    }
}

#[tokio::test]
async fn a_huge_line_ends_the_stream_before_it_is_all_in_memory() {
    let activator = FakeActivator::start(Mood::Drained).await;
    let script = activator.script();
    let mebibyte = "x".repeat(1024 * 1024);
    for _ in 0..6 {
        script.send(piece(&mebibyte)).unwrap();
    }
    let again = activator.script();
    again.send(piece(&line(&batch(0, true)))).unwrap();
    let (mut heard, _task) = listen(&activator, TOKEN);
    assert_eq!(next(&mut heard).await, None);
    assert_eq!(next(&mut heard).await, Some(batch(0, true)));
}

#[tokio::test]
async fn a_refused_token_is_no_data_and_asked_again_with_a_pause() {
    let activator = FakeActivator::start(Mood::Drained).await;
    let (mut heard, task) = listen(&activator, "wrong");
    for _ in 0..3 {
        assert_eq!(next(&mut heard).await, None);
    }
    assert_eq!(activator.streams(), 0);
    task.abort();
}
