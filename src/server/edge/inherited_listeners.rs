//! A listening socket known by its number, as the handover table has it, made an owned one.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

/// A listener that never blocks, on the socket `number`, which stays open. Nothing but its number says that a socket is there, so it is
/// duplicated the safe way: sent to ourselves, which fails if there is none.
pub(in crate::server) fn duplicate_listener(number: RawFd) -> io::Result<TcpListener> {
    let (from, to) = UnixStream::pair()?;
    let byte = [IoSlice::new(b"s")];
    let message = [ControlMessage::ScmRights(&[number])];
    sendmsg::<()>(from.as_raw_fd(), &byte, &message, MsgFlags::empty(), None)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut received = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let into = &mut [IoSliceMut::new(&mut byte)];
    recvmsg(&to, into, &mut received, RecvFlags::CMSG_CLOEXEC)?;
    let owned = received.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut sockets) => sockets.next(),
        _ => None,
    });
    let socket = owned.ok_or(io::ErrorKind::NotFound)?;
    let listener = TcpListener::from(socket);
    listener.set_nonblocking(true)?;
    Ok(listener)
}
