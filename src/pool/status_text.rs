//! The reason for a host's state, as text for people.

use std::time::Duration;

use super::host_status::{HostState, StatusDetails};
use super::{HealthVerdict, Member, Pool};
use crate::config;

impl Pool {
    /// The percentage of its share that a host in slow start gets; `None` if it is not in slow start.
    pub(super) fn share(&self, member: &Member) -> Option<f64> {
        let config::SlowStart { window, floor } = self.slow_start?;
        let mut tiers = self.tiers.iter();
        let elapsed = tiers.find_map(|balancer| balancer.slow_start_elapsed(member.host().id()))?;
        let part = (elapsed.as_secs_f64() / window.as_secs_f64()).min(1.0);
        let floor = f64::from(floor);
        Some(floor + (100.0 - floor) * part)
    }

    /// One line. `serving` says whether new requests may go to the host now; if it serves without being usable, the
    /// line says why.
    pub(super) fn status_text(
        &self,
        member: &Member,
        status_details: &StatusDetails,
        ejected_for: Option<Duration>,
        share: Option<f64>,
        serving: bool,
    ) -> String {
        let mut reason = self.state_text(member, status_details, ejected_for, share, serving);
        if serving {
            reason.push_str(match status_details.state {
                HostState::Up | HostState::Starting | HostState::Removed => "",
                HostState::Draining => "; serving as last resort: no other host is usable",
                HostState::Ejected
                | HostState::Probing
                | HostState::Down
                | HostState::Unchecked => {
                    "; gets requests because no host is usable (when_all_down: try_all)"
                }
            });
        }
        if member.origin().is_leaving {
            reason.push_str("; its source does not name it any more");
        }
        reason
    }

    fn state_text(
        &self,
        member: &Member,
        status_details: &StatusDetails,
        ejected_for: Option<Duration>,
        share: Option<f64>,
        serving: bool,
    ) -> String {
        let ejection = || {
            status_details
                .ejection
                .as_deref()
                .unwrap_or("requests failed")
        };
        match status_details.state {
            HostState::Up => match share {
                Some(share) => format!("slow start: {share:.0} % of its share"),
                None => self.up_text(member, serving),
            },
            HostState::Starting => "slow start".to_owned(),
            HostState::Draining if member.is_drained() => "drained by an operator".to_owned(),
            HostState::Draining if member.file_weight() == Some(0) => {
                "weight 0 in the configuration".to_owned()
            }
            HostState::Draining => "weight 0 by an operator".to_owned(),
            HostState::Ejected => {
                let left = ejected_for.unwrap_or_default().as_secs_f64().ceil();
                format!("ejected: {}; {left} s left", ejection())
            }
            HostState::Probing => format!("ejected: {}; the next request probes it", ejection()),
            HostState::Down => down_text(status_details, member.verdict()),
            HostState::Unchecked => "no check has finished yet".to_owned(),
            HostState::Removed => "removed by an operator".to_owned(),
        }
    }

    fn up_text(&self, member: &Member, serving: bool) -> String {
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

fn down_text(status_details: &StatusDetails, verdict: Option<HealthVerdict>) -> String {
    let fault = status_details.fault.as_deref().unwrap_or("unknown");
    let good = verdict.map_or(0, |verdict| verdict.against);
    match (status_details.failed, good) {
        (0, good) if good > 0 => {
            format!("checks passed again: {good}, not enough yet; before: {fault}")
        }
        (0 | 1, _) => format!("check failed: {fault}"),
        (times, _) => format!("check failed {times} times: {fault}"),
    }
}
