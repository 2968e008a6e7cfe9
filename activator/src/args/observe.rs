//! Flags about what is told of requests, and whom is believed. Names of the environment are OpenTelemetry's where it has one.

use std::time::Duration;

use clap::Args;
use ipnet::IpNet;

use super::ArgsError;
use crate::proxy::forwarded::{self, Trust};
use crate::telemetry::TelemetryConfig;
use crate::telemetry::access_log::AccessLogConfig;
use crate::telemetry::export::TracingConfig;
use crate::telemetry::sampler::Sampler;
use crate::telemetry::timing::TimingHeaders;

const PROTOCOL: &str = "http/protobuf";

/// See the module.
#[derive(Clone, Debug, Args)]
pub struct Observe {
    /// Networks (CIDRs, by commas) of the proxies in front whose Forwarded, X-Forwarded-* and X-Request-Id are believed. From all others
    /// these headers are replaced. Nobody is trusted by default.
    #[arg(long, env = "PILOTLIGHT_TRUSTED_PROXIES", value_delimiter = ',', value_parser = forwarded::network)]
    pub trusted_proxies: Vec<IpNet>,
    /// Which responses get a Server-Timing header.
    #[arg(long, env = "PILOTLIGHT_TIMING_HEADERS", value_enum, default_value_t = TimingHeaders::All)]
    pub timing_headers: TimingHeaders,
    /// Share of requests in the access log on standard output, from 0 to 1.
    #[arg(long, env = "PILOTLIGHT_ACCESS_LOG_RATIO", default_value_t = 0.0)]
    pub access_log_ratio: f64,
    /// Errors in the access log each second, at most, whatever the share. 0: none.
    #[arg(long, env = "PILOTLIGHT_ACCESS_LOG_ERRORS_PER_SECOND", default_value_t = 10)]
    pub access_log_errors_per_second: u32,
    /// Base URL of an OpenTelemetry collector that takes OTLP over HTTP, like http://collector:4318. Empty: traces are not recorded.
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", default_value = "")]
    pub otlp_endpoint: String,
    /// Whole URL for traces, where it is not the base URL and /v1/traces.
    #[arg(long, env = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", default_value = "")]
    pub otlp_traces_endpoint: String,
    /// How the collector is spoken to: http/protobuf is the one that there is.
    #[arg(long, env = "OTEL_EXPORTER_OTLP_PROTOCOL", default_value = PROTOCOL)]
    pub otlp_protocol: String,
    /// Which traces are recorded, by OpenTelemetry's names.
    #[arg(long, env = "OTEL_TRACES_SAMPLER", default_value = "parentbased_always_on")]
    pub traces_sampler: String,
    /// Share of traces, for the samplers that have one.
    #[arg(long, env = "OTEL_TRACES_SAMPLER_ARG")]
    pub traces_sampler_arg: Option<String>,
    /// Milliseconds for which spans are gathered before they are sent.
    #[arg(long, env = "OTEL_BSP_SCHEDULE_DELAY", default_value_t = 5000)]
    pub traces_delay_millis: u64,
}

impl Observe {
    /// Whose word about a request's origin is taken.
    pub fn trust(&self) -> Trust {
        Trust::new(self.trusted_proxies.clone())
    }

    /// What to tell, and where.
    ///
    /// # Errors
    /// Names the flag that cannot work.
    pub fn telemetry(&self) -> Result<TelemetryConfig, ArgsError> {
        let ratio = self.access_log_ratio;
        if !(0.0..=1.0).contains(&ratio) {
            return Err(ArgsError::AccessLogRatio { got: ratio.to_string() });
        }
        let access_log = (ratio > 0.0 || self.access_log_errors_per_second > 0).then(|| AccessLogConfig {
            ratio,
            errors_per_second: self.access_log_errors_per_second,
            out: Box::new(std::io::stdout()),
        });
        Ok(TelemetryConfig { timing: self.timing_headers, access_log, tracing: self.tracing()? })
    }

    fn tracing(&self) -> Result<Option<TracingConfig>, ArgsError> {
        let endpoint = match (self.otlp_traces_endpoint.trim(), self.otlp_endpoint.trim()) {
            ("", "") => return Ok(None),
            ("", base) => format!("{}/v1/traces", base.trim_end_matches('/')),
            (traces, _) => traces.to_owned(),
        };
        if !endpoint.starts_with("http://") && !endpoint.starts_with("https://") {
            return Err(ArgsError::OtlpEndpoint { got: endpoint });
        }
        if self.otlp_protocol.trim() != PROTOCOL {
            return Err(ArgsError::OtlpProtocol { got: self.otlp_protocol.clone() });
        }
        let sampler = Sampler::from_settings(self.traces_sampler.trim(), self.traces_sampler_arg.as_deref())?;
        Ok(Some(TracingConfig { endpoint, sampler, delay: Duration::from_millis(self.traces_delay_millis) }))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn observe(flags: &[&str]) -> Observe {
        crate::args::Args::parse_from(std::iter::once("activator").chain(flags.iter().copied())).observe
    }

    #[test]
    fn traces_are_off_until_an_endpoint_is_given() {
        assert!(observe(&[]).telemetry().unwrap().tracing.is_none());
        let base = observe(&["--otlp-endpoint", "http://collector:4318/"]).telemetry().unwrap().tracing.unwrap();
        assert_eq!(base.endpoint, "http://collector:4318/v1/traces");
        let whole = ["--otlp-endpoint", "http://a:4318", "--otlp-traces-endpoint", "https://b/otlp"];
        assert_eq!(observe(&whole).telemetry().unwrap().tracing.unwrap().endpoint, "https://b/otlp");
    }

    #[test]
    fn mistakes_name_the_flag_and_the_remedy() {
        let message = |flags: &[&str]| observe(flags).telemetry().unwrap_err().to_string();
        assert!(message(&["--access-log-ratio", "2"]).contains("--access-log-ratio is 2"));
        assert!(message(&["--otlp-endpoint", "collector:4317"]).contains("http://"));
        let grpc = message(&["--otlp-endpoint", "http://a:4317", "--otlp-protocol", "grpc"]);
        assert!(grpc.contains("OTEL_EXPORTER_OTLP_PROTOCOL") && grpc.contains("4318"), "{grpc}");
        let sampler = ["--otlp-endpoint", "http://a", "--traces-sampler", "maybe"];
        assert!(message(&sampler).contains("OTEL_TRACES_SAMPLER"));
        let bad = crate::args::Args::try_parse_from(["activator", "--trusted-proxies", "10.0.0.0/8,here"]);
        assert!(bad.unwrap_err().to_string().contains("CIDR"));
    }

    #[test]
    fn trusted_networks_come_by_commas() {
        let trust = observe(&["--trusted-proxies", "10.0.0.0/8,2001:db8::1"]).trust();
        assert!(trust.covers("10.9.9.9".parse().unwrap()) && trust.covers("2001:db8::1".parse().unwrap()));
        assert_eq!(observe(&[]).trust(), Trust::default());
    }
}
