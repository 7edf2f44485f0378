//! AuthEnvelopedData (RFC 5083, 5084, 5753) in the one form of the challenge blob.

use crate::algorithm::{Algorithm, key_transport_algorithm};
use crate::enveloped::{KeyTransport, RecipientIdentifier, check_key_length};
use crate::error::{CmsError, structure};
use crate::limits::Limits;
use crate::oid;
use crate::read::{contents, part};
use aes_gcm::aead::AeadInOut;
use aes_gcm::{Aes256Gcm, KeyInit, Nonce, Tag};
use aes_kw::KwAes256;
use scep_types::tlv::{self, Reader, Tlv, tag};
use scep_types::{
    CryptoProvider, DecryptionKey, EcdhKey, KeyAlgorithm, KeyError, KeyId, OaepHash,
    RsaDecryptionKey, RsaPadding, Secret, SpkiDer,
};
use sha2::{Digest, Sha256};
use std::ops::Range;
use zeroize::Zeroize;

const PADDING: RsaPadding = RsaPadding::Oaep(OaepHash::Sha256);
const KEY_LEN: usize = 32;
const NONCE_LEN: usize = 12;
const TAG_LEN: usize = 16;
/// The key with RFC 3394's eight octets of integrity check.
const WRAPPED_LEN: usize = KEY_LEN + 8;

/// Encrypts to one key, recipient by SubjectKeyIdentifier. Returns the bare AuthEnvelopedData's DER (no
/// ContentInfo).
///
/// ```text
/// version                     0
/// recipientInfos              exactly one
///   RSA    KeyTransRecipientInfo   version 2, rid [0], RSAES-OAEP with SHA-256
///   P-256  KeyAgreeRecipientInfo   version 3, originatorKey (id-ecPublicKey without parameters, uncompressed
///   P-384                          point), no ukm, dhSinglePass-stdDH-sha256kdf-scheme with aes256-wrap (without
///                                  parameters), rKeyId with the SubjectKeyIdentifier alone
/// authEncryptedContentInfo    id-data, aes256-GCM with a nonce of 12 octets and ICV length 16
/// authAttrs, unauthAttrs      absent
/// mac                         16 octets
/// ```
///
/// The curve is not repeated in originatorKey: it is the recipient's, and RFC 5753, 3.1.1 prefers absent
/// parameters.
///
/// # Errors
/// [`CmsError::Key`] when the key is too small or not on its curve, or randomness failed.
pub fn seal_auth(
    provider: &dyn CryptoProvider,
    recipient: &SpkiDer,
    plaintext: &[u8],
) -> Result<Vec<u8>, CmsError> {
    let mut key = Secret::new(vec![0; KEY_LEN]);
    provider.random(key.expose_mut())?;
    let mut nonce = [0; NONCE_LEN];
    provider.random(&mut nonce)?;

    let recipient_info = match recipient.algorithm() {
        KeyAlgorithm::Rsa(_) => {
            let encrypted = provider.rsa_encrypt(recipient, PADDING, key.expose())?;
            tlv::sequence(&[
                &tlv::small_int(2),
                &tlv::encode(tag::context(0), recipient.key_id().as_bytes()),
                &key_transport_algorithm(PADDING),
                &tlv::encode(tag::OCTET_STRING, &encrypted),
            ])
        }
        KeyAlgorithm::P256 | KeyAlgorithm::P384 => {
            let agreement = provider.ephemeral_agree(recipient)?;
            let kek = key_encryption_key(agreement.shared_secret.expose());
            let mut wrapped = [0; WRAPPED_LEN];
            KwAes256::new_from_slice(kek.expose())
                .map_err(|_| structure("key-encryption key of the wrong length", 0))?
                .wrap_key(key.expose(), &mut wrapped)
                .map_err(|_| structure("content key of the wrong length", 0))?;
            key_agreement(&agreement.public_point, &recipient.key_id(), &wrapped)
        }
    };

    let mut ciphertext = plaintext.to_vec();
    let mac = cipher(key.expose())?
        .encrypt_inout_detached(&Nonce::from(nonce), &[], ciphertext.as_mut_slice().into())
        .map_err(|_| structure("plaintext longer than AES-GCM allows", 0))?;
    let content = tlv::sequence(&[
        &tlv::oid(&oid::DATA),
        &tlv::sequence(&[&tlv::oid(&oid::AES256_GCM), &gcm_parameters(&nonce)]),
        &tlv::encode(tag::context(0), &ciphertext),
    ]);
    Ok(tlv::sequence(&[
        &tlv::small_int(0),
        &tlv::encode(tag::SET, &recipient_info),
        &content,
        &tlv::encode(tag::OCTET_STRING, &mac),
    ]))
}

