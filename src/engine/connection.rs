//! A client's connection: one request after the other.

use std::cell::RefCell;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Poll;

use pingora::Result;
use tokio::time::Instant;

use super::buffer::SMALL;
use super::client::Client;
use super::exchange::{Exchange, Room};
use super::socket::Socket;
use super::spare::Spare;
use super::{Engine, Peer};
use crate::message::head::{HeadError, MOST_FIELDS, Progress};
use crate::proxy::answer::{Answer, LINGER};
use crate::proxy::telling::tell_headless;
use crate::record::Ending;

thread_local! {
    static ROOMS: RefCell<Spare<Box<Room>>> = const { RefCell::new(Spare::new()) };
}

/// A client's connection.
pub(super) struct Connection<'e> {
    engine: &'e Engine,
    client: Client,
    peer: Peer,
    began: Instant,
    /// Requests so far.
    requests: u64,
}

/// What the client has sent next.
enum Next {
    /// The head of a request, which is so long.
    Head(usize),
    /// A head that is refused, though there is a request.
    Refused(usize, Answer),
    /// What is no head, or comes too slowly.
    Cut(Answer),
    /// Nothing: the connection ends.
    Nothing,
    /// The beginning of a head, and no more.
    Gone,
}

/// How a request ended as far as its connection is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The connection is kept.
    Keep,
    /// It is closed once the client has read all.
    Part,
    /// It is closed at once: the client has all, and has sent nothing that was not read.
    Shut,
    /// It is broken off.
    Close,
}

impl<'e> Connection<'e> {
    pub(super) fn new(engine: &'e Engine, socket: Socket, peer: Peer) -> Self {
        Connection {
            engine,
            client: Client::new(socket),
            peer,
            began: Instant::now(),
            requests: 0,
        }
    }

    pub(super) async fn serve(mut self) {
        let engine = self.engine;
        let mut registered = None;
        poll_fn(|context| {
            registered = Some(engine.closing.register(context.waker()));
            Poll::Ready(())
        })
        .await;
        loop {
            let (room, next, began) = self.next().await;
            let end = match next {
                Next::Nothing => return self.client.part().await,
                Next::Gone => {
                    return self.tell(began, None, Ending::ClientGone);
                }
                Next::Cut(answer) => {
                    self.tell(began, Some(answer), answer.ending());
                    self.send(answer).await;
                    End::Part
                }
                Next::Head(length) => self.run(room, (length, began), None).await,
                Next::Refused(length, answer) => {
                    self.run(room, (length, began), Some(answer)).await
                }
            };
            match end {
                End::Keep => self.requests += 1,
                End::Part => return self.client.part().await,
                End::Shut => return self.client.shut().await,
                End::Close => return,
            }
        }
    }

