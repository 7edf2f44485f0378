#![doc = include_str!("../README.md")]
#![warn(clippy::arithmetic_side_effects)]
#![cfg_attr(test, allow(clippy::arithmetic_side_effects))]

mod certificate;
mod contents;
mod decision;
mod extensions;
mod report;
mod request;
mod rules;

pub use certificate::{BEGIN_TOLERANCE, Conforming};
pub use contents::{BACKDATE, CertificateContents};
pub use decision::{Approval, Denial, Denials, InertContent, RetryKey, decide, explain};
pub use report::{Field, FieldReport, MAX_SHOWN};
pub use rules::{Rule, SiteRules, SiteRulesConfig, SiteRulesError, WildcardRule};
