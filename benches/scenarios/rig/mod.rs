//! The parts of a scenario: simulated hosts with random service times and faults that can be switched on and off, and
//! an open-loop load that keeps to its schedule however slow the responses are. The tests use it as well.

mod hosts;
mod load;
mod slow;
mod timer;

pub(crate) use hosts::{Hosts, Mode};
pub(crate) use load::{Plan, Record};
pub(crate) use slow::SlowClients;
