//! The directory of what lasts: account, certificates, failures and challenges, and the locks of the instances that have it
//! in common.
//!
//! Files are replaced as a whole, so a reader gets the old or the new content. Everything here blocks, on a file system
//! that may be far away; [`blocking`] runs it on a thread of its own.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::task::spawn_blocking;

use super::failure::Failure;
use crate::config::{Acme, Certificate, CertificatePair, System};

/// The largest file that is read.
const MAX_FILE: u64 = 1 << 20;

const ACCOUNT: &str = "account.json";

/// The state of one authority.
#[derive(Debug, Clone)]
pub(super) struct StateDirectory {
    root: PathBuf,
}

/// What is known of a certificate.
#[derive(Debug, Clone)]
pub(super) struct DomainState {
    pub(super) domain: String,
    /// The certificate in use, if there is one.
    pub(super) certificate: Option<Certificate>,
    pub(super) failure: Option<Failure>,
}

/// A lock that is released when it is dropped, or when the process ends.
pub(super) type DirectoryLock = Flock<File>;

/// Runs what reads or writes the directory.
///
/// # Errors
/// That of `work`, with what it was about; or a panic in it.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, String> {
    match spawn_blocking(work).await {
        Ok(done) => done.map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

impl StateDirectory {
    /// Opens the directory, and makes what is missing of it.
    ///
    /// # Errors
    /// It cannot be made, or everyone may write to it.
    pub(super) fn open(acme: &Acme) -> io::Result<Self> {
        let root = acme.authority_directory();
        for directory in [
            &acme.state_directory,
            &root,
            &root.join("certificates"),
            &root.join("failures"),
            &root.join("challenges"),
        ] {
            let made = DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(directory);
            made.map_err(|error| about("make", directory, &error))?;
            let mode = fs::metadata(directory)?.permissions().mode();
            if mode & 0o002 != 0 {
                let path = directory.display();
                let message = format!(
                    "everyone may write to `{path}`, which has private keys; `chmod 700` it"
                );
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, message));
            }
        }
        Ok(StateDirectory { root })
    }

    /// The right to order, unless another instance has it.
    pub(super) fn try_lock(&self) -> io::Result<Option<DirectoryLock>> {
        let path = self.root.join("lock");
        match Flock::lock(lock_file(&path)?, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(Some(lock)),
            Err((_, Errno::EWOULDBLOCK)) => Ok(None),
            Err((_, error)) => Err(about("lock", &path, &error.into())),
        }
    }

    /// Tells other instances that this one answers challenges as well, until the returned lock is dropped.
    pub(super) fn join(&self) -> io::Result<DirectoryLock> {
        let path = self.root.join("instances");
        let lock = Flock::lock(lock_file(&path)?, FlockArg::LockShared);
        lock.map_err(|(_, error)| about("lock", &path, &error.into()))
    }

    /// What is known of the certificate for each of `domains`.
    pub(super) fn read(&self, domains: &[String]) -> Vec<DomainState> {
        let read = |domain: &String| DomainState {
            domain: domain.clone(),
            certificate: self.certificate(domain),
            failure: self.failure(domain),
        };
        domains.iter().map(read).collect()
    }

    fn certificate(&self, domain: &str) -> Option<Certificate> {
        let files = pair(self.certificate_file(domain));
        let read = files
            .chain_file
            .exists()
            .then(|| Certificate::read(files, &System))?;
        let is_for =
            |certificate: &Certificate| certificate.names.iter().any(|name| name == domain);
        read.ok().filter(is_for)
    }

    fn failure(&self, domain: &str) -> Option<Failure> {
        // What cannot be read is as good as none: the next attempt comes sooner.
        read_json(&self.failure_file(domain)).ok()
    }

    /// Keeps a certificate, and forgets the failures before it.
    ///
    /// # Errors
    /// The text is not a certificate for `domain` with its key, or it cannot be written.
    pub(super) fn write_certificate(
        &self,
        domain: &str,
        text: &str,
        now: i64,
    ) -> io::Result<Certificate> {
        let path = self.certificate_file(domain);
        let new = write_new(&path, text.as_bytes())?;
        let checked = Certificate::read(pair(new.clone()), &System).and_then(|certificate| {
            let is_named = certificate.names.iter().any(|name| name == domain);
            match is_named && certificate.validity.until > now {
                true => Ok(certificate),
                false => Err(format!("it is not for {domain}, or has expired")),
            }
        });
        let certificate = match checked {
            Ok(certificate) => certificate,
            Err(problem) => {
                fs::remove_file(&new)?;
                let message =
                    format!("the certificate that the authority has sent is not used: {problem}");
                return Err(io::Error::new(io::ErrorKind::InvalidData, message));
            }
        };
        replace(&new, &path)?;
        remove(&self.failure_file(domain))?;
        Ok(certificate)
    }

    pub(super) fn write_failure(&self, domain: &str, failure: &Failure) -> io::Result<()> {
        write_json(&self.failure_file(domain), failure)
    }

    /// The account's credentials. `None`: no account has been made.
    pub(super) fn account<T: DeserializeOwned>(&self) -> io::Result<Option<T>> {
        match read_json(&self.root.join(ACCOUNT)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            read => read.map(Some),
        }
    }

    pub(super) fn write_account(&self, account: &impl Serialize) -> io::Result<()> {
        write_json(&self.root.join(ACCOUNT), account)
    }

    pub(super) fn remove_account(&self) -> io::Result<()> {
        remove(&self.root.join(ACCOUNT))
    }

    /// The directory of answers to challenges.
    pub(super) fn challenges(&self) -> PathBuf {
        self.root.join("challenges")
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    fn certificate_file(&self, domain: &str) -> PathBuf {
        self.root.join("certificates").join(format!("{domain}.pem"))
    }

    fn failure_file(&self, domain: &str) -> PathBuf {
        self.root.join("failures").join(format!("{domain}.json"))
    }
}

