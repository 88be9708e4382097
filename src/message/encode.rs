//! Encodes heads by appending to a buffer.

use http::StatusCode;

/// Ends a line, and an empty line ends a head.
pub(crate) const LINE_END: &[u8] = b"\r\n";

/// Appends a request line. The version is HTTP/1.1, whatever version was received.
pub(crate) fn write_request_line(out: &mut Vec<u8>, method: &[u8], target: &[u8]) {
    out.extend_from_slice(method);
    out.push(b' ');
    out.extend_from_slice(target);
    out.extend_from_slice(b" HTTP/1.1\r\n");
}

/// Appends a status line. The version is HTTP/1.1, whatever version was received. `reason` is sent as given, even if
/// empty; `None` stands for the usual phrase of the status.
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

/// Appends a field. The caller guarantees that neither name nor value contains a line break: both come from the parser
/// or from the checked configuration.
pub(crate) fn write_field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    write_field_parts(out, name, &[value]);
}

/// Appends a field whose value is the concatenation of `parts`.
pub(crate) fn write_field_parts(out: &mut Vec<u8>, name: &[u8], parts: &[&[u8]]) {
    debug_assert!(!parts.iter().any(|part| part.contains(&b'\n')));
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    for part in parts {
        out.extend_from_slice(part);
    }
    out.extend_from_slice(LINE_END);
}

/// Appends a field with a decimal number as its value.
pub(crate) fn write_number_field(out: &mut Vec<u8>, name: &[u8], value: u64) {
    let mut text = itoa::Buffer::new();
    write_field(out, name, text.format(value).as_bytes());
}

/// Appends the empty line that ends a head.
pub(crate) fn write_head_end(out: &mut Vec<u8>) {
    out.extend_from_slice(LINE_END);
}

/// Appends a number in decimal.
pub(crate) fn write_number(out: &mut Vec<u8>, number: u64) {
    let mut text = itoa::Buffer::new();
    out.extend_from_slice(text.format(number).as_bytes());
}

/// Appends a number in lower-case hexadecimal, the form of a chunk size.
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
