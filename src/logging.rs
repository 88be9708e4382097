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

use crate::{descriptors, supervisor};
use repeats::{Repeats, Verdict};

mod line;
mod repeats;

/// What a pipe takes as a whole once it says that it takes anything (PIPE_BUF of Linux).
const PIECE: usize = 4096;

/// The level where nothing is said.
const DEFAULT: &str = "info";

/// The log of this process, once it has begun.
static LOG: OnceLock<Leveled> = OnceLock::new();

/// Whether the process has started as a whole.
static SERVES: AtomicBool = AtomicBool::new(false);

/// The log, and which lines of it are written now.
struct Leveled {
    lines: Logger,
    level: ArcSwap<Level>,
    repeats: Repeats,
}

/// Which lines are written.
struct Level {
    /// As it was said.
    said: String,
    /// Whether it was said while the process ran.
    changed: bool,
    filter: Filter,
}

impl Level {
    /// Reads a level such as `debug`, or levels by module such as `info,pingora=debug`.
    fn read(said: &str) -> Result<Self, String> {
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
        let read = filter.try_parse(said);
        if read.is_err() || !said.split(',').all(is_level) {
            let shown = said.escape_debug();
            return Err(format!(
                "`{shown}` is no level: error, warn, info, debug, trace or off, for all or by module as in `info,pingora=debug`"
            ));
        }
        Ok(Level {
            said: said.to_owned(),
            changed: false,
            filter: filter.build(),
        })
    }
}

impl Log for Leveled {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.level.load().filter.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if !self.level.load().filter.matches(record) {
            return;
        }
        let line = line::bounded(record);
        match self.repeats.judge(record, &line, Instant::now()) {
            Verdict::Write => self.write(record.level(), record.target(), &line),
            Verdict::Count => {}
            Verdict::CountFirst => sum_up_later(),
        }
    }

    /// Writes what was held back and not told yet.
    fn flush(&self) {
        self.sum_up(None);
        self.lines.flush();
    }
}

impl Leveled {
    fn write(&self, level: log::Level, target: &str, line: &str) {
        let mut record = Record::builder();
        record.level(level).target(target);
        self.lines.log(&record.args(format_args!("{line}")).build());
    }

    /// Tells how many lines were held back, of the kinds whose time is over by `now`; `None`: of all. Returns when the
    /// next time is over.
    fn sum_up(&self, now: Option<Instant>) -> Option<Instant> {
        let (sums, next) = self.repeats.sum_up(now);
        for sum in sums {
            self.write(sum.level, &sum.target, &sum.to_string());
        }
        next
    }
}

/// Starts a thread that tells what is held back, until nothing is.
fn sum_up_later() {
    let spawned = thread::Builder::new().name("log".to_owned()).spawn(|| {
        let mut next = Some(Instant::now() + repeats::WINDOW);
        while let (Some(time), Some(log)) = (next, LOG.get()) {
            thread::sleep(time.saturating_duration_since(Instant::now()));
            next = log.sum_up(Some(Instant::now()));
        }
    });
    if let (Err(_), Some(log)) = (spawned, LOG.get()) {
        log.repeats.has_no_thread();
    }
}

/// Begins the log, with the level in the environment's BALLAST_LOG if there is a good one.
pub fn start() {
    let colours = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let said = std::env::var("BALLAST_LOG").unwrap_or_else(|_| DEFAULT.to_owned());
    let level = Level::read(&said).or_else(|_| Level::read(DEFAULT));
    let level = level.expect("the default is a level");
    let lines = Builder::new()
        .filter_level(LevelFilter::Trace)
        .write_style(match colours {
            true => WriteStyle::Always,
            false => WriteStyle::Never,
        })
        .target(Target::Pipe(Box::new(Lossy::default())))
        .build();
    let most = level.filter.filter();
    let begun = LOG.get_or_init(|| Leveled {
        lines,
        level: ArcSwap::from_pointee(level),
        repeats: Repeats::default(),
    });
    // Whoever has a log already keeps it.
    if log::set_logger(begun).is_ok() {
        log::set_max_level(most);
    }
    std::panic::set_hook(Box::new(|panic| {
        if SERVES.load(Ordering::Relaxed) || supervisor::contains_panics() {
            log::error!("{panic}");
        } else {
            cannot_start(supervisor::message(panic.payload()));
        }
    }));
}

/// From now on a panic is the end of what it happens in, not of the process.
pub(crate) fn serves() {
    SERVES.store(true, Ordering::Relaxed);
}

/// Ends a process that does not serve yet: runtimes, threads and sockets that Pingora and Tokio cannot have make them
/// panic. One line says why; a second thread that comes here meanwhile waits for the end.
fn cannot_start(reason: &str) -> ! {
    static ENDING: AtomicBool = AtomicBool::new(false);
    if ENDING.swap(true, Ordering::Relaxed) {
        loop {
            std::thread::park();
        }
    }
    let advice = match descriptors::try_out(1) {
        Ok(()) => String::new(),
        Err((_, error)) => match error.raw_os_error().map(Errno::from_raw) {
            Some(lacking) => format!("; {}", descriptors::advice(lacking)),
            None => String::new(),
        },
    };
    log::error!("cannot start: {}{advice}", reason.replace('\n', " "));
    std::process::exit(1);
}

/// The level of the log as it was said; the default one where the log has not begun.
pub fn level() -> String {
    let log = LOG.get();
    log.map_or_else(|| DEFAULT.to_owned(), |log| log.level.load().said.clone())
}

/// The level of the log, if it was [set](set_level) since the process began.
pub fn changed_level() -> Option<String> {
    let level = LOG.get()?.level.load();
    level.changed.then(|| level.said.clone())
}

/// Changes the level of the log: `debug`, or by module `info,pingora=debug`.
///
/// # Errors
/// `said` is no level; everything stays as it is.
pub fn set_level(said: &str) -> Result<(), String> {
    let level = Level {
        changed: true,
        ..Level::read(said)?
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
struct Lossy {
    lost: u64,
}

impl Lossy {
    /// Writes a line, or as much of it as is taken at once. `false`: that was not all.
    fn put(&self, line: &[u8]) -> bool {
        let mut stderr = io::stderr();
        line.chunks(PIECE)
            .all(|piece| takes_more(&stderr) && stderr.write_all(piece).is_ok())
    }
}

impl Write for Lossy {
    /// The logger gives a whole line at a time.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.lost > 0 {
            let note = format!("[lines lost, as the log was not read: {}]\n", self.lost);
            if self.put(note.as_bytes()) {
                self.lost = 0;
            }
        }
        if self.lost > 0 || !self.put(line) {
            self.lost += 1;
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn takes_more(stderr: &Stderr) -> bool {
    let mut wanted = [PollFd::new(stderr, PollFlags::OUT)];
    let ready = poll(&mut wanted, Some(&Timespec::default()));
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
            assert!(Level::read(good).is_ok(), "{good}");
        }
        for bad in ["", "loud", "info,loud", "pingora=loud", "info;debug", "="] {
            assert!(Level::read(bad).is_err(), "{bad}");
        }
    }
}
