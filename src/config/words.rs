//! Single values as text, read strictly, and hints for those that were almost right.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

/// A message is cut off behind this many characters; it may quote a value of any length.
const LONGEST_MESSAGE: usize = 600;
/// A quoted value is cut off behind this many characters.
const LONGEST_QUOTE: usize = 80;
/// Longer words get no hint: comparing costs the product of the lengths.
const LONGEST_COMPARED: usize = 64;

/// A day: nothing that the proxy waits for is meant to last longer, so more is a slip.
const LONGEST_TIME: Duration = Duration::from_secs(24 * 60 * 60);
/// Below the resolution of the timers everything acts like 0.
const SHORTEST_TIME: Duration = Duration::from_millis(1);

/// A value in backticks on one line, shortened if need be.
pub(super) fn quote(value: &str) -> String {
    if value.is_empty() {
        return "nothing".to_owned();
    }
    format!("`{}`", printable(value, LONGEST_QUOTE))
}

/// A message on one line, without control characters, of bounded length.
pub(super) fn one_line(message: &str) -> String {
    printable(message, LONGEST_MESSAGE)
}

fn printable(text: &str, longest: usize) -> String {
    let mut line = String::new();
    for (count, character) in text.chars().enumerate() {
        if count == longest {
            line.push('…');
            break;
        }
        if character.is_control() {
            line.extend(character.escape_default());
        } else {
            line.push(character);
        }
    }
    line
}

/// The known word that was probably meant by `said`.
pub(super) fn closest<'a>(said: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if said.len() > LONGEST_COMPARED {
        return None;
    }
    let plain = |word: &str| word.to_lowercase().replace(['-', ' '], "_");
    let said = plain(said);
    let (distance, word) = known
        .into_iter()
        .filter(|word| word.len() <= LONGEST_COMPARED)
        .map(|word| (strsim::damerau_levenshtein(&said, &plain(word)), word))
        .min_by_key(|(distance, _)| *distance)?;
    // A third of the letters may be wrong; beyond that a hint is a guess.
    (distance <= (word.len() / 3).max(1)).then_some(word)
}

/// What nginx, HAProxy, Envoy, Traefik and Caddy call something, and what it is called here.
const ELSEWHERE: [(&str, &str); 30] = [
    ("leastconn", "least_load"),
    ("least_conn", "least_load"),
    ("least_connections", "least_load"),
    ("least_request", "least_load"),
    ("least_time", "least_load"),
    ("rr", "round_robin"),
    ("wrr", "round_robin"),
    ("static_rr", "round_robin"),
    ("roundrobin", "round_robin"),
    ("first", "round_robin"),
    ("source", "ip_hash"),
    ("source_ip", "ip_hash"),
    ("hash", "consistent_hash"),
    ("uri", "consistent_hash"),
    ("ketama", "consistent_hash"),
    ("ring_hash", "consistent_hash"),
    ("maglev", "consistent_hash"),
    ("power_of_two", "p2c"),
    ("gzip", "compression"),
    ("balance", "algorithm"),
    ("lb_policy", "algorithm"),
    ("lb", "algorithm"),
    ("server", "hosts"),
    ("servers", "hosts"),
    ("targets", "hosts"),
    ("endpoints", "hosts"),
    ("upstream", "pools"),
    ("upstreams", "pools"),
    ("backends", "pools"),
    ("bind", "listeners"),
];

/// `; did you mean …?`, or nothing if nothing is close.
pub(super) fn did_you_mean<'a>(said: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let known = Vec::from_iter(known);
    let plain = said.to_lowercase().replace(['-', ' '], "_");
    let mut elsewhere = ELSEWHERE.iter();
    let same = elsewhere.find(|(word, here)| *word == plain && known.contains(here));
    let same = same.map(|(_, here)| *here);
    match same.or_else(|| closest(said, known)) {
        Some(word) => format!("; did you mean `{word}`?"),
        None => String::new(),
    }
}

/// One of a few words.
pub(super) fn choice<T: Copy>(text: &str, choices: &[(&'static str, T)]) -> Result<T, String> {
    let found = choices.iter().find(|(word, _)| *word == text);
    found.map(|(_, value)| *value).ok_or_else(|| {
        let words = || choices.iter().map(|(word, _)| *word);
        format!(
            "{} is not one of {}{}",
            quote(text),
            Vec::from_iter(words().map(quote)).join(", "),
            did_you_mean(text, words())
        )
    })
}

/// A whole number within a range.
pub(super) fn whole<T>(text: &str, range: RangeInclusive<T>) -> Result<T, String>
where
    T: std::str::FromStr + PartialOrd + fmt::Display,
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
        None if text.parse::<u32>().is_ok() => Err(format!(
            "{} has no percent sign; write `{text}%`",
            quote(text)
        )),
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
    const UNITS: [(&str, u64); 4] = [
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("", 1),
    ];
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit = text[digits.len()..].trim_start();
    let unit = UNITS.iter().find(|(name, _)| *name == unit);
    let bytes = unit.and_then(|(_, unit)| digits.parse::<u64>().ok()?.checked_mul(*unit));
    match bytes {
        None => Err(format!(
            "{} is not a number of bytes such as `512`, `32KiB` or `10MiB`",
            quote(text)
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

/// A time above 0.
pub(super) fn time(text: &str) -> Result<Duration, String> {
    match time_or_zero(text)? {
        Duration::ZERO => Err(format!(
            "{} is no time at all; it must be above 0",
            quote(text)
        )),
        time if time < SHORTEST_TIME => Err(format!(
            "{} is shorter than {}",
            quote(text),
            shown(SHORTEST_TIME)
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
    if time > LONGEST_TIME {
        return Err(format!(
            "{} is longer than {}",
            quote(text),
            shown(LONGEST_TIME)
        ));
    }
    Ok(time)
}

/// A time as a person writes it.
pub(super) fn shown(time: Duration) -> String {
    if time == LONGEST_TIME {
        return "24h".to_owned();
    }
    humantime::format_duration(time)
        .to_string()
        .replace(' ', "")
}
