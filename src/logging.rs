//! The log on stderr: lines of bounded length, with repeated lines rate-limited. Writing never blocks a request, and
//! the level can change at run time.

use std::io::{self, IsTerminal, Stderr, Write};
use std::str::FromStr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use arc_swap::ArcSwap;
use env_filter::Filter;
use env_logger::{Builder, Logger, Target, WriteStyle};
use log::{Level, LevelFilter, Log, Metadata, Record};
use nix::errno::Errno;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::{resource_limits, supervisor};
use rate_limit::{LogRateLimiter, RateLimitDecision};

mod bounded_line;
mod rate_limit;

/// How many bytes a pipe that polls as writable accepts without blocking (PIPE_BUF of Linux).
const PIPE_BUF: usize = 4096;

/// The level without BALLAST_LOG.
const DEFAULT_LEVEL: &str = "info";

/// The log of this process, once it has started.
static LOG: OnceLock<FilteredLogger> = OnceLock::new();

/// Whether the process has started up completely.
static HAS_STARTED: AtomicBool = AtomicBool::new(false);

/// The log, with its filter and its rate limiter.
struct FilteredLogger {
    logger: Logger,
    level: ArcSwap<LevelSpec>,
    rate_limiter: LogRateLimiter,
}

/// A level specification and the filter that it describes.
struct LevelSpec {
    /// The text of the specification.
    spec: String,
    /// Whether it was set at run time.
    is_changed: bool,
    filter: Filter,
}

