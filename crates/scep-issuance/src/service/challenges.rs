//! Challenges: made for a device that may have one, and recorded without their text.

use crate::mint::{MintError, Minted, Minter};
use crate::payload::{self, PayloadError, PayloadInput};
use crate::profile::{CertificateFor, Profile};
use crate::service::Service;
use crate::service::assignments::number;
use crate::service::db::{Row, Tx, values};
use crate::service::denials;
use crate::service::document::BASE;
use crate::service::link::issuer_keys::{self, NoSigner};
use crate::service::objects::{DeviceState, List, id, rows, stored_values};
use crate::service::once::{Done, Once};
use crate::service::problem::{Kind, Problem};
use crate::service::request::{Authorised, Body, ChallengesWrite, Id, Page, Paging, Read};
use crate::service::store::StoreError;
use crate::variable::{About, Attributes, Variable};
use axum::Json;
use axum::extract::State;
use axum::response::Response;
use scep_challenge::{Purpose, SealError};
use scep_link::DenialSubject;
use scep_types::{
    CertificateDer, DeviceId, GatewayGroupId, ProfileId, SpkiDer, TenantId, Timestamp, UserId,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// What was issued.
#[derive(Serialize, ToSchema)]
pub(crate) struct Challenge {
    id: String,
    device: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    user: Option<String>,
    profile: String,
    group: String,
    purpose: String,
    #[schema(format = DateTime)]
    issued_at: String,
    #[schema(format = DateTime)]
    expires_at: String,
}

/// A challenge as it leaves, once.
#[derive(Serialize, ToSchema)]
pub(crate) struct NewChallenge {
    #[serde(flatten)]
    record: Challenge,
    /// The text for the device: its challenge password.
    challenge: String,
    /// Where the device is to enrol.
    scep_urls: Vec<String>,
    payloads: Payloads,
}

/// The challenge as device management takes it. Each holds the challenge.
#[derive(Serialize, ToSchema)]
pub(crate) struct Payloads {
    /// Everything that a request must contain, plainly.
    json: serde_json::Value,
    /// Apple's configuration profile.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    mobileconfig: Option<String>,
    /// SyncML for Windows.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    syncml: Option<String>,
    /// Why a form is absent.
    absent: BTreeMap<String, String>,
}

impl Payloads {
    fn new(urls: Vec<String>, minted: Minted, ca: Option<CertificateDer>) -> Result<Self, Problem> {
        let mut input = PayloadInput::new(urls, minted)
            .map_err(|error| Problem::new(Kind::CannotMint, error).at("profile"))?;
        if let Some(ca) = ca {
            input = input.with_ca_certificate(ca);
        }
        let mut absent = BTreeMap::new();
        let mut or_why = |form: &str, made: Result<String, PayloadError>| {
            made.map_err(|error| absent.insert(form.to_owned(), error.to_string())).ok()
        };
        let mobileconfig = or_why("mobileconfig", payload::apple_mobileconfig(&input));
        let syncml = or_why("syncml", payload::windows_syncml(&input));
        Ok(Self { json: payload::json(&input), mobileconfig, syncml, absent })
    }
}

/// For whom a challenge is wanted.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChallengeRequest {
    #[schema(pattern = "^[A-Za-z0-9._:@-]{1,128}$")]
    device: String,
    #[schema(pattern = "^[A-Za-z0-9._:@-]{1,64}$")]
    profile: String,
    /// For profiles of users.
    #[schema(pattern = "^[A-Za-z0-9._:@-]{1,128}$")]
    user: Option<String>,
    /// The gateway group; may be left out when there is one only.
    #[schema(pattern = "^[A-Za-z0-9._:@-]{1,64}$")]
    group: Option<String>,
}

const COLUMNS: &str = "id, device, owner, profile, gateway_group, purpose, issued_at, expires_at";

impl Challenge {
    fn row(row: &Row) -> Result<Self, StoreError> {
        let at = |seconds: i64| Timestamp::from_seconds(seconds).to_string();
        Ok(Self {
            id: row.get(0)?,
            device: row.get(1)?,
            user: row.get(2)?,
            profile: row.get(3)?,
            group: row.get(4)?,
            purpose: row.get(5)?,
            issued_at: at(row.get(6)?),
            expires_at: at(row.get(7)?),
        })
    }
}

