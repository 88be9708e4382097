//! The time as lines tell it.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;

/// Tells moments in words. Those of one second have most of their words in common, which are kept.
#[derive(Debug)]
pub(super) struct TimestampFormatter {
    /// The same moment by both clocks, that of the wall since 1970.
    reference: (Instant, Duration),
    /// The second that was told last, since 1970, and its words; none: no second was told yet.
    second: u64,
    text: String,
}

impl Default for TimestampFormatter {
    fn default() -> Self {
        TimestampFormatter {
            reference: (Instant::now(), since_1970()),
            second: 0,
            text: String::new(),
        }
    }
}

impl TimestampFormatter {
    /// Goes by what the wall clock says now.
    pub(super) fn sync(&mut self) {
        self.reference = (Instant::now(), since_1970());
    }

    /// The second of a moment in `format` (as of strftime, the same each time), and its milliseconds. A wall clock that is
    /// not between 1970 and 9999 has no time to tell, and tells 1970.
    pub(super) fn format(&mut self, instant: Instant, format: &str) -> (&str, u32) {
        let (known, wall) = self.reference;
        let wall = match known.checked_duration_since(instant) {
            Some(before) => wall.saturating_sub(before),
            None => wall.saturating_add(instant.duration_since(known)),
        };
        if self.second != wall.as_secs() || self.text.is_empty() {
            self.second = wall.as_secs();
            let timestamp = i64::try_from(self.second).ok();
            let timestamp = timestamp.and_then(|second| Timestamp::from_second(second).ok());
            let timestamp = timestamp.unwrap_or(Timestamp::UNIX_EPOCH);
            self.text = timestamp.strftime(format).to_string();
        }
        (&self.text, wall.subsec_millis())
    }
}

fn since_1970() -> Duration {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_moment_has_its_own_words() {
        let now = Instant::now();
        let mut formatter = TimestampFormatter {
            reference: (now, Duration::from_millis(86_400_250)),
            ..TimestampFormatter::default()
        };
        let later = |millis| now + Duration::from_millis(millis);
        let earlier = |millis| now.checked_sub(Duration::from_millis(millis));
        let earlier = |millis| earlier(millis).expect("the machine runs for some seconds");
        for (instant, text, millis) in [
            (now, "1970-01-02 00:00:00", 250),
            (later(749), "1970-01-02 00:00:00", 999),
            (later(750), "1970-01-02 00:00:01", 0),
            (later(60_000), "1970-01-02 00:01:00", 250),
            (earlier(250), "1970-01-02 00:00:00", 0),
            (earlier(251), "1970-01-01 23:59:59", 999),
        ] {
            assert_eq!(formatter.format(instant, "%F %T"), (text, millis));
        }
        formatter.reference = (now, Duration::from_millis(1));
        assert_eq!(
            formatter.format(earlier(2), "%F %T"),
            ("1970-01-01 00:00:00", 0)
        );
        formatter.reference = (now, Duration::MAX);
        assert_eq!(formatter.format(now, "%F %T").0, "1970-01-01 00:00:00");
    }
}
