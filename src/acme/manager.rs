//! Keeps the certificates of a configuration current.

mod ordering;

use std::collections::HashMap;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use log::{debug, warn};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep};

use super::challenge_files::{self, SeenFiles};
use super::failure::delay;
use super::schedule::Schedule;
use super::state_directory::{DirectoryLock, DomainState, StateDirectory, blocking};
use super::status::AcmeStatus;
use crate::acme_challenges::{AcmeChallenges, ChallengeAnswers};
use crate::cluster::{Cluster, LockOutcome};
use crate::config::Acme;
use crate::event_log::EventLog;
use crate::metrics::MetricsCounters;
use crate::timestamp::Timestamp;

/// How often an instance looks for the challenges of others, and whether one that orders is done.
const POLL: Duration = Duration::from_secs(1);

/// The name of the lock that keeps other members of a cluster from ordering.
const CLUSTER_LOCK: &str = "acme";

/// What the manager works with.
#[derive(Debug)]
pub(crate) struct AcmeManagerParts {
    /// What to order; `None`: nothing.
    pub(crate) config: watch::Receiver<Option<Arc<Acme>>>,
    /// Gets the answers to challenges.
    pub(crate) challenges: Arc<AcmeChallenges>,
    /// Gets the status.
    pub(crate) status: Arc<AcmeStatus>,
    /// Is told when there are new certificates.
    pub(crate) renewed: Arc<Notify>,
    pub(crate) event_log: Arc<EventLog>,
    pub(crate) counts: Arc<MetricsCounters>,
    /// The other balancers of which one at a time orders; `None`: the process is alone.
    pub(crate) cluster: Option<Cluster>,
}

/// Orders certificates that are missing or have to be renewed, and answers challenges.
#[derive(Debug)]
pub(crate) struct AcmeManager {
    parts: AcmeManagerParts,
    /// The directory, and the lock by which others know of this instance.
    opened: Option<(StateDirectory, DirectoryLock)>,
    seen: SeenFiles,
    /// The certificates in the directory, each by its end.
    known: HashMap<String, i64>,
    /// Whether the configuration has changed since the last attempts.
    is_urgent: bool,
    /// What is wrong with the directory.
    problem: Option<String>,
    /// How often in a row that was so.
    problems: u32,
    schedule: Schedule,
}

impl AcmeManager {
    pub(crate) fn new(parts: AcmeManagerParts) -> Self {
        AcmeManager {
            parts,
            opened: None,
            seen: SeenFiles::new(),
            known: HashMap::new(),
            is_urgent: false,
            problem: None,
            problems: 0,
            schedule: Schedule::new(rand::random()),
        }
    }

    /// Works until it is cancelled, which may happen at any time.
    pub(crate) async fn run(&mut self) {
        loop {
            let acme = self.parts.config.borrow_and_update().clone();
            let mut config = self.parts.config.clone();
            let manage = async {
                match acme {
                    Some(acme) => self.manage(&acme).await,
                    None => {
                        self.leave();
                        pending().await
                    }
                }
            };
            tokio::select! {
                changed = config.changed() => match changed {
                    Ok(()) => self.is_urgent = true,
                    // The process ends.
                    Err(_) => return pending().await,
                },
                () = manage => {}
            }
        }
    }

    /// Takes no part any more: another process is to be alone, and nothing is answered or shown.
    pub(crate) fn leave(&mut self) {
        self.opened = None;
        self.seen.clear();
        self.known.clear();
        self.problem = None;
        self.parts.challenges.replace(ChallengeAnswers::default());
        self.parts.status.replace(Vec::new());
    }

    async fn manage(&mut self, acme: &Acme) {
        loop {
            let wait = match self.attend(acme).await {
                Ok(wait) => {
                    (self.problem, self.problems) = (None, 0);
                    wait
                }
                // Orders whose outcome cannot be written must not be made again and again.
                Err(problem) => self.note_problem(problem),
            };
            // The monotonic clock: an operator who sets the time does not change the wait.
            let end = Instant::now() + wait;
            while Instant::now() < end {
                sleep(POLL.min(wait)).await;
                if let Err(problem) = self.read_challenges().await {
                    debug!("challenges: {problem}");
                }
            }
        }
    }

