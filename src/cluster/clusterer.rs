//! A member of a cluster: makes itself known, follows what the others share, and shares what operators change here.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use log::{info, warn};
use serde::{Deserialize, Serialize};
use tokio::runtime;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use super::view::{ClusterMember, ClusterView, KeyNames, MemberRecord, PoolChanges, SharedChanges};
use crate::config;
use crate::etcd::{
    EtcdClient, EtcdError, LeasedKey, LeasedKeyStatus, PrefixStatus, PrefixWatch, Swap,
};
use crate::timestamp::Timestamp;

/// How soon the others notice that a member has gone without a word.
const MEMBER_TIME: Duration = Duration::from_secs(10);

/// How long a start waits for what the others share.
const FIRST_VIEW: Duration = Duration::from_secs(5);

/// The pause before the secret is made again.
const SECRET_RETRY: Duration = Duration::from_secs(1);

/// Bytes of a secret that a member makes.
const SECRET_BYTES: usize = 32;

/// Runs until it is done or dropped.
pub(crate) type Task<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// This member and what it knows of the others. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Cluster(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    config: config::Cluster,
    member: String,
    key_names: KeyNames,
    client: EtcdClient,
    watch: PrefixWatch,
    own_key: LeasedKey,
    view: ArcSwap<ClusterView>,
    connection: ArcSwap<Connection>,
    /// Live members, this one included.
    members: AtomicU32,
    changed: Notify,
}

/// Whether etcd is followed.
#[derive(Debug, Clone, PartialEq)]
struct Connection {
    since: Timestamp,
    /// `None`: it is.
    failure: Option<String>,
}

/// The cluster as an operator sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterStatus {
    /// The cluster's name.
    pub name: String,
    /// The name of this member.
    pub member: String,
    /// Whether etcd is followed; without it changes are refused, and everything else goes on.
    pub connected: bool,
    /// Since when that is so.
    pub since: Timestamp,
    /// Why etcd is not followed.
    pub last_error: Option<String>,
    /// The number of members that the limits are divided by.
    pub shares: u32,
    /// The live members, as far as this one knows.
    pub members: Vec<ClusterMember>,
}

/// Why a change was not shared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PublishError {
    /// Another member was faster.
    Conflict,
    /// etcd cannot be reached or refuses; nothing was changed.
    Refused(String),
    /// It may have been shared.
    Unknown(String),
}

impl fmt::Display for PublishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PublishError::Conflict => {
                f.write_str("another member changed the same pool at the same time; try again")
            }
            PublishError::Refused(reason) => write!(
                f,
                "the cluster shares changes through etcd, which does not take this one; nothing was changed: {reason}"
            ),
            PublishError::Unknown(reason) => write!(
                f,
                "it is not known whether etcd has taken the change; if so, it takes effect as soon as etcd can be read: {reason}"
            ),
        }
    }
}

impl Cluster {
    /// A member that has yet to [`run`](Cluster::run).
    ///
    /// # Errors
    /// The TLS of etcd cannot be set up, or the machine has no name.
    pub(crate) fn new(config: &config::Cluster, record: &MemberRecord) -> Result<Self, String> {
        let member = match &config.member {
            Some(member) => member.clone(),
            None => machine_name()?,
        };
        let key_names = KeyNames::new(&config.prefix, &config.name);
        let client = EtcdClient::new(&config.etcd)?;
        let record = serde_json::to_vec(record).map_err(|error| error.to_string())?;
        Ok(Cluster(Arc::new(Shared {
            watch: PrefixWatch::new(client.clone(), key_names.prefix()),
            own_key: LeasedKey::new(
                client.clone(),
                key_names.member(&member),
                record,
                MEMBER_TIME,
            ),
            config: config.clone(),
            member,
            key_names,
            client,
            view: ArcSwap::default(),
            connection: ArcSwap::from_pointee(Connection {
                since: Timestamp::now(),
                failure: Some("not connected yet".to_owned()),
            }),
            members: AtomicU32::new(1),
            changed: Notify::new(),
        })))
    }

    /// Live members, this one included: what limits are divided by. Without etcd it is the last number that was known.
    pub(crate) fn members(&self) -> u32 {
        self.0.members.load(Ordering::Relaxed)
    }

