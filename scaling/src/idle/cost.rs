//! What each rung costs and how long it takes to wake: the prices at which waiting is weighed against what is reserved meanwhile.
//!
//! Everything is priced in one currency, the MiB·s: one MiB of memory reserved for one second.
//!
//! What always holds: no rung costs more than the one above it, but Parked where requests cannot shrink.

use super::rung::Rung;

/// What one replica reserves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Footprint {
    /// Memory while its process runs, in MiB.
    pub memory_mib: u32,
    /// CPU while it is Active, in thousandths of a core.
    pub cpu_milli: u32,
    /// Memory while it is Parked, in MiB: the placeholder, the sandbox, and the author's own sidecars, which go on. `None`: it reserves as much as while it is
    /// Active, because its requests cannot shrink.
    pub parked_mib: Option<u32>,
}

/// Thousandths of a core that a Throttled or Parked pod reserves; design: "CPU at 10m, request 1m".
const IDLE_CPU_MILLI: u32 = 1;

/// What a replica reserves on one rung.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reserved {
    /// In MiB.
    pub memory_mib: u32,
    /// In thousandths of a core.
    pub cpu_milli: u32,
    /// Pods: places on a node, of which kubelet has 110 by default.
    pub pods: u32,
}

impl Footprint {
    /// What a replica on this rung reserves.
    #[must_use]
    pub fn reserved(self, rung: Rung) -> Reserved {
        let idle_cpu = self.cpu_milli.min(IDLE_CPU_MILLI);
        let (memory_mib, cpu_milli) = match rung {
            Rung::Active => (self.memory_mib, self.cpu_milli),
            Rung::Throttled => (self.memory_mib, idle_cpu),
            Rung::Parked => match self.parked_mib {
                Some(parked_mib) => (parked_mib.min(self.memory_mib), idle_cpu),
                None => (self.memory_mib, self.cpu_milli),
            },
            Rung::Zero => return Reserved::default(),
        };
        Reserved { memory_mib, cpu_milli, pods: 1 }
    }
}

/// How long the first request waits on each rung, in ms from its arrival to when it is sent on. Active: not at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wakes {
    /// On Throttled.
    pub throttled_millis: u64,
    /// On Parked.
    pub parked_millis: u64,
    /// At Zero.
    pub zero_millis: u64,
}

impl Wakes {
    /// On this rung, in ms.
    #[must_use]
    pub fn of(self, rung: Rung) -> u64 {
        match rung {
            Rung::Active => 0,
            Rung::Throttled => self.throttled_millis,
            Rung::Parked => self.parked_millis,
            Rung::Zero => self.zero_millis,
        }
    }
}

impl Default for Wakes {
    /// What was measured with a small Go program on Kubernetes 1.35 (the medians), for a Function that has not been woken yet.
    fn default() -> Self {
        Self { throttled_millis: 10, parked_millis: 134, zero_millis: 324 }
    }
}

/// What things are worth, in MiB·s.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prices {
    /// One second that a request waits for a wake.
    pub wait_second: u64,
    /// One core reserved for one second.
    pub core_second: u64,
    /// One pod that exists for one second, beside what it reserves.
    pub pod_second: u64,
    /// One pod created, scheduled, started and deleted.
    pub creation: u64,
    /// One pod parked and un-parked.
    pub swap: u64,
    /// One pod throttled and given its CPU again.
    pub resize: u64,
}

impl Default for Prices {
    /// General-purpose nodes have 4 GiB beside each core. One that is only reserved is still used by others meanwhile, which memory is not, so it is worth a
    /// quarter of that; one that is used up is worth all of it, and from that follow the prices of what keeps a node busy: a swap takes 0.2 s, a resize 0.02 s. A
    /// node has 110 places for pods whatever its size, so on one of 16 GiB a place goes with up to 149 MiB: one is worth a ninth of that, so that parked pods
    /// do not fill the places of a cluster whose memory is free. What waiting and a creation are worth was chosen on one half of a production trace and judged on the other (`docs/idle-policy.md`).
    fn default() -> Self {
        Self { wait_second: 300 * 1024, core_second: 1024, pod_second: 16, creation: 32_768, swap: 820, resize: 82 }
    }
}

