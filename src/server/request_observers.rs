//! The observers of finished requests: history, metrics, access log, traces.

use std::sync::{Arc, Mutex, PoisonError};

use crate::access_log::OpenLogs;
use crate::config::{Config, Otlp};
use crate::history::History;
use crate::metrics::MetricsCounters;
use crate::proxy::ActiveConfig;
use crate::record::Observer;
use crate::traces::{self, SpanProcessor};

/// The state of the observers that survives a reload: counters continue, and files stay open. Clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct RequestObservers {
    history: Arc<History>,
    pub(super) counts: Arc<MetricsCounters>,
    pub(super) logs: Arc<OpenLogs>,
    /// The current exporter of traces.
    traces: Arc<Mutex<Option<Arc<SpanProcessor>>>>,
    pub(super) export_counts: Arc<traces::ExportCounters>,
}

impl RequestObservers {
    /// Builds the observers of `config` for the requests of `active`. `before` is the configuration that it replaces.
    ///
    /// # Errors
    /// One line for a person: an observer cannot be started.
    pub(super) fn build(
        &self,
        config: &Config,
        active: &ActiveConfig,
        _before: Option<&ActiveConfig>,
    ) -> Result<Vec<Arc<dyn Observer>>, String> {
        let mut observers: Vec<Arc<dyn Observer>> = vec![
            self.history.observer(&active.pools),
            self.counts.observer(&active.pools),
        ];
        if let Some(log) = &config.access_log {
            observers.push(Arc::new(self.logs.open(log)?));
        }
        let otlp = config.tracing.as_ref().and_then(|said| said.otlp.as_ref());
        observers.extend(self.traces(otlp)?.map(|traces| traces as Arc<dyn Observer>));
        Ok(observers)
    }

    /// The recent history of the pools.
    pub(super) fn history(&self) -> Arc<History> {
        Arc::clone(&self.history)
    }

    /// The exporter of traces; the running one is kept while its configuration is unchanged.
    fn traces(&self, wanted: Option<&Otlp>) -> Result<Option<Arc<SpanProcessor>>, String> {
        // No update under this lock can be left half done, so a poisoned lock is usable.
        let mut traces = self.traces.lock().unwrap_or_else(PoisonError::into_inner);
        if traces.as_ref().map(|traces| traces.config()) != wanted {
            let start =
                |otlp: &Otlp| SpanProcessor::start(otlp.clone(), Arc::clone(&self.export_counts));
            *traces = wanted
                .map(start)
                .transpose()
                .map_err(|error| format!("cannot start the export of traces: {error}"))?
                .map(Arc::new);
        }
        Ok(traces.clone())
    }
}
