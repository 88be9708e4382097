//! Writes a JSON object key by key. Serialising with serde costs three times as much, for every request; serde_json
//! still escapes the strings that need it.

use std::borrow::Cow;
use std::time::Duration;

use itoa::Integer;

/// An object that is being written. `None` is written as `null`.
pub(super) struct JsonObject<'a> {
    line: &'a mut Vec<u8>,
}

/// A key with quotes and colon, made by [`key!`]. Its length is known at compile time, so writing it is a few moves.
#[derive(Clone, Copy)]
pub(super) struct JsonKey(pub(super) &'static str);

/// A [`JsonKey`] with this name, which must not need escapes.
macro_rules! key {
    ($name:literal) => {
        $crate::access_log::json_object::JsonKey(concat!("\"", $name, "\":"))
    };
}
pub(super) use key;

impl<'a> JsonObject<'a> {
    pub(super) fn begin(line: &'a mut Vec<u8>) -> Self {
        line.push(b'{');
        JsonObject { line }
    }

    /// Ends the object, which must have at least one key.
    pub(super) fn end(self) {
        self.line.pop();
        self.line.push(b'}');
    }

    #[inline(always)]
    pub(super) fn boolean(&mut self, key: JsonKey, value: bool) {
        self.key(key);
        match value {
            true => self.line.extend(b"true,"),
            false => self.line.extend(b"false,"),
        }
    }

    #[inline(always)]
    pub(super) fn number(&mut self, key: JsonKey, value: Option<impl Integer>) {
        self.key(key);
        match value {
            Some(value) => self.digits(value, b","),
            None => self.line.extend(b"null,"),
        }
    }

    /// Writes a duration in milliseconds, with three decimals.
    #[inline(always)]
    pub(super) fn millis(&mut self, key: JsonKey, value: Option<Duration>) {
        self.key(key);
        match value {
            Some(value) => self.time(value),
            None => self.line.extend(b"null,"),
        }
    }

    /// Writes a string that needs no escapes.
    #[inline(always)]
    pub(super) fn raw_str(&mut self, key: JsonKey, value: Option<&[u8]>) {
        self.key(key);
        match value {
            Some(value) => self.bare(value),
            None => self.line.extend(b"null,"),
        }
    }

    /// Writes a string of two parts that need no escapes.
    #[inline(always)]
    pub(super) fn raw_str_parts(&mut self, key: JsonKey, first: &[u8], second: &[u8]) {
        self.key(key);
        self.line.push(b'"');
        self.line.extend(first);
        self.bare_end(second);
    }

    /// Writes received bytes as a string. Invalid UTF-8 and all control characters that JSON does not escape become
    /// U+FFFD.
    #[inline(always)]
    pub(super) fn escaped_str(&mut self, key: JsonKey, value: Option<&[u8]>) {
        self.key(key);
        match value {
            Some(value) => self.quoted(value),
            None => self.line.extend(b"null,"),
        }
    }

    /// Writes a list of objects, each filled in by `fill`.
    pub(super) fn array<T>(
        &mut self,
        key: JsonKey,
        items: impl IntoIterator<Item = T>,
        fill: impl Fn(&mut JsonObject<'_>, T),
    ) {
        self.key(key);
        self.line.push(b'[');
        let begin = self.line.len();
        for item in items {
            let mut object = JsonObject::begin(self.line);
            fill(&mut object, item);
            object.end();
            self.line.push(b',');
        }
        if self.line.len() > begin {
            self.line.pop();
        }
        self.line.extend(b"],");
    }

    #[inline(always)]
    fn key(&mut self, key: JsonKey) {
        self.line.extend(key.0.as_bytes());
    }

    fn digits(&mut self, number: impl Integer, end: &[u8]) {
        let mut buffer = itoa::Buffer::new();
        self.line.extend(buffer.format(number).as_bytes());
        self.line.extend(end);
    }

    fn time(&mut self, time: Duration) {
        // A duration's own total in microseconds has 128 bits, which are slow to divide.
        let whole = time.as_secs().saturating_mul(1_000);
        let micros = time.subsec_micros();
        let digit = |unit| b'0' + (micros / unit % 10) as u8;
        let end = [b'.', digit(100), digit(10), digit(1), b','];
        self.digits(whole.saturating_add(u64::from(micros / 1_000)), &end);
    }

    fn bare(&mut self, value: &[u8]) {
        self.line.push(b'"');
        self.bare_end(value);
    }

    fn bare_end(&mut self, value: &[u8]) {
        self.line.extend(value);
        self.line.extend(b"\",");
    }

    fn quoted(&mut self, value: &[u8]) {
        if is_plain(value) {
            return self.bare(value);
        }
        serde_json::to_writer(&mut *self.line, &printable(value))
            .expect("a vector takes everything");
        self.line.push(b',');
    }
}

/// Whether a text needs no escapes: visible ASCII without `"` and `\`.
fn is_plain(text: &[u8]) -> bool {
    let is_plain = |byte: &u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\');
    // Without an early exit, so that the compiler can check many bytes at once.
    text.iter().fold(true, |all, byte| all & is_plain(byte))
}

fn printable(bytes: &[u8]) -> Cow<'_, str> {
    // A terminal also interprets DEL and the control characters beyond ASCII, which JSON does not escape.
    let is_hidden = |c: char| c.is_control() && !c.is_ascii() || c == '\u{7f}';
    let text = String::from_utf8_lossy(bytes);
    match text.contains(is_hidden) {
        false => text,
        true => text.replace(is_hidden, "\u{fffd}").into(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn object_text(fill: impl Fn(&mut JsonObject<'_>)) -> String {
        let mut line = Vec::new();
        let mut object = JsonObject::begin(&mut line);
        fill(&mut object);
        object.end();
        String::from_utf8(line).expect("text")
    }

    proptest! {
        #[test]
        fn bytes_that_need_an_escape_are_found_at_every_position(
            text in "[ -~&&[^\"\\\\]]{1,40}",
            odd in prop_oneof![0_u8..b' ', 0x7f_u8.., Just(b'"'), Just(b'\\')],
            at: prop::sample::Index,
        ) {
            prop_assert!(is_plain(text.as_bytes()), "{text}");
            let mut bytes = text.into_bytes();
            let at = at.index(bytes.len());
            bytes[at] = odd;
            prop_assert!(!is_plain(&bytes), "{bytes:?}");
        }
    }

    #[test]
    fn received_bytes_cannot_close_the_string() {
        for (sent, written) in [
            (&b""[..], r#"{"a":""}"#),
            (b"plain ~", r#"{"a":"plain ~"}"#),
            (b"a\"b\\c", r#"{"a":"a\"b\\c"}"#),
            (b"a\r\nb\t\0\x1b", r#"{"a":"a\r\nb\t\u0000\u001b"}"#),
            (b"caf\xc3\xa9", "{\"a\":\"caf\u{e9}\"}"),
            (b"\xff\xc3", "{\"a\":\"\u{fffd}\u{fffd}\"}"),
            (b"\x7f\xc2\x9b31m", "{\"a\":\"\u{fffd}\u{fffd}31m\"}"),
        ] {
            assert_eq!(
                object_text(|object| object.escaped_str(key!("a"), Some(sent))),
                written
            );
        }
    }

    #[test]
    fn values_and_lists_are_json() {
        let text = object_text(|object| {
            object.number(key!("a"), Some(7_u16));
            object.number(key!("b"), None::<u64>);
            object.boolean(key!("c"), true);
            object.millis(key!("d"), Some(Duration::from_nanos(12_030_999)));
            object.millis(key!("e"), Some(Duration::ZERO));
            object.millis(key!("f"), None);
            object.escaped_str(key!("g"), None);
            object.array(key!("h"), [1_u8, 2], |object, n| {
                object.number(key!("n"), Some(n))
            });
            object.array(key!("i"), [0_u8; 0], |object, n| {
                object.number(key!("n"), Some(n))
            });
            object.raw_str(key!("j"), Some(b"12"));
            object.raw_str(key!("k"), None);
        });
        assert_eq!(
            text,
            r#"{"a":7,"b":null,"c":true,"d":12.030,"e":0.000,"f":null,"g":null,"h":[{"n":1},{"n":2}],"i":[],"j":"12","k":null}"#
        );
    }
}
