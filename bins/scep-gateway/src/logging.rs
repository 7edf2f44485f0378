//! Log lines on standard error.

use crate::config::LogFormat;
use crate::error::GatewayError;
use tracing_subscriber::EnvFilter;

/// Starts logging at a level (or a filter of tracing's syntax).
pub(crate) fn start(level: &str, format: LogFormat) -> Result<(), GatewayError> {
    let filter = EnvFilter::try_new(level).map_err(|e| GatewayError::config("log.level", e))?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match format {
        LogFormat::Text => lines.with_ansi(false).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
    started.map_err(|e| GatewayError::config("log", e))
}
