//! Status codes and ranges of them.

use serde_json::{Value as Json, json};

use super::hints::quote;
use super::schema::{List, Scalar, list, scalar};

/// Status codes as ranges, both ends included: one range or a list.
pub(super) fn statuses() -> List<Scalar<(u16, u16)>> {
    list("statuses", range(parse_range))
}

/// A status code or a range of them.
pub(super) fn range(
    read: impl Fn(&str) -> Result<(u16, u16), String> + 'static,
) -> Scalar<(u16, u16)> {
    scalar(
        "a status such as `503`, or a range such as `500-599`",
        read,
        |range| dump_range(*range),
    )
    .with_schema(json!({
        "type": ["integer", "string"], "minimum": 100, "maximum": 599,
        "pattern": "^[1-5][0-9][0-9]( *- *[1-5][0-9][0-9])?$",
    }))
}

pub(super) fn dump_range((from, to): (u16, u16)) -> Json {
    match from == to {
        true => json!(from),
        false => json!(format!("{from}-{to}")),
    }
}

/// Ranges as a person writes them.
pub(super) fn format_ranges(ranges: &[(u16, u16)]) -> String {
    let ranges = ranges.iter().map(|(from, to)| match from == to {
        true => from.to_string(),
        false => format!("{from}-{to}"),
    });
    match Vec::from_iter(ranges).join(", ") {
        none if none.is_empty() => "none".to_owned(),
        ranges => ranges,
    }
}

/// Whether a status is within one of `ranges`.
pub(super) fn includes(ranges: &[(u16, u16)], status: u16) -> bool {
    let mut ranges = ranges.iter();
    ranges.any(|&(low, high)| (low..=high).contains(&status))
}

/// Reads `200` or `200-299`.
pub(super) fn parse_range(text: &str) -> Result<(u16, u16), String> {
    let (low, high) = text.split_once('-').unwrap_or((text, text));
    let status = |text: &str| {
        let status = text.trim().parse().ok();
        status.filter(|status| (100..=599).contains(status))
    };
    match (status(low), status(high)) {
        (Some(low), Some(high)) if low <= high => Ok((low, high)),
        (Some(low), Some(high)) => Err(format!(
            "{} is empty; did you mean `{high}-{low}`?",
            quote(text)
        )),
        _ => Err(format!(
            "{} is neither a status from 100 to 599 nor a range such as `200-299`",
            quote(text)
        )),
    }
}
