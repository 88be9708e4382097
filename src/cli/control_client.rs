//! An HTTP client for the control socket of the running process.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, PercentEncode, utf8_percent_encode};
use serde::de::DeserializeOwned;

use super::{CliError, ProcessArg, runtime_error};
use crate::admin::ErrorBody;
use crate::config;
use crate::server::runtime_paths::find_control_socket;

/// The largest response that is read, in bytes. Responses of a process stay far below it.
const MAX_RESPONSE: u64 = 16 << 20;

/// A response of the process.
pub(super) struct ControlResponse {
    pub(super) status: u16,
    pub(super) body: String,
}

/// Sends a request and returns the body of its successful response.
///
/// # Errors
/// No response, or an error response, whose message becomes that of the failure.
pub(super) fn request(
    process: &ProcessArg,
    method: &str,
    path: &str,
    body: &str,
    timeout: Duration,
) -> Result<String, CliError> {
    let response = send_with_body(process, method, path, body, timeout);
    let response = response.map_err(runtime_error)?;
    match response.status {
        200..=299 => Ok(response.body),
        _ => Err(runtime_error(response.body)),
    }
}

/// Parses the body of a response as JSON.
pub(super) fn parse<T: DeserializeOwned>(body: &str) -> Result<T, CliError> {
    serde_json::from_str(body).map_err(|error| {
        runtime_error(format!(
            "unexpected response of the process; does it run another version? {error}"
        ))
    })
}

/// Encodes a name for use in a path or a query.
pub(super) fn percent_encode(name: &str) -> PercentEncode<'_> {
    utf8_percent_encode(name, NON_ALPHANUMERIC)
}

/// Sends a request without a body. `timeout` applies to each read of the response.
///
/// # Errors
/// Why there is no response; one line for a person.
pub(super) fn send(
    process: &ProcessArg,
    method: &str,
    path: &str,
    timeout: Duration,
) -> Result<ControlResponse, String> {
    send_with_body(process, method, path, "", timeout)
}

/// The same with a JSON body.
pub(super) fn send_with_body(
    process: &ProcessArg,
    method: &str,
    path: &str,
    body: &str,
    timeout: Duration,
) -> Result<ControlResponse, String> {
    let file = process.config.file();
    let (socket, is_configured) = match &process.socket {
        Some(socket) => (socket.clone(), false),
        None => {
            let configured = config::control_socket(file.path());
            let configured = configured.map_err(|errors| file.explain(errors))?;
            (
                find_control_socket(configured.clone(), file.path()),
                configured.is_some(),
            )
        }
    };
    exchange(&socket, method, path, body, timeout).map_err(|error| {
        let socket = socket.display();
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                let hint = match is_configured {
                    true => "; if control_socket was just edited, give its old path with --socket",
                    false => "",
                };
                let cause = match error.kind() {
                    io::ErrorKind::NotFound => "no such socket",
                    _ => "connection refused",
                };
                format!(
                    "no ballast runs with {file}: no process listens on {socket} ({cause}){hint}"
                )
            }
            io::ErrorKind::PermissionDenied => {
                format!("permission denied on {socket}: use the user of the process or root")
            }
            io::ErrorKind::WouldBlock => format!("no response on {socket} within {timeout:?}"),
            _ => format!("{socket}: {error}"),
        }
    })
}

fn exchange(
    socket: &Path,
    method: &str,
    path: &str,
    body: &str,
    timeout: Duration,
) -> io::Result<ControlResponse> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(timeout))?;
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: ballast\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(head.as_bytes())?;
    let mut response = String::new();
    stream.take(MAX_RESPONSE).read_to_string(&mut response)?;
    parse_response(&response)
        .ok_or_else(|| io::Error::other("the process ended before it responded"))
}

/// Parses a response that ends with its connection; the body of an error response becomes its message.
fn parse_response(response: &str) -> Option<ControlResponse> {
    let (head, body) = response.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let body = body.trim_end();
    let error_body = serde_json::from_str::<ErrorBody>(body).ok();
    let body = error_body.map_or_else(|| body.to_owned(), |error_body| error_body.error);
    Some(ControlResponse { status, body })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_has_a_status_and_a_body() {
        let response =
            parse_response("HTTP/1.1 409 Conflict\r\na: b\r\n\r\none\r\n\r\ntwo\n").unwrap();
        assert_eq!((response.status, &*response.body), (409, "one\r\n\r\ntwo"));
        assert!(parse_response("HTTP/1.1 200 OK\r\n").is_none());
        assert!(parse_response("").is_none());
    }
}
