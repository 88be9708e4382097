//! Lines that say the same again and again are held back, and their number is told: a host that is down must not fill the
//! disk with a line for each request.
//!
//! Only lines about requests and connections are, which clients can cause as many of as they like. What an operator has to
//! know of (a host is down, a reload) is told at other places and always written.

use std::collections::HashMap;
use std::fmt::{self, Display, Formatter};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use log::{Level, Record};

/// How long lines of a kind are counted together.
pub(super) const WINDOW: Duration = Duration::from_secs(10);

/// So many lines of a kind are written in a window before the others are held back.
const FIRST: u64 = 5;

/// So many kinds are told apart; lines of further ones count as one kind.
const KINDS: usize = 256;

/// Bytes of a line's begin that tell its kind, at most.
const BEGIN: usize = 64;

/// What becomes of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Write,
    /// It is held back.
    Count,
    /// It is held back, and a thread is needed that tells so.
    CountFirst,
}

/// What lines have in common that say the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Kind {
    level: Level,
    target: String,
    line: Option<u32>,
    /// What the line says up to where details begin; empty for further kinds.
    begin: String,
}

#[derive(Debug)]
struct Window {
    began: Instant,
    written: u64,
    held_back: u64,
}

/// Lines that were held back, told in one.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Sum {
    pub(super) level: Level,
    pub(super) target: String,
    begin: String,
    held_back: u64,
    over: Duration,
}

impl Display for Sum {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Sum {
            begin,
            held_back,
            over,
            ..
        } = self;
        let seconds = over.as_secs_f64().ceil();
        write!(
            f,
            "{held_back} more lines like this in the last {seconds} s: {begin}"
        )
    }
}

/// The kinds of lines that were written lately.
#[derive(Debug, Default)]
pub(super) struct Repeats(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    kinds: HashMap<Kind, Window>,
    /// Whether a thread will tell what is held back.
    has_thread: bool,
}

impl Repeats {
    /// What becomes of a line.
    pub(super) fn judge(&self, record: &Record<'_>, line: &str, now: Instant) -> Verdict {
        if record.level() > Level::Warn || !may_flood(record.target()) {
            return Verdict::Write;
        }
        let mut state = self.state();
        let State { kinds, has_thread } = &mut *state;
        let mut kind = Kind {
            level: record.level(),
            target: record.target().to_owned(),
            line: record.line(),
            begin: begin(line).to_owned(),
        };
        if kinds.len() >= KINDS && !kinds.contains_key(&kind) {
            kinds.retain(|_, window| window.held_back > 0 || now < window.began + WINDOW);
            if kinds.len() >= KINDS {
                kind.begin.clear();
            }
        }
        let window = kinds.entry(kind).or_insert_with(|| Window::new(now));
        if window.held_back == 0 && now >= window.began + WINDOW {
            *window = Window::new(now);
        }
        if window.written < FIRST {
            window.written += 1;
            return Verdict::Write;
        }
        window.held_back += 1;
        match std::mem::replace(has_thread, true) {
            true => Verdict::Count,
            false => Verdict::CountFirst,
        }
    }

    /// Takes out what was held back, of the kinds whose window is over by `now`; `None`: of all. With it comes when the
    /// next window is over; without one the thread that asks ends.
    pub(super) fn sum_up(&self, now: Option<Instant>) -> (Vec<Sum>, Option<Instant>) {
        let mut state = self.state();
        let (mut sums, mut next) = (Vec::new(), None::<Instant>);
        for (kind, window) in &mut state.kinds {
            let ends = window.began + WINDOW;
            if window.held_back == 0 {
                continue;
            }
            if now.is_some_and(|now| now < ends) {
                next = Some(next.map_or(ends, |next| next.min(ends)));
                continue;
            }
            let time = now.unwrap_or_else(Instant::now);
            sums.push(Sum {
                level: kind.level,
                target: kind.target.clone(),
                begin: kind.begin.clone(),
                held_back: std::mem::take(&mut window.held_back),
                over: time.saturating_duration_since(window.began),
            });
            // The flood may go on: one line of the next window shows what it is about.
            (window.began, window.written) = (time, FIRST - 1);
        }
        if now.is_some() {
            state.has_thread = next.is_some();
        }
        (sums, next)
    }

