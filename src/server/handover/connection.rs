//! The connection between predecessor and successor: framed messages, and sockets as ancillary data.

use std::fmt;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use nix::cmsg_space;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use nix::unistd::Pid;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::UnixStream;

use super::message::Message;

/// The first bytes of each frame; they reveal a peer of another protocol at once.
const MAGIC: [u8; 4] = *b"BLHO";

/// The largest message: room for the state of a hundred thousand hosts.
const MAX_MESSAGE: usize = 32 << 20;

/// Sockets per message; the kernel's limit is 253 (SCM_MAX_FD).
const SOCKET_BATCH: usize = 128;

/// Why a connection has failed.
#[derive(Debug)]
pub(super) enum HandoverError {
    /// The other side has closed the connection.
    Closed,
    /// The other side has refused, for this reason.
    Refused(String),
    /// A violation of the protocol, or an I/O error.
    Broken(String),
}

impl fmt::Display for HandoverError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HandoverError::Closed => f.write_str("the other process has gone"),
            HandoverError::Refused(reason) => f.write_str(reason),
            HandoverError::Broken(what) => write!(f, "the handover's connection broke: {what}"),
        }
    }
}

impl From<io::Error> for HandoverError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::BrokenPipe => HandoverError::Closed,
            _ => HandoverError::Broken(error.to_string()),
        }
    }
}

/// A connection between predecessor and successor.
#[derive(Debug)]
pub(super) struct HandoverConnection(UnixStream);

impl HandoverConnection {
    pub(super) fn new(stream: UnixStream) -> Self {
        HandoverConnection(stream)
    }

    /// Detaches the connection from its runtime.
    pub(super) fn into_std(self) -> io::Result<std::os::unix::net::UnixStream> {
        self.0.into_std()
    }

    /// The credentials of the other process, from the kernel.
    pub(super) fn peer(&self) -> io::Result<Peer> {
        let credentials = self.0.peer_cred()?;
        Ok(Peer {
            uid: credentials.uid(),
            pid: credentials.pid().map(Pid::from_raw),
        })
    }

    pub(super) async fn send(&mut self, message: &Message) -> Result<(), HandoverError> {
        let Err(error) = self.write(message).await else {
            return Ok(());
        };
        // A refusal sent before the close is the better error.
        match self.receive().await {
            Err(refused @ HandoverError::Refused(_)) => Err(refused),
            _ => Err(error),
        }
    }

    /// Sends a message without reading a pending refusal.
    pub(super) async fn write(&mut self, message: &Message) -> Result<(), HandoverError> {
        let frame = frame(message)?;
        self.0.write_all(&frame).await.map_err(HandoverError::from)
    }

    /// Waits until there is data, or the other side has closed.
    pub(super) async fn readable(&self) {
        // The next read reports the error.
        let _ = self.0.readable().await;
    }

    /// Waits until the other side has closed.
    pub(super) async fn wait_closed(&mut self) {
        let mut bytes = [0; 256];
        while self.0.read(&mut bytes).await.is_ok_and(|read| read > 0) {}
    }

    /// Receives the next message. A refusal is an error.
    pub(super) async fn receive(&mut self) -> Result<Message, HandoverError> {
        let mut magic = [0; MAGIC.len()];
        self.0.read_exact(&mut magic).await?;
        if magic != MAGIC {
            return Err(HandoverError::Broken(
                "it speaks another protocol".to_owned(),
            ));
        }
        let length = self.0.read_u32().await? as usize;
        if length > MAX_MESSAGE {
            return Err(HandoverError::Broken(format!(
                "a message of {length} bytes"
            )));
        }
        let mut text = Vec::new();
        let mut body = (&mut self.0).take(length as u64);
        if body.read_to_end(&mut text).await? < length {
            return Err(HandoverError::Closed);
        }
        match serde_json::from_slice(&text) {
            Ok(Message::Refused { reason }) => Err(HandoverError::Refused(reason)),
            Ok(message) => Ok(message),
            Err(error) => Err(HandoverError::Broken(error.to_string())),
        }
    }

    /// Sends a refusal, if the socket has room at once.
    pub(super) fn refuse(&self, reason: &str) {
        let reason = reason.to_owned();
        self.try_send(&Message::Refused { reason });
    }

    /// Sends the release from the watch, if the socket has room at once.
    pub(super) fn release(&self) {
        self.try_send(&Message::Release);
    }

    fn try_send(&self, message: &Message) {
        if let Ok(frame) = frame(message) {
            // A peer that misses it notices the end of the connection, or its own deadline.
            let _ = self.0.try_write(&frame);
        }
    }

    pub(super) async fn send_sockets(&self, sockets: &[RawFd]) -> Result<(), HandoverError> {
        let stream = self.0.as_raw_fd();
        for batch in sockets.chunks(SOCKET_BATCH) {
            let send = || {
                let byte = [IoSlice::new(&[0])];
                let sockets = [ControlMessage::ScmRights(batch)];
                sendmsg::<()>(stream, &byte, &sockets, MsgFlags::MSG_NOSIGNAL, None)?;
                Ok(())
            };
            self.0.async_io(Interest::WRITABLE, send).await?;
        }
        Ok(())
    }

    /// Receives `count` sockets. The caller must close them; child processes do not inherit them.
    pub(super) async fn receive_sockets(&self, count: usize) -> Result<Vec<RawFd>, HandoverError> {
        let stream = self.0.as_raw_fd();
        let mut sockets = Vec::new();
        while sockets.len() < count {
            let receive = || receive_batch(stream);
            sockets.extend(self.0.async_io(Interest::READABLE, receive).await?);
        }
        Ok(sockets)
    }
}

impl AsFd for HandoverConnection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The process at the other end.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer {
    pub(super) uid: u32,
    pub(super) pid: Option<Pid>,
}

fn frame(message: &Message) -> Result<Vec<u8>, HandoverError> {
    let text =
        serde_json::to_vec(message).map_err(|error| HandoverError::Broken(error.to_string()))?;
    if text.len() > MAX_MESSAGE {
        let length = text.len();
        return Err(HandoverError::Broken(format!(
            "a message of {length} bytes"
        )));
    }
    let length = (text.len() as u32).to_be_bytes();
    Ok([&MAGIC[..], &length, &text].concat())
}

fn receive_batch(stream: RawFd) -> io::Result<Vec<RawFd>> {
    let mut byte = [0];
    let mut bytes = [IoSliceMut::new(&mut byte)];
    let mut space = cmsg_space!([RawFd; SOCKET_BATCH]);
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(stream, &mut bytes, Some(&mut space), flags)?;
    let mut sockets = Vec::new();
    for part in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(some) = part {
            sockets.extend(some);
        }
    }
    if sockets.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(sockets)
}
