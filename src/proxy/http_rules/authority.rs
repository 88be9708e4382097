//! The grammar of Host and of the authority in a target: `uri-host [ ":" port ]`, RFC 9110 4.2 and RFC 3986 3.2.

use std::net::Ipv6Addr;

/// Whether `text` is a host with an optional port. An empty text is not valid.
pub(super) fn is_valid(text: &[u8]) -> bool {
    match text {
        [] => false,
        [b'[', rest @ ..] => {
            let Some(end) = rest.iter().position(|&byte| byte == b']') else {
                return false;
            };
            let address = str::from_utf8(&rest[..end]);
            address.is_ok_and(|address| address.parse::<Ipv6Addr>().is_ok())
                && match &rest[end + 1..] {
                    [] => true,
                    [b':', port @ ..] => is_port(port),
                    _ => false,
                }
        }
        _ => match text.iter().position(|&byte| byte == b':') {
            Some(0) => false,
            Some(end) => is_name(&text[..end]) && is_port(&text[end + 1..]),
            None => is_name(text),
        },
    }
}

/// `reg-name`, which includes IPv4 addresses. The grammar allows a comma, but this function rejects it: two Host fields
/// that an intermediary has joined look like that.
fn is_name(text: &[u8]) -> bool {
    let mut rest = text;
    while let [byte, tail @ ..] = rest {
        rest = match (byte, tail) {
            (b'%', [high, low, tail @ ..])
                if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                tail
            }
            (byte, tail) if byte.is_ascii_alphanumeric() || b"-._~!$&'()*+;=".contains(byte) => {
                tail
            }
            _ => return false,
        };
    }
    true
}

/// Zero or more digits, at most 65535.
fn is_port(text: &[u8]) -> bool {
    let value = text.iter().try_fold(0_u32, |value, byte| {
        let digit = char::from(*byte).to_digit(10)?;
        let value = value * 10 + digit;
        (value <= u32::from(u16::MAX)).then_some(value)
    });
    value.is_some()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn hosts_with_and_without_a_port_are_valid() {
        for text in [
            "a",
            "example.com",
            "EXAMPLE.com.",
            "a_b.example",
            "a--b",
            "127.0.0.1",
            "a:80",
            "a:",
            "a:0080",
            "a:65535",
            "[::1]",
            "[::1]:8080",
            "[2001:db8::1]:",
            "[::ffff:1.2.3.4]",
            "%41.example",
            "a!$&'()*+;=~",
        ] {
            assert!(is_valid(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn anything_else_is_not() {
        for text in [
            "",
            ":",
            ":80",
            "a b",
            "a\tb",
            "a,b",
            "a, b",
            "a@b",
            "a:b",
            "a:80:80",
            "a:65536",
            "a:99999999999999999999",
            "a:-1",
            "a:+80",
            "a/b",
            "a?b",
            "a#b",
            "a\\b",
            "a<b>",
            "\"a\"",
            "a^b",
            "a`b",
            "{a}",
            "a|b",
            "%",
            "%4",
            "%4g",
            "%zz",
            "[",
            "[]",
            "[::1",
            "::1",
            "[::1]x",
            "[::1]:x",
            "[::1]:80:80",
            "[[::1]]",
            "[1.2.3.4]",
            "[g::1]",
            "[::1%25eth0]",
            "[v1.x]",
            "a]",
            "a[",
            "http://a",
            "a\0",
            "a\x7f",
            "a\u{b}",
            "ä.example",
        ] {
            assert!(!is_valid(text.as_bytes()), "{text}");
        }
        assert!(!is_valid(b"a\xff"));
    }

    proptest! {
        /// For every valid text, the URI parser finds the same host and port. It does not support percent-encoded
        /// names.
        #[test]
        fn what_is_valid_is_one_authority(text in "[a-z0-9.:@/\\[\\]_-]{1,12}") {
            if is_valid(text.as_bytes()) {
                let authority: http::uri::Authority = text.parse().expect("an authority");
                prop_assert_eq!(authority.as_str(), &text);
                prop_assert!(!text.contains('@'));
            }
        }
    }
}
