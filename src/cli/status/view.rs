//! What a process tells of itself, as lines for a person.

use std::collections::HashMap;
use std::iter;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::admin::ProcessStatus;
use crate::cli::terminal::{Line, Style};
use crate::moment::Moment;
use crate::pool::{HostStatus, State, Status};

/// Between two columns.
const GAP: &str = "  ";
/// What is left for the reason at least, before columns are left out.
const LEAST_REASON: usize = 30;

/// Requests per second, from one look to the next.
#[derive(Debug, Default)]
pub(super) struct Rates {
    /// When the last look was, and what it saw.
    seen: Option<(Instant, Counts)>,
    of_pool: HashMap<String, f64>,
    of_host: HashMap<(String, String), f64>,
}

/// Requests so far.
#[derive(Debug, Default)]
struct Counts {
    of_pool: HashMap<String, u64>,
    of_host: HashMap<(String, String), u64>,
}

impl Rates {
    /// Takes in what is seen `now`.
    pub(super) fn take(&mut self, status: &ProcessStatus, now: Instant) {
        let counts = Counts::of(status);
        if let Some((then, before)) = &self.seen {
            let passed = now.saturating_duration_since(*then);
            self.of_pool = rates(&before.of_pool, &counts.of_pool, passed);
            self.of_host = rates(&before.of_host, &counts.of_host, passed);
        }
        self.seen = Some((now, counts));
    }
}

impl Counts {
    fn of(status: &ProcessStatus) -> Self {
        let mut counts = Counts::default();
        for pool in &status.pools {
            counts.of_pool.insert(pool.name.clone(), pool.requests);
            for host in &pool.hosts {
                let key = (pool.name.clone(), host.id.clone());
                counts.of_host.insert(key, host.requests);
            }
        }
        counts
    }
}

/// What a process that was replaced meanwhile had counted says nothing of its successor.
fn rates<K: Clone + Eq + std::hash::Hash>(
    before: &HashMap<K, u64>,
    now: &HashMap<K, u64>,
    passed: Duration,
) -> HashMap<K, f64> {
    let rate = |key: &K, count: u64| {
        let more = count.checked_sub(*before.get(key)?)?;
        (!passed.is_zero()).then(|| more as f64 / passed.as_secs_f64())
    };
    now.iter()
        .filter_map(|(key, count)| Some((key.clone(), rate(key, *count)?)))
        .collect()
}

/// The process, and each pool with its hosts; with `rates` requests per second instead of their sum.
pub(super) fn lines(status: &ProcessStatus, rates: Option<&Rates>, columns: usize) -> Vec<Line> {
    let now = Moment::now();
    let mut lines = vec![headline(status)];
    for pool in &status.pools {
        lines.push(Line::default());
        lines.push(title(pool, rates));
        lines.extend(table(pool, rates, columns, now));
    }
    lines
}

fn headline(status: &ProcessStatus) -> Line {
    let process = &status.process;
    let (word, style) = match (status.draining, status.ready) {
        (true, _) => ("draining", Style::Passing),
        (false, true) => ("ready", Style::Good),
        (false, false) => ("not ready", Style::Bad),
    };
    let up = short(process.uptime_seconds);
    let mut rest = format!(
        ", pid {}, up {up}, {} in flight, {} connections",
        process.pid, status.in_flight, status.connections
    );
    if status.panics > 0 {
        rest.push_str(&format!(", {} panics", status.panics));
    }
    if let Some(file) = &process.config.file {
        let name = Path::new(file).file_name().unwrap_or_default();
        rest.push_str(&format!(", {}", name.display()));
    }
    Line::of(format!("ballast {}", process.version), Style::Title)
        .and(" ", Style::Plain)
        .and(word, style)
        .and(rest, Style::Plain)
}

fn title(pool: &Status, rates: Option<&Rates>) -> Line {
    let usable = format!("{} of {} usable", pool.usable, pool.hosts.len());
    let style = match pool.usable {
        0 => Style::Bad,
        some if some < pool.hosts.len() => Style::Passing,
        _ => Style::Good,
    };
    let mut rest = format!(", {} in flight", pool.in_flight);
    match rates {
        Some(rates) => {
            let rate = rates.of_pool.get(&pool.name);
            rest.push_str(&format!(", {} req/s", rate.map_or("-".into(), figure)));
        }
        None => rest.push_str(&format!(", {} requests", pool.requests)),
    }
    rest.push_str(&format!(", {} errors", pool.errors));
    if pool.waiting > 0 {
        rest.push_str(&format!(", {} waiting", pool.waiting));
    }
    Line::of(pool.name.clone(), Style::Title)
        .and(format!(" {}, ", pool.algorithm), Style::Plain)
        .and(usable, style)
        .and(rest, Style::Plain)
}

/// A column of the table.
struct Column {
    title: &'static str,
    /// Numbers stand on the right.
    right: bool,
    /// Which one is left out first where they do not all fit: that with the lowest.
    worth: u8,
    cells: Vec<String>,
}

