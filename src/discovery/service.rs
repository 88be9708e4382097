//! Asks the sources of the configuration, each in a task of its own.

use std::collections::{BTreeSet, HashMap};
use std::future::pending;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::{debug, warn};
use tokio::runtime;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet, spawn_blocking};

use super::answer::Answer;
use super::clients::Clients;
use super::consul;
use super::dns_watch;
use super::etcd_watch;
use super::hosts_file;
use super::source_table::{SavedHosts, SourceTable};
use super::store::Store;
use crate::config::{self, Config, HostSource};
use crate::supervisor::{Supervisor, Task};

/// How long a start or a reload waits for sources that have never answered.
pub(crate) const FIRST_ANSWERS: Duration = Duration::from_secs(5);

/// How often an answer that is the same as before is written again, so that what is on disk shows when it was confirmed.
const SAVE_INTERVAL: Duration = Duration::from_secs(300);

/// What is asked, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Wanted {
    sources: BTreeSet<HostSource>,
    settings: Arc<config::Discovery>,
}

impl Wanted {
    fn of<'a>(configs: impl IntoIterator<Item = &'a Config>, settings: &config::Discovery) -> Self {
        let pools = configs.into_iter().flat_map(|config| &config.pools);
        Wanted {
            sources: pools.flat_map(config::Pool::sources).collect(),
            settings: Arc::new(settings.clone()),
        }
    }
}

/// The sources and what is known from them. Clones share both.
#[derive(Debug, Clone)]
pub(crate) struct Discovery {
    table: Arc<SourceTable>,
    wanted: Arc<watch::Sender<Wanted>>,
}

impl Discovery {
    /// The sources of `config`, of which `saved` is what a predecessor knew. What is on disk is read.
    pub(crate) fn new(config: &Config, saved: &[SavedHosts]) -> Self {
        let wanted = Wanted::of([config], &config.discovery);
        let discovery = Discovery {
            table: Arc::default(),
            wanted: Arc::new(watch::Sender::new(wanted.clone())),
        };
        discovery.restore(&wanted, saved);
        discovery
    }

    /// What is known from the sources.
    pub(crate) fn table(&self) -> &Arc<SourceTable> {
        &self.table
    }

    /// Asks the sources of `config` from now on, and no others.
    pub(crate) fn configure(&self, config: &Config) {
        self.set(Wanted::of([config], &config.discovery));
    }

    /// Asks the sources of `new` beside those of `old`, as `new` says, and waits until each has answered, at most for
    /// [`FIRST_ANSWERS`].
    pub(crate) async fn prepare(&self, old: &Config, new: &Config) {
        let both = Wanted::of([old, new], &new.discovery);
        let (known, wanted) = (self.wanted.borrow().sources.clone(), both.clone());
        let discovery = self.clone();
        let restored = spawn_blocking(move || {
            let mut added = wanted;
            added.sources.retain(|source| !known.contains(source));
            discovery.restore(&added, &[]);
        });
        if let Err(error) = restored.await {
            warn!("the hosts that were kept on disk cannot be read: {error}");
        }
        self.set(both);
        let sources = Wanted::of([new], &new.discovery).sources;
        self.table.wait_for_answers(&sources, FIRST_ANSWERS).await;
    }

