//! Formats the status of a process as lines for a terminal.

use std::collections::HashMap;
use std::iter;
use std::path::Path;
use std::time::{Duration, Instant};

use super::source_line::source_line;
use crate::acme::AcmeCertificate;
use crate::admin::{PoolReport, ProcessStatus};
use crate::cli::terminal::{Style, StyledLine};
use crate::pool::{HostState, HostStatus, PoolStatus};
use crate::timestamp::Timestamp;

use super::{cluster_view, drift_view};

/// The separator of two columns.
const COLUMN_GAP: &str = "  ";
/// The minimum width of the reason; columns are dropped until it fits.
const MIN_REASON_WIDTH: usize = 30;

/// Requests per second between two refreshes.
#[derive(Debug, Default)]
pub(super) struct RequestRates {
    /// The time and the totals of the previous refresh.
    previous: Option<(Instant, RequestTotals)>,
    by_pool: HashMap<String, f64>,
    by_host: HashMap<(String, String), f64>,
}

/// Request totals of each pool and host.
#[derive(Debug, Default)]
struct RequestTotals {
    by_pool: HashMap<String, u64>,
    by_host: HashMap<(String, String), u64>,
}

impl RequestRates {
    /// Computes the rates from the totals in `status`, which was read at `now`.
    pub(super) fn update(&mut self, status: &ProcessStatus, now: Instant) {
        let totals = RequestTotals::new(status);
        if let Some((then, before)) = &self.previous {
            let elapsed = now.saturating_duration_since(*then);
            self.by_pool = rates(&before.by_pool, &totals.by_pool, elapsed);
            self.by_host = rates(&before.by_host, &totals.by_host, elapsed);
        }
        self.previous = Some((now, totals));
    }
}

impl RequestTotals {
    fn new(status: &ProcessStatus) -> Self {
        let mut totals = RequestTotals::default();
        for PoolReport { pool, .. } in &status.pools {
            totals.by_pool.insert(pool.name.clone(), pool.requests);
            for host in &pool.hosts {
                let key = (pool.name.clone(), host.id.clone());
                totals.by_host.insert(key, host.requests);
            }
        }
        totals
    }
}

/// The increase of each total per second. A total that has decreased has no rate: a new process counts from 0.
fn rates<K: Clone + Eq + std::hash::Hash>(
    before: &HashMap<K, u64>,
    now: &HashMap<K, u64>,
    elapsed: Duration,
) -> HashMap<K, f64> {
    let rate = |key: &K, count: u64| {
        let increase = count.checked_sub(*before.get(key)?)?;
        (!elapsed.is_zero()).then(|| increase as f64 / elapsed.as_secs_f64())
    };
    now.iter()
        .filter_map(|(key, count)| Some((key.clone(), rate(key, *count)?)))
        .collect()
}

/// Lines for the process and for each pool with its hosts. With `rates`, shows requests per second instead of totals.
pub(super) fn lines(
    status: &ProcessStatus,
    rates: Option<&RequestRates>,
    columns: usize,
) -> Vec<StyledLine> {
    let now = Timestamp::now();
    let mut lines = vec![headline(status)];
    lines.extend(status.refused_certificates.iter().map(|refused| {
        let text = format!("{} not taken in: {}", refused.file, refused.reason);
        StyledLine::new(text, Style::Bad)
    }));
    lines.extend(
        drift_view::lines(status.process.config.file.as_deref(), &status.drift, now)
            .into_iter()
            .map(|line| StyledLine::new(line, Style::Passing)),
    );
    lines.extend(status.acme.iter().map(ordered_certificate));
    lines.extend(
        status
            .cluster
            .as_ref()
            .map(|cluster| cluster_view::title(cluster, now)),
    );
    for PoolReport { pool, sources } in &status.pools {
        lines.push(StyledLine::default());
        lines.push(title(pool, rates));
        lines.extend(sources.iter().map(source_line));
        lines.extend(table(pool, rates, columns, now));
    }
    lines
}

fn headline(status: &ProcessStatus) -> StyledLine {
    let process = &status.process;
    let (state, style) = match (status.draining, status.ready) {
        (true, _) => ("draining", Style::Passing),
        (false, true) => ("ready", Style::Good),
        (false, false) => ("not ready", Style::Bad),
    };
    let uptime = format_duration(process.uptime_seconds);
    let mut details = format!(
        ", pid {}, up {uptime}, {} in flight, {} connections",
        process.pid, status.in_flight, status.connections
    );
    if status.panics > 0 {
        details.push_str(&format!(", {} panics", status.panics));
    }
    if let Some(file) = &process.config.file {
        let name = Path::new(file).file_name().unwrap_or_default();
        details.push_str(&format!(", {}", name.display()));
    }
    StyledLine::new(format!("ballast {}", process.version), Style::Title)
        .and(" ", Style::Plain)
        .and(state, style)
        .and(details, Style::Plain)
}

