//! The events that a serving process answers to: signals, and commands from the control socket.
//!
//! SIGHUP takes the file in anew, SIGUSR1 opens the access log anew, SIGQUIT hands over to a new process, SIGTERM drains,
//! SIGINT ends at once. A command to reload is a SIGHUP, followed by a handover where only that will do.

use std::io;
use std::pin::Pin;
use std::process;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use log::{error, info, warn};
use pingora::server::{ShutdownSignal, ShutdownSignalWatch};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Mutex, mpsc, oneshot};

use crate::access_log::Logs;
use crate::admin::{ChangeError, Command, Current, Preview, Reloaded};
use crate::journal::{Journal, Kind};
use crate::metrics::{Counts, Reload};
use crate::proxy::Traffic;

use super::change_gate::{Gates, Permit};
use super::handover::Handover;
use super::reload::{Forecast, Refusal, Reloads, note_outcome};
use super::serving_state::{Phase, ServingState};
use super::shutdown::drain;
use super::socket_file::SocketFile;
use super::standing::Standing;

/// Handovers that may be asked for at the same time; all but one are refused.
const WAITING_HANDOVERS: usize = 16;

/// A successor that serves takes commands within milliseconds, unless it was told to do so elsewhere. Shorter than
/// [`LAME_DUCK`](super::edge::LAME_DUCK), which is when the process may end.
const MOMENTS: Duration = Duration::from_secs(1);

const BUSY: &str = "a handover is running";

/// What an operator hears who asks for a change that a successor would not hear of.
pub(super) const UNDER_WAY: &str = "a handover is under way; ask again";

/// What the events act on.
pub(super) struct Serving {
    pub(super) state: Arc<ServingState>,
    pub(super) gates: Gates,
    pub(super) counts: Arc<Counts>,
    pub(super) traffic: Arc<Traffic>,
    pub(super) current: Arc<ArcSwap<Current>>,
    pub(super) journal: Arc<Journal>,
    pub(super) reloads: Reloads,
    pub(super) handover: Arc<Handover>,
    pub(super) standing: Arc<Standing>,
    pub(super) control_socket: Arc<SocketFile>,
    pub(super) logs: Arc<Logs>,
}

/// Waits for events, and for the one that ends the process.
pub(super) struct Events {
    serving: Serving,
    commands: Mutex<mpsc::Receiver<Command>>,
}

/// A command that only a handover can carry out.
struct Wish {
    changes: Vec<String>,
    answer: oneshot::Sender<Result<Reloaded, ChangeError>>,
}

/// A handover on its way, and who waits for it.
struct Running<'a> {
    attempt: Pin<Box<dyn Future<Output = Result<(), String>> + Send + 'a>>,
    wish: Option<Wish>,
}

