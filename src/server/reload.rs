//! The in-place reload: the running process takes in the file anew, and connections notice nothing.
//!
//! What did not change stays as it is: pools with the state of their checks, hosts with what was learnt of them, and
//! every connection. All that can fail comes first; then one swap replaces the whole [`Site`].

use std::any::Any;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinSet, spawn_blocking};

use crate::admin::Current;
use crate::config::{self, Config};
use crate::health::Monitor;
use crate::moment::Moment;
use crate::pool::{HostBook, Pool};
use crate::proxy::Site;

use super::changes::Changes;
use super::listen::Socket;
use super::observers::Observers;
use super::tls::Certificates;

/// Why a reload was refused. Nothing of it was applied.
#[derive(Debug)]
pub(super) enum Refusal {
    /// The file is wrong; one line for each problem.
    Invalid(String),
    /// Only another process can take these changes in.
    NeedsProcess(Changes),
    /// A mistake of ours ended it.
    Broken(String),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Invalid(reason) => f.write_str(reason),
            Refusal::Broken(words) => write!(f, "the reload failed, a bug in ballast: {words}"),
            Refusal::NeedsProcess(changes) => {
                write!(
                    f,
                    "needs a new process: {}",
                    changes.in_new_process.join(", ")
                )
            }
        }
    }
}

/// What came of a reload: one line for each change.
pub(super) type Outcome = Result<Vec<String>, Refusal>;

/// What a reload would come across.
#[derive(Debug)]
pub(super) struct Forecast {
    pub(super) changes: Changes,
    /// One line for each address that could not be listened on.
    pub(super) taken: Vec<String>,
}

/// What the keeper can be asked for.
#[derive(Debug)]
pub(super) enum Ask {
    Reload(oneshot::Sender<Outcome>),
    Forecast(oneshot::Sender<Result<Forecast, Refusal>>),
}

/// Requests, to be answered by [`Keeper::serve`].
pub(super) type Asked = mpsc::Receiver<Ask>;

/// Asks the keeper, who does one thing after another.
#[derive(Debug, Clone)]
pub(super) struct Reloads(mpsc::Sender<Ask>);

impl Reloads {
    /// The asking and the answering end.
    pub(super) fn channel() -> (Self, Asked) {
        let (ask, asked) = mpsc::channel(1);
        (Reloads(ask), asked)
    }

    /// Reloads and waits for the outcome.
    pub(super) async fn reload(&self) -> Outcome {
        self.ask(Ask::Reload).await
    }

    /// What a reload would come across; nothing is applied.
    pub(super) async fn forecast(&self) -> Result<Forecast, Refusal> {
        self.ask(Ask::Forecast).await
    }

    async fn ask<T>(
        &self,
        ask: impl FnOnce(oneshot::Sender<Result<T, Refusal>>) -> Ask,
    ) -> Result<T, Refusal> {
        let (answer, outcome) = oneshot::channel();
        let gone = || Refusal::Invalid("the process is ending".to_owned());
        self.0.send(ask(answer)).await.map_err(|_| gone())?;
        outcome.await.map_err(|_| gone())?
    }
}

/// Keeps the site in line with the file: the only one who replaces it, and the owner of all checks.
#[derive(Debug)]
pub(super) struct Keeper {
    /// `None`: there is no file, and nothing to reload.
    pub(super) file: Option<PathBuf>,
    /// The configuration that the site was built from.
    pub(super) config: Config,
    pub(super) book: HostBook,
    pub(super) site: Arc<ArcSwap<Site>>,
    /// Whatever else reads the configuration reads it here.
    pub(super) current: Arc<ArcSwap<Current>>,
    /// By the address of their listener.
    pub(super) certificates: Vec<(SocketAddr, Arc<Certificates>)>,
    /// The checks of each pool of the site.
    pub(super) checks: Vec<(Arc<Pool>, Monitor)>,
    pub(super) observers: Observers,
}

impl Keeper {
    /// Starts to check all hosts; returns after the first round.
    pub(super) async fn start(&mut self) {
        self.checks = watch(&self.site.load().pools).await;
    }

    /// Serves requests, for ever.
    pub(super) async fn serve(&mut self, mut asked: Asked) {
        while let Some(ask) = asked.recv().await {
            // Whoever asked may not wait for the answer.
            match ask {
                Ask::Reload(answer) => drop(answer.send(self.reload().await)),
                Ask::Forecast(answer) => drop(answer.send(self.forecast().await)),
            }
        }
    }

    async fn forecast(&self) -> Result<Forecast, Refusal> {
        let config = self.read().await?;
        let changes = Changes::between(&self.config, &config);
        // A successor inherits the others.
        let own = addresses(&self.config);
        let mut added = addresses(&config);
        added.retain(|address| !own.contains(address));
        let taken = added.into_iter().filter_map(|address| {
            let tried = Socket::bind(address, Duration::ZERO);
            tried.err()
        });
        Ok(Forecast {
            taken: taken.collect(),
            changes,
        })
    }

