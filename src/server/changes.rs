//! What differs between two configurations, in words, and whether a running process can take it in.

use std::collections::HashMap;
use std::fmt::Debug;
use std::net::SocketAddr;

use crate::balancer::HostId;
use crate::config::{self, Config, Host, Listener, Pool};

/// What differs between two configurations.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Changes {
    /// One line for each change that a running process can take in.
    pub(super) in_place: Vec<String>,
    /// One line for each that only another process can.
    pub(super) in_new_process: Vec<String>,
}

impl Changes {
    pub(super) fn between(old: &Config, new: &Config) -> Self {
        let mut changes = Changes::default();
        changes.server(old, new);
        changes.listeners(&old.listeners, &new.listeners);
        changes.pools(old, new);
        let named = |config: &Config| -> Vec<_> {
            let routes = config.routes.iter();
            routes
                .map(|route| {
                    let pool = config.pools[route.pool].name.clone();
                    let said = config::Route {
                        pool: 0,
                        ..route.clone()
                    };
                    (said, pool)
                })
                .collect()
        };
        changes.section("routes", &named(old), &named(new));
        changes.section(
            "trusted_proxies",
            &old.trusted_proxies,
            &new.trusted_proxies,
        );
        changes.section("half_close", &old.half_close, &new.half_close);
        changes.section("upgrades", &old.upgrades, &new.upgrades);
        changes.section("timeouts", &old.timeouts, &new.timeouts);
        changes.section("limits", &old.limits, &new.limits);
        changes.section("headers", &old.headers, &new.headers);
        changes.section("paths", &old.paths, &new.paths);
        changes.section("access_log", &old.access_log, &new.access_log);
        changes.section("tracing", &old.tracing, &new.tracing);
        changes
    }

    /// All lines, those for another process first.
    pub(super) fn into_lines(mut self) -> Vec<String> {
        self.in_new_process.append(&mut self.in_place);
        self.in_new_process
    }

    fn server(&mut self, old: &Config, new: &Config) {
        let (before, now) = (&old.server, &new.server);
        let times = [
            ("grace_period", before.grace_period, now.grace_period),
            ("drain_delay", before.drain_delay, now.drain_delay),
        ];
        for (key, before, now) in times {
            if before != now {
                let line = format!("server.{key} changed from {before:?} to {now:?}");
                self.in_place.push(line);
            }
        }
        self.section("server.http1", &before.http1, &now.http1);
        if before.threads != now.threads {
            let (before, now) = (before.threads, now.threads);
            self.in_new_process
                .push(format!("server.threads changed from {before} to {now}"));
        }
        let paths = [
            ("pid_file", &before.pid_file, &now.pid_file),
            (
                "control_socket",
                &before.control_socket,
                &now.control_socket,
            ),
            (
                "upgrade_socket",
                &before.upgrade_socket,
                &now.upgrade_socket,
            ),
        ];
        for (key, before, now) in paths {
            if before != now {
                self.in_new_process.push(format!("server.{key} changed"));
            }
        }
        if old.admin.address != new.admin.address {
            let shown = |address: Option<SocketAddr>| {
                address.map_or("nothing".to_owned(), |address| address.to_string())
            };
            let (before, now) = (shown(old.admin.address), shown(new.admin.address));
            self.in_new_process
                .push(format!("admin.address changed from {before} to {now}"));
        }
        let config::Admin {
            address: _,
            token,
            hosts,
            ready_usable,
            host_metrics,
        } = &new.admin;
        self.section("admin.token_file", &old.admin.token, token);
        self.section("admin.hosts", &old.admin.hosts, hosts);
        self.section("admin.ready", &old.admin.ready_usable, ready_usable);
        self.section("admin.metrics", &old.admin.host_metrics, host_metrics);
    }

    fn listeners(&mut self, old: &[Listener], new: &[Listener]) {
        let mut lines = Vec::new();
        for Listener {
            address,
            tls,
            access,
            proxy_protocol,
        } in new
        {
            if at(old, *address).is_some_and(|before| before.access != *access) {
                self.in_place
                    .push(format!("listener {address}: allow and deny changed"));
            }
            if at(old, *address).is_some_and(|before| before.proxy_protocol != *proxy_protocol) {
                self.in_place
                    .push(format!("listener {address}: proxy_protocol changed"));
            }
            match at(old, *address) {
                None => lines.push(format!("{address} added")),
                Some(before) if before.tls.is_some() != tls.is_some() => {
                    let now = if tls.is_some() { "with" } else { "without" };
                    lines.push(format!("{address} {now} TLS"));
                }
                Some(before) => {
                    if let (Some(before), Some(tls)) = (&before.tls, tls) {
                        if before.http2 != tls.http2 {
                            let now = if tls.http2 { "with" } else { "without" };
                            lines.push(format!("{address} {now} HTTP/2"));
                        }
                        if before.certificates != tls.certificates {
                            self.in_place
                                .push(format!("listener {address}: certificates changed"));
                        }
                    }
                }
            }
        }
        for Listener { address, .. } in old {
            if at(new, *address).is_none() {
                lines.push(format!("{address} removed"));
            }
        }
        if !lines.is_empty() {
            let lines = lines.join(", ");
            self.in_new_process
                .push(format!("listeners changed ({lines})"));
        }
    }

