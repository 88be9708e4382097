//! What a [`Backend`](super::Backend) does with a request.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::wire::{Framing, Head, Wire};

/// What happens to the connection after a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    Keep,
    Close,
    Reset,
}

type ScriptFn = dyn Fn(&Head, &mut Wire) -> io::Result<Next> + Send + Sync;

/// What a backend does with a request.
#[derive(Clone)]
pub(crate) enum Reply {
    Response(CannedResponse),
    /// Reads the request and resets the connection before the first byte of the response.
    Reset,
    /// Reads the request and closes the connection in an orderly way before the first byte of the response.
    Close,
    /// Announces 1000 bytes, sends ten and resets.
    ResetMidBody,
    /// Reads for ever and sends nothing.
    Hang,
    /// Sends a valid response one byte at a time, with this pause after each.
    Drip(Duration),
    /// Responds with this status as soon as the head has arrived, without reading the body, and closes.
    Early(u16),
    /// Runs a closure of the test, which gets the head and must read the body itself.
    Script(Arc<ScriptFn>),
}

/// A well-formed response.
#[derive(Debug, Clone)]
pub(crate) struct CannedResponse {
    status: u16,
    fields: String,
    /// `None`: the name of the backend.
    body: Option<Vec<u8>>,
    framing: Framing,
    delay: Duration,
    next: Next,
}

impl Reply {
    pub(crate) fn ok() -> CannedResponse {
        Reply::status(200)
    }

    pub(crate) fn status(status: u16) -> CannedResponse {
        CannedResponse {
            status,
            fields: String::new(),
            body: None,
            framing: Framing::Length(0),
            delay: Duration::ZERO,
            next: Next::Keep,
        }
    }

    pub(crate) fn script(
        script: impl Fn(&Head, &mut Wire) -> io::Result<Next> + Send + Sync + 'static,
    ) -> Self {
        Reply::Script(Arc::new(script))
    }
}

impl CannedResponse {
    /// Adds a field.
    pub(crate) fn field(mut self, name: &str, value: &str) -> Self {
        self.fields.push_str(&format!("{name}: {value}\r\n"));
        self
    }

    pub(crate) fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Some(body.into());
        self
    }

    /// Sends the body chunked instead of with a content-length.
    pub(crate) fn chunked(mut self) -> Self {
        self.framing = Framing::Chunked;
        self
    }

    /// Waits before the first byte.
    pub(crate) fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Closes the connection right after the response, without announcing it.
    pub(crate) fn then_close(mut self) -> Self {
        self.next = Next::Close;
        self
    }

    /// Resets the connection right after the response, without announcing it.
    pub(crate) fn then_reset(mut self) -> Self {
        self.next = Next::Reset;
        self
    }

    pub(super) fn delay(&self) -> Duration {
        self.delay
    }

    pub(super) fn send(&self, backend: &str, to_head: bool, wire: &mut Wire) -> io::Result<Next> {
        let own = format!("{backend}\n").into_bytes();
        let body = self.body.as_ref().unwrap_or(&own);
        let mut bytes = format!(
            "HTTP/1.1 {} Test\r\nX-Backend: {backend}\r\n{}",
            self.status, self.fields
        );
        match self.framing {
            _ if self.status == 204 => bytes.push_str("\r\n"),
            Framing::Chunked => bytes.push_str("Transfer-Encoding: chunked\r\n\r\n"),
            _ => bytes.push_str(&format!("Content-Length: {}\r\n\r\n", body.len())),
        }
        let mut bytes = bytes.into_bytes();
        if to_head || self.status == 204 {
            wire.send(bytes)?;
        } else if self.framing == Framing::Chunked {
            wire.send(bytes)?;
            for piece in body.chunks(16 * 1024) {
                wire.send_chunk(piece)?;
            }
            wire.send_chunk("")?;
        } else {
            bytes.extend_from_slice(body);
            wire.send(bytes)?;
        }
        Ok(self.next)
    }
}

impl From<CannedResponse> for Reply {
    fn from(response: CannedResponse) -> Self {
        Reply::Response(response)
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reply::Response(response) => response.fmt(f),
            Reply::Reset => f.write_str("Reset"),
            Reply::Close => f.write_str("Close"),
            Reply::ResetMidBody => f.write_str("ResetMidBody"),
            Reply::Hang => f.write_str("Hang"),
            Reply::Drip(pause) => write!(f, "Drip({pause:?})"),
            Reply::Early(status) => write!(f, "Early({status})"),
            Reply::Script(_) => f.write_str("Script"),
        }
    }
}
