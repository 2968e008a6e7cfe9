//! What each Function cost and saved: time passes on the rung that was seen last, until the next look.
//!
//! What always holds: time is counted once; nothing has to happen for it to be counted, so an idle Function costs nothing but its entry, and a
//! reader always sees it up to now.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;

use pilotlight_scaling::idle::{Footprint, Ledger, Usage};
use pilotlight_scaling::{Millis, Rung};

use super::clock::Clock;
use super::ledger::FunctionKey;

/// What a Function stands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) rung: Rung,
    pub(super) replicas: u32,
    pub(super) footprint: Footprint,
}

#[derive(Clone, Copy, Debug)]
struct Account {
    ledger: Ledger,
    standing: Standing,
    at: Millis,
}

impl Account {
    /// The sums up to `now`.
    fn until(&self, now: Millis) -> Ledger {
        let Standing { rung, replicas, footprint } = self.standing;
        let mut ledger = self.ledger;
        ledger.pass(footprint, rung, replicas, now.since(self.at));
        ledger
    }
}

/// The accounts of all Functions.
#[derive(Debug, Default)]
pub(super) struct Accounts {
    all: Mutex<HashMap<FunctionKey, Account>>,
    clock: OnceLock<Clock>,
}

impl Accounts {
    /// Counts by this clock from now on; the first one is kept.
    pub(super) fn count_by(&self, clock: Clock) {
        let _ = self.clock.set(clock);
    }

    /// Whether there is an account of the Function.
    pub(super) fn knows(&self, key: &FunctionKey) -> bool {
        self.lock().contains_key(key)
    }

    /// Opens an account with what was counted up to `at`, unless there is one.
    pub(super) fn open(&self, key: &FunctionKey, ledger: Ledger, standing: Standing, at: Millis) {
        self.lock().entry(key.clone()).or_insert(Account { ledger, standing, at });
    }

    /// From `now` on the Function stands so.
    pub(super) fn stands(&self, key: &FunctionKey, standing: Standing, now: Millis) {
        if let Some(account) = self.lock().get_mut(key)
            && account.standing != standing
        {
            *account = Account { ledger: account.until(now), standing, at: now };
        }
    }

    /// What was counted up to `now`.
    pub(super) fn read(&self, key: &FunctionKey, now: Millis) -> Option<Ledger> {
        self.lock().get(key).map(|account| account.until(now))
    }

