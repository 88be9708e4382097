//! A number over time: its mean and its peak.

/// A number that changes, observed from a time on until it is closed. Times are nanoseconds.
#[derive(Debug, Clone)]
pub(super) struct Gauge {
    value: u64,
    /// When the value was accounted for last.
    since: u64,
    /// When the observation begins.
    from: u64,
    /// Value × nanoseconds within the observation.
    sum: u128,
    peak: u64,
    closed: bool,
}

impl Gauge {
    /// A number that is 0 at time 0.
    pub(super) fn observed_from(from: u64) -> Self {
        Gauge {
            value: 0,
            since: 0,
            from,
            sum: 0,
            peak: 0,
            closed: false,
        }
    }

    pub(super) fn set(&mut self, now: u64, value: u64) {
        self.account(now);
        self.value = value;
    }

    /// Ends the observation.
    pub(super) fn close(&mut self, now: u64) {
        self.account(now);
        self.closed = true;
    }

    fn account(&mut self, now: u64) {
        let time = now.saturating_sub(self.since.max(self.from));
        if !self.closed && time > 0 {
            self.sum += u128::from(self.value) * u128::from(time);
            self.peak = self.peak.max(self.value);
        }
        self.since = now;
    }

    /// The mean over an observation that ended at `end`; 0 if that was no time.
    pub(super) fn mean(&self, end: u64) -> f64 {
        match end.saturating_sub(self.from) {
            0 => 0.0,
            time => self.sum as f64 / time as f64,
        }
    }

    /// The largest value that lasted.
    pub(super) fn peak(&self) -> u64 {
        self.peak
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_time_within_the_observation_counts() {
        let mut gauge = Gauge::observed_from(100);
        gauge.set(0, 9);
        gauge.set(50, 4);
        gauge.set(150, 2);
        gauge.set(180, 7);
        gauge.set(180, 0);
        gauge.close(200);
        gauge.set(300, 50);
        gauge.set(400, 0);
        assert_eq!(gauge.mean(200), (4.0 * 50.0 + 2.0 * 30.0) / 100.0);
        assert_eq!(gauge.peak(), 4);
    }
}
