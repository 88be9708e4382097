//! Takes in changed files of TLS, as a reload does.

use log::warn;

use super::{Reloader, RuntimeOverrides};
use crate::event_log::EventKind;
use crate::metrics::CertificateOutcome;
use crate::server::certificate_watch::Scan;
use crate::server::reload_plan::FirstRound;

impl Reloader {
    /// Uses what `scan` has found from the next handshake on, and says what changed and what is refused.
    pub(super) async fn take_certificates(&mut self, mut scan: Scan) {
        let is_changed = !scan.listeners.is_empty();
        for (address, tls) in std::mem::take(&mut scan.listeners) {
            for config in [&mut self.config, &mut self.file_config] {
                let mut listeners = config.listeners.iter_mut();
                if let Some(listener) = listeners.find(|listener| listener.address == address) {
                    listener.tls = Some(tls.clone());
                }
            }
        }
        if is_changed {
            self.update_tls();
        }
        let is_changed = self.take_pools(&mut scan).await || is_changed;
        let is_news = is_changed || *self.certificate_watch.refused() != scan.refused;
        let refusals = self.certificate_watch.finish(&mut scan);
        if is_changed {
            self.previewer.set_file_config(&self.file_config);
        }
        if is_news {
            self.publish(self.loaded_config.load().loaded);
        }
        for change in scan.changes {
            self.observers
                .counts
                .count_certificate(CertificateOutcome::Taken);
            let kind = EventKind::CertificateChanged;
            self.event_log.log_event(kind, None, None, change);
        }
        for (file, reason) in refusals {
            self.observers
                .counts
                .count_certificate(CertificateOutcome::Refused);
            let file = file.display();
            let text = format!("`{file}` not taken in, what it held before stays in use: {reason}");
            let kind = EventKind::CertificateRefused;
            self.event_log.log_event(kind, None, None, text);
        }
        scan.warnings.iter().for_each(|line| warn!("{line}"));
    }

    /// Rebuilds the pools whose files have changed, as a reload does. Returns whether there are any.
    async fn take_pools(&mut self, scan: &mut Scan) -> bool {
        if scan.pools.is_empty() {
            return false;
        }
        let mut file_config = self.file_config.clone();
        for pool in &mut file_config.pools {
            if let Some((_, tls)) = scan.pools.iter().find(|(name, _)| *name == pool.name) {
                pool.tls = Some(tls.clone());
            }
        }
        let found_config = self.with_found_hosts(&file_config);
        let mut overrides = RuntimeOverrides::clone(&self.overrides.load());
        let (config, _) = self.effective(&found_config, &mut overrides);
        let loaded = self.loaded_config.load().loaded;
        match self.activate(config, loaded, FirstRound::Awaited).await {
            Ok(()) => {
                self.file_config = file_config;
                self.found_config = found_config;
                scan.accept_pools();
                true
            }
            Err(refusal) => {
                scan.refuse_pools(&refusal.to_string());
                false
            }
        }
    }

    /// Hands the certificates and the secrets of the file to the listeners.
    pub(super) fn update_tls(&self) {
        for listener in &self.file_config.listeners {
            let mut states = self.tls.iter();
            let state = states.find(|(address, _)| *address == listener.address);
            if let (Some(tls), Some((_, state))) = (&listener.tls, state) {
                state.replace(tls);
            }
        }
    }
}
