//! A tunnel after a protocol upgrade: copies bytes in both directions until both sides have closed.
//!
//! When one side shuts down its sending side, the tunnel passes that on, and the other direction may continue. A
//! direction reads only after its previous bytes were written, so it holds at most one buffer, and none while it is
//! idle.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll, ready};

use pingora::{Error, ErrorType, Result};
use tokio::time::Instant;

use super::buffer::{Buffer, LARGE_SIZE, SMALL_SIZE};
use super::client_connection::{self, ClientConnection};
use super::host_connection::HostConnection;
use super::transport::Transport;
use crate::config::Timeouts;

/// One direction of a tunnel.
#[derive(Debug, Default)]
struct Direction {
    state: DirectionState,
    /// The read size; it grows after a full read.
    size: usize,
    /// Bytes forwarded so far.
    forwarded: u64,
    /// When the receiver must have accepted more bytes.
    write_deadline: Option<Instant>,
}

/// The state of one direction.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum DirectionState {
    /// Bytes flow.
    #[default]
    Open,
    /// The sender has shut down; the receiver has not been informed yet.
    Closing,
    /// The receiver has been informed, or no longer accepts bytes.
    Closed,
}

/// A tunnel between a client and a host.
pub(super) struct Tunnel<'t> {
    client: &'t mut ClientConnection,
    host: Transport,
    /// Bytes from the host that were not written to the client yet.
    inbound: Buffer,
    timeouts: Timeouts,
    up: Direction,
    down: Direction,
    /// When the last byte was forwarded.
    idle_since: Instant,
    /// The error of a side that no longer accepts bytes; reported once both directions are closed.
    write_error: Option<Box<Error>>,
}

/// How a tunnel ended.
pub(super) struct TunnelOutcome {
    pub(super) result: Result<()>,
    /// Bytes forwarded from the client to the host.
    pub(super) received: u64,
    /// Bytes forwarded from the host to the client.
    pub(super) sent: u64,
}

impl<'t> Tunnel<'t> {
    /// Creates a tunnel. `inbound` holds the bytes that the host sent after its 101 response.
    pub(super) fn new(
        client: &'t mut ClientConnection,
        (host, inbound): (HostConnection, Buffer),
        timeouts: Timeouts,
    ) -> Self {
        Tunnel {
            client,
            host: host.socket,
            inbound,
            timeouts,
            up: Direction::default(),
            down: Direction::default(),
            idle_since: Instant::now(),
            write_error: None,
        }
    }

