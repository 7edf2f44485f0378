//! Log lines on standard error, at a level that can be changed while running.

use crate::config::LogFormat;
use crate::error::GatewayError;
use core::fmt;
use scep_link::LogLevel;
use std::sync::{Arc, Mutex, PoisonError};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::reload::Handle;

type Reload = dyn Fn(EnvFilter) -> bool + Send + Sync;

/// Changes how much is logged.
#[derive(Clone)]
pub(crate) struct LogControl {
    configured: String,
    present: Arc<Mutex<Option<LogLevel>>>,
    reload: Arc<Reload>,
}

impl fmt::Debug for LogControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogControl").field("configured", &self.configured).finish_non_exhaustive()
    }
}

impl LogControl {
    /// Of a program that logs nothing.
    pub(crate) fn silent() -> Self {
        Self { configured: "off".into(), present: Arc::default(), reload: Arc::new(|_| false) }
    }

    /// Logs at this level; `None`: as configured.
    pub(crate) fn set(&self, level: Option<LogLevel>) {
        let mut present = self.present.lock().unwrap_or_else(PoisonError::into_inner);
        if *present == level {
            return;
        }
        *present = level;
        let filter = level.map_or_else(|| self.configured.clone(), directive);
        // Both are filters: the configured one was read at start.
        if let Ok(filter) = EnvFilter::try_new(&filter)
            && (self.reload)(filter)
        {
            tracing::info!(target: "scep", level = ?level, "log level");
        }
    }
}

/// What the issuer may ask for concerns the gateway's own lines: those of the libraries beneath it stay at `info`, as
/// they are of no use from afar.
fn directive(level: LogLevel) -> String {
    match level {
        LogLevel::Error => "error".into(),
        LogLevel::Warn => "warn".into(),
        LogLevel::Info => "info".into(),
        LogLevel::Debug => "info,scep=debug".into(),
    }
}

/// Starts logging at a level (or a filter of tracing's syntax).
pub(crate) fn start(level: &str, format: LogFormat) -> Result<LogControl, GatewayError> {
    let filter = EnvFilter::try_new(level).map_err(|e| GatewayError::config("log.level", e))?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let (reload, started) = match format {
        LogFormat::Text => {
            let lines = lines.with_ansi(false).with_filter_reloading();
            (through(lines.reload_handle()), lines.try_init())
        }
        LogFormat::Json => {
            let lines = lines.json().flatten_event(true).with_filter_reloading();
            (through(lines.reload_handle()), lines.try_init())
        }
    };
    started.map_err(|e| GatewayError::config("log", e))?;
    Ok(LogControl { configured: level.to_owned(), present: Arc::default(), reload })
}

fn through<S: 'static>(handle: Handle<EnvFilter, S>) -> Arc<Reload> {
    Arc::new(move |filter| handle.reload(filter).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_level_of_the_issuer_is_a_filter() {
        for level in [LogLevel::Error, LogLevel::Warn, LogLevel::Info, LogLevel::Debug] {
            EnvFilter::try_new(directive(level)).unwrap();
        }
    }
}