/// Opens a bare AuthEnvelopedData of exactly the form that [`seal_auth`] writes, for this one key. Strict DER; the
/// one leniency is that SHA-256's parameters within OAEP's may be NULL or absent (RFC 4055, 2.1).
///
/// # Errors
/// Before the private-key operation: [`CmsError::NotForUs`] when it names another key; [`CmsError::Malformed`],
/// [`CmsError::Structure`] and [`CmsError::Limit`] for any other form. After it: [`CmsError::DoesNotOpen`],
/// whatever is wrong, or [`CmsError::Key`] when the key itself failed.
pub fn open_auth(
    provider: &dyn CryptoProvider,
    der: &[u8],
    key: &DecryptionKey,
    limits: &Limits,
) -> Result<Secret<Vec<u8>>, CmsError> {
    let message = AuthEnvelopedData::parse(der, limits)?;
    if message.recipient != key.public_key().key_id() {
        return Err(CmsError::NotForUs);
    }
    // Whatever goes wrong with the key below leaves this random one in place: the same work, the same answer.
    let mut content_key = Secret::new(vec![0; KEY_LEN]);
    provider.random(content_key.expose_mut())?;
    match (&message.transport, key) {
        (Transport::Rsa(transport), DecryptionKey::Rsa(key)) => {
            message.transported(transport, key.as_ref(), &mut content_key)?;
        }
        (Transport::Ec { point, wrapped }, DecryptionKey::Ec(key)) => {
            agreed(key.as_ref(), point, wrapped, &mut content_key)?;
        }
        _ => return Err(structure("recipient of another kind than the key", 0)),
    }

    let mut plaintext = Secret::new(part(der, &message.ciphertext).to_vec());
    cipher(content_key.expose())?
        .decrypt_inout_detached(
            &Nonce::from(message.nonce),
            &[],
            plaintext.expose_mut().as_mut_slice().into(),
            &Tag::from(message.mac),
        )
        .map_err(|_| CmsError::DoesNotOpen)?;
    Ok(plaintext)
}

/// The key id that a bare AuthEnvelopedData names as its one recipient.
///
/// # Errors
/// As [`open_auth`] before the private-key operation.
pub fn auth_recipient(der: &[u8], limits: &Limits) -> Result<KeyId, CmsError> {
    Ok(AuthEnvelopedData::parse(der, limits)?.recipient)
}

struct AuthEnvelopedData<'a> {
    der: &'a [u8],
    recipient: KeyId,
    transport: Transport<'a>,
    nonce: [u8; NONCE_LEN],
    ciphertext: Range<usize>,
    mac: [u8; TAG_LEN],
}

enum Transport<'a> {
    Rsa(KeyTransport),
    Ec { point: &'a [u8], wrapped: &'a [u8] },
}

