//! The text of a scrape in its two formats: Prometheus 0.0.4, and OpenMetrics 1.0 for clients that prefer it.
//!
//! The `prometheus` crate writes only the first, from an object per sample and label, and formats labels and edges of
//! a histogram again for each bucket.

#![forbid(unsafe_code)]

use std::fmt::Write as _;

use prometheus::TEXT_FORMAT;
use prometheus::proto::MetricFamily;

use super::samples::{Kind, Sample};
use super::scrape::for_each_family;
use crate::model::state::State;

/// Text format of a scrape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextFormat {
    /// As the encoder of the `prometheus` crate writes it.
    Prometheus,
    OpenMetrics,
}

impl TextFormat {
    /// The format for an `Accept` header: OpenMetrics 1.0 if the client prefers it, or gives both the same
    /// quality.
    #[must_use]
    pub fn accepted(accept: &str) -> Self {
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
        if open > 0.0 && open >= text {
            Self::OpenMetrics
        } else {
            Self::Prometheus
        }
    }

    /// Media type of the text.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => TEXT_FORMAT,
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// Text of a scrape: families of a state and of the agent itself, sorted by name. `state` is `None` until the hooks
/// are attached.
///
/// The last line of OpenMetrics text, `# EOF`, shows that it is complete.
#[must_use]
pub fn encode(state: Option<&State>, agent: &[MetricFamily], format: TextFormat) -> String {
    let mut text = Text {
        format,
        out: String::new(),
        name: "",
        labels: String::new(),
        edges: Vec::new(),
    };
    for_each_family(state, agent, |name, help, kind, samples| {
        text.family(name, help, kind);
        samples.for_each_sorted(|sample| text.sample(kind, sample));
    });
    if format == TextFormat::OpenMetrics {
        text.out.push_str("# EOF\n");
    }
    text.out
}

/// Text so far, and what its next lines have in common.
struct Text<'a> {
    format: TextFormat,
    out: String,
    /// Name of the family.
    name: &'a str,
    /// Labels of the sample, without braces.
    labels: String,
    /// Upper edges of the family's buckets, each with its text.
    edges: Vec<(f64, String)>,
}

impl<'a> Text<'a> {
    /// Begins a family.
    fn family(&mut self, name: &'a str, help: &str, kind: Kind) {
        let text = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        self.name = name;
        self.edges.clear();
        let out = &mut self.out;
        match self.format {
            TextFormat::Prometheus => {
                push(out, &["# HELP ", name, " "]);
                push_escaped(out, help, false);
                push(out, &["\n# TYPE ", name, " ", text, "\n"]);
            }
            TextFormat::OpenMetrics => {
                if kind == Kind::Counter {
                    self.name = name.strip_suffix("_total").unwrap_or(name);
                }
                let name = self.name;
                push(out, &["# TYPE ", name, " ", text, "\n# HELP ", name, " "]);
                push_escaped(out, help, true);
                out.push('\n');
            }
        }
    }

    fn sample(&mut self, kind: Kind, sample: Sample<'_>) {
        self.labels.clear();
        for (name, value) in sample.labels() {
            let comma = if self.labels.is_empty() { "" } else { "," };
            push(&mut self.labels, &[comma, name, "=\""]);
            push_escaped(&mut self.labels, value, true);
            self.labels.push('"');
        }
        match (kind, self.format) {
            (Kind::Histogram, _) => self.histogram(sample),
            (Kind::Counter, TextFormat::OpenMetrics) => self.line("_total", None, sample.value),
            (Kind::Counter | Kind::Gauge, _) => self.line("", None, sample.value),
        }
    }

    fn histogram(&mut self, sample: Sample<'_>) {
        let buckets = sample.buckets.iter();
        let finite = buckets.filter(|(edge, _)| edge.is_finite());
        for (n, &(edge, below)) in finite.enumerate() {
            if self.edges.get(n).is_none_or(|(known, _)| *known != edge) {
                self.edges.truncate(n);
                self.edges.push((edge, self.edge(edge)));
            }
            self.line("_bucket", Some(n), below as f64);
        }
        let count = sample.count as f64;
        self.line("_bucket", Some(usize::MAX), count);
        self.line("_sum", None, sample.value);
        self.line("_count", None, count);
    }

    /// Text of a bucket's upper edge. OpenMetrics requires a decimal point, also in a whole number.
    fn edge(&self, edge: f64) -> String {
        match self.format {
            TextFormat::Prometheus => format!("{edge}"),
            TextFormat::OpenMetrics => format!("{edge:?}"),
        }
    }

    /// Writes a line. `bucket` is the index of its edge; one beyond all edges is infinity.
    fn line(&mut self, suffix: &str, bucket: Option<usize>, value: f64) {
        let Self {
            out,
            name,
            labels,
            edges,
            format,
        } = self;
        push(out, &[name, suffix]);
        let comma = if labels.is_empty() { "" } else { "," };
        if let Some(n) = bucket {
            let edge = edges.get(n).map_or("+Inf", |(_, text)| text);
            push(out, &["{", labels, comma, "le=\"", edge, "\"}"]);
        } else if !labels.is_empty() {
            push(out, &["{", labels, "}"]);
        }
        out.push(' ');
        push_number(out, value, *format);
        out.push('\n');
    }
}

