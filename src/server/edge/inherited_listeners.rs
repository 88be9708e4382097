//! Duplicates inherited listening sockets, which the table of sockets knows by descriptor number. A Unix socket becomes a
//! `TcpListener` as well, of which only the descriptor is used.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

/// A non-blocking listener on a duplicate of the socket `number`, which stays open. A raw number may be stale, so the
/// socket is duplicated without unsafe code: the process sends it to itself with SCM_RIGHTS, which fails if the number
/// is not open.
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
