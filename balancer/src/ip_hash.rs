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
//! A request without a client address, but with a key, is hashed by its key.
//!
//! **When.** Sessions in a host's memory, clients without cookies. **When not.** Many clients share an address, as with
//! a carrier's NAT: they share a host. The address is the connection's unless a trusted proxy names another.

use std::net::IpAddr;
use std::sync::Arc;

use crate::core::{
    Before, CandidateReason, Hashed, Hosts, Info, Member, OFFSET, OptionInfo, Pick, Picker, Ranked,
    Rng, Strategy, Trace, hash, invalid, mix, parse_into,
};
use crate::{BalancerError, Fallback};

/// The algorithm `ip_hash`.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct IpHash {
    /// The leading bits of an IPv4 address that count: 1 to 32.
    pub prefix_v4: u32,
    /// The leading bits of an IPv6 address that count: 1 to 128.
    pub prefix_v6: u32,
    /// What picks for requests without a client address and a key.
    pub fallback: Fallback,
}

impl Default for IpHash {
    fn default() -> Self {
        IpHash {
            prefix_v4: 32,
            prefix_v6: 64,
            fallback: Fallback::default(),
        }
    }
}

impl IpHash {
    pub(crate) const INFO: Info = Info {
        name: "ip_hash",
        summary: "the host that the client's address belongs to, by rendezvous hashing",
        hashes: Hashed::Client,
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
    };
}

const V4: &str = "a number of bits from 1 to 32";
const V6: &str = "a number of bits from 1 to 128";

fn fits_v4(bits: &u32) -> bool {
    (1..=32).contains(bits)
}

fn fits_v6(bits: &u32) -> bool {
    (1..=128).contains(bits)
}

impl Strategy for IpHash {
    fn set(&mut self, option: &str, value: &str) -> Option<Result<(), BalancerError>> {
        Some(match option {
            "prefix_v4" => parse_into(&mut self.prefix_v4, option, value, V4, fits_v4),
            "prefix_v6" => parse_into(&mut self.prefix_v6, option, value, V6, fits_v6),
            _ => return self.fallback.set(option, value),
        })
    }

    fn check(&self) -> Result<(), BalancerError> {
        if !fits_v4(&self.prefix_v4) {
            return Err(invalid("prefix_v4", self.prefix_v4, V4));
        }
        match fits_v6(&self.prefix_v6) {
            true => Ok(()),
            false => Err(invalid("prefix_v6", self.prefix_v6, V6)),
        }
    }

    fn build(&self, members: &[Arc<Member>], _: Option<&Before<'_>>) -> Box<dyn Picker> {
        let hashed = |(position, member): (usize, &Arc<Member>)| {
            let seed = hash(member.host.id().as_str().as_bytes());
            (member.weight, HashedHost { seed, position })
        };
        let mut hosts: Vec<_> = members.iter().enumerate().map(hashed).collect();
        hosts.sort_unstable_by_key(|&(weight, host)| (weight, host.seed));
        let groups = hosts.chunk_by(|a, b| a.0 == b.0).map(|group| WeightGroup {
            weight: f64::from(group[0].0),
            hosts: group.iter().map(|&(_, host)| host).collect(),
        });
        Box::new(RendezvousPicker {
            prefix_v4: self.prefix_v4,
            prefix_v6: self.prefix_v6,
            weight_groups: groups.collect(),
        })
    }

    fn fallback(&self) -> Option<&Fallback> {
        Some(&self.fallback)
    }
}

#[derive(Debug)]
struct RendezvousPicker {
    prefix_v4: u32,
    prefix_v6: u32,
    weight_groups: Box<[WeightGroup]>,
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

impl Picker for RendezvousPicker {
    fn pick(&self, hosts: &Hosts<'_>, _: &Rng<'_>, trace: Trace<'_>) -> Option<Pick> {
        let client = self.client(hosts)?;
        let home = self.best(client, |_| true)?;
        trace.visit(home);
        if hosts.accepts_any() || hosts.accepts(home) {
            return Some(Pick::at(home));
        }
        let accepted = self.best(client, |position| hosts.accepts(position));
        accepted.map(Pick::at)
    }

    fn rank(&self, hosts: &Hosts<'_>, _: u64, _: Option<usize>) -> Vec<Ranked> {
        let client = self.client(hosts).unwrap_or_default();
        let groups = self.weight_groups.iter();
        let scores = groups.flat_map(|group| {
            group.hosts.iter().map(move |host| {
                let hash = host.hash(client);
                (score(group.weight, hash), hash, host.position)
            })
        });
        let mut scores = Vec::from_iter(scores);
        // Equal weights are ordered by the hash, which rounding the score may hide.
        scores.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(b.1.cmp(&a.1)));
        let ranked = scores.into_iter().map(|(score, _, position)| Ranked {
            score: Some(score),
            ..Ranked::new(position, None, CandidateReason::Score)
        });
        ranked.collect()
    }

    fn has_key(&self, hosts: &Hosts<'_>) -> bool {
        hosts.client().is_some() || hosts.key().is_some()
    }
}

impl RendezvousPicker {
    /// The hash of the client: of its address's prefix, or else of the key.
    fn client(&self, hosts: &Hosts<'_>) -> Option<u64> {
        let Some(address) = hosts.client() else {
            return hosts.key().map(hash);
        };
        Some(match address.to_canonical() {
            IpAddr::V4(v4) => {
                let bits = v4.to_bits() & u32::MAX << (32 - self.prefix_v4);
                mix(u64::from(bits) ^ OFFSET)
            }
            IpAddr::V6(v6) => {
                let bits = v6.to_bits() & u128::MAX << (128 - self.prefix_v6);
                mix(mix((bits >> 64) as u64) ^ bits as u64)
            }
        })
    }

    /// The position with the highest score among those for which `fits` holds.
    fn best(&self, client: u64, fits: impl Fn(usize) -> bool) -> Option<usize> {
        let winners = self.weight_groups.iter().filter_map(|group| {
            let hosts = group.hosts.iter().filter(|host| fits(host.position));
            let (hash, position) = hosts
                .map(|host| (host.hash(client), host.position))
                .max_by_key(|&(hash, _)| hash)?;
            Some((group.weight, hash, position))
        });
        if let [_] = *self.weight_groups {
            return winners.map(|(_, _, position)| position).next();
        }
        winners
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
    // Between 0 and 1, never 0.
    let unit = (hash as f64 + 0.5) / 2f64.powi(64);
    weight / -unit.ln()
}
