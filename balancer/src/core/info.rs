//! What an algorithm's file says of it to people.

/// What an algorithm is called, and the options that it has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Info {
    pub(crate) name: &'static str,
    pub(crate) summary: &'static str,
    pub(crate) hashes: Hashed,
    pub(crate) options: &'static [OptionInfo],
}

/// What an algorithm maps to a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hashed {
    /// It hashes nothing.
    Nothing,
    /// The key of a request.
    Key,
    /// The address of a request's client.
    Client,
}

/// An option of an algorithm.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct OptionInfo {
    /// The name in configurations.
    pub name: &'static str,
    /// The default value.
    pub default: &'static str,
    /// One line: what the option does, and its values.
    pub help: &'static str,
}
