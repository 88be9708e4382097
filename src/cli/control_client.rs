//! Talking to the running process through its control socket.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, PercentEncode, utf8_percent_encode};
use serde::de::DeserializeOwned;

use super::{Failure, ProcessArg, runtime_error};
use crate::admin::ErrorBody;
use crate::config;
use crate::server::runtime_paths::find_control_socket;

/// Answers of the process are a line for each change; more than this is not an answer of ours.
const MAX_RESPONSE: u64 = 16 << 20;

/// What the process said.
pub(super) struct ControlResponse {
    pub(super) status: u16,
    pub(super) body: String,
}

/// The body of the process's answer.
///
/// # Errors
/// There is none, or it says what stands against it.
pub(super) fn request(
    process: &ProcessArg,
    method: &str,
    path: &str,
    body: &str,
    timeout: Duration,
) -> Result<String, Failure> {
    let response = send_with_body(process, method, path, body, timeout);
    let response = response.map_err(runtime_error)?;
    match response.status {
        200..=299 => Ok(response.body),
        _ => Err(runtime_error(response.body)),
    }
}

/// Reads what the process told.
pub(super) fn parse<T: DeserializeOwned>(body: &str) -> Result<T, Failure> {
    serde_json::from_str(body)
        .map_err(|error| runtime_error(format!("an answer of another version: {error}")))
}

/// A name as a part of a path or a query.
pub(super) fn percent_encode(name: &str) -> PercentEncode<'_> {
    utf8_percent_encode(name, NON_ALPHANUMERIC)
}

/// Asks the process for `path` with `method`, and waits for an answer for `timeout` at most between two bytes of it.
///
/// # Errors
/// Why there is no answer; one line for a person.
pub(super) fn send(
    process: &ProcessArg,
    method: &str,
    path: &str,
    timeout: Duration,
) -> Result<ControlResponse, String> {
    send_with_body(process, method, path, "", timeout)
}

/// The same with JSON as the body.
pub(super) fn send_with_body(
    process: &ProcessArg,
    method: &str,
    path: &str,
    body: &str,
    timeout: Duration,
) -> Result<ControlResponse, String> {
    let file = &process.config.config;
    let (socket, is_configured) = match &process.socket {
        Some(socket) => (socket.clone(), false),
        None => {
            let configured = config::control_socket(file);
            let configured = configured.map_err(|errors| errors.to_string())?;
            (
                find_control_socket(configured.clone(), file),
                configured.is_some(),
            )
        }
    };
    exchange(&socket, method, path, body, timeout).map_err(|error| {
        let (file, socket) = (file.display(), socket.display());
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                let hint = match is_configured {
                    true => {
                        "; if control_socket has just been edited, say where it was by --socket"
                    }
                    false => "",
                };
                let cause = match error.kind() {
                    io::ErrorKind::NotFound => "there is no such socket",
                    _ => "connection refused",
                };
                format!(
                    "no ballast runs with {file}: no process answers on {socket} ({cause}){hint}"
                )
            }
            io::ErrorKind::PermissionDenied => {
                format!("{socket} is for the user of the process and root only")
            }
            io::ErrorKind::WouldBlock => format!("no answer on {socket} within {timeout:?}"),
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
        .ok_or_else(|| io::Error::other("the process ended before it answered"))
}

/// The status and the body of an answer that ends with its connection.
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
    fn an_answer_has_a_status_and_a_body() {
        let response =
            parse_response("HTTP/1.1 409 Conflict\r\na: b\r\n\r\none\r\n\r\ntwo\n").unwrap();
        assert_eq!((response.status, &*response.body), (409, "one\r\n\r\ntwo"));
        assert!(parse_response("HTTP/1.1 200 OK\r\n").is_none());
        assert!(parse_response("").is_none());
    }
}
