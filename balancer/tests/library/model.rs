//! Every algorithm against a simple model, over many random operations.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use ballast_balancer::{ALGORITHMS, Balancer, BalancerError, Host, HostId, Lease, Selection};
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

use super::{hosts, seeded};

/// What must be true of a balancer.
#[derive(Default)]
struct Model {
    members: HashMap<HostId, Arc<Host>>,
    leases: Vec<Lease>,
    /// Requests by host, members or not.
    running: HashMap<HostId, u64>,
    /// Requests counted by `inc`.
    counted: Vec<HostId>,
}

impl Model {
    fn eligible(&self) -> impl Iterator<Item = &Arc<Host>> {
        self.members.values().filter(|host| host.weight() > 0)
    }

    fn running(&self, host: &Host) -> u64 {
        self.running.get(host.id()).copied().unwrap_or(0)
    }

    fn load(&self, host: &Host) -> f64 {
        self.running(host) as f64 / f64::from(host.weight())
    }

    fn lease(
        &mut self,
        name: &str,
        balancer: &Balancer,
        request: Selection<'_>,
        keyed: bool,
        tried: &[HostId],
    ) {
        let request = request.tried(tried);
        let lease = match balancer.lease(&request) {
            Err(error) => {
                assert_eq!(error, BalancerError::NoHosts, "{name}");
                assert_eq!(self.eligible().count(), 0, "{name}: eligible hosts remain");
                return;
            }
            Ok(lease) => lease,
        };
        let chosen = lease.host();
        let member = self.members.get(chosen.id());
        assert!(
            member.is_some_and(|host| host.weight() > 0),
            "{name}: {chosen:?}"
        );
        let untried = self.eligible().filter(|host| !tried.contains(host.id()));
        // The weights differ: the rounds count, and the loads of hosts of the same weight.
        let untried = Vec::from_iter(untried);
        let rounds = untried.iter().map(|host| self.load(host).floor());
        if let Some(round) = rounds.reduce(f64::min) {
            assert!(!tried.contains(chosen.id()), "{name}: {chosen:?} again");
            if name == "least_load" {
                assert_eq!(self.load(chosen).floor(), round, "{name}: {chosen:?}");
                let alike = untried
                    .iter()
                    .filter(|host| host.weight() == chosen.weight());
                let least = alike.map(|host| self.load(host)).reduce(f64::min);
                assert_eq!(Some(self.load(chosen)), least, "{name}: {chosen:?}");
            }
        }
        if name == "bounded" && keyed && tried.is_empty() {
            let total: u64 = 1 + self.eligible().map(|host| self.running(host)).sum::<u64>();
            let weights: u32 = self.eligible().map(|host| host.weight()).sum();
            let share = total as f64 * f64::from(chosen.weight()) / f64::from(weights);
            let capacity = (1.25 * share).ceil() as u64;
            // A host that joined with more than its share keeps its requests and gets no new ones.
            assert!(
                self.running(chosen) < capacity,
                "{name}: {chosen:?} above {capacity}"
            );
        }
        *self.running.entry(chosen.id().clone()).or_default() += 1;
        self.leases.push(lease);
    }
}

#[test]
fn a_hundred_thousand_operations_agree_with_the_model() {
    for info in ALGORITHMS {
        let name = info.name;
        let rng = &mut SmallRng::seed_from_u64(42);
        let balancer = seeded(name, &[], 1);
        // One object per identity, because the counters belong to it, whatever its weight.
        let known = hosts(100);
        let mut model = Model::default();
        for step in 0..100_000 {
            let host = known.choose(rng).expect("hosts are known");
            match rng.gen_range(0..100) {
                0..5 => {
                    let weight = *[0, 1, 1, 1, 2, 5, 100].choose(rng).expect("weights");
                    let host = Arc::new(host.with_weight(weight).expect("a weight in range"));
                    let known = model.members.contains_key(host.id());
                    assert_eq!(
                        balancer.add_host(Arc::clone(&host)).is_err(),
                        known,
                        "{name}"
                    );
                    model.members.entry(host.id().clone()).or_insert(host);
                }
                5..8 => {
                    let member = model.members.remove(host.id()).is_some();
                    assert_eq!(balancer.remove_host(host.id()).is_ok(), member, "{name}");
                }
                8..50 => {
                    let key: [u8; 2] = rng.r#gen();
                    let client = IpAddr::V4(Ipv4Addr::from_bits(rng.r#gen()));
                    let mut request = Selection::new();
                    let keyed = rng.gen_bool(0.8);
                    if keyed {
                        request = request.key(&key).client(client);
                    }
                    let tried: Vec<HostId> = if rng.gen_bool(0.2) {
                        let count = rng.gen_range(1..5);
                        known
                            .choose_multiple(rng, count)
                            .map(|host| host.id().clone())
                            .collect()
                    } else {
                        Vec::new()
                    };
                    model.lease(name, &balancer, request, keyed, &tried);
                }
                50..92 if !model.leases.is_empty() => {
                    let lease = model
                        .leases
                        .swap_remove(rng.gen_range(0..model.leases.len()));
                    *model
                        .running
                        .get_mut(lease.host().id())
                        .expect("it was counted") -= 1;
                }
                92..95 if model.members.contains_key(host.id()) => {
                    balancer.inc(host.id()).expect("a member");
                    *model.running.entry(host.id().clone()).or_default() += 1;
                    model.counted.push(host.id().clone());
                }
                95..98 if !model.counted.is_empty() => {
                    let id = model
                        .counted
                        .swap_remove(rng.gen_range(0..model.counted.len()));
                    balancer.done(&id).expect("a request of it runs");
                    *model.running.get_mut(&id).expect("it was counted") -= 1;
                }
                _ => {}
            }
            assert_eq!(host.in_flight(), model.running(host), "{name}, step {step}");
        }
        model.leases.clear();
        for id in std::mem::take(&mut model.counted) {
            balancer.done(&id).expect("a request of it runs");
        }
        for host in known {
            assert_eq!(host.in_flight(), 0, "{name}: {host:?}");
        }
    }
}
