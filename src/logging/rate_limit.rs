//! Rate limit for repeated log lines: a host that is down must not fill the disk with one line per request. Suppressed
//! lines are counted, and a summary line gives their number.
//!
//! The limit applies only to lines about requests and connections, which clients can cause in any number. Lines that an
//! operator needs, such as a host that is down or a reload, have other log targets and are always written.

use std::collections::HashMap;
use std::fmt::{self, Display, Formatter};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use log::{Level, Record};

/// How long lines of the same kind are counted together.
pub(super) const WINDOW: Duration = Duration::from_secs(10);

/// Lines of a kind that are written per window; further ones are suppressed.
const BURST: u64 = 5;

/// The maximum number of kinds. When it is reached, further lines count as one kind per place in the source.
const MAX_KINDS: usize = 256;

/// The maximum length of the prefix that identifies a kind, in bytes.
const MAX_PREFIX: usize = 64;

/// What to do with a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RateLimitDecision {
    Write,
    Suppress,
    /// Suppress it, and start the thread that writes the summaries.
    SuppressAndReport,
}

/// Identifies lines that count as repetitions of each other.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct LineKind {
    level: Level,
    target: String,
    /// The line in the source file.
    line: Option<u32>,
    /// The text up to its details; empty once there are [`MAX_KINDS`].
    prefix: String,
}

/// The counts of a kind in its current window.
#[derive(Debug)]
struct Window {
    started: Instant,
    written: u64,
    suppressed: u64,
}

/// The number of suppressed lines of a kind, as one log line.
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

/// Counts the recent lines by kind.
#[derive(Debug, Default)]
pub(super) struct LogRateLimiter(Mutex<LimiterState>);

#[derive(Debug, Default)]
struct LimiterState {
    kinds: HashMap<LineKind, Window>,
    /// Whether a thread runs that will write the summaries.
    has_thread: bool,
}

impl LogRateLimiter {
    /// Counts a line, and decides whether it is written.
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

    /// Takes the summaries of the kinds whose window ends by `now`; `None`: of all kinds. Also returns when the next
    /// window with suppressed lines ends; if no such window is open, the calling thread must end.
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
            // The flood may continue: the next window writes one line as a sample.
            (window.started, window.written) = (time, BURST - 1);
        }
        if now.is_some() {
            state.has_thread = next.is_some();
        }
        (summaries, next)
    }

    /// Records that the thread could not be started; the next suppressed line tries again.
    pub(super) fn thread_failed(&self) {
        self.state().has_thread = false;
    }

    fn state(&self) -> MutexGuard<'_, LimiterState> {
        // A panic under the lock cannot leave the counts inconsistent, so a poisoned lock is safe to use.
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

/// Whether clients can cause any number of lines with this log target.
fn may_flood(target: &str) -> bool {
    let connection_targets = [
        "ballast::admin",
        "ballast::server::edge",
        "ballast::logging",
    ];
    super::bounded_line::is_about_request(target)
        || connection_targets
            .iter()
            .any(|known| target.starts_with(known))
}

/// The start of a line, up to its details. For an error of Pingora this is its source and its type.
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
        limiter: &LogRateLimiter,
        target: &str,
        text: &str,
        now: Instant,
    ) -> RateLimitDecision {
        let mut record = Record::builder();
        record.level(Level::Error).target(target).line(Some(1));
        limiter.check(&record.build(), text, now)
    }

    #[test]
    fn suppressed_lines_are_counted_exactly() {
        let (limiter, start) = (LogRateLimiter::default(), Instant::now());
        let (mut written, mut suppressed) = (0, 0);
        for number in 0..10_000_u32 {
            // 30 seconds of it.
            let now = start + Duration::from_millis(3) * number;
            let text = format!("Fail to proxy:  Upstream ConnectRefused context: {number}");
            let decision = check(&limiter, "pingora_proxy", &text, now);
            written += u64::from(decision == RateLimitDecision::Write);
            let (summaries, _) = limiter.take_summaries(Some(now));
            suppressed += summaries.iter().map(|sum| sum.suppressed).sum::<u64>();
        }
        assert!(written <= BURST + 3, "{written}");
        let (summaries, next) = limiter.take_summaries(None);
        assert_eq!(next, None);
        suppressed += summaries.iter().map(|sum| sum.suppressed).sum::<u64>();
        assert_eq!(written + suppressed, 10_000);
    }

    #[test]
    fn one_thread_writes_all_summaries_and_ends() {
        let (limiter, now) = (LogRateLimiter::default(), Instant::now());
        let decisions = [(); 7].map(|()| check(&limiter, "pingora_proxy", "same", now));
        assert_eq!(decisions[..5], [RateLimitDecision::Write; 5]);
        assert_eq!(
            decisions[5..],
            [
                RateLimitDecision::SuppressAndReport,
                RateLimitDecision::Suppress
            ]
        );
        let (summaries, next) = limiter.take_summaries(Some(now));
        assert_eq!((summaries, next), (Vec::new(), Some(now + WINDOW)));
        let (summaries, next) = limiter.take_summaries(next);
        assert_eq!(next, None);
        let expected = "2 more lines like this in the last 10 s: same";
        assert_eq!(summaries[0].to_string(), expected);
        let later = now + 3 * WINDOW;
        assert_eq!(
            check(&limiter, "pingora_proxy", "same", later),
            RateLimitDecision::Write
        );
    }

    #[test]
    fn the_first_line_of_a_kind_and_lines_for_operators_are_always_written() {
        let (limiter, now) = (LogRateLimiter::default(), Instant::now());
        for _ in 0..100 {
            check(
                &limiter,
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
                    check(&limiter, target, "same", now),
                    RateLimitDecision::Write
                );
            }
        }
        let other = "Fail to proxy:  Upstream ConnectRefused context: a";
        assert_eq!(
            check(&limiter, "pingora_proxy", other, now),
            RateLimitDecision::Write
        );
        for number in 0..10_000 {
            check(&limiter, "pingora_proxy", &format!("{number}"), now);
        }
        assert!(limiter.state().kinds.len() <= MAX_KINDS + 1);
    }
}
