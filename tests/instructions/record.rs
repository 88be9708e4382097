//! The recorded figures, and the comparison with measured ones.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;

/// The tolerance: more above the record fails, more below it is worth recording.
const MARGIN: f64 = 0.05;

const RECORD_COMMAND: &str = "`BALLAST_RECORD=1 cargo test --test instructions`";

/// Instructions by scenario, the calibration first, and the compiler of the counted program.
pub(crate) struct Record {
    rustc: String,
    figures: Vec<(String, u64)>,
}

/// The result of a comparison.
#[derive(Debug, PartialEq)]
pub(crate) enum Outcome {
    Within,
    /// A notice, not a failure.
    Note(String),
    /// Built with another optimisation level than the record.
    Incomparable(String),
    Failure(String),
}

impl Record {
    /// Figures of the compiler in use.
    pub(crate) fn now(figures: Vec<(String, u64)>) -> Self {
        let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let output = Command::new(rustc).arg("--version").output();
        let output = output.expect("the compiler can run").stdout;
        Record {
            rustc: String::from_utf8_lossy(&output).trim().to_owned(),
            figures,
        }
    }

    pub(crate) fn read() -> Self {
        let text = std::fs::read_to_string(path()).unwrap_or_else(|error| {
            panic!("{}: {error}; {RECORD_COMMAND} records it", path().display());
        });
        Record::parse(&text).unwrap_or_else(|| {
            panic!(
                "{} cannot be read; {RECORD_COMMAND} records it",
                path().display()
            );
        })
    }

    fn parse(text: &str) -> Option<Self> {
        let value: serde_json::Value = serde_json::from_str(text).ok()?;
        let figures = value.get("instructions")?.as_object()?.iter();
        Some(Record {
            rustc: value.get("rustc")?.as_str()?.to_owned(),
            figures: figures
                .map(|(name, count)| Some((name.clone(), count.as_u64()?)))
                .collect::<Option<_>>()?,
        })
    }

    pub(crate) fn write(&self) {
        let text = self.to_json();
        std::fs::write(path(), &text).expect("the repository can be written");
        print(&format!("recorded in {}:\n{text}", path().display()));
    }

    /// With a line for each figure, in the order of measurement.
    fn to_json(&self) -> String {
        let lines: Vec<String> = self
            .figures
            .iter()
            .map(|(name, count)| format!("    {name:?}: {count}"))
            .collect();
        format!(
            "{{\n  \"rustc\": {:?},\n  \"instructions\": {{\n{}\n  }}\n}}\n",
            self.rustc,
            lines.join(",\n")
        )
    }

    fn count_of(&self, name: &str) -> Option<u64> {
        let mut figures = self.figures.iter();
        figures.find(|figure| figure.0 == name).map(|(_, n)| *n)
    }

    /// A table of this record compared with an older one, and the result.
    pub(crate) fn compare(&self, old: &Record) -> (String, Outcome) {
        let mut table = format!(
            "\n{:<28} {:>9} {:>9} {:>6}\n",
            "instructions", "measured", "recorded", "ratio"
        );
        let (mut above, mut below, mut missing) = (Vec::new(), Vec::new(), Vec::new());
        let mut comparable = true;
        for (name, count) in &self.figures {
            let Some(recorded) = old.count_of(name) else {
                let _ = writeln!(table, "{name:<28} {count:>9} {:>9} {:>6}", "-", "-");
                missing.push(name.as_str());
                continue;
            };
            let ratio = *count as f64 / recorded.max(1) as f64;
            let _ = writeln!(table, "{name:<28} {count:>9} {recorded:>9} {ratio:>6.3}");
            if name == "calibration" {
                comparable = (ratio - 1.0).abs() <= MARGIN;
            } else if ratio > 1.0 + MARGIN {
                above.push(name.as_str());
            } else if ratio < 1.0 - MARGIN {
                below.push(name.as_str());
            }
        }
        let removed = old.figures.iter().map(|(name, _)| name.as_str());
        missing.extend(removed.filter(|name| self.count_of(name).is_none()));
        let outcome = self.outcome(old, comparable, &above, &below, &missing);
        (table, outcome)
    }

