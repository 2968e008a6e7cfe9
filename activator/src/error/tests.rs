//! Holds `docs/errors.md` against the table, and the table against the promises about it.

use std::collections::BTreeMap;
use std::path::Path;

use super::*;

/// One refusal of each kind. A new kind does not compile until it is listed here, in [`number`].
fn every_kind() -> Vec<Refusal> {
    let (reason, message) = (String::new(), String::new());
    let all = vec![
        Refusal::UnknownHost,
        Refusal::BadRequest(""),
        Refusal::HeadTooLarge,
        Refusal::MethodNotSupported,
        Refusal::QueueFull { waiting: 1 },
        Refusal::QueueBytesFull { bytes: 1 },
        Refusal::ActivatorFull,
        Refusal::CannotStart { reason: reason.clone(), message: message.clone() },
        Refusal::ColdStartTimeout { reason, message, seconds: 1 },
        Refusal::NoFreeSlot { seconds: 1 },
        Refusal::FunctionDeleted,
        Refusal::ResponseStartTimeout { seconds: 1 },
        Refusal::RequestTimeout { seconds: 1 },
        Refusal::PodClosedConnection,
        Refusal::InvalidResponse,
        Refusal::RequestBodyFailed,
        Refusal::NoSocket,
        Refusal::FairShareTaken { waiting: 1 },
        Refusal::DeadlineExceeded,
        Refusal::StreamIdle { seconds: 1 },
        Refusal::NoOwner { seconds: 1 },
        Refusal::OwnerChanged,
        Refusal::NotTheOwner,
        Refusal::OwnerClosedConnection,
    ];
    for (at, refusal) in all.iter().enumerate() {
        assert_eq!(number(refusal), at, "{refusal:?}");
    }
    all
}

fn number(refusal: &Refusal) -> usize {
    match refusal {
        Refusal::UnknownHost => 0,
        Refusal::BadRequest(_) => 1,
        Refusal::HeadTooLarge => 2,
        Refusal::MethodNotSupported => 3,
        Refusal::QueueFull { .. } => 4,
        Refusal::QueueBytesFull { .. } => 5,
        Refusal::ActivatorFull => 6,
        Refusal::CannotStart { .. } => 7,
        Refusal::ColdStartTimeout { .. } => 8,
        Refusal::NoFreeSlot { .. } => 9,
        Refusal::FunctionDeleted => 10,
        Refusal::ResponseStartTimeout { .. } => 11,
        Refusal::RequestTimeout { .. } => 12,
        Refusal::PodClosedConnection => 13,
        Refusal::InvalidResponse => 14,
        Refusal::RequestBodyFailed => 15,
        Refusal::NoSocket => 16,
        Refusal::FairShareTaken { .. } => 17,
        Refusal::DeadlineExceeded => 18,
        Refusal::StreamIdle { .. } => 19,
        Refusal::NoOwner { .. } => 20,
        Refusal::OwnerChanged => 21,
        Refusal::NotTheOwner => 22,
        Refusal::OwnerClosedConnection => 23,
    }
}

/// The rows of the document's table: kind → HTTP, gRPC, Retry-After.
fn documented() -> BTreeMap<String, [String; 3]> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/errors.md");
    let text = std::fs::read_to_string(file).unwrap();
    let rows = text.lines().filter(|line| line.starts_with("| `"));
    let cells = |line: &str| line.split('|').map(|cell| cell.trim().trim_matches('`').to_owned()).collect::<Vec<_>>();
    rows.map(cells).map(|c| (c[1].clone(), [c[2].clone(), c[3].clone(), c[4].clone()])).collect()
}

#[test]
fn the_document_is_the_table() {
    let coded: BTreeMap<String, [String; 3]> = every_kind()
        .iter()
        .map(Refusal::row)
        .map(|row| {
            let grpc = format!("{} {:?}", row.grpc as u16, row.grpc);
            let retry = row.retry_after.map_or("–".to_owned(), |seconds| format!("{seconds} s"));
            (row.kind.to_owned(), [row.status.as_u16().to_string(), grpc, retry])
        })
        .collect();
    assert_eq!(documented(), coded, "docs/errors.md (left) has to say what activator/src/error.rs (right) does");
}

#[test]
fn whatever_is_refused_for_lack_of_room_passes() {
    for refusal in every_kind() {
        let row = refusal.row();
        let for_now = row.status == StatusCode::SERVICE_UNAVAILABLE && refusal != Refusal::FunctionDeleted;
        assert_eq!(row.retry_after.is_some(), for_now, "{}", row.kind);
        assert!(row.status.is_client_error() || row.status.is_server_error(), "{}", row.kind);
        assert!(!refusal.to_string().is_empty());
    }
}

#[test]
fn a_cause_from_a_container_becomes_the_reason() {
    let refusal = Refusal::CannotStart { reason: "ImagePullFailed".into(), message: "no such image".into() };
    assert_eq!((refusal.reason(), refusal.row().kind), ("ImagePullFailed", "CannotStart"));
}