    /// Orders what is due, unless another instance does. Returns the time until the next look.
    async fn attend(&mut self, acme: &Acme) -> Result<Duration, String> {
        let state = self.open(acme).await?;
        self.read_challenges().await?;
        let found = self.review(&state, acme).await?;
        if self.schedule.due(&found, now(), self.is_urgent).is_empty() {
            self.is_urgent = false;
            return Ok(self.schedule.until_next_look(&found, now()));
        }
        let lock = {
            let state = state.clone();
            blocking(move || state.try_lock()).await?
        };
        let Some(_lock) = lock else {
            return Ok(POLL);
        };
        let cluster_lock = match &self.parts.cluster {
            Some(cluster) => match cluster.try_lock(CLUSTER_LOCK).await {
                LockOutcome::Held(lock) => Some(lock),
                LockOutcome::Taken => return Ok(POLL),
                // Without etcd this member goes on alone.
                LockOutcome::Unknown => None,
            },
            None => None,
        };
        let ordered = self.order_due(&state, acme).await;
        if let Some(lock) = cluster_lock {
            lock.release().await;
        }
        ordered?;
        self.is_urgent = false;
        let found = self.review(&state, acme).await?;
        Ok(self.schedule.until_next_look(&found, now()))
    }

    /// Orders what is still due.
    async fn order_due(&mut self, state: &StateDirectory, acme: &Acme) -> Result<(), String> {
        // The one before may have ordered the same.
        let found = self.review(state, acme).await?;
        let due = self.schedule.due(&found, now(), self.is_urgent);
        if !due.is_empty() {
            self.clear_challenges(state).await?;
            self.order_all(state, acme, due).await?;
            self.clear_challenges(state).await?;
        }
        Ok(())
    }

    async fn open(&mut self, acme: &Acme) -> Result<StateDirectory, String> {
        let root = acme.authority_directory();
        if let Some((state, _)) = &self.opened
            && state.root() == root
        {
            return Ok(state.clone());
        }
        let acme = acme.clone();
        let opened = blocking(move || {
            let state = StateDirectory::open(&acme)?;
            let joined = state.join()?;
            Ok((state, joined))
        });
        let (state, joined) = opened.await?;
        // Answers from another directory are not among those that are read here.
        self.seen.clear();
        self.parts.challenges.replace(ChallengeAnswers::default());
        self.opened = Some((state.clone(), joined));
        Ok(state)
    }

    /// Reads what there is, shows it, and makes new certificates known.
    async fn review(
        &mut self,
        state: &StateDirectory,
        acme: &Acme,
    ) -> Result<Vec<DomainState>, String> {
        let (state, domains) = (state.clone(), acme.domains.clone());
        let found = blocking(move || Ok(state.read(&domains))).await?;
        let ends = found.iter().filter_map(|found| {
            let certificate = found.certificate.as_ref()?;
            Some((found.domain.clone(), certificate.validity.until))
        });
        let ends = HashMap::from_iter(ends);
        if ends != self.known {
            self.known = ends;
            self.parts.renewed.notify_one();
        }
        let status = found.iter().map(|found| self.schedule.status(found));
        self.parts.status.replace(status.collect());
        Ok(found)
    }

    /// Answers from the files that there are now.
    async fn read_challenges(&mut self) -> Result<(), String> {
        let Some((state, _)) = &self.opened else {
            return Ok(());
        };
        let (directory, mut seen) = (state.challenges(), self.seen.clone());
        let read = blocking(move || {
            let changed = challenge_files::read_changed(&directory, &mut seen)?;
            Ok(changed.map(|answers| (answers, seen)))
        });
        if let Some((answers, seen)) = read.await? {
            self.seen = seen;
            self.parts.challenges.replace(answers);
        }
        Ok(())
    }

    async fn clear_challenges(&mut self, state: &StateDirectory) -> Result<(), String> {
        let directory = state.challenges();
        blocking(move || challenge_files::clear(&directory)).await?;
        self.read_challenges().await
    }

    /// Says what is wrong with the directory, once. Returns the time until the next attempt.
    fn note_problem(&mut self, problem: String) -> Duration {
        self.problems = self.problems.saturating_add(1);
        self.is_urgent = false;
        // It may have been removed.
        self.opened = None;
        if self.problem.as_ref() != Some(&problem) {
            warn!(
                "acme: {problem}; it is tried again after a minute, then after two, up to an hour"
            );
            self.problem = Some(problem);
        }
        delay(self.problems, rand::random())
    }
}

fn now() -> i64 {
    Timestamp::now().unix_seconds() as i64
}