/// The challenges that were issued, without their texts.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/challenges", tag = "challenges",
    operation_id = "list_challenges", params(Paging),
    responses((status = 200, body = List<Challenge>)))]
pub(crate) async fn list(
    State(service): State<Service>,
    caller: Authorised<Read>,
    page: Page,
) -> Result<Json<List<Challenge>>, Problem> {
    let after = page.after.as_deref().map_or(Some(0), number);
    let after = after.ok_or_else(|| Problem::field("after", "no cursor"))?;
    let items = service
        .store
        .read(move |tx| {
            tx.query(
                &format!(
                    "SELECT {COLUMNS}, seq FROM challenge WHERE tenant = ?1 AND seq > ?2 \
                     ORDER BY seq LIMIT ?3"
                ),
                values![caller.tenant.as_str(), after, rows(page.limit)],
                |row| Ok::<_, StoreError>((Challenge::row(row)?, row.get::<i64>(8)?)),
            )
        })
        .await?;
    let List { items, next } = List::cut(items, page.limit, |(_, seq)| seq.to_string());
    Ok(Json(List { items: items.into_iter().map(|(challenge, _)| challenge).collect(), next }))
}

/// One challenge that was issued, without its text.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/challenges/{id}", tag = "challenges",
    operation_id = "read_challenge", responses((status = 200, body = Challenge)))]
pub(crate) async fn read(
    State(service): State<Service>,
    caller: Authorised<Read>,
    id: Id,
) -> Result<Json<Challenge>, Problem> {
    service
        .store
        .read(move |tx| {
            let sql = format!("SELECT {COLUMNS} FROM challenge WHERE tenant = ?1 AND id = ?2");
            let found = tx.one(&sql, values![caller.tenant.as_str(), &id.0], Challenge::row)?;
            found.map(Json).ok_or_else(|| Problem::not_found("challenge"))
        })
        .await
}

/// Makes a challenge for a device that is enrolled and has the profile, itself or through the user.
#[utoipa::path(post, path = "/api/v1/tenants/{tenant}/challenges", tag = "challenges",
    operation_id = "create_challenge", request_body = ChallengeRequest,
    responses((status = 201, body = NewChallenge)))]
pub(crate) async fn create(
    State(service): State<Service>,
    caller: Authorised<ChallengesWrite>,
    once: Once,
    body: Body<ChallengeRequest>,
) -> Result<Response, Problem> {
    let wanted = Wanted {
        tenant: caller.tenant.clone(),
        device: id("device", body.value.device, DeviceId::new)?,
        profile: id("profile", body.value.profile, ProfileId::new)?,
        user: body.value.user.map(|text| id("user", text, UserId::new)).transpose()?,
        group: body.value.group.map(|text| id("group", text, GatewayGroupId::new)).transpose()?,
    };
    let (minting, now) = (service.clone(), service.clock.now());
    // Decided, made and recorded in one transaction: a device that is disabled first gets none.
    service.once(&caller, once, body.request, move |tx| wanted.mint(tx, &minting, now)).await
}

struct Wanted {
    tenant: TenantId,
    device: DeviceId,
    profile: ProfileId,
    user: Option<UserId>,
    group: Option<GatewayGroupId>,
}

