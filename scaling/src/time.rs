//! Time as plain numbers: a moment in milliseconds and a whole second, both since an arbitrary but fixed zero.

/// A moment, in milliseconds since a zero that the caller chooses once and keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Millis(pub u64);

impl Millis {
    /// The moment `seconds` later.
    #[must_use]
    pub fn plus_seconds(self, seconds: u64) -> Self {
        Self(self.0.saturating_add(seconds.saturating_mul(1000)))
    }

    /// Milliseconds from `earlier` to this moment; 0 if `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// A whole second: `Second(n)` lasts from `n · 1000` ms, inclusive, to `(n + 1) · 1000` ms, exclusive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Second(pub u64);

impl Second {
    /// The second that `moment` lies in.
    #[must_use]
    pub fn containing(moment: Millis) -> Self {
        Self(moment.0 / 1000)
    }

    /// The moment at which it begins.
    #[must_use]
    pub fn start(self) -> Millis {
        Millis(self.0.saturating_mul(1000))
    }

    /// The moment at which it is over.
    #[must_use]
    pub fn end(self) -> Millis {
        self.next().start()
    }

    /// The second after it.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The second `seconds` before it, not before zero.
    #[must_use]
    pub fn minus(self, seconds: u64) -> Self {
        Self(self.0.saturating_sub(seconds))
    }
}