/// Whether no other instance has joined than the one with this lock. It stays joined.
pub(super) fn is_alone(joined: &DirectoryLock) -> io::Result<bool> {
    match joined.relock(FlockArg::LockExclusiveNonblock) {
        Ok(()) => {
            joined.relock(FlockArg::LockShared)?;
            Ok(true)
        }
        Err(Errno::EWOULDBLOCK) => {
            // A failed conversion gives up the lock that was there.
            joined.relock(FlockArg::LockShared)?;
            Ok(false)
        }
        Err(error) => Err(error.into()),
    }
}

/// Writes a file that only its owner may read, in one step.
pub(super) fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    let new = write_new(path, content)?;
    replace(&new, path)
}

/// Removes a file, if it is there.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed.map_err(|error| about("remove", path, &error)),
    }
}

/// The content of a file.
pub(super) fn read(path: &Path) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    if length > MAX_FILE {
        let error = io::ErrorKind::FileTooLarge.into();
        return Err(about("read", path, &error));
    }
    fs::read(path)
}

/// Writes the content that `path` is to have next to it, under a hidden name of this process.
fn write_new(path: &Path, content: &[u8]) -> io::Result<PathBuf> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let new = path.with_file_name(format!(".{name}.{}", process::id()));
    let written = (|| {
        // Left over by an earlier process with this number.
        remove(&new)?;
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&new)?;
        file.write_all(content)?;
        file.sync_all()
    })();
    written.map_err(|error| about("write", &new, &error))?;
    Ok(new)
}

fn replace(new: &Path, path: &Path) -> io::Result<()> {
    fs::rename(new, path).map_err(|error| about("write", path, &error))?;
    let directory = path.parent().unwrap_or(path);
    // The new name lasts once the directory is written.
    File::open(directory).and_then(|directory| directory.sync_all())
}

