//! Follows one service.

use tokio::time::{Instant, sleep_until};

use super::client::{ConsulClient, Health};
use super::instance::hosts;
use super::schedule::Schedule;
use crate::config::ConsulService;
use crate::discovery::answer::{Answer, Others};

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
        let next = match client.health(service, schedule.index()).await {
            Ok(health) => {
                let next = match health.doubt {
                    None => began + schedule.answered(health.index),
                    Some(_) => Instant::now() + schedule.failed(rand::random()),
                };
                report(answer(service, health));
                next
            }
            Err(reason) => {
                report(Answer::Failed(reason));
                Instant::now() + schedule.failed(rand::random())
            }
        };
        sleep_until(next).await;
    }
}

fn answer(service: &ConsulService, health: Health) -> Answer {
    let (hosts, wrong) = hosts(service, health.instances);
    let mut reasons = Vec::from_iter(health.doubt);
    reasons.extend(wrong.iter().take(MAX_NAMED).cloned());
    if wrong.len() > MAX_NAMED {
        reasons.push(format!("and {} more", wrong.len() - MAX_NAMED));
    }
    match reasons.is_empty() {
        true => Answer::Complete { hosts, ttl: None },
        false => Answer::Partial {
            hosts,
            others: Others::Any,
            reason: reasons.join("; "),
            ttl: None,
        },
    }
}
