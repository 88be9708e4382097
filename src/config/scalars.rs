//! Single values, read strictly, with a hint where another program's spelling is likely.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use super::hints::{did_you_mean, quote};
use crate::message::chunked;

/// The longest time: nothing that a proxy waits for lasts longer.
const MAX_TIME: Duration = Duration::from_secs(24 * 60 * 60);
/// The shortest time above zero: the timers' resolution.
const MIN_TIME: Duration = Duration::from_millis(1);

/// Units of bytes, the largest first.
const UNITS: [(&str, u64); 4] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("", 1),
];

/// One of a few words.
pub(super) fn choice<T: Copy>(text: &str, choices: &[(&'static str, T)]) -> Result<T, String> {
    let found = choices.iter().find(|(word, _)| *word == text);
    found.map(|(_, value)| *value).ok_or_else(|| {
        let words = || choices.iter().map(|(word, _)| *word);
        let hint = match boolean_of(text).filter(|word| words().any(|known| known == *word)) {
            Some(word) => format!("; did you mean `{word}`?"),
            None => did_you_mean(text, words()),
        };
        let words = Vec::from_iter(words().map(quote)).join(", ");
        format!("{} is not one of {words}{hint}", quote(text))
    })
}

/// The boolean for the spellings of YAML 1.1 and of other programs.
fn boolean_of(text: &str) -> Option<&'static str> {
    match text.to_ascii_lowercase().as_str() {
        "on" | "yes" | "y" | "true" | "enabled" => Some("true"),
        "off" | "no" | "n" | "false" | "disabled" => Some("false"),
        _ => None,
    }
}

/// `true` or `false`, in YAML's three spellings of each.
pub(super) fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "True" | "TRUE" => Ok(true),
        "False" | "FALSE" => Ok(false),
        _ => choice(text, &[("true", true), ("false", false)]),
    }
}

/// A whole number within a range.
pub(super) fn whole<T>(text: &str, range: RangeInclusive<T>) -> Result<T, String>
where
    T: FromStr + PartialOrd + Display,
{
    match text.parse() {
        Ok(number) if range.contains(&number) => Ok(number),
        _ => Err(format!(
            "{} is not a whole number from {} to {}",
            quote(text),
            range.start(),
            range.end()
        )),
    }
}

/// A whole percentage within a range.
pub(super) fn percent(text: &str, range: RangeInclusive<u32>) -> Result<u32, String> {
    match text.strip_suffix('%').map(str::trim_end).map(str::parse) {
        Some(Ok(number)) if range.contains(&number) => Ok(number),
        None if text
            .parse::<u32>()
            .is_ok_and(|number| range.contains(&number)) =>
        {
            Err(format!(
                "{} has no percent sign; write `{text}%`",
                quote(text)
            ))
        }
        _ => Err(format!(
            "{} is not a whole percentage from {}% to {}%",
            quote(text),
            range.start(),
            range.end()
        )),
    }
}

/// A number of bytes within a range.
pub(super) fn size(text: &str, range: RangeInclusive<u64>) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit = text[digits.len()..].trim_start();
    let known = UNITS.iter().find(|(name, _)| *name == unit);
    let bytes = known.and_then(|(_, unit)| digits.parse::<u64>().ok()?.checked_mul(*unit));
    match bytes {
        None => Err(format!(
            "{} is not a number of bytes such as `512`, `32KiB` or `10MiB`{}",
            quote(text),
            unit_hint(digits, unit)
        )),
        Some(bytes) if !range.contains(&bytes) => Err(format!(
            "{} is not from {} to {} bytes",
            quote(text),
            range.start(),
            range.end()
        )),
        Some(bytes) => Ok(bytes),
    }
}

/// A number of bytes as a person writes it, in the largest unit that fits.
pub(super) fn format_size(bytes: u64) -> String {
    let mut units = UNITS.iter();
    let fitting = units.find(|(_, unit)| bytes > 0 && bytes.is_multiple_of(*unit));
    fitting.map_or_else(
        || bytes.to_string(),
        |(name, unit)| format!("{}{name}", bytes / unit),
    )
}

/// nginx and HAProxy write `8k` and `10m`.
fn unit_hint(digits: &str, unit: &str) -> String {
    let known = match unit.to_ascii_lowercase().as_str() {
        "k" | "kb" | "kib" => "KiB",
        "m" | "mb" | "mib" => "MiB",
        "g" | "gb" | "gib" => "GiB",
        _ => return String::new(),
    };
    match digits.parse::<u32>() {
        Ok(_) => format!("; did you mean `{digits}{known}`?"),
        Err(_) => String::new(),
    }
}

/// A time above 0.
pub(super) fn time(text: &str) -> Result<Duration, String> {
    let is_zero = text.parse::<f64>() == Ok(0.0);
    match if is_zero {
        Ok(Duration::ZERO)
    } else {
        time_or_zero(text)
    }? {
        Duration::ZERO => Err(format!(
            "{} is not above 0; write a time such as `500ms` or `2s`",
            quote(text)
        )),
        time if time < MIN_TIME => Err(format!(
            "{} is shorter than {}",
            quote(text),
            format_time(MIN_TIME)
        )),
        time => Ok(time),
    }
}

/// A time that may be 0.
pub(super) fn time_or_zero(text: &str) -> Result<Duration, String> {
    if !text.is_empty() && text.chars().all(|c| c.is_ascii_digit() || c == '.') {
        return Err(format!(
            "{} has no unit; write `{text}s` for seconds or `{text}ms` for milliseconds",
            quote(text)
        ));
    }
    let time = humantime::parse_duration(text).map_err(|_| {
        format!(
            "{} is not a time such as `500ms`, `2s` or `1m30s`",
            quote(text)
        )
    })?;
    if time > MAX_TIME {
        return Err(format!(
            "{} is longer than {}",
            quote(text),
            format_time(MAX_TIME)
        ));
    }
    Ok(time)
}

/// A time as a person writes it.
pub(super) fn format_time(time: Duration) -> String {
    if time == MAX_TIME {
        return "24h".to_owned();
    }
    let text = humantime::format_duration(time).to_string();
    text.replace(' ', "")
}

/// Whether a name is a token of HTTP (RFC 9110, 5.6.2).
pub(super) fn is_token(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(chunked::is_token)
}
