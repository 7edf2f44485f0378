//! Limits, and what the service does from time to time.

use crate::error::IssuerError;
use core::time::Duration;
use scep_issuance::service::Upkeep;
use scep_types::parse_duration;
use serde::{Deserialize, Serialize};

/// As read; what is left out has the service's own default.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawUpkeep {
    #[serde(skip_serializing_if = "Option::is_none")]
    reconcile_every: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    keep: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revocation_brake_percent: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revocation_brake_at_least: Option<u32>,
}

impl RawUpkeep {
    pub(crate) fn check(self) -> Result<Upkeep, IssuerError> {
        let mut upkeep = Upkeep::default();
        let time = |key: &str, text: &str| -> Result<Option<Duration>, IssuerError> {
            let key = format!("upkeep.{key}");
            if text == "never" {
                return Ok(None);
            }
            match parse_duration(text).map_err(|error| IssuerError::config(&key, error))? {
                zero if zero.is_zero() => Err(IssuerError::config(&key, "no time; or \"never\"")),
                some => Ok(Some(some)),
            }
        };
        if let Some(text) = self.reconcile_every {
            upkeep.every = time("reconcile_every", &text)?;
        }
        if let Some(text) = self.keep {
            upkeep.keep = time("keep", &text)?;
        }
        if let Some(percent) = self.revocation_brake_percent {
            if percent > 100 {
                let key = "upkeep.revocation_brake_percent";
                return Err(IssuerError::config(key, "not 0 to 100"));
            }
            upkeep.brake.percent = percent;
        }
        if let Some(at_least) = self.revocation_brake_at_least {
            upkeep.brake.at_least = at_least;
        }
        Ok(upkeep)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_has_its_default_and_nonsense_is_named() {
        let check = |text: &str| {
            let raw: RawUpkeep = toml::from_str(text).unwrap();
            raw.check().map_err(|error| error.to_string())
        };
        assert_eq!(check("").unwrap(), Upkeep::default());
        let all = check(
            "reconcile_every = 'never'\nkeep = '90d'\nrevocation_brake_percent = 5\n\
             revocation_brake_at_least = 3",
        )
        .unwrap();
        assert_eq!((all.every, all.keep), (None, Some(Duration::from_secs(90 * 86_400))));
        assert_eq!((all.brake.percent, all.brake.at_least), (5, 3));
        for (text, key) in [
            ("keep = '1y'", "upkeep.keep: "),
            ("reconcile_every = '0s'", "upkeep.reconcile_every: "),
            ("revocation_brake_percent = 101", "upkeep.revocation_brake_percent: "),
        ] {
            assert!(check(text).unwrap_err().starts_with(key));
        }
    }
}
