//! Samples of one metric family, in memory that the next family uses again.

#![forbid(unsafe_code)]

use std::cmp::Ordering;

use pinwatch_common::histogram::{DURATION_BUCKETS, PASS_BUCKETS};
use pinwatch_common::hold::{HOLD_BUCKETS, HOLD_EDGES_NS};
use prometheus::proto::{MetricFamily, MetricType};

use crate::model::state::{duration_edges, pass_edges};

/// Metric type in the sense of Prometheus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// Samples of one metric, collected by the function in its row of `METRICS`.
#[derive(Debug, Default)]
pub struct Samples<'a> {
    /// Values of all labels, one after the other.
    values: String,
    /// Labels of all samples: each name, and the end of its value in `values`.
    labels: Vec<(&'a str, usize)>,
    /// Buckets of all histograms: each upper edge, and the count up to it.
    buckets: Vec<(f64, u64)>,
    samples: Vec<Entry>,
}

/// A sample. Its labels and buckets begin where those of the sample before it end.
#[derive(Clone, Copy, Debug)]
struct Entry {
    labels_end: usize,
    buckets_end: usize,
    /// Value of a counter or gauge, sum of a histogram.
    value: f64,
    /// Count of a histogram.
    count: u64,
}

/// A sample of [`Samples`].
#[derive(Clone, Copy, Debug)]
pub struct Sample<'s> {
    /// Labels: each name, and the end of its value in `values`.
    labels: &'s [(&'s str, usize)],
    /// Values of all labels of the family.
    values: &'s str,
    /// Where the first value begins.
    values_start: usize,
    /// Value of a counter or gauge, sum of a histogram.
    pub value: f64,
    /// Count of a histogram.
    pub count: u64,
    /// Buckets of a histogram: each upper edge, and the count up to it.
    pub buckets: &'s [(f64, u64)],
}

impl<'a> Samples<'a> {
    /// Forgets all samples, and keeps their memory.
    pub fn clear(&mut self) {
        self.values.clear();
        self.labels.clear();
        self.buckets.clear();
        self.samples.clear();
    }

    pub fn is_empty(&self) -> bool {
        self.samples.is_empty()
    }

