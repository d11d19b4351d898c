//! Samples of one metric, in the types of the `prometheus` crate.

#![forbid(unsafe_code)]

use pinwatch_common::histogram::{DURATION_BUCKETS, PASS_BUCKETS};
use pinwatch_common::hold::{HOLD_BUCKETS, HOLD_EDGES_NS};
use prometheus::proto;

use crate::model::state::{duration_edges, pass_edges};

/// Metric type in the sense of Prometheus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// Samples of one metric, collected by the function in its row of `METRICS`.
pub struct Samples {
    pub kind: Kind,
    pub metrics: Vec<proto::Metric>,
}

impl Samples {
    /// Adds a counter or gauge with an integer value.
    pub fn value(&mut self, labels: &[(&str, &str)], value: u64) {
        self.float(labels, value as f64);
    }

    /// Adds a counter or gauge.
    pub fn float(&mut self, labels: &[(&str, &str)], value: f64) {
        let mut metric = labelled(labels);
        if self.kind == Kind::Counter {
            let mut counter = proto::Counter::default();
            counter.set_value(value);
            metric.set_counter(counter);
        } else {
            let mut gauge = proto::Gauge::default();
            gauge.set_value(value);
            metric.set_gauge(gauge);
        }
        self.metrics.push(metric);
    }

    /// Adds a histogram of durations. `sum_ns` is in nanoseconds, the sample in seconds.
    pub fn durations(
        &mut self,
        labels: &[(&str, &str)],
        sum_ns: u64,
        buckets: &[u64; DURATION_BUCKETS],
    ) {
        self.histogram(
            labels,
            sum_ns as f64 / 1e9,
            buckets.iter().sum(),
            duration_edges(buckets),
        );
    }

    /// Adds a histogram of holds. `sum_ns` is in nanoseconds, the sample in seconds.
    pub fn holds(&mut self, labels: &[(&str, &str)], sum_ns: u64, buckets: &[u64; HOLD_BUCKETS]) {
        let mut below = 0;
        let edges = HOLD_EDGES_NS.iter().zip(buckets).map(|(edge, count)| {
            below += count;
            (*edge as f64 / 1e9, below)
        });
        self.histogram(labels, sum_ns as f64 / 1e9, buckets.iter().sum(), edges);
    }

    /// Adds a histogram of passes.
    pub fn passes(&mut self, labels: &[(&str, &str)], sum: u64, buckets: &[u64; PASS_BUCKETS]) {
        self.histogram(
            labels,
            sum as f64,
            buckets.iter().sum(),
            pass_edges(buckets),
        );
    }

    fn histogram(
        &mut self,
        labels: &[(&str, &str)],
        sum: f64,
        count: u64,
        edges: impl Iterator<Item = (f64, u64)>,
    ) {
        let mut histogram = proto::Histogram::default();
        histogram.set_sample_sum(sum);
        histogram.set_sample_count(count);
        let buckets = edges.map(|(edge, below)| {
            let mut bucket = proto::Bucket::default();
            bucket.set_upper_bound(edge);
            bucket.set_cumulative_count(below);
            bucket
        });
        histogram.set_bucket(buckets.collect());
        let mut metric = labelled(labels);
        metric.set_histogram(histogram);
        self.metrics.push(metric);
    }
}

fn labelled(labels: &[(&str, &str)]) -> proto::Metric {
    let pairs = labels.iter().map(|(name, value)| {
        let mut pair = proto::LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value((*value).to_owned());
        pair
    });
    let mut metric = proto::Metric::default();
    metric.set_label(pairs.collect());
    metric
}
