//! Which Function has which route port.
//!
//! Pure. What always holds: no two Functions hold the same port; a Function keeps the port in its status unless an older
//! Function has it too; the choice of a free one depends on names alone, so that it is the same after a restart.

use jiff::Timestamp;
use pilotlight_crds::names::ROUTE_PORTS;
use std::collections::{BTreeMap, HashMap};

/// Who asks for a port. Ordered by age, so that the smaller of two has the older right.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Claimant {
    /// When the Function was created.
    pub created: Option<Timestamp>,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
}

/// What a claim led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimed {
    /// The port that the claimant holds now.
    pub port: u16,
    /// A younger Function that had it, and needs another.
    pub evicted: Option<Claimant>,
}

/// Every route port is taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "all {} route ports are taken; delete Functions that are not needed",
    ROUTE_PORTS.len()
)]
pub struct PortsExhausted;

/// The ports that are held.
#[derive(Clone, Debug, Default)]
pub struct PortIndex {
    holders: BTreeMap<u16, Claimant>,
    ports: HashMap<String, u16>,
}

impl PortIndex {
    /// Gives `claimant` a port: the one it holds; else `wanted` (that in its status) if that is free or held by a younger
    /// Function; else the first free one from a start that its name determines.
    pub fn claim(&mut self, claimant: &Claimant, wanted: Option<u16>) -> Result<Claimed, PortsExhausted> {
        if let Some(&port) = self.ports.get(&claimant.uid) {
            return Ok(Claimed { port, evicted: None });
        }
        if let Some(port) = wanted.filter(|port| ROUTE_PORTS.contains(port)) {
            match self.holders.get(&port) {
                Some(holder) if holder <= claimant => {}
                held => {
                    let evicted = held.cloned();
                    if let Some(evicted) = &evicted {
                        self.ports.remove(&evicted.uid);
                    }
                    self.hold(claimant, port);
                    return Ok(Claimed { port, evicted });
                }
            }
        }
        let port = self.first_free(claimant).ok_or(PortsExhausted)?;
        self.hold(claimant, port);
        Ok(Claimed { port, evicted: None })
    }

    /// Frees the ports of all Functions for whose uid `lives` is false.
    pub fn retain(&mut self, lives: impl Fn(&str) -> bool) {
        self.holders.retain(|_, holder| lives(&holder.uid));
        self.ports.retain(|uid, _| lives(uid));
    }

    fn hold(&mut self, claimant: &Claimant, port: u16) {
        self.holders.insert(port, claimant.clone());
        self.ports.insert(claimant.uid.clone(), port);
    }

    fn first_free(&self, claimant: &Claimant) -> Option<u16> {
        let count = ROUTE_PORTS.len();
        let start = start(claimant, count);
        (0..count)
            .map(|step| *ROUTE_PORTS.start() + offset((start + step) % count))
            .find(|port| !self.holders.contains_key(port))
    }
}

/// FNV-1a of `namespace/name`: the same on every machine and in every version.
fn start(claimant: &Claimant, count: usize) -> usize {
    let hash = claimant
        .namespace
        .bytes()
        .chain(*b"/")
        .chain(claimant.name.bytes())
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let count = u64::try_from(count).expect("there are fewer than 65536 ports");
    usize::try_from(hash % count).expect("smaller than the number of ports")
}

fn offset(offset: usize) -> u16 {
    u16::try_from(offset).expect("smaller than the number of ports")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn claimant(age: i64, name: &str) -> Claimant {
        Claimant {
            created: Timestamp::from_second(age).ok(),
            namespace: "shop".to_owned(),
            name: name.to_owned(),
            uid: format!("uid-{name}"),
        }
    }

    #[test]
    fn a_function_keeps_the_port_of_its_status() {
        let mut index = PortIndex::default();
        let claimed = index.claim(&claimant(1, "a"), Some(12_345)).unwrap();
        assert_eq!(claimed.port, 12_345);
        assert_eq!(index.claim(&claimant(1, "a"), Some(20_000)).unwrap().port, 12_345);
    }

    #[test]
    fn a_port_outside_the_range_is_not_taken_over() {
        let mut index = PortIndex::default();
        let port = index.claim(&claimant(1, "a"), Some(80)).unwrap().port;
        assert!(ROUTE_PORTS.contains(&port));
    }

    #[test]
    fn of_two_with_the_same_port_the_older_keeps_it_whoever_asks_first() {
        let (old, young) = (claimant(1, "z"), claimant(2, "a"));
        let mut index = PortIndex::default();
        assert_eq!(index.claim(&young, Some(11_000)).unwrap().port, 11_000);
        let claimed = index.claim(&old, Some(11_000)).unwrap();
        assert_eq!((claimed.port, claimed.evicted), (11_000, Some(young.clone())));
        assert_ne!(index.claim(&young, Some(11_000)).unwrap().port, 11_000);

        let mut index = PortIndex::default();
        index.claim(&old, Some(11_000)).unwrap();
        let claimed = index.claim(&young, Some(11_000)).unwrap();
        assert_ne!(claimed.port, 11_000);
        assert_eq!(claimed.evicted, None);
    }

    #[test]
    fn a_full_range_is_an_error_and_a_freed_port_is_given_again() {
        let mut index = PortIndex::default();
        for port in ROUTE_PORTS {
            let holder = claimant(1, &port.to_string());
            index.claim(&holder, Some(port)).unwrap();
        }
        let late = claimant(1, "late");
        assert_eq!(index.claim(&late, None), Err(PortsExhausted));
        index.retain(|uid| uid != "uid-17000");
        assert_eq!(index.claim(&late, None).unwrap().port, 17_000);
    }

    proptest! {
        #[test]
        fn no_port_is_ever_held_twice(
            steps in prop::collection::vec(
                (0_u8..40, 0_i64..5, prop::option::of(9_990_u16..10_020), any::<bool>()), 1..200)
        ) {
            let mut index = PortIndex::default();
            // The naive model: who holds what, by the answers alone.
            let mut model: BTreeMap<String, u16> = BTreeMap::new();
            for (who, age, wanted, leave) in steps {
                let claimant = claimant(age, &who.to_string());
                if leave {
                    index.retain(|uid| uid != claimant.uid);
                    model.remove(&claimant.uid);
                    continue;
                }
                let claimed = index.claim(&claimant, wanted).unwrap();
                if let Some(evicted) = claimed.evicted {
                    prop_assert_eq!(model.remove(&evicted.uid), Some(claimed.port));
                    prop_assert!(claimant < evicted);
                }
                if let Some(held) = model.insert(claimant.uid, claimed.port) {
                    prop_assert_eq!(held, claimed.port);
                }
                prop_assert!(ROUTE_PORTS.contains(&claimed.port));
                let mut ports: Vec<_> = model.values().collect();
                ports.sort();
                ports.dedup();
                prop_assert_eq!(ports.len(), model.len());
            }
        }
    }
}
