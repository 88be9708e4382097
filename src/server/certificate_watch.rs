//! Notices changed files of certificates, and reads them while the ones before serve.
//!
//! Files are looked at in intervals instead of being watched by the kernel. That notices every way in which they change:
//! written in place, renamed over, swapped behind a symbolic link somewhere in the path, or changed on another machine that
//! exports them; and no event can be missed. It costs two calls to the kernel for each certificate and interval.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::future::pending;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use log::error;
use tokio::sync::Notify;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, sleep_until};

use crate::config::{Certificate, CertificatePair, CertificateSource, Config, System};
use crate::timestamp::Timestamp;

/// A file that changed this recently may change once more within the resolution of its timestamps, so it is read again.
const SETTLING: i64 = 2;

/// A shorter interval would keep a core busy with many certificates.
const MIN_INTERVAL: Duration = Duration::from_millis(10);

/// The state of a file, which differs once the file is written or another one is in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    /// In seconds and nanoseconds. The time of the last write can be set at will, so it is not enough.
    written: (i64, i64),
    changed: (i64, i64),
}

/// The files of a pair, as they were when they were read.
#[derive(Debug, Clone, PartialEq, Eq)]
struct SeenPair {
    key_file: PathBuf,
    stamps: [Stamp; 2],
}

/// The pairs that need not be read, by the file of the chain.
type SeenPairs = HashMap<PathBuf, SeenPair>;

/// Looks at the files of certificates in intervals.
#[derive(Debug)]
pub(super) struct CertificateWatch {
    seen: SeenPairs,
    /// Why changed files are not used.
    refused: BTreeMap<PathBuf, String>,
    /// When files were looked at last, in Unix seconds.
    looked: i64,
    last: Instant,
    running: Option<JoinHandle<Scan>>,
}

/// What a look at the files found.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// The certificates of listeners with changes.
    pub(super) sources: Vec<(SocketAddr, Vec<CertificateSource>)>,
    /// One line for each certificate that is used from now on, or no longer.
    pub(super) changes: Vec<String>,
    /// Why changed files are not used.
    pub(super) refused: BTreeMap<PathBuf, String>,
    /// What else an operator should know since the last look.
    pub(super) warnings: Vec<String>,
    seen: SeenPairs,
    at: i64,
}

impl CertificateWatch {
    /// A watch of files that were read just now.
    pub(super) fn new() -> Self {
        CertificateWatch {
            seen: SeenPairs::new(),
            refused: BTreeMap::new(),
            looked: unix_now(),
            last: Instant::now(),
            running: None,
        }
    }

    /// The next look at the certificates of `config`, once its interval has passed or `renewed` says that there are new
    /// ones. May be cancelled and called again.
    pub(super) async fn next_scan(&mut self, config: &Config, renewed: &Notify) -> Scan {
        loop {
            if let Some(running) = &mut self.running {
                let scan = running.await;
                self.running = None;
                match scan {
                    Ok(scan) => return scan,
                    Err(error) => error!("the certificates could not be checked: {error}"),
                }
            }
            let has_tls = config
                .listeners
                .iter()
                .any(|listener| listener.tls.is_some());
            let interval = config.server.certificate_check.filter(|_| has_tls);
            tokio::select! {
                () = self.wait(interval) => {}
                () = renewed.notified() => {}
            }
            self.last = Instant::now();
            let listeners = config.listeners.iter().filter_map(|listener| {
                let tls = listener.tls.as_ref()?;
                Some((listener.address, tls.sources().cloned().collect()))
            });
            let listeners = Vec::from_iter(listeners);
            let (seen, before) = (self.seen.clone(), self.looked);
            // A file system that does not respond holds up one thread, and no reload.
            self.running = Some(spawn_blocking(move || scan(&listeners, &seen, before)));
        }
    }

    async fn wait(&self, interval: Option<Duration>) {
        match interval {
            Some(interval) => sleep_until(self.last + interval.max(MIN_INTERVAL)).await,
            None => pending().await,
        }
    }

    /// Records what `scan` has seen. Returns the refusals that are new, or have another reason than before.
    pub(super) fn finish(&mut self, scan: &mut Scan) -> Vec<(PathBuf, String)> {
        self.seen = std::mem::take(&mut scan.seen);
        self.looked = scan.at;
        let before = std::mem::replace(&mut self.refused, scan.refused.clone());
        let mut refused = scan.refused.clone();
        refused.retain(|file, reason| before.get(file) != Some(reason));
        refused.into_iter().collect()
    }

    /// Forgets which files were seen, because a reload has read all of them. The result of a running scan is ignored.
    pub(super) fn restart(&mut self) {
        *self = CertificateWatch::new();
    }

    /// Why changed files are not used.
    pub(super) fn refused(&self) -> &BTreeMap<PathBuf, String> {
        &self.refused
    }
}

