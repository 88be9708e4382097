//! Paths that the `http` crate rejects or changes, called odd here, and their percent-encoding.

/// Whether the `http` crate accepts this byte in a path, or with `query` after its question mark. It accepts bytes
/// outside ASCII if the whole path is UTF-8.
fn is_plain(octet: u8, query: bool) -> bool {
    match octet {
        b'"' | b'?' if query => octet == b'?',
        b'`' => query,
        b'"' | b'!' | 0x24..=0x3b | b'=' | 0x3f..=0x7e | 0x80.. => true,
        _ => false,
    }
}

/// Whether the `http` crate rejects or changes a path. An empty one is left to `h2`.
pub(super) fn is_odd(path: &[u8]) -> bool {
    let mut query = false;
    let mut is_ascii = true;
    let is_plain = path.iter().all(|octet| {
        query |= *octet == b'?';
        is_ascii &= octet.is_ascii();
        is_plain(*octet, query)
    });
    let begins = matches!(path, [] | [b'/' | b'?', ..] | [b'*']);
    !is_plain || !begins || (!is_ascii && std::str::from_utf8(path).is_err())
}

/// The path for the host in place of an odd one, with percent-encoding where it is necessary. Empty: the request is
/// refused, as in HTTP/1.1.
pub(super) fn escape_path(path: &[u8]) -> Vec<u8> {
    let is_bad = |octet: &u8| *octet == b'#' || *octet == b' ' || octet.is_ascii_control();
    if !matches!(path, [b'/' | b'?', ..]) || path.iter().any(is_bad) {
        return Vec::new();
    }
    let is_text = std::str::from_utf8(path).is_ok();
    let mut query = false;
    let mut out = Vec::with_capacity(path.len() + 16);
    for octet in path {
        query |= *octet == b'?';
        if is_plain(*octet, query) && (is_text || octet.is_ascii()) {
            out.push(*octet);
        } else {
            out.extend_from_slice(&percent_encode(*octet));
        }
    }
    out
}

/// Percent-encodes a byte.
fn percent_encode(octet: u8) -> [u8; 3] {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let digit = |half: u8| DIGITS[usize::from(half & 0xf)];
    [b'%', digit(octet >> 4), digit(octet)]
}
