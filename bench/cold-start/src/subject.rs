//! What is measured: a variant, with a runtime and an app. The names here are those of the command line and of the JSON.

use std::fmt;

use pilotlight_e2e::runtime::Runtime;

/// Which of the examples.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum Language {
    /// `examples/hello-go`.
    Go,
    /// `examples/hello-rust`.
    Rust,
    /// `examples/hello-python`.
    Python,
    /// `examples/hello-node`.
    Node,
}

impl Language {
    /// Every one; the first is the one that a runtime's own figures are of.
    pub(crate) const ALL: [Self; 4] = [Self::Go, Self::Rust, Self::Python, Self::Node];

    /// Its key in the JSON.
    pub(crate) fn key(self) -> &'static str {
        match self {
            Self::Go => "go",
            Self::Rust => "rust",
            Self::Python => "python",
            Self::Node => "node",
        }
    }
}

/// How a first request comes to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Variant {
    /// Raw Kubernetes: a plain Deployment, from 0 to 1.
    Floor,
    /// A Function at zero, found by its pod's address in the API.
    ZeroWithoutBeacon,
    /// A Function at zero, whose pod announces its address itself.
    Zero,
    /// A Function with one idle pod, in which a placeholder runs.
    Parked,
    /// A Function with one idle pod, which has lost its CPU.
    Throttled,
}

impl Variant {
    /// Every one; the others are compared with the first.
    pub(crate) const ALL: [Self; 5] = [Self::Floor, Self::ZeroWithoutBeacon, Self::Zero, Self::Parked, Self::Throttled];

    /// Its key in the JSON.
    pub(crate) fn key(self) -> &'static str {
        match self {
            Self::Floor => "floor",
            Self::ZeroWithoutBeacon => "zero_without_beacon",
            Self::Zero => "zero",
            Self::Parked => "parked",
            Self::Throttled => "throttled",
        }
    }
}

/// One of the things that take turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Subject {
    pub(crate) runtime: Runtime,
    pub(crate) language: Language,
    pub(crate) variant: Variant,
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.runtime.key(), self.language.key(), self.variant.key())
    }
}
