//! One look at all files.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::config::{
    Authorities, Certificate, CertificatePair, CertificateSource, ClientCertificates, Config,
    ListenerAddress, ListenerTls, PoolTls, SessionTickets, ShownIdentity, System,
};
use crate::file_stamps::{SeenFiles, Stamps};

/// What files are read for.
const SERVED: &str = "a certificate of a listener";
const STAPLED: &str = "an OCSP response";
const CLIENTS: &str = "authorities of clients";
const REVOCATIONS: &str = "revocation lists";
const TICKETS: &str = "a secret of session tickets";
const POOLS: &str = "TLS to hosts";

/// The parts of a configuration that are read from files.
#[derive(Debug)]
pub(super) struct Watched {
    listeners: Vec<(ListenerAddress, ListenerTls)>,
    pools: Vec<(String, PoolTls)>,
}

/// What a look at the files found.
#[derive(Debug, Default)]
pub(in crate::server) struct Scan {
    /// The TLS of listeners with changes.
    pub(in crate::server) listeners: Vec<(ListenerAddress, ListenerTls)>,
    /// The TLS of pools with changes, by the name of the pool.
    pub(in crate::server) pools: Vec<(String, PoolTls)>,
    /// One line for each file that is used from now on, or no longer.
    pub(in crate::server) changes: Vec<String>,
    /// The same for those of pools.
    pool_changes: Vec<(PathBuf, String)>,
    /// Why changed files are not used.
    pub(in crate::server) refused: BTreeMap<PathBuf, String>,
    /// What else an operator should know since the last look.
    pub(in crate::server) warnings: Vec<String>,
    pub(super) seen: SeenFiles,
    /// In Unix seconds.
    pub(super) at: i64,
}

impl Watched {
    pub(super) fn of(config: &Config) -> Self {
        let listeners = config.listeners.iter();
        let pools = config.pools.iter();
        Watched {
            listeners: listeners
                .filter_map(|listener| Some((listener.address.clone(), listener.tls.clone()?)))
                .collect(),
            pools: pools
                .filter_map(|pool| Some((pool.name.clone(), pool.tls.clone()?)))
                .collect(),
        }
    }
}

impl Scan {
    /// Looks at all files. Those in `seen` need not be read. The last look was at `before`; both times are in Unix seconds.
    pub(super) fn of(watched: &Watched, seen: &SeenFiles, before: i64, at: i64) -> Self {
        let mut scan = Scan {
            at,
            ..Scan::default()
        };
        for (address, tls) in &watched.listeners {
            if let Some(tls) = scan.listener(tls, seen, before) {
                scan.listeners.push((address.clone(), tls));
            }
        }
        for (name, tls) in &watched.pools {
            if let Some(tls) = scan.pool(name, tls, seen, before) {
                scan.pools.push((name.clone(), tls));
            }
        }
        scan
    }

    /// The pools could be used with what was found.
    pub(in crate::server) fn accept_pools(&mut self) {
        let changes = std::mem::take(&mut self.pool_changes).into_iter();
        self.changes.extend(changes.map(|(_, change)| change));
    }

    /// The pools could not be used with what was found; the next look finds it again.
    pub(in crate::server) fn refuse_pools(&mut self, reason: &str) {
        for (file, _) in std::mem::take(&mut self.pool_changes) {
            self.refuse(&file, reason.to_owned());
        }
        self.seen.remove(POOLS);
    }

    /// Looks at the files of a listener, and returns its TLS if that has changed.
    fn listener(
        &mut self,
        tls: &ListenerTls,
        seen: &SeenFiles,
        before: i64,
    ) -> Option<ListenerTls> {
        let mut now = tls.clone();
        let mut is_changed = false;
        for source in now.sources_mut() {
            let changed = self.source(source, seen);
            if let Some(changed) = changed {
                self.warnings.extend(changed.duplicates(self.at));
                *source = changed;
                is_changed = true;
            }
            // The preference among certificates for the same name depends on what is valid.
            is_changed |= self.passes_date(source, before);
        }
        if let Some(clients) = &mut now.client_certificates {
            is_changed |= self.clients(clients, seen, before);
        }
        if let Some(tickets) = &mut now.session_tickets {
            is_changed |= self.tickets(tickets, seen);
        }
        is_changed.then_some(now)
    }

