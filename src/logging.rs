//! The log on stderr: lines of bounded length, and no flood of lines that say the same. No request waits for stderr, and the
//! level may change while the process runs.

use std::io::{self, IsTerminal, Stderr, Write};
use std::str::FromStr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use arc_swap::ArcSwap;
use env_filter::Filter;
use env_logger::{Builder, Logger, Target, WriteStyle};
use log::{LevelFilter, Log, Metadata, Record};
use nix::errno::Errno;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::{resource_limits, supervisor};
use rate_limit::{LogRateLimiter, RateLimitDecision};

mod bounded_line;
mod rate_limit;

/// What a pipe takes as a whole once it says that it takes anything (PIPE_BUF of Linux).
const PIPE_BUF: usize = 4096;

/// The level where nothing is said.
const DEFAULT: &str = "info";

/// The log of this process, once it has begun.
static LOG: OnceLock<FilteredLogger> = OnceLock::new();

/// Whether the process has started as a whole.
static HAS_STARTED: AtomicBool = AtomicBool::new(false);

/// The log, and which lines of it are written now.
struct FilteredLogger {
    lines: Logger,
    level: ArcSwap<LevelSpec>,
    rate_limiter: LogRateLimiter,
}

/// Which lines are written.
struct LevelSpec {
    /// As it was said.
    spec: String,
    /// Whether it was said while the process ran.
    is_changed: bool,
    filter: Filter,
}

impl LevelSpec {
    /// Reads a level such as `debug`, or levels by module such as `info,pingora=debug`.
    fn parse(spec: &str) -> Result<Self, String> {
        let mut filter = env_filter::Builder::new();
        filter
            .filter_level(LevelFilter::Info)
            // What Pingora tells at `info` is about its own insides.
            .filter_module("pingora", LevelFilter::Warn);
        // A word alone would be taken for a module, all of whose lines are wanted.
        let is_level = |part: &str| {
            let level = part.rsplit_once('=').map_or(part, |(_, level)| level);
            LevelFilter::from_str(level.trim()).is_ok()
        };
        let read = filter.try_parse(spec);
        if read.is_err() || !spec.split(',').all(is_level) {
            let shown = spec.escape_debug();
            return Err(format!(
                "`{shown}` is no level: error, warn, info, debug, trace or off, for all or by module as in `info,pingora=debug`"
            ));
        }
        Ok(LevelSpec {
            spec: spec.to_owned(),
            is_changed: false,
            filter: filter.build(),
        })
    }
}

impl Log for FilteredLogger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.level.load().filter.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if !self.level.load().filter.matches(record) {
            return;
        }
        let line = bounded_line::format(record);
        match self.rate_limiter.check(record, &line, Instant::now()) {
            RateLimitDecision::Write => self.write(record.level(), record.target(), &line),
            RateLimitDecision::Suppress => {}
            RateLimitDecision::SuppressAndReport => spawn_summary_thread(),
        }
    }

    /// Writes what was held back and not told yet.
    fn flush(&self) {
        self.take_summaries(None);
        self.lines.flush();
    }
}

impl FilteredLogger {
    fn write(&self, level: log::Level, target: &str, line: &str) {
        let mut record = Record::builder();
        record.level(level).target(target);
        self.lines.log(&record.args(format_args!("{line}")).build());
    }

    /// Tells how many lines were held back, of the kinds whose time is over by `now`; `None`: of all. Returns when the
    /// next time is over.
    fn take_summaries(&self, now: Option<Instant>) -> Option<Instant> {
        let (summaries, next) = self.rate_limiter.take_summaries(now);
        for summary in summaries {
            self.write(summary.level, &summary.target, &summary.to_string());
        }
        next
    }
}

/// Starts a thread that tells what is held back, until nothing is.
fn spawn_summary_thread() {
    let spawned = thread::Builder::new().name("log".to_owned()).spawn(|| {
        let mut next = Some(Instant::now() + rate_limit::WINDOW);
        while let (Some(time), Some(log)) = (next, LOG.get()) {
            thread::sleep(time.saturating_duration_since(Instant::now()));
            next = log.take_summaries(Some(Instant::now()));
        }
    });
    if let (Err(_), Some(log)) = (spawned, LOG.get()) {
        log.rate_limiter.thread_failed();
    }
}

