//! The rungs of the idle ladder, and which of them can be had.
//!
//! What always holds: Active is always available; a rung that is not has a substitute that is.

use std::fmt;

/// A rung of the idle ladder; each costs less than the one before it and takes longer to wake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rung {
    /// The pod is as it is under load.
    Active,
    /// Process and memory stay, the CPU is taken away by in-place resize.
    Throttled,
    /// The pod, its sandbox and its address stay; the process is replaced by a placeholder, and requests are shrunk.
    Parked,
    /// No pod.
    Zero,
}

impl Rung {
    /// All of them, from the dearest to the cheapest.
    pub const ALL: [Self; 4] = [Self::Active, Self::Throttled, Self::Parked, Self::Zero];

    /// The CamelCase name that status, metrics and labels use.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Active => "Active",
            Self::Throttled => "Throttled",
            Self::Parked => "Parked",
            Self::Zero => "Zero",
        }
    }

    /// Its place in [`Rung::ALL`].
    pub(crate) fn place(self) -> usize {
        self as usize
    }
}

impl fmt::Display for Rung {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Which rungs a Function can be on: what the cluster can do, what the shape of its pods allows, and what its floor of replicas leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rungs(u8);

impl Rungs {
    /// The whole ladder.
    pub const ALL: Self = Self(0b1111);
    /// Pods as they are, or none: what every cluster can do.
    pub const PLAIN: Self = Self(0b1001);

    /// All of these but one. Active stays: it is what there is without any ladder.
    #[must_use]
    pub fn without(self, rung: Rung) -> Self {
        if rung == Rung::Active { self } else { Self(self.0 & !(1 << rung.place())) }
    }

    /// Whether a Function can be on it.
    #[must_use]
    pub fn contains(self, rung: Rung) -> bool {
        self.0 & (1 << rung.place()) != 0
    }

    /// The rung, or where it is not available the one that costs about as much: a Throttled pod keeps its memory, as an Active one; a Parked
    /// one keeps next to nothing, as Zero. Where Zero is not available the cheapest that is.
    #[must_use]
    pub fn substitute(self, rung: Rung) -> Rung {
        let order: &[Rung] = match rung {
            Rung::Active | Rung::Throttled => &[rung],
            Rung::Parked => &[Rung::Parked, Rung::Zero, Rung::Throttled],
            Rung::Zero => &[Rung::Zero, Rung::Parked, Rung::Throttled],
        };
        order.iter().copied().find(|rung| self.contains(*rung)).unwrap_or(Rung::Active)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn active_cannot_be_taken_away() {
        let none = Rung::ALL.into_iter().fold(Rungs::ALL, Rungs::without);
        assert!(none.contains(Rung::Active));
        for rung in Rung::ALL {
            assert_eq!(none.substitute(rung), Rung::Active);
            assert_eq!(Rungs::ALL.substitute(rung), rung);
        }
    }

    #[test]
    fn a_substitute_costs_about_as_much() {
        let table = [
            (Rungs::PLAIN, [Rung::Active, Rung::Active, Rung::Zero, Rung::Zero]),
            (Rungs::ALL.without(Rung::Zero), [Rung::Active, Rung::Throttled, Rung::Parked, Rung::Parked]),
            (
                Rungs::ALL.without(Rung::Zero).without(Rung::Parked),
                [Rung::Active, Rung::Throttled, Rung::Throttled, Rung::Throttled],
            ),
        ];
        for (rungs, expected) in table {
            assert_eq!(Rung::ALL.map(|rung| rungs.substitute(rung)), expected, "{rungs:?}");
        }
    }

    #[test]
    fn names_are_those_of_the_status() {
        assert_eq!(Rung::ALL.map(|rung| rung.to_string()), ["Active", "Throttled", "Parked", "Zero"]);
    }
}
