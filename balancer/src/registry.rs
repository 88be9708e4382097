//! The registry of algorithms: one slice that the factory, the configuration, the command line, the contract tests and
//! the benches use. A new algorithm is one file, its `mod` line and its line here.

use std::sync::Arc;

use super::core::{Algorithm, BalancerError, Fallback, GenericBalancer, Host, Options};
use super::{Balancer, bounded, consistent_hash, ip_hash, least_load, p2c, random, round_robin};

/// Every algorithm, in the order in which people see them.
pub const ALGORITHMS: &[AlgorithmInfo] = &[
    random::INFO,
    round_robin::INFO,
    p2c::INFO,
    consistent_hash::INFO,
    bounded::INFO,
    ip_hash::INFO,
    least_load::INFO,
];

/// The registry's entry for an algorithm.
#[derive(Debug, Clone, Copy)]
pub struct AlgorithmInfo {
    /// The name in configurations; hyphens are accepted for underscores.
    pub name: &'static str,
    /// One line for a table.
    pub summary: &'static str,
    /// Whether it maps the key of a [`Selection`](super::Selection) to a host.
    pub keyed: bool,
    /// The algorithm's options.
    pub options: &'static [OptionInfo],
    pub(super) build: fn(&Options) -> Result<Box<dyn Algorithm>, BalancerError>,
}

/// An option of an algorithm.
#[derive(Debug, Clone, Copy)]
pub struct OptionInfo {
    /// The name in configurations.
    pub name: &'static str,
    /// The default value.
    pub default: &'static str,
    /// One line: what the option does, and its values.
    pub help: &'static str,
}

impl AlgorithmInfo {
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

    /// Validates options for this algorithm.
    ///
    /// # Errors
    /// [`BalancerError::UnknownOption`] or [`BalancerError::InvalidOption`].
    pub fn check(&self, options: &Options) -> Result<(), BalancerError> {
        options.configured_slow_start()?;
        self.algorithm(options).map(drop)
    }

    /// Whether it maps each key, or each client address, to a host, so that requests that share one meet the same host.
    pub fn is_hashing(&self) -> bool {
        let mut options = self.options.iter();
        options.any(|option| option.name == Fallback::OPTION.name)
    }

    pub(super) fn algorithm(&self, options: &Options) -> Result<Box<dyn Algorithm>, BalancerError> {
        for name in options.names() {
            if !self.options.iter().any(|option| option.name == name) {
                return Err(BalancerError::UnknownOption {
                    algorithm: self.name,
                    option: name.to_owned(),
                    known: self.options.iter().map(|option| option.name).collect(),
                });
            }
        }
        (self.build)(options)
    }
}

/// Builds a balancer by the name of its algorithm, with the algorithm's defaults.
///
/// # Errors
/// [`BalancerError::UnknownAlgorithm`] lists the known names; [`BalancerError::AlreadyAdded`] names a host given twice.
pub fn build(
    algorithm: &str,
    hosts: impl IntoIterator<Item = Arc<Host>>,
) -> Result<Box<dyn Balancer>, BalancerError> {
    build_with(algorithm, hosts, &Options::new())
}

/// Builds a balancer by the name of its algorithm.
///
/// # Errors
/// As [`build`], and [`BalancerError::UnknownOption`] or [`BalancerError::InvalidOption`] for `options`.
pub fn build_with(
    algorithm: &str,
    hosts: impl IntoIterator<Item = Arc<Host>>,
    options: &Options,
) -> Result<Box<dyn Balancer>, BalancerError> {
    let info = AlgorithmInfo::find(algorithm)?;
    let balancer = GenericBalancer::new(info.algorithm(options)?, options, hosts)?;
    Ok(Box::new(balancer))
}
