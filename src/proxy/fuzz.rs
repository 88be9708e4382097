//! Fuzzing of what is read from a request: target, hash key, client address and trace context.

mod forwarded;
mod hash_key;
mod traceparent;

use http::header::{HeaderName, HeaderValue};
use pingora::http::RequestHeader;

/// Builds a request from a line with the target and lines `NAME: VALUE`. `None`: Pingora would have rejected it.
fn request<'a>(mut lines: impl Iterator<Item = &'a [u8]>) -> Option<RequestHeader> {
    let target = lines.next().unwrap_or(b"/");
    let mut request = RequestHeader::build("GET", target, None).ok()?;
    for line in lines {
        let end = line.iter().position(|byte| *byte == b':')?;
        let name = HeaderName::from_bytes(&line[..end]).ok()?;
        let value = HeaderValue::from_bytes(line[end + 1..].trim_ascii()).ok()?;
        request.append_header(name, value).ok()?;
    }
    Some(request)
}

fn lines(input: &[u8]) -> impl Iterator<Item = &[u8]> {
    input.split(|byte| *byte == b'\n')
}

/// The values of all fields with this name.
fn values(request: &RequestHeader, name: &str) -> Vec<Vec<u8>> {
    let values = request.headers.get_all(name).iter();
    Vec::from_iter(values.map(|value| value.as_bytes().to_vec()))
}