/// A certificate that is ordered by ACME, or why it could not be.
fn ordered_certificate(certificate: &AcmeCertificate) -> StyledLine {
    let domain = &certificate.domain;
    let shown = |time: Option<Timestamp>| time.map_or("-".to_owned(), |time| time.to_string());
    let current = certificate.issuer.as_ref().map(|issuer| {
        let (expires, renewal) = (shown(certificate.expires), shown(certificate.renewal));
        format!("by {issuer}, expires at {expires}, renewal at {renewal}")
    });
    let line = match (&current, &certificate.last_error) {
        (None, None) => StyledLine::new(
            format!("certificate for {domain} is being ordered"),
            Style::Passing,
        ),
        (Some(current), None) => {
            StyledLine::new(format!("certificate for {domain} {current}"), Style::Plain)
        }
        (_, Some(error)) => {
            let attempts = match certificate.failures {
                1 => "1 attempt".to_owned(),
                count => format!("{count} attempts"),
            };
            let retry = shown(certificate.retry);
            let text = format!(
                "certificate for {domain} not ordered, {attempts}: {error}; the next one is at {retry}"
            );
            StyledLine::new(text, Style::Bad)
        }
    };
    match (current, &certificate.last_error) {
        (Some(current), Some(_)) => {
            line.and(format!("; the one before is {current}"), Style::Plain)
        }
        _ => line,
    }
}

fn title(pool: &PoolStatus, rates: Option<&RequestRates>) -> StyledLine {
    let usable = format!("{} of {} usable", pool.usable, pool.hosts.len());
    let style = match pool.usable {
        0 => Style::Bad,
        some if some < pool.hosts.len() => Style::Passing,
        _ => Style::Good,
    };
    let mut details = format!(", {} in flight", pool.in_flight);
    match rates {
        Some(rates) => {
            let rate = rates.by_pool.get(&pool.name);
            details.push_str(&format!(
                ", {} req/s",
                rate.map_or("-".into(), format_number)
            ));
        }
        None => details.push_str(&format!(", {} requests", pool.requests)),
    }
    details.push_str(&format!(", {} errors", pool.errors));
    if pool.waiting > 0 {
        details.push_str(&format!(", {} waiting", pool.waiting));
    }
    let maintenance = match &pool.maintenance {
        Some(_) => " (maintenance)",
        None => "",
    };
    StyledLine::new(pool.name.clone(), Style::Title)
        .and(maintenance, Style::Passing)
        .and(format!(" {}, ", pool.algorithm), Style::Plain)
        .and(usable, style)
        .and(details, Style::Plain)
}

/// A column of the table.
struct Column {
    title: &'static str,
    /// Whether the cells are aligned on the right, as numbers are.
    align_right: bool,
    /// If not all columns fit, the one with the lowest priority is dropped first.
    priority: u8,
    cells: Vec<String>,
}

impl Column {
    fn width(&self) -> usize {
        let cells = self.cells.iter().map(|cell| cell.chars().count());
        cells.max().unwrap_or(0).max(self.title.len())
    }

    fn padded(&self, text: &str) -> String {
        let width = self.width();
        match self.align_right {
            true => format!("{text:>width$}"),
            false => format!("{text:width$}"),
        }
    }
}

/// A line for each host, with as many columns as fit beside the reason.
fn table(
    pool: &PoolStatus,
    rates: Option<&RequestRates>,
    columns: usize,
    now: Timestamp,
) -> Vec<StyledLine> {
    let mut columns_shown = all_columns(pool, rates, now);
    let needed = |columns_shown: &[Column]| -> usize {
        let widths = columns_shown
            .iter()
            .map(|column| column.width() + COLUMN_GAP.len());
        widths.sum::<usize>() + MIN_REASON_WIDTH
    };
    while needed(&columns_shown) > columns
        && let Some(lowest) = columns_shown.iter().map(|column| column.priority).min()
        && lowest < u8::MAX
    {
        columns_shown.retain(|column| column.priority > lowest);
    }
    let titles = columns_shown
        .iter()
        .map(|column| column.padded(column.title) + COLUMN_GAP);
    let titles = titles.chain(iter::once("REASON".to_owned()));
    let mut lines = vec![StyledLine::new(titles.collect::<String>(), Style::Plain)];
    for (row, host) in pool.hosts.iter().enumerate() {
        let mut line = StyledLine::default();
        for column in &columns_shown {
            let style = match column.title {
                "STATE" => style(host.state),
                _ => Style::Plain,
            };
            line = line.and(column.padded(&column.cells[row]), style);
            line = line.and(COLUMN_GAP, Style::Plain);
        }
        lines.push(line.and(reason(host), Style::Plain));
    }
    lines
}