impl Wanted {
    fn mint(&self, tx: &Tx<'_>, service: &Service, now: Timestamp) -> Result<Done, Problem> {
        let device = self.device(tx)?;
        let profile = self.profile(tx)?;
        let user = self.user(tx)?;
        self.assigned(tx)?;
        self.not_disabled(tx)?;
        let attributes = attributes(profile.certificate_for(), &device, user.as_deref())?;
        let (group, key, ca) = self.group(tx)?;
        let signer = issuer_keys::signing_key(tx, &service.keys(), &self.tenant, &group, now)
            .map_err(no_signer)?;
        let minter = Minter::new(self.tenant.clone(), group, signer, key)
            .map_err(|error| Problem::new(Kind::CannotMint, error).at("group"))?;
        let minted = minter
            .mint(
                &profile,
                &self.device,
                self.user.as_ref(),
                &attributes,
                now,
                service.provider.as_ref(),
            )
            .map_err(refused)?;
        let claims = &minted.claims;
        let purpose = match claims.purpose {
            Purpose::Enrol => "enrol",
            Purpose::Renew => "renew",
        };
        let record = Challenge {
            id: claims.challenge_id.to_string(),
            device: claims.device.as_str().to_owned(),
            user: claims.user.as_ref().map(|user| user.as_str().to_owned()),
            profile: claims.profile.as_str().to_owned(),
            group: claims.audience.as_str().to_owned(),
            purpose: purpose.to_owned(),
            issued_at: claims.issued_at.to_string(),
            expires_at: claims.expires_at.to_string(),
        };
        tx.execute(
            "INSERT INTO challenge (tenant, id, device, owner, profile, gateway_group, purpose, \
             issued_at, expires_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            values![
                self.tenant.as_str(),
                &record.id,
                &record.device,
                record.user.as_ref(),
                &record.profile,
                &record.group,
                &record.purpose,
                claims.issued_at.seconds(),
                claims.expires_at.seconds(),
            ],
        )?;
        let location = format!("{BASE}/tenants/{}/challenges/{}", self.tenant, record.id);
        let scep_urls = profile.scep_urls().to_vec();
        let challenge = minted.text.clone();
        let payloads = Payloads::new(scep_urls.clone(), minted, ca)?;
        Done::created(location, &NewChallenge { record, challenge, scep_urls, payloads })
    }

    /// The attributes of a device that may have a challenge.
    fn device(&self, tx: &Tx<'_>) -> Result<String, Problem> {
        let sql = "SELECT state, attributes FROM device WHERE tenant = ?1 AND id = ?2";
        let found: Option<(String, String)> =
            tx.one(sql, values![self.tenant.as_str(), self.device.as_str()], |row| {
                Ok::<_, StoreError>((row.get(0)?, row.get(1)?))
            })?;
        let no = |kind| Err(Problem::new(kind, format!("device {}", self.device)).at("device"));
        match found {
            None => no(Kind::UnknownDevice),
            Some((state, attributes)) => match DeviceState::stored(&state) {
                DeviceState::Enrolled => Ok(attributes),
                DeviceState::Disabled => no(Kind::DeviceDisabled),
                DeviceState::Wiped => no(Kind::DeviceWiped),
            },
        }
    }

    fn profile(&self, tx: &Tx<'_>) -> Result<Profile, Problem> {
        let toml: Option<String> = tx.one(
            "SELECT toml FROM profile WHERE tenant = ?1 AND id = ?2",
            values![self.tenant.as_str(), self.profile.as_str()],
            |row| row.get(0),
        )?;
        let unknown = || {
            Problem::new(Kind::UnknownProfile, format!("profile {}", self.profile)).at("profile")
        };
        Profile::from_toml(&toml.ok_or_else(unknown)?)
            .map_err(|error| Problem::new(Kind::ProfileUnreadable, error).at("profile"))
    }

    fn user(&self, tx: &Tx<'_>) -> Result<Option<String>, Problem> {
        let Some(user) = &self.user else { return Ok(None) };
        let found: Option<String> = tx.one(
            "SELECT attributes FROM person WHERE tenant = ?1 AND id = ?2",
            values![self.tenant.as_str(), user.as_str()],
            |row| row.get(0),
        )?;
        let unknown = || Problem::new(Kind::UnknownUser, format!("user {user}")).at("user");
        found.ok_or_else(unknown).map(Some)
    }

    /// What gateways are told to refuse is not made in the first place.
    fn not_disabled(&self, tx: &Tx<'_>) -> Result<(), Problem> {
        let profile = DenialSubject::Profile(self.profile.clone());
        if denials::is_denied(tx, &self.tenant, &profile)? {
            let detail = format!("profile {}", self.profile);
            return Err(Problem::new(Kind::ProfileDisabled, detail).at("profile"));
        }
        let Some(user) = &self.user else { return Ok(()) };
        if denials::is_denied(tx, &self.tenant, &DenialSubject::User(user.clone()))? {
            return Err(Problem::new(Kind::UserDisabled, format!("user {user}")).at("user"));
        }
        Ok(())
    }

    fn assigned(&self, tx: &Tx<'_>) -> Result<(), Problem> {
        let sql = "SELECT 1 FROM assignment WHERE tenant = ?1 AND profile = ?2 \
                   AND (device = ?3 OR owner = ?4)";
        let user = self.user.as_ref().map(UserId::as_str);
        let (tenant, profile) = (self.tenant.as_str(), self.profile.as_str());
        let assigned = tx.exists(sql, values![tenant, profile, self.device.as_str(), user])?;
        if assigned {
            return Ok(());
        }
        let detail = format!("profile {} and device {}", self.profile, self.device);
        Err(Problem::new(Kind::NotAssigned, detail).at("profile"))
    }

    /// The group that is named, or the only one there is: its id, its key, its CA.
    fn group(
        &self,
        tx: &Tx<'_>,
    ) -> Result<(GatewayGroupId, SpkiDer, Option<CertificateDer>), Problem> {
        let sql = "SELECT id, public_key, ca_certificate FROM gateway_group \
                   WHERE tenant = ?1 AND (?2 IS NULL OR id = ?2) LIMIT 2";
        let wanted = self.group.as_ref().map(GatewayGroupId::as_str);
        type Found = (String, Option<Vec<u8>>, Option<Vec<u8>>);
        let found: Vec<Found> = tx.query(sql, values![self.tenant.as_str(), wanted], |row| {
            Ok::<_, StoreError>((row.get(0)?, row.get(1)?, row.get(2)?))
        })?;
        let (kind, detail) = match (found.as_slice(), wanted) {
            ([(id, None, _)], _) => (Kind::GroupWithoutKey, format!("gateway group {id}")),
            ([(id, Some(key), ca)], _) => {
                let bad = |_| Problem::new(Kind::Internal, "a stored gateway group cannot be read");
                let id =
                    GatewayGroupId::new(id.as_str()).map_err(|error| bad(error.to_string()))?;
                let key = SpkiDer::parse(key).map_err(|error| bad(error.to_string()))?;
                // A certificate that cannot be read costs one form of the payload, not the challenge.
                let ca = ca.as_deref().and_then(|der| CertificateDer::parse(der).ok());
                return Ok((id, key, ca));
            }
            ([], Some(id)) => (Kind::UnknownGroup, format!("gateway group {id}")),
            ([], None) => (Kind::UnknownGroup, "there is none yet".to_owned()),
            _ => (Kind::WhichGroup, "there are several".to_owned()),
        };
        Err(Problem::new(kind, detail).at("group"))
    }
}

