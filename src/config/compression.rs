//! `compression`: which responses of hosts are compressed on their way to clients, and how.

use std::fmt;

use serde_json::json;

use super::document::Node;
use super::environment::System;
use super::hints::quote;
use super::scalars::is_token;
use super::schema::{Kind, List, Reader, Scalar, choice, list, map_of, scalar, section, size};

/// A response's type is compared with each of them.
const MAX_TYPES: usize = 200;
/// Bytes of one type.
const MAX_TYPE_BYTES: usize = 127;

section! {
    /// How responses of hosts are compressed on their way to clients.
    pub struct Compression: Eq {
        /// Codings of which the client's Accept-Encoding selects one; among those that it likes equally the first here counts.
        algorithms: Vec<ContentCoding> { algorithms(), default "[zstd, br, gzip]" },
        /// Media types, in any case and without parameters, of responses that are compressed; also all subtypes as in
        /// `text/*`, or all with a suffix as in `application/*+json`. The default is what is text on the web, and fonts and
        /// programs that are not compressed themselves. `text/event-stream` may be added: each event is sent at once, and each
        /// open stream takes the memory of an encoder.
        types: Vec<MediaPattern> {
            types(),
            default "[text/html, text/css, text/javascript, text/plain, text/csv, text/markdown, text/xml, \
                     application/javascript, application/json, application/*+json, application/xml, \
                     application/*+xml, application/wasm, image/svg+xml, font/ttf, font/otf]"
        },
        /// Bytes of a body, by its Content-Length, that compression begins with. A body of unknown length is always long
        /// enough.
        min_size: u64 { size::<u64>(0..=u64::MAX), default "1KiB" },
    }
}

section! {
    /// What a route says of `compression` itself; the rest comes from the top level, or else from its defaults.
    pub struct RouteCompression: Eq, Default {
        /// Codings of which the client's Accept-Encoding selects one.
        algorithms: Option<Vec<ContentCoding>> { algorithms(), optional "[gzip]" },
        /// Media types of responses that are compressed.
        types: Option<Vec<MediaPattern>> { types(), optional "[text/*, application/json]" },
        /// Bytes of a body, by its Content-Length, that compression begins with.
        min_size: Option<u64> { size::<u64>(0..=u64::MAX), optional "16KiB" },
    }
}

impl RouteCompression {
    /// How the route's responses are compressed, where `above` has what holds for all.
    pub fn over(&self, above: &Compression) -> Compression {
        let algorithms = self.algorithms.as_ref().unwrap_or(&above.algorithms);
        let types = self.types.as_ref().unwrap_or(&above.types);
        Compression {
            algorithms: algorithms.clone(),
            types: types.clone(),
            min_size: self.min_size.unwrap_or(above.min_size),
        }
    }
}

impl Default for Compression {
    fn default() -> Self {
        let mut reader = Reader::new(&[], &System, Vec::new());
        let section = map_of::<Compression>().read(&Node::of("{}"), &mut reader);
        section.expect("every key may be left out")
    }
}

/// A content coding of HTTP (RFC 9110, 8.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContentCoding {
    /// Zstandard, RFC 8878.
    Zstd,
    /// Brotli, RFC 7932.
    Brotli,
    /// DEFLATE in the format of gzip, RFC 1952.
    Gzip,
}

impl ContentCoding {
    /// All of them, with their names in Content-Encoding.
    const NAMES: &'static [(&'static str, ContentCoding)] = &[
        ("zstd", ContentCoding::Zstd),
        ("br", ContentCoding::Brotli),
        ("gzip", ContentCoding::Gzip),
    ];

    /// The name in Content-Encoding.
    pub fn name(self) -> &'static str {
        let known = ContentCoding::NAMES.iter();
        let mut named = known.filter(|(_, coding)| *coding == self);
        named.next().map_or("", |(name, _)| name)
    }
}

/// A media type without parameters, or several by their main type and maybe their suffix. In lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MediaPattern {
    /// One type, such as `text/html`.
    One(String),
    /// The types that begin like this and end like that, such as `application/` and `+json`.
    Several(String, String),
}

impl MediaPattern {
    /// Whether a media type without parameters is one of these.
    pub fn matches(&self, essence: &[u8]) -> bool {
        match self {
            MediaPattern::One(known) => essence.eq_ignore_ascii_case(known.as_bytes()),
            MediaPattern::Several(begin, end) => {
                let Some(rest) = essence.len().checked_sub(begin.len()) else {
                    return false;
                };
                // At least one octet stands for the star.
                rest > end.len()
                    && essence[..begin.len()].eq_ignore_ascii_case(begin.as_bytes())
                    && essence[essence.len() - end.len()..].eq_ignore_ascii_case(end.as_bytes())
            }
        }
    }
}