    /// Forgets a Function.
    pub(super) fn forget(&self, key: &FunctionKey) {
        self.lock().remove(key);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<FunctionKey, Account>> {
        // Every change is one assignment, so what a panic left behind is whole.
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A value of one Function's account.
type Value = fn(&Ledger) -> f64;

const SUMS: [(&str, &str, Value); 6] = [
    ("pilotlight_operator_function_reserved_replica_seconds", "Replicas that existed, each for a second", |ledger| {
        ledger.used().replica_millis as f64 / 1e3
    }),
    (
        "pilotlight_operator_function_reserved_core_seconds",
        "CPU cores that the function's containers requested, each for a second",
        |ledger| cores(ledger.used()),
    ),
    (
        "pilotlight_operator_function_reserved_memory_byte_seconds",
        "Bytes of memory that the function's containers requested, each for a second",
        |ledger| bytes(ledger.used()),
    ),
    (
        "pilotlight_operator_function_always_on_replica_seconds",
        "The same of replicas, had the Function been a Deployment that always runs",
        |ledger| ledger.always_on().replica_millis as f64 / 1e3,
    ),
    (
        "pilotlight_operator_function_always_on_core_seconds",
        "The same of CPU, had the Function been a Deployment that always runs",
        |ledger| cores(ledger.always_on()),
    ),
    (
        "pilotlight_operator_function_always_on_memory_byte_seconds",
        "The same of memory, had the Function been a Deployment that always runs",
        |ledger| bytes(ledger.always_on()),
    ),
];

fn cores(usage: Usage) -> f64 {
    usage.cpu_milli_millis as f64 / 1e6
}

fn bytes(usage: Usage) -> f64 {
    usage.memory_mib_millis as f64 * 1_048_576.0 / 1e3
}

impl Collector for Accounts {
    /// Values are those of the moment of the scrape.
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        self.clock.get().map_or(Ok(()), |clock| self.tell(clock.now(), encoder))
    }
}

impl Accounts {
    /// Tells of all up to `now`. What is nothing is left out.
    fn tell(&self, now: Millis, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let all: Vec<_> = self.lock().iter().map(|(key, account)| (key.clone(), account.until(now))).collect();
        let mut family = encoder.encode_descriptor(
            "pilotlight_operator_function_rung_seconds",
            "Time that a Function spent on each rung of the idle ladder, since it was created",
            None,
            MetricType::Counter,
        )?;
        for (key, ledger) in &all {
            for rung in Rung::ALL.into_iter().filter(|rung| ledger.seconds(*rung) > 0) {
                let labels = [("namespace", &*key.namespace), ("function", &*key.name), ("rung", rung.name())];
                ConstCounter::new(ledger.seconds(rung)).encode(family.encode_family(&labels)?)?;
            }
        }
        for (name, help, value) in SUMS {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for (key, ledger) in &all {
                let labels = [("namespace", &*key.namespace), ("function", &*key.name)];
                let value = value(ledger);
                if value > 0.0 {
                    ConstCounter::new(value).encode(family.encode_family(&labels)?)?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::encoding::text;
    use prometheus_client::registry::Registry;
    use std::sync::Arc;

    const FOOTPRINT: Footprint = Footprint { memory_mib: 64, cpu_milli: 500, parked_mib: Some(2) };

    fn standing(rung: Rung, replicas: u32) -> Standing {
        Standing { rung, replicas, footprint: FOOTPRINT }
    }

    #[test]
    fn time_passes_on_the_rung_that_was_seen_last() {
        let (accounts, key) = (Accounts::default(), FunctionKey::new("shop", "hello"));
        accounts.stands(&key, standing(Rung::Active, 1), Millis(0));
        assert!(accounts.read(&key, Millis(1_000)).is_none(), "nothing is counted before it is known what was before");
        accounts.open(&key, Ledger::default(), standing(Rung::Active, 2), Millis(1_000));
        accounts.stands(&key, standing(Rung::Active, 2), Millis(5_000));
        accounts.stands(&key, standing(Rung::Zero, 0), Millis(11_000));
        let ledger = accounts.read(&key, Millis(111_000)).unwrap();
        assert_eq!(Rung::ALL.map(|rung| ledger.seconds(rung)), [10, 0, 0, 100]);
        assert_eq!((ledger.used().core_seconds(), ledger.always_on().core_seconds()), (10, 60));
        accounts.open(&key, Ledger::default(), standing(Rung::Active, 2), Millis(0));
        assert_eq!(accounts.read(&key, Millis(111_000)).unwrap(), ledger, "opened once");
        accounts.forget(&key);
        assert!(!accounts.knows(&key));
    }

    /// Accounts at a moment.
    #[derive(Debug)]
    struct At(Arc<Accounts>, Millis);

    impl Collector for At {
        fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
            self.0.tell(self.1, encoder)
        }
    }

    #[test]
    fn a_scrape_tells_of_now_although_nobody_looked() {
        let accounts = Arc::new(Accounts::default());
        let key = FunctionKey::new("shop", "hello");
        accounts.open(&key, Ledger::default(), standing(Rung::Throttled, 1), Millis(5_000));
        let mut registry = Registry::default();
        registry.register_collector(Box::new(At(accounts, Millis(65_000))));
        let mut told = String::new();
        text::encode(&mut told, &registry).unwrap();
        let line = |name: &str| {
            told.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{told}")).to_owned()
        };
        assert_eq!(
            line("pilotlight_operator_function_rung_seconds_total"),
            r#"pilotlight_operator_function_rung_seconds_total{namespace="shop",function="hello",rung="Throttled"} 60"#
        );
        assert!(line("pilotlight_operator_function_reserved_core_seconds_total").ends_with(" 0.06"));
        assert!(line("pilotlight_operator_function_always_on_core_seconds_total").ends_with(" 30.0"));
        assert!(line("pilotlight_operator_function_always_on_memory_byte_seconds_total").ends_with(" 4026531840.0"));
    }
}
