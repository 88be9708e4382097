//! When results in a row change a verdict.

use crate::pool::Verdict;

/// What a check says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Evidence {
    /// The host works.
    Good,
    /// It does not.
    Bad,
    /// It has not answered in time. Once is never enough to take a host out: those that are slow together are found out
    /// only when each of them has been checked.
    Weak,
    /// Nothing.
    None,
}

/// Results that do not come in time in a row that count at least.
const WEAK_FALL: usize = 2;

/// Counts results in a row against the thresholds of one host.
#[derive(Debug)]
pub(super) struct Thresholds {
    rise: usize,
    fall: usize,
    /// `None` before the first result.
    verdict: Option<Verdict>,
}

impl Thresholds {
    pub(super) fn new(rise: usize, fall: usize, verdict: Option<Verdict>) -> Self {
        Thresholds {
            rise,
            fall,
            verdict,
        }
    }

    /// What has been found so far.
    pub(super) fn verdict(&self) -> Option<Verdict> {
        self.verdict
    }

    /// Takes in a result. Returns the new verdict if it changes; the first result of all decides alone.
    pub(super) fn observe(&mut self, evidence: Evidence) -> Option<bool> {
        let success = match evidence {
            Evidence::Good => true,
            Evidence::Bad | Evidence::Weak => false,
            Evidence::None => return None,
        };
        match &mut self.verdict {
            None => {}
            Some(verdict) if verdict.healthy == success => {
                verdict.against = 0;
                return None;
            }
            Some(verdict) => {
                verdict.against += 1;
                let needed = match (verdict.healthy, evidence) {
                    (true, Evidence::Weak) => self.fall.max(WEAK_FALL),
                    (true, _) => self.fall,
                    (false, _) => self.rise,
                };
                if verdict.against < needed {
                    return None;
                }
            }
        }
        self.verdict = Some(Verdict {
            healthy: success,
            against: 0,
        });
        Some(success)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn up(against: usize) -> Option<Verdict> {
        Some(Verdict {
            healthy: true,
            against,
        })
    }

    fn changes(mut thresholds: Thresholds, results: &str) -> String {
        let evidence = |result| match result {
            '+' => Evidence::Good,
            '-' => Evidence::Bad,
            '~' => Evidence::Weak,
            _ => Evidence::None,
        };
        let change = |result| match thresholds.observe(evidence(result)) {
            None => '.',
            Some(true) => '+',
            Some(false) => '-',
        };
        results.chars().map(change).collect()
    }

    #[test]
    fn the_first_result_decides_alone_then_rows_do() {
        assert_eq!(
            changes(Thresholds::new(2, 3, None), "+--+---+-++"),
            "+.....-...+"
        );
        assert_eq!(changes(Thresholds::new(2, 3, None), "-+-++"), "-...+");
    }

    #[test]
    fn a_host_that_starts_up_takes_the_whole_fall() {
        assert_eq!(changes(Thresholds::new(2, 3, up(0)), "+---"), "...-");
    }

    #[test]
    fn a_row_that_began_elsewhere_goes_on() {
        assert_eq!(changes(Thresholds::new(2, 3, up(2)), "-++"), "-.+");
        assert_eq!(changes(Thresholds::new(2, 3, up(2)), "+--"), "...");
    }

    #[test]
    fn what_comes_too_late_counts_from_the_second_on_and_what_says_nothing_never() {
        assert_eq!(changes(Thresholds::new(1, 1, up(0)), "~+~~+"), "...-+");
        assert_eq!(changes(Thresholds::new(1, 1, up(0)), "~-"), ".-");
        assert_eq!(changes(Thresholds::new(2, 3, up(0)), "~~~"), "..-");
        assert_eq!(changes(Thresholds::new(2, 3, up(0)), "-- -"), "...-");
        assert_eq!(changes(Thresholds::new(2, 3, None), "~"), "-");
    }

    #[test]
    fn a_flapping_host_below_the_thresholds_never_changes() {
        assert_eq!(
            changes(Thresholds::new(2, 3, up(0)), "-+--+-+--+"),
            ".........."
        );
    }
}
