//! The fault matrix: what may go wrong with hosts, clients and connections, one row each, and what clients notice.
//!
//! Each row checks the outcome for the client, the requests that each host got, and that the process returns to rest:
//! [`Subject::settle`].
//!
//! Row 29, memory, is in `connection_limits.rs`. Row 36, a panic, is in `tests/panic.rs`, which has a filter that can
//! panic.

mod client_faults;
mod connection_faults;
mod file_faults;
mod keys;
mod machine_faults;
mod mixed;
mod pool_faults;
mod response_faults;

use std::net::SocketAddr;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::rig::{Hosts, Mode};
use crate::support::{
    Backend, Ballast, Client, Reply, SOON, Setup, accepted_at, descriptors, wait_until,
};

const GET: &str = "GET / HTTP/1.1\r\nHost: test\r\n\r\n";

/// For rows whose hosts are meant to continue to fail.
const NO_EJECTION: &str = "ejection: none";

/// Ballast, and the resources that it holds at rest.
struct Subject {
    ballast: Ballast,
    descriptors: usize,
}

impl Subject {
    #[track_caller]
    fn start(setup: &Setup) -> Self {
        Subject::from_process(setup.start())
    }

    /// A process that has already been started and listens.
    #[track_caller]
    fn from_process(ballast: Ballast) -> Self {
        let address = ballast.address();
        // The last socket that it opens.
        wait_until(SOON, "the control socket exists", || {
            ballast.command(&["status"]).code == Some(0)
        });
        wait_until(
            SOON,
            "the connection that tests the listener is closed",
            || accepted_at(address) == 0,
        );
        Subject {
            descriptors: descriptors(ballast.pid()),
            ballast,
        }
    }

    fn address(&self) -> SocketAddr {
        self.ballast.address()
    }

    /// Waits until the process is at rest. Once clients and hosts have closed their connections, no descriptor is left,
    /// no host counts as busy, and no request counts as running, which would delay the end of the process.
    #[track_caller]
    fn settle(self, backends: &[&Backend]) {
        let close = || backends.iter().for_each(|backend| backend.close_idle());
        let hang = || backends.iter().for_each(|backend| backend.set(Reply::Hang));
        let requests = || backends.iter().map(|backend| backend.requests()).collect();
        close();
        self.wait_for_initial_descriptors();
        let setup = Setup::of(backends);
        self.assert_each_host_accepts_one(setup, hang, requests);
        backends.iter().for_each(|backend| backend.set(Reply::ok()));
        close();
        self.end();
    }

    /// The same with simulated hosts, all of which are up.
    #[track_caller]
    fn settle_simulated(self, hosts: Hosts) {
        let numbers = || 0..hosts.count();
        let hang = || numbers().for_each(|number| hosts.set(number, Mode::Slow(1e6)));
        let setup = hosts.addresses().fold(Setup::of(&[]), Setup::host);
        self.assert_each_host_accepts_one(setup, hang, || hosts.requests());
        numbers().for_each(|number| hosts.kill(number));
        self.wait_for_initial_descriptors();
        self.end();
    }

    #[track_caller]
    fn wait_for_initial_descriptors(&self) {
        let pid = self.ballast.pid();
        wait_until(SOON, "the number of descriptors is the initial one", || {
            descriptors(pid) <= self.descriptors
        });
    }

    /// If a host may get one request at a time, each host gets one.
    #[track_caller]
    fn assert_each_host_accepts_one(
        &self,
        setup: Setup,
        hang: impl FnOnce(),
        requests: impl Fn() -> Vec<u64>,
    ) {
        let limited = setup
            .pool("limits: { max_in_flight: 1, queue: 0 }")
            .pool(NO_EJECTION);
        if requests().is_empty() {
            return;
        }
        let outcome = self.ballast.reload_by_sighup(&limited.yaml());
        assert!(outcome.contains("reloaded in place"), "{outcome}");
        hang();
        let before = requests();
        let mut waiting = Vec::new();
        wait_until(SOON, "every host has room for a request", || {
            let mut client = Client::connect(self.address());
            client.send(GET).expect("sent");
            // All hosts are busy, or one has just become busy.
            client.set_read_timeout(Duration::from_millis(100));
            if client.read_response(false).is_err() {
                waiting.push(client);
            }
            let all = requests();
            all.iter().zip(&before).all(|(now, before)| now > before)
        });
        waiting.into_iter().for_each(Client::abort);
    }

    #[track_caller]
    fn end(mut self) {
        self.ballast.signal(Signal::SIGTERM);
        // The grace period for running requests is 30 s.
        let exit = self.ballast.wait_exit(SOON);
        assert_eq!(exit.code(), Some(0));
        let panics = self.ballast.log_with(&["panicked"]);
        assert!(panics.is_empty(), "{panics:?}");
    }
}
