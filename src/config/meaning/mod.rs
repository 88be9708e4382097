//! From what is said to what is meant: one conversion, which takes every key of the mirror apart and reports every
//! problem it meets instead of stopping at the first.

mod algorithm;
mod health;
mod host;
mod listener;
mod pem;
mod pool;
mod route;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use ipnet::IpNet;

use super::errors::Problems;
use super::model::{Config, Limits, Server, Timeouts};
use super::place::Place;
use super::surroundings::{Names, Surroundings, resolve_all};
use super::words::{quote, time, time_or_zero, whole};
use super::yaml;

/// Far beyond any machine; more is a slip that would end in an abort when the threads are made.
const MOST_THREADS: usize = 1_024;

/// Converts a whole configuration, or tells everything that is wrong with it.
pub(super) fn config(
    said: yaml::Config,
    file: &Path,
    surroundings: &dyn Surroundings,
) -> Result<Config, Problems> {
    let yaml::Config {
        server,
        listeners,
        trusted_proxies,
        timeouts,
        limits,
        routes,
        pools,
    } = said;
    let top = Place::default();
    let mut noted = Problems::default();
    let problems = &mut noted;
    let world = World {
        directory: file.parent().unwrap_or(Path::new("")),
        names: resolve_all(pool::names(&pools), surroundings),
        surroundings,
    };
    let server = self::server(server, &top.key("server"), problems);
    let listeners = listener::listeners(listeners, &world, &top.key("listeners"), problems);
    let trusted_proxies = networks(trusted_proxies, &top.key("trusted_proxies"), problems);
    let timeouts = self::timeouts(timeouts, &top.key("timeouts"), problems);
    let limits = self::limits(limits, &top.key("limits"), problems);
    let names = Vec::from_iter(pools.0.iter().map(|(name, _)| name.clone()));
    let pools = pool::pools(pools, &world, &top.key("pools"), problems);
    let routes = route::routes(routes, &names, &top, problems);
    if noted.count() > 0 {
        return Err(noted);
    }
    Ok(Config {
        server,
        listeners,
        trusted_proxies,
        timeouts,
        limits,
        routes,
        pools,
    })
}

/// What the conversion knows beside the text.
struct World<'a> {
    /// Where the configuration file is.
    directory: &'a Path,
    names: Names,
    surroundings: &'a dyn Surroundings,
}

impl World<'_> {
    /// A file named in the configuration: relative paths start where the configuration is.
    fn path(&self, said: &str) -> PathBuf {
        self.directory.join(said)
    }
}

fn server(said: yaml::Server, place: &Place, problems: &mut Problems) -> Server {
    let yaml::Server {
        threads,
        grace_period,
    } = said;
    let threads = problems.value(&place.key("threads"), threads.0, 0, |text| {
        whole(text, 0..=MOST_THREADS)
    });
    let cores = || thread::available_parallelism().map_or(1, |cores| cores.get());
    Server {
        threads: if threads == 0 { cores() } else { threads },
        grace_period: problems.value(
            &place.key("grace_period"),
            grace_period.0,
            Duration::from_secs(30),
            time_or_zero,
        ),
    }
}

fn timeouts(said: yaml::Timeouts, place: &Place, problems: &mut Problems) -> Timeouts {
    let yaml::Timeouts {
        connect,
        read,
        write,
        idle,
        client_keepalive,
        tunnel,
    } = said;
    let mut seconds = |key, said: yaml::Said<String>, default| {
        let default = Duration::from_secs(default);
        problems.value(&place.key(key), said.0, default, time)
    };
    Timeouts {
        connect: seconds("connect", connect, 3),
        read: seconds("read", read, 60),
        write: seconds("write", write, 60),
        idle: seconds("idle", idle, 60),
        client_keepalive: seconds("client_keepalive", client_keepalive, 75),
        tunnel: seconds("tunnel", tunnel, 60 * 60),
    }
}

fn limits(said: yaml::Limits, place: &Place, problems: &mut Problems) -> Limits {
    let yaml::Limits { max_in_flight } = said;
    let most = problems.value(&place.key("max_in_flight"), max_in_flight.0, 0, |text| {
        whole(text, 0..=u64::MAX)
    });
    Limits {
        max_in_flight: (most > 0).then_some(most),
    }
}

fn networks(said: Vec<String>, place: &Place, problems: &mut Problems) -> Vec<IpNet> {
    let networks = said.into_iter().enumerate();
    networks
        .filter_map(|(index, text)| problems.take(&place.index(index), network(&text)))
        .collect()
}

fn network(text: &str) -> Result<IpNet, String> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(IpNet::from(address));
    }
    let network: IpNet = text.parse().map_err(|_| {
        format!(
            "{} is neither a network such as `10.0.0.0/8` nor an address",
            quote(text)
        )
    })?;
    if network.trunc() == network {
        Ok(network)
    } else {
        Err(format!(
            "{} has bits behind its prefix; did you mean `{}`?",
            quote(text),
            network.trunc()
        ))
    }
}
