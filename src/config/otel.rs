//! The standard variables `OTEL_*`, as far as they say whether and how spans are exported; the library reads the
//! rest of them itself. What it would pass over with a word in a log nobody reads is a fault here.

use std::ffi::OsString;
use std::time::Duration;

use super::faults::{Fault, Origin, quoted};
use super::settings::{OtlpConfig, OtlpProtocol};

pub(super) const PREFIX: &str = "OTEL_";

const SAMPLERS: [&str; 6] = [
    "always_on",
    "always_off",
    "traceidratio",
    "parentbased_always_on",
    "parentbased_always_off",
    "parentbased_traceidratio",
];

/// Times in milliseconds, and sizes of queues.
const NUMBERS: [&str; 7] = [
    "OTEL_BSP_SCHEDULE_DELAY",
    "OTEL_BSP_EXPORT_TIMEOUT",
    "OTEL_BSP_MAX_QUEUE_SIZE",
    "OTEL_BSP_MAX_EXPORT_BATCH_SIZE",
    "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT",
    "OTEL_SPAN_EVENT_COUNT_LIMIT",
    "OTEL_SPAN_LINK_COUNT_LIMIT",
];

/// In milliseconds, as the specification has it.
const TIMEOUT: u64 = 10_000;

/// Spans are exported if a collector is named, or the exporter, and nothing says otherwise.
pub(super) fn traces(variables: &[(OsString, OsString)]) -> (Option<OtlpConfig>, Vec<Fault>) {
    let given = |name: &str| {
        let (_, value) = variables.iter().find(|(given, _)| given == name)?;
        value.to_str().map(str::trim).filter(|value| !value.is_empty()).map(str::to_owned)
    };
    let mut faults = Vec::new();
    let mut fault = |name: &str, value: &str, wanted: &str| {
        let message = format!("{} is not supported; wanted: {wanted}", quoted(value));
        faults.push(Fault { origin: Origin::Environment(name.to_owned()), path: String::new(), message });
    };
    let exporter = given("OTEL_TRACES_EXPORTER");
    let disabled = given("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"));
    let endpoint = of_traces("ENDPOINT", given);
    let wanted = match exporter.as_deref() {
        Some("otlp") => true,
        Some("none") => false,
        Some(other) => {
            fault("OTEL_TRACES_EXPORTER", other, "otlp or none");
            false
        }
        None => endpoint.is_some(),
    };
    if disabled || !wanted {
        return (None, faults);
    }
    if let Some((name, url)) = &endpoint
        && !url::Url::parse(url).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
    {
        fault(name, url, "a URL that begins with http:// or https://");
    }
    let protocol = match of_traces("PROTOCOL", given) {
        None => OtlpProtocol::Http,
        Some((name, value)) => match value.as_str() {
            "http/protobuf" => OtlpProtocol::Http,
            "grpc" => OtlpProtocol::Grpc,
            other => {
                fault(&name, other, "http/protobuf or grpc");
                OtlpProtocol::Http
            }
        },
    };
    let timeout = of_traces("TIMEOUT", given).map_or(TIMEOUT, |(name, value)| {
        let read = value.parse().ok().filter(|milliseconds| *milliseconds > 0);
        read.unwrap_or_else(|| {
            fault(&name, &value, "milliseconds, 1 or more");
            TIMEOUT
        })
    });
    if let Some((name, value)) = of_traces("COMPRESSION", given)
        && value != "gzip"
    {
        fault(&name, &value, "gzip");
    }
    for name in NUMBERS {
        let Some(value) = given(name) else { continue };
        if !value.parse().is_ok_and(|number: u32| (1..=1_000_000).contains(&number)) {
            fault(name, &value, "1 to 1000000");
        }
    }
    let sampler = given("OTEL_TRACES_SAMPLER");
    if let Some(other) = sampler.as_deref().filter(|sampler| !SAMPLERS.contains(sampler)) {
        fault("OTEL_TRACES_SAMPLER", other, &SAMPLERS.join(", "));
    }
    if sampler.is_some_and(|sampler| sampler.ends_with("traceidratio"))
        && let Some(ratio) = given("OTEL_TRACES_SAMPLER_ARG")
        && !ratio.parse::<f64>().is_ok_and(|ratio| (0.0..=1.0).contains(&ratio))
    {
        fault("OTEL_TRACES_SAMPLER_ARG", &ratio, "0.0 to 1.0");
    }
    (Some(OtlpConfig { protocol, timeout: Duration::from_millis(timeout) }), faults)
}

/// The variable for traces alone, before the one for every signal; with its name.
fn of_traces(what: &str, given: impl Fn(&str) -> Option<String>) -> Option<(String, String)> {
    [format!("OTEL_EXPORTER_OTLP_TRACES_{what}"), format!("OTEL_EXPORTER_OTLP_{what}")]
        .into_iter()
        .find_map(|name| given(&name).map(|value| (name, value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> (Option<OtlpConfig>, Vec<String>) {
        let variables: Vec<_> = variables.iter().map(|(name, value)| (name.into(), value.into())).collect();
        let (config, faults) = traces(&variables);
        (config, faults.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn spans_are_exported_where_a_collector_is_named_and_nothing_says_otherwise() {
        let on = |variables: &[(&str, &str)]| read(variables).0.is_some();
        let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318");
        assert!(!on(&[]) && !on(&[("OTEL_SERVICE_NAME", "x")]));
        assert!(on(&[endpoint]) && on(&[("OTEL_TRACES_EXPORTER", "otlp")]));
        assert!(on(&[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://collector:4318/v1/traces")]));
        assert!(!on(&[endpoint, ("OTEL_SDK_DISABLED", "TRUE")]));
        assert!(!on(&[endpoint, ("OTEL_TRACES_EXPORTER", "none")]));
    }

    #[test]
    fn what_is_said_of_traces_alone_goes_first() {
        let all = ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf");
        let own = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "grpc");
        let exporter = ("OTEL_TRACES_EXPORTER", "otlp");
        let timeout = ("OTEL_EXPORTER_OTLP_TIMEOUT", "250");
        let (config, faults) = read(&[all, own, exporter, timeout]);
        let expected = OtlpConfig { protocol: OtlpProtocol::Grpc, timeout: Duration::from_millis(250) };
        assert_eq!((config, faults), (Some(expected), Vec::new()));
    }

    #[test]
    fn what_the_library_would_pass_over_is_a_fault() {
        let (_, faults) = read(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "5s"),
            ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"),
            ("OTEL_TRACES_SAMPLER_ARG", "10%"),
            ("OTEL_BSP_SCHEDULE_DELAY", "0"),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "zstd"),
        ]);
        let named = |name: &str| faults.iter().any(|fault| fault.starts_with(name));
        assert_eq!(faults.len(), 6, "{faults:?}");
        assert!(named("OTEL_EXPORTER_OTLP_ENDPOINT: `collector:4318`"), "{faults:?}");
        assert!(named("OTEL_EXPORTER_OTLP_PROTOCOL: `http/json`") && named("OTEL_TRACES_SAMPLER_ARG"));
        let (_, faults) = read(&[("OTEL_TRACES_EXPORTER", "zipkin"), ("OTEL_TRACES_SAMPLER", "xray")]);
        assert_eq!(faults.len(), 1, "{faults:?}");
    }
}
