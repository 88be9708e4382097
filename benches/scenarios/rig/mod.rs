//! What a scenario is made of: simulated hosts whose service times are drawn and whose faults are switched on and off,
//! and an open-loop load that keeps to its schedule however slow the answers are. The tests use it as well.

mod hosts;
mod load;
mod slow;
mod timer;

pub(crate) use hosts::{Hosts, Mode};
pub(crate) use load::{Plan, Record};
pub(crate) use slow::SlowClients;
