//! A configuration in force as it could stand in a file, with every key said and every secret left out.

mod pool;
mod watching;

use serde_json::{Map, Value, json};

use super::access::Access;
use super::model::{
    Admin, Ambiguous, ClientIdentity, Config, HalfClose, Headers, HostMetrics, Http1, Limits,
    Listener, Paths, ProxyProtocol, Rate, RateKey, Retry, Route, Server, Timeouts, Underscores,
};
use super::words::shown;

impl Config {
    /// The configuration as a person would write it, in JSON: files of secrets by their names alone.
    pub fn told(&self) -> Value {
        let Config {
            digest: _,
            server,
            admin,
            access_log,
            tracing,
            listeners,
            trusted_proxies,
            half_close,
            upgrades,
            timeouts,
            limits,
            headers,
            paths,
            routes,
            pools,
        } = self;
        let routes = routes
            .iter()
            .map(|said| route(said, &pools[said.pool].name));
        let pools = pools
            .iter()
            .map(|said| (said.name.clone(), pool::pool(said)));
        json!({
            "server": self::server(server),
            "admin": self::admin(admin),
            "access_log": access_log.as_ref().map(watching::access_log),
            "tracing": tracing.as_ref().map(watching::tracing),
            "listeners": Vec::from_iter(listeners.iter().map(listener)),
            "trusted_proxies": texts(trusted_proxies),
            "half_close": match half_close {
                HalfClose::Abort => "abort",
                HalfClose::Serve => "serve",
            },
            "upgrades": texts(upgrades),
            "timeouts": self::timeouts(timeouts),
            "limits": self::limits(limits),
            "headers": self::headers(headers),
            "paths": self::paths(*paths),
            "routes": Vec::from_iter(routes),
            "pools": Map::from_iter(pools),
        })
    }
}

fn server(said: &Server) -> Value {
    let Server {
        threads,
        http1,
        grace_period,
        drain_delay,
        pid_file,
        control_socket,
        upgrade_socket,
    } = said;
    json!({
        "threads": threads,
        "http1": match http1 {
            Http1::Engine => "engine",
            Http1::Pingora => "pingora",
        },
        "grace_period": shown(*grace_period),
        "drain_delay": shown(*drain_delay),
        "pid_file": pid_file,
        "control_socket": control_socket,
        "upgrade_socket": upgrade_socket,
    })
}

fn admin(said: &Admin) -> Value {
    let Admin {
        address,
        token,
        hosts,
        ready_usable,
        host_metrics,
    } = said;
    let host_metrics = match host_metrics {
        HostMetrics::Auto => "auto",
        HostMetrics::Full => "full",
        HostMetrics::Brief => "brief",
    };
    json!({
        "address": address,
        "token_file": token.as_ref().map(|token| &token.file),
        "hosts": hosts,
        "ready": { "usable": ready_usable },
        "metrics": { "hosts": host_metrics },
    })
}

fn listener(said: &Listener) -> Value {
    let Listener {
        address,
        tls,
        access,
        proxy_protocol,
    } = said;
    let Access { allow, deny } = access;
    let tls = tls.as_ref().map(|tls| {
        let files = tls.certificates.iter();
        let files =
            files.map(|files| json!({ "certificate": files.chain_file, "key": files.key_file }));
        json!({ "certificates": Vec::from_iter(files) })
    });
    let announcers = proxy_protocol.as_ref().map(|proxies| {
        let ProxyProtocol { trusted } = proxies;
        json!({ "trusted": texts(trusted) })
    });
    json!({
        "address": address,
        "tls": tls,
        "allow": texts(allow),
        "deny": texts(deny),
        "proxy_protocol": announcers,
    })
}

fn timeouts(said: &Timeouts) -> Value {
    let Timeouts {
        connect,
        read,
        write,
        idle,
        client_head,
        client_keepalive,
        tunnel,
    } = *said;
    json!({
        "connect": shown(connect),
        "read": shown(read),
        "write": shown(write),
        "idle": shown(idle),
        "client_head": shown(client_head),
        "client_keepalive": shown(client_keepalive),
        "tunnel": shown(tunnel),
    })
}

fn limits(said: &Limits) -> Value {
    let Limits {
        max_in_flight,
        head,
        target,
        fields,
        body,
        max_connections,
        max_connections_per_client,
        max_requests_per_connection,
        min_body_rate,
        rate,
    } = said;
    json!({
        "max_in_flight": max_in_flight.unwrap_or(0),
        "head": head,
        "target": target,
        "fields": fields,
        "body": body.unwrap_or(0),
        "max_connections": max_connections.map_or_else(|| json!("auto"), |most| json!(most)),
        "max_connections_per_client": max_connections_per_client.unwrap_or(0),
        "max_requests_per_connection": max_requests_per_connection.unwrap_or(0),
        "min_body_rate": min_body_rate.unwrap_or(0),
        "rate": rate.as_ref().map(self::rate),
    })
}

fn rate(said: &Rate) -> Value {
    let Rate {
        requests,
        burst,
        key,
    } = said;
    let key = match key {
        RateKey::ClientIp => "client_ip".to_owned(),
        RateKey::Header(name) => format!("header:{name}"),
    };
    json!({ "requests": requests, "burst": burst, "key": key })
}

fn headers(said: &Headers) -> Value {
    let Headers {
        underscores,
        via,
        client_identity: ClientIdentity { drop, pass },
    } = said;
    let underscores = match underscores {
        Underscores::Drop => "drop",
        Underscores::Pass => "pass",
    };
    json!({
        "underscores": underscores,
        "via": via.as_deref().unwrap_or("none"),
        "client_identity": { "drop": texts(drop), "pass": texts(pass) },
    })
}

fn paths(said: Paths) -> Value {
    let Paths { ambiguous } = said;
    let ambiguous = match ambiguous {
        Ambiguous::Auto => "auto",
        Ambiguous::Reject => "reject",
        Ambiguous::Pass => "pass",
    };
    json!({ "ambiguous": ambiguous })
}

fn route(said: &Route, pool: &str) -> Value {
    let Route {
        host,
        path,
        pool: _,
        retry,
        access: Access { allow, deny },
        rate,
    } = said;
    let retry = match retry {
        Retry::Idempotent => "idempotent",
        Retry::AnyMethod => "any_method",
    };
    json!({
        "host": host,
        "path": path,
        "pool": pool,
        "retry": retry,
        "allow": texts(allow),
        "deny": texts(deny),
        "rate": rate.as_ref().map(self::rate),
    })
}

fn texts(said: &[impl ToString]) -> Vec<String> {
    said.iter().map(ToString::to_string).collect()
}
