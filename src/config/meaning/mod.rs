//! From what is said to what is meant: one conversion, which takes every key of the mirror apart and reports every
//! problem it meets instead of stopping at the first.

mod access_log;
mod admin;
mod algorithm;
mod edge;
mod ejection;
mod headers;
mod health;
pub(super) mod host;
mod limits;
mod listener;
mod pem;
mod pool;
mod pool_limits;
mod retries;
mod route;
mod secret;
mod server;
mod slow_start;
mod sticky;
mod tracing;
mod upgrades;

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::errors::Problems;
use super::model::{Config, Timeouts};
use super::place::Place;
use super::surroundings::{Names, Surroundings, resolve_all};
use super::words::{quote, time};
use super::yaml::{self, Form};

/// Converts a whole configuration, or tells everything that is wrong with it.
pub(super) fn config(
    said: yaml::Config,
    file: &Path,
    surroundings: &dyn Surroundings,
) -> Result<Config, Problems> {
    let yaml::Config {
        server,
        admin,
        access_log,
        listeners,
        trusted_proxies,
        half_close,
        upgrades,
        timeouts,
        limits,
        headers,
        paths,
        tracing,
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
    let server = server::server(server, &world, &top.key("server"), problems);
    let listeners = listener::listeners(listeners, &world, &top.key("listeners"), problems);
    let admin = admin::admin(admin, &listeners, &world, &top.key("admin"), problems);
    let access_log = access_log::access_log(access_log.0, &world, &top.key("access_log"), problems);
    let trusted_proxies = edge::networks(trusted_proxies, &top.key("trusted_proxies"), problems);
    let half_close = edge::half_close(half_close.0, &top.key("half_close"), problems);
    let upgrades = upgrades::upgrades(upgrades.0, &top.key("upgrades"), problems);
    let timeouts = self::timeouts(timeouts, &top.key("timeouts"), problems);
    let limits = limits::limits(limits, &top.key("limits"), problems);
    let headers = headers::headers(headers, &top.key("headers"), problems);
    let paths = route::paths(paths, &top.key("paths"), problems);
    let tracing = tracing::tracing(tracing.0, &top.key("tracing"), problems);
    let names = Vec::from_iter(pools.0.iter().map(|(name, _)| name.clone()));
    let pools = pool::pools(pools, &world, &top.key("pools"), problems);
    let routes = route::routes(routes, &names, &top, problems);
    if noted.count() > 0 {
        return Err(noted);
    }
    Ok(Config {
        // Of the text, which is not known here.
        digest: String::new(),
        server,
        admin,
        access_log,
        listeners,
        trusted_proxies,
        half_close,
        upgrades,
        timeouts,
        limits,
        headers,
        paths,
        tracing,
        routes,
        pools,
    })
}

/// The map of a policy that `none` turns off; nothing said means all of its defaults.
fn unless_none<T: Default>(
    said: Option<Form<T>>,
    place: &Place,
    problems: &mut Problems,
) -> Option<T> {
    match said {
        None => Some(T::default()),
        Some(Form::Full(said)) => Some(said),
        Some(Form::Short(text)) => {
            if text != "none" {
                let message = format!("{} is neither `none` nor a map", quote(&text));
                problems.add(place, message);
            }
            None
        }
    }
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

fn timeouts(said: yaml::Timeouts, place: &Place, problems: &mut Problems) -> Timeouts {
    let yaml::Timeouts {
        connect,
        read,
        write,
        idle,
        client_head,
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
        client_head: seconds("client_head", client_head, 10),
        client_keepalive: seconds("client_keepalive", client_keepalive, 75),
        tunnel: seconds("tunnel", tunnel, 60 * 60),
    }
}