    async fn reload(&mut self) -> Outcome {
        let config = self.read().await?;
        let changes = Changes::between(&self.config, &config);
        if !changes.in_new_process.is_empty() {
            return Err(Refusal::NeedsProcess(changes));
        }
        let before = self.site.load_full();
        let plan = Plan::make(
            config,
            self.config.clone(),
            self.book.clone(),
            Arc::clone(&before),
            self.observers.clone(),
        );
        let Plan {
            config,
            book,
            site,
            mut checks,
        } = contained(plan).await??;
        // From here on nothing can fail.
        for (pool, _) in &checks {
            if let Some(old) = named(&before, pool.name()) {
                pool.resume(&old.state());
            }
        }
        self.checks
            .retain(|(pool, _)| site.pools.iter().any(|now| Arc::ptr_eq(now, pool)));
        self.checks.append(&mut checks);
        self.site.store(Arc::new(site));
        for listener in &config.listeners {
            let mut certificates = self.certificates.iter();
            let shown = certificates.find(|(address, _)| *address == listener.address);
            if let (Some(tls), Some((_, shown))) = (&listener.tls, shown) {
                shown.replace(tls);
            }
        }
        self.book = book;
        self.current.store(Arc::new(Current {
            config: config.clone(),
            file: self.file.clone(),
            loaded: Moment::now(),
        }));
        self.config = config;
        Ok(changes.into_lines())
    }

    async fn read(&self) -> Result<Config, Refusal> {
        let Some(file) = self.file.clone() else {
            return Err(Refusal::Invalid("there is no file to reload".to_owned()));
        };
        match spawn_blocking(move || Config::load(&file)).await {
            Ok(Ok(config)) => Ok(config),
            Ok(Err(errors)) => Err(Refusal::Invalid(errors.to_string())),
            Err(error) => Err(Refusal::Broken(error.to_string())),
        }
    }
}

/// Everything of a reload that can fail, done.
struct Plan {
    config: Config,
    book: HostBook,
    site: Site,
    /// The checks of the pools that are new.
    checks: Vec<(Arc<Pool>, Monitor)>,
}

impl Plan {
    /// What leads from `old`, `book` and `before` to `config`; pools that did not change are kept.
    async fn make(
        config: Config,
        old: Config,
        mut book: HostBook,
        before: Arc<Site>,
        observers: Observers,
    ) -> Result<Self, Refusal> {
        let alike = config.timeouts == old.timeouts;
        let keep = |pool: &config::Pool| {
            let same = alike && old.pools.contains(pool);
            same.then(|| named(&before, &pool.name)).flatten().cloned()
        };
        let mut site = Site::keeping(&config, &mut book, keep)
            .map_err(|error| Refusal::Invalid(error.to_string()))?;
        let heard = observers.of(&config, &site, Some(&before));
        site.observers = heard.map_err(Refusal::Invalid)?;
        let is_kept = |pool: &Arc<Pool>| before.pools.iter().any(|old| Arc::ptr_eq(old, pool));
        let mut fresh = site.pools.clone();
        fresh.retain(|pool| !is_kept(pool));
        for pool in &fresh {
            if let Some(old) = named(&before, pool.name()) {
                pool.carry(&old.state());
            }
        }
        let checks = watch(&fresh).await;
        let hosts = config.pools.iter().flat_map(|pool| &pool.hosts);
        book.keep(hosts.map(|host| &host.id));
        Ok(Plan {
            config,
            book,
            site,
            checks,
        })
    }
}

/// Runs `work` so that a panic in it is only its own end.
async fn contained<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> Result<T, Refusal> {
    tokio::spawn(work).await.map_err(|error| {
        Refusal::Broken(match error.try_into_panic().ok() {
            Some(panic) => words(&*panic).to_owned(),
            None => "it was cut short".to_owned(),
        })
    })
}

/// What a panic said.
fn words(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("no reason was given")
}

/// Every address that is listened on.
fn addresses(config: &Config) -> Vec<SocketAddr> {
    let listeners = config.listeners.iter().map(|listener| listener.address);
    listeners.chain(config.admin.address).collect()
}

fn named<'a>(site: &'a Site, name: &str) -> Option<&'a Arc<Pool>> {
    site.pools.iter().find(|pool| pool.name() == name)
}

/// Starts the checks of each pool; returns after the first round of all.
async fn watch(pools: &[Arc<Pool>]) -> Vec<(Arc<Pool>, Monitor)> {
    let mut starting = JoinSet::new();
    for pool in pools {
        let pool = Arc::clone(pool);
        starting.spawn(async move {
            let monitor = Monitor::start(std::slice::from_ref(&pool)).await;
            (pool, monitor)
        });
    }
    starting.join_all().await
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a reload that panics is refused with.
    async fn refusal(panic: impl FnOnce() + Send + 'static) -> String {
        let work = async move {
            tokio::task::yield_now().await;
            panic();
        };
        contained(work)
            .await
            .expect_err("it is not done")
            .to_string()
    }

    #[tokio::test]
    async fn a_panic_is_the_end_of_one_reload_only() {
        let (steps, number) = ([1], std::hint::black_box(7));
        let index = refusal(move || assert_eq!(steps[number], 1)).await;
        assert!(index.contains("a bug in ballast: index out of bounds"));
        let literal = refusal(|| panic!("a literal")).await;
        assert!(literal.ends_with("a bug in ballast: a literal"));
        let strange = refusal(|| std::panic::panic_any(7)).await;
        assert!(strange.ends_with("no reason was given"));
        assert_eq!(contained(async { 7 }).await.ok(), Some(7));
    }
}
