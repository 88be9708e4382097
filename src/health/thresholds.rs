//! When results in a row change a verdict.

/// Counts results in a row against the thresholds of one host.
#[derive(Debug)]
pub(super) struct Thresholds {
    rise: usize,
    fall: usize,
    /// `None` before the first result.
    healthy: Option<bool>,
    /// Results in a row that contradict `healthy`.
    against: usize,
}

impl Thresholds {
    pub(super) fn new(rise: usize, fall: usize, healthy: Option<bool>) -> Self {
        Thresholds {
            rise,
            fall,
            healthy,
            against: 0,
        }
    }

    /// Takes in a result. Returns the new verdict if it changes; the first result of all decides alone.
    pub(super) fn observe(&mut self, success: bool) -> Option<bool> {
        let needed = match self.healthy {
            None => 1,
            Some(healthy) if healthy == success => {
                self.against = 0;
                return None;
            }
            Some(true) => self.fall,
            Some(false) => self.rise,
        };
        self.against += 1;
        if self.against < needed {
            return None;
        }
        self.against = 0;
        self.healthy = Some(success);
        self.healthy
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes(mut thresholds: Thresholds, results: &str) -> String {
        let change = |result| match thresholds.observe(result == '+') {
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
        assert_eq!(changes(Thresholds::new(2, 3, Some(true)), "+---"), "...-");
    }

    #[test]
    fn a_flapping_host_below_the_thresholds_never_changes() {
        assert_eq!(
            changes(Thresholds::new(2, 3, Some(true)), "-+--+-+--+"),
            ".........."
        );
    }
}
