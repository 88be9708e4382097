//! What the selection of a host takes from a request: hash key, affinity cookie, and the hosts already tried.

pub(crate) mod hash_key;
pub(crate) mod input;
pub(crate) mod split;
pub(crate) mod sticky;
