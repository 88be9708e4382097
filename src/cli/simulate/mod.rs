//! `ballast simulate`: how a pool of the file would do under load, with each algorithm.

mod view;

use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;

use super::terminal::Terminal;
use super::{CliError, ConfigArg, runtime_error, usage_error};
use crate::config::{Config, Pool};
use crate::simulate::{
    Failing, RunLength, Scenario, ServiceDistribution, Settings, Slowdown, plot, simulate,
};

/// The load, and what is wrong with hosts.
#[derive(Debug, clap::Args)]
pub(super) struct SimulateArg {
    #[command(flatten)]
    config: ConfigArg,
    /// The pool; needed if the file has several
    #[arg(long, value_name = "NAME")]
    pool: Option<String>,
    /// Only these algorithms, such as p2c; can be given several times. The pool's own has the options of the file, all others
    /// their defaults
    #[arg(long, value_name = "NAME")]
    algorithm: Vec<String>,
    /// Requests per second, at random times (Poisson); they do not wait for responses
    #[arg(long, value_name = "N", default_value_t = 1_000.0, value_parser = between(0.1, 1e7))]
    rate: f64,
    /// Requests in all
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=10_000_000), conflicts_with = "duration")]
    requests: u64,
    /// How long requests arrive, instead of their number
    #[arg(long, value_name = "TIME", value_parser = positive_time)]
    duration: Option<Duration>,
    /// The time at the start that is not measured [default: a tenth of the run]
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    warm_up: Option<Duration>,
    /// The mean time that a host takes for a request
    #[arg(long, value_name = "TIME", default_value = "10ms", value_parser = service_time)]
    service_time: Duration,
    /// How the times are distributed around it
    #[arg(long, value_name = "KIND", value_enum, default_value_t = ServiceDistribution::Exponential)]
    service: ServiceDistribution,
    /// Requests that a host serves at the same time; others wait there, first come, first served
    #[arg(long, value_name = "N", default_value_t = 8)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    concurrency: u32,
    /// Clients, each with an address and a key of its own, for the algorithms that hash them
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    keys: u32,
    /// How unevenly requests come from clients, as the exponent of Zipf's law; 0: evenly, 1: as words in a text
    #[arg(long, value_name = "S", default_value_t = 0.0, value_parser = between(0.0, 10.0))]
    skew: f64,
    /// A host that takes so many times as long; can be given several times
    #[arg(long, value_name = "HOST=FACTORx", value_parser = slowdown)]
    slow: Vec<Slowdown>,
    /// A host that fails each request in a tenth of the service time, throughout or for this long; can be given several
    /// times
    #[arg(long, value_name = "HOST[=TIME]", value_parser = failing)]
    fail: Vec<Failing>,
    /// Decides on everything random
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// How the results are printed
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// Also draw the results, as an SVG file
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Lines for people
    Table,
    /// JSON, with every host
    Json,
}

pub(super) fn run(args: SimulateArg) -> Result<(), CliError> {
    let config = args.config.load()?;
    let pool = find_pool(&config, args.pool.as_deref())?;
    let (format, file) = (args.format, args.plot.clone());
    let scenario = Scenario::new(pool, settings(args)).map_err(usage_error)?;
    let report = simulate(&scenario).map_err(usage_error)?;
    if let Some(file) = file {
        let about = format!("{}; {}", view::about(&report), view::load(&report));
        fs::write(&file, plot(&report, &about))
            .map_err(|error| runtime_error(format!("cannot write {}: {error}", file.display())))?;
    }
    let mut terminal = Terminal::new();
    let shown = match format {
        Format::Json => {
            let json = serde_json::to_string(&report).map_err(runtime_error)?;
            terminal.write(&(json + "\n"))
        }
        Format::Table => terminal.print(&view::lines(&report)),
    };
    match shown {
        // The reader of the pipe, such as `head`, has closed it.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        shown => shown.map_err(runtime_error),
    }
}

