//! What was measured, beside what was aimed at.

/// One row: a figure with its spread.
struct Row {
    name: String,
    unit: &'static str,
    samples: Vec<f64>,
    aim: Option<f64>,
}

/// The table.
#[derive(Default)]
pub struct Report {
    rows: Vec<Row>,
}

impl Report {
    /// Adds a figure. The median is what is compared with the aim.
    pub fn add(&mut self, name: impl Into<String>, unit: &'static str, aim: Option<f64>, samples: Vec<f64>) {
        let row = Row { name: name.into(), unit, samples, aim };
        eprintln!("  measured {}", row.line());
        self.rows.push(row);
    }

    /// Prints all rows.
    pub fn print(&self) {
        println!("{:<44} {:>10} {:>10} {:>10} {:>8} {:>6}", "figure", "median", "min", "max", "aim", "unit");
        self.rows.iter().for_each(|row| println!("{}", row.line()));
    }
}

impl Row {
    fn line(&self) -> String {
        let mut sorted = self.samples.clone();
        sorted.sort_by(f64::total_cmp);
        let at = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
        let median = at(sorted.len() / 2);
        let aim = self.aim.map_or_else(|| "-".to_owned(), |aim| format!("{aim}"));
        let verdict = match self.aim {
            Some(aim) if median <= aim => "met",
            Some(_) => "missed",
            None => "",
        };
        let (low, high) = (at(0), at(sorted.len().saturating_sub(1)));
        format!("{:<44} {median:>10.2} {low:>10.2} {high:>10.2} {aim:>8} {:>6} {verdict}", self.name, self.unit)
    }
}
