//! Certificates that are ordered by ACME (RFC 8555), and renewed before they end.
//!
//! Everything that lasts is in a directory that several instances may have in common: the account, each certificate with
//! its key in one file, what went wrong last, and the answers to challenges. A lock lets one instance order at a time;
//! before it orders, it looks again at what the others have done. Every instance looks for challenges once a second, so it
//! answers those of the others as well, and an authority's question may reach any of them. Certificates are read by what
//! watches the files of all certificates.
//!
//! The protocol is instant-acme's. Its requests are requests of the proxy's own, like those to a collector of traces,
//! and none takes longer than its timeout.

mod account;
mod challenge_files;
mod directory_client;
mod failure;
mod manager;
mod order;
mod order_error;
mod renewal;
mod schedule;
mod state_directory;
mod status;

pub(crate) use manager::{AcmeManager, AcmeManagerParts};
pub use status::{AcmeCertificate, AcmeStatus};
