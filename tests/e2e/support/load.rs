//! Steady load: a few clients that send requests until stopped, and the outcome of their requests.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::client::Client;
use super::wait::{SOON, wait_until};

/// The outcome of the requests.
#[derive(Debug, Default)]
pub(crate) struct LoadResult {
    pub(crate) by_status: BTreeMap<u16, u64>,
    pub(crate) by_backend: BTreeMap<String, u64>,
    /// Why requests got no response.
    pub(crate) errors: Vec<String>,
}

impl LoadResult {
    pub(crate) fn total(&self) -> u64 {
        self.by_status.values().sum::<u64>() + self.errors.len() as u64
    }

    pub(crate) fn of(&self, backend: &str) -> u64 {
        self.by_backend.get(backend).copied().unwrap_or_default()
    }

    /// Panics unless there were requests and every one got a 200.
    #[track_caller]
    pub(crate) fn assert_all_ok(&self, what: &str) {
        let ok = self.by_status.get(&200).copied().unwrap_or_default();
        assert!(
            ok > 0 && ok == self.total(),
            "{what}: {ok} of {} requests succeeded; by status {:?}, first errors {:?}",
            self.total(),
            self.by_status,
            &self.errors[..self.errors.len().min(5)]
        );
        println!("{what}: {ok} requests, none failed");
    }

    fn add(&mut self, other: LoadResult) {
        for (status, count) in other.by_status {
            *self.by_status.entry(status).or_default() += count;
        }
        for (backend, count) in other.by_backend {
            *self.by_backend.entry(backend).or_default() += count;
        }
        self.errors.extend(other.errors);
    }
}

/// Whether a client keeps its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Connections {
    Kept,
    OnePerRequest,
}

/// Running clients.
#[derive(Debug)]
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    clients: Vec<JoinHandle<LoadResult>>,
}

impl Load {
    /// Starts `clients` threads that send GETs to `address`, each over its own connection and from its own source
    /// address, so that a pool that hashes addresses sees different clients. With a new connection for each request,
    /// each of the next 250 requests has its own address: whichever hosts a hash assigns to a few clients, these reach
    /// all.
    pub(crate) fn start(address: SocketAddr, clients: usize, connections: Connections) -> Self {
        Load::start_paced(address, clients, connections, Duration::ZERO)
    }

    /// The same, with a pause after each response.
    pub(crate) fn start_paced(
        address: SocketAddr,
        clients: usize,
        connections: Connections,
        pause: Duration,
    ) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let done = Arc::new(AtomicU64::new(0));
        let clients = (0..clients)
            .map(|number| {
                let (stop, done) = (stop.clone(), done.clone());
                std::thread::spawn(move || ask(address, number, connections, pause, &stop, &done))
            })
            .collect();
        Load {
            stop,
            done,
            clients,
        }
    }

    /// Requests that have got a response or failed so far.
    pub(crate) fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// Waits until this many more requests have got a response or failed.
    #[track_caller]
    pub(crate) fn wait_for_more(&self, requests: u64) {
        let before = self.done();
        wait_until(4 * SOON, "more requests are done", || {
            self.done() >= before + requests
        });
    }

    /// Lets every request end, then returns the outcome of all.
    pub(crate) fn stop(self) -> LoadResult {
        self.stop.store(true, Ordering::Relaxed);
        let mut tally = LoadResult::default();
        for client in self.clients {
            tally.add(client.join().expect("a client does not panic"));
        }
        tally
    }
}

fn ask(
    address: SocketAddr,
    number: usize,
    connections: Connections,
    pause: Duration,
    stop: &AtomicBool,
    done: &AtomicU64,
) -> LoadResult {
    let source = |request: u32| {
        let address = match connections {
            Connections::Kept => Ipv4Addr::new(127, 0, 1, number as u8 + 1),
            Connections::OnePerRequest => {
                Ipv4Addr::new(127, 0, 100 + number as u8, (request % 250) as u8 + 1)
            }
        };
        address.into()
    };
    let mut tally = LoadResult::default();
    let mut kept: Option<Client> = None;
    let mut request: u32 = 0;
    while !stop.load(Ordering::Relaxed) {
        let outcome = kept
            .take()
            .map_or_else(|| Client::from_ip(source(request), address), Ok)
            .and_then(|mut client| {
                // Distinct paths, so that a hashing pool spreads the requests too.
                let response = client.request(format!(
                    "GET /{number}/{request} HTTP/1.1\r\nHost: test\r\n\r\n"
                ))?;
                Ok((client, response))
            });
        request += 1;
        match outcome {
            Ok((client, response)) => {
                *tally.by_status.entry(response.status).or_default() += 1;
                *tally
                    .by_backend
                    .entry(response.backend().to_owned())
                    .or_default() += 1;
                let ends = response.head.has_token("connection", "close");
                kept = (connections == Connections::Kept && !ends).then_some(client);
            }
            Err(error) => tally.errors.push(error.to_string()),
        }
        done.fetch_add(1, Ordering::Relaxed);
        if !pause.is_zero() {
            std::thread::sleep(pause);
        }
    }
    tally
}
