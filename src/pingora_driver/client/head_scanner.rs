//! Incremental scanner for the head of a request. It finds the end of the head, so that later bytes are not taken for
//! part of it.

use crate::message::Malformed;
use crate::message::head_end_scanner::HeadEndScanner;
use crate::message::request_line_scanner::RequestLineScanner;

/// The part of a head that has been read so far.
#[derive(Debug)]
pub(crate) struct HeadScanner {
    line: RequestLineScanner,
    end: HeadEndScanner,
    is_complete: bool,
    /// Set if the last bytes contain a part of the request line that must be escaped: the state of the line before
    /// them, and how many bytes belong to the line.
    odd: Option<(RequestLineScanner, usize)>,
}

impl HeadScanner {
    pub(crate) const START: HeadScanner = HeadScanner {
        line: RequestLineScanner::START,
        end: HeadEndScanner::START,
        is_complete: false,
        odd: None,
    };

    /// Scans the next bytes and returns how many belong to the head. An invalid request line is an error, and so are
    /// bytes after the end of the head: if Pingora asks for more there, it parses the head differently from us.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> Result<usize, Malformed> {
        if self.is_complete {
            return Err(Malformed);
        }
        let before = self.line;
        let (line, is_odd) = self.line.take(bytes)?;
        self.odd = is_odd.then_some((before, line));
        if self.line != RequestLineScanner::Past {
            return Ok(line);
        }
        let end = self.end.find(&bytes[line..]);
        self.is_complete = end.is_some();
        Ok(end.map_or(bytes.len(), |end| line + end))
    }

    /// The escaped form of the `bytes` scanned last. `None`: they need no escaping.
    pub(crate) fn escaped(&mut self, bytes: &[u8]) -> Option<Vec<u8>> {
        let (before, line) = self.odd.take()?;
        let (line, rest) = bytes.split_at(line.min(bytes.len()));
        let mut escaped = before.escaped(line);
        escaped.extend_from_slice(rest);
        Some(escaped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of `bytes` belong to the head, for any division into reads. `None`: all of them, and the head is not
    /// complete.
    fn length(bytes: &[u8]) -> Option<usize> {
        let in_pieces = |pieces: &[&[u8]]| {
            let (mut head, mut taken) = (HeadScanner::START, 0);
            for piece in pieces {
                taken += head.take(piece).expect("a good first line");
                if head.is_complete {
                    return Some(taken);
                }
            }
            assert_eq!(
                taken,
                bytes.len(),
                "all bytes of an incomplete head belong to it"
            );
            None
        };
        let whole = in_pieces(&[bytes]);
        for at in 0..bytes.len() {
            let (first, second) = bytes.split_at(at);
            assert_eq!(in_pieces(&[first, second]), whole, "{at}");
        }
        assert_eq!(in_pieces(&Vec::from_iter(bytes.chunks(1))), whole);
        whole
    }

    #[test]
    fn a_head_ends_with_its_first_empty_line() {
        for head in [
            "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "\r\n\nGET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\nHost: a\n\n",
            "GET / HTTP/1.1\r\nA: \r\r\nB: b\n\r\n",
        ] {
            assert_eq!(length(head.as_bytes()), Some(head.len()), "{head:?}");
            for next in ["\r\n", "GET / HTTP/1.1\r\n", "\n"] {
                let both = [head, next].concat();
                assert_eq!(length(both.as_bytes()), Some(head.len()), "{both:?}");
            }
        }
        for part in [
            "",
            "GET / HT",
            "GET / HTTP/1.1\r\n",
            "GET / HTTP/1.1\r\nA: b\r\n\r",
            "GET / HTTP/1.1\r\nA: b\n\r\r",
            "GET / HTTP/1.1\r\n\r \r\n",
        ] {
            assert_eq!(length(part.as_bytes()), None, "{part:?}");
        }
    }

    #[test]
    fn bytes_after_a_complete_head_are_an_error() {
        let mut head = HeadScanner::START;
        assert_eq!(head.take(b"GET / HTTP/1.1\r\n\r\n"), Ok(18));
        assert_eq!(head.take(b"x"), Err(Malformed));
    }
}
