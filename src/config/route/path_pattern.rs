//! The paths of routes: the beginning of a path, the whole path, or a regular expression.

use std::fmt;

use serde_json::json;

use crate::config::hints::quote;
use crate::config::pattern::RegexPattern;
use crate::config::schema::{Scalar, scalar};
use crate::normalize;

/// Which paths a route matches, in the normal form of paths.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum PathPattern {
    /// Those that begin with these segments.
    Prefix(String),
    /// This path.
    Exact(String),
    /// Those in which the expression matches.
    Regex(RegexPattern),
}

impl PathPattern {
    /// Whether a path fits. `path` is in normal form.
    pub fn matches(&self, path: &[u8]) -> bool {
        match self {
            PathPattern::Prefix(prefix) => begins_with_segments(path, prefix.as_bytes()),
            PathPattern::Exact(exact) => exact.as_bytes() == path,
            PathPattern::Regex(regex) => regex.matches(path),
        }
    }

    /// Whether every path that fits `narrow` certainly fits `wide`. Every path begins with "/".
    pub(super) fn covers(wide: Option<&Self>, narrow: Option<&Self>) -> bool {
        match (wide, narrow) {
            (None, _) => true,
            (Some(PathPattern::Prefix(wide)), _) if wide == "/" => true,
            (
                Some(PathPattern::Prefix(wide)),
                Some(PathPattern::Prefix(narrow) | PathPattern::Exact(narrow)),
            ) => begins_with_segments(narrow.as_bytes(), wide.as_bytes()),
            (wide, narrow) => wide == narrow,
        }
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PathPattern::Prefix(prefix) => f.write_str(prefix),
            PathPattern::Exact(path) => write!(f, "= {path}"),
            PathPattern::Regex(regex) => regex.fmt(f),
        }
    }
}

/// Whether `path` begins with the segments of `prefix`: `/v1` is the beginning of `/v1` and `/v1/x`, not of `/v10`, and
/// `/v1/` only of what is below it.
pub(crate) fn begins_with_segments(path: &[u8], prefix: &[u8]) -> bool {
    match path.strip_prefix(prefix) {
        None => false,
        Some(rest) => {
            prefix.is_empty() || prefix.ends_with(b"/") || matches!(rest, [] | [b'/', ..])
        }
    }
}

/// The pattern of a path.
pub(super) fn path() -> Scalar<PathPattern> {
    scalar(
        "the beginning of a path, `=` and a path, or `~` and a regular expression",
        parse_pattern,
        |path: &PathPattern| json!(path.to_string()),
    )
}

fn parse_pattern(text: &str) -> Result<PathPattern, String> {
    if let Some(regex) = text.strip_prefix('~') {
        return RegexPattern::new(regex).map(PathPattern::Regex);
    }
    if let Some(prefix) = text.strip_prefix("^~") {
        return Err(format!(
            "`^~` is nginx's form, but the first route that matches counts here, whatever its path; write {}",
            quote(prefix.trim())
        ));
    }
    match text.strip_prefix('=') {
        Some(exact) => whole_path(exact.trim()).map(PathPattern::Exact),
        None => parse_path(text).map(PathPattern::Prefix),
    }
}

/// The beginning of a path.
pub(super) fn parse_path(text: &str) -> Result<String, String> {
    if let Some(prefix) = text.strip_suffix('*')
        && prefix.starts_with('/')
        && !prefix.contains('*')
    {
        return Err(format!(
            "{} has a `*`, but a path is a prefix of whole segments already; did you mean {}?",
            quote(text),
            quote(prefix)
        ));
    }
    whole_path(text)
}

fn whole_path(text: &str) -> Result<String, String> {
    if !text.starts_with('/') {
        return Err(format!("{} does not begin with `/`", quote(text)));
    }
    match text
        .chars()
        .find(|c| !c.is_ascii_graphic() || matches!(c, '?' | '#'))
    {
        None => normal_path(text),
        Some(wrong) => Err(format!(
            "{} has {wrong:?} in it, which the path of a request never has",
            quote(text)
        )),
    }
}

/// The normal form, in which paths of requests are compared. A prefix that no path has in that form is refused.
fn normal_path(text: &str) -> Result<String, String> {
    let normalize::NormalizedPath { path, ambiguous } = normalize::path(text.as_bytes());
    let normal = String::from_utf8_lossy(&path).into_owned();
    if ambiguous {
        return Err(format!(
            "{} is a path that hosts read in several ways",
            quote(text)
        ));
    }
    if let Some(wrong) = text.chars().find(|c| matches!(c, ';' | '\\')) {
        return Err(format!(
            "{} has {wrong:?} in it, and paths are compared without that; did you mean {}?",
            quote(text),
            quote(&normal)
        ));
    }
    Ok(normal)
}