    /// Adds a counter or gauge with an integer value.
    pub fn value(&mut self, labels: &[(&'a str, &str)], value: u64) {
        self.float(labels, value as f64);
    }

    /// Adds a counter or gauge.
    pub fn float(&mut self, labels: &[(&'a str, &str)], value: f64) {
        self.add(labels.iter().copied(), value, 0, []);
    }

    /// Adds a histogram of durations. `sum_ns` is in nanoseconds, the sample in seconds.
    pub fn durations(
        &mut self,
        labels: &[(&'a str, &str)],
        sum_ns: u64,
        buckets: &[u64; DURATION_BUCKETS],
    ) {
        let labels = labels.iter().copied();
        let (sum, count) = (sum_ns as f64 / 1e9, buckets.iter().sum());
        self.add(labels, sum, count, duration_edges(buckets));
    }

    /// Adds a histogram of holds. `sum_ns` is in nanoseconds, the sample in seconds.
    pub fn holds(
        &mut self,
        labels: &[(&'a str, &str)],
        sum_ns: u64,
        buckets: &[u64; HOLD_BUCKETS],
    ) {
        let mut below = 0;
        let edges = HOLD_EDGES_NS.iter().zip(buckets).map(|(edge, count)| {
            below += count;
            (*edge as f64 / 1e9, below)
        });
        let labels = labels.iter().copied();
        self.add(labels, sum_ns as f64 / 1e9, buckets.iter().sum(), edges);
    }

    /// Adds a histogram of passes.
    pub fn passes(&mut self, labels: &[(&'a str, &str)], sum: u64, buckets: &[u64; PASS_BUCKETS]) {
        let labels = labels.iter().copied();
        let count = buckets.iter().sum();
        self.add(labels, sum as f64, count, pass_edges(buckets));
    }

    /// Adds the samples of a family in the types of the `prometheus` crate. Returns its kind; `None`, and no
    /// samples, for a type that no metric has.
    pub fn copy(&mut self, family: &'a MetricFamily) -> Option<Kind> {
        let kind = match family.get_field_type() {
            MetricType::COUNTER => Kind::Counter,
            MetricType::GAUGE => Kind::Gauge,
            MetricType::HISTOGRAM => Kind::Histogram,
            MetricType::SUMMARY | MetricType::UNTYPED => return None,
        };
        for metric in family.get_metric() {
            let labels = metric.get_label().iter();
            let labels = labels.map(|pair| (pair.name(), pair.value()));
            match kind {
                Kind::Counter => self.add(labels, metric.get_counter().get_value(), 0, []),
                Kind::Gauge => self.add(labels, metric.get_gauge().get_value(), 0, []),
                Kind::Histogram => {
                    let histogram = metric.get_histogram();
                    let (sum, count) = (histogram.get_sample_sum(), histogram.get_sample_count());
                    let buckets = histogram.get_bucket().iter();
                    let buckets =
                        buckets.map(|bucket| (bucket.upper_bound(), bucket.cumulative_count()));
                    self.add(labels, sum, count, buckets);
                }
            }
        }
        Some(kind)
    }

    fn add<'v>(
        &mut self,
        labels: impl Iterator<Item = (&'a str, &'v str)>,
        value: f64,
        count: u64,
        buckets: impl IntoIterator<Item = (f64, u64)>,
    ) {
        for (name, value) in labels {
            self.values.push_str(value);
            self.labels.push((name, self.values.len()));
        }
        self.buckets.extend(buckets);
        self.samples.push(Entry {
            labels_end: self.labels.len(),
            buckets_end: self.buckets.len(),
            value,
            count,
        });
    }

    /// Calls `each` for every sample, in the order of a `prometheus::Registry`: by the number of labels, then by
    /// their values.
    pub fn for_each_sorted<'s>(&'s self, mut each: impl FnMut(Sample<'s>)) {
        // Families with many samples are collected in this order.
        if self
            .iter()
            .is_sorted_by(|one, next| one.compare(next).is_le())
        {
            self.iter().for_each(each);
            return;
        }
        let mut sorted: Vec<_> = self.iter().collect();
        sorted.sort_by(Sample::compare);
        sorted.into_iter().for_each(&mut each);
    }

    /// All samples, in the order in which they were added.
    pub fn iter(&self) -> impl Iterator<Item = Sample<'_>> {
        (0..self.samples.len()).map(|n| self.sample(n))
    }

    fn sample(&self, n: usize) -> Sample<'_> {
        let Entry {
            labels_end,
            buckets_end,
            value,
            count,
        } = self.samples[n];
        let before = n.checked_sub(1).map(|before| self.samples[before]);
        let (labels, buckets) =
            before.map_or((0, 0), |entry| (entry.labels_end, entry.buckets_end));
        Sample {
            labels: &self.labels[labels..labels_end],
            values: &self.values,
            values_start: labels
                .checked_sub(1)
                .map_or(0, |label| self.labels[label].1),
            value,
            count,
            buckets: &self.buckets[buckets..buckets_end],
        }
    }
}

impl<'s> Sample<'s> {
    /// Names and values.
    pub fn labels(&self) -> impl Iterator<Item = (&'s str, &'s str)> {
        let (values, mut start) = (self.values, self.values_start);
        self.labels.iter().map(move |(name, end)| {
            let value = &values[start..*end];
            start = *end;
            (*name, value)
        })
    }

    fn compare(&self, other: &Self) -> Ordering {
        let [values, others] = [self, other].map(|sample| sample.labels().map(|(_, value)| value));
        let by_number = self.labels.len().cmp(&other.labels.len());
        by_number.then_with(|| values.cmp(others))
    }
}
