//! Talking to the running process through its control socket.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, PercentEncode, utf8_percent_encode};
use serde::de::DeserializeOwned;

use super::{Failure, ProcessArg, failed};
use crate::admin::ErrorBody;
use crate::config;
use crate::server::places::find_control_socket;

/// Answers of the process are a line for each change; more than this is not an answer of ours.
const LONGEST_ANSWER: u64 = 16 << 20;

/// What the process said.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: String,
}

/// The body of the process's answer.
///
/// # Errors
/// There is none, or it says what stands against it.
pub(super) fn told(
    process: &ProcessArg,
    method: &str,
    path: &str,
    body: &str,
    patience: Duration,
) -> Result<String, Failure> {
    let answer = ask_with(process, method, path, body, patience);
    let answer = answer.map_err(failed)?;
    match answer.status {
        200..=299 => Ok(answer.body),
        _ => Err(failed(answer.body)),
    }
}

/// Reads what the process told.
pub(super) fn read<T: DeserializeOwned>(body: &str) -> Result<T, Failure> {
    serde_json::from_str(body)
        .map_err(|error| failed(format!("an answer of another version: {error}")))
}

/// A name as a part of a path or a query.
pub(super) fn encoded(name: &str) -> PercentEncode<'_> {
    utf8_percent_encode(name, NON_ALPHANUMERIC)
}

/// Asks the process for `path` with `method`, and waits for an answer for `patience` at most between two bytes of it.
///
/// # Errors
/// Why there is no answer; one line for a person.
pub(super) fn ask(
    process: &ProcessArg,
    method: &str,
    path: &str,
    patience: Duration,
) -> Result<Answer, String> {
    ask_with(process, method, path, "", patience)
}

/// The same with JSON as the body.
pub(super) fn ask_with(
    process: &ProcessArg,
    method: &str,
    path: &str,
    body: &str,
    patience: Duration,
) -> Result<Answer, String> {
    let file = &process.config.config;
    let (socket, is_said) = match &process.socket {
        Some(socket) => (socket.clone(), false),
        None => {
            let said = config::control_socket(file);
            let said = said.map_err(|errors| errors.to_string())?;
            (find_control_socket(said.clone(), file), said.is_some())
        }
    };
    exchange(&socket, method, path, body, patience).map_err(|error| {
        let (file, socket) = (file.display(), socket.display());
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                let moved = match is_said {
                    true => {
                        "; if control_socket has just been edited, say where it was by --socket"
                    }
                    false => "",
                };
                let why = match error.kind() {
                    io::ErrorKind::NotFound => "there is no such socket",
                    _ => "connection refused",
                };
                format!(
                    "no ballast runs with {file}: no process answers on {socket} ({why}){moved}"
                )
            }
            io::ErrorKind::PermissionDenied => {
                format!("{socket} is for the user of the process and root only")
            }
            io::ErrorKind::WouldBlock => format!("no answer on {socket} within {patience:?}"),
            _ => format!("{socket}: {error}"),
        }
    })
}

fn exchange(
    socket: &Path,
    method: &str,
    path: &str,
    body: &str,
    patience: Duration,
) -> io::Result<Answer> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: ballast\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.take(LONGEST_ANSWER).read_to_string(&mut answer)?;
    split(&answer).ok_or_else(|| io::Error::other("the process ended before it answered"))
}

/// The status and the body of an answer that ends with its connection.
fn split(answer: &str) -> Option<Answer> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let body = body.trim_end();
    let refusal = serde_json::from_str::<ErrorBody>(body).ok();
    let body = refusal.map_or_else(|| body.to_owned(), |refusal| refusal.error);
    Some(Answer { status, body })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_has_a_status_and_a_body() {
        let answer = split("HTTP/1.1 409 Conflict\r\na: b\r\n\r\none\r\n\r\ntwo\n").unwrap();
        assert_eq!((answer.status, &*answer.body), (409, "one\r\n\r\ntwo"));
        assert!(split("HTTP/1.1 200 OK\r\n").is_none());
        assert!(split("").is_none());
    }
}