    /// What the members share.
    pub(crate) fn view(&self) -> Arc<ClusterView> {
        self.0.view.load_full()
    }

    /// Waits until the view has changed since the last call. A change between two calls is not missed.
    pub(crate) async fn changed(&self) {
        self.0.changed.notified().await;
    }

    /// The cluster as an operator sees it.
    pub(crate) fn status(&self) -> ClusterStatus {
        let connection = self.0.connection.load();
        ClusterStatus {
            name: self.0.config.name.clone(),
            member: self.0.member.clone(),
            connected: connection.failure.is_none(),
            since: connection.since,
            last_error: connection.failure.clone(),
            shares: self.members(),
            members: self.0.view.load().members.clone(),
        }
    }

    /// Reads once what the members share, and blocks until then, at most for 5 s.
    pub(crate) fn read_once(&self) {
        let runtime = runtime::Builder::new_current_thread().enable_all().build();
        let runtime = match runtime {
            Ok(runtime) => runtime,
            Err(error) => {
                warn!("cluster: etcd cannot be asked: {error}");
                return;
            }
        };
        let read = runtime.block_on(async {
            // Connections belong to the runtime in which they are made.
            let client = EtcdClient::new(&self.0.config.etcd)?;
            let watch = PrefixWatch::new(client, self.0.key_names.prefix());
            let mut status = watch.subscribe();
            let read = async {
                tokio::select! {
                    () = watch.run() => {}
                    read = status.wait_for(|status| status.snapshot.is_some() || status.failure.is_some()) => drop(read),
                }
            };
            let _ = timeout(FIRST_VIEW, read).await;
            let status = status.borrow().clone();
            match (&status.snapshot, status.failure) {
                (Some(snapshot), _) => Ok((self.0.key_names.view(snapshot), snapshot.revision)),
                (None, Some(failure)) => Err(failure),
                (None, None) => Err(format!("etcd has not answered within {FIRST_VIEW:?}")),
            }
        });
        runtime.shutdown_background();
        match read {
            Ok((view, revision)) => self.take(view, revision),
            Err(reason) => warn!(
                "cluster {}: this member goes on alone: {reason}",
                self.0.config.name
            ),
        }
    }

