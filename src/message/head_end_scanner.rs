//! Where a head ends: with its first empty line.

use memchr::memchr_iter;

/// What has come of the line that a head may end with, behind its first line. Bytes may come in pieces of any size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HeadEndScanner {
    LineStart,
    /// A CR and nothing else.
    CarriageReturn,
    InLine,
}

impl HeadEndScanner {
    /// At the beginning of a line.
    pub(crate) const START: HeadEndScanner = HeadEndScanner::LineStart;

    /// Takes in the next bytes of the fields, and tells where the empty line ends, if it is among them.
    pub(crate) fn find(&mut self, fields: &[u8]) -> Option<usize> {
        let mut begin = 0;
        for at in memchr_iter(b'\n', fields) {
            let is_empty = match (*self, &fields[begin..at]) {
                (HeadEndScanner::LineStart, line) => matches!(line, b"" | b"\r"),
                (HeadEndScanner::CarriageReturn, line) => line.is_empty(),
                (HeadEndScanner::InLine, _) => false,
            };
            begin = at + 1;
            if is_empty {
                return Some(begin);
            }
            *self = HeadEndScanner::LineStart;
        }
        *self = match (*self, &fields[begin..]) {
            (before, b"") => before,
            (HeadEndScanner::LineStart, b"\r") => HeadEndScanner::CarriageReturn,
            _ => HeadEndScanner::InLine,
        };
        None
    }
}
