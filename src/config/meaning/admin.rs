//! `admin`: what is told about the process over TCP, and to whom.

use super::super::errors::Problems;
use super::super::model::{Admin, HostMetrics, Listener, Secret};
use super::super::place::Place;
use super::super::words::{choice, quote, whole};
use super::super::yaml;
use super::{World, host, listener, secret};

pub(super) fn admin(
    said: yaml::Admin,
    listeners: &[Listener],
    world: &World<'_>,
    place: &Place,
    problems: &mut Problems,
) -> Admin {
    let yaml::Admin {
        address,
        token_file,
        hosts,
        ready,
        metrics,
    } = said;
    let at = place.key("address");
    let address = problems.optional(&at, address.0, listener::address);
    let taken = listeners
        .iter()
        .position(|listener| Some(listener.address) == address);
    if let Some(index) = taken {
        problems.add(
            &at,
            format!("this is the address of listeners[{index}] already"),
        );
    }
    let token = problems.optional(&place.key("token_file"), token_file.0, |file| {
        token(file, world)
    });
    let at = place.key("hosts");
    let hosts = hosts.into_iter().enumerate();
    let hosts = hosts.filter_map(|(index, name)| problems.take(&at.index(index), named(&name)));
    let hosts = hosts.collect();
    let yaml::Metrics { hosts: detail } = metrics;
    let at_detail = place.key("metrics").key("hosts");
    let host_metrics = problems.value(&at_detail, detail.0, HostMetrics::Auto, |text| {
        choice(
            text,
            &[
                ("auto", HostMetrics::Auto),
                ("full", HostMetrics::Full),
                ("brief", HostMetrics::Brief),
            ],
        )
    });
    let yaml::Ready { usable } = ready;
    let at = place.key("ready").key("usable");
    Admin {
        address,
        token,
        hosts,
        host_metrics,
        ready_usable: problems.value(&at, usable.0, 0, |text| whole(text, 0..=usize::MAX)),
    }
}

/// Reads a token that can stand in a header field.
fn token(file: &str, world: &World<'_>) -> Result<Secret, String> {
    let token = secret::private_secret(&world.path(file), world.surroundings)?;
    match token.bytes.iter().all(u8::is_ascii_graphic) {
        true => Ok(token),
        false => Err(format!(
            "`{}` holds more than the letters, digits and signs of one word",
            token.file.display()
        )),
    }
}

/// Reads a name that the admin listener is asked by, without port.
fn named(text: &str) -> Result<String, String> {
    match host::is_name(text) {
        true => Ok(text.to_lowercase()),
        false => Err(format!(
            "{} is not a host name without port; IP addresses need not be listed",
            quote(text)
        )),
    }
}