    /// Looks at the files of a source, and returns what it has now if that has changed.
    fn source(
        &mut self,
        source: &CertificateSource,
        seen: &SeenFiles,
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
        for files in pairs {
            let before = old.remove(files.chain_file.as_path());
            certificates.extend(self.pair(files, before, seen));
        }
        if let CertificateSource::Ordered { domains, .. } = source {
            // A file system that is away for a moment, or a file that was removed, is no reason to serve nothing.
            certificates.extend(old.drain().map(|(_, certificate)| certificate.clone()));
            certificates.sort_by_key(|certificate| place(certificate, domains));
        } else if certificates.is_empty() {
            let problem = "no certificate would be left".to_owned();
            self.refuse(directory_of(source), problem);
            return None;
        }
        for certificate in old.into_values() {
            self.note(format!("certificate removed: {}", certificate.describe()));
        }
        (certificates != source.certificates()).then(|| source.replaced(certificates))?
    }

    /// The certificate of a pair of files from now on.
    fn pair(
        &mut self,
        files: CertificatePair,
        before: Option<&Certificate>,
        seen: &SeenFiles,
    ) -> Option<Certificate> {
        let at = self.at;
        let ocsp_file = files.ocsp_file.clone();
        let paths = files.clone();
        let paths = [paths.chain_file.as_path(), paths.key_file.as_path()];
        let read = self.read_changed((SERVED, &paths), before, seen, || {
            // Another program renews the OCSP response, at another time.
            let mut read = Certificate::read(without_ocsp(files), &System)?;
            read.may_replace(before, at)?;
            if let Some(before) = before
                && before.certified.cert.first() == read.certified.cert.first()
            {
                read.files.ocsp_file.clone_from(&before.files.ocsp_file);
                read.ocsp.clone_from(&before.ocsp);
            }
            Ok(read)
        });
        if let Some(read) = &read {
            let what = before.map_or("added", |_| "renewed");
            self.note(format!("certificate {what}: {}", read.describe()));
        }
        let mut certificate = read.or_else(|| before.cloned())?;
        self.response(&mut certificate, ocsp_file, seen);
        Some(certificate)
    }

    /// Looks at the file of a certificate's OCSP response.
    fn response(&mut self, certificate: &mut Certificate, file: Option<PathBuf>, seen: &SeenFiles) {
        let Some(file) = file else {
            if let Some(file) = certificate.files.ocsp_file.take() {
                let file = file.display();
                self.note(format!("OCSP response removed: `{file}`"));
                certificate.ocsp = None;
            }
            return;
        };
        let at = self.at;
        // One that has expired is refused at each look, as it would be if it were new.
        let current = certificate.response();
        let current = current.filter(|response| response.date_fault(at).is_none());
        let paths = [file.as_path(), certificate.files.chain_file.as_path()];
        let read = self.read_changed((STAPLED, &paths), current, seen, || {
            certificate.read_response(&file, at, &System)
        });
        if let Some(read) = read {
            self.note(format!("OCSP response renewed: {}", read.describe()));
            certificate.ocsp = Some(Ok(read));
        } else if certificate.response().is_none() {
            let reason = self.refused.get(&file).cloned();
            certificate.ocsp = Some(Err(reason.unwrap_or_default()));
        }
        certificate.files.ocsp_file = Some(file);
    }

    /// Looks at the files about clients, each for itself: a list of revocations must not wait for anything else. Returns
    /// whether they have changed.
    fn clients(&mut self, clients: &mut ClientCertificates, seen: &SeenFiles, before: i64) -> bool {
        let at = self.at;
        let mut is_changed = false;
        if let Some(ca) = self.authorities(CLIENTS, &clients.ca, seen) {
            let file = ca.file.display();
            self.note(format!("authorities of clients renewed: `{file}`"));
            clients.ca = ca;
            is_changed = true;
        }
        let Some(crl) = &mut clients.crl else {
            return is_changed;
        };
        let read = self.read_changed((REVOCATIONS, &[&crl.file]), Some(crl), seen, || {
            let read = crl.reread(&System)?;
            read.may_replace(crl, at)?;
            Ok(read)
        });
        if let Some(read) = read {
            self.note(format!("revocation lists renewed: {}", read.describe()));
            *crl = read;
            is_changed = true;
        }
        self.warnings.extend(crl.new_warnings(before, at));
        is_changed
    }

