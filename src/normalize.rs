//! Normalises paths and host names. Every decision about a request uses the normal form; hosts receive the bytes as
//! sent.

use std::borrow::Cow;

/// A normalised path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NormalizedPath<'a> {
    /// The normal form. It borrows the path as sent if that is normal already.
    pub(crate) path: Cow<'a, [u8]>,
    /// Whether hosts may interpret the path as sent differently.
    pub(crate) ambiguous: bool,
}

/// Normalises a path, which has no query.
///
/// Percent-encoded visible ASCII characters are decoded, except `% / \ ; ? #`; other octets are percent-encoded in
/// upper case. `\` becomes `/`, path parameters are removed, `//` becomes `/`, and dot segments are resolved. An empty
/// path becomes `/`; a path that does not begin with a slash, such as `*`, stays unchanged.
pub(crate) fn path(sent: &[u8]) -> NormalizedPath<'_> {
    if sent.is_empty() {
        return NormalizedPath {
            path: Cow::Borrowed(b"/"),
            ambiguous: false,
        };
    }
    if is_plain(sent) || !sent.starts_with(b"/") {
        return NormalizedPath {
            path: Cow::Borrowed(sent),
            ambiguous: false,
        };
    }
    let mut normal = PathNormalizer::new(sent);
    let mut segments = sent[1..].split(|byte| is_slash(*byte)).peekable();
    while let Some(segment) = segments.next() {
        normal.push(segment, segments.peek().is_none());
    }
    NormalizedPath {
        path: Cow::Owned(normal.path),
        ambiguous: normal.ambiguous,
    }
}

/// Bytes that normalisation never changes on their own.
const PLAIN: [bool; 256] = {
    let mut plain = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        plain[byte] = (byte as u8).is_ascii_graphic() && !matches!(byte as u8, b'%' | b';' | b'\\');
        byte += 1;
    }
    plain
};

/// Whether a path is certainly in normal form. May return false for a normal path.
fn is_plain(path: &[u8]) -> bool {
    let mut previous = 0;
    let mut special = false;
    for &byte in path {
        special |= !PLAIN[usize::from(byte)] | (previous == b'/' && matches!(byte, b'/' | b'.'));
        previous = byte;
    }
    !special
}

fn is_slash(byte: u8) -> bool {
    matches!(byte, b'/' | b'\\')
}

/// Builds a normal path segment by segment.
struct PathNormalizer {
    /// The segments so far, each with a leading slash.
    path: Vec<u8>,
    ambiguous: bool,
    /// Whether the path as sent contains a `\`, which not all hosts treat as a slash.
    backslash: bool,
    /// The number of segments since the last empty one, which some hosts count as a segment.
    since_empty: Option<usize>,
}

impl PathNormalizer {
    fn new(sent: &[u8]) -> Self {
        PathNormalizer {
            path: Vec::with_capacity(sent.len() + 1),
            ambiguous: looks_like_authority(sent),
            backslash: sent.contains(&b'\\'),
            since_empty: None,
        }
    }

    fn push(&mut self, segment: &[u8], last: bool) {
        let end = segment.iter().position(|byte| *byte == b';');
        let (name, parameters) = segment.split_at(end.unwrap_or(segment.len()));
        let begin = self.path.len();
        // Parameters may also contain an encoded slash, so they are checked and then removed.
        self.push_octets(parameters);
        self.path.truncate(begin);
        self.path.push(b'/');
        self.push_octets(name);
        let is_special = match &self.path[begin + 1..] {
            b"" => {
                self.since_empty = Some(0);
                true
            }
            b"." => {
                // Some hosts treat `.;a` as a name.
                self.ambiguous |= !parameters.is_empty();
                true
            }
            b".." => {
                self.ambiguous |= !parameters.is_empty() || self.backslash;
                self.resolve_dots(begin);
                if last {
                    self.path.push(b'/');
                }
                return;
            }
            _ => {
                self.since_empty = self.since_empty.map(|count| count + 1);
                false
            }
        };
        if is_special {
            self.path.truncate(begin + usize::from(last));
        }
    }

    /// Resolves the `..` that starts at `begin`: removes it and the segment before it.
    fn resolve_dots(&mut self, begin: usize) {
        self.path.truncate(begin);
        match &mut self.since_empty {
            Some(0) => self.ambiguous = true,
            Some(count) => *count -= 1,
            None => {}
        }
        match self.path.iter().rposition(|byte| *byte == b'/') {
            Some(parent) => self.path.truncate(parent),
            None => self.ambiguous = true,
        }
    }

