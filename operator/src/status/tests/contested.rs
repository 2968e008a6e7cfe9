//! Others that write the replicas.

use super::*;
use crate::contention::CACHED_FOREIGN_REPLICAS;

#[test]
fn another_writer_of_replicas_is_named_until_it_has_been_quiet_for_a_while() {
    let mut situation = Situation::new();
    situation.set_pod("hello-1", ready_pod());
    let before = situation.look();
    assert_eq!(get(&before.conditions, pilotlight_crds::condition::REPLICAS_CONTESTED), None);

    let deployment = Arc::make_mut(&mut situation.observed.deployments[0]);
    let write = r#"{"manager":"kube-controller-manager","scale":true,"at":"1970-01-01T00:16:35Z","stands":false}"#;
    let cached = [(CACHED_FOREIGN_REPLICAS.to_owned(), write.to_owned())];
    deployment.metadata.annotations = Some(cached.into());
    let contested = situation.look();
    let said = condition(&contested, pilotlight_crds::condition::REPLICAS_CONTESTED);
    assert_eq!((said.status.as_str(), said.reason.as_str()), ("True", "ForeignWriter"));
    assert!(said.message.contains("HorizontalPodAutoscaler"), "{}", said.message);
    assert_eq!(condition(&contested, "Ready").status, "True", "it is a warning, no failure");

    situation.now += 600;
    assert_eq!(get(&situation.look().conditions, pilotlight_crds::condition::REPLICAS_CONTESTED), None);
}
