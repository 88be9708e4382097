//! What the choice of a host takes from a request: the key that is hashed, the host of the client's cookie, and the hosts
//! that were tried.

pub(crate) mod hash_key;
pub(crate) mod input;
pub(crate) mod sticky;
