//! What reading a configuration needs beside its text: names to resolve, files to read, and variables.

use std::collections::{BTreeSet, HashMap};
use std::env::{self, VarError};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read};
use std::net::{IpAddr, ToSocketAddrs};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::thread;

/// The largest file that is read, in bytes: a configuration of 10,000 hosts takes a third of it.
pub(super) const MAX_BYTES: usize = 1 << 20;

/// Names that are resolved at the same time. Each that fails may take the resolver's full timeout of several seconds.
const CONCURRENT_LOOKUPS: usize = 16;

/// Resolves names, reads files and knows the environment variables. Tests replace [`System`] with their own, so that parsing is a function of the text.
pub trait Environment: Sync {
    /// The addresses of a host name, best first.
    ///
    /// # Errors
    /// The name cannot be resolved.
    fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>>;

    /// The content of a file.
    ///
    /// # Errors
    /// The file cannot be read.
    fn read(&self, file: &Path) -> io::Result<Vec<u8>>;

    /// The content of a file that only its owner may read.
    ///
    /// # Errors
    /// Others may read or write it, or it cannot be read.
    fn read_private(&self, file: &Path) -> io::Result<Vec<u8>> {
        self.read(file)
    }

    /// The names in a directory, in any order.
    ///
    /// # Errors
    /// The directory cannot be read.
    fn list(&self, _directory: &Path) -> io::Result<Vec<OsString>> {
        Err(io::ErrorKind::NotFound.into())
    }

    /// An environment variable.
    ///
    /// # Errors
    /// It is not set, or not UTF-8.
    fn variable(&self, _name: &str) -> Result<String, VarError> {
        Err(VarError::NotPresent)
    }
}

/// The system's resolver and its files, and the variables of this process.
#[derive(Debug, Clone, Copy, Default)]
pub struct System;

impl Environment for System {
    fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        let addresses = (name, 0).to_socket_addrs()?;
        Ok(addresses.map(|address| address.ip()).collect())
    }

    /// At most 1 MiB; a larger file is an error.
    fn read(&self, file: &Path) -> io::Result<Vec<u8>> {
        whole(File::open(file)?)
    }

    fn read_private(&self, file: &Path) -> io::Result<Vec<u8>> {
        let file = File::open(file)?;
        let mode = file.metadata()?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                format!("its mode is {mode:04o}, and only its owner may read it; `chmod 600` it"),
            ));
        }
        whole(file)
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<OsString>> {
        let entries = fs::read_dir(directory)?;
        entries.map(|entry| Ok(entry?.file_name())).collect()
    }

    fn variable(&self, name: &str) -> Result<String, VarError> {
        env::var(name)
    }
}

/// The content of a text file without the byte order mark that some editors write.
pub(super) fn without_bom(content: &[u8]) -> &[u8] {
    content.strip_prefix(b"\xef\xbb\xbf").unwrap_or(content)
}

fn whole(file: File) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    // One byte more than the limit, so that a device without an end is an error too.
    file.take(MAX_BYTES as u64 + 1).read_to_end(&mut content)?;
    if content.len() > MAX_BYTES {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            "larger than 1 MiB",
        ));
    }
    Ok(content)
}

/// Every name with its address, or with the reason why it has none.
pub(super) type Names = HashMap<String, Result<IpAddr, String>>;

/// Resolves all `names`, several at a time.
pub(super) fn resolve_all(names: BTreeSet<String>, environment: &dyn Environment) -> Names {
    let names = Vec::from_iter(names);
    let mut resolved = Names::with_capacity(names.len());
    for batch in names.chunks(CONCURRENT_LOOKUPS) {
        thread::scope(|scope| {
            let running = Vec::from_iter(batch.iter().map(|name| {
                let lookup = thread::Builder::new()
                    .spawn_scoped(scope, move || first_address(name, environment));
                (name, lookup)
            }));
            for (name, lookup) in running {
                let found = lookup.map(|lookup| lookup.join());
                let found = match found {
                    Ok(Ok(found)) => found,
                    Ok(Err(_)) => Err("the resolver failed".to_owned()),
                    Err(error) => Err(format!("there is no thread to resolve it with: {error}")),
                };
                resolved.insert(name.clone(), found);
            }
        });
    }
    resolved
}

fn first_address(name: &str, environment: &dyn Environment) -> Result<IpAddr, String> {
    match environment.resolve(name) {
        Ok(addresses) => addresses
            .first()
            .copied()
            .ok_or_else(|| "it has no address".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}
