//! Least time: the host that will respond first, by its latency and its queue.
//!
//! **How.** Each host is expected to take latency × ((requests in flight + recent failures) ÷ share of slow start + E) ÷
//! weight, and the least wins. The latency is the host's mean of the last seconds (successes only), within a tenth and ten
//! times that of all hosts; a host without a sample is taken for average. E is an exponentially distributed number of mean 1
//! that is drawn for each host and pick, at most 2: it stands for the request itself, and makes idle hosts get requests in
//! proportion to weight ÷ latency instead of sending all to the one that is ahead by a microsecond. Up to 64 hosts are
//! compared; in larger pools the 64 neighbours of a host drawn by weight.
//!
//! **Cost.** Linear in the number of hosts up to 64, then constant.
//!
//! **Bound.** No host starves: whatever its latency, an idle host is picked with a probability of at least a hundredth of its
//! share by weight among idle hosts, so one that has recovered is noticed. (nginx's and Traefik's least time send nothing to a
//! host that was slow once, until the others are busy.) In the limit of long queues, requests go to hosts in proportion to
//! their speed.
//!
//! **When.** Hosts of different speed, such as different machines or regions. **When not.** Latency says little about the
//! host, because requests differ in cost: [`least_load`](super::least_load).

use std::sync::Arc;

use crate::core::{
    AliasTable, Before, CandidateReason, Hashed, Hosts, Info, LoadModel, Member, Pick, Picker,
    Ranked, Rng, Strategy, Trace, bits_at, exponential,
};

/// The hosts that are compared.
const COMPARED: usize = 64;

/// How much a host's latency may differ from that of all hosts: an old measurement must not exclude a host for long.
const MAX_RATIO: f64 = 10.0;

/// The algorithm `least_time`. It has no options.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct LeastTime {}

impl LeastTime {
    pub(crate) const INFO: Info = Info {
        name: "least_time",
        summary: "the host that will respond first, by its latency and its queue",
        hashes: Hashed::Nothing,
        options: &[],
    };
}

impl Strategy for LeastTime {
    fn build(&self, members: &[Arc<Member>], _: Option<&Before<'_>>) -> Box<dyn Picker> {
        Box::new(LeastTimePicker(AliasTable::new(members)))
    }
}

/// Draws the neighbours.
#[derive(Debug)]
struct LeastTimePicker(AliasTable);

impl Picker for LeastTimePicker {
    fn pick(&self, hosts: &Hosts<'_>, rng: &Rng<'_>, trace: Trace<'_>) -> Option<Pick> {
        let neighbours = match hosts.len() {
            0..=COMPARED => 0..hosts.len(),
            n => {
                let first = self.0.at(rng.bits()) / COMPARED * COMPARED;
                first..(first + COMPARED).min(n)
            }
        };
        let bits = rng.bits();
        let near = self.first(neighbours, hosts, bits, trace);
        let position = near.or_else(|| self.first(0..hosts.len(), hosts, bits, trace));
        position.map(Pick::at)
    }

    fn rank(&self, hosts: &Hosts<'_>, _: u64, _: Option<usize>) -> Vec<Ranked> {
        let model = hosts.load_model();
        let ranked = (0..hosts.len()).map(|position| {
            let time = time(hosts.member(position), hosts, model, 1.0);
            Ranked::new(position, Some(time), CandidateReason::Loaded)
        });
        let mut ranked = Vec::from_iter(ranked);
        ranked.sort_by(|a, b| a.load.unwrap_or(0.0).total_cmp(&b.load.unwrap_or(0.0)));
        ranked
    }
}

impl LeastTimePicker {
    fn first(
        &self,
        positions: std::ops::Range<usize>,
        hosts: &Hosts<'_>,
        bits: u64,
        trace: Trace<'_>,
    ) -> Option<usize> {
        let model = hosts.load_model();
        let accepts_any = hosts.accepts_any();
        let accepted = positions.filter(|&position| accepts_any || hosts.accepts(position));
        let times = accepted.map(|position| {
            let itself = exponential(bits_at(bits, position));
            (time(hosts.member(position), hosts, model, itself), position)
        });
        let (_, position) = times.min_by(|a, b| a.0.total_cmp(&b.0))?;
        trace.visit(position);
        Some(position)
    }
}

/// The time that a host is expected to take; `itself` stands for the request.
fn time(member: &Member, hosts: &Hosts<'_>, model: LoadModel<'_>, itself: f64) -> f64 {
    let mean = hosts.mean_latency();
    let latency = match member.stats.mean_latency() {
        // Before the first response of any host all are alike.
        _ if mean.is_infinite() => 1.0,
        0.0 => mean,
        // A mean of 0 is possible if no response took any time.
        latency => latency.clamp(mean / MAX_RATIO, mean * MAX_RATIO),
    };
    let queue = member.in_flight() as f64 + model.failures(member);
    latency.max(1.0) * (queue / hosts.share(member) + itself) / f64::from(member.weight)
}
