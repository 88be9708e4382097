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
const BURST: u64 = 5;

/// So many kinds are told apart; lines of further ones count as one kind.
const MAX_KINDS: usize = 256;

/// Bytes of a line's begin that tell its kind, at most.
const MAX_PREFIX: usize = 64;

/// What becomes of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RateLimitDecision {
    Write,
    /// It is held back.
    Suppress,
    /// It is held back, and a thread is needed that tells so.
    SuppressAndReport,
}

/// What lines have in common that say the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct LineKind {
    level: Level,
    target: String,
    line: Option<u32>,
    /// What the line says up to where details begin; empty for further kinds.
    prefix: String,
}

#[derive(Debug)]
struct Window {
    started: Instant,
    written: u64,
    suppressed: u64,
}

/// Lines that were held back, told in one.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SuppressionSummary {
    pub(super) level: Level,
    pub(super) target: String,
    prefix: String,
    suppressed: u64,
    window: Duration,
}

impl Display for SuppressionSummary {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let SuppressionSummary {
            prefix,
            suppressed,
            window,
            ..
        } = self;
        let seconds = window.as_secs_f64().ceil();
        write!(
            f,
            "{suppressed} more lines like this in the last {seconds} s: {prefix}"
        )
    }
}

/// The kinds of lines that were written lately.
#[derive(Debug, Default)]
pub(super) struct LogRateLimiter(Mutex<LimiterState>);

#[derive(Debug, Default)]
struct LimiterState {
    kinds: HashMap<LineKind, Window>,
    /// Whether a thread will tell what is held back.
    has_thread: bool,
}

impl LogRateLimiter {
    /// What becomes of a line.
    pub(super) fn check(&self, record: &Record<'_>, line: &str, now: Instant) -> RateLimitDecision {
        if record.level() > Level::Warn || !may_flood(record.target()) {
            return RateLimitDecision::Write;
        }
        let mut state = self.state();
        let LimiterState { kinds, has_thread } = &mut *state;
        let mut kind = LineKind {
            level: record.level(),
            target: record.target().to_owned(),
            line: record.line(),
            prefix: prefix(line).to_owned(),
        };
        if kinds.len() >= MAX_KINDS && !kinds.contains_key(&kind) {
            kinds.retain(|_, window| window.suppressed > 0 || now < window.started + WINDOW);
            if kinds.len() >= MAX_KINDS {
                kind.prefix.clear();
            }
        }
        let window = kinds.entry(kind).or_insert_with(|| Window::new(now));
        if window.suppressed == 0 && now >= window.started + WINDOW {
            *window = Window::new(now);
        }
        if window.written < BURST {
            window.written += 1;
            return RateLimitDecision::Write;
        }
        window.suppressed += 1;
        match std::mem::replace(has_thread, true) {
            true => RateLimitDecision::Suppress,
            false => RateLimitDecision::SuppressAndReport,
        }
    }

    /// Takes out what was held back, of the kinds whose window is over by `now`; `None`: of all. With it comes when the
    /// next window is over; without one the thread that asks ends.
    pub(super) fn take_summaries(
        &self,
        now: Option<Instant>,
    ) -> (Vec<SuppressionSummary>, Option<Instant>) {
        let mut state = self.state();
        let (mut summaries, mut next) = (Vec::new(), None::<Instant>);
        for (kind, window) in &mut state.kinds {
            let end = window.started + WINDOW;
            if window.suppressed == 0 {
                continue;
            }
            if now.is_some_and(|now| now < end) {
                next = Some(next.map_or(end, |next| next.min(end)));
                continue;
            }
            let time = now.unwrap_or_else(Instant::now);
            summaries.push(SuppressionSummary {
                level: kind.level,
                target: kind.target.clone(),
                prefix: kind.prefix.clone(),
                suppressed: std::mem::take(&mut window.suppressed),
                window: time.saturating_duration_since(window.started),
            });
            // The flood may go on: one line of the next window shows what it is about.
            (window.started, window.written) = (time, BURST - 1);
        }
        if now.is_some() {
            state.has_thread = next.is_some();
        }
        (summaries, next)
    }

