//! Counts consecutive results until they change a verdict.

use crate::pool::HealthVerdict;

/// What the result of a check counts as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CheckEvidence {
    /// The host is healthy.
    Good,
    /// The host is unhealthy.
    Bad,
    /// The check timed out. One timeout never makes a host unhealthy: a correlated failure is detected only when each
    /// of the slow hosts has been checked.
    Weak,
    /// The result does not count.
    None,
}

/// The least number of consecutive timeouts that make a host unhealthy.
const MIN_TIMEOUT_FALL: usize = 2;

/// Counts consecutive results against the thresholds of one host.
#[derive(Debug)]
pub(super) struct Thresholds {
    rise: usize,
    fall: usize,
    /// `None` before the first result.
    verdict: Option<HealthVerdict>,
}

impl Thresholds {
    pub(super) fn new(rise: usize, fall: usize, verdict: Option<HealthVerdict>) -> Self {
        Thresholds {
            rise,
            fall,
            verdict,
        }
    }

    /// The current verdict.
    pub(super) fn verdict(&self) -> Option<HealthVerdict> {
        self.verdict
    }

    /// Records a result. Returns the new verdict if it changes; the very first result decides alone.
    pub(super) fn observe(&mut self, evidence: CheckEvidence) -> Option<bool> {
        let success = match evidence {
            CheckEvidence::Good => true,
            CheckEvidence::Bad | CheckEvidence::Weak => false,
            CheckEvidence::None => return None,
        };
        match &mut self.verdict {
            None => {}
            Some(verdict) if verdict.healthy == success => {
                verdict.against = 0;
                return None;
            }
            Some(verdict) => {
                // The count of a handover may be any number.
                verdict.against = verdict.against.saturating_add(1);
                let needed = match (verdict.healthy, evidence) {
                    (true, CheckEvidence::Weak) => self.fall.max(MIN_TIMEOUT_FALL),
                    (true, _) => self.fall,
                    (false, _) => self.rise,
                };
                if verdict.against < needed {
                    return None;
                }
            }
        }
        self.verdict = Some(HealthVerdict {
            healthy: success,
            against: 0,
        });
        Some(success)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn up(against: usize) -> Option<HealthVerdict> {
        Some(HealthVerdict {
            healthy: true,
            against,
        })
    }

    fn changes(mut thresholds: Thresholds, results: &str) -> String {
        let evidence = |result| match result {
            '+' => CheckEvidence::Good,
            '-' => CheckEvidence::Bad,
            '~' => CheckEvidence::Weak,
            _ => CheckEvidence::None,
        };
        let change = |result| match thresholds.observe(evidence(result)) {
            None => '.',
            Some(true) => '+',
            Some(false) => '-',
        };
        results.chars().map(change).collect()
    }

    #[test]
    fn a_carried_row_of_any_length_continues() {
        assert_eq!(changes(Thresholds::new(2, 3, up(usize::MAX)), "-+"), "-.");
    }

    #[test]
    fn the_first_result_decides_alone_then_rows_decide() {
        assert_eq!(
            changes(Thresholds::new(2, 3, None), "+--+---+-++"),
            "+.....-...+"
        );
        assert_eq!(changes(Thresholds::new(2, 3, None), "-+-++"), "-...+");
    }

    #[test]
    fn a_host_that_starts_up_needs_the_whole_fall() {
        assert_eq!(changes(Thresholds::new(2, 3, up(0)), "+---"), "...-");
    }

    #[test]
    fn a_row_carries_over_from_a_predecessor() {
        assert_eq!(changes(Thresholds::new(2, 3, up(2)), "-++"), "-.+");
        assert_eq!(changes(Thresholds::new(2, 3, up(2)), "+--"), "...");
    }

    #[test]
    fn late_results_count_from_the_second_on_and_results_without_evidence_never() {
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
