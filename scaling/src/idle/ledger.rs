//! What a Function cost, and what it would have cost as a Deployment that always runs: the account behind "saved 97 %".
//!
//! What always holds: time is counted once, on one rung; an always-on Deployment is taken to run one replica while the Function is idle and as many as the
//! Function while it is not, so that load never counts as saving; sums stop at their largest value instead of wrapping.

use std::fmt;

use super::cost::Footprint;
use super::rung::Rung;

/// What was reserved over time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Replicas that existed, in replica-ms.
    pub replica_millis: u128,
    /// CPU, in thousandths of a core · ms, which is millionths of a core-second.
    pub cpu_milli_millis: u128,
    /// Memory, in MiB·ms.
    pub memory_mib_millis: u128,
}

impl Usage {
    fn add(&mut self, footprint: Footprint, rung: Rung, replicas: u32, millis: u64) {
        let reserved = footprint.reserved(rung);
        let existed = u128::from(replicas) * u128::from(millis);
        let count = |sum: &mut u128, each: u32| *sum = sum.saturating_add(existed.saturating_mul(u128::from(each)));
        count(&mut self.replica_millis, reserved.pods);
        count(&mut self.cpu_milli_millis, reserved.cpu_milli);
        count(&mut self.memory_mib_millis, reserved.memory_mib);
    }

    /// What was counted elsewhere, in whole units.
    #[must_use]
    pub fn of_seconds(replica_seconds: u64, core_seconds: u64, memory_mib_seconds: u64) -> Self {
        Self {
            replica_millis: u128::from(replica_seconds) * 1000,
            cpu_milli_millis: u128::from(core_seconds) * 1_000_000,
            memory_mib_millis: u128::from(memory_mib_seconds) * 1000,
        }
    }

    /// Whole replica-seconds.
    #[must_use]
    pub fn replica_seconds(&self) -> u64 {
        whole(self.replica_millis / 1000)
    }

    /// Whole core-seconds.
    #[must_use]
    pub fn core_seconds(&self) -> u64 {
        whole(self.cpu_milli_millis / 1_000_000)
    }

    /// Whole MiB-seconds.
    #[must_use]
    pub fn memory_mib_seconds(&self) -> u64 {
        whole(self.memory_mib_millis / 1000)
    }
}

fn whole(value: u128) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}

/// The account of one Function.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    rungs: [u64; 4],
    used: Usage,
    always_on: Usage,
}

impl Ledger {
    /// Goes on from what was counted before: whole seconds on each rung, in the order of [`Rung::ALL`], and what was reserved and would have been.
    #[must_use]
    pub fn resume(seconds: [u64; 4], used: Usage, always_on: Usage) -> Self {
        Self { rungs: seconds.map(|seconds| seconds.saturating_mul(1000)), used, always_on }
    }

    /// Counts `millis` ms in which the Function had so many replicas on a rung.
    pub fn pass(&mut self, footprint: Footprint, rung: Rung, replicas: u32, millis: u64) {
        let on = &mut self.rungs[rung.place()];
        *on = on.saturating_add(millis);
        self.used.add(footprint, rung, replicas, millis);
        let needed = if rung == Rung::Active { replicas.max(1) } else { 1 };
        self.always_on.add(footprint, Rung::Active, needed, millis);
    }

    /// Whole seconds spent on a rung.
    #[must_use]
    pub fn seconds(&self, rung: Rung) -> u64 {
        self.rungs[rung.place()] / 1000
    }

    /// What was reserved.
    #[must_use]
    pub fn used(&self) -> Usage {
        self.used
    }

    /// What a Deployment that always runs would have reserved.
    #[must_use]
    pub fn always_on(&self) -> Usage {
        self.always_on
    }

    /// The share of memory-time that was saved, in percent, rounded down. Negative where replicas that were kept idle cost more; `None` where nothing
    /// would have been reserved.
    #[must_use]
    pub fn memory_saved_percent(&self) -> Option<i64> {
        saved(self.used.memory_mib_millis, self.always_on.memory_mib_millis)
    }

    /// The same for CPU-time.
    #[must_use]
    pub fn cpu_saved_percent(&self) -> Option<i64> {
        saved(self.used.cpu_milli_millis, self.always_on.cpu_milli_millis)
    }

    /// The share that was saved of what is reserved first of memory, CPU and replicas, in percent. `None` where no time has passed.
    #[must_use]
    pub fn saved_percent(&self) -> Option<i64> {
        let replicas = || saved(self.used.replica_millis, self.always_on.replica_millis);
        self.memory_saved_percent().or_else(|| self.cpu_saved_percent()).or_else(replicas)
    }
}

impl fmt::Display for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.memory_saved_percent(), self.cpu_saved_percent()) {
            (None, None) => write!(f, "nothing to save yet"),
            (Some(memory), None) => write!(f, "saved {memory} % of the memory of an always-on Deployment"),
            (None, Some(cpu)) => write!(f, "saved {cpu} % of the CPU of an always-on Deployment"),
            (Some(memory), Some(cpu)) => {
                write!(f, "saved {memory} % of the memory and {cpu} % of the CPU of an always-on Deployment")
            }
        }
    }
}

