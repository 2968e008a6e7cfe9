//! Writes Events, and counts those that are told again instead of writing them anew.
//!
//! What always holds: memory is bounded. The library's recorder keeps each Event of the last six minutes, of 3 KiB, to know it again, and looks at
//! all of them for each that it writes; a leader that takes over ten thousand Functions tells fifty thousand in that time.

use kube::Client;
use kube::runtime::events::{Event, Recorder, Reporter};
use std::sync::{Mutex, PoisonError};

use k8s_openapi::api::core::v1::ObjectReference;

/// Events after which none is known again.
const KNOWN: u32 = 1_000;

/// Cheap to share; not to clone.
pub struct EventWriter {
    client: Client,
    reporter: Reporter,
    /// The recorder, and how many it has taken.
    current: Mutex<(Recorder, u32)>,
}

impl EventWriter {
    /// Writes with `client` as `reporter`.
    pub fn new(client: Client, reporter: Reporter) -> Self {
        let recorder = Recorder::new(client.clone(), reporter.clone());
        Self { client, reporter, current: Mutex::new((recorder, 0)) }
    }

    /// Writes an Event about `regarding`.
    ///
    /// Errors as the API server does.
    pub async fn publish(&self, event: &Event, regarding: &ObjectReference) -> kube::Result<()> {
        self.recorder().publish(event, regarding).await
    }

    fn recorder(&self) -> Recorder {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let (recorder, taken) = &mut *current;
        if *taken == KNOWN {
            (*recorder, *taken) = (Recorder::new(self.client.clone(), self.reporter.clone()), 0);
        }
        *taken += 1;
        recorder.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{Method, Request, Response};
    use http_body_util::BodyExt;
    use kube::client::Body;
    use kube::runtime::events::EventType;
    use std::collections::HashMap;
    use std::sync::Arc;

    /// An API server that answers with what it gets, and how often it got each method.
    fn echo() -> (Client, Arc<Mutex<HashMap<Method, u32>>>) {
        let seen: Arc<Mutex<HashMap<Method, u32>>> = Arc::default();
        let counts = Arc::clone(&seen);
        let service = tower::service_fn(move |request: Request<Body>| {
            let counts = Arc::clone(&counts);
            async move {
                *counts.lock().unwrap().entry(request.method().clone()).or_default() += 1;
                let body = request.into_body().collect().await?.to_bytes();
                Ok::<_, Box<dyn std::error::Error + Send + Sync>>(Response::new(Body::from(body.to_vec())))
            }
        });
        (Client::new(service, "default"), seen)
    }

    #[tokio::test]
    async fn what_is_told_again_is_counted_and_what_is_known_is_bounded() {
        let (client, seen) = echo();
        let writer = EventWriter::new(client, Reporter::from("test"));
        let event = Event {
            type_: EventType::Normal,
            reason: "Ready".to_owned(),
            note: None,
            action: "Reconcile".to_owned(),
            secondary: None,
        };
        let about = ObjectReference { name: Some("web".to_owned()), ..ObjectReference::default() };
        for _ in 0..=KNOWN {
            writer.publish(&event, &about).await.unwrap();
        }
        let seen = seen.lock().unwrap().clone();
        assert_eq!(seen, HashMap::from([(Method::POST, 2), (Method::PATCH, KNOWN - 1)]));
    }
}
