//! Tells HTTP/2 from HTTP/1.1 by the first bytes of a connection.

/// What a client of HTTP/2 sends first, RFC 9113 3.4.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Whether a connection that begins with `bytes` speaks HTTP/2. `None`: a byte more may tell.
pub(crate) fn begins_http2(bytes: &[u8]) -> Option<bool> {
    if bytes.len() < PREFACE.len() && PREFACE.starts_with(bytes) {
        return None;
    }
    Some(bytes.starts_with(PREFACE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_byte_that_differs_tells() {
        for length in 0..PREFACE.len() {
            assert_eq!(begins_http2(&PREFACE[..length]), None, "{length}");
            let mut other = PREFACE[..=length].to_vec();
            other[length] ^= 1;
            assert_eq!(begins_http2(&other), Some(false), "{length}");
        }
        assert_eq!(begins_http2(PREFACE), Some(true));
        assert_eq!(begins_http2(&[PREFACE, b"more"].concat()), Some(true));
        assert_eq!(begins_http2(b"POST / HTTP/1.1"), Some(false));
    }
}
