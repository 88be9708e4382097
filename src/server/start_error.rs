//! Why a server did not start.

use std::error::Error;
use std::fmt;

use crate::pool::PoolError;

/// Why the server did not start.
#[derive(Debug)]
pub enum StartError {
    /// A pool of the configuration cannot be built.
    Pool(PoolError),
    /// A certificate or its key is unusable.
    Certificate(String),
    /// A listener cannot be bound.
    Listen(String),
    /// A runtime file (pid file, socket, access log) cannot be created, or another process owns it.
    Files(String),
    /// Sources have told no hosts where there have to be some.
    Discovery(String),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Pool(error) => error.fmt(f),
            StartError::Certificate(reason)
            | StartError::Listen(reason)
            | StartError::Files(reason)
            | StartError::Discovery(reason) => f.write_str(reason),
        }
    }
}

impl Error for StartError {}
