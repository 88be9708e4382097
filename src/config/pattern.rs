//! Patterns of texts: the whole text, `~` and a regular expression, or `*`.

use std::fmt;
use std::hash::{Hash, Hasher};

use regex::bytes::{Regex, RegexBuilder};
use serde_json::json;

use super::hints::quote;
use super::schema::{Scalar, scalar};

/// The memory of a compiled expression, and that of the states that matching keeps. Both are far above what an expression
/// that a person reads takes.
const MAX_SIZE: usize = 64 * 1024;

/// A regular expression over bytes, which may match anywhere in a text. Classes such as `\w` are those of ASCII.
#[derive(Debug, Clone)]
pub struct RegexPattern(Regex);

impl RegexPattern {
    /// Reads what follows the `~` in a file.
    ///
    /// # Errors
    /// It is not a regular expression, or one that takes too much memory.
    pub fn new(text: &str) -> Result<Self, String> {
        let shown = quote(text.trim_start());
        if let Some(rest) = text.strip_prefix('*') {
            let written = quote(&format!("~ (?i){}", rest.trim_start()));
            return Err(format!(
                "`~*` is nginx's form for expressions without case; write {written}"
            ));
        }
        let text = text.trim();
        if text.is_empty() {
            return Err("the regular expression after `~` is missing".to_owned());
        }
        let regex = RegexBuilder::new(text)
            .unicode(false)
            .size_limit(MAX_SIZE)
            .dfa_size_limit(MAX_SIZE)
            .build();
        regex.map(RegexPattern).map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => {
                format!("the regular expression {shown} takes more than 64 KiB of memory")
            }
            error => {
                // The last line has the reason; those before it show the expression.
                let error = error.to_string();
                let reason = error.lines().last().unwrap_or_default();
                let reason = reason.strip_prefix("error: ").unwrap_or(reason);
                format!("{shown} is not a regular expression: {reason}")
            }
        })
    }

    /// The expression as written.
    pub fn text(&self) -> &str {
        self.0.as_str()
    }

    /// Whether the expression matches somewhere in a text.
    pub fn matches(&self, text: &[u8]) -> bool {
        self.0.is_match(text)
    }
}

impl PartialEq for RegexPattern {
    fn eq(&self, other: &Self) -> bool {
        self.text() == other.text()
    }
}

impl Eq for RegexPattern {}

impl Hash for RegexPattern {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text().hash(state);
    }
}

impl fmt::Display for RegexPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "~ {}", self.text())
    }
}

/// What a value of a request must be.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ValuePattern {
    /// There must be one.
    Any,
    /// This text.
    Exact(String),
    /// It must match.
    Regex(RegexPattern),
}

impl ValuePattern {
    /// Whether a value fits.
    pub fn matches(&self, value: &[u8]) -> bool {
        match self {
            ValuePattern::Any => true,
            ValuePattern::Exact(text) => text.as_bytes() == value,
            ValuePattern::Regex(regex) => regex.matches(value),
        }
    }

    /// Whether every value that fits `narrow` certainly fits this pattern too.
    pub(super) fn covers(&self, narrow: &ValuePattern) -> bool {
        match (self, narrow) {
            (ValuePattern::Any, _) => true,
            (wide, ValuePattern::Exact(text)) => wide.matches(text.as_bytes()),
            (wide, narrow) => wide == narrow,
        }
    }

    fn parse(text: &str) -> Result<Self, String> {
        if text == "*" {
            return Ok(ValuePattern::Any);
        }
        if let Some(regex) = text.strip_prefix('~') {
            return RegexPattern::new(regex).map(ValuePattern::Regex);
        }
        if let Some(wrong) = text.chars().find(|c| c.is_control()) {
            return Err(format!(
                "{} has {wrong:?} in it, which no value of a request has",
                quote(text)
            ));
        }
        let plain = text.strip_prefix("= ").unwrap_or(text).trim();
        match plain == text {
            true => Ok(ValuePattern::Exact(text.to_owned())),
            false => Err(format!(
                "{} is not how values are written; did you mean {}?",
                quote(text),
                quote(plain)
            )),
        }
    }
}

impl fmt::Display for ValuePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ValuePattern::Any => f.write_str("*"),
            ValuePattern::Exact(text) => f.write_str(text),
            ValuePattern::Regex(regex) => regex.fmt(f),
        }
    }
}

/// A text, `~` and a regular expression, or `*`.
pub(super) fn value_pattern() -> Scalar<ValuePattern> {
    scalar(
        "a value, `~` and a regular expression, or `*`",
        ValuePattern::parse,
        |pattern: &ValuePattern| json!(pattern.to_string()),
    )
}
