//! The declaration of a key.

use super::kind::Describe;

/// A key as it is declared.
pub(in crate::config) struct Key {
    pub(in crate::config) name: &'static str,
    /// The lines of the documentation, each with a space in front.
    pub(in crate::config) doc: &'static str,
    pub(in crate::config) presence: Presence,
    pub(in crate::config) kind: Box<dyn Describe>,
}

/// What holds where a key is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::config) enum Presence {
    /// This value, as it would stand in a file.
    Default(&'static str),
    /// The same, but the key may only be written where another key says so.
    Conditional(&'static str),
    /// The key must be there; an example.
    Required(&'static str),
    /// Nothing; an example.
    Optional(&'static str),
    /// Nothing, since another key may stand for it; an example that makes the reference file valid.
    Alternative(&'static str),
    /// The key stands for those of another section, among which there is no map of its own.
    Flat,
}

impl Presence {
    pub(in crate::config) const fn default(value: &'static str) -> Self {
        Presence::Default(value)
    }

    pub(in crate::config) const fn conditional(value: &'static str) -> Self {
        Presence::Conditional(value)
    }

    pub(in crate::config) const fn required(example: &'static str) -> Self {
        Presence::Required(example)
    }

    pub(in crate::config) const fn optional(example: &'static str) -> Self {
        Presence::Optional(example)
    }

    pub(in crate::config) const fn alternative(value: &'static str) -> Self {
        Presence::Alternative(value)
    }

    pub(in crate::config) const fn flat() -> Self {
        Presence::Flat
    }
}
