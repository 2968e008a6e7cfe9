//! How long a release has been waiting, as this process remembers it. Whoever goes on after it waits anew.

use std::time::{Duration, Instant};

use super::next::{Aim, Scene, Slice};

/// Longest wait for the Service's own endpoints.
const PATIENCE: Duration = Duration::from_secs(60);
/// From when the Service no longer leads to activators until nobody is led there any more: kube-proxy learns of it later than the API server, and clients keep
/// their connections for a while.
const LINGER: Duration = Duration::from_secs(10);

/// Since when a release has been waiting for what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waits {
    endpoints: Option<Instant>,
    linger: Option<Instant>,
}

impl Waits {
    /// Takes in how things are, and tells the scene how long they have been so.
    pub fn note(&mut self, scene: &mut Scene, now: Instant) {
        let service = scene.service.as_ref().filter(|_| scene.aim == Aim::Release);
        let selects = service.is_some_and(|service| service.selector.is_some());
        let led = scene.slice != Slice::Missing;
        self.endpoints = (selects && led).then(|| self.endpoints.unwrap_or(now));
        self.linger = (service.is_some() && !led).then(|| self.linger.unwrap_or(now));
        scene.patient = self.endpoints.is_none_or(|since| now.duration_since(since) < PATIENCE);
        scene.lingered = self.linger.is_some_and(|since| now.duration_since(since) >= LINGER);
    }
}

#[cfg(test)]
mod tests {
    use super::super::next::ServiceScene;
    use super::super::note::Selector;
    use super::*;

    #[test]
    fn each_wait_begins_with_its_cause_and_ends_with_it() {
        let selector = Some(Selector::from([("app".to_owned(), "api".to_owned())]));
        let mut scene = Scene {
            aim: Aim::Release,
            bound: true,
            service: Some(ServiceScene { selector, ..ServiceScene::default() }),
            replicas: Some(1),
            pods: Selector::new(),
            slice: Slice::Right,
            target: false,
            others: true,
            others_ready: false,
            patient: false,
            lingered: true,
            all_goes: false,
        };
        let (mut waits, begin) = (Waits::default(), Instant::now());
        let mut at = |seconds: u64, scene: &mut Scene| {
            waits.note(scene, begin + Duration::from_secs(seconds));
            (scene.patient, scene.lingered)
        };
        assert_eq!(at(0, &mut scene), (true, false));
        assert_eq!(at(59, &mut scene), (true, false));
        assert_eq!(at(60, &mut scene), (false, false));
        scene.slice = Slice::Missing;
        assert_eq!(at(61, &mut scene), (true, false));
        assert_eq!(at(71, &mut scene), (true, true));
        scene.aim = Aim::Adopt;
        assert_eq!(at(72, &mut scene), (true, false));
    }
}
