//! What was measured, beside what was aimed at.

/// What a figure should be.
#[derive(Clone, Copy)]
pub enum Aim {
    AtMost(f64),
    AtLeast(f64),
    /// There is no aim: a floor, or something to compare with.
    Nothing,
}

/// One row: a figure with its spread.
struct Row {
    name: String,
    unit: &'static str,
    samples: Vec<f64>,
    aim: Aim,
}

/// The table.
#[derive(Default)]
pub struct Report {
    rows: Vec<Row>,
    notes: Vec<String>,
}

impl Report {
    /// Adds a figure. The median is what is compared with the aim.
    pub fn add(&mut self, name: impl Into<String>, unit: &'static str, aim: Aim, samples: Vec<f64>) {
        assert!(!samples.is_empty() && samples.iter().all(|sample| sample.is_finite()), "every figure was measured");
        let row = Row { name: name.into(), unit, samples, aim };
        eprintln!("  measured {}", row.line());
        self.rows.push(row);
    }

    /// Adds a sentence below the table: what was not measured, and why.
    pub fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }

    /// Prints everything.
    pub fn print(&self) {
        println!("{:<52} {:>10} {:>10} {:>10} {:>9} {:>5}", "figure", "median", "min", "max", "aim", "unit");
        self.rows.iter().for_each(|row| println!("{}", row.line()));
        self.notes.iter().for_each(|note| println!("{note}"));
    }
}

impl Row {
    fn line(&self) -> String {
        let mut sorted = self.samples.clone();
        sorted.sort_by(f64::total_cmp);
        let (low, median, high) = (sorted[0], sorted[sorted.len() / 2], sorted[sorted.len() - 1]);
        let (aim, verdict) = match self.aim {
            Aim::AtMost(aim) => (format!("<= {aim}"), verdict(median <= aim)),
            Aim::AtLeast(aim) => (format!(">= {aim}"), verdict(median >= aim)),
            Aim::Nothing => ("-".to_owned(), ""),
        };
        format!("{:<52} {median:>10.2} {low:>10.2} {high:>10.2} {aim:>9} {:>5} {verdict}", self.name, self.unit)
    }
}

fn verdict(is_met: bool) -> &'static str {
    if is_met { "met" } else { "missed" }
}