fn saved(used: u128, always_on: u128) -> Option<i64> {
    let used = i128::try_from(used).unwrap_or(i128::MAX);
    let always_on = i128::try_from(always_on).ok().filter(|sum| *sum > 0)?;
    let percent = always_on.saturating_sub(used).saturating_mul(100).div_euclid(always_on);
    i64::try_from(percent).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOOTPRINT: Footprint = Footprint { memory_mib: 100, cpu_milli: 200, parked_mib: Some(2) };

    #[test]
    fn a_day_with_an_hour_of_work_saves_most_of_it() {
        let mut ledger = Ledger::default();
        assert_eq!(ledger.to_string(), "nothing to save yet");
        for (rung, replicas, hours) in
            [(Rung::Active, 3, 1), (Rung::Throttled, 1, 1), (Rung::Parked, 1, 2), (Rung::Zero, 0, 20)]
        {
            ledger.pass(FOOTPRINT, rung, replicas, hours * 3_600_000);
        }
        assert_eq!(Rung::ALL.map(|rung| ledger.seconds(rung)), [3_600, 3_600, 7_200, 72_000]);
        let (used, always_on) = (ledger.used(), ledger.always_on());
        assert_eq!(used.replica_seconds(), 3_600 * (3 + 1 + 2));
        assert_eq!(used.memory_mib_seconds(), 3_600 * (300 + 100 + 2 * 2));
        // 600 thousandths for an hour, and one thousandth for three.
        assert_eq!(used.core_seconds(), (3_600 * 603) / 1000);
        assert_eq!(always_on.replica_seconds(), 3_600 * (3 + 23));
        assert_eq!(always_on.memory_mib_seconds(), 3_600 * 100 * 26);
        assert_eq!(ledger.memory_saved_percent(), Some(84));
        assert_eq!(ledger.to_string(), "saved 84 % of the memory and 88 % of the CPU of an always-on Deployment");
    }

    #[test]
    fn work_alone_saves_nothing_and_idle_replicas_cost() {
        let mut ledger = Ledger::default();
        ledger.pass(FOOTPRINT, Rung::Active, 5, 1_000);
        assert_eq!(ledger.memory_saved_percent(), Some(0));
        ledger.pass(FOOTPRINT, Rung::Throttled, 3, 5_000);
        assert_eq!(ledger.memory_saved_percent(), Some(-100));
    }

    #[test]
    fn what_is_not_reserved_is_not_saved() {
        let mut ledger = Ledger::default();
        ledger.pass(Footprint { cpu_milli: 0, ..FOOTPRINT }, Rung::Zero, 0, 1_000);
        assert_eq!(ledger.to_string(), "saved 100 % of the memory of an always-on Deployment");
        assert_eq!(ledger.saved_percent(), Some(100));
        let mut ledger = Ledger::default();
        ledger.pass(Footprint { memory_mib: 0, ..FOOTPRINT }, Rung::Zero, 0, 1_000);
        assert_eq!(ledger.to_string(), "saved 100 % of the CPU of an always-on Deployment");
    }

    #[test]
    fn what_requests_nothing_is_told_by_its_replicas() {
        let nothing = Footprint { memory_mib: 0, cpu_milli: 0, parked_mib: Some(0) };
        let mut ledger = Ledger::default();
        assert_eq!(ledger.saved_percent(), None);
        ledger.pass(nothing, Rung::Active, 1, 1_000);
        ledger.pass(nothing, Rung::Zero, 0, 3_000);
        assert_eq!((ledger.saved_percent(), ledger.to_string().as_str()), (Some(75), "nothing to save yet"));
    }

    #[test]
    fn an_account_goes_on_where_it_was() {
        let mut ledger = Ledger::default();
        ledger.pass(FOOTPRINT, Rung::Active, 2, 10_000);
        ledger.pass(FOOTPRINT, Rung::Parked, 1, 20_000);
        ledger.pass(FOOTPRINT, Rung::Zero, 0, 30_000);
        let whole =
            |usage: Usage| Usage::of_seconds(usage.replica_seconds(), usage.core_seconds(), usage.memory_mib_seconds());
        let resumed =
            Ledger::resume(Rung::ALL.map(|rung| ledger.seconds(rung)), whole(ledger.used()), whole(ledger.always_on()));
        assert_eq!(Rung::ALL.map(|rung| resumed.seconds(rung)), [10, 0, 20, 30]);
        let seconds = |usage: Usage| (usage.replica_seconds(), usage.core_seconds(), usage.memory_mib_seconds());
        assert_eq!(seconds(resumed.used()), seconds(ledger.used()));
        assert_eq!(seconds(resumed.always_on()), seconds(ledger.always_on()));
        assert_eq!(resumed.saved_percent(), ledger.saved_percent());
    }

    #[test]
    fn sums_stop_at_their_largest_value() {
        let mut ledger = Ledger::default();
        let huge = Footprint { memory_mib: u32::MAX, cpu_milli: u32::MAX, parked_mib: Some(0) };
        for _ in 0..3 {
            ledger.pass(huge, Rung::Active, u32::MAX, u64::MAX);
        }
        assert_eq!(ledger.seconds(Rung::Active), u64::MAX / 1000);
        assert_eq!(ledger.used().memory_mib_seconds(), u64::MAX);
        assert_eq!(ledger.memory_saved_percent(), None);
    }
}
