//! Two workers: they share connections evenly, and limits and balancing apply to both together.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crate::admin::with_admin;
use crate::metrics::scrape::Scrape;
use crate::support::{Backend, Ballast, Client, Reply, SOON, Setup, wait_for, wait_until};

const GET: &str = "GET / HTTP/1.1\r\nHost: test\r\n\r\n";

/// The largest share that the busier worker may have, in percent.
const MOST: usize = 60;

/// A process with two workers, and the address of its metrics.
struct TwoWorkers {
    ballast: Ballast,
    admin: SocketAddr,
}

impl TwoWorkers {
    #[track_caller]
    fn start(setup: Setup) -> Self {
        let (setup, admin) = with_admin(setup.top("server: { threads: 2 }"));
        let ballast = setup.start();
        let two = TwoWorkers { ballast, admin };
        wait_until(
            SOON,
            "the connection that tests the listener is closed",
            || two.connections() == [0, 0],
        );
        two
    }

    /// The number of client connections that each worker serves.
    fn connections(&self) -> [usize; 2] {
        let scrape = Scrape::of(self.admin);
        let count = |worker| scrape.sum("ballast_worker_connections", &[("worker", worker)]);
        ["0", "1"].map(|worker| count(worker) as usize)
    }

    /// Opens a connection. Returns it with the worker that serves it. No other connection may begin or end meanwhile.
    #[track_caller]
    fn connect(&self) -> (usize, Client) {
        let before = self.connections();
        let client = Client::connect(self.ballast.address());
        let worker = wait_for(SOON, "a worker has one more", || {
            let now = self.connections();
            (0..2).find(|worker| now[*worker] > before[*worker])
        });
        (worker, client)
    }

    /// Opens `count` connections. Returns them by worker.
    #[track_caller]
    fn connect_all(&self, count: usize) -> [Vec<Client>; 2] {
        let mut clients = [Vec::new(), Vec::new()];
        for _ in 0..count {
            let (worker, client) = self.connect();
            clients[worker].push(client);
        }
        clients
    }

    /// Connects until each worker has at least `count` of the connections. Those of a moment ago may still count where
    /// they were, so it may take more than two for each.
    fn connect_each(&self, count: usize) -> [Vec<Client>; 2] {
        let mut clients = [Vec::new(), Vec::new()];
        while clients.iter().any(|of_worker| of_worker.len() < count) {
            let (worker, client) = self.connect();
            clients[worker].push(client);
            assert!(clients.iter().all(|of_worker| of_worker.len() < 50));
        }
        clients
    }

    /// The value of `ballast_host_in_flight` for a host.
    fn in_flight(&self, backend: &Backend) -> f64 {
        let host = [("host", &*backend.address().to_string())];
        Scrape::of(self.admin).sum("ballast_host_in_flight", &host)
    }
}

/// Whether the larger of two parts is within the bound `MOST`.
fn is_even(parts: [usize; 2]) -> bool {
    let all = parts[0] + parts[1];
    parts.iter().all(|part| part * 100 <= all * MOST)
}

/// Sends a request. Returns the host that got it.
#[track_caller]
fn send(client: &mut Client, backends: [&Backend; 2]) -> usize {
    let before = backends.map(Backend::requests);
    client.send(GET).expect("sent");
    wait_for(SOON, "the request reaches a host", || {
        (0..2).find(|host| backends[*host].requests() > before[*host])
    })
}

/// Sends requests on all connections until `requests` of them have responses. Returns the number for each worker.
fn ask(clients: &mut [Vec<Client>; 2], requests: usize) -> [usize; 2] {
    let counts = [AtomicUsize::new(0), AtomicUsize::new(0)];
    let total = || -> usize {
        counts
            .iter()
            .map(|count| count.load(Ordering::Relaxed))
            .sum()
    };
    let loops = |client: &mut Client, count: &AtomicUsize| {
        while total() < requests {
            assert_eq!(client.get("/").status, 200);
            count.fetch_add(1, Ordering::Relaxed);
        }
    };
    thread::scope(|scope| {
        for (clients, count) in clients.iter_mut().zip(&counts) {
            for client in clients {
                scope.spawn(|| loops(client, count));
            }
        }
    });
    counts.map(AtomicUsize::into_inner)
}

#[test]
fn connections_and_requests_are_divided_evenly() {
    const CLIENTS: usize = 64;
    const REQUESTS: usize = 4_000;
    // During a round other processes may use one core and leave the other one alone.
    const ROUNDS: usize = 10;
    let backend = Backend::start_new("a");
    let two = TwoWorkers::start(Setup::of(&[&backend]));
    let mut clients = two.connect_all(CLIENTS);
    let connections = clients.each_ref().map(Vec::len);
    assert!(is_even(connections), "{connections:?}");
    let mut rounds = Vec::new();
    let is_even = (0..ROUNDS).any(|_| {
        let requests = ask(&mut clients, REQUESTS);
        rounds.push(requests);
        is_even(requests)
    });
    println!("connections {connections:?}, requests {rounds:?}");
    assert!(is_even, "{rounds:?}");
    assert_eq!(
        two.connections(),
        connections,
        "connections stay on their worker"
    );
}

