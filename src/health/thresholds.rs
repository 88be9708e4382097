//! When results in a row change a verdict.

use crate::pool::Verdict;

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
    pub(super) fn observe(&mut self, success: bool) -> Option<bool> {
        match &mut self.verdict {
            None => {}
            Some(verdict) if verdict.healthy == success => {
                verdict.against = 0;
                return None;
            }
            Some(verdict) => {
                // What came with a handover may be any number.
                verdict.against = verdict.against.saturating_add(1);
                let needed = if verdict.healthy {
                    self.fall
                } else {
                    self.rise
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
        let change = |result| match thresholds.observe(result == '+') {
            None => '.',
            Some(true) => '+',
            Some(false) => '-',
        };
        results.chars().map(change).collect()
    }

    #[test]
    fn a_carried_row_of_any_length_is_counted_on() {
        assert_eq!(changes(Thresholds::new(2, 3, up(usize::MAX)), "-+"), "-.");
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
    fn a_flapping_host_below_the_thresholds_never_changes() {
        assert_eq!(
            changes(Thresholds::new(2, 3, up(0)), "-+--+-+--+"),
            ".........."
        );
    }
}
