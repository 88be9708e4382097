//! An agent of Consul, with as much of its health API as the tests need: blocking queries by index and time, tags, tokens,
//! and a leader that may be lost. It fails on demand.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::backend::Backend;
use super::reply::{Next, Reply};
use super::wait::{SOON, wait_until};
use super::wire::{Head, Wire};

/// How long Consul holds a query back that does not say so.
const DEFAULT_WAIT: Duration = Duration::from_secs(300);

/// An instance of a service.
#[derive(Debug, Clone)]
pub(crate) struct ConsulInstance {
    /// Its address, as it has registered it; empty: that of its node, 127.0.0.1.
    pub(crate) address: String,
    pub(crate) port: u16,
    pub(crate) tags: Vec<&'static str>,
    /// The status of its check.
    pub(crate) status: &'static str,
    pub(crate) passing_weight: u32,
}

impl ConsulInstance {
    pub(crate) fn at(address: SocketAddr) -> Self {
        ConsulInstance {
            address: address.ip().to_string(),
            port: address.port(),
            tags: Vec::new(),
            status: "passing",
            passing_weight: 1,
        }
    }

    fn json(&self, number: usize) -> Value {
        json!({
            "Node": { "ID": "", "Node": "node-1", "Address": "127.0.0.1", "Datacenter": "dc1" },
            "Service": {
                "ID": format!("web-{number}"),
                "Service": "web",
                "Address": self.address,
                "Port": self.port,
                "Tags": if self.tags.is_empty() { Value::Null } else { json!(self.tags) },
                "Meta": null,
                "Weights": { "Passing": self.passing_weight, "Warning": 1 },
            },
            "Checks": [
                { "CheckID": "serfHealth", "Status": "passing" },
                { "CheckID": "service:web", "Status": self.status },
            ],
        })
    }
}

/// What it does instead of answering.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ConsulFault {
    Status500,
    /// Nothing.
    Hang,
    /// 200 with a page.
    Garbage,
    /// The beginning of an answer.
    Truncated,
    /// What the token may not read is left out.
    Filtered,
}

/// The agent.
pub(crate) struct ConsulServer {
    backend: Backend,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    services: BTreeMap<String, (u64, Vec<ConsulInstance>)>,
    index: u64,
    /// How often the index went back, which ends the queries that wait.
    restores: u64,
    fault: Option<ConsulFault>,
    token: Option<&'static str>,
    has_lost_leader: bool,
    is_stopping: bool,
    queries: Vec<String>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }
}

impl ConsulServer {
    pub(crate) fn start() -> Self {
        ConsulServer::with(Backend::start_new("consul"))
    }

    /// The same with TLS.
    pub(crate) fn start_tls(config: Arc<rustls::ServerConfig>) -> Self {
        ConsulServer::with(Backend::start_tls("consul", config))
    }

    fn with(backend: Backend) -> Self {
        let shared = Arc::new(Shared::default());
        shared.lock().index = 10;
        let server = ConsulServer {
            backend,
            shared: Arc::clone(&shared),
        };
        let reply = Reply::script(move |head, wire| serve(&shared, head, wire));
        server.backend.set(reply);
        server
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.backend.address()
    }

    /// The instances of a service from now on.
    pub(crate) fn set(&self, service: &str, instances: Vec<ConsulInstance>) {
        self.shared.change(|state| {
            state.index += 1;
            let entry = (state.index, instances);
            state.services.insert(service.to_owned(), entry);
        });
    }

    /// Fails from now on, queries that wait included; `None`: no more.
    pub(crate) fn fail(&self, fault: Option<ConsulFault>) {
        self.shared.change(|state| state.fault = fault);
    }

    /// The same instances at a lower index, as after a snapshot was restored.
    pub(crate) fn restore(&self) {
        self.shared.change(|state| {
            state.index = 1;
            state.restores += 1;
            for (index, _) in state.services.values_mut() {
                *index = 1;
            }
        });
    }

    /// Answers only with this token from now on.
    pub(crate) fn require_token(&self, token: &'static str) {
        self.shared.change(|state| state.token = Some(token));
    }

    /// Whether there is a leader from now on.
    pub(crate) fn set_leader(&self, has_leader: bool) {
        self.shared.change(|state| {
            state.has_lost_leader = !has_leader;
            // What waits is answered.
            state.restores += 1;
        });
    }

    /// The targets of the queries so far.
    pub(crate) fn queries(&self) -> Vec<String> {
        self.shared.lock().queries.clone()
    }

    /// Waits for as many more queries.
    #[track_caller]
    pub(crate) fn wait_for_queries(&self, more: usize) {
        let before = self.queries().len();
        wait_until(SOON, "further queries", || {
            self.queries().len() >= before + more
        });
    }

    /// Resets its connections, and refuses further ones.
    pub(crate) fn stop(&self) {
        self.shared.change(|state| state.is_stopping = true);
        self.backend.stop();
    }
}

impl Drop for ConsulServer {
    fn drop(&mut self) {
        // The queries that wait end before the backend does.
        self.shared.change(|state| state.is_stopping = true);
    }
}

