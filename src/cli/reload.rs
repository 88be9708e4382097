//! `ballast reload`: asks the running process to take in its file anew, and tells what came of it.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::{Failure, ProcessArg, failed};
use crate::admin::{API_RELOAD, Reloaded};
use crate::config;
use crate::server::places::find_control_socket;

/// How long an answer is waited for: a handover may take 40 s, and before it an in-place reload is tried.
const PATIENCE: Duration = Duration::from_secs(120);

/// Answers of the process are a line for each change; more than this is not an answer of ours.
const LONGEST_ANSWER: u64 = 16 << 20;

pub(super) fn reload(process: &ProcessArg) -> Result<(), Failure> {
    let file = &process.config.config;
    let socket = match &process.socket {
        Some(socket) => socket.clone(),
        None => find_control_socket(config::control_socket(file).map_err(failed)?, file),
    };
    let (status, body) = ask(&socket, API_RELOAD).map_err(|error| {
        let socket = socket.display();
        failed(match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                format!(
                    "no ballast runs with {}: nobody answers on {socket}",
                    file.display()
                )
            }
            io::ErrorKind::PermissionDenied => {
                format!("{socket} is for the user of the process and root only")
            }
            io::ErrorKind::WouldBlock => format!("no answer on {socket} within {PATIENCE:?}"),
            _ => format!("{socket}: {error}"),
        })
    })?;
    if status != 200 {
        return Err(failed(format!("not reloaded: {body}")));
    }
    let done: Reloaded = serde_json::from_str(&body)
        .map_err(|error| failed(format!("the process answered something else: {error}")))?;
    println!("reloaded, {}", done.way);
    for change in &done.changes {
        println!("  {change}");
    }
    if done.changes.is_empty() {
        println!("  nothing changed");
    }
    Ok(())
}

/// POSTs to a path; returns the status and the body of the answer.
fn ask(socket: &Path, path: &str) -> io::Result<(u16, String)> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let request = format!("POST {path} HTTP/1.1\r\nHost: ballast\r\nContent-Length: 0\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.take(LONGEST_ANSWER).read_to_string(&mut answer)?;
    split(&answer).ok_or_else(|| io::Error::other("the process ended before it answered"))
}

/// The status and the body of an answer that ends with its connection.
fn split(answer: &str) -> Option<(u16, String)> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some((status, body.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_has_a_status_and_a_body() {
        assert_eq!(
            split("HTTP/1.1 409 Conflict\r\na: b\r\n\r\none\r\n\r\ntwo"),
            Some((409, "one\r\n\r\ntwo".to_owned()))
        );
        assert_eq!(split("HTTP/1.1 200 OK\r\n"), None);
        assert_eq!(split(""), None);
    }
}
