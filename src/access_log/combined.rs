//! A line as nginx's `combined` has it:
//! `$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent"`.
//! The time is that of the end, in UTC.

use std::fmt::Arguments;
use std::io::Write as _;
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderValue, header};
use jiff::Timestamp;
use pingora::http::RequestHeader;

use super::json::version;
use crate::record::{Ending, Record};

/// What stands for a value that there is none of.
const NONE: &[u8] = b"-";

/// nginx's own status for a client that has gone before its answer.
const CLIENT_GONE: u16 = 499;

/// Appends the line of a request that ended `now`, without its end.
pub(super) fn write(line: &mut Vec<u8>, record: &Record<'_>, now: SystemTime) {
    match record.client {
        Some(client) => put(line, format_args!("{client}")),
        None => line.extend(NONE),
    }
    line.extend(b" - ");
    let request = record.request;
    let user = request.and_then(user);
    escape(line, user.as_deref().unwrap_or(NONE));
    // A clock beyond the year 9999 has no time to tell.
    let time = Timestamp::try_from(now).unwrap_or_default();
    let time = time.strftime("%d/%b/%Y:%H:%M:%S %z");
    put(line, format_args!(" [{time}] \""));
    match request {
        Some(request) => request_line(line, request),
        None => line.extend(NONE),
    }
    let status = record.status.unwrap_or(match record.ending {
        Ending::ClientGone => CLIENT_GONE,
        _ => 0,
    });
    let sent = record.sent;
    put(line, format_args!("\" {status:03} {sent} \""));
    let field = |name| request.and_then(|request| request.headers.get(name));
    let said = |name| field(name).map_or(NONE, HeaderValue::as_bytes);
    escape(line, said(header::REFERER));
    line.extend(b"\" \"");
    escape(line, said(header::USER_AGENT));
    line.push(b'"');
}

fn request_line(line: &mut Vec<u8>, request: &RequestHeader) {
    escape(line, request.method.as_str().as_bytes());
    line.push(b' ');
    escape(line, request.raw_path());
    line.push(b' ');
    line.extend(version(request.version).as_bytes());
}

/// The name by which the client authenticates itself to the host (`Authorization: Basic`), if it does.
fn user(request: &RequestHeader) -> Option<Vec<u8>> {
    const SCHEME: &[u8] = b"basic ";
    let value = request.headers.get(header::AUTHORIZATION)?.as_bytes();
    let (scheme, credentials) = value.split_at_checked(SCHEME.len())?;
    if !scheme.eq_ignore_ascii_case(SCHEME) {
        return None;
    }
    let mut name = STANDARD.decode(credentials.trim_ascii()).ok()?;
    let end = name.iter().position(|byte| *byte == b':')?;
    name.truncate(end);
    (!name.is_empty()).then_some(name)
}

fn put(line: &mut Vec<u8>, text: Arguments<'_>) {
    line.write_fmt(text).expect("a vector takes everything");
}

/// Appends what somebody sent, as nginx does: `"`, `\` and all but the visible characters of ASCII as `\xXX`.
fn escape(line: &mut Vec<u8>, bytes: &[u8]) {
    let is_plain = |byte: &u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\');
    let mut rest = bytes;
    loop {
        let plain = rest.iter().position(|byte| !is_plain(byte));
        let (plain, others) = rest.split_at(plain.unwrap_or(rest.len()));
        line.extend(plain);
        let [byte, behind @ ..] = others else { return };
        put(line, format_args!("\\x{byte:02X}"));
        rest = behind;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_is_sent_gets_out_of_its_quotes() {
        let mut line = Vec::new();
        escape(&mut line, b"a \"b\\\r\n\x7f\xff~");
        let written = String::from_utf8(line).expect("text");
        assert_eq!(written, r"a \x22b\x5C\x0D\x0A\x7F\xFF~");
    }

    #[test]
    fn a_user_is_told_and_a_password_is_not() {
        for (value, name) in [
            ("Basic YWxpY2U6c2VjcmV0", Some("alice")),
            ("basic  YWxpY2U6c2VjcmV0", Some("alice")),
            ("Basic YWxpY2U=", None),
            ("Basic OnNlY3JldA==", None),
            ("Basic ***", None),
            ("Bearer YWxpY2U6c2VjcmV0", None),
            ("Ba", None),
        ] {
            let mut request = RequestHeader::build("GET", b"/", None).expect("a request");
            let inserted = request.insert_header(header::AUTHORIZATION, value);
            inserted.expect("a field");
            let found = user(&request);
            assert_eq!(found.as_deref(), name.map(str::as_bytes), "{value}");
        }
    }
}
