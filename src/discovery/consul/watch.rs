//! Follows one service.

use tokio::time::{Instant, sleep, sleep_until};

use super::client::{ConsulClient, Health};
use super::instance::hosts;
use super::schedule::Schedule;
use crate::config::ConsulService;
use crate::discovery::answer::Answer;

/// Instances that cannot be hosts and are named in a message.
const MAX_NAMED: usize = 3;

/// Reports the instances of a service until it is cancelled.
pub(in crate::discovery) async fn watch(
    service: &ConsulService,
    client: &ConsulClient,
    report: &(dyn Fn(Answer) + Sync),
) {
    let mut schedule = Schedule::default();
    loop {
        let began = Instant::now();
        match client.health(service, schedule.index()).await {
            Ok(health) => {
                let (index, doubt) = (health.index, health.doubt.clone());
                let is_doubtful = doubt.is_some();
                report(answer(service, health, doubt));
                if !is_doubtful {
                    sleep_until(began + schedule.answered(index)).await;
                    continue;
                }
            }
            Err(reason) => report(Answer::Failed(reason)),
        }
        sleep(schedule.failed(rand::random())).await;
    }
}

/// The hosts of an answer. `doubt` says why it may be old or lack instances.
fn answer(service: &ConsulService, health: Health, doubt: Option<String>) -> Answer {
    let (hosts, wrong) = hosts(service, health.instances);
    let mut reasons = Vec::from_iter(doubt);
    reasons.extend(wrong.iter().take(MAX_NAMED).cloned());
    if wrong.len() > MAX_NAMED {
        reasons.push(format!("and {} more", wrong.len() - MAX_NAMED));
    }
    match reasons.is_empty() {
        true => Answer::Complete { hosts, ttl: None },
        false => Answer::Partial {
            hosts,
            reason: reasons.join("; "),
            ttl: None,
        },
    }
}
