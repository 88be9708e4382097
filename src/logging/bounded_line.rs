//! Formats a log line with a bounded length, whatever a client has sent.

use std::fmt::{self, Write};

use log::Record;

/// The maximum length of a line about a request, in bytes. It may contain the request target, which can be as long as a
/// head.
const MAX_REQUEST_LINE: usize = 2 << 10;

/// The maximum length of any other line, in bytes, such as one that lists all errors of a configuration.
const MAX_LINE: usize = 16 << 10;

/// The text of a record, with control characters escaped except line breaks and tabs.
pub(super) fn format(record: &Record<'_>) -> String {
    let max = match is_about_request(record.target()) {
        true => MAX_REQUEST_LINE,
        false => MAX_LINE,
    };
    let mut line = BoundedLine {
        text: String::new(),
        max,
        truncated: 0,
    };
    // `BoundedLine` never fails; if the formatting of a value fails, the text so far is logged.
    let _ = line.write_fmt(*record.args());
    line.finish()
}

/// Whether lines of this log target are about requests and contain text from clients.
pub(super) fn is_about_request(target: &str) -> bool {
    [
        "pingora",
        "ballast::proxy",
        "ballast::pingora_driver",
        "ballast::engine",
    ]
    .iter()
    .any(|prefix| target.starts_with(prefix))
}

/// A text that accepts up to `max` bytes and counts the rest.
struct BoundedLine {
    text: String,
    max: usize,
    /// Bytes that were cut off.
    truncated: usize,
}

impl BoundedLine {
    fn finish(self) -> String {
        match self.truncated {
            0 => self.text,
            truncated => format!("{}… ({truncated} bytes more)", self.text),
        }
    }
}

impl Write for BoundedLine {
    fn write_str(&mut self, more: &str) -> fmt::Result {
        for (offset, character) in more.char_indices() {
            if self.truncated > 0 || self.text.len() + character.len_utf8() > self.max {
                self.truncated += more.len() - offset;
                return Ok(());
            }
            match character {
                '\n' | '\t' => self.text.push(character),
                control if control.is_control() => self.text.extend(control.escape_default()),
                other => self.text.push(other),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line_of(target: &str, text: &str) -> String {
        let mut record = Record::builder();
        record.target(target);
        format(&record.args(format_args!("{text}")).build())
    }

    #[test]
    fn a_long_line_is_truncated_and_ends_with_the_number_of_missing_bytes() {
        for (target, max) in [
            ("pingora_proxy", MAX_REQUEST_LINE),
            ("ballast::proxy::completion", MAX_REQUEST_LINE),
            ("ballast::server::reload", MAX_LINE),
        ] {
            let whole = "a".repeat(max);
            assert_eq!(line_of(target, &whole), whole);
            let long = line_of(target, &"é".repeat(max));
            let truncated = format!("… ({max} bytes more)");
            assert!(long.ends_with(&truncated), "{long}");
            assert_eq!(long.len(), max + truncated.len());
        }
    }

    #[test]
    fn control_characters_are_escaped() {
        assert_eq!(
            line_of("a", "\u{1b}[31mred\r\n\u{9b}"),
            "\\u{1b}[31mred\\r\n\\u{9b}"
        );
    }
}
