//! The watch over a serving successor: it must accept a connection on each listener, and respond all the time, before
//! its predecessor closes the listening sockets.
//!
//! A probe is a connection whose source address is announced to the successor in advance. The successor counts it
//! as accepted and closes it. Probes appear in no log, metric or limit, and bypass TLS, the PROXY protocol and access
//! lists.

use std::collections::HashSet;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use log::{debug, warn};
use tokio::net::TcpSocket;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use super::connection::{HandoverConnection, HandoverError};
use super::message::Message;
use super::probe_source::ProbeSource;
use crate::config::ListenerAddress;
use crate::host_socket::{connect_unix_socket, unix_socket};

/// How long a successor is watched. A faulty new version usually fails in its first seconds.
pub(super) const WATCH_PERIOD: Duration = Duration::from_secs(3);

/// The interval of probes.
const PROBE_INTERVAL: Duration = Duration::from_millis(500);

/// A successor that has not responded for this long is frozen; a busy machine needs far less for a few bytes.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// If the whole machine was suspended for that time, the response arrives within this one.
const ANSWER_GRACE: Duration = Duration::from_millis(500);

/// How long probes may stay unaccepted. A successor that responds but has accepted none by then is at its limits, or a
/// packet filter drops local connections; the predecessor would do no better.
const PROBE_TIMEOUT: Duration = Duration::from_secs(10);

/// Watches the process at the other end of `connection`, which serves on `listeners`. `Ok`: the watch is over.
///
/// # Errors
/// How the successor failed.
pub(super) async fn watch_successor(
    connection: &mut HandoverConnection,
    listeners: &[ListenerAddress],
) -> Result<(), String> {
    let started = Instant::now();
    let mut unproven: HashSet<ListenerAddress> = listeners.iter().cloned().collect();
    // The source addresses of all probes, and their sockets: while those are open no client can have these addresses.
    let mut sources: Vec<(ProbeSource, ListenerAddress)> = Vec::new();
    let mut connections = JoinSet::new();
    for round in 0.. {
        let now = Instant::now();
        let end = Some(started + WATCH_PERIOD).filter(|end| *end > now);
        let next = (now + PROBE_INTERVAL).min(end.unwrap_or(now + PROBE_INTERVAL));
        let again = listeners.get(round % listeners.len().max(1));
        let to_probe = match unproven.is_empty() {
            true => Vec::from_iter(again.cloned()),
            false => Vec::from_iter(unproven.iter().cloned()),
        };
        let mut probes = Vec::new();
        for listener in to_probe {
            match ProbeSocket::bind(&listener) {
                Ok((socket, from)) => probes.push((socket, from, listener)),
                Err(error) => debug!("cannot probe {listener}: {error}"),
            }
        }
        let from: Vec<_> = probes.iter().map(|(_, from, _)| from.clone()).collect();
        let Some(accepted) = exchange_probe(connection, from).await? else {
            return Ok(());
        };
        for (from, listener) in &sources {
            if accepted.iter().any(|accepted| accepted == from) {
                unproven.remove(listener);
            }
        }
        if started.elapsed() >= WATCH_PERIOD && unproven.is_empty() {
            return Ok(());
        }
        if started.elapsed() >= PROBE_TIMEOUT {
            warn!(
                "the successor lives, but no probe came through to it on {}",
                unproven
                    .iter()
                    .map(ListenerAddress::to_string)
                    .collect::<Vec<_>>()
                    .join(", ")
            );
            return Ok(());
        }
        for (socket, from, listener) in probes {
            sources.push((from, listener));
            connections.spawn(socket.connect());
        }
        tokio::select! {
            () = sleep_until(next) => {}
            // The successor leaves or has died.
            () = connection.readable() => {}
        }
    }
    Ok(())
}

/// Announces probes and waits for the response. `None`: the successor leaves in good order.
async fn exchange_probe(
    connection: &mut HandoverConnection,
    from: Vec<ProbeSource>,
) -> Result<Option<Vec<ProbeSource>>, String> {
    let exchange = async {
        let sent = connection.write(&Message::Probe { from }).await;
        // A message sent before the close counts.
        match connection.receive().await {
            Ok(message) => Ok(message),
            Err(error) => sent.and(Err(error)),
        }
    };
    tokio::pin!(exchange);
    let answer = match timeout(ANSWER_TIMEOUT, &mut exchange).await {
        Ok(answer) => answer,
        Err(_) => timeout(ANSWER_GRACE, exchange)
            .await
            .map_err(|_| format!("the successor has not answered for {ANSWER_TIMEOUT:?}"))?,
    };
    match answer {
        Ok(Message::Alive { accepted }) => Ok(Some(accepted)),
        Ok(Message::Leaving) => Ok(None),
        Ok(other) => Err(format!("the successor sent {} out of turn", other.name())),
        Err(HandoverError::Closed) => Err("the successor has died".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// A socket with a local address, and the listener to which it will connect.
enum ProbeSocket {
    Tcp(TcpSocket, SocketAddr),
    Unix(OwnedFd, Arc<Path>),
}

impl ProbeSocket {
    /// A socket that can reach `listener`, and its local address.
    fn bind(listener: &ListenerAddress) -> io::Result<(Self, ProbeSource)> {
        match listener {
            ListenerAddress::Inet(listener) => {
                let target = probe_target(*listener);
                let socket = match target {
                    SocketAddr::V4(_) => TcpSocket::new_v4(),
                    SocketAddr::V6(_) => TcpSocket::new_v6(),
                }?;
                let mut source = target;
                source.set_port(0);
                socket.bind(source)?;
                let from = ProbeSource::Inet(socket.local_addr()?);
                Ok((ProbeSocket::Tcp(socket, target), from))
            }
            ListenerAddress::Unix(path) => {
                let from = ProbeSource::new_unix();
                let socket = unix_socket()?;
                rustix::net::bind(&socket, &from.abstract_address()?)?;
                Ok((ProbeSocket::Unix(socket, Arc::clone(path)), from))
            }
        }
    }

    /// The open connection; `None`: there is none in time.
    async fn connect(self) -> Option<OwnedFd> {
        let connecting = async {
            match self {
                ProbeSocket::Tcp(socket, target) => {
                    Ok(socket.connect(target).await?.into_std()?.into())
                }
                ProbeSocket::Unix(socket, path) => {
                    connect_unix_socket(&socket, &path).await?;
                    Ok::<_, io::Error>(socket)
                }
            }
        };
        timeout(PROBE_TIMEOUT, connecting).await.ok()?.ok()
    }
}

/// A local address that reaches `listener`: loopback for a wildcard.
fn probe_target(listener: SocketAddr) -> SocketAddr {
    let mut target = listener;
    if listener.ip().is_unspecified() {
        match listener {
            SocketAddr::V4(_) => target.set_ip(Ipv4Addr::LOCALHOST.into()),
            SocketAddr::V6(_) => target.set_ip(Ipv6Addr::LOCALHOST.into()),
        }
    }
    target
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_listener_has_an_address_that_can_be_reached() {
        for (listener, reached) in [
            ("0.0.0.0:80", "127.0.0.1:80"),
            ("[::]:80", "[::1]:80"),
            ("127.0.0.7:80", "127.0.0.7:80"),
            ("[2001:db8::1]:80", "[2001:db8::1]:80"),
        ] {
            let listener = listener.parse().unwrap();
            assert_eq!(probe_target(listener), reached.parse().unwrap());
        }
    }
}
