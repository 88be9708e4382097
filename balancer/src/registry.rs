//! The registry of algorithms: one list that the factory, configurations, command lines, contract tests and benches use.

use std::str::FromStr;
use std::sync::Arc;

use crate::core::{Hashed, Host, Info, OptionInfo, Options, Strategy};
use crate::{Balancer, BalancerError};

/// Declares the algorithms: a module for each, and the type of its options.
macro_rules! algorithms {
    ($($module:ident::$name:ident,)+) => {
        /// An algorithm with its options.
        ///
        /// It is made of the type of its options, or of its name: `"p2c".parse()`, `"bounded(factor=1.5)".parse()`.
        #[derive(Debug, Clone, PartialEq)]
        #[non_exhaustive]
        pub enum Algorithm {
            $(
                #[doc = concat!("See [`", stringify!($module), "`](crate::", stringify!($module), ").")]
                $name(crate::$module::$name),
            )+
        }

        /// Every algorithm, in the order in which people see them.
        pub const ALGORITHMS: &[AlgorithmInfo] = &[
            $(AlgorithmInfo::new(crate::$module::$name::INFO, || {
                Algorithm::$name(crate::$module::$name::default())
            }),)+
        ];

        impl Algorithm {
            /// The registry's entry.
            pub fn info(&self) -> &'static AlgorithmInfo {
                let name = match self {
                    $(Algorithm::$name(_) => crate::$module::$name::INFO.name,)+
                };
                let mut algorithms = ALGORITHMS.iter();
                algorithms
                    .find(|info| info.name == name)
                    .expect("each variant has an entry, by the same declaration")
            }

            pub(crate) fn strategy(&self) -> &dyn Strategy {
                match self {
                    $(Algorithm::$name(algorithm) => algorithm,)+
                }
            }

            fn strategy_mut(&mut self) -> &mut dyn Strategy {
                match self {
                    $(Algorithm::$name(algorithm) => algorithm,)+
                }
            }
        }

        $(
            impl From<crate::$module::$name> for Algorithm {
                fn from(algorithm: crate::$module::$name) -> Self {
                    Algorithm::$name(algorithm)
                }
            }
        )+
    };
}

algorithms! {
    random::Random,
    round_robin::RoundRobin,
    p2c::P2c,
    least_load::LeastLoad,
    least_time::LeastTime,
    consistent_hash::ConsistentHash,
    bounded::Bounded,
    maglev::Maglev,
    ip_hash::IpHash,
}

impl Algorithm {
    /// Sets an option by its name in configurations.
    ///
    /// # Errors
    /// [`BalancerError::UnknownOption`] or [`BalancerError::InvalidOption`]; nothing has changed then.
    pub fn set(&mut self, option: &str, value: &str) -> Result<(), BalancerError> {
        let info = self.info();
        let set = self.strategy_mut().set(option, value);
        set.unwrap_or_else(|| {
            Err(BalancerError::UnknownOption {
                algorithm: info.name,
                option: option.to_owned(),
                known: info.options.iter().map(|option| option.name).collect(),
            })
        })
    }
}

impl FromStr for Algorithm {
    type Err = BalancerError;

    /// Reads a name, or a name with options in parentheses: `bounded(factor=1.5, fallback=random)`.
    fn from_str(text: &str) -> Result<Self, BalancerError> {
        let text = text.trim();
        let (name, options) = match text.strip_suffix(')').and_then(|it| it.split_once('(')) {
            Some((name, options)) => (name, options),
            None => (text, ""),
        };
        let mut algorithm = AlgorithmInfo::find(name.trim())?.algorithm();
        for option in options.split(',').filter(|it| !it.trim().is_empty()) {
            let (option, value) = option.split_once('=').unwrap_or((option, ""));
            algorithm.set(option.trim(), value.trim())?;
        }
        Ok(algorithm)
    }
}

/// The registry's entry for an algorithm.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct AlgorithmInfo {
    /// The name in configurations; hyphens are accepted for underscores.
    pub name: &'static str,
    /// One line for a table.
    pub summary: &'static str,
    /// Whether it maps the key of a [`Selection`](crate::Selection) to a host.
    pub keyed: bool,
    /// The algorithm's options.
    pub options: &'static [OptionInfo],
    hashes: bool,
    algorithm: fn() -> Algorithm,
}

impl AlgorithmInfo {
    const fn new(info: Info, algorithm: fn() -> Algorithm) -> Self {
        AlgorithmInfo {
            name: info.name,
            summary: info.summary,
            keyed: matches!(info.hashes, Hashed::Key),
            options: info.options,
            hashes: !matches!(info.hashes, Hashed::Nothing),
            algorithm,
        }
    }

    /// Finds an algorithm by name.
    ///
    /// # Errors
    /// [`BalancerError::UnknownAlgorithm`], which lists the known names.
    pub fn find(name: &str) -> Result<&'static AlgorithmInfo, BalancerError> {
        let canonical = name.replace('-', "_");
        ALGORITHMS
            .iter()
            .find(|info| info.name == canonical)
            .ok_or_else(|| BalancerError::UnknownAlgorithm {
                name: name.to_owned(),
                known: ALGORITHMS.iter().map(|info| info.name).collect(),
            })
    }

    /// The algorithm with its default options.
    pub fn algorithm(&self) -> Algorithm {
        (self.algorithm)()
    }

    /// Whether it maps each key, or each client address, to a host, so that requests that share one meet the same host.
    pub fn hashes(&self) -> bool {
        self.hashes
    }
}

/// Builds a balancer by the name of its algorithm, which may have options (see [`Algorithm`]).
///
/// # Errors
/// [`BalancerError::UnknownAlgorithm`] lists the known names; [`BalancerError::UnknownOption`] and
/// [`BalancerError::InvalidOption`]; [`BalancerError::AlreadyAdded`] names a host given twice.
pub fn build(
    algorithm: &str,
    hosts: impl IntoIterator<Item = Arc<Host>>,
) -> Result<Balancer, BalancerError> {
    Balancer::new(algorithm.parse::<Algorithm>()?, hosts, &Options::new())
}
