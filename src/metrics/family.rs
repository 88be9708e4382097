//! Metric families in the form of the Prometheus encoder.

use prometheus::proto::{
    Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType,
};

use super::histogram::{BOUNDS, HistogramSnapshot};

/// The series of one metric, all with the same labels.
pub(super) struct Family<const LABELS: usize> {
    family: MetricFamily,
    labels: [&'static str; LABELS],
}

impl<const LABELS: usize> Family<LABELS> {
    /// A counter; `name` ends in `_total`.
    pub(super) fn counter(name: &str, help: &str, labels: [&'static str; LABELS]) -> Self {
        Family::new(MetricType::COUNTER, name, help, labels)
    }

    /// A gauge.
    pub(super) fn gauge(name: &str, help: &str, labels: [&'static str; LABELS]) -> Self {
        Family::new(MetricType::GAUGE, name, help, labels)
    }

    /// A histogram of durations; `name` ends in `_seconds`.
    pub(super) fn histogram(name: &str, help: &str, labels: [&'static str; LABELS]) -> Self {
        Family::new(MetricType::HISTOGRAM, name, help, labels)
    }

    fn new(kind: MetricType, name: &str, help: &str, labels: [&'static str; LABELS]) -> Self {
        let mut family = MetricFamily::default();
        family.set_name(name.to_owned());
        family.set_help(help.to_owned());
        family.set_field_type(kind);
        Family { family, labels }
    }

    /// Adds a series to a counter or a gauge.
    pub(super) fn put(&mut self, values: [&str; LABELS], value: f64) {
        let mut metric = self.metric(values);
        match self.family.get_field_type() {
            MetricType::COUNTER => {
                let mut counter = Counter::default();
                counter.set_value(value);
                metric.set_counter(counter);
            }
            _ => {
                let mut gauge = Gauge::default();
                gauge.set_value(value);
                metric.set_gauge(gauge);
            }
        }
        self.family.mut_metric().push(metric);
    }

    /// Adds a series to a histogram.
    pub(super) fn put_durations(&mut self, values: [&str; LABELS], durations: &HistogramSnapshot) {
        let mut below = 0;
        let buckets = BOUNDS
            .iter()
            .zip(durations.buckets())
            .map(|(bound, count)| {
                below += count;
                let mut bucket = Bucket::default();
                bucket.set_upper_bound(bound.as_secs_f64());
                bucket.set_cumulative_count(below);
                bucket
            });
        let mut histogram = Histogram::default();
        histogram.set_bucket(buckets.collect());
        histogram.set_sample_count(durations.count());
        histogram.set_sample_sum(durations.sum().as_secs_f64());
        let mut metric = self.metric(values);
        metric.set_histogram(histogram);
        self.family.mut_metric().push(metric);
    }

    fn metric(&self, values: [&str; LABELS]) -> Metric {
        let pairs = self.labels.iter().zip(values).map(|(name, value)| {
            let mut pair = LabelPair::default();
            pair.set_name((*name).to_owned());
            pair.set_value(value.to_owned());
            pair
        });
        Metric::from_label(pairs.collect())
    }
}

impl<const LABELS: usize> From<Family<LABELS>> for MetricFamily {
    fn from(family: Family<LABELS>) -> Self {
        family.family
    }
}
