//! Leader election over a `coordination.k8s.io` Lease.
//!
//! What always holds: who leads has renewed the Lease within [`RENEW_DEADLINE`], and who takes it over from a holder that went
//! silent has watched it stand still for its whole duration by its own clock. Clocks of different machines are never compared.

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::Client;
use kube::api::{Api, ObjectMeta, PostParams};
use std::time::{Duration, Instant};

/// How long a Lease that nobody renews keeps others out.
pub const LEASE_DURATION: Duration = Duration::from_secs(15);
/// How long the leader goes on without having renewed.
pub const RENEW_DEADLINE: Duration = Duration::from_secs(10);
/// Between two tries to take or renew.
pub const RETRY_PERIOD: Duration = Duration::from_secs(2);
/// How long one request may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// What to do about the Lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Nobody has ever held it.
    Create,
    /// It is free, or its holder went silent.
    Take,
    /// It is ours already.
    Renew,
    /// Somebody holds it.
    Wait,
}

/// Decides. `unchanged_for` is how long this process has seen the Lease stand still.
fn decide(identity: &str, lease: Option<&LeaseSpec>, unchanged_for: Duration) -> Step {
    let Some(spec) = lease else {
        return Step::Create;
    };
    match spec.holder_identity.as_deref() {
        None | Some("") => Step::Take,
        Some(holder) if holder == identity => Step::Renew,
        Some(_) => {
            let seconds = spec.lease_duration_seconds.unwrap_or_default();
            let duration = Duration::from_secs(u64::try_from(seconds).unwrap_or_default());
            if unchanged_for >= duration { Step::Take } else { Step::Wait }
        }
    }
}

/// The Lease as `identity` writes it.
fn written(old: Option<&Lease>, name: &str, identity: &str, duration: Duration, now: jiff::Timestamp) -> Lease {
    let before = old.and_then(|lease| lease.spec.clone()).unwrap_or_default();
    let ours = before.holder_identity.as_deref() == Some(identity);
    let transitions = before.lease_transitions.unwrap_or_default();
    let metadata = old.map_or_else(
        || ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
        |lease| lease.metadata.clone(),
    );
    Lease {
        metadata,
        spec: Some(LeaseSpec {
            holder_identity: Some(identity.to_owned()),
            lease_duration_seconds: Some(i32::try_from(duration.as_secs()).unwrap_or(i32::MAX)),
            acquire_time: if ours { before.acquire_time } else { Some(MicroTime(now)) },
            renew_time: Some(MicroTime(now)),
            lease_transitions: Some(if ours || old.is_none() { transitions } else { transitions.saturating_add(1) }),
            ..before
        }),
    }
}

/// Takes part in the election.
pub struct Election {
    api: Api<Lease>,
    name: String,
    identity: String,
    seen: Option<(Option<String>, Instant)>,
}

/// Whether a try made us, or kept us, the leader.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    Held,
    HeldBy(String),
}

