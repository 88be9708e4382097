//! An object of JSON, written key by key. What serde makes of the same costs three times as much, on the path of every
//! request; it still escapes what needs that.

use std::borrow::Cow;
use std::fmt::Arguments;
use std::io::Write as _;
use std::time::Duration;

use itoa::Integer;

/// An object that is being written. What is `None` in it is `null`.
pub(super) struct Object<'a> {
    line: &'a mut Vec<u8>,
}

impl<'a> Object<'a> {
    pub(super) fn begin(line: &'a mut Vec<u8>) -> Self {
        line.push(b'{');
        Object { line }
    }

    /// Ends it. It has one key at least.
    pub(super) fn end(self) {
        self.line.pop();
        self.line.push(b'}');
    }

    pub(super) fn flag(&mut self, key: &str, value: bool) {
        self.key(key);
        self.plain(if value { "true" } else { "false" });
    }

    pub(super) fn number(&mut self, key: &str, value: Option<impl Integer>) {
        self.key(key);
        match value {
            Some(value) => self.plain(itoa::Buffer::new().format(value)),
            None => self.plain("null"),
        }
    }

    /// A time in milliseconds, to the microsecond.
    pub(super) fn millis(&mut self, key: &str, value: Option<Duration>) {
        self.key(key);
        let Some(value) = value else {
            return self.plain("null");
        };
        let micros = value.as_micros();
        let whole = u64::try_from(micros / 1_000).unwrap_or(u64::MAX);
        let digit = |unit| b'0' + (micros / unit % 10) as u8;
        self.line
            .extend(itoa::Buffer::new().format(whole).as_bytes());
        self.line
            .extend([b'.', digit(100), digit(10), digit(1), b',']);
    }

    /// Words of our own, which need no escapes.
    pub(super) fn words(&mut self, key: &str, value: Arguments<'_>) {
        self.key(key);
        self.line.push(b'"');
        self.line
            .write_fmt(value)
            .expect("a vector takes everything");
        self.plain("\"");
    }

    /// What somebody sent. Whatever is not text in it, and every control character beyond ASCII, stands as U+FFFD.
    pub(super) fn text(&mut self, key: &str, value: Option<&[u8]>) {
        self.key(key);
        let Some(value) = value else {
            return self.plain("null");
        };
        let is_plain = |byte: &u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\');
        // To the end of it in any case, so that many bytes are looked at at once.
        if value.iter().fold(true, |all, byte| all & is_plain(byte)) {
            self.line.push(b'"');
            self.line.extend(value);
            return self.plain("\"");
        }
        serde_json::to_writer(&mut *self.line, &printable(value))
            .expect("a vector takes everything");
        self.line.push(b',');
    }

    /// A list of objects, each filled in by `fill`.
    pub(super) fn list<T>(
        &mut self,
        key: &str,
        items: impl IntoIterator<Item = T>,
        fill: impl Fn(&mut Object<'_>, T),
    ) {
        self.key(key);
        self.line.push(b'[');
        let begin = self.line.len();
        for item in items {
            let mut object = Object::begin(self.line);
            fill(&mut object, item);
            object.end();
            self.line.push(b',');
        }
        if self.line.len() > begin {
            self.line.pop();
        }
        self.plain("]");
    }

    fn key(&mut self, key: &str) {
        self.line.push(b'"');
        self.line.extend(key.as_bytes());
        self.line.extend(b"\":");
    }

    /// The end of a value, and what stands behind it.
    fn plain(&mut self, text: &str) {
        self.line.extend(text.as_bytes());
        self.line.push(b',');
    }
}

fn printable(bytes: &[u8]) -> Cow<'_, str> {
    // To whoever writes to a terminal, DEL and those beyond ASCII are control characters like those that JSON escapes.
    let is_hidden = |c: char| c.is_control() && !c.is_ascii() || c == '\u{7f}';
    let text = String::from_utf8_lossy(bytes);
    match text.contains(is_hidden) {
        false => text,
        true => text.replace(is_hidden, "\u{fffd}").into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(fill: impl Fn(&mut Object<'_>)) -> String {
        let mut line = Vec::new();
        let mut object = Object::begin(&mut line);
        fill(&mut object);
        object.end();
        String::from_utf8(line).expect("text")
    }

    #[test]
    fn nothing_that_is_sent_gets_out_of_its_string() {
        for (sent, written) in [
            (&b""[..], r#"{"a":""}"#),
            (b"plain ~", r#"{"a":"plain ~"}"#),
            (b"a\"b\\c", r#"{"a":"a\"b\\c"}"#),
            (b"a\r\nb\t\0\x1b", r#"{"a":"a\r\nb\t\u0000\u001b"}"#),
            (b"caf\xc3\xa9", "{\"a\":\"caf\u{e9}\"}"),
            (b"\xff\xc3", "{\"a\":\"\u{fffd}\u{fffd}\"}"),
            (b"\x7f\xc2\x9b31m", "{\"a\":\"\u{fffd}\u{fffd}31m\"}"),
        ] {
            assert_eq!(shown(|object| object.text("a", Some(sent))), written);
        }
    }

    #[test]
    fn values_and_lists_are_json() {
        let text = shown(|object| {
            object.number("a", Some(7_u16));
            object.number("b", None::<u64>);
            object.flag("c", true);
            object.millis("d", Some(Duration::from_nanos(12_030_999)));
            object.millis("e", Some(Duration::ZERO));
            object.millis("f", None);
            object.text("g", None);
            object.list("h", [1_u8, 2], |object, n| object.number("n", Some(n)));
            object.list("i", [0_u8; 0], |object, n| object.number("n", Some(n)));
            object.words("j", format_args!("{}", 1));
        });
        assert_eq!(
            text,
            r#"{"a":7,"b":null,"c":true,"d":12.030,"e":0.000,"f":null,"g":null,"h":[{"n":1},{"n":2}],"i":[],"j":"1"}"#
        );
    }
}