impl LevelSpec {
    /// Parses a level such as `debug`, or levels by module such as `info,pingora=debug`.
    fn parse(spec: &str) -> Result<Self, String> {
        let mut filter = env_filter::Builder::new();
        filter
            .filter_level(LevelFilter::Info)
            // At `info`, Pingora logs its own internals.
            .filter_module("pingora", LevelFilter::Warn);
        // env_filter takes an unknown word for a module with every level enabled, so typos are rejected here.
        let is_level = |part: &str| {
            let level = part.rsplit_once('=').map_or(part, |(_, level)| level);
            LevelFilter::from_str(level.trim()).is_ok()
        };
        let parsed = filter.try_parse(spec);
        if parsed.is_err() || !spec.split(',').all(is_level) {
            let shown = spec.escape_debug();
            return Err(format!(
                "`{shown}` is not a log level: use error, warn, info, debug, trace or off, for all or by module as in `info,pingora=debug`"
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
        if is_harmless_error(record) {
            let mut demoted = Record::builder();
            demoted.level(Level::Debug).target(record.target());
            return self.log(&demoted.args(*record.args()).build());
        }
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

    /// Writes the summaries of all suppressed lines.
    fn flush(&self) {
        self.write_summaries(None);
        self.logger.flush();
    }
}

impl FilteredLogger {
    fn write(&self, level: Level, target: &str, line: &str) {
        let mut record = Record::builder();
        record.level(level).target(target);
        self.logger
            .log(&record.args(format_args!("{line}")).build());
    }

    /// Writes how many lines were suppressed, for the kinds whose window ends by `now`; `None`: for all kinds. Returns
    /// when the next window ends.
    fn write_summaries(&self, now: Option<Instant>) -> Option<Instant> {
        let (summaries, next) = self.rate_limiter.take_summaries(now);
        for summary in summaries {
            self.write(summary.level, &summary.target, &summary.to_string());
        }
        next
    }
}

/// Whether a line that Pingora logs as an error reports no failure. Pingora finds a kept connection in its pool just before the task that
/// watched the connection has let go of it, and opens a new one instead.
fn is_harmless_error(record: &Record<'_>) -> bool {
    record.level() == Level::Error
        && record.target() == "pingora_core::connectors"
        && record.args().to_string() == "failed to acquire reusable stream"
}

/// Starts a thread that writes the summaries of suppressed lines, until there are none left.
fn spawn_summary_thread() {
    let spawned = thread::Builder::new().name("log".to_owned()).spawn(|| {
        let mut next = Some(Instant::now() + rate_limit::WINDOW);
        while let (Some(time), Some(log)) = (next, LOG.get()) {
            thread::sleep(time.saturating_duration_since(Instant::now()));
            next = log.write_summaries(Some(Instant::now()));
        }
    });
    if let (Err(_), Some(log)) = (spawned, LOG.get()) {
        log.rate_limiter.thread_failed();
    }
}

/// Starts the log, with the level in the environment variable BALLAST_LOG if it is valid.
pub fn start() {
    let colours = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let level = initial_level();
    let logger = Builder::new()
        .filter_level(LevelFilter::Trace)
        .write_style(match colours {
            true => WriteStyle::Always,
            false => WriteStyle::Never,
        })
        .target(Target::Pipe(Box::new(NonBlockingStderr::default())))
        .build();
    let max_level = level.filter.filter();
    let log = LOG.get_or_init(|| FilteredLogger {
        logger,
        level: ArcSwap::from_pointee(level),
        rate_limiter: LogRateLimiter::default(),
    });
    // Fails if the program that embeds this library has a logger of its own, which stays.
    if log::set_logger(log).is_ok() {
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

/// The level that the process starts with.
fn initial_level() -> LevelSpec {
    let spec = std::env::var("BALLAST_LOG").unwrap_or_else(|_| DEFAULT_LEVEL.to_owned());
    let level = LevelSpec::parse(&spec).or_else(|_| LevelSpec::parse(DEFAULT_LEVEL));
    level.expect("the default is a level")
}

/// Marks the process as started: from now on a panic ends the task that it happens in, not the process.
pub(crate) fn mark_started() {
    HAS_STARTED.store(true, Ordering::Relaxed);
}

/// Ends a process that does not serve yet, with one line that gives the reason: Pingora and Tokio panic if they cannot
/// create a runtime, a thread or a socket. A second thread that panics meanwhile parks until the process exits.
fn exit_not_started(reason: &str) -> ! {
    static IS_EXITING: AtomicBool = AtomicBool::new(false);
    if IS_EXITING.swap(true, Ordering::Relaxed) {
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

/// The specification of the log level; the default if the log has not started.
pub fn level() -> String {
    let log = LOG.get();
    log.map_or_else(
        || DEFAULT_LEVEL.to_owned(),
        |log| log.level.load().spec.clone(),
    )
}

/// The log level, if it was [set](set_level) since the process started.
pub fn changed_level() -> Option<String> {
    let level = LOG.get()?.level.load();
    level.is_changed.then(|| level.spec.clone())
}

/// The log level, if it was set to another one than the process starts with.
pub(crate) fn differing_level() -> Option<String> {
    changed_level().filter(|level| *level != initial_level().spec)
}

/// Sets the log level: `debug`, or by module `info,pingora=debug`.
///
/// # Errors
/// `spec` is not a level; the current level stays.
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

/// Stderr, dropping the lines that it does not accept at once. The threads that serve requests write the log, and a
/// pipe without a reader would block all of them.
#[derive(Default)]
struct NonBlockingStderr {
    /// Lines dropped since the last one that was written.
    lost: u64,
}

impl NonBlockingStderr {
    /// Writes as much of a line as stderr accepts at once. `false`: the line is incomplete.
    fn try_write(&self, line: &[u8]) -> bool {
        let mut stderr = io::stderr();
        line.chunks(PIPE_BUF)
            .all(|chunk| is_writable(&stderr) && stderr.write_all(chunk).is_ok())
    }
}

impl Write for NonBlockingStderr {
    /// The logger passes one whole line per call.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.lost > 0 {
            let note = format!("[{} lines lost: stderr was not read]\n", self.lost);
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
    fn a_race_within_pingoras_pool_is_no_error() {
        let is_harmless = |level, target, text: &str| {
            let mut record = Record::builder();
            record.level(level).target(target);
            is_harmless_error(&record.args(format_args!("{text}")).build())
        };
        let (target, race) = (
            "pingora_core::connectors",
            "failed to acquire reusable stream",
        );
        assert!(is_harmless(Level::Error, target, race));
        assert!(!is_harmless(Level::Debug, target, race));
        assert!(!is_harmless(Level::Error, target, "another error"));
        assert!(!is_harmless(Level::Error, "pingora_proxy", race));
    }

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
