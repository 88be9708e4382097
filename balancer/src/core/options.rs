//! The settings of a balancer.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::clock::Clock;
use super::error::BalancerError;
use super::slow_start::SlowStartOptions;

/// Settings for [`build_with`](crate::build_with): the options of the algorithm by name, slow start, and for
/// tests a seed and a clock.
#[derive(Debug, Clone, Default)]
pub struct Options {
    seed: Option<u64>,
    clock: Clock,
    slow_start: Option<SlowStartOptions>,
    settings: BTreeMap<String, String>,
}

impl Options {
    /// The defaults: every option as in the registry, random numbers from the system, the monotonic clock.
    pub fn new() -> Self {
        Options::default()
    }

    /// Makes each random draw a function of `seed` and the number of draws before it.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Uses this clock.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Enables slow start: after [`Balancer::begin_slow_start`](crate::Balancer::begin_slow_start), the share
    /// of a host rises from `floor` (above 0, at most 1) to 1 within `window`. It is disabled by default.
    pub fn slow_start(mut self, window: Duration, floor: f64) -> Self {
        self.slow_start = Some(SlowStartOptions { window, floor });
        self
    }

    /// Sets an option of the algorithm by its name in the configuration: `("factor", 1.5)`. Name and value are
    /// validated when the balancer is built.
    pub fn set(mut self, option: &str, value: impl fmt::Display) -> Self {
        self.settings.insert(option.to_owned(), value.to_string());
        self
    }

    pub(crate) fn configured_seed(&self) -> Option<u64> {
        self.seed
    }

    pub(crate) fn configured_clock(&self) -> &Clock {
        &self.clock
    }

    /// The slow start settings, if slow start is enabled.
    ///
    /// # Errors
    /// [`BalancerError::InvalidOption`] if the floor is out of range.
    pub(crate) fn configured_slow_start(&self) -> Result<Option<SlowStartOptions>, BalancerError> {
        match self.slow_start {
            Some(SlowStartOptions { floor, .. }) if !(floor > 0.0 && floor <= 1.0) => Err(invalid(
                "slow_start",
                &floor.to_string(),
                "a floor above 0 and at most 1",
            )),
            given => Ok(given),
        }
    }

    /// The names of the options that are set.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.settings.keys().map(String::as_str)
    }

    /// The value of an option that is set.
    pub fn text(&self, option: &str) -> Option<&str> {
        self.settings.get(option).map(String::as_str)
    }

    /// The options for a fallback algorithm: same seed and clock, its own defaults.
    pub(crate) fn for_fallback(&self) -> Self {
        Options {
            seed: self.seed,
            clock: self.clock.clone(),
            slow_start: None,
            settings: BTreeMap::new(),
        }
    }

    /// Parses an option as a value for which `fits` holds.
    pub(crate) fn parse<T: FromStr>(
        &self,
        option: &str,
        default: T,
        expected: &str,
        fits: impl Fn(&T) -> bool,
    ) -> Result<T, BalancerError> {
        let Some(text) = self.text(option) else {
            return Ok(default);
        };
        match text.parse() {
            Ok(value) if fits(&value) => Ok(value),
            _ => Err(invalid(option, text, expected)),
        }
    }
}

/// The error for an invalid value of an option.
pub(crate) fn invalid(option: &str, value: &str, expected: &str) -> BalancerError {
    BalancerError::InvalidOption {
        option: option.to_owned(),
        value: value.to_owned(),
        expected: expected.to_owned(),
    }
}