/// What is known of the device, and of the user of a certificate for users. What can be about either, the security
/// identifier, is that of whom the certificate is for.
fn attributes(
    certificate_for: CertificateFor,
    device: &str,
    user: Option<&str>,
) -> Result<Attributes, Problem> {
    let mut attributes = Attributes::new();
    let mut add = |json: &str, keep: &dyn Fn(About) -> bool| {
        for (name, value) in stored_values(json) {
            if let Some(variable) = Variable::from_name(&name).filter(|v| keep(v.about())) {
                attributes
                    .insert(variable, value)
                    .map_err(|error| Problem::new(Kind::CannotMint, error))?;
            }
        }
        Ok::<_, Problem>(())
    };
    match certificate_for {
        CertificateFor::Device => add(device, &|about| about != About::User)?,
        CertificateFor::User => {
            add(device, &|about| about == About::Device)?;
            add(user.unwrap_or("{}"), &|about| about != About::Device)?;
        }
    }
    Ok(attributes)
}

fn no_signer(why: NoSigner) -> Problem {
    match why {
        NoSigner::Store(error) => error.into(),
        NoSigner::NoneValid => {
            tracing::error!("no key that signs challenges is valid now");
            Problem::new(Kind::Internal, "no key that signs challenges is valid now")
        }
        NoSigner::NotKnown => {
            let why = "a gateway that has not checked in since keys were replaced holds it up";
            Problem::new(Kind::SigningKeyNotKnown, why).at("group")
        }
    }
}

/// Whose fault it is that no challenge was made.
fn refused(error: MintError) -> Problem {
    match &error {
        MintError::UserMissing | MintError::UserNotExpected => {
            Problem::new(Kind::CannotMint, error).at("user")
        }
        MintError::DeviceIdDiffers
        | MintError::Name { .. }
        | MintError::Sid(_)
        | MintError::Attributes(_)
        | MintError::Seal(SealError::Claims(_)) => {
            Problem::new(Kind::CannotMint, error).at("profile")
        }
        MintError::Random(_) | MintError::Seal(_) => {
            tracing::error!(%error, "a challenge could not be sealed");
            Problem::new(Kind::Internal, "the log has the cause")
        }
    }
}