impl<'a> AuthEnvelopedData<'a> {
    fn parse(der: &'a [u8], limits: &Limits) -> Result<Self, CmsError> {
        limits.check_bytes(der)?;
        let mut fields = Reader::new(der).only(tag::SEQUENCE)?.reader();
        let version = fields.any()?;
        if version.small_int()? != 0 {
            return Err(structure("AuthEnvelopedData of another version than 0", version.at));
        }
        let mut recipients = fields.expect(tag::SET)?.reader();
        let mut content = fields.expect(tag::SEQUENCE)?.reader();
        let mac = fields.expect(tag::OCTET_STRING)?;
        fields.finish()?;

        let recipient = recipients.any()?;
        if !recipients.is_empty() {
            return Err(structure("second recipient", recipients.at()));
        }
        let (recipient, transport) = match recipient.tag {
            tag::SEQUENCE => read_key_transport(der, &recipient)?,
            tag if tag == tag::context_constructed(1) => read_key_agreement(&recipient)?,
            _ => return Err(structure("recipient of a kind that is not allowed", recipient.at)),
        };

        let content_type = content.any()?;
        if content_type.oid()? != oid::DATA {
            return Err(structure("encrypted content that is not id-data", content_type.at));
        }
        let algorithm = Algorithm::read(&content.expect(tag::SEQUENCE)?)?;
        if algorithm.oid != oid::AES256_GCM {
            return Err(algorithm.unsupported("authenticated encryption"));
        }
        let nonce = read_gcm_parameters(algorithm.parameters()?)?;
        let ciphertext = content.expect(tag::context(0))?;
        content.finish()?;
        Ok(Self {
            der,
            recipient,
            transport,
            nonce,
            ciphertext: contents(&ciphertext),
            mac: mac
                .value
                .try_into()
                .map_err(|_| structure("mac of other than 16 octets", mac.at))?,
        })
    }

    fn transported(
        &self,
        transport: &KeyTransport,
        key: &dyn RsaDecryptionKey,
        content_key: &mut Secret<Vec<u8>>,
    ) -> Result<(), CmsError> {
        let encrypted = part(self.der, &transport.encrypted_key);
        check_key_length(key.public_key(), encrypted, transport.encrypted_key.start)?;
        Ok(key.decrypt_key(PADDING, encrypted, content_key)?)
    }
}

fn agreed(
    key: &dyn EcdhKey,
    point: &[u8],
    wrapped: &[u8],
    content_key: &mut Secret<Vec<u8>>,
) -> Result<(), CmsError> {
    let secret = match key.agree(point) {
        Ok(secret) => secret,
        // A point that is not on the curve is the sender's doing.
        Err(KeyError::Rejected { .. }) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let kek = key_encryption_key(secret.expose());
    let mut unwrapped = [0; KEY_LEN];
    let opened = KwAes256::new_from_slice(kek.expose())
        .is_ok_and(|kw| kw.unwrap_key(wrapped, &mut unwrapped).is_ok());
    if opened {
        content_key.expose_mut().copy_from_slice(&unwrapped);
    }
    unwrapped.zeroize();
    Ok(())
}

fn key_id(octets: &[u8], at: usize) -> Result<KeyId, CmsError> {
    KeyId::try_from(octets).map_err(|_| structure("key id of other than 20 octets", at))
}

fn read_key_transport<'a>(der: &[u8], tlv: &Tlv<'_>) -> Result<(KeyId, Transport<'a>), CmsError> {
    let transport = KeyTransport::read(tlv)?;
    let RecipientIdentifier::KeyId(id) = &transport.rid else {
        return Err(structure("recipient that is not named by its key id", tlv.at));
    };
    let id = key_id(part(der, id), id.start)?;
    if transport.padding(der)? != PADDING {
        return Err(structure("key transport other than RSAES-OAEP with SHA-256", tlv.at));
    }
    Ok((id, Transport::Rsa(transport)))
}

/// aes256-wrap, without parameters (RFC 3565, 2.3.2).
fn wrap_algorithm() -> Vec<u8> {
    tlv::sequence(&[&tlv::oid(&oid::AES256_WRAP)])
}

fn agreement_algorithm() -> Vec<u8> {
    tlv::sequence(&[&tlv::oid(&oid::DH_SINGLE_PASS_STD_SHA256), &wrap_algorithm()])
}

fn originator_algorithm() -> Vec<u8> {
    tlv::sequence(&[&tlv::oid(&oid::EC_PUBLIC_KEY)])
}

/// KeyAgreeRecipientInfo (RFC 5652, 6.2.2).
fn key_agreement(point: &[u8], recipient: &KeyId, wrapped: &[u8]) -> Vec<u8> {
    let originator_key = tlv::construct(
        tag::context_constructed(1),
        &[&originator_algorithm(), &tlv::whole_bits(point)],
    );
    let id = tlv::encode(tag::OCTET_STRING, recipient.as_bytes());
    let encrypted_key = tlv::sequence(&[
        &tlv::encode(tag::context_constructed(0), &id),
        &tlv::encode(tag::OCTET_STRING, wrapped),
    ]);
    tlv::construct(
        tag::context_constructed(1),
        &[
            &tlv::small_int(3),
            &tlv::encode(tag::context_constructed(0), &originator_key),
            &agreement_algorithm(),
            &tlv::sequence(&[&encrypted_key]),
        ],
    )
}

