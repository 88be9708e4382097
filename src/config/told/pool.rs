//! A pool in force.

use serde_json::{Map, Value, json};

use super::super::model::{
    Algorithm, HealthCheck, Host, HostHeader, Initial, Pool, PoolTls, Probe, Retries, SameSite,
    Secure, Sticky, WhenAllDown,
};
use super::super::policies::{Ejection, Failures, PoolLimits, SlowStart};
use super::super::words::shown;

pub(super) fn pool(said: &Pool) -> Value {
    let Pool {
        name: _,
        algorithm,
        hosts,
        // What an operator has removed is not in force.
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
    } = said;
    let PoolLimits {
        queue,
        queue_timeout,
    } = limits;
    json!({
        "algorithm": self::algorithm(algorithm),
        "hosts": Vec::from_iter(hosts.iter().map(host)),
        "health_check": or_none(health_check.as_ref().map(self::health_check)),
        "host_header": match host_header {
            HostHeader::Preserve => "preserve",
            HostHeader::Upstream => "upstream",
        },
        "when_all_down": match when_all_down {
            WhenAllDown::Error => "error",
            WhenAllDown::TryAll => "try_all",
        },
        "retries": or_none(retries.as_ref().map(self::retries)),
        "sticky": or_none(sticky.as_ref().map(self::sticky)),
        "tls": tls.as_ref().map_or_else(|| json!(false), self::tls),
        "ejection": or_none(ejection.as_ref().map(self::ejection)),
        "limits": { "queue": queue, "queue_timeout": shown(*queue_timeout) },
        "slow_start": or_none(slow_start.map(|SlowStart { window, floor }| {
            json!({ "window": shown(window), "floor": percent(floor) })
        })),
    })
}

fn algorithm(said: &Algorithm) -> Value {
    let Algorithm { info, options, key } = said;
    let options = options.names().map(|name| {
        let text = options.text(name).unwrap_or_default();
        (name.to_owned(), json!(text))
    });
    let mut told = Map::from_iter(options);
    told.insert("name".to_owned(), json!(info.name));
    if info.keyed {
        told.insert("key".to_owned(), json!(key.to_string()));
    }
    Value::Object(told)
}

fn host(said: &Host) -> Value {
    let Host {
        id,
        name: _,
        label,
        address: _,
        weight,
        file_weight: _,
        backup,
        max_in_flight,
    } = said;
    let mut told = json!({
        "address": id.as_str(),
        "weight": weight,
        "backup": backup,
        "max_in_flight": max_in_flight.unwrap_or(0),
    });
    if let Some(label) = label {
        told["name"] = json!(label);
    }
    told
}

fn health_check(said: &HealthCheck) -> Value {
    let HealthCheck {
        probe,
        interval,
        timeout,
        rise,
        fall,
        initial,
    } = said;
    let initial = match initial {
        Initial::Unknown => "unknown",
        Initial::Up => "up",
    };
    let mut told = json!({
        "type": "tcp",
        "interval": shown(*interval),
        "timeout": shown(*timeout),
        "rise": rise,
        "fall": fall,
        "initial": initial,
    });
    if let Probe::Http {
        method,
        path,
        host,
        expect,
    } = probe
    {
        told["type"] = json!("http");
        told["method"] = json!(method.as_str());
        told["path"] = json!(path.as_str());
        told["host"] = json!(host);
        told["expect"] = ranges(expect);
    }
    told
}

fn retries(said: &Retries) -> Value {
    let Retries {
        attempts,
        statuses,
        budget,
        min,
        deadline,
    } = said;
    json!({
        "attempts": attempts,
        "statuses": ranges(statuses),
        "budget": percent(*budget),
        "min": min,
        "deadline": shown(*deadline),
    })
}

fn sticky(said: &Sticky) -> Value {
    let Sticky {
        cookie,
        ttl,
        secure,
        http_only,
        same_site,
        secret,
    } = said;
    json!({
        "cookie": cookie,
        "ttl": shown(*ttl),
        "secure": match secure {
            Secure::Auto => json!("auto"),
            Secure::Always => json!(true),
            Secure::Never => json!(false),
        },
        "http_only": http_only,
        "same_site": match same_site {
            SameSite::Strict => "strict",
            SameSite::Lax => "lax",
            SameSite::None => "none",
        },
        "secret_file": secret.as_ref().map(|secret| &secret.file),
    })
}

fn tls(said: &PoolTls) -> Value {
    let PoolTls {
        server_name,
        verify,
        ca,
    } = said;
    json!({
        "server_name": server_name,
        "verify": verify,
        "ca": ca.as_ref().map(|authorities| &authorities.file),
    })
}

fn ejection(said: &Ejection) -> Value {
    let Ejection {
        failures,
        consecutive,
        rate,
        window,
        min_requests,
        base,
        max,
        max_ejected,
    } = said;
    json!({
        "failures": self::failures(failures),
        "consecutive": consecutive.unwrap_or(0),
        "rate": percent(rate.unwrap_or(0)),
        "window": shown(*window),
        "min_requests": min_requests,
        "base": shown(*base),
        "max": shown(*max),
        "max_ejected": percent(*max_ejected),
    })
}

fn failures(said: &Failures) -> Value {
    let Failures {
        connect,
        timeout,
        reset,
        malformed,
        ref statuses,
    } = *said;
    let named = [
        (connect, "connect"),
        (timeout, "timeout"),
        (reset, "reset"),
        (malformed, "malformed"),
    ];
    let named = named.into_iter().filter(|(counts, _)| *counts);
    let mut told = Vec::from_iter(named.map(|(_, name)| json!(name)));
    if let Value::Array(statuses) = ranges(statuses) {
        told.extend(statuses);
    }
    Value::Array(told)
}

/// Statuses, both ends of a range included.
fn ranges(said: &[(u16, u16)]) -> Value {
    let told = said.iter().map(|(from, to)| match from == to {
        true => json!(from),
        false => json!(format!("{from}-{to}")),
    });
    told.collect()
}

fn percent(part: u32) -> String {
    format!("{part}%")
}

/// What a policy is turned off with.
fn or_none(told: Option<Value>) -> Value {
    told.unwrap_or_else(|| json!("none"))
}
