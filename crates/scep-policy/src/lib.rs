#![doc = include_str!("../README.md")]
#![warn(clippy::arithmetic_side_effects)]
#![cfg_attr(test, allow(clippy::arithmetic_side_effects))]

mod certificate;
mod contents;
mod decision;
mod extensions;
mod grounds;
mod renewal;
mod report;
mod request;
mod rules;

pub use certificate::{BEGIN_TOLERANCE, Conforming};
pub use contents::{BACKDATE, CertificateContents};
pub use decision::{
    Approval, Decision, Denial, Denials, Holdable, InertContent, RetryKey, decide, decide_held,
    decide_or_hold, decide_renewal, explain,
};
pub use grounds::{Grounds, HeldClaims, MAX_GENERATIONS, Predecessor};
pub use report::{Field, FieldReport, MAX_SHOWN};
pub use rules::{Rule, SiteRules, SiteRulesConfig, SiteRulesError, WildcardRule};
