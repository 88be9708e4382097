//! Finds the end of a head, which is its first empty line.

use memchr::memchr_iter;

/// The state of the current line, after the first line of the head. Bytes may arrive in pieces of any size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HeadEndScanner {
    LineStart,
    /// The line consists of a CR so far.
    CarriageReturn,
    InLine,
}

impl HeadEndScanner {
    /// The start of a line.
    pub(crate) const START: HeadEndScanner = HeadEndScanner::LineStart;

    /// Scans the next bytes of the fields; returns the position after the empty line if it is among them.
    pub(crate) fn find(&mut self, fields: &[u8]) -> Option<usize> {
        let mut line_start = 0;
        for at in memchr_iter(b'\n', fields) {
            let is_empty = match (*self, &fields[line_start..at]) {
                (HeadEndScanner::LineStart, line) => matches!(line, b"" | b"\r"),
                (HeadEndScanner::CarriageReturn, line) => line.is_empty(),
                (HeadEndScanner::InLine, _) => false,
            };
            line_start = at + 1;
            if is_empty {
                return Some(line_start);
            }
            *self = HeadEndScanner::LineStart;
        }
        *self = match (*self, &fields[line_start..]) {
            (before, b"") => before,
            (HeadEndScanner::LineStart, b"\r") => HeadEndScanner::CarriageReturn,
            _ => HeadEndScanner::InLine,
        };
        None
    }
}
