//! `[limits]` and `[log]`.

use super::duration;
use crate::error::GatewayError;
use core::time::Duration;
use scep_server::ServerLimits;
use serde::Deserialize;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawLog {
    pub(super) level: Option<String>,
    pub(super) format: Option<LogFormat>,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// For machines.
    Json,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawLimits {
    threads: Option<usize>,
    queue: Option<usize>,
    connections: Option<usize>,
    head_timeout: Option<String>,
    body_timeout: Option<String>,
    stop_timeout: Option<String>,
    hold_for: Option<String>,
    source_connections: Option<usize>,
    source_burst: Option<u32>,
    source_rate: Option<u32>,
}

impl RawLimits {
    pub(super) fn check(self) -> Result<ServerLimits, GatewayError> {
        let defaults = ServerLimits::default();
        Ok(ServerLimits {
            threads: self.threads.unwrap_or(defaults.threads),
            queue: self.queue.unwrap_or(defaults.queue),
            connections: self.connections.unwrap_or(defaults.connections),
            head_timeout: duration(
                "limits.head_timeout",
                self.head_timeout.as_deref(),
                defaults.head_timeout,
            )?,
            body_timeout: duration(
                "limits.body_timeout",
                self.body_timeout.as_deref(),
                defaults.body_timeout,
            )?,
            stop_timeout: duration(
                "limits.stop_timeout",
                self.stop_timeout.as_deref(),
                defaults.stop_timeout,
            )?,
            source_connections: self.source_connections.unwrap_or(defaults.source_connections),
            source_burst: self.source_burst.unwrap_or(defaults.source_burst),
            source_refill: match self.source_rate {
                None => defaults.source_refill,
                Some(0) => {
                    let why = "must be 1 or more: nobody could enrol";
                    return Err(GatewayError::config("limits.source_rate", why));
                }
                Some(each_second) => Duration::from_secs(1) / each_second,
            },
            hold_for: duration("limits.hold_for", self.hold_for.as_deref(), defaults.hold_for)?,
            ..defaults
        })
    }
}
