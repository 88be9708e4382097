//! A line of the log: of bounded length, whatever a client has sent.

use std::fmt::{self, Write};

use log::Record;

/// The most bytes of a line about a request; the target that it names may be as long as a head.
const OF_REQUEST: usize = 2 << 10;

/// The most bytes of any other line, such as one with all mistakes of a configuration.
const LONGEST: usize = 16 << 10;

/// The text of a record, with control characters escaped, but for the ends of lines.
pub(super) fn bounded(record: &Record<'_>) -> String {
    let most = match is_of_request(record.target()) {
        true => OF_REQUEST,
        false => LONGEST,
    };
    let mut line = Line {
        text: String::new(),
        most,
        cut: 0,
    };
    // Writing to it does not fail; what is shown of a value that cannot be shown is shown.
    let _ = line.write_fmt(*record.args());
    line.end()
}

/// Whether lines of this target are about requests, with what clients have sent in them.
pub(super) fn is_of_request(target: &str) -> bool {
    ["pingora", "ballast::proxy", "ballast::engine"]
        .iter()
        .any(|begin| target.starts_with(begin))
}

struct Line {
    text: String,
    most: usize,
    /// Bytes that there was no room for.
    cut: usize,
}

impl Line {
    fn end(self) -> String {
        match self.cut {
            0 => self.text,
            cut => format!("{}… ({cut} bytes more)", self.text),
        }
    }
}

impl Write for Line {
    fn write_str(&mut self, more: &str) -> fmt::Result {
        for (at, character) in more.char_indices() {
            if self.cut > 0 || self.text.len() + character.len_utf8() > self.most {
                self.cut += more.len() - at;
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
        bounded(&record.args(format_args!("{text}")).build())
    }

    #[test]
    fn a_line_is_cut_and_tells_how_much_is_missing() {
        for (target, most) in [
            ("pingora_proxy", OF_REQUEST),
            ("ballast::proxy::telling", OF_REQUEST),
            ("ballast::server::reload", LONGEST),
        ] {
            let whole = "a".repeat(most);
            assert_eq!(line_of(target, &whole), whole);
            let long = line_of(target, &"é".repeat(most));
            let cut = format!("… ({most} bytes more)");
            assert!(long.ends_with(&cut), "{long}");
            assert_eq!(long.len(), most + cut.len());
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
