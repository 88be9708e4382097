//! The lookups, with the system's files as they are now.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hickory_resolver::proto::rr::Name;
use tokio::task::spawn_blocking;

use super::answer::{AddressAnswer, DnsError, ServiceAnswer};
use super::lookup::Lookup;
use super::system_files::{Stamps, SystemConfig, SystemFiles};
use crate::config;

/// How often a lookup looks whether the system's files have changed.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Looks names up. Clones share what was read of the system's files.
#[derive(Debug, Clone)]
pub(crate) struct DnsResolver {
    config: Arc<config::Dns>,
    files: Arc<SystemFiles>,
    current: Arc<Mutex<Current>>,
}

#[derive(Debug)]
struct Current {
    checked: Instant,
    stamps: Stamps,
    system: Arc<SystemConfig>,
}

impl DnsResolver {
    /// # Errors
    ///
    /// For people: what is wrong with /etc/hosts or /etc/resolv.conf.
    pub(crate) fn new(config: &config::Dns) -> Result<DnsResolver, String> {
        DnsResolver::with_files(config, SystemFiles::default())
    }

    pub(super) fn with_files(
        config: &config::Dns,
        files: SystemFiles,
    ) -> Result<DnsResolver, String> {
        // Before the files are read, so that a change in between is noticed later.
        let (checked, stamps) = (Instant::now(), files.stamps());
        let current = Current {
            checked,
            stamps,
            system: Arc::new(files.read()?),
        };
        Ok(DnsResolver {
            config: Arc::new(config.clone()),
            files: Arc::new(files),
            current: Arc::new(Mutex::new(current)),
        })
    }

    /// All addresses of a name: those in /etc/hosts, else its A and AAAA records. A name with a dot at the end is absolute.
    /// It ends within (2 × `attempts` × servers + 1) × `timeout`, whatever the servers do.
    ///
    /// # Errors
    ///
    /// There is no address, or no server says.
    pub(crate) async fn addresses(&self, name: &str) -> Result<AddressAnswer, DnsError> {
        let name = parse(name)?;
        let found = self.begin().await.addresses(&name).await?;
        Ok(AddressAnswer {
            addresses: found.values,
            ttl: self.bounded(found.ttl),
            is_complete: found.is_complete,
            whole: found.whole,
        })
    }

    /// The SRV records of a service, such as `_http._tcp.app.internal`, with all addresses of their targets. It ends within
    /// twice the time of [`DnsResolver::addresses`].
    ///
    /// # Errors
    ///
    /// There is no target, none has an address, or no server says.
    pub(crate) async fn services(&self, name: &str) -> Result<ServiceAnswer, DnsError> {
        let name = parse(name)?;
        let found = self.begin().await.services(&name).await?;
        Ok(ServiceAnswer {
            targets: found.values,
            ttl: self.bounded(found.ttl),
            is_complete: found.is_complete,
        })
    }

    async fn begin(&self) -> Lookup {
        let system = self.system().await;
        Lookup::begin(Arc::clone(&self.config), system)
    }

    fn bounded(&self, ttl: u32) -> Duration {
        let ttl = Duration::from_secs(ttl.into());
        ttl.max(self.config.min_ttl).min(self.config.max_ttl)
    }

    async fn system(&self) -> Arc<SystemConfig> {
        {
            let mut current = self.current();
            if current.checked.elapsed() < CHECK_INTERVAL {
                return Arc::clone(&current.system);
            }
            current.checked = Instant::now();
        }
        let resolver = self.clone();
        let refreshed = spawn_blocking(move || resolver.refresh()).await;
        refreshed.unwrap_or_else(|_| Arc::clone(&self.current().system))
    }

    /// Reads the files again if they have changed; what they said before stays in force if one of them is wrong.
    pub(super) fn refresh(&self) -> Arc<SystemConfig> {
        let stamps = self.files.stamps();
        if self.current().stamps != stamps {
            let read = self.files.read();
            let mut current = self.current();
            current.stamps = stamps;
            match read {
                Ok(system) => current.system = Arc::new(system),
                Err(reason) => {
                    log::warn!("{reason}; names are looked up as before this file changed")
                }
            }
        }
        Arc::clone(&self.current().system)
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn parse(name: &str) -> Result<Name, DnsError> {
    match Name::from_str_relaxed(name) {
        Ok(parsed) if !parsed.is_root() && parsed.iter().count() > 0 => Ok(parsed),
        Ok(_) => Err(DnsError::Failed(format!("`{name}` is not a name"))),
        Err(error) => Err(DnsError::Failed(format!(
            "`{name}` is not a name in DNS: {error}"
        ))),
    }
}
