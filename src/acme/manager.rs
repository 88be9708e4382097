//! Keeps the certificates of a configuration current.

use std::collections::HashMap;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use log::{debug, warn};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout};

use super::account;
use super::challenge_files::{self, SeenFiles};
use super::directory_client::DirectoryClient;
use super::failure::{Failure, delay};
use super::order::{AnswerPublisher, order};
use super::order_error::{ErrorScope, OrderError};
use super::schedule::{Schedule, issuer};
use super::state_directory::{DirectoryLock, DomainState, StateDirectory, blocking, is_alone};
use super::status::AcmeStatus;
use crate::acme_challenges::{AcmeChallenges, ChallengeAnswers};
use crate::config::Acme;
use crate::event_log::{EventKind, EventLog};
use crate::metrics::{MetricsCounters, OrderOutcome};
use crate::timestamp::Timestamp;

/// How often an instance looks for the challenges of others, and whether one that orders is done.
const POLL: Duration = Duration::from_secs(1);

/// How long the others get to find an answer before the authority may ask for it.
const PUBLICATION: Duration = Duration::from_secs(2);

/// For one order. Each of its requests has a timeout of its own.
const ORDER_TIMEOUT: Duration = Duration::from_secs(5 * 60);

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
            // By a clock that nobody sets.
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
        // The one before may have ordered the same.
        let found = self.review(&state, acme).await?;
        let due = self.schedule.due(&found, now(), self.is_urgent);
        if !due.is_empty() {
            self.clear_challenges(&state).await?;
            self.order_all(&state, acme, due).await?;
            self.clear_challenges(&state).await?;
        }
        self.is_urgent = false;
        let found = self.review(&state, acme).await?;
        Ok(self.schedule.until_next_look(&found, now()))
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

    /// Orders a certificate for each of `due`. What fails is recorded, and tried again later.
    async fn order_all(
        &mut self,
        state: &StateDirectory,
        acme: &Acme,
        due: Vec<DomainState>,
    ) -> Result<(), String> {
        let client = DirectoryClient::new(acme);
        let mut left = &*due;
        let mut has_new_account = false;
        loop {
            let Err((position, error)) = self.order_some(state, acme, &client, left).await? else {
                return Ok(());
            };
            left = &left[position..];
            if error.scope == ErrorScope::Account && !has_new_account {
                debug!("the authority does not know the account: {}", error.message);
                let state = state.clone();
                blocking(move || state.remove_account()).await?;
                has_new_account = true;
                continue;
            }
            let asked = client.take_retry_after();
            return self.record_failure(state, left, error, asked).await;
        }
    }

    /// Orders certificates until one fails for a reason that would hold for all others; returns its position and the error.
    async fn order_some(
        &mut self,
        state: &StateDirectory,
        acme: &Acme,
        client: &DirectoryClient,
        due: &[DomainState],
    ) -> Result<Result<(), (usize, OrderError)>, String> {
        let account = match account::open(state, acme, client).await {
            Ok(account) => account,
            Err(error) => return Ok(Err((0, error))),
        };
        for (position, found) in due.iter().enumerate() {
            let ordered = timeout(
                ORDER_TIMEOUT,
                order(&found.domain, acme, &account, state, self),
            );
            let ordered = ordered.await.unwrap_or_else(|_| {
                let limit = ORDER_TIMEOUT.as_secs();
                Err(OrderError::of_order(format!("not done within {limit} s")))
            });
            let kept = match ordered {
                Ok(text) => self.keep(state, acme, &found.domain, text).await,
                Err(error) => Err(error),
            };
            match kept {
                Ok(()) => {}
                Err(error) if error.scope != ErrorScope::Order => {
                    return Ok(Err((position, error)));
                }
                Err(error) => {
                    let asked = client.take_retry_after();
                    let failed = std::slice::from_ref(found);
                    self.record_failure(state, failed, error, asked).await?;
                }
            }
        }
        Ok(Ok(()))
    }

    /// Writes an ordered certificate.
    async fn keep(
        &mut self,
        state: &StateDirectory,
        acme: &Acme,
        domain: &str,
        text: String,
    ) -> Result<(), OrderError> {
        let (state, name) = (state.clone(), domain.to_owned());
        let written = blocking(move || state.write_certificate(&name, &text, now())).await;
        let certificate = written.map_err(OrderError::of_order)?;
        self.parts.renewed.notify_one();
        self.parts.counts.count_order(OrderOutcome::Issued);
        let signed =
            issuer(&certificate).map_or(String::new(), |issuer| format!(", signed by {issuer}"));
        let text = format!(
            "certificate for {domain} ordered from {}{signed}, expires at {}",
            acme.directory.host,
            Timestamp::from_unix_seconds(certificate.validity.until)
        );
        let kind = EventKind::CertificateOrdered;
        self.parts.event_log.log_event(kind, None, None, text);
        Ok(())
    }

    /// Records that the certificates of `failed` were not ordered, and says so in one line.
    async fn record_failure(
        &mut self,
        state: &StateDirectory,
        failed: &[DomainState],
        error: OrderError,
        asked: Option<Duration>,
    ) -> Result<(), String> {
        self.parts.counts.count_order(OrderOutcome::Failed);
        let failures = Vec::from_iter(failed.iter().map(|found| {
            let before = found.failure.as_ref();
            let message = error.message.clone();
            let failure = Failure::after(before, message, asked, now(), rand::random());
            (found.domain.clone(), failure)
        }));
        if let Some((domain, failure)) = failures.first() {
            let more = match failures.len() - 1 {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            let text = format!(
                "certificate for {domain}{more} not ordered, attempt {}: {}; the next one is at {}",
                failure.count,
                error.message,
                Timestamp::from_unix_seconds(failure.retry_at)
            );
            let kind = EventKind::CertificateOrderFailed;
            self.parts.event_log.log_event(kind, None, None, text);
        }
        let state = state.clone();
        let written = blocking(move || {
            let mut failures = failures.iter();
            failures.try_for_each(|(domain, failure)| state.write_failure(domain, failure))
        });
        written.await
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

impl AnswerPublisher for AcmeManager {
    async fn publish(&mut self) -> Result<(), OrderError> {
        self.read_challenges().await.map_err(OrderError::of_order)?;
        let Some((state, joined)) = self.opened.take() else {
            return Ok(());
        };
        let checked = blocking(move || {
            let alone = is_alone(&joined);
            Ok((alone, joined))
        });
        let (alone, joined) = checked.await.map_err(OrderError::of_order)?;
        self.opened = Some((state, joined));
        if !alone.map_err(OrderError::of_order)? {
            sleep(PUBLICATION).await;
        }
        Ok(())
    }
}

fn now() -> i64 {
    Timestamp::now().unix_seconds() as i64
}