fn read_key_agreement<'a>(tlv: &Tlv<'a>) -> Result<(KeyId, Transport<'a>), CmsError> {
    let mut fields = tlv.reader();
    let version = fields.any()?;
    if version.small_int()? != 3 {
        return Err(structure("KeyAgreeRecipientInfo of another version than 3", version.at));
    }
    let mut originator = fields.expect(tag::context_constructed(0))?.reader();
    let mut originator_key = originator.expect(tag::context_constructed(1))?.reader();
    originator.finish()?;
    let algorithm = originator_key.expect(tag::SEQUENCE)?;
    if algorithm.raw != originator_algorithm() {
        return Err(structure(
            "originatorKey other than id-ecPublicKey without parameters",
            algorithm.at,
        ));
    }
    let point = originator_key.any()?.whole_bits()?;
    originator_key.finish()?;
    let agreement = fields.expect(tag::SEQUENCE)?;
    if agreement.raw != agreement_algorithm() {
        return Err(structure(
            "key agreement other than dhSinglePass-stdDH-sha256kdf with aes256-wrap",
            agreement.at,
        ));
    }
    let mut keys = fields.expect(tag::SEQUENCE)?.reader();
    fields.finish()?;
    let mut encrypted_key = keys.expect(tag::SEQUENCE)?.reader();
    keys.finish()?;
    let mut recipient = encrypted_key.expect(tag::context_constructed(0))?.reader();
    let id = recipient.expect(tag::OCTET_STRING)?;
    recipient.finish()?;
    let wrapped = encrypted_key.expect(tag::OCTET_STRING)?;
    encrypted_key.finish()?;
    if wrapped.value.len() != WRAPPED_LEN {
        return Err(structure("wrapped key of other than 40 octets", wrapped.at));
    }
    Ok((key_id(id.value, id.at)?, Transport::Ec { point, wrapped: wrapped.value }))
}

/// GCMParameters (RFC 5084, 3.2). The ICV length is explicit, as its default is 12.
fn gcm_parameters(nonce: &[u8]) -> Vec<u8> {
    tlv::sequence(&[&tlv::encode(tag::OCTET_STRING, nonce), &tlv::small_int(TAG_LEN as u64)])
}

fn read_gcm_parameters(tlv: &Tlv<'_>) -> Result<[u8; NONCE_LEN], CmsError> {
    let bad = structure("GCMParameters other than a nonce of 12 octets and ICV length 16", tlv.at);
    if tlv.tag != tag::SEQUENCE {
        return Err(bad);
    }
    let nonce = tlv.reader().expect(tag::OCTET_STRING)?.value;
    if tlv.raw != gcm_parameters(nonce) {
        return Err(bad);
    }
    nonce.try_into().map_err(|_| bad)
}

fn cipher(key: &[u8]) -> Result<Aes256Gcm, CmsError> {
    Aes256Gcm::new_from_slice(key).map_err(|_| structure("content key of the wrong length", 0))
}

/// The KDF of X9.63 with SHA-256 (RFC 5753, 7.2; SEC 1, 3.6.1): SHA-256(Z || 00000001 || ECC-CMS-SharedInfo), of
/// which one round gives the 256 bits needed. entityUInfo is absent, as there is no ukm.
fn key_encryption_key(shared_secret: &[u8]) -> Secret<[u8; 32]> {
    let bits = tlv::encode(tag::OCTET_STRING, &256_u32.to_be_bytes());
    let shared_info =
        tlv::sequence(&[&wrap_algorithm(), &tlv::encode(tag::context_constructed(2), &bits)]);
    let mut hash = Sha256::new();
    hash.update(shared_secret);
    hash.update(1_u32.to_be_bytes());
    hash.update(&shared_info);
    Secret::new(hash.finalize().into())
}
