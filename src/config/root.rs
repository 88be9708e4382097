//! The whole file.

use std::sync::Arc;

use super::access_log::AccessLog;
use super::acme::{self, Acme};
use super::admin::Admin;
use super::client_certificates::CertificateMode;
use super::cluster::Cluster;
use super::compression::Compression;
use super::discovery::Discovery;
use super::document::Node;
use super::error_pages::{ErrorPages, error_pages};
use super::headers::Headers;
use super::hints::quote;
use super::include;
use super::limits::Limits;
use super::listener::{self, Listener};
use super::paths::Paths;
use super::pool::{Pool, Pools};
use super::route::{self, PoolRef, Route};
use super::schema::{Reader, choice, map_of, or_false, section};
use super::server::Server;
use super::timeouts::Timeouts;
use super::tracing::Tracing;
use super::trusted_proxy::{TrustedProxy, trusted_proxies};
use super::unix_address::differ_from_own_sockets;
use super::upgrades::upgrades;

section! {
    /// A whole configuration.
    pub struct Config {
        /// Further files, as a path or a list, relative to the directory of this one. Their names may have `*`, `?` and
        /// `[...]` in them, as in `conf.d/*.yaml`; such files are read in the order of their names, and there may be none.
        /// An included file has the same keys as this one but `include`. Sections are merged key by key, and lists are
        /// joined, those of included files first: this file can end `routes` with one for all other requests. Any other
        /// key may be in one file only, and so may a pool.
        include: Vec<String> { include::patterns(), default "[]" },
        /// The process itself.
        server: Server { map_of::<Server>(), default "{}" },
        /// The TCP listener for operators and monitoring: /healthz answers 200 while the process runs, /ready while it wants
        /// requests, /metrics is for Prometheus, and /api/v1 can be read. Without an address there is no such listener.
        admin: Admin { map_of::<Admin>(), default "{}" },
        /// A line for each request, once it has ended. Lines that cannot be written in time, because a pipe is not read or a
        /// disk is full, are lost and counted; no request waits for the log. SIGUSR1 opens the file again, for logrotate.
        access_log: Option<AccessLog> { map_of::<AccessLog>(), optional "" },
        /// The addresses that clients connect to.
        listeners: Vec<Listener> { listener::listeners(), default "[]", new_process },
        /// Certificates that are ordered from an authority by ACME (RFC 8555), such as Let's Encrypt, and renewed after two thirds
        /// of their life. They join the certificates of every listener with TLS, which may then have none of its own; those come
        /// first for the names in them. Until a certificate is there, handshakes for its name get what other names get, or are
        /// refused. After an error the next attempt is a minute later, then two, up to an hour, or when the authority says; a
        /// reload that changes this section tries again at once.
        acme: Option<Acme> { map_of::<Acme>(), optional "" },
        /// Networks or addresses of proxies in front of this one; `unix:` stands for all that connect to a Unix socket. What their requests say about the client in X-Forwarded-*
        /// and traceparent is passed on; from all others it is dropped, see headers.client_identity and
        /// tracing.trust_clients. Hosts always get X-Forwarded-For, -Proto, -Host and -Port, and X-Real-IP with the client's
        /// address. Of several schemes in X-Forwarded-Proto the first one counts.
        trusted_proxies: Vec<TrustedProxy> { trusted_proxies(), default "[]" },
        /// What it means if a client ends its sending side (FIN, or close_notify over TLS) before the response has ended. A
        /// reset always ends the request. `abort`: the client has left. Its place in the queue is given up, the connection to
        /// its host is closed, and the request is counted and logged as client_gone (499). Up to 16 KiB that the client has
        /// sent after the request are read to notice that. `serve`: the response still goes to clients that only stop
        /// sending, as `nc -N` does.
        half_close: HalfClose {
            choice(&[("abort", HalfClose::Abort), ("serve", HalfClose::Serve)]),
            default "abort"
        },
        /// Protocols that a connection of HTTP/1.1 may be upgraded to, in any case; the host gets them as they are written
        /// here. A request for another one is an ordinary request, whose Upgrade field the host does not see. Docker needs
        /// tcp, Kubernetes SPDY/3.1 for exec, attach and port-forward. h2c and others that carry requests are refused. `[]`:
        /// none. The end of one side's sending is passed on to the other, whatever half_close says. `websocket` is offered
        /// over HTTP/2 as well (extended CONNECT).
        upgrades: Vec<Arc<str>> { upgrades(), default "[websocket]" },
        /// Sources of hosts other than this file: DNS, files, etcd and Consul. An answer that fails, is empty or incomplete
        /// never removes a host; a complete one removes those that it leaves out, once at least half of those that it names
        /// are usable.
        discovery: Discovery { map_of::<Discovery>(), default "{}" },
        /// Several balancers that serve the same hosts and know of each other through etcd. What operators change in one of them
        /// (drains, weights, hosts, maintenance) holds in all; cookies and session tickets of one are known to all; one at a
        /// time orders certificates. Limits of requests and connections, and rates, are divided by the number of live members,
        /// and checks of hosts are that many times less frequent. Without etcd each member goes on with what it knew last, and
        /// changes are refused.
        cluster: Option<Cluster> { map_of::<Cluster>(), optional "", new_process },
        /// How long anything may take. Nothing waits without end.
        timeouts: Timeouts { map_of::<Timeouts>(), default "{}" },
        /// How much there may be of anything.
        limits: Limits { map_of::<Limits>(), default "{}" },
        /// What becomes of header fields on the way.
        headers: Headers { map_of::<Headers>(), default "{}" },
        /// How the paths of requests are read. Routes, and so pools, rates, access and retries, and `key: path` look at one
        /// normal form: encoded visible ASCII decoded once (but % / \ ; ? #), other octets encoded, `//` as `/`, dot segments
        /// followed, `;parameters` left out, `\` as `/`. Host names count without port, trailing dot and capitals. Hosts
        /// always get path and query as the client sent them, and so does `key: uri`; only `<`, `>`, backticks and, in a
        /// query, `"` are escaped.
        paths: Paths { map_of::<Paths>(), default "{}" },
        /// Whether responses of hosts are compressed for clients whose Accept-Encoding asks for it; `true`: with all defaults
        /// below. Never compressed are responses to HTTP/1.0, those of this proxy itself, of gRPC and without a body, and those
        /// that have `Cache-Control: no-transform` or a Content-Encoding, Content-Range or digest already. Compressed ones have
        /// no Content-Length and no Accept-Ranges, and their ETag is weak. Streams stay streams: what a host sends before a
        /// pause reaches the client at once. The length of a compressed page that holds a secret, and echoes what others can
        /// make a browser send, tells about the secret (BREACH): such a route needs `compression: false`.
        compression: Option<Compression> { or_false(map_of::<Compression>()), default "false" },
        /// Distributed traces by W3C Trace Context. With this section a request continues the trace that its traceparent
        /// names, or begins one; hosts get a traceparent of their own for each attempt. Without it traceparent and tracestate
        /// are passed on unchanged.
        tracing: Option<Tracing> { map_of::<Tracing>(), optional "" },
        /// Pages for responses of this proxy itself, by status or range of statuses from 400 to 599, as in
        /// `{ 502-504: { file: /etc/ballast/sorry.html }, 429: { body: "slow down, {request_id}" } }`: each has `body` or
        /// `file`, and `type`, as `respond` has. {message} in it says what is wrong. The first entry with the status counts.
        /// Responses of hosts and of `respond` stay as they are, and what is not HTTP gets plain text. Clients whose Accept
        /// prefers JSON get an object with `status`, `error` and `request_id` instead, unless the page is JSON.
        errors: ErrorPages { error_pages(), default "{}" },
        /// Which requests go to which pool. The first route that matches counts, so special ones go first. With a single pool
        /// all of this may be left out.
        routes: Vec<Route> { route::routes(), default "[]" },
        /// The hosts, in pools, whose names are yours.
        pools: Vec<Pool> { Pools, default "{}" },
        .. {
            /// The SHA-256 of the file, in hexadecimal. With included files it is that of the lines that `sha256sum`
            /// prints about all files in the directory of the main one.
            digest: String = String::new(),
        }
    }
    check parts_fit;
}