fn lock_file(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path);
    file.map_err(|error| about("open", path, &error))
}

fn read_json<T: DeserializeOwned>(path: &Path) -> io::Result<T> {
    let read = serde_json::from_slice(&read(path)?);
    read.map_err(|error| about("read", path, &error.into()))
}

fn write_json(path: &Path, value: &impl Serialize) -> io::Result<()> {
    write(path, &serde_json::to_vec(value)?)
}

fn pair(file: PathBuf) -> CertificatePair {
    CertificatePair {
        chain_file: file.clone(),
        key_file: file,
        ocsp_file: None,
    }
}

fn about(verb: &str, path: &Path, error: &io::Error) -> io::Error {
    let message = format!("cannot {verb} `{}`: {error}", path.display());
    io::Error::new(error.kind(), message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(folder: &Path) -> StateDirectory {
        let root = folder.join("authority");
        for name in ["certificates", "failures", "challenges"] {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(root.join(name))
                .unwrap();
        }
        StateDirectory { root }
    }

    fn certificate(name: &str) -> String {
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        made.cert.pem() + &made.signing_key.serialize_pem()
    }

    #[test]
    fn files_are_private_and_replaced_as_a_whole() {
        let folder = tempfile::tempdir().unwrap();
        let state = directory(folder.path());
        let (domain, domains) = ("a.test", ["a.test".to_owned(), "b.test".to_owned()]);
        let failure = Failure::after(None, "error".to_owned(), None, 0, 0);
        state.write_failure(domain, &failure).unwrap();
        assert_eq!(state.read(&domains)[0].failure, Some(failure));
        let written = state
            .write_certificate(domain, &certificate(domain), 0)
            .unwrap();
        let known = state.read(&domains);
        let found = known[0].certificate.as_ref().unwrap();
        assert_eq!(found.certified.cert, written.certified.cert);
        assert!(known[0].failure.is_none() && known[1].certificate.is_none());
        // Another's certificate, or half of one, does not take its place.
        for wrong in [certificate("b.test"), certificate(domain)[..200].to_owned()] {
            state.write_certificate(domain, &wrong, 0).unwrap_err();
        }
        assert!(
            state
                .write_certificate(domain, &certificate(domain), i64::MAX)
                .is_err()
        );
        assert_eq!(state.read(&domains)[0].certificate, known[0].certificate);
        let files = fs::read_dir(state.root.join("certificates")).unwrap();
        let modes =
            files.map(|file| file.unwrap().metadata().unwrap().permissions().mode() & 0o777);
        assert_eq!(Vec::from_iter(modes), [0o600]);
    }

    #[test]
    fn one_instance_orders_and_knows_whether_it_is_alone() {
        let folder = tempfile::tempdir().unwrap();
        let state = directory(folder.path());
        let lock = state.try_lock().unwrap();
        assert!(lock.is_some() && state.try_lock().unwrap().is_none());
        drop(lock);
        assert!(state.try_lock().unwrap().is_some());
        let one = state.join().unwrap();
        assert!(is_alone(&one).unwrap());
        let other = state.join().unwrap();
        assert!(!is_alone(&one).unwrap() && !is_alone(&other).unwrap());
        drop(one);
        assert!(is_alone(&other).unwrap());
    }

    #[test]
    fn a_file_that_is_no_json_is_an_error_for_the_account_only() {
        let folder = tempfile::tempdir().unwrap();
        let state = directory(folder.path());
        assert_eq!(state.account::<u8>().unwrap(), None);
        state.write_account(&7).unwrap();
        assert_eq!(state.account::<u8>().unwrap(), Some(7));
        fs::write(state.root.join(ACCOUNT), "{").unwrap();
        assert!(state.account::<u8>().is_err());
        fs::write(state.failure_file("a.test"), "{").unwrap();
        assert!(state.read(&["a.test".to_owned()])[0].failure.is_none());
    }
}
