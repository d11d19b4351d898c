//! OpenMetrics 1.0 text, for clients that ask for it with `Accept`. The `prometheus` crate writes only the
//! older Prometheus text format.

#![forbid(unsafe_code)]

use std::borrow::Cow;
use std::fmt::{self, Display, Formatter, Write};

use prometheus::proto::{Metric, MetricFamily, MetricType};

/// Media type of the text that [`encode`] writes.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Whether an `Accept` header prefers OpenMetrics 1.0 to the Prometheus text format, or gives both the
/// same quality.
#[must_use]
pub fn wanted(accept: &str) -> bool {
    let (mut open, mut text) = (0.0, 0.0);
    for range in accept.split(',') {
        let mut parts = range.split(';').map(str::trim);
        let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
        let (mut quality, mut version) = (1.0_f64, "1.0.0");
        for (name, value) in parts.filter_map(|part| part.split_once('=')) {
            match name.trim().to_ascii_lowercase().as_str() {
                "q" => quality = value.trim().parse().unwrap_or(0.0),
                "version" => version = value.trim().trim_matches('"'),
                _ => {}
            }
        }
        match kind.as_str() {
            "application/openmetrics-text" if version == "1.0.0" => open = quality.max(open),
            "text/plain" => text = quality.max(text),
            _ => {}
        }
    }
    open > 0.0 && open >= text
}

/// Encodes families as OpenMetrics text. The last line, `# EOF`, shows that the text is complete.
#[must_use]
pub fn encode(families: &[MetricFamily]) -> String {
    let mut out = String::new();
    for family in families {
        // Writing to a String does not fail.
        let _ = write_family(&mut out, family);
    }
    out.push_str("# EOF\n");
    out
}

fn write_family(out: &mut String, family: &MetricFamily) -> fmt::Result {
    let is_counter = family.get_field_type() == MetricType::COUNTER;
    let name = match family.name().strip_suffix("_total") {
        Some(name) if is_counter => name,
        _ => family.name(),
    };
    let kind = match family.get_field_type() {
        MetricType::COUNTER => "counter",
        MetricType::GAUGE => "gauge",
        MetricType::HISTOGRAM => "histogram",
        // No metric has these types.
        MetricType::SUMMARY | MetricType::UNTYPED => return Ok(()),
    };
    writeln!(out, "# TYPE {name} {kind}")?;
    writeln!(out, "# HELP {name} {}", escaped(family.help()))?;
    for metric in family.get_metric() {
        write_metric(out, name, family.get_field_type(), metric)?;
    }
    Ok(())
}

fn write_metric(out: &mut String, name: &str, kind: MetricType, metric: &Metric) -> fmt::Result {
    let mut sample = |suffix: &str, extra: Option<(&str, f64)>, value: f64| {
        writeln!(
            out,
            "{name}{suffix}{} {}",
            Labels(metric, extra),
            Number(value)
        )
    };
    match kind {
        MetricType::COUNTER => sample("_total", None, metric.get_counter().get_value()),
        MetricType::GAUGE => sample("", None, metric.get_gauge().get_value()),
        MetricType::HISTOGRAM => {
            let histogram = metric.get_histogram();
            let count = histogram.get_sample_count() as f64;
            let buckets = histogram.get_bucket().iter();
            for bucket in buckets.filter(|bucket| bucket.upper_bound().is_finite()) {
                let label = Some(("le", bucket.upper_bound()));
                sample("_bucket", label, bucket.cumulative_count() as f64)?;
            }
            sample("_bucket", Some(("le", f64::INFINITY)), count)?;
            sample("_sum", None, histogram.get_sample_sum())?;
            sample("_count", None, count)
        }
        MetricType::SUMMARY | MetricType::UNTYPED => Ok(()),
    }
}

/// Labels of a sample, and one more (`le` of a bucket).
struct Labels<'a>(&'a Metric, Option<(&'a str, f64)>);

impl Display for Labels<'_> {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        let Self(metric, extra) = self;
        let mut before = '{';
        for pair in metric.get_label() {
            write!(out, "{before}{}=\"{}\"", pair.name(), escaped(pair.value()))?;
            before = ',';
        }
        if let Some((name, value)) = extra {
            write!(out, "{before}{name}=\"{}\"", Edge(*value))?;
            before = ',';
        }
        if before == ',' {
            out.write_char('}')?;
        }
        Ok(())
    }
}

/// Value of a sample. The standard spells infinity `+Inf` and `-Inf`.
struct Number(f64);

impl Display for Number {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        let Self(value) = self;
        if value.is_infinite() {
            out.write_str(if *value > 0.0 { "+Inf" } else { "-Inf" })
        } else {
            write!(out, "{value}")
        }
    }
}

/// Upper edge of a bucket. The standard requires a decimal point, also in a whole number.
struct Edge(f64);

impl Display for Edge {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        if self.0.is_infinite() {
            Number(self.0).fmt(out)
        } else {
            write!(out, "{:?}", self.0)
        }
    }
}

/// Escapes backslashes, quotes and line feeds, so that no label or HELP text can break the format.
fn escaped(text: &str) -> Cow<'_, str> {
    if !text.contains(['\\', '"', '\n']) {
        return Cow::Borrowed(text);
    }
    let text = text.replace('\\', "\\\\").replace('"', "\\\"");
    Cow::Owned(text.replace('\n', "\\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::state::State;
    use crate::output::metrics::families;

    #[test]
    fn accept_headers_that_prefer_openmetrics() {
        // The first two are the headers of Prometheus 2.42 and 3.
        for accept in [
            "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,/;q=0.1",
            "Application/OpenMetrics-Text; version=\"1.0.0\"; Q=1",
            "application/openmetrics-text",
        ] {
            assert!(wanted(accept), "{accept}");
        }
        for accept in [
            "",
            "*/*",
            "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
            "text/plain;version=0.0.4;q=1,*/*;q=0.1",
            "application/openmetrics-text;q=0",
            "application/openmetrics-text;version=2.0.0",
            "application/openmetrics-text;q=0.5,text/plain",
            ";;=,,;q=x",
        ] {
            assert!(!wanted(accept), "{accept}");
        }
    }

    #[test]
    fn a_state_without_pins() {
        let text = encode(&families(&State::empty("6.12 \"x\"\\\n", "folios")));
        assert!(text.ends_with("\n# EOF\n"), "{text}");
        for line in [
            "# TYPE pinwatch_pins counter",
            "pinwatch_pins_total{origin=\"rdma\"} 0",
            "pinwatch_pin_failures_total{origin=\"vfio\",errno=\"ENOMEM\",cause=\"migrate_busy\"} 0",
            "# TYPE pinwatch_migrate_duration_seconds histogram",
            "pinwatch_migrate_duration_seconds_bucket{le=\"+Inf\"} 0",
            "pinwatch_migrate_duration_seconds_count 0",
            "pinwatch_kernel_info{release=\"6.12 \\\"x\\\"\\\\\\n\",era=\"folios\"} 1",
            "pinwatch_pins_in_flight 0",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} in {text}");
        }
        assert!(!text.contains("TYPE pinwatch_pins_total"));
    }

    #[test]
    fn numbers_as_the_standard_writes_them() {
        let edges = [0.5, 1.0, 5.12e-7, f64::INFINITY].map(|edge| Edge(edge).to_string());
        assert_eq!(edges, ["0.5", "1.0", "5.12e-7", "+Inf"]);
        let numbers = [3.0, 0.25, f64::INFINITY, f64::NEG_INFINITY].map(|n| Number(n).to_string());
        assert_eq!(numbers, ["3", "0.25", "+Inf", "-Inf"]);
    }
}