fn serve(shared: &Shared, head: &Head, wire: &mut Wire) -> io::Result<Next> {
    let target = head.word(1).to_owned();
    let query = Query::of(&target);
    let mut state = shared.lock();
    state.queries.push(target.clone());
    if let Some(token) = state.token
        && head.get("x-consul-token") != Some(token)
    {
        drop(state);
        return error(
            wire,
            403,
            "Permission denied: anonymous token lacks permission 'service:read'",
        );
    }
    let deadline = Instant::now() + query.wait;
    let restores = state.restores;
    loop {
        if state.is_stopping {
            return Ok(Next::Close);
        }
        let index = state.index_of(&query.service);
        let is_due = match query.index {
            None | Some(0) => true,
            Some(asked) => index > asked || state.restores != restores,
        };
        let is_hanging = state.fault == Some(ConsulFault::Hang);
        let is_failing = state.fault.is_some() && !is_hanging;
        let left = deadline.saturating_duration_since(Instant::now());
        if !is_hanging && (is_due || is_failing || left.is_zero()) {
            break;
        }
        let pause = if is_hanging { SOON } else { left };
        let waited = shared.changed.wait_timeout(state, pause);
        state = waited.unwrap_or_else(PoisonError::into_inner).0;
    }
    let fault = state.fault;
    let has_lost_leader = state.has_lost_leader;
    let index = state.index_of(&query.service);
    let instances = state.matching(&query);
    drop(state);
    match fault {
        Some(ConsulFault::Status500) => return error(wire, 500, "rpc error: injected"),
        Some(ConsulFault::Garbage) => {
            wire.send("HTTP/1.1 200 OK\r\nX-Consul-Index: 99\r\nContent-Length: 6\r\n\r\n<html>")?;
            return Ok(Next::Keep);
        }
        Some(ConsulFault::Truncated) => {
            wire.send("HTTP/1.1 200 OK\r\nX-Consul-Index: 99\r\nContent-Length: 99\r\n\r\n[")?;
            return Ok(Next::Close);
        }
        Some(ConsulFault::Filtered | ConsulFault::Hang) | None => {}
    }
    if has_lost_leader && !query.is_stale {
        return error(wire, 500, "No cluster leader");
    }
    let (filtered, instances) = match fault {
        Some(ConsulFault::Filtered) => {
            let field = "X-Consul-Results-Filtered-By-ACLs: true\r\n";
            (field, Vec::new())
        }
        _ => ("", instances),
    };
    let body = Value::from(instances).to_string();
    wire.send(format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-Consul-Index: {index}\r\n\
         X-Consul-KnownLeader: {}\r\nX-Consul-LastContact: 0\r\n{filtered}Content-Length: {}\r\n\r\n{body}",
        !has_lost_leader,
        body.len()
    ))?;
    Ok(Next::Keep)
}

fn error(wire: &mut Wire, status: u16, text: &str) -> io::Result<Next> {
    let length = text.len();
    wire.send(format!(
        "HTTP/1.1 {status} Error\r\nContent-Length: {length}\r\n\r\n{text}"
    ))?;
    Ok(Next::Keep)
}

impl State {
    fn index_of(&self, service: &str) -> u64 {
        self.services
            .get(service)
            .map_or(1, |(index, _)| (*index).max(1))
    }

    fn matching(&self, query: &Query) -> Vec<Value> {
        let instances = self.services.get(&query.service).into_iter();
        let instances = instances.flat_map(|(_, instances)| instances.iter().enumerate());
        let matching = instances.filter(|(_, instance)| {
            let has_tag = |tag: &String| instance.tags.contains(&tag.as_str());
            query.tag.as_ref().is_none_or(has_tag)
                && (!query.is_passing || instance.status == "passing")
        });
        let json = matching.map(|(number, instance)| instance.json(number));
        json.collect()
    }
}

/// What a query asks for.
struct Query {
    service: String,
    tag: Option<String>,
    is_passing: bool,
    is_stale: bool,
    index: Option<u64>,
    wait: Duration,
}

impl Query {
    fn of(target: &str) -> Self {
        let (path, parameters) = target.split_once('?').unwrap_or((target, ""));
        let service = path.strip_prefix("/v1/health/service/");
        let mut query = Query {
            service: service.expect("the path of the health API").to_owned(),
            tag: None,
            is_passing: false,
            is_stale: false,
            index: None,
            wait: DEFAULT_WAIT,
        };
        for parameter in parameters.split('&') {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            match name {
                "tag" => query.tag = Some(value.to_owned()),
                "passing" => query.is_passing = true,
                "stale" => query.is_stale = true,
                "index" => query.index = Some(value.parse().expect("an index")),
                "wait" => {
                    let milliseconds = value.strip_suffix("ms").expect("milliseconds");
                    query.wait = Duration::from_millis(milliseconds.parse().expect("a number"));
                }
                "" | "dc" => {}
                other => panic!("no parameter of the health API: {other}"),
            }
        }
        query
    }
}