    /// Appends octets in normal form.
    fn push_octets(&mut self, mut text: &[u8]) {
        let mut previous = 0;
        while let [first, rest @ ..] = text {
            text = rest;
            let octet = match (first, percent_decoded(rest)) {
                (b'%', Some(octet)) => {
                    text = &rest[2..];
                    self.ambiguous |=
                        matches!(octet, b'/' | b'\\' | b';') || octet.is_ascii_control();
                    match octet {
                        b'/' | b'\\' | b';' | b'%' | b'?' | b'#' => self.push_encoded(octet),
                        visible if visible.is_ascii_graphic() => self.path.push(visible),
                        other => self.push_encoded(other),
                    }
                    octet
                }
                (b'%', None) => {
                    self.ambiguous = true;
                    self.push_encoded(b'%');
                    b'%'
                }
                (visible, _) if visible.is_ascii_graphic() => {
                    self.path.push(*visible);
                    *visible
                }
                (other, _) => {
                    self.push_encoded(*other);
                    *other
                }
            };
            self.ambiguous |= is_overlong(previous, octet);
            previous = octet;
        }
    }

    fn push_encoded(&mut self, octet: u8) {
        const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
        let digits = [octet >> 4, octet & 0xf].map(|digit| DIGITS[usize::from(digit)]);
        self.path.extend_from_slice(&[b'%', digits[0], digits[1]]);
    }
}

/// Decodes two hexadecimal digits at the start of `text`.
fn percent_decoded(text: &[u8]) -> Option<u8> {
    let digit = |at: usize| char::from(*text.get(at)?).to_digit(16);
    Some((digit(0)? << 4 | digit(1)?) as u8)
}

/// Whether two octets start an overlong UTF-8 sequence; old decoders read `%c0%af` as a slash.
fn is_overlong(first: u8, second: u8) -> bool {
    match first {
        0xc0 | 0xc1 => (0x80..=0xbf).contains(&second),
        0xe0 => (0x80..=0x9f).contains(&second),
        0xf0 => (0x80..=0x8f).contains(&second),
        _ => false,
    }
}

/// Whether a path starts like `//example.com/`: URL parsers read the name as a host and only the rest as the path.
fn looks_like_authority(path: &[u8]) -> bool {
    let rest = match path {
        [first, second, rest @ ..] if is_slash(*first) && is_slash(*second) => rest,
        _ => return false,
    };
    let end = rest.iter().position(|byte| is_slash(*byte));
    end.is_some_and(|end| {
        let name = &rest[..end];
        !matches!(name, b"." | b"..") && name.iter().any(|byte| b".:@".contains(byte))
    })
}

/// Normalises the host name of a Host field or another authority: removes the port and trailing dots and decodes
/// percent-encoding. The case is kept.
pub(crate) fn host(authority: &[u8]) -> Cow<'_, [u8]> {
    let name = without_port(authority);
    if !name.contains(&b'%') {
        return Cow::Borrowed(without_dots(name));
    }
    let mut decoded = Vec::with_capacity(name.len());
    let mut rest = name;
    while let [first, tail @ ..] = rest {
        let octet = percent_decoded(tail).filter(|_| *first == b'%');
        decoded.push(octet.unwrap_or(*first));
        rest = if octet.is_some() { &tail[2..] } else { tail };
    }
    decoded.truncate(without_dots(&decoded).len());
    Cow::Owned(decoded)
}

/// The host name of an authority as sent, without port and trailing dots. What is percent-encoded in it stays so: decoded
/// it may be a line break.
pub(crate) fn encoded_host(authority: &[u8]) -> &[u8] {
    without_dots(without_port(authority))
}

fn without_port(authority: &[u8]) -> &[u8] {
    // The colons of an IPv6 literal are inside its brackets.
    match authority
        .iter()
        .rposition(|&byte| byte == b':' || byte == b']')
    {
        Some(at) if authority[at] == b':' => &authority[..at],
        _ => authority,
    }
}

fn without_dots(mut name: &[u8]) -> &[u8] {
    while let [rest @ .., b'.'] = name {
        name = rest;
    }
    name
}

#[cfg(test)]
mod tests;