impl Election {
    /// A candidate named `identity` for the Lease `name` in `namespace`.
    pub fn new(client: Client, namespace: &str, name: &str, identity: &str) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            name: name.to_owned(),
            identity: identity.to_owned(),
            seen: None,
        }
    }

    /// Waits until this process is the leader. `answered` is called when the API server answered for the first time.
    pub async fn acquire(&mut self, mut answered: impl FnMut()) {
        loop {
            match self.attempt().await {
                Ok(Outcome::Held) => {
                    tracing::info!(identity = self.identity, "became the leader");
                    return;
                }
                Ok(Outcome::HeldBy(holder)) => {
                    answered();
                    tracing::debug!(holder, "standing by");
                }
                Err(error) => tracing::warn!(%error, "cannot take part in the election"),
            }
            tokio::time::sleep(RETRY_PERIOD).await;
        }
    }

    /// Keeps the Lease. Returns, with the reason, when it is lost.
    pub async fn hold(&mut self) -> String {
        let mut renewed = Instant::now();
        loop {
            tokio::time::sleep(RETRY_PERIOD).await;
            let left = RENEW_DEADLINE.saturating_sub(renewed.elapsed());
            let outcome = tokio::time::timeout(left, self.attempt()).await;
            match outcome.unwrap_or_else(|_| Err("the API server does not answer".to_owned())) {
                Ok(Outcome::Held) => renewed = Instant::now(),
                Ok(Outcome::HeldBy(holder)) => return format!("{holder} holds the Lease"),
                Err(error) if renewed.elapsed() + RETRY_PERIOD >= RENEW_DEADLINE => {
                    return format!("the Lease could not be renewed in time: {error}");
                }
                Err(error) => tracing::warn!(%error, "cannot renew the Lease"),
            }
        }
    }

    /// Gives the Lease up, if it is held, so that another need not wait.
    pub async fn release(&self) {
        let release = async {
            let Some(lease) = self.api.get_opt(&self.name).await? else {
                return Ok(());
            };
            let holder = lease.spec.as_ref().and_then(|s| s.holder_identity.as_deref());
            if holder != Some(self.identity.as_str()) {
                return Ok(());
            }
            let free = written(Some(&lease), &self.name, "", Duration::from_secs(1), jiff::Timestamp::now());
            self.put(&free).await.map(drop)
        };
        match tokio::time::timeout(REQUEST_TIMEOUT, release).await {
            Ok(Ok(())) => tracing::info!("gave the Lease up"),
            Ok(Err(error)) => tracing::warn!(%error, "cannot give the Lease up; it expires"),
            Err(_) => tracing::warn!("cannot give the Lease up in time; it expires"),
        }
    }

    /// Takes the Lease whoever holds it, for `duration` from now. The former holder notices when it renews, and within
    /// [`RENEW_DEADLINE`] in any case.
    pub async fn seize(&self, duration: Duration) -> kube::Result<()> {
        loop {
            let lease = self.api.get_opt(&self.name).await?;
            let ours = written(lease.as_ref(), &self.name, &self.identity, duration, jiff::Timestamp::now());
            match self.put(&ours).await {
                Ok(_) => return Ok(()),
                // The leader renewed at the same moment.
                Err(kube::Error::Api(status)) if status.is_conflict() || status.is_already_exists() => {}
                Err(error) => return Err(error),
            }
        }
    }

    async fn attempt(&mut self) -> Result<Outcome, String> {
        tokio::time::timeout(REQUEST_TIMEOUT, self.step())
            .await
            .map_err(|_| "the API server does not answer".to_owned())?
            .map_err(|error| error.to_string())
    }

    async fn step(&mut self) -> kube::Result<Outcome> {
        let lease = self.api.get_opt(&self.name).await?;
        let spec = lease.as_ref().and_then(|lease| lease.spec.as_ref());
        let version = lease.as_ref().and_then(|l| l.metadata.resource_version.clone());
        let since = match &self.seen {
            Some((seen, since)) if *seen == version => *since,
            _ => Instant::now(),
        };
        self.seen = Some((version, since));
        let spec_or_default = lease.as_ref().map(|_| spec.cloned().unwrap_or_default());
        match decide(&self.identity, spec_or_default.as_ref(), since.elapsed()) {
            Step::Wait => {
                let holder = spec.and_then(|spec| spec.holder_identity.clone());
                Ok(Outcome::HeldBy(holder.unwrap_or_default()))
            }
            Step::Create | Step::Take | Step::Renew => {
                let ours = written(lease.as_ref(), &self.name, &self.identity, LEASE_DURATION, jiff::Timestamp::now());
                // A conflict may be with a late write of our own: the next look tells who holds it.
                self.put(&ours).await.map(|_| Outcome::Held)
            }
        }
    }

    /// The resource version that was read goes along, so that of two writers one fails.
    async fn put(&self, lease: &Lease) -> kube::Result<Lease> {
        let params = PostParams::default();
        if lease.metadata.resource_version.is_some() {
            self.api.replace(&self.name, &params, lease).await
        } else {
            self.api.create(&params, lease).await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held_by(holder: &str) -> LeaseSpec {
        LeaseSpec { holder_identity: Some(holder.to_owned()), lease_duration_seconds: Some(15), ..LeaseSpec::default() }
    }

    #[test]
    fn a_lease_is_taken_only_when_free_or_still_for_its_whole_duration() {
        let secs = Duration::from_secs;
        let cases = [
            (None, secs(0), Step::Create),
            (Some(LeaseSpec::default()), secs(0), Step::Take),
            (Some(held_by("")), secs(0), Step::Take),
            (Some(held_by("me")), secs(99), Step::Renew),
            (Some(held_by("you")), secs(14), Step::Wait),
            (Some(held_by("you")), secs(15), Step::Take),
        ];
        for (lease, unchanged_for, expected) in cases {
            assert_eq!(decide("me", lease.as_ref(), unchanged_for), expected);
        }
    }

    #[test]
    fn taking_over_counts_a_transition_and_renewing_does_not() {
        let old = Lease { spec: Some(held_by("you")), ..Lease::default() };
        let at = jiff::Timestamp::from_second(100).unwrap();
        let later = jiff::Timestamp::from_second(200).unwrap();
        let taken = written(Some(&old), "l", "me", LEASE_DURATION, at);
        let renewed = written(Some(&taken), "l", "me", LEASE_DURATION, later);
        let (taken, renewed) = (taken.spec.unwrap(), renewed.spec.unwrap());
        assert_eq!(taken.lease_transitions, Some(1));
        assert_eq!(renewed.lease_transitions, Some(1));
        assert_eq!(renewed.acquire_time, taken.acquire_time);
        assert_ne!(renewed.renew_time, taken.renew_time);
    }
}
