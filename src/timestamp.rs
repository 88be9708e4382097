//! Timestamps in RFC 3339, UTC, to the millisecond.

use std::fmt;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A point in time of the wall clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(SystemTime);

impl Timestamp {
    /// The current time; 1970 if the clock is before that.
    pub fn now() -> Self {
        Timestamp(SystemTime::now().max(SystemTime::UNIX_EPOCH))
    }

    /// The time that is so many seconds after 1970; 1970 if that is negative.
    pub fn from_unix_seconds(seconds: i64) -> Self {
        let since = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
        let time = SystemTime::UNIX_EPOCH.checked_add(since);
        Timestamp(time.unwrap_or(SystemTime::UNIX_EPOCH))
    }

    /// Seconds since 1970; 0 for earlier times.
    pub fn unix_seconds(self) -> f64 {
        let since = self.0.duration_since(SystemTime::UNIX_EPOCH);
        since.unwrap_or_default().as_secs_f64()
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = jiff::Timestamp::try_from(self.0).unwrap_or(jiff::Timestamp::MAX);
        time.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").fmt(f)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let time: jiff::Timestamp = text.parse().map_err(de::Error::custom)?;
        Ok(Timestamp(time.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_is_written_in_utc_and_parsed_again() {
        let timestamp = Timestamp(SystemTime::UNIX_EPOCH + Duration::from_millis(86_400_250));
        let text = serde_json::to_string(&timestamp).unwrap();
        assert_eq!(text, "\"1970-01-02T00:00:00.250Z\"");
        assert_eq!(serde_json::from_str::<Timestamp>(&text).unwrap(), timestamp);
        assert!(serde_json::from_str::<Timestamp>("\"yesterday\"").is_err());
    }
}