    /// Forwards until both sides have closed or one has failed.
    pub(super) async fn run(mut self) -> TunnelOutcome {
        let result = poll_fn(|context| self.poll(context)).await;
        TunnelOutcome {
            result,
            received: self.up.forwarded,
            sent: self.down.forwarded,
        }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<()>> {
        let before = self.progress();
        // Takes turns, so that neither direction starves the other.
        let (mut up, mut down) = (true, true);
        while up || down {
            up = up && self.poll_up(context)?.is_ready();
            down = down && self.poll_down(context)?.is_ready();
        }
        if self.up.state == DirectionState::Closed && self.down.state == DirectionState::Closed {
            return Poll::Ready(self.write_error.take().map_or(Ok(()), Err));
        }
        if self.progress() != before {
            self.idle_since = Instant::now();
        }
        let limit = match (self.up.state, self.down.state) {
            (DirectionState::Open, DirectionState::Open) => self.timeouts.tunnel,
            // A peer that disappears may never close its other direction, so the shorter timeout applies.
            _ => self.timeouts.tunnel.min(self.timeouts.read),
        };
        if self
            .client
            .timer
            .has_elapsed(self.idle_since + limit, context)
        {
            let error = Error::explain(
                ErrorType::ReadTimedout,
                "the tunnel was silent for too long",
            );
            // Once the client has ended its side, only the host can be late.
            return Poll::Ready(Err(match self.up.state {
                DirectionState::Open => error.into_down(),
                DirectionState::Closing | DirectionState::Closed => error.into_up(),
            }));
        }
        Poll::Pending
    }

    /// A value that changes with every forwarded byte and every shutdown.
    fn progress(&self) -> (u64, u64, DirectionState, DirectionState) {
        let (up, down) = (&self.up, &self.down);
        (up.forwarded, down.forwarded, up.state, down.state)
    }

    /// Does one step from the client to the host: a read, a write or a shutdown. Pending if it has to wait.
    fn poll_up(&mut self, context: &mut Context<'_>) -> Result<Poll<()>> {
        let client = &mut *self.client;
        if self.up.state == DirectionState::Open && client.inbound.is_empty() {
            return match client.poll_read(context, self.up.size()) {
                Poll::Ready(Ok(count)) => {
                    self.up.on_read(count);
                    Ok(Poll::Ready(()))
                }
                Poll::Ready(Err(error)) => Err(client_connection::disconnected(error)),
                Poll::Pending => {
                    // TLS may still buffer bytes.
                    let _ = self.host.poll_flush(context);
                    Ok(Poll::Pending)
                }
            };
        }
        let written = match self.up.state {
            DirectionState::Closed => return Ok(Poll::Pending),
            DirectionState::Open => self
                .host
                .poll_write(context, [client.inbound.filled(), &[]]),
            DirectionState::Closing => shut_down(&mut self.host, context),
        };
        match written {
            Poll::Ready(Ok(count)) => {
                client.inbound.consume(count);
                self.up.on_written(count);
            }
            // The host no longer accepts bytes, but those that it has already sent must still reach the client.
            Poll::Ready(Err(error)) => {
                client.inbound.consume(client.inbound.len());
                // This is an error only while both directions are open: a host that has shut down its sending side may
                // close the rest as well.
                if (self.up.state, self.down.state) == (DirectionState::Open, DirectionState::Open)
                {
                    let what = "the tunnel to the host";
                    let error = Error::because(ErrorType::WriteError, what, error);
                    self.write_error = Some(error.into_up());
                }
                self.up.state = DirectionState::Closed;
            }
            Poll::Pending => {
                let limit = self.timeouts.write;
                let deadline = *self
                    .up
                    .write_deadline
                    .get_or_insert_with(|| Instant::now() + limit);
                if client.timer.has_elapsed(deadline, context) {
                    let late = "the host does not read what the client sends";
                    return Err(Error::explain(ErrorType::WriteTimedout, late).into_up());
                }
                return Ok(Poll::Pending);
            }
        }
        Ok(Poll::Ready(()))
    }

    /// Does one step from the host to the client.
    fn poll_down(&mut self, context: &mut Context<'_>) -> Result<Poll<()>> {
        let (client, limit) = (&mut *self.client, self.timeouts.write);
        if self.down.state == DirectionState::Open && self.inbound.is_empty() {
            let size = self.down.size();
            return match self.host.poll_read(context, &mut self.inbound, size) {
                Poll::Ready(Ok(count)) => {
                    self.down.on_read(count);
                    Ok(Poll::Ready(()))
                }
                Poll::Ready(Err(error)) => {
                    let what = "the tunnel to the host";
                    Err(Error::because(ErrorType::ReadError, what, error).into_up())
                }
                Poll::Pending => {
                    let _ = client.transport.poll_flush(context);
                    Ok(Poll::Pending)
                }
            };
        }
        let written = match self.down.state {
            DirectionState::Closed => return Ok(Poll::Pending),
            DirectionState::Open => client.poll_write(context, [self.inbound.filled(), &[]], limit),
            DirectionState::Closing => client.poll_shutdown(context, limit).map_ok(|()| 0),
        };
        match written {
            Poll::Ready(Ok(count)) => {
                self.inbound.consume(count);
                self.down.on_written(count);
            }
            Poll::Ready(Err(error)) if *error.etype() == ErrorType::WriteTimedout => {
                return Err(error);
            }
            Poll::Ready(Err(error)) => {
                self.inbound.consume(self.inbound.len());
                if self.down.state == DirectionState::Open {
                    self.write_error = Some(error);
                }
                self.down.state = DirectionState::Closed;
            }
            Poll::Pending => return Ok(Poll::Pending),
        }
        Ok(Poll::Ready(()))
    }
}

impl Direction {
    fn size(&self) -> usize {
        self.size.max(SMALL_SIZE)
    }

    /// Records a read of `count` bytes; 0 means that the sender has shut down.
    fn on_read(&mut self, count: usize) {
        self.size = if count >= SMALL_SIZE {
            LARGE_SIZE
        } else {
            SMALL_SIZE
        };
        if count == 0 {
            self.state = DirectionState::Closing;
        }
    }

    /// Records a write of `count` bytes, or the finished shutdown.
    fn on_written(&mut self, count: usize) {
        self.forwarded += count as u64;
        self.write_deadline = None;
        if self.state == DirectionState::Closing {
            self.state = DirectionState::Closed;
        }
    }
}

/// Flushes, then shuts down the sending side.
fn shut_down(socket: &mut Transport, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
    ready!(socket.poll_flush(context))?;
    socket.poll_shutdown(context).map_ok(|()| 0)
}

#[cfg(test)]
mod tests;