    fn outcome(
        &self,
        old: &Record,
        comparable: bool,
        above: &[&str],
        below: &[&str],
        missing: &[&str],
    ) -> Outcome {
        let percent = MARGIN * 100.0;
        if self.rustc != old.rustc {
            return Outcome::Note(format!(
                "WARNING: nothing is checked, as the figures were recorded with {}, and this is {}: {RECORD_COMMAND} records new figures",
                old.rustc, self.rustc
            ));
        }
        if !comparable {
            return Outcome::Incomparable(
                "the tests are built with another optimization level than the recorded figures, as the calibration shows".to_owned(),
            );
        }
        if !missing.is_empty() {
            return Outcome::Failure(format!(
                "measured or recorded, but not both: {}; {RECORD_COMMAND} records new figures",
                missing.join("; ")
            ));
        }
        if !above.is_empty() {
            return Outcome::Failure(format!(
                "more than {percent} % above the recorded figure: {}. If the increase is justified, {RECORD_COMMAND} records new figures; \
                 the commit message then gives the reason",
                above.join("; ")
            ));
        }
        if !below.is_empty() {
            return Outcome::Note(format!(
                "more than {percent} % below the recorded figure: {}. To keep the gain, {RECORD_COMMAND} records new figures",
                below.join("; ")
            ));
        }
        Outcome::Within
    }
}

/// Bypasses the capture of the test harness, so that the figures are in the CI log of a run that passed.
pub(crate) fn print(text: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

fn path() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "benches", "instructions.json"]
        .iter()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(request: u64) -> Record {
        let figures = [("calibration", 400), ("request", request), ("random", 500)];
        Record {
            rustc: "rustc 1.95.0".to_owned(),
            figures: figures.map(|(name, n)| (name.to_owned(), n)).to_vec(),
        }
    }

    /// The result for a request of this many instructions if 100,000 are recorded.
    fn outcome(request: u64) -> Outcome {
        record(request).compare(&record(100_000)).1
    }

    #[test]
    fn up_to_5_percent_more_or_less_pass_and_more_fails() {
        for request in [95_000, 100_000, 105_000] {
            assert_eq!(outcome(request), Outcome::Within, "{request}");
        }
        assert!(
            matches!(outcome(105_001), Outcome::Failure(text) if text.contains("above") && text.contains("request"))
        );
        assert!(matches!(outcome(94_999), Outcome::Note(text) if text.contains(RECORD_COMMAND)));
    }

    #[test]
    fn another_compiler_is_a_warning_and_no_failure() {
        let mut new = record(200_000);
        new.rustc = "rustc 1.96.0".to_owned();
        let (_, outcome) = new.compare(&record(100_000));
        assert!(matches!(outcome, Outcome::Note(text) if text.starts_with("WARNING")));
    }

    #[test]
    fn another_optimization_level_is_not_compared() {
        let mut new = record(200_000);
        new.figures[0].1 = 4_000;
        let (_, outcome) = new.compare(&record(100_000));
        assert!(matches!(outcome, Outcome::Incomparable(_)));
    }

    #[test]
    fn a_figure_on_one_side_only_is_a_failure() {
        let mut less = record(100_000);
        less.figures.pop();
        let failed =
            |(_, outcome)| matches!(outcome, Outcome::Failure(text) if text.contains("random"));
        assert!(failed(less.compare(&record(100_000))));
        assert!(failed(record(100_000).compare(&less)));
    }

    #[test]
    fn a_written_record_can_be_read_and_the_table_lists_it() {
        let old = Record::parse(&record(100_000).to_json()).expect("a record");
        let (table, outcome) = record(103_000).compare(&old);
        assert_eq!(outcome, Outcome::Within);
        let line = table.lines().find(|line| line.starts_with("request"));
        let fields: Vec<&str> = line.expect("a line").split_whitespace().collect();
        assert_eq!(fields, ["request", "103000", "100000", "1.030"]);
    }
}
