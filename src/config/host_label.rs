//! What people call a host, and what else is said about it.

use serde_json::json;

use super::hints::quote;
use super::schema::{Kind, Scalar, scalar, table};

/// Characters of a label that fit into a column.
const MAX_LABEL: usize = 64;
/// Labels of a host, and the characters in one.
const MAX_LABELS: usize = 64;
const MAX_LABEL_VALUE: usize = 512;

/// Names and texts, of which none is long.
pub(super) fn labels() -> impl Kind<Value = Vec<(String, String)>> {
    let value = scalar("a text", parse_label_value, |value| json!(value));
    table(
        "a map of texts",
        MAX_LABELS,
        parse_label,
        String::clone,
        value,
    )
}

fn parse_label_value(text: &str) -> Result<String, String> {
    match text.chars().any(char::is_control) || text.chars().count() > MAX_LABEL_VALUE {
        true => Err(format!(
            "{} has a control character or more than {MAX_LABEL_VALUE} characters",
            quote(text)
        )),
        false => Ok(text.to_owned()),
    }
}

/// A line of text.
pub(super) fn label() -> Scalar<String> {
    scalar("a name", parse_label, |label| json!(label))
}

/// A name for people.
fn parse_label(text: &str) -> Result<String, String> {
    let shown = quote(text);
    if text.trim().is_empty() {
        return Err("a name has at least one character".to_owned());
    }
    if text.chars().any(char::is_control) || text.trim() != text {
        return Err(format!(
            "{shown} begins or ends with a space, or has a control character"
        ));
    }
    match text.chars().count() {
        0..=MAX_LABEL => Ok(text.to_owned()),
        long => Err(format!(
            "{shown} has {long} characters; the limit is {MAX_LABEL}"
        )),
    }
}
