//! Points in time as they are told: RFC 3339, UTC, to the millisecond.

use std::fmt;
use std::time::SystemTime;

use humantime::{format_rfc3339_millis, parse_rfc3339};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A point in time of the wall clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(SystemTime);

impl Timestamp {
    /// This moment; 1970 where the clock says something earlier.
    pub fn now() -> Self {
        Timestamp(SystemTime::now().max(SystemTime::UNIX_EPOCH))
    }

    /// Seconds since 1970; 0 for what was before.
    pub fn unix_seconds(self) -> f64 {
        let since = self.0.duration_since(SystemTime::UNIX_EPOCH);
        since.unwrap_or_default().as_secs_f64()
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        format_rfc3339_millis(self.0).fmt(f)
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
        let at = parse_rfc3339(&text).map_err(de::Error::custom)?;
        Ok(Timestamp(at))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_moment_is_told_in_utc_and_read_again() {
        let moment = Timestamp(SystemTime::UNIX_EPOCH + Duration::from_millis(86_400_250));
        let text = serde_json::to_string(&moment).unwrap();
        assert_eq!(text, "\"1970-01-02T00:00:00.250Z\"");
        assert_eq!(serde_json::from_str::<Timestamp>(&text).unwrap(), moment);
        assert!(serde_json::from_str::<Timestamp>("\"yesterday\"").is_err());
    }
}