impl fmt::Display for MediaPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MediaPattern::One(essence) => f.write_str(essence),
            MediaPattern::Several(begin, end) => write!(f, "{begin}*{end}"),
        }
    }
}

fn algorithms() -> List<Scalar<ContentCoding>> {
    list("algorithms", choice(ContentCoding::NAMES))
        .not_empty("there is no algorithm; `compression: false` turns compression off")
        .checked(|node, list, reader| {
            let names = list
                .iter()
                .map(|(index, coding)| (*index, coding.name().to_owned()));
            report_twice(node, names, reader);
        })
}

fn types() -> List<Scalar<MediaPattern>> {
    let pattern = scalar("a media type", media_pattern, |pattern: &MediaPattern| {
        json!(pattern.to_string())
    });
    list("types", pattern)
        .up_to(MAX_TYPES)
        .not_empty("there is no type; `compression: false` turns compression off")
        .checked(|node, list, reader| {
            let names = list
                .iter()
                .map(|(index, pattern)| (*index, pattern.to_string()));
            report_twice(node, names, reader);
        })
}

fn report_twice(
    node: &Node,
    elements: impl Iterator<Item = (usize, String)>,
    reader: &mut Reader<'_>,
) {
    let mut known = Vec::new();
    for (index, name) in elements {
        if known.contains(&name)
            && let Some(element) = node.elements().get(index)
        {
            let message = format!("{} is there twice", quote(&name));
            reader.in_element(index, |reader| reader.problem(element, message));
        }
        known.push(name);
    }
}

fn media_pattern(text: &str) -> Result<MediaPattern, String> {
    let wrong = || {
        format!(
            "{} is not a media type such as `text/html`, `text/*` or `application/*+json`",
            quote(text)
        )
    };
    if text.contains(';') {
        return Err(format!(
            "{} has parameters; types are compared without them",
            quote(text)
        ));
    }
    if text == "*" || text.starts_with("*/") {
        return Err(format!(
            "{} includes images and videos, which are compressed already; name the types",
            quote(text)
        ));
    }
    let lower = text.to_ascii_lowercase();
    let (kind, subtype) = lower.split_once('/').ok_or_else(wrong)?;
    let is_valid = text.len() <= MAX_TYPE_BYTES && is_token(kind) && !kind.contains('*');
    if !is_valid || !is_token(subtype) {
        return Err(wrong());
    }
    match subtype.split_once('*') {
        None => Ok(MediaPattern::One(lower)),
        Some(("", suffix)) if suffix.is_empty() || is_suffix(suffix) => {
            Ok(MediaPattern::Several(format!("{kind}/"), suffix.to_owned()))
        }
        Some(_) => Err(wrong()),
    }
}

/// Whether a text is a suffix such as `+json`.
fn is_suffix(text: &str) -> bool {
    let name = text.strip_prefix('+').unwrap_or_default();
    !name.is_empty() && !name.contains(['*', '+'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_match_by_name_main_type_or_suffix() {
        let matches = |pattern, essence: &str| {
            let pattern = media_pattern(pattern).expect("a pattern");
            pattern.matches(essence.as_bytes())
        };
        assert!(matches("text/html", "Text/HTML"));
        assert!(!matches("text/html", "text/htm"));
        assert!(matches("Text/*", "text/x"));
        assert!(!matches("text/*", "text/"));
        assert!(!matches("text/*", "texts/x"));
        assert!(!matches("text/*", "application/text/x"));
        assert!(matches("application/*+json", "application/ld+JSON"));
        assert!(!matches("application/*+json", "application/+json"));
        assert!(!matches("application/*+json", "application/json"));
        assert!(!matches("application/*+json", "text/x+json"));
        assert!(!matches("application/*+json", ""));
    }

    #[test]
    fn a_pattern_is_written_as_it_is_read() {
        for text in ["text/html", "text/*", "application/*+json"] {
            assert_eq!(media_pattern(text).expect("a pattern").to_string(), text);
        }
        for text in [
            "",
            "/",
            "text",
            "text/",
            "/html",
            "*",
            "*/*",
            "*/html",
            "te*t/html",
            "text/h*ml",
            "text/*html",
            "text/*+",
            "text/**",
            "text/*+a*",
            "text/a/b",
            "text/html; charset=utf-8",
            "text/ html",
        ] {
            assert!(media_pattern(text).is_err(), "{text}");
        }
    }
}