    /// Waits for the next head, and tells when it had come, or had begun to if it is cut.
    async fn next(&mut self) -> (Box<Room>, Next, Instant) {
        let engine = self.engine;
        let is_first = self.requests == 0;
        let rested = match is_first {
            true => self.began,
            false => Instant::now(),
        };
        let mut since = is_first.then_some(self.began);
        let mut room: Option<Box<Room>> = None;
        let client = &mut self.client;
        client.has_sent = false;
        let next = poll_fn(|context| {
            loop {
                if !client.inbound.is_empty() {
                    let bytes = client.inbound.filled();
                    let room = room.get_or_insert_with(take_room);
                    match room.head.read_request(bytes, MOST_FIELDS) {
                        Ok(Progress::Complete(length)) => return Poll::Ready(Next::Head(length)),
                        Ok(Progress::Partial) => {}
                        Err(HeadError::FragmentInTarget) => {
                            let length = bytes.len();
                            return Poll::Ready(Next::Refused(length, Answer::BAD_TARGET));
                        }
                        Err(HeadError::TooManyFields) => {
                            return Poll::Ready(Next::Cut(Answer::TOO_MANY_FIELDS));
                        }
                        Err(HeadError::Malformed) => {
                            return Poll::Ready(Next::Cut(Answer::to_failure(400)));
                        }
                    }
                    let site = engine.site.load();
                    if bytes.len() >= site.limits.head {
                        return Poll::Ready(Next::Cut(Answer::HEAD_TOO_LARGE));
                    }
                    let began = *since.get_or_insert_with(Instant::now);
                    let by = began + site.timeouts.client_head;
                    match client.poll_more(context, SMALL) {
                        Poll::Ready(Ok(1..)) => continue,
                        Poll::Ready(_) => return Poll::Ready(Next::Gone),
                        Poll::Pending if client.alarm.rings(by, context) => {
                            return Poll::Ready(Next::Cut(Answer::to_failure(408)));
                        }
                        Poll::Pending => return Poll::Pending,
                    }
                }
                match client.poll_more(context, SMALL) {
                    Poll::Ready(Ok(1..)) => continue,
                    Poll::Ready(_) => return Poll::Ready(Next::Nothing),
                    Poll::Pending => {}
                }
                if engine.closing.is_closed() {
                    return Poll::Ready(Next::Nothing);
                }
                let timeouts = engine.site.load().timeouts;
                let limit = match is_first {
                    true => timeouts.client_head,
                    false => timeouts.client_keepalive,
                };
                if client.alarm.rings(rested + limit, context) {
                    return Poll::Ready(Next::Nothing);
                }
                return Poll::Pending;
            }
        })
        .await;
        let room = room.unwrap_or_else(take_room);
        let cut_since = match next {
            Next::Head(_) | Next::Refused(..) => None,
            _ => since,
        };
        (room, next, cut_since.unwrap_or_else(Instant::now))
    }

    /// Serves a request, whose panic is only its own end.
    async fn run(
        &mut self,
        mut room: Box<Room>,
        (length, began): (usize, Instant),
        refused: Option<Answer>,
    ) -> End {
        room.begin(&self.client.inbound.filled()[..length]);
        let end = {
            let exchange = Exchange {
                engine: self.engine,
                client: &mut self.client,
                peer: self.peer,
                requests: self.requests,
                began: began.into_std(),
                length,
            };
            // A connection at rest need not have room for a request.
            let mut running = Box::pin(exchange.run(&mut room, refused));
            // It is copied into its place for each request; what few need is in places of its own.
            debug_assert!(size_of_val(&*running) <= 2_048);
            poll_fn(|context| {
                // What a panic leaves behind is dropped, and what outlives it is made for that: counts that end by being
                // dropped, locks whose poison is ignored, and the client's socket, which is closed.
                match catch_unwind(AssertUnwindSafe(|| running.as_mut().poll(context))) {
                    Ok(Poll::Ready(end)) => Poll::Ready(Some(end)),
                    Ok(Poll::Pending) => Poll::Pending,
                    Err(_) => Poll::Ready(None),
                }
            })
            .await
        };
        match end {
            Some(end) => {
                give_room(room);
                end
            }
            None if self.client.has_sent => End::Close,
            None => {
                self.send(Answer::to_failure(500)).await;
                End::Part
            }
        }
    }

    /// Tells of a request of which there is no head.
    fn tell(&self, began: Instant, answer: Option<Answer>, ending: Ending) {
        let status = answer.map(|answer| answer.status());
        let sent = answer.map_or(0, |answer| answer.len());
        let who = (self.peer.address, self.peer.tls);
        tell_headless(
            &self.engine.site.load(),
            who,
            began.into_std(),
            status,
            sent,
            ending,
        );
    }

    /// Sends an answer behind which the connection is closed.
    async fn send(&mut self, answer: Answer) {
        let limit = self.engine.site.load().timeouts.write;
        let _: Result<()> = self
            .client
            .write_all(&answer.to_bytes(), limit.min(LINGER))
            .await;
    }
}

fn take_room() -> Box<Room> {
    let kept = ROOMS.try_with(|rooms| rooms.borrow_mut().take());
    kept.ok().flatten().unwrap_or_default()
}

fn give_room(mut room: Box<Room>) {
    room.shrink();
    // A thread that ends keeps nothing.
    let _ = ROOMS.try_with(|rooms| rooms.borrow_mut().give(room));
}

/// Drops the rooms that the thread has not needed lately.
pub(super) fn trim() {
    ROOMS.with(|rooms| rooms.borrow_mut().trim());
}
