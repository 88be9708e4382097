//! The fault matrix: what may go wrong with hosts, clients and connections, one row each, and what clients notice of it.
//!
//! The oracle of every row is the outcome for the client, what each host got, and that the process comes back to rest:
//! [`Subject::settle`].

mod answers;
mod clients;
mod connections;
mod keys;
mod pools;

use std::net::SocketAddr;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::support::{Backend, Ballast, SOON, Setup, accepted_at, descriptors, wait_until};

const GET: &str = "GET / HTTP/1.1\r\nHost: test\r\n\r\n";

/// For rows whose hosts are meant to go on failing.
const NO_EJECTION: &str = "ejection: none";

/// Ballast, and what it holds at rest.
struct Subject {
    ballast: Ballast,
    descriptors: usize,
}

impl Subject {
    #[track_caller]
    fn start(setup: &Setup) -> Self {
        let ballast = setup.start();
        let address = ballast.address();
        wait_until(SOON, "the look whether it listens is over", || {
            accepted_at(address) == 0
        });
        Subject {
            descriptors: descriptors(ballast.pid()),
            ballast,
        }
    }

    fn address(&self) -> SocketAddr {
        self.ballast.address()
    }

    /// Everything that has ended is over: once clients and hosts have closed their connections, no descriptor is left,
    /// and no request counts as running, for which the end of the process would wait.
    #[track_caller]
    fn settle(mut self, backends: &[&Backend]) {
        for backend in backends {
            backend.close_idle();
        }
        let pid = self.ballast.pid();
        wait_until(SOON, "the descriptors are those of the begin", || {
            descriptors(pid) <= self.descriptors
        });
        self.ballast.signal(Signal::SIGTERM);
        // The grace period for what runs is 30 s.
        let exit = self.ballast.wait_exit(Duration::from_secs(8));
        assert_eq!(exit.code(), Some(0));
        let panics = self.ballast.log_with(&["panicked"]);
        assert!(panics.is_empty(), "{panics:?}");
    }
}