struct Signals {
    hang_up: Signal,
    user_1: Signal,
    quit: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn watch() -> io::Result<Self> {
        Ok(Signals {
            hang_up: signal(SignalKind::hangup())?,
            user_1: signal(SignalKind::user_defined1())?,
            quit: signal(SignalKind::quit())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }
}

impl Events {
    pub(super) fn new(serving: Serving, commands: mpsc::Receiver<Command>) -> Self {
        Events {
            serving,
            commands: Mutex::new(commands),
        }
    }
}

#[async_trait]
impl ShutdownSignalWatch for Events {
    async fn recv(&self) -> ShutdownSignal {
        let serving = &self.serving;
        let mut signals = Signals::watch().unwrap_or_else(|error| {
            error!("cannot watch for signals: {error}");
            process::exit(1);
        });
        serving.standing.watching();
        let mut commands = self.commands.lock().await;
        let (wishes, mut wished) = mpsc::channel(WAITING_HANDOVERS);
        let mut running: Option<Running<'_>> = None;
        loop {
            tokio::select! {
                _ = signals.interrupt.recv() => {
                    info!("SIGINT: stopping now");
                    serving.standing.leave().await;
                    return ShutdownSignal::FastShutdown;
                }
                _ = signals.terminate.recv() => {
                    // Ends the attempt and the successor, or only the watch over it.
                    drop(running);
                    commands.close();
                    serving.standing.leave().await;
                    if serving.state.phase() == Phase::Watching {
                        serving.handed_over(None);
                        serving.keep_reopening(signals.user_1);
                        let impatience = (signals.interrupt, signals.terminate);
                        return serving.drain("SIGTERM, a successor serves", impatience, 0);
                    }
                    return serving.terminate(signals).await;
                }
                _ = signals.hang_up.recv() => match serving.may_reload(running.is_some()) {
                    None => warn!("SIGHUP: not reloaded, {BUSY}"),
                    Some(permit) => {
                        let reloads = serving.reloads.clone();
                        let standing = Arc::clone(&serving.standing);
                        let journal = Arc::clone(&serving.journal);
                        tokio::spawn(async move {
                            standing.reloading();
                            note_outcome(&journal, &reloads.reload().await);
                            standing.reloaded();
                            drop(permit);
                        });
                    }
                },
                _ = signals.user_1.recv() => {
                    reopen(&serving.logs);
                }
                _ = signals.quit.recv() => match running {
                    Some(_) => warn!("SIGQUIT: ignored, {BUSY}"),
                    None => {
                        serving.note(Kind::Handover, "SIGQUIT: handing over");
                        running = Some(serving.hand_over(None));
                    }
                },
                Some(command) = commands.recv() => match command {
                    Command::Reload(answer) => match serving.may_reload(running.is_some()) {
                        // Whoever asked may have gone; so below.
                        None => drop(answer.send(Err(busy()))),
                        Some(permit) => {
                            let journal = Arc::clone(&serving.journal);
                            let reloads = serving.reloads.clone();
                            tokio::spawn(reload(reloads, journal, permit, answer, wishes.clone()));
                        }
                    },
                    Command::Preview(answer) => {
                        let obstacle = serving.handover.obstacle();
                        tokio::spawn(preview(serving.reloads.clone(), obstacle, answer));
                    }
                },
                Some(wish) = wished.recv() => match running {
                    Some(_) => drop(wish.answer.send(Err(busy()))),
                    None => {
                        serving.note(Kind::Handover, "reload: handing over");
                        running = Some(serving.hand_over(Some(wish)));
                    }
                },
                (outcome, wish) = ended(&mut running) => {
                    running = None;
                    serving.counts.reloaded(match &outcome {
                        Ok(()) => Reload::Handover,
                        Err(_) => Reload::HandoverFailed,
                    });
                    match outcome {
                        Ok(()) => {
                            // Who asks from here on asks the successor.
                            commands.close();
                            serving.standing.leave().await;
                            serving.handed_over(wish);
                            serving.keep_reopening(signals.user_1);
                            // A SIGTERM to all processes of the service is the first for this one.
                            let impatience = (signals.interrupt, signals.terminate);
                            return serving.drain("the successor serves", impatience, 1);
                        }
                        Err(reason) => {
                            let text = serving.go_on(&reason);
                            serving.note(Kind::HandoverFailed, &text);
                            if let Some(wish) = wish {
                                let _ = wish.answer.send(Err(ChangeError::Conflict(text)));
                            }
                        }
                    }
                }
            }
        }
    }
}

impl Serving {
    fn note(&self, kind: Kind, text: &str) {
        self.journal.note(kind, None, None, text.to_owned());
    }

    /// A permit for a reload in place; `None` during a handover.
    fn may_reload(&self, hands_over: bool) -> Option<Permit> {
        match hands_over {
            true => None,
            false => self.gates.reloads.permit(),
        }
    }

    /// There was no handover; says what became of it.
    fn go_on(&self, reason: &str) -> String {
        if self.state.phase() != Phase::Watching {
            return format!("no handover, serving on: {reason}");
        }
        self.standing.resume();
        format!("no handover, serving again: {reason}")
    }

    fn hand_over(&self, wish: Option<Wish>) -> Running<'_> {
        Running {
            attempt: Box::pin(self.handover.hand_over()),
            wish,
        }
    }

    /// A successor serves for good. Whoever asked for it hears so once the successor takes commands.
    fn handed_over(&self, wish: Option<Wish>) {
        self.state.enter(Phase::HandedOver);
        let Some(Wish { changes, answer }) = wish else {
            return;
        };
        let control_socket = Arc::clone(&self.control_socket);
        // While it was watched it had the time to do so.
        let patience = MOMENTS.saturating_sub(self.state.since().elapsed());
        tokio::spawn(async move {
            control_socket.replaced(patience).await;
            let way = "handover".to_owned();
            let _ = answer.send(Ok(Reloaded { way, changes }));
        });
    }

    /// Not ready at once; after the drain delay no new connections; then the end when the last request has ended.
    async fn terminate(&self, mut signals: Signals) -> ShutdownSignal {
        self.standing.stopping();
        self.keep_reopening(signals.user_1);
        let delay = self.current.load().config.server.drain_delay;
        if !delay.is_zero() {
            info!("SIGTERM: not ready any more, serving on for {delay:?}");
            tokio::select! {
                () = tokio::time::sleep(delay) => {}
                _ = signals.terminate.recv() => {
                    info!("SIGTERM again: stopping now");
                    return ShutdownSignal::FastShutdown;
                }
                _ = signals.interrupt.recv() => {
                    info!("SIGINT: stopping now");
                    return ShutdownSignal::FastShutdown;
                }
            }
        }
        self.control_socket.remove();
        self.drain("SIGTERM", (signals.interrupt, signals.terminate), 0)
    }

    /// Opens the access log anew whenever it is told to from now on: files are rotated while last requests run, too.
    fn keep_reopening(&self, mut user_1: Signal) {
        let logs = Arc::clone(&self.logs);
        tokio::spawn(async move {
            while user_1.recv().await.is_some() {
                reopen(&logs);
            }
        });
    }

    /// No new connections; the process ends with its last request.
    fn drain(&self, why: &str, impatience: (Signal, Signal), overlooked: usize) -> ShutdownSignal {
        let grace = self.current.load().config.server.grace_period;
        info!(
            "{why}: no new connections; stopping with the last request ({} now), at the latest in {grace:?}",
            self.traffic.present()
        );
        if self.state.phase() != Phase::HandedOver {
            self.state.enter(Phase::Stopping);
        }
        let since = self.state.since();
        let (traffic, standing) = (Arc::clone(&self.traffic), Arc::clone(&self.standing));
        // Pingora stops accepting and then sleeps the whole grace period; this task ends the process earlier.
        tokio::spawn(drain(
            traffic, standing, since, grace, impatience, overlooked,
        ));
        ShutdownSignal::GracefulTerminate
    }
}

fn busy() -> ChangeError {
    ChangeError::Busy(UNDER_WAY.to_owned())
}

fn reopen(logs: &Logs) {
    info!("SIGUSR1: opening the access log anew");
    logs.reopen();
}

/// Reloads in place where that suffices, else wishes for a handover.
async fn reload(
    reloads: Reloads,
    journal: Arc<Journal>,
    permit: Permit,
    answer: oneshot::Sender<Result<Reloaded, ChangeError>>,
    wishes: mpsc::Sender<Wish>,
) {
    let outcome = reloads.reload().await;
    // A handover waits for those who have one.
    drop(permit);
    if let Err(Refusal::NeedsProcess(changes)) = outcome {
        let changes = changes.into_lines();
        // Nobody listens only if this process ends.
        let _ = wishes.send(Wish { changes, answer }).await;
        return;
    }
    note_outcome(&journal, &outcome);
    let way = "in-place".to_owned();
    let told = outcome.map(|changes| Reloaded { way, changes });
    let _ = answer.send(told.map_err(|refusal| ChangeError::Conflict(refusal.to_string())));
}

/// Says what a reload would do; `obstacle` stands against any handover.
async fn preview(
    reloads: Reloads,
    obstacle: Option<&'static str>,
    answer: oneshot::Sender<Result<Preview, ChangeError>>,
) {
    let told = reloads.forecast().await.map(|Forecast { changes, taken }| {
        let handover = !changes.in_new_process.is_empty();
        let obstacle = obstacle.filter(|_| handover).map(str::to_owned);
        let changes = changes.into_lines();
        let way = match handover {
            true => Some("handover".to_owned()),
            false if changes.is_empty() => None,
            false => Some("in-place".to_owned()),
        };
        Preview {
            way,
            changes,
            obstacles: obstacle.into_iter().chain(taken).collect(),
        }
    });
    let _ = answer.send(told.map_err(|refusal| ChangeError::Conflict(refusal.to_string())));
}

/// The outcome of a handover that may not be running.
async fn ended(running: &mut Option<Running<'_>>) -> (Result<(), String>, Option<Wish>) {
    match running {
        Some(running) => {
            let outcome = running.attempt.as_mut().await;
            (outcome, running.wish.take())
        }
        None => std::future::pending().await,
    }
}