/// Looks at the files of all listeners. Those in `seen` need not be read.
fn scan(listeners: &[(SocketAddr, Vec<CertificateSource>)], seen: &SeenPairs, before: i64) -> Scan {
    let mut scan = Scan {
        at: unix_now(),
        ..Scan::default()
    };
    for (address, sources) in listeners {
        let mut is_changed = false;
        let mut now = Vec::with_capacity(sources.len());
        for source in sources {
            let changed = scan.source(source, seen);
            let source = changed.as_ref().unwrap_or(source);
            // The preference among certificates for the same name depends on what is valid.
            is_changed |= changed.is_some() || scan.passes_date(source, before);
            if changed.is_some() {
                scan.warnings.extend(source.duplicates(scan.at));
            }
            now.push(source.clone());
        }
        if is_changed {
            scan.sources.push((*address, now));
        }
    }
    scan
}

impl Scan {
    /// Looks at the files of a source, and returns what it has now if that has changed.
    fn source(
        &mut self,
        source: &CertificateSource,
        seen: &SeenPairs,
    ) -> Option<CertificateSource> {
        let pairs = match source.pairs(&System) {
            Ok(pairs) => pairs,
            Err(problem) => {
                self.refuse(directory_of(source), problem);
                return None;
            }
        };
        let old = source.certificates().iter();
        let mut old = HashMap::<&Path, &Certificate>::from_iter(
            old.map(|certificate| (certificate.files.chain_file.as_path(), certificate)),
        );
        let mut certificates = Vec::with_capacity(pairs.len());
        let changes = self.changes.len();
        for files in pairs {
            let before = old.remove(files.chain_file.as_path());
            certificates.extend(self.pair(files, before, seen));
        }
        if let CertificateSource::Ordered { .. } = source {
            // A file system that is away for a moment, or a file that was removed, is no reason to serve nothing.
            certificates.extend(old.drain().map(|(_, certificate)| certificate.clone()));
        } else if certificates.is_empty() {
            let problem = "no certificate would be left".to_owned();
            self.refuse(directory_of(source), problem);
            return None;
        }
        for certificate in old.into_values() {
            self.note(format!("certificate removed: {}", certificate.describe()));
        }
        (self.changes.len() > changes).then(|| source.replaced(certificates))?
    }

    /// The certificate of a pair of files from now on.
    fn pair(
        &mut self,
        files: CertificatePair,
        before: Option<&Certificate>,
        seen: &SeenPairs,
    ) -> Option<Certificate> {
        // Taken first: what changes while the files are read is noticed the next time.
        let pair = SeenPair::of(&files);
        let chain_file = files.chain_file.clone();
        if let (Some(before), Some(pair)) = (before, &pair)
            && seen.get(&chain_file) == Some(pair)
        {
            self.see(chain_file, pair.clone());
            return Some(before.clone());
        }
        let read = Certificate::read(files, &System).and_then(|read| {
            read.may_replace(before, self.at)?;
            Ok(read)
        });
        let read = match read {
            Ok(read) => read,
            Err(reason) => {
                self.refuse(&chain_file, reason);
                return before.cloned();
            }
        };
        if let Some(pair) = pair.filter(|pair| pair.is_settled(self.at)) {
            self.see(chain_file, pair);
        }
        match before {
            Some(before) if *before == read => {}
            Some(_) => self.note(format!("certificate renewed: {}", read.describe())),
            None => self.note(format!("certificate added: {}", read.describe())),
        }
        Some(read)
    }

    /// Whether a certificate becomes valid or expires since `before`; says so.
    fn passes_date(&mut self, source: &CertificateSource, before: i64) -> bool {
        let mut passes = false;
        for certificate in source.certificates() {
            let was_valid = certificate.validity.includes(before);
            passes |= was_valid != certificate.validity.includes(self.at);
            let warnings = certificate.new_warnings(before, self.at);
            self.warnings.extend(warnings);
        }
        passes
    }

    fn see(&mut self, chain_file: PathBuf, pair: SeenPair) {
        self.seen.insert(chain_file, pair);
    }

    fn refuse(&mut self, file: &Path, reason: String) {
        self.refused.insert(file.to_owned(), reason);
    }

    /// Two listeners may have the same files.
    fn note(&mut self, change: String) {
        if !self.changes.contains(&change) {
            self.changes.push(change);
        }
    }
}

impl SeenPair {
    fn of(files: &CertificatePair) -> Option<Self> {
        Some(SeenPair {
            key_file: files.key_file.clone(),
            stamps: [Stamp::of(&files.chain_file)?, Stamp::of(&files.key_file)?],
        })
    }

    fn is_settled(&self, now: i64) -> bool {
        let mut changed = self.stamps.iter().map(|stamp| stamp.changed.0);
        changed.all(|changed| changed + SETTLING < now)
    }
}

impl Stamp {
    /// The state of the file at `path`, links followed; `None` if no file is there.
    fn of(path: &Path) -> Option<Self> {
        let file = fs::metadata(path).ok()?;
        Some(Stamp {
            device: file.dev(),
            inode: file.ino(),
            size: file.size(),
            written: (file.mtime(), file.mtime_nsec()),
            changed: (file.ctime(), file.ctime_nsec()),
        })
    }
}

/// The path that a source is known by.
fn directory_of(source: &CertificateSource) -> &Path {
    match source {
        CertificateSource::Files(certificate) => &certificate.files.chain_file,
        CertificateSource::Directory { path, .. } | CertificateSource::Ordered { path, .. } => path,
    }
}

fn unix_now() -> i64 {
    Timestamp::now().unix_seconds() as i64
}