impl Column {
    fn width(&self) -> usize {
        let cells = self.cells.iter().map(|cell| cell.chars().count());
        cells.max().unwrap_or(0).max(self.title.len())
    }

    fn padded(&self, text: &str) -> String {
        let width = self.width();
        match self.right {
            true => format!("{text:>width$}"),
            false => format!("{text:width$}"),
        }
    }
}

/// A line for each host, with as many columns as leave room for the reason.
fn table(pool: &Status, rates: Option<&Rates>, columns: usize, now: Moment) -> Vec<Line> {
    let mut kept = all_columns(pool, rates, now);
    let needed = |kept: &[Column]| -> usize {
        let widths = kept.iter().map(|column| column.width() + GAP.len());
        widths.sum::<usize>() + LEAST_REASON
    };
    while needed(&kept) > columns
        && let Some(least) = kept.iter().map(|column| column.worth).min()
        && least < u8::MAX
    {
        kept.retain(|column| column.worth > least);
    }
    let titles = kept.iter().map(|column| column.padded(column.title) + GAP);
    let titles = titles.chain(iter::once("REASON".to_owned()));
    let mut lines = vec![Line::of(titles.collect::<String>(), Style::Plain)];
    for (row, host) in pool.hosts.iter().enumerate() {
        let mut line = Line::default();
        for column in &kept {
            let style = match column.title {
                "STATE" => style(host.state),
                _ => Style::Plain,
            };
            line = line.and(column.padded(&column.cells[row]), style);
            line = line.and(GAP, Style::Plain);
        }
        lines.push(line.and(reason(host), Style::Plain));
    }
    lines
}

fn all_columns(pool: &Status, rates: Option<&Rates>, now: Moment) -> Vec<Column> {
    let column = |title, right, worth, cell: &dyn Fn(&HostStatus) -> String| Column {
        title,
        right,
        worth,
        cells: pool.hosts.iter().map(cell).collect(),
    };
    let requests: &dyn Fn(&HostStatus) -> String = &|host| match rates {
        None => host.requests.to_string(),
        Some(rates) => {
            let key = (pool.name.clone(), host.id.clone());
            rates.of_host.get(&key).map_or("-".to_owned(), figure)
        }
    };
    let title = if rates.is_some() { "REQ/S" } else { "REQUESTS" };
    vec![
        column("HOST", false, u8::MAX, &|host| {
            let name = host.name.as_ref();
            let known_by = name.map_or(host.id.clone(), |name| format!("{name} {}", host.id));
            match host.backup {
                true => format!("{known_by} (backup)"),
                false => known_by,
            }
        }),
        column("STATE", false, u8::MAX, &|host| {
            host.state.code().to_owned()
        }),
        column("SINCE", true, 4, &|host| {
            short(now.unix_seconds() - host.since.unix_seconds())
        }),
        column("WEIGHT", true, 1, &|host| host.weight.to_string()),
        column("IN FLIGHT", true, 5, &|host| host.in_flight.to_string()),
        column(title, true, 6, requests),
        column("ERRORS", true, 3, &|host| host.errors.to_string()),
        column("LATENCY", true, 2, &|host| {
            let latency = host.latency_ms;
            latency.map_or("-".to_owned(), |ms| format!("{} ms", figure(&ms)))
        }),
    ]
}

/// Why it is in its state, and what an operator did to it.
fn reason(host: &HostStatus) -> String {
    match host.operator.is_empty() {
        true => host.reason.clone(),
        false => format!("{} [{}]", host.reason, host.operator.join(", ")),
    }
}

fn style(state: State) -> Style {
    match state {
        State::Up => Style::Good,
        State::Starting | State::Draining | State::Probing | State::Unchecked | State::Removed => {
            Style::Passing
        }
        State::Ejected | State::Down => Style::Bad,
    }
}

/// A number with one decimal where that says more.
fn figure(number: &f64) -> String {
    match *number {
        small if small > 0.0 && small < 9.95 => format!("{small:.1}"),
        number => format!("{number:.0}"),
    }
}

/// A time in its largest unit.
fn short(seconds: f64) -> String {
    let seconds = seconds.max(0.0) as u64;
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m", seconds / 60),
        3_600..86_400 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_figures_are_short() {
        let times = [-1.0, 59.9, 60.0, 7_199.0, 90_000.0].map(short);
        assert_eq!(times, ["0s", "59s", "1m", "1h", "1d"]);
        let figures = [0.0, 0.04, 9.94, 9.96, 1_234.5].map(|number| figure(&number));
        assert_eq!(figures, ["0", "0.0", "9.9", "10", "1234"]);
    }

    #[test]
    fn a_rate_is_what_came_in_the_time() {
        let counts = |list: &[(&'static str, u64)]| list.iter().copied().collect();
        let passed = Duration::from_millis(500);
        let before = counts(&[("a", 10), ("b", 10), ("c", 10)]);
        let now = counts(&[("a", 25), ("b", 10), ("c", 3), ("d", 5)]);
        let rates = rates::<&str>(&before, &now, passed);
        let expected = HashMap::from([("a", 30.0), ("b", 0.0)]);
        assert_eq!(rates, expected);
    }
}
