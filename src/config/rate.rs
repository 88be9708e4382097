//! `rate`: how many requests a client may send.

use std::fmt;
use std::num::{NonZeroU32, NonZeroU64};

use http::header::HeaderName;
use serde_json::json;

use super::document::Node;
use super::hints::quote;
use super::scalars;
use super::schema::{Kind, Reader, Scalar, converted, map_of, scalar, section};

/// Far beyond what one machine serves.
const MAX_RATE: u32 = 10_000_000;
/// A number of requests is as exact as a thousandth.
const SCALE: u64 = 1_000;
/// The time for which a burst may count: the arithmetic of a rate is in nanoseconds of 64 bits.
const MAX_BURST_TIME: u128 = 366 * 24 * 3_600 * 1_000_000_000;

section! {
    /// How many requests a client may send; beyond it 429.
    pub(super) struct RateKeys: Eq {
        /// Requests in the long run, also with their period as in `5/min`. The short form of a rate is this alone: `100/s`,
        /// `5/min`, `1000/h`, `0.5/s`.
        requests: Requests { requests(), required "100" },
        /// What `requests` counts for: a second, a minute or an hour. Without it a second.
        per: Option<Period> { period(), optional "min" },
        /// Requests at once after a silence; without it as many as per second, and at least one.
        burst: Option<NonZeroU32> { count(), optional "200" },
        /// What counts as one client: `client_ip` (of IPv6 the first 64 bits), or `header:NAME`.
        key: RateKey { key(), default "client_ip" },
    }
}

/// How many requests a client may send; beyond it 429.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rate {
    /// Thousandths of requests in each period, in the long run.
    pub thousandths: NonZeroU64,
    /// The period.
    pub per: Period,
    /// Requests at once after a silence.
    pub burst: NonZeroU32,
    /// What counts as one client.
    pub key: RateKey,
}

/// What a number of requests is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Period {
    /// A second.
    Second,
    /// A minute.
    Minute,
    /// An hour.
    Hour,
}

/// The periods as they are written.
const PERIODS: &[(&str, Period)] = &[
    ("s", Period::Second),
    ("min", Period::Minute),
    ("h", Period::Hour),
];

/// A number of requests, with the period if that is written behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Requests {
    thousandths: NonZeroU64,
    per: Option<Period>,
}

/// What counts as one client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RateKey {
    /// The client's address; of IPv6 the first 64 bits, which is what one client is given.
    ClientIp,
    /// A header field's value; a request without it counts for its client's address.
    Header(HeaderName),
}

impl Period {
    fn nanoseconds(self) -> u64 {
        let seconds = match self {
            Period::Second => 1,
            Period::Minute => 60,
            Period::Hour => 3_600,
        };
        seconds * 1_000_000_000
    }

    fn word(self) -> &'static str {
        let mut periods = PERIODS.iter();
        let found = periods.find(|(_, period)| *period == self);
        found.map_or("s", |(word, _)| word)
    }
}

impl Rate {
    /// The time between two requests in the long run, in nanoseconds; above 0.
    pub fn interval(&self) -> u64 {
        interval(self.thousandths, self.per)
    }
}

impl fmt::Display for Rate {
    /// The short form, then the burst and the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (number, per) = (decimal(self.thousandths), self.per.word());
        write!(f, "{number}/{per}, burst {}, by {}", self.burst, self.key)
    }
}

impl fmt::Display for RateKey {
    /// As written in the file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RateKey::ClientIp => f.write_str("client_ip"),
            RateKey::Header(name) => write!(f, "header:{name}"),
        }
    }
}

fn interval(thousandths: NonZeroU64, per: Period) -> u64 {
    (per.nanoseconds() * SCALE / thousandths).max(1)
}

/// A map with the keys of a rate, or its short form.
pub(super) fn rate() -> impl Kind<Value = Rate> {
    converted(
        map_of::<RateKeys>().short_for("requests"),
        checked,
        |rate: &Rate| RateKeys {
            requests: Requests {
                thousandths: rate.thousandths,
                per: None,
            },
            per: Some(rate.per),
            burst: Some(rate.burst),
            key: rate.key.clone(),
        },
    )
}

fn checked(keys: RateKeys, node: &Node, reader: &mut Reader<'_>) -> Option<Rate> {
    let RateKeys {
        requests: Requests { thousandths, per },
        per: written,
        burst,
        key,
    } = keys;
    if let (Some(text), None) = (node.text(), per) {
        let shown = quote(text);
        let message =
            format!("{shown} has no period; write `{text}/s`, `{text}/min` or `{text}/h`");
        reader.problem(node, message);
        return None;
    }
    if per.is_some() && written.is_some() {
        let message = "`requests` has a period already; write one of the two";
        reader.problem_of_key(node, "per", message);
        return None;
    }
    let per = per.or(written).unwrap_or(Period::Second);
    let interval = interval(thousandths, per);
    let in_a_second = 1_000_000_000_u64.div_ceil(interval).min(MAX_RATE.into());
    let in_a_second = u32::try_from(in_a_second).ok().and_then(NonZeroU32::new);
    let burst = burst.or(in_a_second).unwrap_or(NonZeroU32::MIN);
    if u128::from(interval) * u128::from(burst.get()) > MAX_BURST_TIME {
        let message = format!("{burst} requests at this rate take more than a year");
        reader.problem_of_key(node, "burst", message);
        return None;
    }
    Some(Rate {
        thousandths,
        per,
        burst,
        key,
    })
}