    /// Asks all sources once, at most for [`FIRST_ANSWERS`], and blocks until then.
    ///
    /// # Errors
    /// There is no thread or descriptor to do so with.
    pub(crate) fn ask_once(&self) -> io::Result<()> {
        let sources = self.wanted.borrow().sources.clone();
        if sources.is_empty() {
            return Ok(());
        }
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            tokio::select! {
                () = self.run() => {}
                () = self.table.wait_for_answers(&sources, FIRST_ANSWERS) => {}
            }
        });
        // A file system that does not respond must not hold up the start.
        runtime.shutdown_background();
        Ok(())
    }

    /// Asks the sources until it is cancelled.
    pub(crate) async fn run(&self) {
        let mut wanted = self.wanted.subscribe();
        let mut asked: HashMap<HostSource, AbortHandle> = HashMap::new();
        let mut clients = Arc::new(Clients::new(Arc::clone(&wanted.borrow().settings)));
        let mut tasks = JoinSet::new();
        loop {
            let now = wanted.borrow_and_update().clone();
            if now.settings != *clients.settings() {
                asked.drain().for_each(|(_, task)| task.abort());
                clients = Arc::new(Clients::new(now.settings));
            }
            asked.retain(|source, task| {
                let is_wanted = now.sources.contains(source);
                if !is_wanted {
                    task.abort();
                }
                is_wanted
            });
            self.table.retain(|source| now.sources.contains(source));
            for source in now.sources {
                asked.entry(source.clone()).or_insert_with(|| {
                    let asker = Asker::new(source, Arc::clone(&clients), Arc::clone(&self.table));
                    tasks.spawn(asker.run())
                });
            }
            tokio::select! {
                changed = wanted.changed() => if changed.is_err() {
                    // The process ends.
                    return pending().await;
                },
                // Those that were aborted.
                Some(_) = tasks.join_next() => {}
            }
        }
    }

    /// Says which sources of `found` have told no host, and warns of them.
    ///
    /// # Errors
    /// They have to: `strict` is set, or a pool that `had_hosts` would have none.
    pub(crate) fn missing(
        &self,
        found: &Config,
        had_hosts: impl Fn(&str) -> bool,
    ) -> Result<(), String> {
        for pool in &found.pools {
            let sources = pool
                .sources()
                .map(|source| (self.table.state(&source), source));
            let silent = sources.filter(|(state, _)| state.hosts.is_empty());
            let silent = Vec::from_iter(silent.map(|(state, source)| match state.error {
                Some(error) => format!("source {source} has told no hosts: {error}"),
                None => format!("source {source} has not answered within {FIRST_ANSWERS:?}"),
            }));
            let name = &pool.name;
            if silent.is_empty() {
                continue;
            }
            let all = silent.join("; ");
            if pool.members.is_empty() && had_hosts(name) {
                return Err(format!(
                    "pools.{name}: the pool would lose all of its hosts: {all}"
                ));
            }
            if found.discovery.strict {
                return Err(format!("pools.{name}: {all} (discovery.strict is set)"));
            }
            let rest = match pool.members.len() {
                0 => "the pool has no hosts until one answers, and its clients get 503".to_owned(),
                1 => "the pool has one other host".to_owned(),
                some => format!("the pool has {some} other hosts"),
            };
            warn!("pool {name}: {all}; {rest}");
        }
        Ok(())
    }

    fn set(&self, wanted: Wanted) {
        self.wanted.send_if_modified(|current| {
            let is_changed = *current != wanted;
            *current = wanted;
            is_changed
        });
    }

    fn restore(&self, wanted: &Wanted, saved: &[SavedHosts]) {
        let store = wanted.settings.state_directory.as_deref().map(Store::new);
        for source in &wanted.sources {
            let name = source.to_string();
            if let Some(saved) = saved.iter().find(|saved| saved.source == name) {
                self.table.restore(source, saved.clone(), false);
                continue;
            }
            match store.as_ref().map(|store| store.load(source)) {
                Some(Ok(Some(saved))) => self.table.restore(source, saved, true),
                Some(Err(error)) => {
                    warn!("source {source}: what was kept of it cannot be read: {error}");
                }
                Some(Ok(None)) | None => {}
            }
        }
    }
}

/// Asks one source and keeps what it tells.
struct Asker {
    source: HostSource,
    clients: Arc<Clients>,
    table: Arc<SourceTable>,
    writer: watch::Sender<Option<SavedHosts>>,
}

impl Asker {
    fn new(source: HostSource, clients: Arc<Clients>, table: Arc<SourceTable>) -> Self {
        Asker {
            source,
            clients,
            table,
            writer: watch::Sender::new(None),
        }
    }

    async fn run(self) {
        let mut supervisor = Supervisor::new(Task::Discovery, self.source.to_string());
        let report = |answer| self.report(answer);
        let ask = async {
            loop {
                supervisor
                    .run(ask(&self.source, &self.clients, &report))
                    .await;
            }
        };
        tokio::join!(ask, self.keep());
    }

    fn report(&self, answer: Answer) {
        self.table.report(&self.source, answer);
        let saved = self.table.export_one(&self.source);
        self.writer.send_if_modified(|current| {
            let is_changed = saved.is_some() && *current != saved;
            *current = saved.or(current.take());
            is_changed
        });
    }

    /// Writes what the source tells.
    async fn keep(&self) {
        let Some(directory) = &self.clients.settings().state_directory else {
            return;
        };
        let store = Store::new(directory);
        let mut saved = self.writer.subscribe();
        // The first answer may have come before.
        saved.mark_changed();
        let mut written: Option<(SavedHosts, Instant)> = None;
        let mut is_failing = false;
        while saved.changed().await.is_ok() {
            let Some(now) = saved.borrow_and_update().clone() else {
                continue;
            };
            let is_written = |(before, at): &(SavedHosts, Instant)| {
                before.hosts == now.hosts && at.elapsed() < SAVE_INTERVAL
            };
            if written.as_ref().is_some_and(is_written) {
                continue;
            }
            let (store, source, content) = (store.clone(), self.source.clone(), now.clone());
            let outcome = spawn_blocking(move || store.save(&source, &content)).await;
            match outcome.unwrap_or_else(|error| Err(io::Error::other(error))) {
                Ok(()) => is_failing = false,
                Err(error) if is_failing => debug!("source {}: not kept: {error}", self.source),
                Err(error) => {
                    is_failing = true;
                    let directory = directory.display();
                    warn!(
                        "source {}: what it tells cannot be kept in `{directory}` (discovery.state_directory) for the next start: {error}",
                        self.source
                    );
                }
            }
            written = Some((now, Instant::now()));
        }
    }
}

/// Asks a source and reports what it tells, until it is cancelled.
async fn ask(source: &HostSource, clients: &Clients, report: &(dyn Fn(Answer) + Sync)) {
    let dns = &clients.settings().dns;
    match source {
        HostSource::File(path) => hosts_file::watch(path, report).await,
        HostSource::Name(name) => dns_watch::watch_name(name, dns, report).await,
        HostSource::Srv(name) => dns_watch::watch_service(name, dns, report).await,
        HostSource::Etcd(prefix) => etcd_watch::watch(prefix, clients, report).await,
        HostSource::Consul(service) => {
            consul::watch(service, clients.consul().await, report).await;
        }
    }
}