/// `half_close`: what the end of a client's sending side means before the response has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HalfClose {
    /// The client has left: its request ends.
    Abort,
    /// The client still reads: its request is served to the end.
    Serve,
}

fn parts_fit(config: &mut Config, root: &Node, reader: &mut Reader<'_>) {
    differ_from_own_sockets(config, root, reader);
    if let Some(address) = config.admin.address {
        let listeners = config.listeners.iter().enumerate();
        let problem = listeners.into_iter().find_map(|(index, listener)| {
            let listener = listener.address.as_inet()?;
            listener::conflict(address, listener, &format!("listeners[{index}]"))
        });
        if let (Some(problem), Some(admin)) = (problem, root.get("admin")) {
            reader.in_key("admin", |reader| {
                reader.problem_of_key(admin, "address", problem);
            });
        }
    }
    match config.pools.as_slice() {
        [only] if config.routes.is_empty() => {
            let name = only.name.clone();
            config
                .routes
                .push(Route::to_pool(PoolRef { name, index: 0 }));
        }
        _ => report_unreached(config, root, reader),
    }
    report_retries_without_budget(config, root, reader);
    report_subrequests_over_http2(config, root, reader);
    report_unasked_certificates(config, root, reader);
    report_prefixes_without_etcd(config, root, reader);
    acme::apply(config, root, reader);
}

