//! The side that comes: gets what it needs to prepare itself, then the sockets.

use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use log::{info, warn};
use nix::unistd::{Pid, close};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::launch;
use super::link::{Link, LinkError};
use super::message::{Legacy, Message, VERSION, import};
use super::place::is_trusted;
use super::probes::ExpectedProbes;
use crate::server::socket_file::is_same;

/// The predecessor welcomes a successor at once, or it hangs.
const WELCOME: Duration = Duration::from_secs(10);

/// How long a successor that serves waits for the last word of its predecessor before it takes it for said.
const LAST_WORD: Duration = Duration::from_secs(10);

/// The wish to take over from the process that serves.
#[derive(Debug)]
pub struct Upgrade {
    /// The upgrade socket to come to; `None`: the one that the configuration says.
    socket: Option<PathBuf>,
    patience: Duration,
}

impl Upgrade {
    /// To be called before anything else. A process that was started by its predecessor may be there only to start
    /// another one, and then does not return from here. Once it is prepared it waits for `patience`: where it was
    /// started by hand, somebody has to send SIGQUIT.
    ///
    /// # Errors
    /// One line for a person; the process has to end.
    pub fn arrive(patience: Duration) -> Result<Self, String> {
        let socket = launch::arrive()?;
        Ok(Upgrade { socket, patience })
    }
}

/// A successor that has been welcomed.
#[derive(Debug)]
pub(in crate::server) struct Successor {
    link: std::os::unix::net::UnixStream,
    /// Where the predecessor waited.
    door: PathBuf,
    predecessor: Option<Pid>,
    patience: Duration,
    listeners: HashSet<SocketAddr>,
    legacy: Legacy,
}

impl Successor {
    /// Comes to the process that serves; if it is not known where that waits, then to `path`. `None`: there is none.
    ///
    /// # Errors
    /// Why this process cannot be its successor.
    pub(in crate::server) fn come(upgrade: &Upgrade, path: &Path) -> Result<Option<Self>, String> {
        let path = upgrade.socket.as_deref().unwrap_or(path);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| format!("cannot come to the predecessor: {error}"))?;
        runtime.block_on(async {
            let stream = match UnixStream::connect(path).await {
                Ok(stream) => stream,
                Err(error) => return nobody(path, &error),
            };
            let mut link = Link::new(stream);
            let welcome = timeout(WELCOME, greet(&mut link)).await;
            let failed = |reason: String| format!("no handover from {}: {reason}", path.display());
            match welcome {
                Err(_) => Err(failed("the predecessor says nothing".to_owned())),
                Ok(Err(LinkError::Closed)) => {
                    warn!("the predecessor has gone; starting without it");
                    Ok(None)
                }
                Ok(Err(error)) => Err(failed(error.to_string())),
                Ok(Ok((listeners, legacy))) => {
                    let peer = link.peer().map_err(|error| failed(error.to_string()))?;
                    let link = link.into_std().map_err(|error| failed(error.to_string()))?;
                    Ok(Some(Successor {
                        link,
                        door: path.to_owned(),
                        predecessor: peer.pid,
                        patience: upgrade.patience,
                        listeners,
                        legacy,
                    }))
                }
            }
        })
    }

    /// Whether the upgrade socket of the predecessor is at `path`.
    pub(in crate::server) fn came_to(&self, path: &Path) -> bool {
        is_same(&self.door, path)
    }

    /// The process that serves, if the kernel knows its id.
    pub(in crate::server) fn predecessor(&self) -> Option<Pid> {
        self.predecessor
    }

    /// Whether the socket of `address` will be handed over.
    pub(in crate::server) fn inherits(&self, address: SocketAddr) -> bool {
        self.listeners.contains(&address)
    }

    /// What the predecessor has learnt.
    pub(in crate::server) fn legacy(&self) -> &Legacy {
        &self.legacy
    }

    /// Says that everything is prepared, and waits for the sockets of `addresses`. `None`: the predecessor has died, and
    /// nobody listens any more.
    ///
    /// # Errors
    /// Why there will be no handover; this process has to go.
    pub(in crate::server) async fn take(
        self,
        addresses: &[SocketAddr],
    ) -> Result<Option<Inheritance>, String> {
        let patience = self.patience;
        let taken = async {
            let mut link = Link::new(UnixStream::from_std(self.link)?);
            link.send(&Message::Prepared).await?;
            info!("prepared; waiting for the listeners of the predecessor");
            let (listeners, legacy) = match link.receive().await? {
                Message::Take {
                    listeners,
                    state,
                    reloaded,
                } => {
                    let legacy = Legacy {
                        reloaded,
                        ..import(state)
                    };
                    (listeners, legacy)
                }
                other => return Err(LinkError::Broken(format!("it said {other:?} out of turn"))),
            };
            let sockets = link.receive_sockets(listeners.len()).await?;
            let (sockets, unwanted): (Vec<_>, Vec<_>) = listeners
                .into_iter()
                .zip(sockets)
                .partition(|(address, _)| addresses.contains(address));
            for (address, socket) in unwanted {
                info!("no longer listening on {address}");
                let _ = close(socket);
            }
            Ok(Inheritance {
                link,
                sockets,
                legacy,
            })
        };
        match timeout(patience, taken).await {
            Ok(Ok(inheritance)) => Ok(Some(inheritance)),
            Ok(Err(LinkError::Closed)) => {
                warn!("the predecessor has died; listening without it");
                Ok(None)
            }
            Ok(Err(error)) => Err(format!("no handover: {error}")),
            Err(_) => Err(format!(
                "no handover: the predecessor got no SIGQUIT within {patience:?}"
            )),
        }
    }
}

