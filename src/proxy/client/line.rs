//! The first line of a request, looked at before Pingora's parser sees it.

use memchr::{memchr, memchr_iter};

use super::Malformed;

/// What has come of a request line so far. Pingora percent-escapes what must not stand in a target and goes on, so a
/// host would get another request than the client has sent; the line must be refused before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RequestLine {
    /// Nothing but empty lines, which are passed over; whether a CR was the last octet.
    Before { cr: bool },
    /// Its beginning: how many SP it has, and whether a CR was the last octet.
    Within { spaces: usize, cr: bool },
    /// It is over.
    Past,
}

impl RequestLine {
    pub(super) const START: RequestLine = RequestLine::Before { cr: false };

    /// Takes in what comes next, and tells how much of it is the line's. It is refused if the line cannot become a
    /// method, a target and a version any more, with one SP between each and without CTL. It ends in CRLF or, as
    /// RFC 9112 2.2 allows, in LF.
    pub(super) fn take(&mut self, mut bytes: &[u8]) -> Result<usize, Malformed> {
        let all = bytes.len();
        if let RequestLine::Before { cr } = self {
            while let [first @ (b'\r' | b'\n'), rest @ ..] = bytes {
                if *cr && *first == b'\r' {
                    return Err(Malformed);
                }
                *cr = *first == b'\r';
                bytes = rest;
            }
            if bytes.is_empty() {
                return Ok(all);
            }
            if *cr {
                return Err(Malformed);
            }
            *self = RequestLine::Within {
                spaces: 0,
                cr: false,
            };
        }
        let RequestLine::Within { spaces, cr } = self else {
            return Ok(0);
        };
        let end = memchr(b'\n', bytes);
        let line = &bytes[..end.unwrap_or(bytes.len())];
        if *cr && !line.is_empty() {
            return Err(Malformed);
        }
        let text = line.strip_suffix(b"\r").unwrap_or(line);
        *cr = text.len() < line.len();
        *spaces += memchr_iter(b' ', text).count();
        // Without a branch for each octet, so that it is done for many at once.
        let control = text
            .iter()
            .fold(false, |control, octet| control | octet.is_ascii_control());
        if control || *spaces > 2 {
            return Err(Malformed);
        }
        let Some(end) = end else {
            return Ok(all);
        };
        if *spaces < 2 {
            return Err(Malformed);
        }
        *self = RequestLine::Past;
        Ok(all - bytes.len() + end + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a head is taken that comes in two pieces, and in single octets.
    fn taken(head: &[u8]) -> bool {
        let in_pieces = |pieces: &[&[u8]]| {
            let mut line = RequestLine::START;
            pieces.iter().all(|piece| line.take(piece).is_ok()) && line == RequestLine::Past
        };
        let whole = in_pieces(&[head]);
        assert_eq!(in_pieces(&Vec::from_iter(head.chunks(1))), whole);
        for at in 0..head.len() {
            let (first, second) = head.split_at(at);
            assert_eq!(in_pieces(&[first, second]), whole, "{at}");
        }
        whole
    }

    #[test]
    fn a_line_has_three_words_and_nothing_invisible() {
        for good in [
            "GET / HTTP/1.1\r\n",
            "GET / HTTP/1.1\nHost: a b c\r\n\r\n",
            "\r\n\n\r\nOPTIONS * HTTP/1.0\r\nX: \x01\r\n\r\n",
            "GET /caf\u{e9}?<\"> HTTP/1.1\r\n",
        ] {
            assert!(taken(good.as_bytes()), "{good:?}");
        }
        for bad in [
            "GET /\r\n",
            "GET /a b HTTP/1.1\r\n",
            "GET  / HTTP/1.1\r\n",
            "GET /  HTTP/1.1\r\n",
            " GET / HTTP/1.1\r\n",
            "GET / HTTP/1.1 \r\n",
            "GET\t/ HTTP/1.1\r\n",
            "GET /\tHTTP/1.1\r\n",
            "GET /\0 HTTP/1.1\r\n",
            "GET /\x7f HTTP/1.1\r\n",
            "GET /\r HTTP/1.1\r\n",
            "GET / HTTP/1.1\r\r\n",
            "\r\r\nGET / HTTP/1.1\r\n",
            "\rGET / HTTP/1.1\r\n",
            "\x16\x03\x01",
        ] {
            assert!(!taken(bad.as_bytes()), "{bad:?}");
        }
    }
}
