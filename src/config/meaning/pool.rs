//! `pools`: hosts, the balancer that chooses among them, and its policies.

use std::collections::BTreeSet;

use rustls::pki_types::ServerName;

use super::super::errors::Problems;
use super::super::model::{HostHeader, Pool, PoolTls, WhenAllDown};
use super::super::place::Place;
use super::super::words::{choice, quote};
use super::super::yaml::{self, Entries, Form};
use super::{
    World, algorithm, ejection, health, host, pem, pool_limits, retries, slow_start, sticky,
};

/// Keeps the comparison of routes and pools within a blink.
const MOST_POOLS: usize = 4_096;

/// The host names that have to be resolved, lower case.
pub(super) fn names(said: &Entries<yaml::Pool>) -> BTreeSet<String> {
    let hosts = said.0.iter().flat_map(|(_, pool)| &pool.hosts);
    hosts.filter_map(host::name).collect()
}

pub(super) fn pools(
    said: Entries<yaml::Pool>,
    world: &World<'_>,
    place: &Place,
    problems: &mut Problems,
) -> Vec<Pool> {
    let Entries(said) = said;
    if said.is_empty() {
        problems.add(
            place,
            "there is no pool; requests need hosts to be sent to, such as `pools: { web: { hosts: [\"127.0.0.1:8081\"] } }`",
        );
    }
    if said.len() > MOST_POOLS {
        let count = said.len();
        problems.add(
            place,
            format!("there are {count} pools; at most {MOST_POOLS} are served"),
        );
        return Vec::new();
    }
    said.into_iter()
        .filter_map(|(name, said)| {
            let place = place.key(&name);
            problems.take(&place, proper_name(&name));
            pool(name, said, world, &place, problems)
        })
        .collect()
}

/// Names go into logs, labels and commands, so they are kept to what needs no quotes there.
fn proper_name(name: &str) -> Result<(), String> {
    let proper = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
    if !name.is_empty() && name.chars().all(proper) {
        return Ok(());
    }
    Err(format!(
        "{} is not a name of a pool: letters, digits, `_`, `-` and `.`",
        quote(name)
    ))
}

fn pool(
    name: String,
    said: yaml::Pool,
    world: &World<'_>,
    place: &Place,
    problems: &mut Problems,
) -> Option<Pool> {
    let yaml::Pool {
        algorithm,
        hosts,
        health_check,
        host_header,
        when_all_down,
        retries,
        sticky,
        tls,
        ejection,
        limits,
        slow_start,
    } = said;
    let algorithm = algorithm::algorithm(algorithm.0, &place.key("algorithm"), problems);
    let (limits, most) = pool_limits::limits(limits, &place.key("limits"), problems);
    let place_of_hosts = place.key("hosts");
    let hosts = host::hosts(hosts, &name, most, &world.names, &place_of_hosts, problems);
    let health_check = health::health_check(health_check.0, &place.key("health_check"), problems);
    let host_header = problems.value(
        &place.key("host_header"),
        host_header.0,
        HostHeader::Preserve,
        |text| {
            choice(
                text,
                &[
                    ("preserve", HostHeader::Preserve),
                    ("upstream", HostHeader::Upstream),
                ],
            )
        },
    );
    let when_all_down = problems.value(
        &place.key("when_all_down"),
        when_all_down.0,
        WhenAllDown::Error,
        |text| {
            choice(
                text,
                &[
                    ("error", WhenAllDown::Error),
                    ("try_all", WhenAllDown::TryAll),
                ],
            )
        },
    );
    let sticky = sticky::sticky(sticky.0, world, &place.key("sticky"), problems);
    let retries = retries::retries(retries.0, &place.key("retries"), problems);
    let tls = tls
        .0
        .and_then(|said| pool_tls(said, world, &place.key("tls"), problems));
    let ejection = ejection::ejection(ejection.0, &place.key("ejection"), problems);
    let slow_start = slow_start::slow_start(slow_start.0, &place.key("slow_start"), problems);
    Some(Pool {
        name,
        algorithm: algorithm?,
        hosts,
        removed: Vec::new(),
        health_check,
        host_header,
        when_all_down,
        retries,
        sticky,
        tls,
        ejection,
        limits,
        slow_start,
    })
}

fn pool_tls(
    said: Form<yaml::PoolTls>,
    world: &World<'_>,
    place: &Place,
    problems: &mut Problems,
) -> Option<PoolTls> {
    let said = match said {
        Form::Full(said) => said,
        Form::Short(text) => {
            let wanted = match text.as_str() {
                "true" => true,
                "false" => false,
                _ => {
                    let shown = quote(&text);
                    problems.add(
                        place,
                        format!("{shown} is neither `true` nor `false` nor a map"),
                    );
                    false
                }
            };
            if !wanted {
                return None;
            }
            yaml::PoolTls::default()
        }
    };
    let yaml::PoolTls {
        server_name,
        verify,
        ca,
    } = said;
    let ca = ca.0.and_then(|file| {
        let authorities = pem::authorities(&world.path(&file), world.surroundings);
        problems.take(&place.key("ca"), authorities)
    });
    Some(PoolTls {
        server_name: problems.optional(&place.key("server_name"), server_name.0, |text| {
            ServerName::try_from(text)
                .map(|_| text.to_owned())
                .map_err(|_| format!("{} is not a server name", quote(text)))
        }),
        verify: problems.value(&place.key("verify"), verify.0, true, |text| {
            choice(text, &[("true", true), ("false", false)])
        }),
        ca,
    })
}
