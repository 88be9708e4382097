//! The time as lines tell it.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;

/// Tells moments in words. Those of one second have most of their words in common, which are kept.
#[derive(Debug)]
pub(super) struct Clock {
    /// The same moment by both clocks, that of the wall since 1970.
    set: (Instant, Duration),
    /// The second that was told last, since 1970, and its words; none: no second was told yet.
    second: u64,
    text: String,
}

impl Default for Clock {
    fn default() -> Self {
        Clock {
            set: (Instant::now(), since_1970()),
            second: 0,
            text: String::new(),
        }
    }
}

impl Clock {
    /// Goes by what the wall clock says now.
    pub(super) fn set(&mut self) {
        self.set = (Instant::now(), since_1970());
    }

    /// The second of a moment in `format` (as of strftime, the same each time), and its milliseconds. A wall clock that is
    /// not between 1970 and 9999 has no time to tell, and tells 1970.
    pub(super) fn text(&mut self, moment: Instant, format: &str) -> (&str, u32) {
        let (known, wall) = self.set;
        let wall = match known.checked_duration_since(moment) {
            Some(before) => wall.saturating_sub(before),
            None => wall.saturating_add(moment.duration_since(known)),
        };
        if self.second != wall.as_secs() || self.text.is_empty() {
            self.second = wall.as_secs();
            let told = i64::try_from(self.second).ok();
            let told = told.and_then(|second| Timestamp::from_second(second).ok());
            let told = told.unwrap_or(Timestamp::UNIX_EPOCH);
            self.text = told.strftime(format).to_string();
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
        let mut clock = Clock {
            set: (now, Duration::from_millis(86_400_250)),
            ..Clock::default()
        };
        let later = |millis| now + Duration::from_millis(millis);
        let earlier = |millis| now.checked_sub(Duration::from_millis(millis));
        let earlier = |millis| earlier(millis).expect("the machine runs for some seconds");
        for (moment, text, millis) in [
            (now, "1970-01-02 00:00:00", 250),
            (later(749), "1970-01-02 00:00:00", 999),
            (later(750), "1970-01-02 00:00:01", 0),
            (later(60_000), "1970-01-02 00:01:00", 250),
            (earlier(250), "1970-01-02 00:00:00", 0),
            (earlier(251), "1970-01-01 23:59:59", 999),
        ] {
            assert_eq!(clock.text(moment, "%F %T"), (text, millis));
        }
        clock.set = (now, Duration::from_millis(1));
        assert_eq!(clock.text(earlier(2), "%F %T"), ("1970-01-01 00:00:00", 0));
        clock.set = (now, Duration::MAX);
        assert_eq!(clock.text(now, "%F %T").0, "1970-01-01 00:00:00");
    }
}
