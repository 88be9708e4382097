//! Where a head ends: with its first empty line.

use memchr::memchr_iter;

/// What has come of the line that a head may end with, behind its first line. Bytes may come in pieces of any size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HeadEnd {
    Nothing,
    /// A CR and nothing else.
    Cr,
    Text,
}

impl HeadEnd {
    /// At the beginning of a line.
    pub(crate) const START: HeadEnd = HeadEnd::Nothing;

    /// Takes in the next bytes of the fields, and tells where the empty line ends, if it is among them.
    pub(crate) fn find(&mut self, fields: &[u8]) -> Option<usize> {
        let mut begin = 0;
        for at in memchr_iter(b'\n', fields) {
            let is_empty = match (*self, &fields[begin..at]) {
                (HeadEnd::Nothing, line) => matches!(line, b"" | b"\r"),
                (HeadEnd::Cr, line) => line.is_empty(),
                (HeadEnd::Text, _) => false,
            };
            begin = at + 1;
            if is_empty {
                return Some(begin);
            }
            *self = HeadEnd::Nothing;
        }
        *self = match (*self, &fields[begin..]) {
            (before, b"") => before,
            (HeadEnd::Nothing, b"\r") => HeadEnd::Cr,
            _ => HeadEnd::Text,
        };
        None
    }
}
