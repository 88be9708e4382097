//! The fallback of hashing algorithms for requests without a key.

use std::sync::Arc;

use super::dry_run::DryRun;
use super::error::BalancerError;
use super::host::Host;
use super::options::{Options, invalid};
use super::pick_request::PickRequest;
use super::picker::{Algorithm, DynPicker, Picker, pick_with_room};
use super::slot::{PerHostState, Slot};
use super::trace::PickTrace;
use crate::registry::{ALGORITHMS, AlgorithmInfo, OptionInfo};

/// The algorithm that picks for requests without a key. Without it, they would all hash to the same host.
#[derive(Debug)]
pub(crate) struct Fallback(Box<dyn Algorithm>);

impl Fallback {
    /// The option that configures it.
    pub(crate) const OPTION: OptionInfo = OptionInfo {
        name: "fallback",
        default: "p2c",
        help: "the algorithm for requests that lack the key: random, round_robin, p2c or least_load",
    };

    pub(crate) fn from_options(options: &Options) -> Result<Self, BalancerError> {
        let name = options
            .text(Self::OPTION.name)
            .unwrap_or(Self::OPTION.default);
        let needs_no_key = |info: &AlgorithmInfo| !info.is_hashing();
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

    /// A picker that uses `keyed` for requests with a key, and the fallback for the others.
    pub(crate) fn with_fallback(
        &self,
        keyed: impl HasKey + 'static,
        slots: &Arc<[Arc<Slot>]>,
    ) -> Box<dyn DynPicker> {
        Box::new(WithFallback {
            keyed,
            keyless: self.0.build_picker(slots),
        })
    }

    /// The fallback's per-host state.
    pub(crate) fn per_host_state(&self, host: &Arc<Host>) -> Option<Arc<dyn PerHostState>> {
        self.0.per_host_state(host)
    }
}

/// A picker that hashes a key of the request.
pub(crate) trait HasKey: Picker {
    /// Whether `request` has the key.
    fn has_key(&self, request: &PickRequest<'_>) -> bool;
}

#[derive(Debug)]
struct WithFallback<C> {
    keyed: C,
    keyless: Box<dyn DynPicker>,
}

impl<C: HasKey> Picker for WithFallback<C> {
    fn pick<T: PickTrace>(&self, request: &PickRequest<'_>, trace: &T) -> Option<usize> {
        if self.keyed.has_key(request) {
            self.keyed.pick(request, trace)
        } else {
            trace.pick(&*self.keyless, request)
        }
    }

    fn rank(&self, request: &PickRequest<'_>, chosen: Option<usize>, dry_run: &DryRun) {
        if self.keyed.has_key(request) {
            self.keyed.rank(request, chosen, dry_run);
        } else {
            self.keyless.dyn_rank(request, chosen, dry_run);
        }
    }

    fn pick_and_count(&self, request: &PickRequest<'_>, slots: &[Arc<Slot>]) -> Option<usize> {
        if self.keyed.has_key(request) {
            return self.keyed.pick_and_count(request, slots);
        }
        // Counted through the slot, so that the hashing algorithm's own per-host state is updated.
        pick_with_room(|| self.keyless.dyn_pick(request), slots)
    }
}
