//! A connection that has been upgraded: what either side sends goes to the other, until both have ended.
//!
//! The end of one side's sending is passed on, and the other may go on. A direction reads only when the other side has
//! taken what was read before, so each holds one buffer at most, and none while nothing flows.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll, ready};

use pingora::{Error, ErrorType, Result};
use tokio::time::Instant;

use super::buffer::{Buffer, LARGE, SMALL};
use super::client::{self, Client};
use super::hosts::Host;
use super::socket::Socket;
use crate::config::Timeouts;

/// One direction.
#[derive(Debug, Default)]
struct Flow {
    state: State,
    /// How much is read at once: more as soon as a read was full.
    size: usize,
    /// Bytes that have been passed on.
    passed: u64,
    /// Until when the receiver must have taken more.
    taken_by: Option<Instant>,
}

/// How far a direction is.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Bytes are passed on.
    #[default]
    Open,
    /// The sender has ended; the receiver is to be told.
    Ending,
    /// The receiver has been told, or takes nothing more.
    Over,
}

/// A tunnel.
pub(super) struct Tunnel<'t> {
    client: &'t mut Client,
    host: Socket,
    /// What has come from the host and has not gone to the client.
    inbound: Buffer,
    timeouts: Timeouts,
    up: Flow,
    down: Flow,
    /// Since when both sides have been silent.
    silent_since: Instant,
    /// Why one side takes nothing more.
    broken: Option<Box<Error>>,
}

/// What came of a tunnel.
pub(super) struct Ended {
    pub(super) result: Result<()>,
    /// Bytes that the host got from the client.
    pub(super) received: u64,
    /// Bytes that the client got from the host.
    pub(super) sent: u64,
}

impl<'t> Tunnel<'t> {
    /// A tunnel between `client` and a host that has sent `inbound` behind its 101.
    pub(super) fn new(
        client: &'t mut Client,
        (host, inbound): (Host, Buffer),
        timeouts: Timeouts,
    ) -> Self {
        Tunnel {
            client,
            host: host.socket,
            inbound,
            timeouts,
            up: Flow::default(),
            down: Flow::default(),
            silent_since: Instant::now(),
            broken: None,
        }
    }

    /// Passes on until both sides have ended, or one has broken.
    pub(super) async fn run(mut self) -> Ended {
        let result = poll_fn(|context| self.poll(context)).await;
        Ended {
            result,
            received: self.up.passed,
            sent: self.down.passed,
        }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<()>> {
        let before = self.moved();
        // In turns, so that neither direction keeps the other from its share.
        let (mut up, mut down) = (true, true);
        while up || down {
            up = up && self.poll_up(context)?.is_ready();
            down = down && self.poll_down(context)?.is_ready();
        }
        if self.up.state == State::Over && self.down.state == State::Over {
            return Poll::Ready(self.broken.take().map_or(Ok(()), Err));
        }
        if self.moved() != before {
            self.silent_since = Instant::now();
        }
        let limit = match (self.up.state, self.down.state) {
            (State::Open, State::Open) => self.timeouts.tunnel,
            // One that has left for good may not say so.
            _ => self.timeouts.tunnel.min(self.timeouts.read),
        };
        if self.client.alarm.rings(self.silent_since + limit, context) {
            let silent = "the tunnel was silent for too long";
            return Poll::Ready(Err(
                Error::explain(ErrorType::ReadTimedout, silent).into_down()
            ));
        }
        Poll::Pending
    }

    /// What changes with every byte and every end.
    fn moved(&self) -> (u64, u64, State, State) {
        let (up, down) = (&self.up, &self.down);
        (up.passed, down.passed, up.state, down.state)
    }

    /// Reads from the client once, or writes to the host; pending if neither can be done now.
    fn poll_up(&mut self, context: &mut Context<'_>) -> Result<Poll<()>> {
        let client = &mut *self.client;
        if self.up.state == State::Open && client.inbound.is_empty() {
            return match client.poll_more(context, self.up.size()) {
                Poll::Ready(Ok(count)) => {
                    self.up.came(count);
                    Ok(Poll::Ready(()))
                }
                Poll::Ready(Err(error)) => Err(client::gone(error)),
                Poll::Pending => {
                    // TLS keeps some back.
                    let _ = self.host.poll_flush(context);
                    Ok(Poll::Pending)
                }
            };
        }
        let put = match self.up.state {
            State::Over => return Ok(Poll::Pending),
            State::Open => self
                .host
                .poll_write(context, [client.inbound.filled(), &[]]),
            State::Ending => end(&mut self.host, context),
        };
        match put {
            Poll::Ready(Ok(count)) => {
                client.inbound.consume(count);
                self.up.went(count);
            }
            // What it has sent before is still to be read.
            Poll::Ready(Err(error)) => {
                client.inbound.consume(client.inbound.len());
                // A host that has ended need not take more, and one that does not hear of the end has left before it.
                if (self.up.state, self.down.state) == (State::Open, State::Open) {
                    let what = "the tunnel to the host";
                    let error = Error::because(ErrorType::WriteError, what, error);
                    self.broken = Some(error.into_up());
                }
                self.up.state = State::Over;
            }
            Poll::Pending => {
                let limit = self.timeouts.write;
                let by = *self
                    .up
                    .taken_by
                    .get_or_insert_with(|| Instant::now() + limit);
                if client.alarm.rings(by, context) {
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
        if self.down.state == State::Open && self.inbound.is_empty() {
            let size = self.down.size();
            return match self.host.poll_read(context, &mut self.inbound, size) {
                Poll::Ready(Ok(count)) => {
                    self.down.came(count);
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
        let put = match self.down.state {
            State::Over => return Ok(Poll::Pending),
            State::Open => client.poll_write(context, [self.inbound.filled(), &[]], limit),
            State::Ending => client.poll_end(context, limit).map_ok(|()| 0),
        };
        match put {
            Poll::Ready(Ok(count)) => {
                self.inbound.consume(count);
                self.down.went(count);
            }
            Poll::Ready(Err(error)) if *error.etype() == ErrorType::WriteTimedout => {
                return Err(error);
            }
            Poll::Ready(Err(error)) => {
                self.inbound.consume(self.inbound.len());
                if self.down.state == State::Open {
                    self.broken = Some(error);
                }
                self.down.state = State::Over;
            }
            Poll::Pending => return Ok(Poll::Pending),
        }
        Ok(Poll::Ready(()))
    }
}

impl Flow {
    fn size(&self) -> usize {
        self.size.max(SMALL)
    }

    /// So many bytes have been read; 0: the sender has ended.
    fn came(&mut self, count: usize) {
        self.size = if count >= SMALL { LARGE } else { SMALL };
        if count == 0 {
            self.state = State::Ending;
        }
    }

    /// So many bytes have been taken, or, at the end, the word of it.
    fn went(&mut self, count: usize) {
        self.passed += count as u64;
        self.taken_by = None;
        if self.state == State::Ending {
            self.state = State::Over;
        }
    }
}

/// Tells a host that nothing more comes.
fn end(socket: &mut Socket, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
    ready!(socket.poll_flush(context))?;
    socket.poll_shutdown(context).map_ok(|()| 0)
}

#[cfg(test)]
mod tests;
