//! A line of the log: of bounded length, whatever a client has sent.

use std::fmt::{self, Write};

use log::Record;

/// The most bytes of a line about a request; the target that it names may be as long as a head.
const MAX_REQUEST_LINE: usize = 2 << 10;

/// The most bytes of any other line, such as one with all mistakes of a configuration.
const MAX_LINE: usize = 16 << 10;

/// The text of a record, with control characters escaped, but for the ends of lines.
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
    // Writing to it does not fail; what is shown of a value that cannot be shown is shown.
    let _ = line.write_fmt(*record.args());
    line.finish()
}

/// Whether lines of this target are about requests, with what clients have sent in them.
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

struct BoundedLine {
    text: String,
    max: usize,
    /// Bytes that there was no room for.
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
        for (at, character) in more.char_indices() {
            if self.truncated > 0 || self.text.len() + character.len_utf8() > self.max {
                self.truncated += more.len() - at;
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
    fn a_line_is_cut_and_tells_how_much_is_missing() {
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
