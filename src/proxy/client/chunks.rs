//! A body in chunks as it comes (RFC 9112 7.1), checked to the letter.
//!
//! Pingora decodes it; this tells where it ends, and refuses first what Pingora would read in its own way: a size
//! without a digit, control characters in an extension, and trailer fields that are none.

use super::Malformed;

/// As many hexadecimal digits as fit into 60 bits; more of them are an attack, whatever they say.
const MOST_DIGITS: u8 = 15;

/// The rest of the line with a chunk's size: nobody uses extensions.
const LONGEST_EXTENSION: u32 = 4 << 10;

/// All trailer fields; they are thrown away.
const LONGEST_TRAILER: u32 = 16 << 10;

/// What has come of the body so far.
#[derive(Debug)]
pub(in crate::proxy) struct Chunks {
    next: Next,
    /// The size of the chunk.
    size: u64,
    /// What has come of the extension, or of the trailer.
    length: u32,
}

/// What may come next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// The size, of which so many digits have come.
    Size(u8),
    /// White space between the size and an extension.
    Space,
    Extension,
    SizeLf,
    /// So many bytes of data.
    Data(u64),
    DataCr,
    DataLf,
    /// A trailer field, or the end.
    Field,
    Name,
    Value,
    FieldLf,
    LastLf,
    Over,
}

impl Default for Chunks {
    fn default() -> Self {
        Chunks {
            next: Next::Size(0),
            size: 0,
            length: 0,
        }
    }
}

impl Chunks {
    pub(super) fn is_over(&self) -> bool {
        self.next == Next::Over
    }

    /// Takes in what comes next, and tells how much of it is the body's.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<usize, Malformed> {
        let mut at = 0;
        while at < bytes.len() {
            match self.next {
                Next::Over => break,
                Next::Data(left) => {
                    let rest = (bytes.len() - at) as u64;
                    let own = left.min(rest);
                    at += own as usize;
                    self.next = match left - own {
                        0 => Next::DataCr,
                        left => Next::Data(left),
                    };
                }
                _ => {
                    self.next = self.after(bytes[at])?;
                    at += 1;
                }
            }
        }
        Ok(at)
    }

    /// What may come after an octet that is no data.
    fn after(&mut self, octet: u8) -> Result<Next, Malformed> {
        Ok(match (self.next, octet) {
            (Next::Size(digits), _) if octet.is_ascii_hexdigit() => {
                if digits == MOST_DIGITS {
                    return Err(Malformed);
                }
                let digit = char::from(octet).to_digit(16).unwrap_or_default();
                self.size = self.size << 4 | u64::from(digit);
                Next::Size(digits + 1)
            }
            (Next::Size(1..) | Next::Space, b' ' | b'\t') => {
                self.longer(LONGEST_EXTENSION, Next::Space)?
            }
            (Next::Size(1..) | Next::Space, b';') => Next::Extension,
            (Next::Size(1..) | Next::Space | Next::Extension, b'\r') => Next::SizeLf,
            (Next::Extension, _) if is_text(octet) => {
                self.longer(LONGEST_EXTENSION, Next::Extension)?
            }
            (Next::SizeLf, b'\n') => {
                self.length = 0;
                match std::mem::take(&mut self.size) {
                    0 => Next::Field,
                    size => Next::Data(size),
                }
            }
            (Next::DataCr, b'\r') => Next::DataLf,
            (Next::DataLf, b'\n') => Next::Size(0),
            (Next::Field, b'\r') => Next::LastLf,
            (Next::Field | Next::Name, _) if is_token(octet) => {
                self.longer(LONGEST_TRAILER, Next::Name)?
            }
            (Next::Name, b':') => Next::Value,
            (Next::Value, b'\r') => Next::FieldLf,
            (Next::Value, _) if is_text(octet) => self.longer(LONGEST_TRAILER, Next::Value)?,
            (Next::FieldLf, b'\n') => Next::Field,
            (Next::LastLf, b'\n') => Next::Over,
            _ => return Err(Malformed),
        })
    }

    /// `next`, unless there has been too much of it.
    fn longer(&mut self, most: u32, next: Next) -> Result<Next, Malformed> {
        self.length += 1;
        match self.length > most {
            true => Err(Malformed),
            false => Ok(next),
        }
    }
}

/// What may stand in an extension and in a field's value: anything but control characters, of which HTAB is none.
fn is_text(octet: u8) -> bool {
    octet == b'\t' || !octet.is_ascii_control()
}

/// `tchar` of RFC 9110 5.6.2.
fn is_token(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&octet)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How much of `bytes` is the body's, the same however they are cut, and whether it is over.
    fn judged(bytes: &[u8]) -> Result<(usize, bool), Malformed> {
        let in_pieces = |pieces: &[&[u8]]| {
            let (mut chunks, mut own) = (Chunks::default(), 0);
            for piece in pieces {
                own += chunks.take(piece)?;
            }
            Ok((own, chunks.is_over()))
        };
        let whole = in_pieces(&[bytes]);
        assert_eq!(in_pieces(&Vec::from_iter(bytes.chunks(1))), whole);
        for at in 0..bytes.len().min(100) {
            let (first, second) = bytes.split_at(at);
            assert_eq!(in_pieces(&[first, second]), whole, "{at}");
        }
        whole
    }

    #[test]
    fn a_body_ends_behind_its_trailer() {
        for body in [
            "0\r\n\r\n",
            "5\r\nhello\r\n0\r\n\r\n",
            "5;a=\"b\"\r\nhello\r\n00;x\r\n\r\n",
            "5 \t;a\r\nhello\r\n0 \r\n\r\n",
            "a\r\n\r\n0\r\n\r\n0\r\n\r\n0\r\nX-T: a\tb\r\nY:\r\n\r\n",
            "00000000000000F\r\n0123456789abcde\r\n0\r\n\r\n",
        ] {
            assert_eq!(judged(body.as_bytes()), Ok((body.len(), true)), "{body:?}");
            let more = [body, "GET / HTTP/1.1\r\n"].concat();
            assert_eq!(judged(more.as_bytes()), Ok((body.len(), true)), "{more:?}");
            let less = &body[..body.len() - 1];
            assert_eq!(judged(less.as_bytes()), Ok((less.len(), false)), "{less:?}");
        }
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        let long = |part: &str, count| part.repeat(count);
        for body in [
            "\r\n".to_owned(),
            ";a\r\n".to_owned(),
            " 5\r\n".to_owned(),
            "0x5\r\n".to_owned(),
            "5 5\r\n".to_owned(),
            "5\n".to_owned(),
            "5\r\r\n".to_owned(),
            "5;\0\r\n".to_owned(),
            "5;a\n".to_owned(),
            "5\r\nhello0".to_owned(),
            "5\r\nhello\n".to_owned(),
            "0\r\n\n".to_owned(),
            "0\r\n: a\r\n".to_owned(),
            "0\r\nX : a\r\n".to_owned(),
            "0\r\nX\r\n".to_owned(),
            "0\r\nX: a\r\n b\r\n".to_owned(),
            "0\r\nX: \0\r\n".to_owned(),
            "0\r\nX: a\n".to_owned(),
            "0000000000000005\r\n".to_owned(),
            long("0", 5_000),
            format!("5;{}", long("a", 5_000)),
            format!("5{}", long(" ", 5_000)),
            format!("0\r\nX:{}", long("a", 20_000)),
            format!("0\r\n{}", long("X:\r\n", 20_000)),
        ] {
            assert_eq!(judged(body.as_bytes()), Err(Malformed), "{body:?}");
        }
    }
}
