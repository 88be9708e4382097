//! What a hashing algorithm does with a request that lacks its key.

use std::sync::Arc;

use super::chooser::{Algorithm, Choose, Chooser, count_where_room};
use super::error::BalancerError;
use super::host::Host;
use super::mode::Mode;
use super::options::{Options, invalid};
use super::rehearsal::Rehearsal;
use super::request::Request;
use super::seat::{Ledger, Seat};
use crate::balancer::registry::{ALGORITHMS, AlgorithmInfo, OptionInfo};

/// The algorithm that chooses for requests without a key. Without it they would all meet on one hot host.
#[derive(Debug)]
pub(crate) struct Fallback(Box<dyn Algorithm>);

impl Fallback {
    /// The option that names it.
    pub(crate) const OPTION: OptionInfo = OptionInfo {
        name: "fallback",
        default: "p2c",
        help: "the algorithm for requests that lack the key: random, round_robin, p2c or least_load",
    };

    pub(crate) fn from_options(options: &Options) -> Result<Self, BalancerError> {
        let name = options
            .text(Self::OPTION.name)
            .unwrap_or(Self::OPTION.default);
        let needs_no_key = |info: &AlgorithmInfo| {
            info.options
                .iter()
                .all(|option| option.name != Self::OPTION.name)
        };
        match AlgorithmInfo::find(name) {
            Ok(info) if needs_no_key(info) => {
                Ok(Fallback(info.algorithm(&options.for_fallback())?))
            }
            _ => {
                let known = ALGORITHMS.iter().filter(|info| needs_no_key(info));
                let known: Vec<&str> = known.map(|info| info.name).collect();
                Err(invalid(
                    Self::OPTION.name,
                    name,
                    &format!("one of {}", known.join(", ")),
                ))
            }
        }
    }

    /// Arranges the seats for requests with a key by `keyed`, and for those without by the fallback.
    pub(crate) fn beside(
        &self,
        keyed: impl HasKey + 'static,
        seats: &Arc<[Arc<Seat>]>,
    ) -> Box<dyn Chooser> {
        Box::new(WithFallback {
            keyed,
            keyless: self.0.arrange(seats),
        })
    }

    /// What the fallback keeps about a host.
    pub(crate) fn ledger(&self, host: &Arc<Host>) -> Option<Arc<dyn Ledger>> {
        self.0.ledger(host)
    }
}

/// A chooser that hashes something, and says whether a request has it.
pub(crate) trait HasKey: Choose {
    /// Whether `request` has it.
    fn has_key(&self, request: &Request<'_>) -> bool;
}

#[derive(Debug)]
struct WithFallback<C> {
    keyed: C,
    keyless: Box<dyn Chooser>,
}

impl<C: HasKey> Choose for WithFallback<C> {
    fn choose<M: Mode>(&self, request: &Request<'_>, mode: &M) -> Option<usize> {
        if self.keyed.has_key(request) {
            self.keyed.choose(request, mode)
        } else {
            mode.pick(&*self.keyless, request)
        }
    }

    fn rank(&self, request: &Request<'_>, chosen: Option<usize>, rehearsal: &Rehearsal) {
        if self.keyed.has_key(request) {
            self.keyed.rank(request, chosen, rehearsal);
        } else {
            self.keyless.survey(request, chosen, rehearsal);
        }
    }

    fn choose_and_count(&self, request: &Request<'_>, seats: &[Arc<Seat>]) -> Option<usize> {
        if self.keyed.has_key(request) {
            return self.keyed.choose_and_count(request, seats);
        }
        // Counted through the seat, so that the hashing algorithm's own ledger takes part.
        count_where_room(|| self.keyless.pick(request), seats)
    }
}
