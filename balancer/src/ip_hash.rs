//! IP hash: a client's address determines its host.
//!
//! **How.** Rendezvous hashing: each host gets a hash of (client, host), and the highest by weight wins. The port is
//! ignored, an IPv4-mapped IPv6 address is the IPv4 address, and only a prefix of the address is hashed: 32 bits of
//! IPv4 and 64 of IPv6, because a household or a server usually owns a whole /64. The score of a host of weight w is w
//! / −ln(h / 2^64), which gives it exactly its share (Schindelhauer and Schomaker, "Weighted Distributed Hash Tables",
//! 2005). Hosts of equal weight compare by h alone, so there is one logarithm for each distinct weight.
//!
//! **Cost.** One multiplication a host, about 1 ns; 16 bytes a host.
//!
//! **Bound.** A host that leaves moves only its own clients; when it returns, exactly these come back (Thaler and
//! Ravishankar, "Using Name-Based Mappings to Increase Hit Rates", 1998). Shares are those of random hashing, without
//! the uneven arcs of a ring.
//!
//! **When.** Sessions in a host's memory, clients without cookies. **When not.** Many clients share an address, as with
//! a carrier's NAT: they share a host. The address is the connection's unless a trusted proxy names another.

use std::net::IpAddr;
use std::sync::Arc;

use super::core::{
    Algorithm, BalancerError, CandidateReason, DryRun, DynPicker, Fallback, HasKey, Host, HostId,
    Options, PerHostState, PickRequest, PickTrace, Picker, Slot,
};
use super::registry::{AlgorithmInfo, OptionInfo};

pub(super) const INFO: AlgorithmInfo = AlgorithmInfo {
    name: "ip_hash",
    summary: "the host that the client's address belongs to, by rendezvous hashing",
    keyed: false,
    options: &[
        OptionInfo {
            name: "prefix_v4",
            default: "32",
            help: "the leading bits of an IPv4 address that count: 1 to 32",
        },
        OptionInfo {
            name: "prefix_v6",
            default: "64",
            help: "the leading bits of an IPv6 address that count: 1 to 128",
        },
        Fallback::OPTION,
    ],
    build,
};

fn build(options: &Options) -> Result<Box<dyn Algorithm>, BalancerError> {
    let v4 = |bits: &u32| (1..=32).contains(bits);
    let v6 = |bits: &u32| (1..=128).contains(bits);
    Ok(Box::new(IpHash {
        prefixes: Prefixes {
            v4: options.parse("prefix_v4", 32, "a number of bits from 1 to 32", v4)?,
            v6: options.parse("prefix_v6", 64, "a number of bits from 1 to 128", v6)?,
        },
        fallback: Fallback::from_options(options)?,
    }))
}

#[derive(Debug)]
struct IpHash {
    prefixes: Prefixes,
    fallback: Fallback,
}

#[derive(Debug, Clone, Copy)]
struct Prefixes {
    v4: u32,
    v6: u32,
}

#[derive(Debug)]
struct RendezvousPicker {
    prefixes: Prefixes,
    weight_groups: Box<[WeightGroup]>,
    slots: Arc<[Arc<Slot>]>,
}

/// The hosts of one weight.
#[derive(Debug)]
struct WeightGroup {
    weight: f64,
    hosts: Box<[HashedHost]>,
}

#[derive(Debug, Clone, Copy)]
struct HashedHost {
    seed: u64,
    position: usize,
}

impl Algorithm for IpHash {
    fn build_picker(&self, slots: &Arc<[Arc<Slot>]>) -> Box<dyn DynPicker> {
        let mut hashed_hosts: Vec<(u32, HashedHost)> = slots
            .iter()
            .enumerate()
            .map(|(position, slot)| {
                let seed = seed(slot.host.id());
                (slot.host.weight(), HashedHost { seed, position })
            })
            .collect();
        hashed_hosts.sort_unstable_by_key(|&(weight, hashed_host)| (weight, hashed_host.seed));
        let weight_groups = hashed_hosts
            .chunk_by(|a, b| a.0 == b.0)
            .map(|weight_group| WeightGroup {
                weight: f64::from(weight_group[0].0),
                hosts: weight_group
                    .iter()
                    .map(|&(_, hashed_host)| hashed_host)
                    .collect(),
            });
        let picker = RendezvousPicker {
            prefixes: self.prefixes,
            weight_groups: weight_groups.collect(),
            slots: Arc::clone(slots),
        };
        self.fallback.with_fallback(picker, slots)
    }