#[test]
fn new_connections_go_to_the_worker_with_fewer() {
    let backend = Backend::start_new("a");
    let two = TwoWorkers::start(Setup::of(&[&backend]));
    let mut clients = two.connect_all(64);
    for worker in [1, 0] {
        let other = clients[1 - worker].len();
        clients[worker].clear();
        wait_until(SOON, "half of the connections are gone", || {
            let now = two.connections();
            (now[worker], now[1 - worker]) == (0, other)
        });
        let new = two.connect_all(other);
        assert_eq!(new[1 - worker].len(), 0, "worker {worker} had none");
        for (all, new) in clients.iter_mut().zip(new) {
            all.extend(new);
        }
        assert_eq!(two.connections(), [32, 32]);
    }
    assert_eq!(clients[0][31].get("/").status, 200);
    assert_eq!(clients[1][31].get("/").status, 200);
}

#[test]
fn a_host_that_hangs_on_one_worker_is_avoided_on_the_other() {
    for algorithm in ["least_load", "p2c"] {
        let (good, bad) = (Backend::start_new("good"), Backend::start_new("bad"));
        let setup = Setup::of(&[&good, &bad]).algorithm(algorithm);
        let two = TwoWorkers::start(setup.pool("ejection: none"));
        good.set(Reply::Hang);
        bad.set(Reply::Hang);
        let [mut first, mut second] = two.connect_all(18);
        // One connection of each worker sends its requests later.
        let mut asking = [first.remove(0), second.remove(0)];
        let mut held = [Vec::new(), Vec::new()];
        for mut client in first {
            let host = send(&mut client, [&good, &bad]);
            held[host].push(client);
        }
        assert_eq!(held.each_ref().map(Vec::len), [4, 4], "{algorithm}");
        good.set(Reply::ok());
        held[0].clear();
        wait_until(SOON, "the good host has none left", || {
            two.in_flight(&good) == 0.0
        });
        for (worker, client) in asking.iter_mut().enumerate() {
            for _ in 0..50 {
                let response = client.get("/");
                assert_eq!(response.backend(), "good", "{algorithm}, worker {worker}");
            }
        }
        assert_eq!(bad.requests(), 4, "{algorithm}");
    }
}

#[test]
fn max_in_flight_of_the_process_applies_to_both_workers_together() {
    let backend = Backend::start_new("a");
    let two = TwoWorkers::start(Setup::of(&[&backend]).top("limits: { max_in_flight: 4 }"));
    backend.set(Reply::Hang);
    let mut clients = two.connect_all(6);
    let mut asking = clients.each_mut().map(|clients| clients.remove(0));
    for client in clients.iter_mut().flatten() {
        send(client, [&backend, &backend]);
    }
    for client in &mut asking {
        assert_eq!(client.get("/").status, 503);
    }
    assert_eq!(backend.requests(), 4);
    backend.set(Reply::ok());
    for (worker, client) in asking.iter_mut().enumerate() {
        // A request on the other worker ends.
        clients[1 - worker].remove(0).abort();
        wait_until(SOON, "there is room for one", || {
            client.get("/").status == 200
        });
    }
}

#[test]
fn workers_share_host_limits_and_queues() {
    let backend = Backend::start_new("a");
    let limits = "limits: { max_in_flight: 1, queue: 1, queue_timeout: 20s }";
    let two = TwoWorkers::start(Setup::of(&[&backend]).pool(limits));
    for worker in [0, 1] {
        backend.set(Reply::Hang);
        let [mut own, mut others] = match (worker, two.connect_each(2)) {
            (0, clients) => clients,
            (_, [first, second]) => [second, first],
        };
        let mut held = own.remove(0);
        send(&mut held, [&backend, &backend]);
        backend.set(Reply::ok());
        let mut queued = others.remove(0);
        queued.send(GET).expect("sent");
        wait_until(SOON, "a request waits in the queue", || {
            Scrape::of(two.admin).sum("ballast_queue_length", &[]) == 1.0
        });
        for client in [&mut own[0], &mut others[0]] {
            assert_eq!(client.get("/").status, 503, "the queue is full");
        }
        held.abort();
        let response = queued.read_response(false).expect("a complete response");
        assert_eq!(
            response.status, 200,
            "the queued request is served when the other ends"
        );
        drop((own, others, queued));
        wait_until(SOON, "all connections are gone", || {
            two.connections() == [0, 0]
        });
    }
}

#[test]
fn workers_share_the_retry_budget() {
    let (bad, hanging) = (Backend::start_new("bad"), Backend::start_new("hanging"));
    let setup = Setup::of(&[&bad, &hanging]).pool("ejection: none");
    let two = TwoWorkers::start(setup.pool("retries: { budget: 0%, min: 1 }"));
    bad.set(Reply::status(503));
    hanging.set(Reply::Hang);
    let [mut first, mut second] = two.connect_all(8);
    // A request that fails at one host is retried at the other host, and takes the whole budget.
    let holds = first.iter_mut().any(|client| {
        let (failed, hung) = (bad.requests(), hanging.requests());
        client.send(GET).expect("sent");
        wait_until(SOON, "the request hangs", || hanging.requests() > hung);
        bad.requests() > failed
    });
    assert!(holds, "hosts take turns");
    for client in &mut second {
        if send(client, [&bad, &hanging]) == 0 {
            let response = client.read_response(false).expect("a complete response");
            assert_eq!((response.status, response.backend()), (503, "bad"));
        }
    }
    assert!(bad.requests() > 1, "hosts take turns");
    drop(first);
    wait_until(SOON, "the end of the retry allows another", || {
        let mut client = Client::connect(two.ballast.address());
        if send(&mut client, [&bad, &hanging]) == 1 {
            return false;
        }
        client.set_read_timeout(Duration::from_millis(200));
        client.read_response(false).is_err()
    });
}
