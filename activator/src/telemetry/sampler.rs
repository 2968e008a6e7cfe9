//! Which traces are recorded, by the standard's own names (`OTEL_TRACES_SAMPLER`): as the caller has decided, and else a share of them
//! that every participant would choose alike. Pure.

use std::str::FromStr;

use super::context::TraceContext;

/// What to do with traces that nobody has decided about, and whether those of others are followed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampler {
    /// Whether the caller's decision holds.
    parent_based: bool,
    /// Traces whose id is below are recorded.
    below: u64,
}

/// A sampler that does not exist.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SamplerError {
    /// Its name.
    #[error(
        "OTEL_TRACES_SAMPLER is {0:?}: give always_on, always_off, traceidratio, or one of them after parentbased_ (parentbased_always_on is the default)"
    )]
    Name(String),
    /// Its share.
    #[error("OTEL_TRACES_SAMPLER_ARG is {0:?}: give a share from 0 to 1, like 0.1")]
    Ratio(String),
}

impl Default for Sampler {
    /// The standard's: as the caller has decided, and else everything.
    fn default() -> Self {
        Self { parent_based: true, below: u64::MAX }
    }
}

impl Sampler {
    /// From the standard's two settings.
    ///
    /// # Errors
    /// Names the setting that cannot be understood.
    pub fn from_settings(name: &str, argument: Option<&str>) -> Result<Self, SamplerError> {
        let (parent_based, root) = match name.strip_prefix("parentbased_") {
            Some(root) => (true, root),
            None => (false, name),
        };
        let below = match root {
            "always_on" => u64::MAX,
            "always_off" => 0,
            "traceidratio" => threshold(argument.unwrap_or("1"))?,
            _ => return Err(SamplerError::Name(name.to_owned())),
        };
        Ok(Self { parent_based, below })
    }

    /// Whether to record a request that came with `parent`, in the trace `trace_id`.
    pub fn samples(self, parent: Option<TraceContext>, trace_id: u128) -> bool {
        match parent {
            Some(parent) if self.parent_based => parent.sampled(),
            _ => self.below == u64::MAX || (trace_id as u64) >> 1 < self.below,
        }
    }
}

/// As in OpenTelemetry's own sampler, so that all who see a trace choose alike: the lower 63 bits of the trace id.
fn threshold(ratio: &str) -> Result<u64, SamplerError> {
    let bad = || SamplerError::Ratio(ratio.to_owned());
    let share = f64::from_str(ratio).map_err(|_| bad())?;
    if !(0.0..=1.0).contains(&share) {
        return Err(bad());
    }
    Ok(if share >= 1.0 { u64::MAX } else { (share * (1u64 << 63) as f64) as u64 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::ids;

    fn sampler(name: &str, argument: &str) -> Sampler {
        Sampler::from_settings(name, Some(argument)).unwrap()
    }

    #[test]
    fn the_callers_decision_holds_where_parents_are_followed() {
        let recorded = TraceContext::begin(7, 7, true);
        let not = TraceContext::begin(7, 7, false);
        for root in ["parentbased_always_on", "parentbased_always_off", "parentbased_traceidratio"] {
            assert!(sampler(root, "0.5").samples(Some(recorded), 7), "{root}");
            assert!(!sampler(root, "0.5").samples(Some(not), 7), "{root}");
        }
        assert!(sampler("always_on", "").samples(Some(not), 7));
        assert!(!sampler("always_off", "").samples(Some(recorded), 7));
    }

    #[test]
    fn a_share_is_a_share() {
        let sampler = sampler("parentbased_traceidratio", "0.25");
        let recorded = (0..20_000).filter(|_| sampler.samples(None, ids::trace_id())).count();
        assert!((4_400..5_600).contains(&recorded), "{recorded} of 20000");
        assert!(!Sampler::from_settings("traceidratio", Some("0")).unwrap().samples(None, 1));
        assert!(Sampler::from_settings("traceidratio", Some("1")).unwrap().samples(None, u128::MAX));
    }

    #[test]
    fn mistakes_name_the_setting() {
        let name = Sampler::from_settings("sometimes", None).unwrap_err();
        assert!(name.to_string().contains("OTEL_TRACES_SAMPLER is \"sometimes\""), "{name}");
        for ratio in ["2", "-1", "x", "NaN"] {
            let error = Sampler::from_settings("traceidratio", Some(ratio)).unwrap_err();
            assert!(error.to_string().contains("OTEL_TRACES_SAMPLER_ARG"), "{error}");
        }
    }
}
