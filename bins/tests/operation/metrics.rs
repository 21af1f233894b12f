//! The Prometheus text format, read strictly.

use std::collections::{BTreeMap, BTreeSet};

type Labels = BTreeMap<String, String>;

/// One answer to `/metrics`.
pub struct Scrape {
    samples: BTreeMap<(String, Labels), f64>,
    families: BTreeMap<String, String>,
}

impl Scrape {
    /// Every sample must be of a family whose type is told, and there once.
    pub fn parse(text: &str) -> Self {
        let mut scrape = Self { samples: BTreeMap::new(), families: BTreeMap::new() };
        for line in text.lines().filter(|line| !line.is_empty()) {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, form) = rest.split_once(' ').unwrap();
                assert!(matches!(form, "counter" | "gauge" | "histogram"), "{line}");
                let known = scrape.families.insert(name.into(), form.into());
                assert!(known.is_none(), "the family is there twice: {line}");
            } else if !line.starts_with("# HELP ") {
                scrape.sample(line);
            }
        }
        scrape
    }

    fn sample(&mut self, line: &str) {
        let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no sample: {line}"));
        let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
        let labels = labels.strip_suffix('}').unwrap_or_else(|| panic!("no sample: {line}"));
        let pairs = labels.split("\",").filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once("=\"").unwrap_or_else(|| panic!("no label: {line}"));
            (name.to_owned(), value.trim_end_matches('"').to_owned())
        });
        let parts = ["_bucket", "_sum", "_count"].iter().find_map(|part| name.strip_suffix(part));
        let family = parts.filter(|family| self.families.contains_key(*family)).unwrap_or(name);
        assert!(self.families.contains_key(family), "no type is told: {line}");
        let known = self.samples.insert((name.into(), pairs.collect()), value.parse().unwrap());
        assert!(known.is_none(), "the series is there twice: {line}");
    }

    /// The value of the series with these labels and maybe more.
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let fits = |found: &Labels| labels.iter().all(|(name, value)| found.get(*name).is_some_and(|it| it == value));
        self.samples.iter().find(|((found, at), _)| found == name && fits(at)).map(|(_, value)| *value)
    }

    /// The values of one label.
    pub fn labels(&self, name: &str, label: &str) -> BTreeSet<&str> {
        let of = self.samples.keys().filter(|(found, _)| found == name);
        of.filter_map(|(_, labels)| labels.get(label).map(String::as_str)).collect()
    }

    /// These families are there, each with a sample.
    pub fn promises(&self, names: &[&str]) {
        for name in names {
            let count = format!("{name}_count");
            let is_there = self.samples.keys().any(|(found, _)| found == name || *found == count);
            assert!(is_there, "{name} is missing");
        }
    }
}