    fn pools(&mut self, old: &Config, new: &Config) {
        for pool in &new.pools {
            match named(old, &pool.name) {
                None => self.in_place.push(format!(
                    "pool {} added, hosts: {}",
                    pool.name,
                    pool.hosts.len()
                )),
                Some(before) => self.pool(before, pool),
            }
        }
        for Pool { name, .. } in &old.pools {
            if named(new, name).is_none() {
                self.in_place.push(format!("pool {name} removed"));
            }
        }
    }

    fn pool(&mut self, old: &Pool, new: &Pool) {
        let Pool {
            name,
            algorithm,
            hosts,
            // Files are compared here, and only an operator removes a host of a file.
            removed: _,
            health_check,
            host_header,
            when_all_down,
            retries,
            sticky,
            tls,
            ejection,
            limits,
            slow_start,
        } = new;
        if old.algorithm != *algorithm {
            let (before, now) = (old.algorithm.info.name, algorithm.info.name);
            self.in_place.push(if before == now {
                format!("pool {name}: options of the algorithm changed")
            } else {
                format!("pool {name}: algorithm changed from {before} to {now}")
            });
        }
        self.hosts(name, &old.hosts, hosts);
        let key = |key: &str| format!("pool {name}: {key}");
        self.section(&key("health_check"), &old.health_check, health_check);
        self.section(&key("host_header"), &old.host_header, host_header);
        self.section(&key("when_all_down"), &old.when_all_down, when_all_down);
        self.section(&key("retries"), &old.retries, retries);
        self.section(&key("sticky"), &old.sticky, sticky);
        self.section(&key("tls"), &old.tls, tls);
        self.section(&key("ejection"), &old.ejection, ejection);
        self.section(&key("limits"), &old.limits, limits);
        self.section(&key("slow_start"), &old.slow_start, slow_start);
    }

    fn hosts(&mut self, pool: &str, old: &[Host], new: &[Host]) {
        let (before, now) = (by_id(old), by_id(new));
        let lines = &mut self.in_place;
        for Host {
            id,
            name: _,
            label,
            address,
            weight,
            file_weight: _,
            backup,
            max_in_flight,
        } in new
        {
            let Some(before) = before.get(id) else {
                lines.push(format!("pool {pool}: host {id} added"));
                continue;
            };
            if before.address != *address {
                let before = before.address;
                lines.push(format!(
                    "pool {pool}: host {id} is at {address} now, was at {before}"
                ));
            }
            if before.label != *label {
                lines.push(format!("pool {pool}: name of host {id} changed"));
            }
            if before.weight != *weight {
                let before = before.weight;
                lines.push(format!(
                    "pool {pool}: weight of host {id} changed from {before} to {weight}"
                ));
            }
            if before.backup != *backup {
                let now = if *backup { "a" } else { "no" };
                lines.push(format!("pool {pool}: host {id} is {now} backup now"));
            }
            if before.max_in_flight != *max_in_flight {
                lines.push(format!("pool {pool}: max_in_flight of host {id} changed"));
            }
        }
        for Host { id, .. } in old {
            if !now.contains_key(id) {
                lines.push(format!("pool {pool}: host {id} removed"));
            }
        }
        let stayed = old.iter().filter(|host| now.contains_key(&host.id));
        let were = new.iter().filter(|host| before.contains_key(&host.id));
        if !stayed.map(|host| &host.id).eq(were.map(|host| &host.id)) {
            lines.push(format!("pool {pool}: order of the hosts changed"));
        }
    }

    fn section<T: PartialEq + Debug>(&mut self, name: &str, old: &T, new: &T) {
        if old != new {
            self.in_place.push(format!("{name} changed"));
        }
    }
}

fn at(listeners: &[Listener], address: SocketAddr) -> Option<&Listener> {
    listeners
        .iter()
        .find(|listener| listener.address == address)
}

fn by_id(hosts: &[Host]) -> HashMap<&HostId, &Host> {
    hosts.iter().map(|host| (&host.id, host)).collect()
}

fn named<'a>(config: &'a Config, name: &str) -> Option<&'a Pool> {
    config.pools.iter().find(|pool| pool.name == name)
}

#[cfg(test)]
mod tests;
