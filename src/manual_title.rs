//! The title line of the manual pages, which is the same for commands and configuration but for name and section.

use std::env;
use std::time::{Duration, SystemTime};

use roff::Roff;

/// The day of the last release, or before the first one of the last change to the pages that readers notice. Not the
/// current day: pages of one version are the same wherever and whenever they are written.
const DATE: &str = "2026-11-29";
/// What the pages are about.
const SOURCE: &str = concat!("Ballast ", env!("CARGO_PKG_VERSION"));
/// The manual that they are a part of.
const MANUAL: &str = "Ballast Manual";

/// Begins a page with its title, as man-pages(7) wants it: name, section, date, source, manual.
pub(crate) fn title(page: &mut Roff, name: &str, section: &str) {
    let epoch = env::var("SOURCE_DATE_EPOCH").ok();
    let date = epoch.as_deref().and_then(day_of).unwrap_or(DATE.to_owned());
    page.control("TH", [name, section, date.as_str(), SOURCE, MANUAL]);
}

/// The day of a `SOURCE_DATE_EPOCH`, by which builders of packages set all dates: seconds since 1970.
fn day_of(epoch: &str) -> Option<String> {
    let time = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(epoch.parse().ok()?))?;
    let time = jiff::Timestamp::try_from(time).ok()?;
    Some(time.strftime("%Y-%m-%d").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_is_a_day_in_utc() {
        assert_eq!(day_of("0").as_deref(), Some("1970-01-01"));
        assert_eq!(day_of("1796083199").as_deref(), Some("2026-11-30"));
        for text in ["", "-1", "tomorrow", "99999999999999999999"] {
            assert_eq!(day_of(text), None, "{text}");
        }
    }

    #[test]
    fn the_date_is_that_of_the_last_release() {
        let changelog = include_str!("../CHANGELOG.md");
        let mut releases = changelog
            .lines()
            .filter_map(|line| line.strip_prefix("## ["));
        let last = releases.find_map(|line| Some(line.split_once("] - ")?.1));
        assert_eq!(last.unwrap_or(DATE), DATE);
    }
}