    /// No thread could be started: the next line that is held back asks for one again.
    pub(super) fn thread_failed(&self) {
        self.state().has_thread = false;
    }

    fn state(&self) -> MutexGuard<'_, LimiterState> {
        // Nothing that is done under the lock can be half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Window {
    fn new(now: Instant) -> Self {
        Window {
            started: now,
            written: 0,
            suppressed: 0,
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
    super::bounded_line::is_about_request(target)
        || of_connections.iter().any(|known| target.starts_with(known))
}

/// The begin of a line, up to where it names details: for an error of Pingora, whose fault and which kind it was.
fn prefix(line: &str) -> &str {
    let mut end = line
        .find(" context: ")
        .unwrap_or(line.len())
        .min(MAX_PREFIX);
    while !line.is_char_boundary(end) {
        end -= 1;
    }
    &line[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(
        repeats: &LogRateLimiter,
        target: &str,
        text: &str,
        now: Instant,
    ) -> RateLimitDecision {
        let mut record = Record::builder();
        record.level(Level::Error).target(target).line(Some(1));
        repeats.check(&record.build(), text, now)
    }

    #[test]
    fn what_is_held_back_is_told_exactly() {
        let (repeats, start) = (LogRateLimiter::default(), Instant::now());
        let (mut written, mut told) = (0, 0);
        for number in 0..10_000_u32 {
            // 30 seconds of it.
            let now = start + Duration::from_millis(3) * number;
            let text = format!("Fail to proxy:  Upstream ConnectRefused context: {number}");
            let verdict = check(&repeats, "pingora_proxy", &text, now);
            written += u64::from(verdict == RateLimitDecision::Write);
            let (summaries, _) = repeats.take_summaries(Some(now));
            told += summaries.iter().map(|sum| sum.suppressed).sum::<u64>();
        }
        assert!(written <= BURST + 3, "{written}");
        let (summaries, next) = repeats.take_summaries(None);
        assert_eq!(next, None);
        told += summaries.iter().map(|sum| sum.suppressed).sum::<u64>();
        assert_eq!(written + told, 10_000);
    }

    #[test]
    fn one_thread_tells_and_ends_once_nothing_is_held_back() {
        let (repeats, now) = (LogRateLimiter::default(), Instant::now());
        let verdicts = [(); 7].map(|()| check(&repeats, "pingora_proxy", "same", now));
        assert_eq!(verdicts[..5], [RateLimitDecision::Write; 5]);
        assert_eq!(
            verdicts[5..],
            [
                RateLimitDecision::SuppressAndReport,
                RateLimitDecision::Suppress
            ]
        );
        let (summaries, next) = repeats.take_summaries(Some(now));
        assert_eq!((summaries, next), (Vec::new(), Some(now + WINDOW)));
        let (summaries, next) = repeats.take_summaries(next);
        assert_eq!(next, None);
        let told = "2 more lines like this in the last 10 s: same";
        assert_eq!(summaries[0].to_string(), told);
        let later = now + 3 * WINDOW;
        assert_eq!(
            check(&repeats, "pingora_proxy", "same", later),
            RateLimitDecision::Write
        );
    }

    #[test]
    fn the_first_of_a_kind_and_what_operators_need_is_always_written() {
        let (repeats, now) = (LogRateLimiter::default(), Instant::now());
        for _ in 0..100 {
            check(
                &repeats,
                "pingora_proxy",
                "Fail to proxy:  Upstream ReadTimedout context: a",
                now,
            );
            for target in [
                "ballast::event_log",
                "ballast::server::reload",
                "ballast::health",
            ] {
                assert_eq!(
                    check(&repeats, target, "same", now),
                    RateLimitDecision::Write
                );
            }
        }
        let other = "Fail to proxy:  Upstream ConnectRefused context: a";
        assert_eq!(
            check(&repeats, "pingora_proxy", other, now),
            RateLimitDecision::Write
        );
        for number in 0..10_000 {
            check(&repeats, "pingora_proxy", &format!("{number}"), now);
        }
        assert!(repeats.state().kinds.len() <= MAX_KINDS + 1);
    }
}
