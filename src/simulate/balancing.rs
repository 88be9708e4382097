//! All contact with the library of algorithms: which there are, and a balancer on a clock that the simulation moves.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use super::scenario::Scenario;
use crate::config;
use ballast_balancer::{
    ALGORITHMS, Algorithm, AlgorithmInfo, Balancer, BalancerError, Clock, Host, HostId, Joining,
    Lease, Options, Outcome, Selection,
};

/// An algorithm, with the options of the file if it is the pool's, else with its defaults.
#[derive(Debug, Clone)]
pub(super) struct SimulatedAlgorithm {
    pub(super) name: &'static str,
    algorithm: Algorithm,
    /// Whether it is the pool's.
    pub(super) is_configured: bool,
}

/// The algorithms of these names, or all if there are none, in the order of the registry.
pub(super) fn algorithms(
    configured: &config::Algorithm,
    names: &[String],
) -> Result<Vec<SimulatedAlgorithm>, BalancerError> {
    let chosen = names.iter().map(|name| AlgorithmInfo::find(name));
    let chosen = chosen.collect::<Result<Vec<_>, _>>()?;
    let is_chosen = |info: &&AlgorithmInfo| {
        chosen.is_empty() || chosen.iter().any(|chosen| chosen.name == info.name)
    };
    let algorithms = ALGORITHMS.iter().filter(is_chosen).map(|info| {
        let is_configured = info.name == configured.info().name;
        SimulatedAlgorithm {
            name: info.name,
            algorithm: match is_configured {
                true => configured.typed.clone(),
                false => info.algorithm(),
            },
            is_configured,
        }
    });
    Ok(algorithms.collect())
}

/// The balancer of a simulated pool. Hosts are known by their positions in the scenario, times are nanoseconds.
#[derive(Debug)]
pub(super) struct SimulatedBalancer {
    /// Those that are not ejected.
    usable: Balancer,
    /// All of them, for the probes of ejected ones.
    all: Balancer,
    hosts: Vec<Arc<Host>>,
    positions: HashMap<HostId, usize>,
    clock: Clock,
    now: u64,
}

impl SimulatedBalancer {
    pub(super) fn new(
        algorithm: &SimulatedAlgorithm,
        scenario: &Scenario,
    ) -> Result<Self, BalancerError> {
        let hosts = scenario.hosts.iter().map(|simulated| {
            let host = Host::named(simulated.host.id.clone(), simulated.host.address.clone());
            let limit = simulated.host.max_in_flight.and_then(NonZeroU64::new);
            let host = host.with_weight(simulated.host.weight)?;
            Ok(Arc::new(host.with_max_in_flight(limit)))
        });
        let hosts = hosts.collect::<Result<Vec<_>, BalancerError>>()?;
        let positions = hosts.iter().map(|host| host.id().clone()).zip(0..);
        let clock = Clock::manual();
        let mut options = Options::new()
            .clock(clock.clone())
            .seed(scenario.settings.seed);
        if let Some(config::SlowStart { window, floor }) = scenario.slow_start {
            options = options.slow_start(window, f64::from(floor) / 100.0);
        }
        Ok(SimulatedBalancer {
            usable: Balancer::new(algorithm.algorithm.clone(), hosts.iter().cloned(), &options)?,
            all: Balancer::new(algorithm.algorithm.clone(), hosts.iter().cloned(), &options)?,
            positions: positions.collect(),
            hosts,
            clock,
            now: 0,
        })
    }

    /// Moves the clock, which never goes back.
    pub(super) fn advance(&mut self, to: u64) {
        let time = Duration::from_nanos(to.saturating_sub(self.now));
        self.clock.advance(time);
        self.now = self.now.max(to);
    }

    /// Picks a host for a request of a client, and counts the request on it; `None` if every host is full.
    pub(super) fn lease(&self, client: u32) -> Option<(usize, SimulatedLease)> {
        let address = address(client);
        let key = address.to_string();
        let request = Selection::new().client(address).key(key.as_bytes());
        let lease = self.usable.lease(&request).ok()?;
        let position = self.positions.get(lease.host().id())?;
        Some((*position, SimulatedLease(lease)))
    }

    /// Counts a request on a host that may be ejected; `None` if it is full.
    pub(super) fn probe(&self, host: usize) -> Option<SimulatedLease> {
        let lease = self.all.lease_of(self.hosts[host].id()).ok()?;
        Some(SimulatedLease(lease))
    }

    /// No request is sent to the host any more.
    pub(super) fn eject(&self, host: usize) {
        // It is a member: an ejected host is not ejected again before it has come back.
        let _ = self.usable.remove_host(self.hosts[host].id());
    }

    /// Requests are sent to the host again, slowly at first.
    pub(super) fn readmit(&self, host: usize) {
        let returning = Joining::from(Arc::clone(&self.hosts[host])).slow_start(Duration::ZERO);
        let others = self.usable.hosts().into_iter().map(Joining::from);
        // No host is there twice: this one has been ejected.
        let _ = self.usable.set_hosts(others.chain([returning]));
    }
}

/// One request counted on one host.
#[derive(Debug)]
pub(super) struct SimulatedLease(Lease);

impl SimulatedLease {
    /// The request has ended, `latency` nanoseconds after it was sent to the host.
    pub(super) fn finish(self, latency: u64, succeeded: bool) {
        let SimulatedLease(lease) = self;
        let latency = Duration::from_nanos(latency);
        lease.finish(match succeeded {
            true => Outcome::success(latency),
            false => Outcome::failure(latency),
        });
    }
}

/// The address of a client. Neighbouring numbers are far apart, so that a prefix of the address tells clients apart as well.
fn address(client: u32) -> IpAddr {
    // 2^32 divided by the golden ratio; it is odd, so no two clients share an address.
    const GOLDEN: u32 = 0x9E37_79B9;
    IpAddr::V4(Ipv4Addr::from(client.wrapping_mul(GOLDEN)))
}
