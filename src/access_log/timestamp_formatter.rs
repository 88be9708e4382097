//! Formats times for log lines.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;

/// Formats times. Times within one second share the text, which is cached.
#[derive(Debug)]
pub(super) struct TimestampFormatter {
    /// The same time on the monotonic and on the wall clock, the latter since 1970.
    reference: (Instant, Duration),
    /// The second of the cached text, since 1970; the text is empty before the first call.
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
    /// Synchronises with the wall clock.
    pub(super) fn sync(&mut self) {
        self.reference = (Instant::now(), since_1970());
    }

    /// Formats a time to the second with `format` (strftime, the same in each call), and returns its milliseconds. A
    /// time outside the years 1970 to 9999 is shown as 1970.
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
    fn times_are_formatted_to_the_second() {
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