impl Prices {
    /// What being on a rung costs, in MiB·s for each second.
    pub(crate) fn rate(&self, footprint: Footprint, rung: Rung) -> f64 {
        let Reserved { memory_mib, cpu_milli, pods } = footprint.reserved(rung);
        f64::from(memory_mib)
            + f64::from(cpu_milli) * self.core_second as f64 / 1000.0
            + f64::from(pods) * self.pod_second as f64
    }

    /// What it costs to go from a rung down to another.
    pub(crate) fn down(&self, from: Rung, to: Rung) -> f64 {
        match (from, to) {
            (Rung::Active, Rung::Throttled) => self.resize as f64 / 2.0,
            (Rung::Active | Rung::Throttled, Rung::Parked) => self.swap as f64 / 2.0,
            // To let go of a pod costs nothing; to need another one does.
            _ => 0.0,
        }
    }

    /// What it costs to go from a rung up to Active.
    pub(crate) fn up(&self, from: Rung) -> f64 {
        match from {
            Rung::Active => 0.0,
            Rung::Throttled => self.resize as f64 / 2.0,
            Rung::Parked => self.swap as f64 / 2.0,
            Rung::Zero => self.creation as f64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rung_costs_less_and_wakes_slower() {
        let footprint = Footprint { memory_mib: 100, cpu_milli: 100, parked_mib: Some(2) };
        let prices = Prices::default();
        let rates = Rung::ALL.map(|rung| prices.rate(footprint, rung));
        assert_eq!(rates.map(|rate| rate.round() as u64), [218, 117, 19, 0]);
        assert!(rates.is_sorted_by(|dearer, cheaper| dearer > cheaper));
        assert!(Rung::ALL.map(|rung| Wakes::default().of(rung)).is_sorted_by(|sooner, later| sooner < later));
        assert!(Rung::ALL.map(|rung| prices.up(rung)).is_sorted());
    }

    #[test]
    fn a_place_has_its_price_for_as_long_as_there_is_a_pod() {
        let nothing = Footprint { memory_mib: 0, cpu_milli: 0, parked_mib: Some(0) };
        let prices = Prices { pod_second: 7, ..Prices::default() };
        assert_eq!(Rung::ALL.map(|rung| prices.rate(nothing, rung)), [7.0, 7.0, 7.0, 0.0]);
    }

    #[test]
    fn a_small_function_reserves_no_more_when_it_is_parked() {
        let tiny = Footprint { memory_mib: 1, cpu_milli: 0, parked_mib: Some(2) };
        assert_eq!(tiny.reserved(Rung::Parked), Reserved { memory_mib: 1, cpu_milli: 0, pods: 1 });
        assert_eq!(tiny.reserved(Rung::Throttled), tiny.reserved(Rung::Active));
        assert_eq!(tiny.reserved(Rung::Zero), Reserved::default());
        let rigid = Footprint { memory_mib: 100, cpu_milli: 100, parked_mib: None };
        assert_eq!(rigid.reserved(Rung::Parked), rigid.reserved(Rung::Active), "where requests cannot shrink");
    }

    #[test]
    fn a_way_down_and_up_costs_its_price_once() {
        let prices = Prices::default();
        assert_eq!(prices.down(Rung::Active, Rung::Parked) + prices.up(Rung::Parked), prices.swap as f64);
        assert_eq!(prices.down(Rung::Active, Rung::Throttled) + prices.up(Rung::Throttled), prices.resize as f64);
        assert_eq!(prices.down(Rung::Parked, Rung::Zero) + prices.up(Rung::Zero), prices.creation as f64);
        assert_eq!(prices.down(Rung::Active, Rung::Active) + prices.up(Rung::Active), 0.0);
    }
}
