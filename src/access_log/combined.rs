//! Lines in nginx's `combined` format:
//! `$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent"`.
//! The time is the end of the request, in UTC.

use std::fmt::Arguments;
use std::io::Write as _;

use super::entry_batch::{EntryText, EntryView};
use super::json::http_version;
use super::timestamp_formatter::TimestampFormatter;
use crate::address_text::AddressText;
use crate::message::{BasicCredentials, RequestView};
use crate::record::TerminationReason;

/// Stands for an absent value.
const ABSENT: &[u8] = b"-";

/// The address of a client that has connected to a Unix socket, as in nginx's `$remote_addr`.
pub(super) const UNIX_CLIENT: &[u8] = b"unix:";

/// nginx's status for a client that disconnects before its response.
const CLIENT_GONE: u16 = 499;

/// Appends the line of a request, without a line break.
pub(super) fn write(out: &mut Vec<u8>, line: &EntryView<'_>, timestamps: &mut TimestampFormatter) {
    let summary = &line.entry.summary;
    match summary.client {
        Some(client) => out.extend(AddressText::new(client).as_bytes()),
        None => out.extend(UNIX_CLIENT),
    }
    out.extend(b" - ");
    escape(out, line.text(EntryText::User).unwrap_or(ABSENT));
    let (time, _) = timestamps.format(summary.began + summary.duration, "%d/%b/%Y:%H:%M:%S +0000");
    out.extend(b" [");
    out.extend(time.as_bytes());
    out.extend(b"] \"");
    let request = (line.text(EntryText::Method), line.text(EntryText::Target));
    match (request, summary.version) {
        ((Some(method), Some(target)), Some(version)) => {
            escape(out, method);
            out.push(b' ');
            escape(out, target);
            out.push(b' ');
            out.extend(http_version(version).as_bytes());
        }
        _ => out.extend(ABSENT),
    }
    let status = summary.status.unwrap_or(match summary.termination {
        TerminationReason::ClientGone => CLIENT_GONE,
        _ => 0,
    });
    let sent = summary.sent;
    append(out, format_args!("\" {status:03} {sent} \""));
    escape(out, line.text(EntryText::Referer).unwrap_or(ABSENT));
    out.extend(b"\" \"");
    escape(out, line.text(EntryText::UserAgent).unwrap_or(ABSENT));
    out.push(b'"');
}

/// The user name of `Authorization: Basic`, if there is one.
pub(super) fn basic_auth_user(request: RequestView<'_>) -> Option<Vec<u8>> {
    let name = BasicCredentials::of(request)?.name;
    (!name.is_empty()).then_some(name)
}

fn append(line: &mut Vec<u8>, text: Arguments<'_>) {
    line.write_fmt(text).expect("a vector takes everything");
}

/// Appends received bytes as nginx does: `"`, `\` and all bytes except visible ASCII become `\xXX`.
fn escape(line: &mut Vec<u8>, bytes: &[u8]) {
    let is_plain = |byte: &u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\');
    let mut rest = bytes;
    loop {
        let plain = rest.iter().position(|byte| !is_plain(byte));
        let (plain, others) = rest.split_at(plain.unwrap_or(rest.len()));
        line.extend(plain);
        let [byte, following @ ..] = others else {
            return;
        };
        append(line, format_args!("\\x{byte:02X}"));
        rest = following;
    }
}

#[cfg(test)]
mod tests {
    use http::header;
    use pingora::http::RequestHeader;

    use super::*;

    #[test]
    fn received_bytes_cannot_close_the_quotes() {
        let mut line = Vec::new();
        escape(&mut line, b"a \"b\\\r\n\x7f\xff~");
        let written = String::from_utf8(line).expect("text");
        assert_eq!(written, r"a \x22b\x5C\x0D\x0A\x7F\xFF~");
    }

    #[test]
    fn the_user_is_logged_without_the_password() {
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
            let found = basic_auth_user((&request).into());
            assert_eq!(found.as_deref(), name.map(str::as_bytes), "{value}");
        }
    }
}