fn requests() -> Scalar<Requests> {
    let dump = |requests: &Requests| match requests.per {
        None if requests.thousandths.get().is_multiple_of(SCALE) => {
            json!(requests.thousandths.get() / SCALE)
        }
        None => json!(requests.thousandths.get() as f64 / SCALE as f64),
        Some(per) => json!(format!("{}/{}", decimal(requests.thousandths), per.word())),
    };
    scalar(
        format!("a number from 0.001 to {MAX_RATE}, or one with its period such as `5/min`"),
        parse,
        dump,
    )
    .with_schema(json!({
        "anyOf": [
            { "type": "number", "minimum": 0.001, "maximum": MAX_RATE },
            { "type": "string", "pattern": "^[0-9]+([.][0-9]{1,3})? */ *(s|min|h)$" },
        ],
    }))
}

fn parse(text: &str) -> Result<Requests, String> {
    let (number, per) = match text.split_once('/') {
        Some((number, per)) => (number.trim_end(), Some(per.trim_start())),
        None => (text, None),
    };
    let wrong = || {
        format!(
            "{} is not a number of requests such as `100/s`, `5/min`, `1000/h` or `0.5/s`{}",
            quote(text),
            foreign_hint(number, per)
        )
    };
    let thousandths = thousandths(number).ok_or_else(wrong)?;
    let period = |word: &str| PERIODS.iter().find(|(known, _)| *known == word);
    let per = match per.map(|word| period(word).ok_or_else(wrong)) {
        Some(period) => Some(period?.1),
        None => None,
    };
    match NonZeroU64::new(thousandths) {
        Some(thousandths) if thousandths.get() <= u64::from(MAX_RATE) * SCALE => {
            Ok(Requests { thousandths, per })
        }
        _ => Err(format!(
            "{} is not from 0.001 to {MAX_RATE} requests",
            quote(text)
        )),
    }
}

/// A decimal number with up to three digits behind the point, in thousandths.
fn thousandths(number: &str) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit());
    if !(is_digits(whole) && is_digits(fraction) && fraction.len() <= 3) {
        return None;
    }
    let fraction = format!("{fraction:0<3}").parse::<u64>().ok()?;
    // A number that does not fit is too large in any case.
    let whole = whole.parse::<u64>().unwrap_or(u64::MAX);
    Some(whole.saturating_mul(SCALE).saturating_add(fraction))
}

/// A number of thousandths as it is written.
fn decimal(thousandths: NonZeroU64) -> String {
    let (whole, rest) = (thousandths.get() / SCALE, thousandths.get() % SCALE);
    match rest {
        0 => whole.to_string(),
        rest => format!("{whole}.{rest:03}")
            .trim_end_matches('0')
            .to_owned(),
    }
}

/// nginx writes `5r/m`, others `5/minute`.
fn foreign_hint(number: &str, per: Option<&str>) -> String {
    let number = number.trim_end_matches(['r', 'R']).trim_end();
    match (thousandths(number), per.and_then(usual_word)) {
        (Some(1..), Some(word)) => format!("; did you mean `{number}/{word}`?"),
        _ => String::new(),
    }
}

/// The word for a period that is written as elsewhere.
fn usual_word(foreign: &str) -> Option<&'static str> {
    Some(match foreign.to_ascii_lowercase().as_str() {
        "s" | "1s" | "sec" | "second" => "s",
        "m" | "1m" | "min" | "minute" => "min",
        "h" | "1h" | "hr" | "hour" => "h",
        _ => return None,
    })
}

fn period() -> Scalar<Period> {
    let words = Vec::from_iter(PERIODS.iter().map(|(word, _)| *word));
    let phrase = Vec::from_iter(words.iter().map(|word| quote(word))).join(", ");
    let known = phrase.clone();
    let read = move |text: &str| {
        scalars::choice(text, PERIODS).map_err(|message| match usual_word(text) {
            Some(word) => format!(
                "{} is not one of {known}; did you mean `{word}`?",
                quote(text)
            ),
            None => message,
        })
    };
    scalar(phrase, read, |period: &Period| json!(period.word()))
        .with_schema(json!({ "enum": words }))
}

fn count() -> Scalar<NonZeroU32> {
    let read = |text: &str| {
        let count = scalars::whole(text, 1..=MAX_RATE)?;
        NonZeroU32::new(count).ok_or_else(|| format!("{} is not above 0", quote(text)))
    };
    scalar(
        format!("a whole number from 1 to {MAX_RATE}"),
        read,
        |count| json!(count),
    )
    .with_schema(json!({ "type": "integer", "minimum": 1, "maximum": MAX_RATE }))
}

fn key() -> Scalar<RateKey> {
    let read = |text: &str| {
        if text == "client_ip" {
            return Ok(RateKey::ClientIp);
        }
        let name = text.strip_prefix("header:").map(str::trim);
        name.and_then(|name| name.parse::<HeaderName>().ok())
            .map(RateKey::Header)
            .ok_or_else(|| format!("{} is neither `client_ip` nor `header:NAME`", quote(text)))
    };
    let dump = |key: &RateKey| json!(key.to_string());
    scalar("`client_ip` or `header:NAME`", read, dump)
}
