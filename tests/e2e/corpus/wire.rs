//! Parses messages: strictly for what a host gets, and leniently for what a client gets.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// How long a client waits for the first response before it ends its sending side, and once more after that.
const HANG: Duration = Duration::from_secs(3);
/// How long a client waits for further bytes after a response, where none should come.
const QUIET: Duration = Duration::from_millis(150);
/// How long a client waits for a close that must come.
const CLOSING: Duration = Duration::from_secs(3);

/// The fields of a head, with names in lower case.
pub(crate) type Fields = HashMap<Vec<u8>, Vec<Vec<u8>>>;

pub(crate) fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

/// The parts of `bytes` between the occurrences of `what`.
pub(crate) fn split<'a>(bytes: &'a [u8], what: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    let mut rest = Some(bytes);
    std::iter::from_fn(move || {
        let bytes = rest?;
        match find(bytes, what) {
            Some(end) => {
                rest = Some(&bytes[end + what.len()..]);
                Some(&bytes[..end])
            }
            None => rest.take(),
        }
    })
}

fn is_token(bytes: &[u8]) -> bool {
    let is_tchar = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+.^_`|~-".contains(byte);
    !bytes.is_empty() && bytes.iter().all(is_tchar)
}

/// Method and target of a valid request line.
pub(crate) fn request_line(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut words = line.split(|&byte| byte == b' ');
    let (method, target, version) = (words.next()?, words.next()?, words.next()?);
    let good = words.next().is_none()
        && is_token(method)
        && !target.is_empty()
        && target.iter().all(|&byte| byte > b' ' && byte != 0x7f)
        && matches!(version, b"HTTP/1.0" | b"HTTP/1.1");
    good.then_some((method, target))
}

/// Name and value of a valid field line.
pub(crate) fn field_line(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = line.iter().position(|&byte| byte == b':')?;
    let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
    let control = |&byte: &u8| (byte < b' ' && byte != b'\t') || byte == 0x7f;
    (is_token(name) && !line[colon + 1..].iter().any(control)).then_some((name, value))
}

/// Everything that is wrong or ambiguous in the fields of a head (without its final empty line), and the fields. The
/// start line is checked only for requests.
pub(crate) fn lint(head: &[u8], is_request: bool) -> (Vec<&'static str>, Fields) {
    let mut faults = Vec::new();
    let mut fields = Fields::new();
    let mut lines = split(head, b"\r\n");
    let start = lines.next().unwrap_or_default();
    if head.contains(&0) {
        faults.push("nul");
    }
    if is_request && request_line(start).is_none() {
        faults.push("request-line");
    }
    for line in split(head, b"\r\n") {
        if line.contains(&b'\r') {
            faults.push("bare-cr");
        }
        if line.contains(&b'\n') {
            faults.push("bare-lf");
        }
    }
    for line in lines {
        match field_line(line) {
            _ if line.starts_with(b" ") || line.starts_with(b"\t") => faults.push("obs-fold"),
            None => faults.push("field-line"),
            Some((name, value)) => {
                let values = fields.entry(name.to_ascii_lowercase()).or_default();
                values.push(value.to_vec());
            }
        }
    }
    let all = |name: &[u8]| fields.get(name).map_or(&[][..], Vec::as_slice);
    let (lengths, codings) = (all(b"content-length"), all(b"transfer-encoding"));
    if !lengths.is_empty() && !codings.is_empty() {
        faults.push("te+cl");
    }
    let is_number = |text: &Vec<u8>| {
        (1..=19).contains(&text.len()) && text.iter().all(|byte| byte.is_ascii_digit())
    };
    if lengths.len() > 1 || !lengths.iter().all(is_number) {
        faults.push("bad-cl");
    }
    if codings.len() > 1 || codings.iter().any(|c| !c.eq_ignore_ascii_case(b"chunked")) {
        faults.push("odd-te");
    }
    if all(b"host").len() > 1 {
        faults.push("two-hosts");
    }
    (faults, fields)
}

/// A final response as a client reads it.
#[derive(Debug, Clone)]
pub(crate) struct Final {
    pub(crate) status: u16,
    /// Without the empty line.
    pub(crate) head: Vec<u8>,
    pub(crate) body: Vec<u8>,
    /// The end of the body has come, or the body ends with the connection.
    pub(crate) whole: bool,
    /// Heads of interim responses before it.
    pub(crate) interim: Vec<Vec<u8>>,
}

impl Final {
    pub(crate) fn says_close(&self) -> bool {
        let head = self.head.to_ascii_lowercase();
        find(&head, b"\r\nconnection: close").is_some()
    }

    pub(crate) fn has(&self, name: &str) -> usize {
        let head = self.head.to_ascii_lowercase();
        let line = format!("\r\n{}:", name.to_ascii_lowercase());
        split(&head, line.as_bytes()).count() - 1
    }
}

/// The final responses in the bytes that a client got; the first may be to HEAD. `closed`: no more bytes will come.
pub(crate) fn finals(data: &[u8], to_head: bool, closed: bool) -> Vec<Final> {
    let mut responses = Vec::new();
    let mut interim = Vec::new();
    let mut rest = data;
    while let Some(end) = find(rest, b"\r\n\r\n") {
        let (head, after) = (&rest[..end], &rest[end + 4..]);
        let status = head.get(9..12).and_then(|text| str::from_utf8(text).ok());
        let Some(status) = status.and_then(|text| text.parse::<u16>().ok()) else {
            break;
        };
        if !head.starts_with(b"HTTP/1.") {
            break;
        }
        rest = after;
        if status < 200 {
            interim.push(head.to_vec());
            continue;
        }
        let (_, fields) = lint(head, false);
        let value = |name: &[u8]| fields.get(name).and_then(|values| values.first());
        let (body, used, whole) =
            if (to_head && responses.is_empty()) || matches!(status, 204 | 304) {
                (Vec::new(), 0, true)
            } else if value(b"transfer-encoding").is_some() {
                dechunk(after)
            } else if let Some(length) = value(b"content-length") {
                let length = str::from_utf8(length)
                    .ok()
                    .and_then(|text| text.parse().ok());
                let length: usize = length.unwrap_or(usize::MAX);
                let there = length.min(after.len());
                (after[..there].to_vec(), there, length <= after.len())
            } else {
                (after.to_vec(), after.len(), closed)
            };
        rest = &after[used..];
        responses.push(Final {
            status,
            head: head.to_vec(),
            body,
            whole,
            interim: std::mem::take(&mut interim),
        });
    }
    responses
}

/// The body, the number of bytes it took, and whether it is complete.
fn dechunk(bytes: &[u8]) -> (Vec<u8>, usize, bool) {
    let mut body = Vec::new();
    let mut at = 0;
    while let Some(line) = find(&bytes[at..], b"\r\n") {
        let size = str::from_utf8(&bytes[at..at + line]).ok();
        let Some(size) = size.and_then(|text| usize::from_str_radix(text, 16).ok()) else {
            break;
        };
        at += line + 2;
        if size == 0 {
            let ended = bytes[at..].starts_with(b"\r\n");
            return (body, at + 2 * usize::from(ended), ended);
        }
        let Some(chunk) = bytes.get(at..at + size + 2) else {
            body.extend_from_slice(&bytes[at..bytes.len().min(at + size)]);
            return (body, bytes.len(), false);
        };
        body.extend_from_slice(&chunk[..size]);
        at += size + 2;
    }
    (body, at, false)
}

/// What a client saw of one exchange.
#[derive(Debug, Default)]
pub(crate) struct Exchange {
    pub(crate) refused: bool,
    pub(crate) data: Vec<u8>,
    pub(crate) closed: bool,
    pub(crate) hangs: bool,
    pub(crate) finals: Vec<Final>,
}

/// Sends bytes on a new connection and reads until no more come. With `then`, the client sends the result of `then` for
/// the first complete response on the same connection.
pub(crate) fn exchange(
    address: SocketAddr,
    raw: &[u8],
    fin: bool,
    closing: bool,
    mut then: Option<Vec<u8>>,
) -> Exchange {
    let mut seen = Exchange::default();
    let Ok(mut socket) = TcpStream::connect(address) else {
        seen.refused = true;
        return seen;
    };
    let _ = socket.set_nodelay(true);
    let _ = socket.set_write_timeout(Some(HANG));
    // The other side may have responded and closed before the end.
    let _ = socket.write_all(raw);
    let to_head = raw.starts_with(b"HEAD");
    let mut half = fin;
    if fin {
        let _ = socket.shutdown(Shutdown::Write);
    }
    let start = Instant::now();
    let mut bytes = [0; 64 * 1024];
    let mut wanted = 1;
    loop {
        seen.finals = finals(&seen.data, to_head, seen.closed);
        let first = seen.finals.first();
        if first.is_some_and(|first| first.whole && !first.says_close())
            && let Some(next) = then.take()
        {
            let _ = socket.write_all(&next);
            wanted = 2;
        }
        let got = seen.finals.len() >= wanted;
        let patience = match (got, closing) {
            (true, true) => CLOSING,
            (true, false) => QUIET,
            (false, _) => HANG,
        };
        let _ = socket.set_read_timeout(Some(patience));
        match socket.read(&mut bytes) {
            Ok(0) => break seen.closed = true,
            Ok(count) => seen.data.extend_from_slice(&bytes[..count]),
            Err(error) if is_timeout(&error) => {
                if got {
                    break;
                }
                if half {
                    break seen.hangs = true;
                }
                let _ = socket.shutdown(Shutdown::Write);
                half = true;
            }
            Err(_) => break seen.closed = true,
        }
        if start.elapsed() > 4 * HANG {
            break seen.hangs = true;
        }
    }
    seen.finals = finals(&seen.data, to_head, seen.closed);
    seen
}

pub(crate) fn is_timeout(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}

/// Sends two good requests and returns what is wrong with the responses. A bad request may have left bytes that precede
/// them.
pub(crate) fn canaries(address: SocketAddr, id: &str) -> Vec<String> {
    let mut faults = Vec::new();
    for number in 0..2 {
        let path = format!("/canary/{id}/{number}");
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: probe.example\r\nConnection: close\r\n\r\n");
        let seen = exchange(address, request.as_bytes(), false, false, None);
        faults.extend(match seen.finals.first() {
            _ if seen.refused => Some("CRASH".to_owned()),
            None => Some("CANARY_LOST".to_owned()),
            Some(response) if response.status != 200 => Some(format!("CANARY_{}", response.status)),
            Some(response) if response.body != format!("T={path}").as_bytes() => {
                Some("DESYNC".to_owned())
            }
            Some(_) => None,
        });
    }
    faults
}
