//! The CAs of a gateway, each with its RA, CRL and OCSP: the main one stands in sections of its own, the others in
//! `[[authorities]]`.

use super::ca::RawCa;
use super::ra::RawRa;
use super::services::{OcspConfig, RawCrl, RawOcsp};
use super::{Context, one_of};
use crate::ca::Ca;
use crate::error::GatewayError;
use crate::renewal::{Previous, RaFiles};
use scep_message::{LegacyAlgorithms, Limits, RaIdentity};
use scep_server::{CrlSettings, NextCa};
use scep_types::AuthorityName;
use serde::Deserialize;
use std::path::PathBuf;

/// A CA beside the main one.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawOther {
    name: String,
    ca: RawCa,
    #[serde(default)]
    crl: RawCrl,
    ocsp: Option<RawOcsp>,
    ra: RawRa,
    follows: Option<String>,
    next: Option<String>,
    next_answer: Option<PathBuf>,
}

/// `[rollover]`: what comes after the main CA.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRollover {
    next: Option<String>,
    next_answer: Option<PathBuf>,
}

/// A CA and what belongs to it, as read.
#[derive(Debug)]
pub(super) struct RawAuthority {
    pub(super) name: AuthorityName,
    pub(super) ca: RawCa,
    pub(super) crl: RawCrl,
    pub(super) ocsp: Option<RawOcsp>,
    pub(super) ra: RawRa,
    pub(super) follows: Option<AuthorityName>,
    next: Option<AuthorityName>,
    next_answer: Option<PathBuf>,
}

/// A CA and what belongs to it.
#[derive(Debug)]
pub(crate) struct AuthorityConfig {
    pub(crate) name: AuthorityName,
    pub(crate) ca: Ca,
    pub(crate) crl: CrlSettings,
    /// The OCSP responder, where there is one.
    pub(crate) ocsp: Option<OcspConfig>,
    pub(crate) ra: RaIdentity,
    /// The RA that it has replaced, while that still opens and answers requests.
    pub(crate) previous_ra: Option<Previous>,
    /// Where the RA's keys and certificates are, for their renewal.
    pub(crate) ra_files: RaFiles,
    /// The CA that it takes over from: what is enveloped to that one's RA is opened at its endpoints too.
    pub(crate) follows: Option<AuthorityName>,
    /// What GetNextCACert answers.
    pub(crate) next: Option<NextCa>,
}

impl RawAuthority {
    pub(super) fn main(
        ca: RawCa,
        crl: RawCrl,
        ocsp: Option<RawOcsp>,
        ra: RawRa,
        rollover: RawRollover,
    ) -> Result<Self, GatewayError> {
        let (name, follows) = (AuthorityName::main(), None);
        let RawRollover { next, next_answer } = rollover;
        let next = next.map(|next| authority_name("rollover.next", next)).transpose()?;
        Ok(Self { name, ca, crl, ocsp, ra, follows, next, next_answer })
    }

    pub(super) fn check(self, context: &mut Context<'_>) -> Result<AuthorityConfig, GatewayError> {
        let name = self.name.clone();
        self.check_own(context).map_err(|error| error.of_authority(&name))
    }

    fn check_own(self, context: &mut Context<'_>) -> Result<AuthorityConfig, GatewayError> {
        let on_token = self.ca.is_on_token(context.base)?;
        let ca = self.ca.check(context, &self.name)?;
        let ra_files = self.ra.check(context, &self.name)?;
        let ra = ra_files.read(&ca, context.now)?;
        context.keys.extend(ra.keys());
        context.certificates.extend(ra.certificates);
        let crl = self.crl.check(&self.name)?;
        let ocsp = match self.ocsp {
            Some(ocsp) => {
                ca.local("ocsp")?;
                Some(ocsp.check(context, &self.name, on_token)?)
            }
            None => None,
        };
        let next = match self.next_answer {
            Some(file) if self.next.is_some() => {
                let file = context.base.join(file);
                let response = std::fs::read(&file).map_err(GatewayError::file(&file))?;
                Some(NextCa { response })
            }
            Some(_) => {
                let why = "says nothing without `next`, the name of the CA that comes next";
                return Err(GatewayError::config("next_answer", why));
            }
            None if self.next.is_some() => {
                let why = "missing: `next` needs the file with what GetNextCACert answers, which the present CA's key \
                           has signed";
                return Err(GatewayError::config("next_answer", why));
            }
            None => None,
        };
        Ok(AuthorityConfig {
            name: self.name,
            ca,
            crl,
            ocsp,
            ra: ra.identity,
            previous_ra: ra.previous,
            ra_files,
            follows: self.follows,
            next,
        })
    }
}