/// Reports each route whose copies or questions would go to hosts of HTTP/2: requests of the proxy's own are HTTP/1.1.
fn report_subrequests_over_http2(config: &Config, root: &Node, reader: &mut Reader<'_>) {
    let elements = root.get("routes").map(Node::elements).unwrap_or_default();
    for (index, (route, element)) in config.routes.iter().zip(elements).enumerate() {
        let mirror = route.mirror.as_ref().map(|mirror| &mirror.pool);
        let subrequests = [
            ("mirror", "copies are sent", mirror),
            ("auth", "the service is asked", route.authentication.pool()),
        ];
        for (key, what, pool) in subrequests {
            let pool = pool.and_then(|pool| config.pools.get(pool.index));
            let Some(pool) = pool.filter(|pool| pool.protocol.may_be_http2()) else {
                continue;
            };
            let message = format!(
                "{what} over HTTP/1.1, and the hosts of the pool {} speak HTTP/2; name a pool with `protocol: http1`",
                quote(&pool.name)
            );
            reader.in_key("routes", |reader| {
                reader.in_element(index, |reader| {
                    reader.problem_of_key(element, key, message);
                });
            });
        }
    }
}

/// Reports each route that requires a client's certificate while no listener asks for one.
fn report_unasked_certificates(config: &Config, root: &Node, reader: &mut Reader<'_>) {
    let tls = config
        .listeners
        .iter()
        .filter_map(|listener| listener.tls.as_ref());
    if tls.into_iter().any(|tls| tls.client_certificates.is_some()) {
        return;
    }
    let elements = root.get("routes").map(Node::elements).unwrap_or_default();
    for (index, (route, element)) in config.routes.iter().zip(elements).enumerate() {
        if route.client_certificate == CertificateMode::Required {
            let message = "no listener has `tls: { client_certificates: { ca: FILE, mode: optional } }`, so no client \
                           could show a certificate";
            reader.in_key("routes", |reader| {
                reader.in_element(index, |reader| {
                    reader.problem_of_key(element, "client_certificate", message);
                });
            });
        }
    }
}

/// Reports each pool whose hosts are in etcd while it is not said where etcd is.
fn report_prefixes_without_etcd(config: &Config, root: &Node, reader: &mut Reader<'_>) {
    if config.discovery.etcd.is_some() {
        return;
    }
    let Some(pools) = root.get("pools") else {
        return;
    };
    for pool in config.pools.iter().filter(|pool| pool.etcd.is_some()) {
        let message = "it is not said where etcd is; set `discovery.etcd`, such as \
                       `discovery: { etcd: { endpoints: [\"http://127.0.0.1:2379\"] } }`";
        reader.in_key("pools", |reader| {
            reader.in_key(&pool.name, |reader| match pools.get(&pool.name) {
                Some(pool) => reader.problem_of_key(pool, "etcd", message),
                None => reader.problem(pools, message),
            });
        });
    }
}

/// Reports each route that asks for retries of requests to a pool without retries, and so without a budget for them.
fn report_retries_without_budget(config: &Config, root: &Node, reader: &mut Reader<'_>) {
    let elements = root.get("routes").map(Node::elements).unwrap_or_default();
    for (index, (route, element)) in config.routes.iter().zip(elements).enumerate() {
        let mut pools = route.action.pools();
        if matches!(route.retries, Some(Some(_)))
            && let Some(pool) = pools.find(|pool| {
                let pool = config.pools.get(pool.index);
                pool.is_some_and(|pool| pool.retries.is_none())
            })
        {
            let name = quote(&pool.name);
            let message = format!(
                "the pool {name} has `retries: none`, so there is no budget; give the pool retries and take them from \
                 the other routes with `retries: none`"
            );
            reader.in_key("routes", |reader| {
                reader.in_element(index, |reader| {
                    reader.problem_of_key(element, "retries", message);
                });
            });
        }
    }
}

/// Reports each pool that no route leads to.
fn report_unreached(config: &Config, root: &Node, reader: &mut Reader<'_>) {
    let Some(pools) = root.get("pools") else {
        return;
    };
    for pool in &config.pools {
        let mut used = config.routes.iter().flat_map(Route::pools);
        if !used.any(|used| used.name == pool.name) {
            let message = format!("no route leads to the pool {}", quote(&pool.name));
            reader.in_key("pools", |reader| {
                reader.problem_of_key(pools, &pool.name, message);
            });
        }
    }
}