/// The pool of this name, or the only one.
fn find_pool<'a>(config: &'a Config, name: Option<&str>) -> Result<&'a Pool, CliError> {
    let names = || Vec::from_iter(config.pools.iter().map(|pool| &*pool.name)).join(", ");
    match (name, &config.pools[..]) {
        (None, [pool]) => Ok(pool),
        (None, _) => Err(usage_error(format!(
            "the file has several pools; name one by --pool: {}",
            names()
        ))),
        (Some(name), pools) => {
            let found = pools.iter().find(|pool| pool.name == name);
            let unknown = || format!("the file has no pool `{name}`; it has {}", names());
            found.ok_or_else(|| usage_error(unknown()))
        }
    }
}

fn settings(args: SimulateArg) -> Settings {
    Settings {
        rate: args.rate,
        length: match args.duration {
            Some(time) => RunLength::Time(time),
            None => RunLength::Requests(args.requests),
        },
        warm_up: args.warm_up,
        service_time: args.service_time,
        service: args.service,
        concurrency: args.concurrency,
        keys: args.keys,
        skew: args.skew,
        slow: args.slow,
        failing: args.fail,
        seed: args.seed,
        algorithms: args.algorithm,
    }
}

/// Reads a number between two others, both included.
fn between(least: f64, most: f64) -> impl Fn(&str) -> Result<f64, String> + Clone {
    move |text| match text.parse::<f64>() {
        Ok(number) if (least..=most).contains(&number) => Ok(number),
        _ => Err(format!("expected a number from {least} to {most}")),
    }
}

fn positive_time(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(time) if !time.is_zero() => Ok(time),
        Ok(_) => Err("expected a time above 0".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

fn service_time(text: &str) -> Result<Duration, String> {
    match positive_time(text)? {
        time if time <= Duration::from_secs(60) => Ok(time),
        _ => Err("expected at most 1m".to_owned()),
    }
}

/// Reads `HOST=10x`; the `x` may be left out.
fn slowdown(text: &str) -> Result<Slowdown, String> {
    let (host, factor) = text
        .rsplit_once('=')
        .ok_or("expected HOST=FACTOR, as in `10.0.0.1:80=10x`")?;
    let factor = factor.strip_suffix('x').unwrap_or(factor);
    Ok(Slowdown {
        host: host.to_owned(),
        factor: between(0.01, 100.0)(factor)?,
    })
}

/// Reads `HOST` or `HOST=TIME`. The path of a Unix socket may contain `=`.
fn failing(text: &str) -> Result<Failing, String> {
    let parts = text.rsplit_once('=');
    let timed = parts.and_then(|(host, time)| Some((host, positive_time(time).ok()?)));
    let (host, time) = match timed {
        Some((host, time)) => (host, Some(time)),
        None => (text, None),
    };
    Ok(Failing {
        host: host.to_owned(),
        time,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_named_with_what_is_wrong_with_them() {
        let slow = |host: &str, factor| {
            let host = host.to_owned();
            Ok(Slowdown { host, factor })
        };
        assert_eq!(slowdown("10.0.0.1:80=10x"), slow("10.0.0.1:80", 10.0));
        assert_eq!(slowdown("unix:/a=b=2.5"), slow("unix:/a=b", 2.5));
        for wrong in [
            "10.0.0.1:80",
            "a=",
            "a=x",
            "a=0",
            "a=NaN",
            "a=-1x",
            "a=101x",
        ] {
            assert!(slowdown(wrong).is_err(), "{wrong}");
        }
        let fails = |host: &str, seconds: Option<u64>| {
            let host = host.to_owned();
            let time = seconds.map(Duration::from_secs);
            Ok(Failing { host, time })
        };
        assert_eq!(failing("a:80"), fails("a:80", None));
        assert_eq!(failing("a:80=5s"), fails("a:80", Some(5)));
        assert_eq!(failing("unix:/a=b"), fails("unix:/a=b", None));
    }
}