impl RawOther {
    fn named(self) -> Result<RawAuthority, GatewayError> {
        let name = authority_name("authorities.name", self.name)?;
        let related = |key: &str, other: Option<String>| {
            let other = other.map(|other| authority_name(key, other)).transpose();
            other.map_err(|error| error.of_authority(&name))
        };
        let follows = related("follows", self.follows)?;
        let next = related("next", self.next)?;
        let Self { ca, crl, ocsp, ra, next_answer, .. } = self;
        Ok(RawAuthority { name, ca, crl, ocsp, ra, follows, next, next_answer })
    }
}

fn authority_name(key: &str, text: String) -> Result<AuthorityName, GatewayError> {
    AuthorityName::new(text).map_err(|error| GatewayError::config(key, error))
}

/// Every CA, the main one first, each with a name of its own, and none that speaks of one that is not there.
pub(super) fn all(
    main: RawAuthority,
    others: Vec<RawOther>,
) -> Result<Vec<RawAuthority>, GatewayError> {
    let mut all = vec![main];
    for other in others {
        let other = other.named()?;
        if all.iter().any(|earlier| earlier.name == other.name) {
            let why = if other.name == AuthorityName::main() {
                "\"main\" is the CA of [ca], and no other".to_owned()
            } else {
                format!("{} is there twice", other.name)
            };
            return Err(GatewayError::config("authorities.name", why));
        }
        all.push(other);
    }
    let names: Vec<AuthorityName> = all.iter().map(|one| one.name.clone()).collect();
    for one in &all {
        for (key, other) in [("next", &one.next), ("follows", &one.follows)] {
            let Some(other) = other else { continue };
            let wrong = |why: String| GatewayError::config(key, why).of_authority(&one.name);
            if *other == one.name {
                return Err(wrong(format!("{other} is this CA itself")));
            }
            if !names.contains(other) {
                return Err(wrong(format!(
                    "no CA is called {other}; there are {}",
                    one_of(&names)
                )));
            }
        }
    }
    // Each follows at most one: whoever comes back to where it began would have no first one to open by.
    for one in &all {
        let mut followed = one.follows.as_ref();
        for _ in &all {
            let earlier = all.iter().find(|earlier| Some(&earlier.name) == followed);
            followed = earlier.and_then(|earlier| earlier.follows.as_ref());
        }
        if followed.is_some() {
            let why = "goes round in a circle";
            return Err(GatewayError::config("follows", why).of_authority(&one.name));
        }
    }
    Ok(all)
}

/// What only shows between CAs: names in certificates, and answers about the next one. `next`: by name, for each that
/// has one.
pub(super) fn together(
    all: &[AuthorityConfig],
    next: &[(AuthorityName, AuthorityName)],
    context: &Context<'_>,
) -> Result<(), GatewayError> {
    for (at, one) in all.iter().enumerate() {
        let subject =
            |one: &AuthorityConfig| one.ca.chain().first().map(|ca| ca.subject_der().to_vec());
        let earlier = all.iter().take(at).find(|earlier| subject(earlier) == subject(one));
        if let Some(earlier) = earlier {
            let why = format!(
                "{} and {} have the same name in their certificates; a CRL could be of either, so give each its own",
                earlier.name, one.name
            );
            return Err(GatewayError::config("ca", why));
        }
    }
    for (name, follower) in next {
        let find = |name: &AuthorityName| all.iter().find(|one| one.name == *name);
        let (Some(present), Some(follower)) = (find(name), find(follower)) else { continue };
        next_is_true(present, follower, context).map_err(|error| error.of_authority(name))?;
    }
    Ok(())
}

/// That the answer is signed by the present CA, and is about the one that `next` names: a device that believes it has
/// nothing else to go by.
fn next_is_true(
    present: &AuthorityConfig,
    follower: &AuthorityConfig,
    context: &Context<'_>,
) -> Result<(), GatewayError> {
    let Some(next) = &present.next else { return Ok(()) };
    let wrong = |why: &dyn core::fmt::Display| GatewayError::config("next_answer", why);
    let (provider, refuse) = (&**context.provider, LegacyAlgorithms::Refuse);
    let read = scep_message::next_ca::parse(&next.response, provider, refuse, &Limits::default());
    let (certificates, signer) = read.map_err(|error| wrong(&error))?;
    if present.ca.chain().first().is_none_or(|ca| *ca.spki() != signer) {
        return Err(wrong(&"is signed by another key than the present CA's"));
    }
    if follower.ca.chain().first().is_none_or(|ca| !certificates.contains(ca)) {
        return Err(wrong(&format!("does not hold the certificate of {}", follower.name)));
    }
    Ok(())
}

impl RawAuthority {
    /// Its name, and that of the CA that comes next.
    pub(super) fn succession(&self) -> Option<(AuthorityName, AuthorityName)> {
        Some((self.name.clone(), self.next.clone()?))
    }
}

/// A path of something that a CA serves, when none is given: the main CA's, or one with the name.
pub(super) fn default_path(main: String, name: &AuthorityName) -> String {
    if *name == AuthorityName::main() { main } else { format!("{main}-{name}") }
}
