//! What algorithms that hash do with requests that lack what is hashed.

use crate::BalancerError;
use crate::core::{OptionInfo, Strategy, invalid};
use crate::p2c::P2c;
use crate::registry::{ALGORITHMS, Algorithm, AlgorithmInfo};

/// The algorithm that picks for requests without a key, [`p2c`](crate::p2c) by default. Without it, they would all hash to the
/// same host.
#[derive(Debug, Clone, PartialEq)]
pub struct Fallback(Box<Algorithm>);

impl Fallback {
    /// The option that sets it.
    pub(crate) const OPTION: OptionInfo = OptionInfo {
        name: "fallback",
        default: "p2c",
        help: "the algorithm for requests that lack the key, one that hashes nothing",
    };

    /// A fallback to an algorithm that hashes nothing.
    ///
    /// # Errors
    /// [`BalancerError::InvalidOption`] if it hashes something.
    pub fn new(algorithm: impl Into<Algorithm>) -> Result<Self, BalancerError> {
        let algorithm = algorithm.into();
        match algorithm.info().hashes() {
            true => Err(not_one(algorithm.info().name)),
            false => Ok(Fallback(Box::new(algorithm))),
        }
    }

    /// The algorithm.
    pub fn algorithm(&self) -> &Algorithm {
        &self.0
    }

    pub(crate) fn strategy(&self) -> &dyn Strategy {
        self.0.strategy()
    }

    /// Sets it by the name of the algorithm, if that is the option.
    pub(crate) fn set(&mut self, option: &str, value: &str) -> Option<Result<(), BalancerError>> {
        (option == Self::OPTION.name).then(|| {
            let info = AlgorithmInfo::find(value).map_err(|_| not_one(value))?;
            *self = Fallback::new(info.algorithm())?;
            Ok(())
        })
    }
}

impl Default for Fallback {
    fn default() -> Self {
        Fallback(Box::new(P2c::default().into()))
    }
}

fn not_one(name: &str) -> BalancerError {
    let known = ALGORITHMS.iter().filter(|info| !info.hashes());
    let known = Vec::from_iter(known.map(|info| info.name));
    invalid(
        Fallback::OPTION.name,
        name,
        &format!("one of {}", known.join(", ")),
    )
}
