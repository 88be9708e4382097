//! Heads as they are sent, appended to a buffer.

use http::StatusCode;

/// The end of a line, and of a head.
pub(crate) const LINE_END: &[u8] = b"\r\n";

/// The first line of a request, which is of HTTP/1.1 whatever came here.
pub(crate) fn write_request_line(out: &mut Vec<u8>, method: &[u8], target: &[u8]) {
    out.extend_from_slice(method);
    out.push(b' ');
    out.extend_from_slice(target);
    out.extend_from_slice(b" HTTP/1.1\r\n");
}

/// The first line of a response, which is of HTTP/1.1 whatever came here. A host's reason goes on as it was, even if it
/// is empty; with `None` it is the usual one of the status.
pub(crate) fn write_status_line(out: &mut Vec<u8>, status: u16, reason: Option<&[u8]>) {
    let usual = || {
        let status = StatusCode::from_u16(status).ok();
        status.and_then(|status| status.canonical_reason())
    };
    let reason = reason.unwrap_or_else(|| usual().unwrap_or_default().as_bytes());
    out.extend_from_slice(b"HTTP/1.1 ");
    write_number(out, status.into());
    out.push(b' ');
    out.extend_from_slice(reason);
    out.extend_from_slice(LINE_END);
}

/// A field. Name and value are ones that were read or that the configuration has checked: neither has a line's end.
pub(crate) fn write_field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    write_field_parts(out, name, &[value]);
}

/// A field whose value is put together from parts.
pub(crate) fn write_field_parts(out: &mut Vec<u8>, name: &[u8], parts: &[&[u8]]) {
    debug_assert!(!parts.iter().any(|part| part.contains(&b'\n')));
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    for part in parts {
        out.extend_from_slice(part);
    }
    out.extend_from_slice(LINE_END);
}

/// A field whose value is a number.
pub(crate) fn write_number_field(out: &mut Vec<u8>, name: &[u8], value: u64) {
    let mut text = itoa::Buffer::new();
    write_field(out, name, text.format(value).as_bytes());
}

/// The empty line behind the fields.
pub(crate) fn write_head_end(out: &mut Vec<u8>) {
    out.extend_from_slice(LINE_END);
}

/// A number in decimal digits.
pub(crate) fn write_number(out: &mut Vec<u8>, number: u64) {
    let mut text = itoa::Buffer::new();
    out.extend_from_slice(text.format(number).as_bytes());
}

/// A number in hexadecimal digits, as the size of a chunk is said.
pub(crate) fn write_hex(out: &mut Vec<u8>, number: usize) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = (usize::BITS - number.leading_zeros()).div_ceil(4).max(1);
    for place in (0..digits).rev() {
        out.push(DIGITS[number >> (4 * place) & 15]);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn a_head_is_written_line_by_line() {
        let head = written(|out| {
            write_request_line(out, b"GET", b"/a?b");
            write_field(out, b"Host", b"a.example");
            write_field_parts(
                out,
                b"X-Forwarded-For",
                &[b"192.0.2.1", b", ", b"192.0.2.2"],
            );
            write_number_field(out, b"Content-Length", 1_234);
            write_head_end(out);
        });
        let lines = [
            "GET /a?b HTTP/1.1",
            "Host: a.example",
            "X-Forwarded-For: 192.0.2.1, 192.0.2.2",
            "Content-Length: 1234",
            "\r\n",
        ];
        assert_eq!(head, lines.join("\r\n"));
    }

    #[test]
    fn a_status_has_the_reason_that_was_sent_or_the_usual_one() {
        for (status, reason, line) in [
            (200, None, "HTTP/1.1 200 OK\r\n"),
            (404, Some("Not here"), "HTTP/1.1 404 Not here\r\n"),
            (200, Some(""), "HTTP/1.1 200 \r\n"),
            (599, None, "HTTP/1.1 599 \r\n"),
        ] {
            let reason = reason.map(str::as_bytes);
            assert_eq!(written(|out| write_status_line(out, status, reason)), line);
        }
    }

    proptest! {
        #[test]
        fn numbers_are_written_as_fmt_does(value in any::<usize>(), cut in 0..64_u32) {
            let value = value >> cut;
            prop_assert_eq!(written(|out| write_hex(out, value)), format!("{value:x}"));
            prop_assert_eq!(written(|out| write_number(out, value as u64)), value.to_string());
        }
    }
}
