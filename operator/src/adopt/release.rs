//! The part of `operator release` about Functions that took over a Deployment: gives it and its Service back.

use kube::Client;
use kube::runtime::reflector::ObjectRef;
use pilotlight_crds::Function;
use std::time::{Duration, Instant};

use super::carry::carry;
use super::next::{Aim, Rest, Step, next};
use super::seen::live;
use super::waits::Waits;

/// Between two looks at what others make of what was written.
const LOOK: Duration = Duration::from_millis(250);

/// Gives back what the Function took over. At `deadline` nobody is waited for any more.
///
/// Errors are logged.
pub async fn give_back(client: &Client, function: &Function, deadline: Instant) -> anyhow::Result<()> {
    let given = run(client, function, deadline).await;
    let ObjectRef { name, namespace, .. } = ObjectRef::from_obj(function);
    match &given {
        Ok(()) => tracing::info!(function = name, namespace, "gave back what a Function took over"),
        Err(error) => tracing::error!(function = name, namespace, %error, "cannot give back what a Function took over"),
    }
    given
}

async fn run(client: &Client, function: &Function, deadline: Instant) -> anyhow::Result<()> {
    let mut waits = Waits::default();
    while let Some(seen) = live(client, function).await? {
        // Who is led to meanwhile is looked after by whoever looks after all slices.
        let mut scene = seen.scene(Aim::Release, None);
        waits.note(&mut scene, Instant::now());
        scene.patient &= Instant::now() < deadline;
        match next(&scene) {
            Step::Rest(Rest::Released) => return Ok(()),
            Step::Rest(_) => tokio::time::sleep(LOOK).await,
            step => carry(client, &seen, &step, None).await?,
        }
    }
    Ok(())
}
