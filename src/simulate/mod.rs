//! A seeded discrete-event simulation of a pool: what clients and hosts would notice under each algorithm.
//!
//! Neither I/O nor threads nor the system's clock: a [`Scenario`] and its seed determine the [`Report`]. `traffic` draws
//! the requests, which are the same for every algorithm; `simulation` takes them from arrival to end; `balancing` alone
//! knows the library of algorithms, whose own code makes every choice.

mod balancing;
mod ejection;
mod event_queue;
mod gauge;
mod host_queue;
mod latencies;
mod plot;
mod report;
mod scenario;
mod simulation;
mod svg;
#[cfg(test)]
mod tests;
mod traffic;

pub(crate) use latencies::LatencyReport;
pub(crate) use plot::plot;
pub(crate) use report::{AlgorithmReport, HostReport, Report};
pub(crate) use scenario::{Failing, RunLength, Scenario, ScenarioError, Settings, Slowdown};
pub(crate) use traffic::ServiceDistribution;

/// Simulates the scenario with each of its algorithms, one after the other.
///
/// # Errors
/// [`ScenarioError::Balancer`] if an algorithm does not take the hosts.
pub(crate) fn simulate(scenario: &Scenario) -> Result<Report, ScenarioError> {
    let algorithms = scenario.algorithms.iter();
    let reports = algorithms.map(|algorithm| simulation::run(scenario, algorithm));
    Ok(Report::new(scenario, reports.collect::<Result<_, _>>()?))
}
