//! A connection that has been upgraded: what either side sends goes to the other, until both have ended.
//!
//! The end of one side's sending is passed on, and the other may go on. A direction reads only when the other side has
//! taken what was read before, so each holds one buffer at most, and none while nothing flows.

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

/// One direction.
#[derive(Debug, Default)]
struct Direction {
    state: DirectionState,
    /// How much is read at once: more as soon as a read was full.
    size: usize,
    /// Bytes that have been passed on.
    forwarded: u64,
    /// Until when the receiver must have taken more.
    write_deadline: Option<Instant>,
}

/// How far a direction is.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum DirectionState {
    /// Bytes are passed on.
    #[default]
    Open,
    /// The sender has ended; the receiver is to be told.
    Closing,
    /// The receiver has been told, or takes nothing more.
    Closed,
}

/// A tunnel.
pub(super) struct Tunnel<'t> {
    client: &'t mut ClientConnection,
    host: Transport,
    /// What has come from the host and has not gone to the client.
    inbound: Buffer,
    timeouts: Timeouts,
    up: Direction,
    down: Direction,
    /// Since when both sides have been silent.
    idle_since: Instant,
    /// Why one side takes nothing more.
    write_error: Option<Box<Error>>,
}

/// What came of a tunnel.
pub(super) struct TunnelOutcome {
    pub(super) result: Result<()>,
    /// Bytes that the host got from the client.
    pub(super) received: u64,
    /// Bytes that the client got from the host.
    pub(super) sent: u64,
}

impl<'t> Tunnel<'t> {
    /// A tunnel between `client` and a host that has sent `inbound` behind its 101.
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

    /// Passes on until both sides have ended, or one has broken.
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
        // In turns, so that neither direction keeps the other from its share.
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
            // One that has left for good may not say so.
            _ => self.timeouts.tunnel.min(self.timeouts.read),
        };
        if self
            .client
            .timer
            .has_elapsed(self.idle_since + limit, context)
        {
            let silent = "the tunnel was silent for too long";
            return Poll::Ready(Err(
                Error::explain(ErrorType::ReadTimedout, silent).into_down()
            ));
        }
        Poll::Pending
    }

    /// What changes with every byte and every end.
    fn progress(&self) -> (u64, u64, DirectionState, DirectionState) {
        let (up, down) = (&self.up, &self.down);
        (up.forwarded, down.forwarded, up.state, down.state)
    }

    /// Reads from the client once, or writes to the host; pending if neither can be done now.
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
                    // TLS keeps some back.
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
            // What it has sent before is still to be read.
            Poll::Ready(Err(error)) => {
                client.inbound.consume(client.inbound.len());
                // A host that has ended need not take more, and one that does not hear of the end has left before it.
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
                let by = *self
                    .up
                    .write_deadline
                    .get_or_insert_with(|| Instant::now() + limit);
                if client.timer.has_elapsed(by, context) {
                    let late = "the host does not take what the client sends";
                    return Err(Error::explain(ErrorType::WriteTimedout, late).into_up());
                }
                return Ok(Poll::Pending);
            }
        }
        Ok(Poll::Ready(()))
    }

    /// The same from the host to the client.
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
                    let _ = client.socket.poll_flush(context);
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

    /// So many bytes have been read; 0: the sender has ended.
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

    /// So many bytes have been taken, or, at the end, the word of it.
    fn on_written(&mut self, count: usize) {
        self.forwarded += count as u64;
        self.write_deadline = None;
        if self.state == DirectionState::Closing {
            self.state = DirectionState::Closed;
        }
    }
}

/// Tells a host that nothing more comes.
fn shut_down(socket: &mut Transport, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
    ready!(socket.poll_flush(context))?;
    socket.poll_shutdown(context).map_ok(|()| 0)
}

#[cfg(test)]
mod tests;