fn push(out: &mut String, parts: &[&str]) {
    for part in parts {
        out.push_str(part);
    }
}

/// Whole numbers below this are exact as `f64`, and their text has no exponent.
const EXACT: f64 = (1_u64 << f64::MANTISSA_DIGITS) as f64;

fn push_number(out: &mut String, value: f64, format: TextFormat) {
    let whole = value as i64;
    let is_whole = whole as f64 == value && value.abs() < EXACT;
    if is_whole && !(whole == 0 && value.is_sign_negative()) {
        out.push_str(itoa::Buffer::new().format(whole));
    } else if value.is_infinite() && format == TextFormat::OpenMetrics {
        // The standard's spelling.
        out.push_str(if value > 0.0 { "+Inf" } else { "-Inf" });
    } else {
        // Writing to a String does not fail.
        let _ = write!(out, "{value}");
    }
}

/// Appends a text with a backslash before each backslash, newline and, if they could end the text, quotation mark, so
/// that no label or HELP text can break the format.
fn push_escaped(out: &mut String, text: &str, quotes: bool) {
    // A byte of ASCII is never a part of another character.
    let is_special = |byte| matches!(byte, b'\\' | b'\n') || (byte == b'"' && quotes);
    let mut rest = text;
    while let Some(at) = rest.bytes().position(is_special) {
        let (before, from) = rest.split_at(at);
        let (one, after) = from.split_at(1);
        push(out, &[before, "\\", if one == "\n" { "n" } else { one }]);
        rest = after;
    }
    out.push_str(rest);
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use prometheus::core::Collector;
    use prometheus::{Counter, Gauge, Histogram, HistogramOpts, Opts, Registry, TextEncoder};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn accept_headers_that_prefer_openmetrics() {
        // The first two are the headers of Prometheus 2.42 and 3.
        for accept in [
            "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,/;q=0.1",
            "Application/OpenMetrics-Text; version=\"1.0.0\"; Q=1",
            "application/openmetrics-text",
        ] {
            assert_eq!(
                TextFormat::accepted(accept),
                TextFormat::OpenMetrics,
                "{accept}"
            );
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
            assert_eq!(
                TextFormat::accepted(accept),
                TextFormat::Prometheus,
                "{accept}"
            );
        }
    }

    #[test]
    fn a_state_without_pins() {
        let state = State::empty("6.12 \"x\"\\\n", "folios");
        let text = encode(Some(&state), &[], TextFormat::OpenMetrics);
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
    fn numbers_of_openmetrics() {
        let mut text = String::new();
        let numbers = [3.0, 0.25, f64::INFINITY, f64::NEG_INFINITY, -0.0];
        for number in numbers {
            push_number(&mut text, number, TextFormat::OpenMetrics);
            text.push(' ');
        }
        assert_eq!(text, "3 0.25 +Inf -Inf -0 ");
        let registry = Registry::new();
        let edges = HistogramOpts::new("x", "y").buckets(vec![5.12e-7, 0.5, 1.0]);
        let histogram = Histogram::with_opts(edges).unwrap();
        registry.register(Box::new(histogram)).unwrap();
        let text = encode(None, &registry.gather(), TextFormat::OpenMetrics);
        for edge in ["5.12e-7", "0.5", "1.0", "+Inf"] {
            assert!(
                text.contains(&format!("x_bucket{{le=\"{edge}\"}} 0\n")),
                "{text}"
            );
        }
    }

    proptest! {
        /// The crate's encoder is the standard for its format.
        #[test]
        fn prometheus_text_equals_that_of_the_crate(
            names in prop::collection::vec("[a-z\\\\\"\n,=}é]{0,9}", 0..4),
            edges in prop::collection::btree_set(1..1_000_000_u32, 0..5),
            values in prop::collection::vec(prop::num::f64::NORMAL | prop::num::f64::ZERO, 1..9),
            whole in any::<u32>(),
        ) {
            let registry = Registry::new();
            let labels = ["a", "b", "c"].iter().zip(&names);
            let labels = labels.map(|(label, name)| ((*label).to_owned(), name.clone()));
            let labels: HashMap<_, _> = labels.collect();
            let help = names.concat() + "x";
            let of = |name: &str| Opts::new(name, &help).const_labels(labels.clone());
            let gauge = Gauge::with_opts(of("g")).unwrap();
            gauge.set(values[0]);
            let counter = Counter::with_opts(of("c_total")).unwrap();
            counter.inc_by(whole.into());
            let edges = edges.iter().map(|edge| f64::from(*edge) / 1e3).collect();
            let opts = HistogramOpts { common_opts: of("h"), buckets: edges };
            let histogram = Histogram::with_opts(opts).unwrap();
            values.iter().for_each(|value| histogram.observe(*value));
            for metric in [Box::new(gauge) as Box<dyn Collector>, Box::new(counter), Box::new(histogram)] {
                registry.register(metric).unwrap();
            }
            let families = registry.gather();
            let expected = TextEncoder::new().encode_to_string(&families).unwrap();
            prop_assert_eq!(encode(None, &families, TextFormat::Prometheus), expected);
        }
    }
}
