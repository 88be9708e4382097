//! A plot of a report: latencies and shares of hosts, a row for each algorithm.

use super::latencies::LatencyReport;
use super::report::{AlgorithmReport, Report};
use super::svg::{Anchor, Svg};

const WIDTH: f64 = 960.0;
const MARGIN: f64 = 24.0;
/// Where the rows begin, behind the names.
const LEFT: f64 = 170.0;
/// Where the rows end, before what is written beside them.
const RIGHT: f64 = 800.0;
const ROW: f64 = 26.0;
/// Above the rows of a chart.
const HEAD: f64 = 44.0;
/// The space above the first chart.
const TOP: f64 = 64.0;

/// Hosts of a pool that have colours of their own; the others share a grey.
const MAX_COLOURS: usize = 24;

/// Dark on light or light on dark, as the reader prefers.
const STYLE: &str = "
svg { font: 13px system-ui, sans-serif; background: #ffffff; color-scheme: light dark; }
text { fill: #1f2328; } .note { fill: #59636e; } .title { font-size: 16px; font-weight: 600; }
.grid { stroke: #d1d9e0; } .range { stroke: #818b98; stroke-width: 2; }
.p50 { fill: #1a7f37; } .p99 { fill: #9a6700; } .p999 { fill: #d1242f; }
@media (prefers-color-scheme: dark) {
svg { background: #0d1117; } text { fill: #f0f6fc; } .note { fill: #9198a1; }
.grid { stroke: #3d444d; } .range { stroke: #656c76; }
.p50 { fill: #3fb950; } .p99 { fill: #d29922; } .p999 { fill: #f85149; }
}
";

/// An SVG file on its own, with `about` below the title: neither scripts nor fonts nor anything else from outside.
pub(crate) fn plot(report: &Report, about: &str) -> String {
    let mut svg = Svg::default();
    let title = format!("pool {}", report.pool);
    svg.text("title", (MARGIN, 28.0), Anchor::Start, &title);
    svg.text("note", (MARGIN, 48.0), Anchor::Start, about);
    let shares = latency_chart(&mut svg, report, TOP);
    let end = share_chart(&mut svg, report, shares + MARGIN);
    svg.into_file((WIDTH, end + MARGIN), &title, STYLE)
}

/// Draws p50, p99 and p99.9 of each algorithm on a logarithmic scale from `top` on; returns where it ends.
fn latency_chart(svg: &mut Svg, report: &Report, top: f64) -> f64 {
    let algorithms = &report.algorithms;
    let bottom = top + HEAD + ROW * algorithms.len() as f64;
    svg.text("", (MARGIN, top + 16.0), Anchor::Start, "latency");
    let mut x = LEFT;
    for (class, label) in [("p50", "p50"), ("p99", "p99"), ("p999", "p99.9")] {
        svg.circle(class, (x, top + 12.0), 5.0);
        svg.text("note", (x + 10.0, top + 16.0), Anchor::Start, label);
        x += 64.0;
    }
    let beside = (RIGHT + 12.0, top + HEAD - 12.0);
    svg.text("note", beside, Anchor::Start, "p50, p99");
    let scale = Scale::of(algorithms.iter().filter_map(|algorithm| algorithm.latency));
    for decade in scale.first..=scale.last {
        let millis = 10f64.powi(decade);
        let x = scale.x(millis);
        svg.line("grid", (x, top + HEAD - 8.0), (x, bottom));
        let label = format!("{} ms", millis);
        svg.text("note", (x, top + HEAD - 12.0), Anchor::Middle, &label);
    }
    for (algorithm, y) in rows(algorithms, top + HEAD) {
        name(svg, algorithm, y);
        let beside = match &algorithm.latency {
            Some(latency) => {
                let values = [latency.p50_ms, latency.p99_ms, latency.p999_ms];
                let [p50, p99, p999] = values.map(|millis| scale.x(millis));
                svg.line("range", (p50, y), (p999, y));
                for (class, x) in [("p999", p999), ("p99", p99), ("p50", p50)] {
                    svg.circle(class, (x, y), 5.0);
                }
                let [p50, p99, _] = values.map(short_millis);
                format!("{p50}, {p99} ms")
            }
            None => "none succeeded".to_owned(),
        };
        svg.text("note", (RIGHT + 12.0, y + 4.0), Anchor::Start, &beside);
    }
    bottom
}

/// Draws the shares of hosts from `top` on; returns where it ends.
fn share_chart(svg: &mut Svg, report: &Report, top: f64) -> f64 {
    let algorithms = &report.algorithms;
    let heading = "share of requests by host";
    svg.text("", (MARGIN, top + 16.0), Anchor::Start, heading);
    svg.text(
        "note",
        (RIGHT + 12.0, top + HEAD - 12.0),
        Anchor::Start,
        "failed, refused",
    );
    for (algorithm, y) in rows(algorithms, top + HEAD) {
        name(svg, algorithm, y);
        let mut x = LEFT;
        for (position, host) in algorithm.hosts.iter().enumerate() {
            let width = host.share * (RIGHT - LEFT);
            let label = host.name.as_deref().unwrap_or(&host.host);
            let title = format!("{label}: {:.2} %", host.share * 100.0);
            let corner = (x, y - ROW * 0.35);
            svg.bar(&colour(position), corner, (width, ROW * 0.7), &title);
            x += width;
        }
        let beside = format!("{}, {}", algorithm.failed, algorithm.refused);
        svg.text("note", (RIGHT + 12.0, y + 4.0), Anchor::Start, &beside);
    }
    let bottom = top + HEAD + ROW * algorithms.len() as f64;
    legend(svg, report, bottom + 12.0)
}

/// Names the hosts by their colours; returns where it ends.
fn legend(svg: &mut Svg, report: &Report, top: f64) -> f64 {
    const COLUMNS: usize = 4;
    let hosts = report.algorithms.first().map(|first| &first.hosts[..]);
    let hosts = hosts.unwrap_or_default();
    let width = (WIDTH - 2.0 * MARGIN) / COLUMNS as f64;
    let named = hosts.len().min(MAX_COLOURS);
    let place = |position: usize| {
        let (row, column) = (position / COLUMNS, position % COLUMNS);
        (
            MARGIN + column as f64 * width,
            top + row as f64 * 20.0 + 12.0,
        )
    };
    for (position, host) in hosts.iter().take(named).enumerate() {
        let (x, y) = place(position);
        let label = host.name.as_deref().unwrap_or(&host.host);
        let shown = String::from_iter(label.chars().take(26));
        svg.bar(&colour(position), (x, y - 10.0), (12.0, 12.0), label);
        svg.text("note", (x + 18.0, y), Anchor::Start, &shown);
    }
    let mut cells = named;
    if hosts.len() > named {
        let (x, y) = place(named);
        let others = format!("{} others", hosts.len() - named);
        svg.bar(&colour(named), (x, y - 10.0), (12.0, 12.0), &others);
        svg.text("note", (x + 18.0, y), Anchor::Start, &others);
        cells += 1;
    }
    top + cells.div_ceil(COLUMNS) as f64 * 20.0
}

/// The algorithms with the middles of their rows.
fn rows(algorithms: &[AlgorithmReport], top: f64) -> impl Iterator<Item = (&AlgorithmReport, f64)> {
    let middles = (0..).map(move |row| top + (f64::from(row) + 0.5) * ROW);
    algorithms.iter().zip(middles)
}

fn name(svg: &mut Svg, algorithm: &AlgorithmReport, y: f64) {
    let mark = if algorithm.configured { " *" } else { "" };
    let name = format!("{}{mark}", algorithm.algorithm);
    svg.text("", (LEFT - 16.0, y + 4.0), Anchor::End, &name);
}

/// The colour of a host: neighbours differ by the golden angle.
fn colour(position: usize) -> String {
    match position {
        position if position < MAX_COLOURS => {
            let hue = (position as f64 * 137.508 + 210.0) % 360.0;
            format!("fill: hsl({hue:.0} 55% 52%)")
        }
        _ => "fill: #818b98".to_owned(),
    }
}

fn short_millis(millis: f64) -> String {
    match millis {
        millis if millis < 100.0 => format!("{millis:.1}"),
        millis => format!("{millis:.0}"),
    }
}

/// A logarithmic scale of milliseconds that begins and ends with a power of ten.
#[derive(Debug, Clone, Copy)]
struct Scale {
    first: i32,
    last: i32,
}

impl Scale {
    /// The shortest time that has a place, in milliseconds.
    const LEAST: f64 = 1e-6;

    fn of(latencies: impl Iterator<Item = LatencyReport>) -> Self {
        let ends = latencies.map(|latency| (latency.p50_ms, latency.p999_ms));
        let all = ends.reduce(|all, one| (all.0.min(one.0), all.1.max(one.1)));
        let (least, most) = all.unwrap_or((1.0, 10.0));
        let first = least.max(Self::LEAST).log10().floor() as i32;
        let last = most.max(Self::LEAST).log10().ceil() as i32;
        Scale {
            first,
            last: last.max(first + 1),
        }
    }

    fn x(self, millis: f64) -> f64 {
        let decades = f64::from(self.last - self.first);
        let part = (millis.max(Self::LEAST).log10() - f64::from(self.first)) / decades;
        LEFT + part.clamp(0.0, 1.0) * (RIGHT - LEFT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::tests::report;

    #[test]
    fn a_scale_holds_all_values_between_powers_of_ten() {
        let latency = |p50_ms, p999_ms| LatencyReport {
            mean_ms: p50_ms,
            p50_ms,
            p99_ms: p50_ms,
            p999_ms,
            max_ms: p999_ms,
        };
        let scale = Scale::of([latency(7.0, 50.0), latency(0.5, 120.0)].into_iter());
        assert_eq!((scale.first, scale.last), (-1, 3));
        assert_eq!((scale.x(0.1), scale.x(1_000.0)), (LEFT, RIGHT));
        let flat = Scale::of([latency(10.0, 10.0)].into_iter());
        assert_eq!((flat.first, flat.last), (1, 2));
        let none = Scale::of(std::iter::empty());
        assert_eq!((none.first, none.last), (0, 1));
        let zero = Scale::of([latency(0.0, 0.0)].into_iter());
        assert_eq!(zero.x(0.0), LEFT);
    }

    #[test]
    fn a_plot_names_every_algorithm_and_host_and_loads_nothing() {
        let report = report("algorithm: least_load", 30);
        let svg = plot(&report, "what it is about");
        for algorithm in &report.algorithms {
            assert_eq!(svg.matches(&format!(">{}", algorithm.algorithm)).count(), 2);
        }
        assert!(svg.contains(">least_load *<"), "{svg}");
        assert!(svg.contains(">10.0.0.1:80<") && svg.contains(">6 others<"));
        assert!(svg.contains("prefers-color-scheme: dark"));
        let links = svg.matches("http").count();
        assert_eq!(links, 1, "the namespace alone: {svg}");
    }
}
