//! Figures that programs publish: histograms, and samples in the Prometheus text format.

use std::{
    fmt::{Display, Write as _},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// The bounds in seconds that Prometheus clients take when nobody says otherwise.
pub const DEFAULT_BOUNDS: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// How often a duration was at most so long. Shared by reference; observing takes two additions.
#[derive(Debug)]
pub struct Histogram {
    /// Upper bounds in seconds, ascending.
    bounds: &'static [f64],
    /// Invariant: one more than there are bounds; the last one counts what is above all of them.
    buckets: Box<[AtomicU64]>,
    /// In nanoseconds for durations, in bytes for sizes.
    sum: AtomicU64,
    /// How many of what is summed are one of what is shown.
    per_unit: f64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self::new(DEFAULT_BOUNDS)
    }
}

impl Histogram {
    /// An empty one of durations with these upper bounds in seconds, ascending.
    pub fn new(bounds: &'static [f64]) -> Self {
        let buckets = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self { bounds, buckets, sum: AtomicU64::new(0), per_unit: 1e9 }
    }

    /// An empty one of sizes with these upper bounds in bytes, ascending.
    pub fn of_sizes(bounds: &'static [f64]) -> Self {
        Self { per_unit: 1.0, ..Self::new(bounds) }
    }

    /// Counts one duration.
    pub fn observe(&self, duration: Duration) {
        self.add(duration.as_secs_f64(), u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Counts one size, in one of [`Self::of_sizes`].
    pub fn observe_size(&self, bytes: u64) {
        self.add(bytes as f64, bytes);
    }

    fn add(&self, value: f64, summed: u64) {
        let bucket = self.bounds.iter().position(|bound| value <= *bound).unwrap_or(self.bounds.len());
        self.buckets[bucket].fetch_add(1, Relaxed);
        self.sum.fetch_add(summed, Relaxed);
    }

    /// How many durations were counted.
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|bucket| bucket.load(Relaxed)).sum()
    }
}

/// Samples in the Prometheus text format, family by family.
#[derive(Debug, Default)]
pub struct Samples(String);

impl Samples {
    /// Begins a family; `form` is `counter`, `gauge` or `histogram`.
    pub fn family(&mut self, name: &str, form: &str, help: &str) {
        self.line(format_args!("# HELP {name} {help}"));
        self.line(format_args!("# TYPE {name} {form}"));
    }

    /// One sample of the family begun last; `labels` are names and values.
    pub fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        let labels = in_braces(labels.iter().copied());
        self.line(format_args!("{name}{labels} {value}"));
    }

    /// A family of a single sample without labels.
    pub fn single(&mut self, name: &str, form: &str, help: &str, value: impl Display) {
        self.family(name, form, help);
        self.sample(name, &[], value);
    }

    /// The samples of one histogram of the family begun last.
    pub fn histogram(&mut self, name: &str, labels: &[(&str, &str)], histogram: &Histogram) {
        let mut count = 0;
        for (at, bucket) in histogram.buckets.iter().enumerate() {
            count += bucket.load(Relaxed);
            let bound = histogram.bounds.get(at).map_or_else(|| "+Inf".to_owned(), f64::to_string);
            let labels = in_braces(labels.iter().copied().chain([("le", bound.as_str())]));
            self.line(format_args!("{name}_bucket{labels} {count}"));
        }
        let sum = histogram.sum.load(Relaxed) as f64 / histogram.per_unit;
        let labels = in_braces(labels.iter().copied());
        self.line(format_args!("{name}_sum{labels} {sum}"));
        self.line(format_args!("{name}_count{labels} {count}"));
    }

    /// The text.
    pub fn into_text(self) -> String {
        self.0
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Invariant: writing to a string does not fail.
        let _ = writeln!(self.0, "{line}");
    }
}

fn in_braces<'a>(labels: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let escaped = |value: &str| value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let pairs: Vec<String> = labels.map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
    if pairs.is_empty() { String::new() } else { format!("{{{}}}", pairs.join(",")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_cumulative_and_labels_escaped() {
        let histogram = Histogram::new(&[0.1, 1.0]);
        for millis in [50, 100, 700, 5000] {
            histogram.observe(Duration::from_millis(millis));
        }
        let mut samples = Samples::default();
        samples.family("took_seconds", "histogram", "How long it took.");
        samples.histogram("took_seconds", &[("why", "a \"b\"")], &histogram);
        let expected = [
            "# HELP took_seconds How long it took.",
            "# TYPE took_seconds histogram",
            r#"took_seconds_bucket{why="a \"b\"",le="0.1"} 2"#,
            r#"took_seconds_bucket{why="a \"b\"",le="1"} 3"#,
            r#"took_seconds_bucket{why="a \"b\"",le="+Inf"} 4"#,
            r#"took_seconds_sum{why="a \"b\""} 5.85"#,
            r#"took_seconds_count{why="a \"b\""} 4"#,
            "",
        ];
        assert_eq!(samples.into_text(), expected.join("\n"));
        assert_eq!(histogram.count(), 4);
    }

    #[test]
    fn sizes_are_summed_in_bytes() {
        let sizes = Histogram::of_sizes(&[1000.0]);
        [10, 1000, 1001].into_iter().for_each(|bytes| sizes.observe_size(bytes));
        let mut samples = Samples::default();
        samples.histogram("sizes", &[], &sizes);
        let expected = "sizes_bucket{le=\"1000\"} 2\nsizes_bucket{le=\"+Inf\"} 3\nsizes_sum 2011\nsizes_count 3\n";
        assert_eq!(samples.into_text(), expected);
    }
}
