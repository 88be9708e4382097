//! HTTP/1.1 on a connection, for both ends: heads, and bodies by length, in chunks or until the close.

use std::io::{self, Read, Write};

/// The common trait of plain and TLS connections.
pub(crate) trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

/// How the end of a body is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    Length(usize),
    Chunked,
    UntilClose,
}

/// A start line and the fields after it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Head {
    pub(crate) start: String,
    pub(crate) fields: Vec<(String, String)>,
}

impl Head {
    /// The first field of that name, ignoring case.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.all(name).into_iter().next()
    }

    /// Every field of that name in order.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        self.fields
            .iter()
            .filter(|(field, _)| field.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
            .collect()
    }

    /// A word of the start line: 0 is a request's method and a response's version, and so on.
    pub(crate) fn word(&self, index: usize) -> &str {
        self.start.split(' ').nth(index).unwrap_or_default()
    }

    /// Whether a comma-separated field contains the token.
    pub(crate) fn has_token(&self, name: &str, token: &str) -> bool {
        self.all(name)
            .iter()
            .flat_map(|value| value.split(','))
            .any(|part| part.trim().eq_ignore_ascii_case(token))
    }

    /// The framing that the fields announce, if any.
    pub(crate) fn framing(&self) -> Option<Framing> {
        if self.has_token("transfer-encoding", "chunked") {
            return Some(Framing::Chunked);
        }
        let length = self.get("content-length")?;
        Some(Framing::Length(
            length.parse().expect("content-length is a number"),
        ))
    }
}

/// One end of a connection, with the bytes that have been read and not yet used.
pub(crate) struct Wire {
    stream: Box<dyn Stream>,
    unread: Vec<u8>,
}

impl Wire {
    pub(crate) fn new(stream: impl Stream + 'static) -> Self {
        Wire {
            stream: Box::new(stream),
            unread: Vec::new(),
        }
    }

    /// Sends bytes at once.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref())?;
        self.stream.flush()
    }

    /// Sends one chunk of a chunked body; an empty one ends it.
    pub(crate) fn send_chunk(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        let bytes = bytes.as_ref();
        let mut chunk = format!("{:x}\r\n", bytes.len()).into_bytes();
        chunk.extend_from_slice(bytes);
        chunk.extend_from_slice(b"\r\n");
        self.send(chunk)
    }

    /// The next head; `None` if the other side closed before its first byte.
    pub(crate) fn read_head(&mut self) -> io::Result<Option<Head>> {
        loop {
            if let Some(end) = find(&self.unread, b"\r\n\r\n") {
                let bytes: Vec<u8> = self.unread.drain(..end + 4).collect();
                return parse_head(&bytes).map(Some);
            }
            if !self.fill()? {
                if self.unread.is_empty() {
                    return Ok(None);
                }
                return Err(unexpected("closed within a head"));
            }
        }
    }

    /// A complete body.
    pub(crate) fn read_body(&mut self, framing: Framing) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        self.read_body_with(framing, |piece| body.extend_from_slice(piece))?;
        Ok(body)
    }

    /// A complete body, passed on piece by piece as it arrives.
    pub(crate) fn read_body_with(
        &mut self,
        framing: Framing,
        mut piece: impl FnMut(&[u8]),
    ) -> io::Result<()> {
        match framing {
            Framing::Length(mut left) => {
                while left > 0 {
                    let bytes = self.read_some(left)?;
                    if bytes.is_empty() {
                        return Err(unexpected(&format!(
                            "closed {left} bytes before the body's end"
                        )));
                    }
                    left -= bytes.len();
                    piece(&bytes);
                }
            }
            Framing::Chunked => loop {
                let chunk = self.read_chunk()?;
                if chunk.is_empty() {
                    break;
                }
                piece(&chunk);
            },
            Framing::UntilClose => loop {
                let bytes = self.read_some(usize::MAX)?;
                if bytes.is_empty() {
                    break;
                }
                piece(&bytes);
            },
        }
        Ok(())
    }

    /// The next chunk of a chunked body; empty for the last one.
    pub(crate) fn read_chunk(&mut self) -> io::Result<Vec<u8>> {
        let line = self.read_line()?;
        let size = line.split(';').next().unwrap_or_default().trim();
        let size = usize::from_str_radix(size, 16)
            .map_err(|_| unexpected(&format!("chunk size `{line}`")))?;
        let mut chunk = Vec::with_capacity(size);
        while chunk.len() < size {
            let bytes = self.read_some(size - chunk.len())?;
            if bytes.is_empty() {
                return Err(unexpected("closed within a chunk"));
            }
            chunk.extend_from_slice(&bytes);
        }
        let end = self.read_line()?;
        if !end.is_empty() {
            return Err(unexpected(&format!("`{end}` after a chunk")));
        }
        Ok(chunk)
    }

    /// The available bytes, at most `limit`; waits for the first. Empty if the other side has closed.
    pub(crate) fn read_some(&mut self, limit: usize) -> io::Result<Vec<u8>> {
        if self.unread.is_empty() && !self.fill()? {
            return Ok(Vec::new());
        }
        let take = self.unread.len().min(limit);
        Ok(self.unread.drain(..take).collect())
    }

    fn read_line(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = find(&self.unread, b"\r\n") {
                let line: Vec<u8> = self.unread.drain(..end + 2).collect();
                return Ok(String::from_utf8_lossy(&line[..end]).into_owned());
            }
            if !self.fill()? {
                return Err(unexpected("closed within a line"));
            }
        }
    }

    fn fill(&mut self) -> io::Result<bool> {
        let mut bytes = [0; 16 * 1024];
        loop {
            match self.stream.read(&mut bytes) {
                Ok(count) => {
                    self.unread.extend_from_slice(&bytes[..count]);
                    return Ok(count > 0);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// For protocols other than HTTP, after an upgrade.
impl Read for Wire {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let bytes = self.read_some(into.len())?;
        into[..bytes.len()].copy_from_slice(&bytes);
        Ok(bytes.len())
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

fn parse_head(bytes: &[u8]) -> io::Result<Head> {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.trim_end().split("\r\n");
    let start = lines.next().unwrap_or_default().to_owned();
    let fields = lines
        .map(|line| {
            let (name, value) = line
                .split_once(':')
                .ok_or_else(|| unexpected(&format!("field without colon `{line}`")))?;
            Ok((name.to_owned(), value.trim().to_owned()))
        })
        .collect::<io::Result<_>>()?;
    Ok(Head { start, fields })
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

fn unexpected(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, what)
}