fn all_columns(pool: &PoolStatus, rates: Option<&RequestRates>, now: Timestamp) -> Vec<Column> {
    let column = |title, align_right, priority, cell: &dyn Fn(&HostStatus) -> String| Column {
        title,
        align_right,
        priority,
        cells: pool.hosts.iter().map(cell).collect(),
    };
    let requests: &dyn Fn(&HostStatus) -> String = &|host| match rates {
        None => host.requests.to_string(),
        Some(rates) => {
            let key = (pool.name.clone(), host.id.clone());
            rates
                .by_host
                .get(&key)
                .map_or("-".to_owned(), format_number)
        }
    };
    let title = if rates.is_some() { "REQ/S" } else { "REQUESTS" };
    let mut columns = vec![
        column("HOST", false, u8::MAX, &|host| {
            let name = host.name.as_ref();
            let label = name.map_or(host.id.clone(), |name| format!("{name} {}", host.id));
            match host.backup {
                true => format!("{label} (backup)"),
                false => label,
            }
        }),
        column("STATE", false, u8::MAX, &|host| {
            host.state.code().to_owned()
        }),
        column("SINCE", true, 4, &|host| {
            format_duration(now.unix_seconds() - host.since.unix_seconds())
        }),
        column("WEIGHT", true, 1, &|host| host.weight.to_string()),
        column("IN FLIGHT", true, 5, &|host| host.in_flight.to_string()),
        column(title, true, 6, requests),
        column("ERRORS", true, 3, &|host| host.errors.to_string()),
        column("LATENCY", true, 2, &|host| {
            let latency = host.latency_ms;
            latency.map_or("-".to_owned(), |ms| format!("{} ms", format_number(&ms)))
        }),
    ];
    // Of a pool whose hosts are all in the file it would say nothing.
    if pool.hosts.iter().any(HostStatus::is_found) {
        columns.push(column("SOURCE", false, 0, &|host| host.source.clone()));
    }
    columns
}

/// The reason for the host's state, and the changes that operators made to it.
fn reason(host: &HostStatus) -> String {
    match host.operator.is_empty() {
        true => host.reason.clone(),
        false => format!("{} [{}]", host.reason, host.operator.join(", ")),
    }
}

fn style(state: HostState) -> Style {
    match state {
        HostState::Up => Style::Good,
        HostState::Starting
        | HostState::Draining
        | HostState::Probing
        | HostState::Unchecked
        | HostState::Removed => Style::Passing,
        HostState::Ejected | HostState::Down => Style::Bad,
    }
}

/// A number, with one decimal if it is less than 10.
fn format_number(number: &f64) -> String {
    match *number {
        small if small > 0.0 && small < 9.95 => format!("{small:.1}"),
        number => format!("{number:.0}"),
    }
}

/// A duration in its largest unit, rounded down.
pub(super) fn format_duration(seconds: f64) -> String {
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
    fn durations_and_numbers_are_short() {
        let times = [-1.0, 59.9, 60.0, 7_199.0, 90_000.0].map(format_duration);
        assert_eq!(times, ["0s", "59s", "1m", "1h", "1d"]);
        let figures = [0.0, 0.04, 9.94, 9.96, 1_234.5].map(|number| format_number(&number));
        assert_eq!(figures, ["0", "0.0", "9.9", "10", "1234"]);
    }

    #[test]
    fn a_rate_is_the_increase_per_second() {
        let counts = |list: &[(&'static str, u64)]| list.iter().copied().collect();
        let elapsed = Duration::from_millis(500);
        let before = counts(&[("a", 10), ("b", 10), ("c", 10)]);
        let now = counts(&[("a", 25), ("b", 10), ("c", 3), ("d", 5)]);
        let rates = rates::<&str>(&before, &now, elapsed);
        let expected = HashMap::from([("a", 30.0), ("b", 0.0)]);
        assert_eq!(rates, expected);
    }
}