/// Begins the log, with the level in the environment's BALLAST_LOG if there is a good one.
pub fn start() {
    let colours = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let spec = std::env::var("BALLAST_LOG").unwrap_or_else(|_| DEFAULT.to_owned());
    let level = LevelSpec::parse(&spec).or_else(|_| LevelSpec::parse(DEFAULT));
    let level = level.expect("the default is a level");
    let lines = Builder::new()
        .filter_level(LevelFilter::Trace)
        .write_style(match colours {
            true => WriteStyle::Always,
            false => WriteStyle::Never,
        })
        .target(Target::Pipe(Box::new(NonBlockingStderr::default())))
        .build();
    let max_level = level.filter.filter();
    let logger = LOG.get_or_init(|| FilteredLogger {
        lines,
        level: ArcSwap::from_pointee(level),
        rate_limiter: LogRateLimiter::default(),
    });
    // Whoever has a log already keeps it.
    if log::set_logger(logger).is_ok() {
        log::set_max_level(max_level);
    }
    std::panic::set_hook(Box::new(|panic| {
        if HAS_STARTED.load(Ordering::Relaxed) || supervisor::contains_panics() {
            log::error!("{panic}");
        } else {
            exit_not_started(supervisor::panic_message(panic.payload()));
        }
    }));
}

/// From now on a panic is the end of what it happens in, not of the process.
pub(crate) fn mark_started() {
    HAS_STARTED.store(true, Ordering::Relaxed);
}

/// Ends a process that does not serve yet: runtimes, threads and sockets that Pingora and Tokio cannot have make them
/// panic. One line says why; a second thread that comes here meanwhile waits for the end.
fn exit_not_started(reason: &str) -> ! {
    static ENDING: AtomicBool = AtomicBool::new(false);
    if ENDING.swap(true, Ordering::Relaxed) {
        loop {
            std::thread::park();
        }
    }
    let advice = match resource_limits::probe_descriptors(1) {
        Ok(()) => String::new(),
        Err((_, error)) => match error.raw_os_error().map(Errno::from_raw) {
            Some(shortage) => format!("; {}", resource_limits::advice(shortage)),
            None => String::new(),
        },
    };
    log::error!("cannot start: {}{advice}", reason.replace('\n', " "));
    std::process::exit(1);
}

/// The level of the log as it was said; the default one where the log has not begun.
pub fn level() -> String {
    let log = LOG.get();
    log.map_or_else(|| DEFAULT.to_owned(), |log| log.level.load().spec.clone())
}

/// The level of the log, if it was [set](set_level) since the process began.
pub fn changed_level() -> Option<String> {
    let level = LOG.get()?.level.load();
    level.is_changed.then(|| level.spec.clone())
}

/// Changes the level of the log: `debug`, or by module `info,pingora=debug`.
///
/// # Errors
/// `spec` is no level; everything stays as it is.
pub fn set_level(spec: &str) -> Result<(), String> {
    let level = LevelSpec {
        is_changed: true,
        ..LevelSpec::parse(spec)?
    };
    if let Some(log) = LOG.get() {
        log::set_max_level(level.filter.filter());
        log.level.store(level.into());
    }
    Ok(())
}

/// Stderr, without the lines that it does not take at once: lines are written by the threads that serve, and a pipe that
/// nobody reads would stop them all.
#[derive(Default)]
struct NonBlockingStderr {
    lost: u64,
}

impl NonBlockingStderr {
    /// Writes a line, or as much of it as is taken at once. `false`: that was not all.
    fn try_write(&self, line: &[u8]) -> bool {
        let mut stderr = io::stderr();
        line.chunks(PIPE_BUF)
            .all(|chunk| is_writable(&stderr) && stderr.write_all(chunk).is_ok())
    }
}

impl Write for NonBlockingStderr {
    /// The logger gives a whole line at a time.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.lost > 0 {
            let note = format!("[lines lost, as the log was not read: {}]\n", self.lost);
            if self.try_write(note.as_bytes()) {
                self.lost = 0;
            }
        }
        if self.lost > 0 || !self.try_write(line) {
            self.lost += 1;
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn is_writable(stderr: &Stderr) -> bool {
    let mut poll_fds = [PollFd::new(stderr, PollFlags::OUT)];
    let ready = poll(&mut poll_fds, Some(&Timespec::default()));
    ready.is_ok_and(|ready| ready > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_for_all_and_by_module() {
        for good in [
            "debug",
            "WARN",
            "info,pingora=debug",
            "off",
            "ballast::health=trace",
        ] {
            assert!(LevelSpec::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "loud", "info,loud", "pingora=loud", "info;debug", "="] {
            assert!(LevelSpec::parse(bad).is_err(), "{bad}");
        }
    }
}