    /// No thread could be started: the next line that is held back asks for one again.
    pub(super) fn has_no_thread(&self) {
        self.state().has_thread = false;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that is done under the lock can be half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Window {
    fn new(now: Instant) -> Self {
        Window {
            began: now,
            written: 0,
            held_back: 0,
        }
    }
}

/// Whether clients can cause lines of this target as often as they like.
fn may_flood(target: &str) -> bool {
    let of_connections = [
        "ballast::admin",
        "ballast::server::edge",
        "ballast::logging",
    ];
    super::line::is_of_request(target)
        || of_connections.iter().any(|known| target.starts_with(known))
}

/// The begin of a line, up to where it names details: for an error of Pingora, whose fault and which kind it was.
fn begin(line: &str) -> &str {
    let mut end = line.find(" context: ").unwrap_or(line.len()).min(BEGIN);
    while !line.is_char_boundary(end) {
        end -= 1;
    }
    &line[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(repeats: &Repeats, target: &str, text: &str, now: Instant) -> Verdict {
        let mut record = Record::builder();
        record.level(Level::Error).target(target).line(Some(1));
        repeats.judge(&record.build(), text, now)
    }

    #[test]
    fn what_is_held_back_is_told_exactly() {
        let (repeats, start) = (Repeats::default(), Instant::now());
        let (mut written, mut told) = (0, 0);
        for number in 0..10_000_u32 {
            // 30 seconds of it.
            let now = start + Duration::from_millis(3) * number;
            let text = format!("Fail to proxy:  Upstream ConnectRefused context: {number}");
            let verdict = judge(&repeats, "pingora_proxy", &text, now);
            written += u64::from(verdict == Verdict::Write);
            let (sums, _) = repeats.sum_up(Some(now));
            told += sums.iter().map(|sum| sum.held_back).sum::<u64>();
        }
        assert!(written <= FIRST + 3, "{written}");
        let (sums, next) = repeats.sum_up(None);
        assert_eq!(next, None);
        told += sums.iter().map(|sum| sum.held_back).sum::<u64>();
        assert_eq!(written + told, 10_000);
    }

    #[test]
    fn one_thread_tells_and_ends_once_nothing_is_held_back() {
        let (repeats, now) = (Repeats::default(), Instant::now());
        let verdicts = [(); 7].map(|()| judge(&repeats, "pingora_proxy", "same", now));
        assert_eq!(verdicts[..5], [Verdict::Write; 5]);
        assert_eq!(verdicts[5..], [Verdict::CountFirst, Verdict::Count]);
        let (sums, next) = repeats.sum_up(Some(now));
        assert_eq!((sums, next), (Vec::new(), Some(now + WINDOW)));
        let (sums, next) = repeats.sum_up(next);
        assert_eq!(next, None);
        let told = "2 more lines like this in the last 10 s: same";
        assert_eq!(sums[0].to_string(), told);
        let later = now + 3 * WINDOW;
        assert_eq!(
            judge(&repeats, "pingora_proxy", "same", later),
            Verdict::Write
        );
    }

    #[test]
    fn the_first_of_a_kind_and_what_operators_need_is_always_written() {
        let (repeats, now) = (Repeats::default(), Instant::now());
        for _ in 0..100 {
            judge(
                &repeats,
                "pingora_proxy",
                "Fail to proxy:  Upstream ReadTimedout context: a",
                now,
            );
            for target in [
                "ballast::journal",
                "ballast::server::reload",
                "ballast::health",
            ] {
                assert_eq!(judge(&repeats, target, "same", now), Verdict::Write);
            }
        }
        let other = "Fail to proxy:  Upstream ConnectRefused context: a";
        assert_eq!(judge(&repeats, "pingora_proxy", other, now), Verdict::Write);
        for number in 0..10_000 {
            judge(&repeats, "pingora_proxy", &format!("{number}"), now);
        }
        assert!(repeats.state().kinds.len() <= KINDS + 1);
    }
}
