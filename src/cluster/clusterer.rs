//! A member of a cluster: makes itself known, follows what the others share, and shares what operators change here.

mod first_view;

use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use log::{info, warn};
use tokio::sync::Notify;
use tokio::time::sleep;

use super::known_state::KnownState;
use super::publish_error::PublishError;
use super::saved_view::{SavedView, ViewFile};
use super::secret::ClusterSecret;
use super::status::{ClusterStatus, Connection, LimitShare};
use super::view::{ClusterView, KeyNames, MemberRecord, PoolChanges, SharedChanges};
use crate::config;
use crate::etcd::{
    EtcdClient, EtcdError, LeasedKey, LeasedKeyStatus, PrefixSnapshot, PrefixStatus, PrefixWatch,
    Swap,
};
use crate::timestamp::Timestamp;

/// How soon the others notice that a member has gone without a word.
const MEMBER_TIME: Duration = Duration::from_secs(10);

/// The pause before the secret is made again.
const SECRET_RETRY: Duration = Duration::from_secs(1);

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
    /// Held for moments only.
    known: Mutex<KnownState>,
    connection: ArcSwap<Connection>,
    /// Live members, this one included.
    members: AtomicU32,
    limits: ArcSwap<Vec<LimitShare>>,
    changed: Notify,
    /// What is known is not what the file has.
    unsaved: Notify,
    /// `None`: nothing is kept.
    file: Option<ViewFile>,
}

impl Cluster {
    /// A member that has yet to [`run`](Cluster::run), and keeps what it knows in `directory`.
    ///
    /// # Errors
    /// The TLS of etcd cannot be set up, or the machine has no name.
    pub(crate) fn new(
        config: &config::Cluster,
        directory: Option<&Path>,
        record: &MemberRecord,
    ) -> Result<Self, String> {
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
            file: directory
                .map(|directory| ViewFile::new(directory, &config.name, &member, &key_names)),
            config: config.clone(),
            member,
            key_names,
            client,
            known: Mutex::default(),
            connection: ArcSwap::from_pointee(Connection {
                since: Timestamp::now(),
                failure: Some("not connected yet".to_owned()),
            }),
            members: AtomicU32::new(1),
            limits: ArcSwap::default(),
            changed: Notify::new(),
            unsaved: Notify::new(),
        })))
    }

    /// Live members, this one included: what limits are divided by. Without etcd it is the last number that was known.
    pub(crate) fn members(&self) -> u32 {
        self.0.members.load(Ordering::Relaxed)
    }

    /// What the members share.
    pub(crate) fn view(&self) -> Arc<ClusterView> {
        self.known().view()
    }

    fn known(&self) -> MutexGuard<'_, KnownState> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether etcd is followed.
    pub(crate) fn is_connected(&self) -> bool {
        self.0.connection.load().failure.is_none()
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
            check_stretch: self.members(),
            limits: self.0.limits.load().to_vec(),
            members: self.view().members.clone(),
        }
    }

    /// Sets what the status says of the limits.
    pub(crate) fn show_limits(&self, limits: Vec<LimitShare>) {
        self.0.limits.store(Arc::new(limits));
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
                self.make_secret(),
                self.keep()
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
                // The watch will say the same; another change may come before that.
                self.known()
                    .note_published(pool, SharedChanges { revision, changes });
                self.0.unsaved.notify_one();
                Ok(())
            }
            Ok(Swap::Conflict(_)) => Err(PublishError::Conflict),
            Err(EtcdError::OutcomeUnknown(reason)) => Err(PublishError::Unknown(reason)),
            Err(error) => Err(PublishError::Refused(error.to_string())),
        }
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
                self.take(&snapshot);
            }
        }
    }

    /// Takes in what all members share.
    fn take(&self, snapshot: &PrefixSnapshot) {
        let view = self.0.key_names.view(snapshot);
        let PrefixSnapshot {
            revision,
            cluster_id,
            ..
        } = *snapshot;
        let members = self.count_members(&view);
        let is_changed = self.known().take(view, revision, cluster_id);
        let before = self.0.members.swap(members, Ordering::Relaxed);
        if is_changed || before != members {
            self.0.changed.notify_one();
            self.0.unsaved.notify_one();
        }
    }

    /// The live members of a view; this one counts although it may not have made itself known yet.
    fn count_members(&self, view: &ClusterView) -> u32 {
        let mut members = view.members.iter();
        let is_known = members.any(|member| member.name == self.0.member);
        let members = view.members.len() + usize::from(!is_known);
        u32::try_from(members).unwrap_or(u32::MAX)
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

    /// Makes the secret that keys are derived from, if etcd has none; one that was known goes back there.
    async fn make_secret(&self) {
        let mut status = self.0.watch.subscribe();
        let key = self.0.key_names.secret();
        let lacks_secret = |status: &PrefixStatus| {
            let snapshot = status.snapshot.as_ref();
            status.failure.is_none()
                && snapshot.is_some_and(|known| !known.keys.contains_key(key.as_bytes()))
        };
        while status.wait_for(lacks_secret).await.is_ok() {
            let known = self.known().secret();
            let secret = known.unwrap_or_else(ClusterSecret::random);
            let created = self.0.client.create(key.clone(), secret.encode(), None);
            // If another member was faster, its secret comes by the watch.
            if let Err(error) = created.await {
                let name = &self.0.config.name;
                warn!("cluster {name}: there is no secret yet: {error}");
            }
            sleep(SECRET_RETRY).await;
        }
    }

    /// Keeps what is known for a start without etcd.
    async fn keep(&self) {
        let Some(file) = &self.0.file else {
            return;
        };
        let mut is_failing = false;
        loop {
            self.0.unsaved.notified().await;
            let saved = SavedView::new(&self.view(), self.members());
            let kept = file.save(saved).await;
            if let (Err(error), false) = (&kept, is_failing) {
                warn!(
                    "cluster {}: what this member knows cannot be kept in `{}` (discovery.state_directory) for a start without etcd: {error}",
                    self.0.config.name,
                    file.path().display()
                );
            }
            is_failing = kept.is_err();
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
