//! Checks and escapes request lines before Pingora's parser sees them.

use memchr::{memchr, memchr_iter};

use super::Malformed;

/// The state of a partly received request line. Pingora percent-encodes octets that a target must not contain and
/// continues, so a host would receive another request than the client sent. Such a line has to be refused first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RequestLineScanner {
    /// Only empty lines so far, which are skipped; `cr`: the last octet was a CR.
    Before { cr: bool },
    /// Inside the line: the number of spaces, whether a question mark was seen, and whether the last octet was a CR.
    Within {
        spaces: usize,
        query: bool,
        cr: bool,
    },
    /// The line is complete.
    Past,
}

impl RequestLineScanner {
    pub(crate) const START: RequestLineScanner = RequestLineScanner::Before { cr: false };

    /// Consumes the next bytes; returns how many of them belong to the line, and whether they have to be
    /// [escaped](Self::escaped). Fails once the line cannot be a method, a target and a version with single spaces
    /// between them and without control characters. The line ends in CRLF or, as RFC 9112 2.2 allows, in LF.
    pub(crate) fn take(&mut self, mut bytes: &[u8]) -> Result<(usize, bool), Malformed> {
        let length = bytes.len();
        if let RequestLineScanner::Before { cr } = self {
            while let [first @ (b'\r' | b'\n'), rest @ ..] = bytes {
                if *cr && *first == b'\r' {
                    return Err(Malformed);
                }
                *cr = *first == b'\r';
                bytes = rest;
            }
            if bytes.is_empty() {
                return Ok((length, false));
            }
            if *cr {
                return Err(Malformed);
            }
            *self = RequestLineScanner::Within {
                spaces: 0,
                query: false,
                cr: false,
            };
        }
        let RequestLineScanner::Within { spaces, query, cr } = self else {
            return Ok((0, false));
        };
        let end = memchr(b'\n', bytes);
        let line = &bytes[..end.unwrap_or(bytes.len())];
        if *cr && !line.is_empty() {
            return Err(Malformed);
        }
        let text = line.strip_suffix(b"\r").unwrap_or(line);
        *cr = text.len() < line.len();
        *spaces += memchr_iter(b' ', text).count();
        let kinds = text
            .iter()
            .fold(0, |kinds, octet| kinds | OCTET_KINDS[usize::from(*octet)]);
        let needs_escape = kinds & NEEDS_ESCAPE != 0;
        *query |= kinds & QUERY != 0;
        if kinds & CONTROL != 0 || *spaces > 2 {
            return Err(Malformed);
        }
        let Some(end) = end else {
            return Ok((length, needs_escape));
        };
        if *spaces < 2 {
            return Err(Malformed);
        }
        *self = RequestLineScanner::Past;
        Ok((length - bytes.len() + end + 1, needs_escape))
    }

    /// Escapes a piece of the line that starts in this state. The `http` crate refuses `<`, `>` and the backtick in a
    /// target, and `"` in its query, while other proxies accept them; every decision treats both forms as the same
    /// path.
    pub(crate) fn escaped(self, piece: &[u8]) -> Vec<u8> {
        let (mut spaces, mut query) = match self {
            RequestLineScanner::Within { spaces, query, .. } => (spaces, query),
            RequestLineScanner::Before { .. } => (0, false),
            RequestLineScanner::Past => return piece.to_vec(),
        };
        let mut escaped = Vec::with_capacity(piece.len() + 32);
        for octet in piece {
            spaces += usize::from(*octet == b' ');
            query |= *octet == b'?';
            let passes = !needs_escape(*octet) || (*octet == b'"' && !query);
            if spaces != 1 || passes {
                escaped.push(*octet);
            } else {
                escaped.extend_from_slice(format!("%{octet:02X}").as_bytes());
            }
        }
        escaped
    }
}

const CONTROL: u8 = 1;
const NEEDS_ESCAPE: u8 = 2;
const QUERY: u8 = 4;

/// The kinds of all octets, so that one pass without branches finds everything.
const OCTET_KINDS: [u8; 256] = {
    let mut kinds = [0; 256];
    let mut octet = 0;
    while octet < 256 {
        if (octet as u8).is_ascii_control() {
            kinds[octet] = CONTROL;
        } else if needs_escape(octet as u8) {
            kinds[octet] = NEEDS_ESCAPE;
        } else if octet as u8 == b'?' {
            kinds[octet] = QUERY;
        }
        octet += 1;
    }
    kinds
};

/// Whether the `http` crate refuses this octet, which is no control character, in some part of a target.
const fn needs_escape(octet: u8) -> bool {
    matches!(octet, b'<' | b'>' | b'`' | b'"')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a request line is accepted. Checks that every split gives the same result.
    fn is_accepted(head: &[u8]) -> bool {
        let in_pieces = |pieces: &[&[u8]]| {
            let mut line = RequestLineScanner::START;
            pieces.iter().all(|piece| line.take(piece).is_ok()) && line == RequestLineScanner::Past
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
    fn only_target_bytes_that_the_http_crate_refuses_are_escaped() {
        let escaped = |line: &[u8]| {
            let whole = RequestLineScanner::START.escaped(line);
            for at in 0..line.len() {
                let (first, second) = line.split_at(at);
                let mut state = RequestLineScanner::START;
                let mut both = state.escaped(first);
                if state.take(first).is_ok() {
                    both.extend(state.escaped(second));
                    assert_eq!(both, whole, "{at}");
                }
            }
            String::from_utf8(whole).expect("text")
        };
        for (line, expected) in [
            (
                "GET /a<b>`\" HTTP/1.1\r\n",
                "GET /a%3Cb%3E%60\" HTTP/1.1\r\n",
            ),
            ("GET /\"?\"` HTTP/1.1\r\n", "GET /\"?%22%60 HTTP/1.1\r\n"),
            ("G<T / HTTP/1.1\r\n", "G<T / HTTP/1.1\r\n"),
            ("GET / HTTP/1.1<\r\n", "GET / HTTP/1.1<\r\n"),
            ("\r\nGET /{|}^ HTTP/1.1\r\n", "\r\nGET /{|}^ HTTP/1.1\r\n"),
        ] {
            assert_eq!(escaped(line.as_bytes()), expected);
            let mut state = RequestLineScanner::START;
            let (_, needs_escape) = state.take(line.as_bytes()).expect("a line");
            assert!(needs_escape || line == expected, "{line}");
        }
    }

    #[test]
    fn a_line_has_three_parts_and_no_control_characters() {
        for good in [
            "GET / HTTP/1.1\r\n",
            "GET / HTTP/1.1\nHost: a b c\r\n\r\n",
            "\r\n\n\r\nOPTIONS * HTTP/1.0\r\nX: \x01\r\n\r\n",
            "GET /caf\u{e9}?<\"> HTTP/1.1\r\n",
        ] {
            assert!(is_accepted(good.as_bytes()), "{good:?}");
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
            assert!(!is_accepted(bad.as_bytes()), "{bad:?}");
        }
    }
}
