//! A tunnel of extended CONNECT (RFC 8441) as a stream of bytes, which a WebSocket library can use.

use std::io::{self, Read, Write};
use std::time::Duration;

use bytes::{Buf, Bytes};
use h2::ext::Protocol;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request};
use tokio::runtime::Handle;

use super::http2::{Http2, request};
use super::wait::SOON;

/// A request for a tunnel of this protocol.
pub(crate) fn connect(protocol: &'static str, path: &str) -> Request<()> {
    let mut request = request("CONNECT", path);
    let extensions = request.extensions_mut();
    extensions.insert(Protocol::from_static(protocol));
    let version = http::HeaderValue::from_static("13");
    let fields = request.headers_mut();
    fields.insert("sec-websocket-version", version);
    request
}

/// Both directions of a stream whose response is 200.
pub(crate) struct Http2Tunnel {
    runtime: Handle,
    pub(crate) fields: HeaderMap,
    sender: SendStream<Bytes>,
    receiver: RecvStream,
    /// Bytes received and not read.
    rest: Bytes,
}

impl Http2Tunnel {
    /// Opens a WebSocket's tunnel.
    #[track_caller]
    pub(crate) fn open(client: &mut Http2, path: &str) -> Self {
        client.wait_for_extended_connect();
        Http2Tunnel::ask(client, connect("websocket", path)).expect("a tunnel")
    }

    /// Opens a tunnel. The error is the status of another response.
    #[track_caller]
    pub(crate) fn ask(client: &mut Http2, request: Request<()>) -> Result<Self, u16> {
        let (response, sender) = client.open(request, false).expect("a stream");
        let (head, receiver) = client
            .block_on(response)
            .expect("the head of a response")
            .into_parts();
        if head.status != 200 {
            return Err(head.status.as_u16());
        }
        Ok(Http2Tunnel {
            runtime: client.handle(),
            fields: head.headers,
            sender,
            receiver,
            rest: Bytes::new(),
        })
    }

    /// Ends this side.
    pub(crate) fn finish_sending(&mut self) {
        let ended = self.sender.send_data(Bytes::new(), true);
        ended.expect("this side is open");
    }

    /// Ends this side in a way that is not permitted.
    pub(crate) fn send_trailers(&mut self) {
        let ended = self.sender.send_trailers(HeaderMap::new());
        ended.expect("this side is open");
    }

    /// Resets the stream.
    pub(crate) fn abort(&mut self) {
        self.sender.send_reset(h2::Reason::CANCEL);
    }

    /// All bytes up to the end of the other side. The error is the reason of its reset.
    pub(crate) fn read_all(&mut self) -> Result<Vec<u8>, h2::Reason> {
        let mut bytes = Vec::new();
        match self.read_to_end(&mut bytes) {
            Ok(_) => Ok(bytes),
            Err(error) => {
                let cause = error
                    .get_ref()
                    .and_then(|cause| cause.downcast_ref::<h2::Error>());
                Err(cause.and_then(h2::Error::reason).expect("a reset"))
            }
        }
    }
}

fn in_time<T>(
    runtime: &Handle,
    future: impl Future<Output = Option<Result<T, h2::Error>>>,
) -> io::Result<Option<T>> {
    let limit: Duration = SOON;
    let done = runtime.block_on(async { tokio::time::timeout(limit, future).await })?;
    done.transpose().map_err(io::Error::other)
}

impl Read for Http2Tunnel {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() {
            let Some(part) = in_time(&self.runtime, self.receiver.data())? else {
                return Ok(0);
            };
            let flow_control = self.receiver.flow_control();
            // The stream may have ended meanwhile.
            let _ = flow_control.release_capacity(part.len());
            self.rest = part;
        }
        let count = into.len().min(self.rest.len());
        self.rest.copy_to_slice(&mut into[..count]);
        Ok(count)
    }
}

impl Write for Http2Tunnel {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sender = &mut self.sender;
        sender.reserve_capacity(bytes.len());
        while sender.capacity() == 0 {
            let room = std::future::poll_fn(|context| sender.poll_capacity(context));
            if in_time(&self.runtime, room)?.is_none() {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
        }
        let count = sender.capacity().min(bytes.len());
        let piece = Bytes::copy_from_slice(&bytes[..count]);
        sender.send_data(piece, false).map_err(io::Error::other)?;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
