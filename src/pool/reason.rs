//! Why a host is in its state, in words for a person.

use std::time::Duration;

use super::facts::{Facts, State};
use super::{Member, Pool, Verdict};
use crate::config;

impl Pool {
    /// The percentage of its share that a host gets which starts slowly.
    pub(super) fn share(&self, member: &Member) -> Option<f64> {
        let config::SlowStart { window, floor } = self.slow_start?;
        let mut tiers = self.tiers.iter();
        let elapsed = tiers.find_map(|balancer| balancer.ramping(member.host().id()))?;
        let part = (elapsed.as_secs_f64() / window.as_secs_f64()).min(1.0);
        let floor = f64::from(floor);
        Some(floor + (100.0 - floor) * part)
    }

    /// One line. `serving`: whether new requests may go there now, which for a host that is not usable takes a reason
    /// of its own.
    pub(super) fn reason(
        &self,
        member: &Member,
        facts: &Facts,
        ejected_for: Option<Duration>,
        share: Option<f64>,
        serving: bool,
    ) -> String {
        let mut reason = self.reason_of_state(member, facts, ejected_for, share, serving);
        if serving {
            reason.push_str(match facts.state {
                State::Up | State::Starting | State::Removed => "",
                State::Draining => "; serving as last resort: no other host is usable",
                State::Ejected | State::Probing | State::Down | State::Unchecked => {
                    "; gets requests because no host is usable (when_all_down: try_all)"
                }
            });
        }
        reason
    }

    fn reason_of_state(
        &self,
        member: &Member,
        facts: &Facts,
        ejected_for: Option<Duration>,
        share: Option<f64>,
        serving: bool,
    ) -> String {
        let ejection = || facts.ejection.as_deref().unwrap_or("requests failed");
        match facts.state {
            State::Up => match share {
                Some(share) => format!("starting slowly: {share:.0} % of its share"),
                None => self.why_up(member, serving),
            },
            State::Starting => "starting slowly".to_owned(),
            State::Draining if member.is_drained() => "drained by an operator".to_owned(),
            State::Draining if member.file_weight() == Some(0) => {
                "weight 0 in the configuration".to_owned()
            }
            State::Draining => "weight 0 by an operator".to_owned(),
            State::Ejected => {
                let left = ejected_for.unwrap_or_default().as_secs_f64().ceil();
                format!("ejected: {}; {left} s left", ejection())
            }
            State::Probing => format!(
                "ejected: {}; one request may prove that it is well",
                ejection()
            ),
            State::Down => why_down(facts, member.verdict()),
            State::Unchecked => "no check has finished yet".to_owned(),
            State::Removed => "removed by an operator".to_owned(),
        }
    }

    fn why_up(&self, member: &Member, serving: bool) -> String {
        let checks = match (&self.health_check, member.verdict()) {
            (None, _) => "no checks are configured",
            (Some(_), None) => "counts as up before its first check",
            (Some(_), Some(_)) => "checks pass",
        };
        match member.is_backup() && !serving {
            true => format!("{checks}; a backup while another host is usable"),
            false => checks.to_owned(),
        }
    }
}

fn why_down(facts: &Facts, verdict: Option<Verdict>) -> String {
    let fault = facts.fault.as_deref().unwrap_or("not known any more");
    let good = verdict.map_or(0, |verdict| verdict.against);
    match (facts.failed, good) {
        (0, good) if good > 0 => {
            format!("checks passed again: {good}, not enough yet; before: {fault}")
        }
        (0 | 1, _) => format!("check failed: {fault}"),
        (times, _) => format!("check failed {times} times: {fault}"),
    }
}