/// What a successor has got.
#[derive(Debug)]
pub(in crate::server) struct Inheritance {
    link: Link,
    /// The listening sockets by address.
    pub(in crate::server) sockets: Vec<(SocketAddr, RawFd)>,
    /// What the predecessor has learnt until now.
    pub(in crate::server) legacy: Legacy,
}

impl Inheritance {
    /// Says that this process serves on `listeners`. `Ok`: it is the only one from here on; where the predecessor
    /// watches, what it does so with.
    ///
    /// # Errors
    /// Why it has to go nevertheless.
    pub(in crate::server) async fn confirm(
        mut self,
        listeners: Vec<SocketAddr>,
    ) -> Result<Option<Watched>, String> {
        let farewell = async {
            self.link.send(&Message::Ready { listeners }).await?;
            self.link.receive().await
        };
        match timeout(LAST_WORD, farewell).await {
            Ok(Ok(Message::Farewell { watch: true })) => Ok(Some(Watched(self.link))),
            // A predecessor that has died or hangs does not serve.
            Err(_) | Ok(Ok(_) | Err(LinkError::Closed)) => Ok(None),
            Ok(Err(error)) => Err(error.to_string()),
        }
    }

    /// Says why this process does not take over.
    pub(in crate::server) fn refuse(&self, reason: &str) {
        self.link.refuse(reason);
    }
}

/// The connection over which a predecessor watches this process.
#[derive(Debug)]
pub(in crate::server) struct Watched(Link);

impl Watched {
    /// Answers the predecessor until the watch is over, or until `leave` says that this process stops or has handed over
    /// itself.
    ///
    /// # Errors
    /// The predecessor has taken over again; this process has to go.
    pub(in crate::server) async fn answer(
        mut self,
        probes: &ExpectedProbes,
        leave: impl Future<Output = ()>,
    ) -> Result<(), String> {
        tokio::pin!(leave);
        let outcome = loop {
            tokio::select! {
                said = self.0.receive() => match said {
                    Ok(Message::Probe { from }) => {
                        probes.expect(&from);
                        let accepted = probes.take_accepted();
                        if self.0.write(&Message::Alive { accepted }).await.is_err() {
                            break Ok(());
                        }
                    }
                    Err(LinkError::Refused(reason)) => break Err(reason),
                    // It is over, or the predecessor has died.
                    _ => break Ok(()),
                },
                () = &mut leave => {
                    let _ = self.0.write(&Message::Leaving).await;
                    break Ok(());
                }
            }
        };
        probes.forget();
        outcome
    }
}

async fn greet(link: &mut Link) -> Result<(HashSet<SocketAddr>, Legacy), LinkError> {
    let peer = link.peer()?;
    if !is_trusted(peer.uid) {
        let uid = peer.uid;
        return Err(LinkError::Broken(format!("it runs as user {uid}")));
    }
    link.send(&Message::Hello {
        version: VERSION,
        watched: true,
    })
    .await?;
    match link.receive().await? {
        Message::Welcome { listeners, state } => {
            Ok((listeners.into_iter().collect(), import(state)))
        }
        other => Err(LinkError::Broken(format!("it said {other:?} out of turn"))),
    }
}

fn nobody<T>(path: &Path, error: &io::Error) -> Result<Option<T>, String> {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            warn!(
                "nobody to take over from at {}; starting without",
                path.display()
            );
            Ok(None)
        }
        _ => Err(format!("no handover from {}: {error}", path.display())),
    }
}