    /// Follows the others. Once `serving` resolves, it makes itself known, until `leaving` does.
    pub(crate) fn run<'a>(&'a self, serving: Task<'a>, leaving: Task<'a>) -> Task<'a> {
        let own_key = async {
            serving.await;
            self.0.own_key.run(leaving).await;
        };
        Box::pin(async {
            tokio::join!(
                self.0.watch.run(),
                own_key,
                self.follow(),
                self.watch_own_key(),
                self.make_secret()
            );
        })
    }

    /// Shares what operators have changed in a pool, if the last change of it was at `revision`; `None`: there was none.
    ///
    /// # Errors
    /// [`PublishError`].
    pub(crate) async fn publish(
        &self,
        pool: &str,
        revision: Option<i64>,
        changes: PoolChanges,
    ) -> Result<(), PublishError> {
        if let Some(failure) = &self.0.connection.load().failure {
            return Err(PublishError::Refused(failure.clone()));
        }
        let value = serde_json::to_vec(&changes);
        let value = value.map_err(|error| PublishError::Refused(error.to_string()))?;
        let key = self.0.key_names.changes(pool);
        let swapped = match revision {
            None => self.0.client.create(key, value, None).await,
            Some(revision) => self.0.client.replace(key, value, revision, None).await,
        };
        match swapped {
            Ok(Swap::Done(revision)) => {
                self.note_published(pool, SharedChanges { revision, changes });
                Ok(())
            }
            Ok(Swap::Conflict(_)) => Err(PublishError::Conflict),
            Err(EtcdError::OutcomeUnknown(reason)) => Err(PublishError::Unknown(reason)),
            Err(error) => Err(PublishError::Refused(error.to_string())),
        }
    }

    /// The watch will say the same; another change may come before that.
    fn note_published(&self, pool: &str, shared: SharedChanges) {
        self.0.view.rcu(|view| {
            let mut view = ClusterView::clone(view);
            let known = view.changes.get(pool).map(|known| known.revision);
            if known.is_none_or(|known| known < shared.revision) {
                view.changes.insert(pool.to_owned(), shared.clone());
            }
            view
        });
    }

    pub(super) fn client(&self) -> &EtcdClient {
        &self.0.client
    }

    pub(super) fn key_names(&self) -> &KeyNames {
        &self.0.key_names
    }

    /// The name of this member.
    pub(crate) fn member_name(&self) -> &str {
        &self.0.member
    }

    /// Takes in what etcd says.
    async fn follow(&self) {
        let mut status = self.0.watch.subscribe();
        status.mark_changed();
        while status.changed().await.is_ok() {
            let PrefixStatus {
                snapshot, failure, ..
            } = status.borrow_and_update().clone();
            self.note_connection(failure, snapshot.is_some());
            if let Some(snapshot) = snapshot {
                self.take(self.0.key_names.view(&snapshot), snapshot.revision);
            }
        }
    }

    /// Takes in what all members share as of `revision`, and keeps what this one has published since.
    fn take(&self, mut view: ClusterView, revision: i64) {
        let known = self.0.view.load();
        let newer = known
            .changes
            .iter()
            .filter(|(_, known)| known.revision > revision);
        view.changes
            .extend(newer.map(|(pool, known)| (pool.clone(), known.clone())));

        let is_known = view
            .members
            .iter()
            .any(|member| member.name == self.0.member);
        let members = view.members.len() + usize::from(!is_known);
        let members = u32::try_from(members).unwrap_or(u32::MAX);
        self.0.members.store(members, Ordering::Relaxed);
        let is_changed = **self.0.view.load() != view;
        self.0.view.store(Arc::new(view));
        if is_changed {
            self.0.changed.notify_one();
        }
    }

    fn note_connection(&self, failure: Option<String>, is_known: bool) {
        let before = self.0.connection.load();
        let failure = match (failure, is_known) {
            (None, false) => Some("not connected yet".to_owned()),
            (failure, _) => failure,
        };
        let name = &self.0.config.name;
        match (&before.failure, &failure) {
            (Some(_), None) => info!("cluster {name}: connected, {} members", self.members()),
            (None, Some(reason)) => warn!(
                "cluster {name}: etcd is lost, this member goes on with its share of {} and refuses changes: {reason}",
                self.members()
            ),
            _ => {}
        }
        if before.failure.is_none() == failure.is_none() && before.failure == failure {
            return;
        }
        let since = match before.failure.is_none() == failure.is_none() {
            true => before.since,
            false => Timestamp::now(),
        };
        self.0
            .connection
            .store(Arc::new(Connection { since, failure }));
    }

    /// Says when another process has the name of this member.
    async fn watch_own_key(&self) {
        let mut status = self.0.own_key.subscribe();
        while status.changed().await.is_ok() {
            if *status.borrow_and_update() == LeasedKeyStatus::Taken {
                let (name, member) = (&self.0.config.name, &self.0.member);
                info!(
                    "cluster {name}: another process is the member {member} now, which is right if it is the successor of this one"
                );
            }
        }
    }

    /// Makes the secret that keys are derived from, if no member has made one.
    async fn make_secret(&self) {
        let mut status = self.0.watch.subscribe();
        loop {
            let connected =
                |status: &PrefixStatus| status.snapshot.is_some() && status.failure.is_none();
            if status.wait_for(connected).await.is_err() || self.0.view.load().secret.is_some() {
                return;
            }
            let secret = BASE64_STANDARD.encode(rand::random::<[u8; SECRET_BYTES]>());
            match self
                .0
                .client
                .create(self.0.key_names.secret(), secret, None)
                .await
            {
                // Also if another member was faster: its secret comes by the watch.
                Ok(_) => return,
                Err(error) => warn!(
                    "cluster {}: there is no secret yet: {error}",
                    self.0.config.name
                ),
            }
            sleep(SECRET_RETRY).await;
        }
    }
}

/// The name of this machine.
fn machine_name() -> Result<String, String> {
    let name = nix::unistd::gethostname();
    let name =
        name.map_err(|error| format!("the machine has no name, set `cluster.member`: {error}"))?;
    let name = name.to_string_lossy().into_owned();
    match name.is_empty() {
        true => Err("the machine has no name, set `cluster.member`".to_owned()),
        false => Ok(name),
    }
}