    fn starts_slowly(&self) -> bool {
        false
    }

    fn per_host_state(&self, host: &Arc<Host>) -> Option<Arc<dyn PerHostState>> {
        self.fallback.per_host_state(host)
    }
}

impl HasKey for RendezvousPicker {
    fn has_key(&self, request: &PickRequest<'_>) -> bool {
        request.client_address().is_some()
    }
}

impl Picker for RendezvousPicker {
    fn pick<T: PickTrace>(&self, request: &PickRequest<'_>, trace: &T) -> Option<usize> {
        let client = self.prefixes.hash(request.client_address()?);
        let fits = |position: usize| request.accepts(position, &self.slots[position]);
        let home = self.best(client, |_| true)?;
        trace.visit(home);
        if request.accepts_any() || fits(home) {
            return Some(home);
        }
        self.best(client, fits)
    }

    fn rank(&self, request: &PickRequest<'_>, _: Option<usize>, dry_run: &DryRun) {
        let Some(address) = request.client_address() else {
            return;
        };
        let client = self.prefixes.hash(address);
        let mut ranked: Vec<(f64, u64, usize)> = self
            .weight_groups
            .iter()
            .flat_map(|weight_group| {
                weight_group
                    .hosts
                    .iter()
                    .map(move |host| (weight_group.weight, host))
            })
            .map(|(weight, host)| {
                let hash = host.hash(client);
                (score(weight, hash), hash, host.position)
            })
            .collect();
        // Equal weights are ordered by the hash, which rounding the score may hide.
        ranked.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(b.1.cmp(&a.1)));
        for (score, _, position) in ranked {
            dry_run.rank(position, None, CandidateReason::Score);
            dry_run.record_score(position, score);
        }
    }
}

impl RendezvousPicker {
    /// The position with the highest score among those for which `fits` holds.
    fn best(&self, client: u64, fits: impl Fn(usize) -> bool) -> Option<usize> {
        let group_winners = self.weight_groups.iter().filter_map(|weight_group| {
            let hosts = weight_group.hosts.iter().filter(|host| fits(host.position));
            let (hash, position) = hosts
                .map(|host| (host.hash(client), host.position))
                .max_by_key(|&(hash, _)| hash)?;
            Some((weight_group.weight, hash, position))
        });
        if let [_] = *self.weight_groups {
            return group_winners.map(|(_, _, position)| position).next();
        }
        group_winners
            .map(|(weight, hash, position)| (score(weight, hash), position))
            .max_by(|a, b| a.0.total_cmp(&b.0))
            .map(|(_, position)| position)
    }
}

impl HashedHost {
    /// The hash of a client and this host; `client` is the hash of the client's address.
    fn hash(&self, client: u64) -> u64 {
        mix(client ^ self.seed)
    }
}

/// The rank of a host of this weight with this hash; higher wins.
fn score(weight: f64, hash: u64) -> f64 {
    weight / -unit(hash).ln()
}

impl Prefixes {
    /// The hash of the address's prefix.
    fn hash(self, address: IpAddr) -> u64 {
        match address.to_canonical() {
            IpAddr::V4(v4) => {
                let bits = v4.to_bits() & u32::MAX << (32 - self.v4);
                mix(u64::from(bits) ^ OFFSET)
            }
            IpAddr::V6(v6) => {
                let bits = v6.to_bits() & u128::MAX << (128 - self.v6);
                mix(mix((bits >> 64) as u64) ^ bits as u64)
            }
        }
    }
}

/// FNV-1a's offset basis.
const OFFSET: u64 = 0xCBF2_9CE4_8422_2325;

/// The hash of a host: FNV-1a of its id, mixed. It must never change: that would move every client.
fn seed(id: &HostId) -> u64 {
    let bytes = id.as_str().bytes();
    mix(bytes.fold(OFFSET, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
    }))
}

/// wyhash's mixing step: the 128-bit product of the input and two constants, folded into 64 bits. One multiplication.
fn mix(bits: u64) -> u64 {
    let product = u128::from(bits ^ 0x2D35_8DCC_AA6C_78A5) * 0x8BB8_4B93_962E_ACC9;
    (product >> 64) as u64 ^ product as u64
}

/// Maps 64 uniform bits to a number between 0 and 1, never 0.
fn unit(bits: u64) -> f64 {
    (bits as f64 + 0.5) / 2f64.powi(64)
}