    fn tickets(&mut self, tickets: &mut SessionTickets, seen: &SeenFiles) -> bool {
        let Some(secret) = &tickets.secret_file else {
            return false;
        };
        let files: [&Path; 1] = [&secret.file];
        let read = self.read_changed((TICKETS, &files), Some(secret), seen, || {
            secret.reread(&System)
        });
        let Some(read) = read else {
            return false;
        };
        let file = read.file.display();
        self.note(format!("secret of session tickets renewed: `{file}`"));
        tickets.secret_file = Some(read);
        true
    }

    /// Looks at the files of a pool, and returns its TLS if that has changed.
    fn pool(
        &mut self,
        name: &str,
        tls: &PoolTls,
        seen: &SeenFiles,
        before: i64,
    ) -> Option<PoolTls> {
        let mut now = tls.clone();
        let changes = self.pool_changes.len();
        if let Some(ca) = tls.ca.as_ref()
            && let Some(ca) = self.authorities(POOLS, ca, seen)
        {
            let shown = ca.file.display();
            let change = format!("authorities of the pool {name} renewed: `{shown}`");
            self.pool_changes.push((ca.file.clone(), change));
            now.ca = Some(ca);
        }
        if let Some(mut identity) = tls.identity() {
            if let Some(read) = self.identity(&identity, seen) {
                let change = format!(
                    "certificate of the pool {name} renewed: {}",
                    read.describe()
                );
                self.pool_changes
                    .push((read.certificate.file.clone(), change));
                now.certificate = Some(read.certificate.clone());
                now.key = Some(read.key.clone());
                identity = read;
            }
            self.warnings.extend(identity.new_warnings(before, self.at));
        }
        (self.pool_changes.len() > changes).then_some(now)
    }

    fn identity(&mut self, identity: &ShownIdentity, seen: &SeenFiles) -> Option<ShownIdentity> {
        let at = self.at;
        let files = [&*identity.certificate.file, &*identity.key.file];
        self.read_changed((POOLS, &files), Some(identity), seen, || {
            let read = identity.reread(&System)?;
            read.may_replace(identity, at)?;
            Ok(read)
        })
    }

    fn authorities(
        &mut self,
        purpose: &'static str,
        current: &Authorities,
        seen: &SeenFiles,
    ) -> Option<Authorities> {
        self.read_changed((purpose, &[&current.file]), Some(current), seen, || {
            current.reread(&System)
        })
    }

    /// Reads files that may have changed. `None`: there is nothing new in them, or it cannot be used, which is recorded with
    /// the first one.
    fn read_changed<T: PartialEq>(
        &mut self,
        (purpose, files): (&'static str, &[&Path]),
        current: Option<&T>,
        seen: &SeenFiles,
        read: impl FnOnce() -> Result<T, String>,
    ) -> Option<T> {
        // Taken first: what changes while the files are read is noticed the next time.
        let stamps = Stamps::of(files);
        if let (Some(_), Some(stamps)) = (current, &stamps)
            && seen.includes(purpose, files, stamps)
        {
            self.seen.insert(purpose, files, stamps.clone());
            return None;
        }
        let read = match read() {
            Ok(read) => read,
            Err(reason) => {
                self.refuse(files.first()?, reason);
                return None;
            }
        };
        if let Some(stamps) = stamps.filter(|stamps| stamps.are_settled(self.at)) {
            self.seen.insert(purpose, files, stamps);
        }
        (current != Some(&read)).then_some(read)
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

fn without_ocsp(files: CertificatePair) -> CertificatePair {
    CertificatePair {
        ocsp_file: None,
        ..files
    }
}

/// Which of the domains an ordered certificate is for.
fn place(certificate: &Certificate, domains: &[String]) -> Option<usize> {
    let domain = certificate.files.chain_file.file_stem()?;
    domains.iter().position(|it| OsStr::new(it) == domain)
}

/// The path that a source is known by.
fn directory_of(source: &CertificateSource) -> &Path {
    match source {
        CertificateSource::Files(certificate) => &certificate.files.chain_file,
        CertificateSource::Directory { path, .. } | CertificateSource::Ordered { path, .. } => path,
    }
}

#[cfg(test)]
mod tests;
