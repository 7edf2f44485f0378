//! EnvelopedData (RFC 5652, 6): read and opened, sealed.

use crate::algorithm::{Algorithm, key_transport, key_transport_algorithm};
use crate::error::{CmsError, structure};
use crate::limits::{LegacyAlgorithms, Limits, at_most};
use crate::oid;
use crate::password;
use crate::read::{IssuerSerial, content_info, contents, part, same_name, whole};
use crate::sign::wrap;
use crate::symmetric::ContentEncryption;
use scep_types::tlv::{self, Tlv, tag};
use scep_types::{CertificateDer, CryptoProvider, DecryptionKey, KeyError, RsaPadding, Secret};
use std::ops::Range;

/// Our key as a recipient: what a RecipientInfo may name, and the key that opens.
#[derive(Clone, Debug)]
pub struct Recipient {
    /// The certificate that devices encrypt to.
    pub certificate: CertificateDer,
    /// Its key.
    pub key: DecryptionKey,
}

/// A parsed EnvelopedData (RFC 5652, 6.1).
///
/// ```text
/// version                       0 to 4; RFC 5652 gives no meaning to 1, but Python clients write it
/// originatorInfo [0]            absent
/// recipientInfos                1 to max_recipients; key transport is read, and a password's where it is the only one;
///                               other kinds are skipped
/// encryptedContentInfo
///   contentType                 id-data
///   contentEncryptionAlgorithm  AES-CBC with 128, 192 or 256 bits; 3DES-CBC on legacy endpoints
///   encryptedContent [0]        whole blocks, at least one
/// unprotectedAttrs [1]          ignored
/// ```
#[derive(Debug)]
pub struct EnvelopedData {
    der: Vec<u8>,
    recipients: Vec<KeyTransport>,
    count: usize,
    password: Option<Range<usize>>,
    max_iterations: u64,
    legacy: LegacyAlgorithms,
    encryption: ContentEncryption,
    iv: Range<usize>,
    ciphertext: Range<usize>,
}

/// KeyTransRecipientInfo (RFC 5652, 6.2.1), with ranges into the message.
#[derive(Debug)]
pub(crate) struct KeyTransport {
    at: usize,
    pub(crate) rid: RecipientIdentifier,
    algorithm: Range<usize>,
    pub(crate) encrypted_key: Range<usize>,
}

#[derive(Debug)]
pub(crate) enum RecipientIdentifier {
    IssuerSerial(IssuerSerial),
    KeyId(Range<usize>),
}

impl KeyTransport {
    pub(crate) fn read(tlv: &Tlv<'_>) -> Result<Self, CmsError> {
        let mut fields = tlv.reader();
        let version = fields.any()?;
        let rid = fields.any()?;
        let (rid, expected) = match rid.tag {
            tag::SEQUENCE => (RecipientIdentifier::IssuerSerial(IssuerSerial::read(&rid)?), 0),
            0x80 => (RecipientIdentifier::KeyId(contents(&rid)), 2),
            _ => return Err(structure("RecipientIdentifier of unknown kind", rid.at)),
        };
        if version.small_int()? != expected {
            return Err(structure("recipient version does not fit its identifier", version.at));
        }
        let algorithm = fields.expect(tag::SEQUENCE)?;
        let encrypted_key = fields.expect(tag::OCTET_STRING)?;
        fields.finish()?;
        Ok(Self {
            at: tlv.at,
            rid,
            algorithm: whole(&algorithm),
            encrypted_key: contents(&encrypted_key),
        })
    }

    /// The padding, when it is one that is served.
    pub(crate) fn padding(&self, der: &[u8]) -> Result<RsaPadding, CmsError> {
        Algorithm::from_der(part(der, &self.algorithm))
            .and_then(|algorithm| key_transport(&algorithm))
            .map_err(|error| error.within(self.algorithm.start))
    }
}

/// What came out of an envelope, and how the reply should be made.
#[derive(Debug)]
pub struct Opened {
    /// The plaintext.
    pub plaintext: Secret<Vec<u8>>,
    /// How the content key was transported.
    pub padding: RsaPadding,
    /// How the content was encrypted.
    pub content_encryption: ContentEncryption,
    /// Which of the recipients given opened it.
    pub recipient: usize,
}

const CONTENT_ENCRYPTION: &str = "content encryption";

impl EnvelopedData {
    /// Parses a ContentInfo of EnvelopedData (for BER, [`ber::normalize`](crate::ber::normalize) first). Content
    /// encryption, IV, counts and the ciphertext's length are checked here, before any private-key operation.
    ///
    /// # Errors
    /// [`CmsError::Algorithm`] when the content encryption is not served; [`CmsError::Malformed`] and
    /// [`CmsError::Structure`] when it has not the form above; [`CmsError::Limit`] beyond a limit.
    pub fn parse(der: &[u8], limits: &Limits, legacy: LegacyAlgorithms) -> Result<Self, CmsError> {
        limits.check_bytes(der)?;
        let mut fields =
            content_info(der, &oid::ENVELOPED_DATA, "content that is no EnvelopedData")?;
        let version = fields.any()?;
        if version.small_int()? > 4 {
            return Err(structure("EnvelopedData of unknown version", version.at));
        }
        let recipient_set = fields.expect(tag::SET)?;
        let mut content = fields.expect(tag::SEQUENCE)?.reader();
        fields.optional(tag::context_constructed(1))?;
        fields.finish()?;

        let content_type = content.any()?;
        if content_type.oid()? != oid::DATA {
            return Err(structure("encrypted content that is not id-data", content_type.at));
        }
        let algorithm = Algorithm::read(&content.expect(tag::SEQUENCE)?)?;
        let encryption = match (ContentEncryption::from_oid(&algorithm.oid), legacy) {
            (Some(ContentEncryption::DesEde3Cbc), LegacyAlgorithms::Refuse) | (None, _) => {
                return Err(algorithm.unsupported(CONTENT_ENCRYPTION));
            }
            (Some(encryption), _) => encryption,
        };
        let iv = algorithm.parameters()?;
        if iv.tag != tag::OCTET_STRING || iv.value.len() != encryption.block_len() {
            return Err(structure("IV that is not of the block's length", iv.at));
        }
        let ciphertext = content.expect(tag::context(0))?;
        content.finish()?;
        let blocks = ciphertext.value.chunks_exact(encryption.block_len());
        if ciphertext.value.is_empty() || !blocks.remainder().is_empty() {
            return Err(structure("encrypted content that is not of whole blocks", ciphertext.at));
        }

        let mut reader = recipient_set.reader();
        if reader.is_empty() {
            return Err(structure("envelope without recipients", recipient_set.at));
        }
        let mut recipients = Vec::new();
        let mut password = None;
        let mut count = 0_usize;
        while !reader.is_empty() {
            let recipient = reader.any()?;
            count = count.saturating_add(1);
            at_most("recipients", count, limits.max_recipients)?;
            match recipient.tag {
                tag::SEQUENCE => recipients.push(KeyTransport::read(&recipient)?),
                password::RECIPIENT => password = Some(whole(&recipient)),
                // Key agreement, KEK and other recipients: never ours here.
                0xa1..=0xa4 => {}
                _ => return Err(structure("recipient of unknown kind", recipient.at)),
            }
        }
        Ok(Self {
            recipients,
            count,
            password,
            max_iterations: limits.max_iterations,
            legacy,
            encryption,
            iv: contents(iv),
            ciphertext: contents(&ciphertext),
            der: der.to_vec(),
        })
    }

    /// Opens it with the one recipient that is named: exactly one private-key operation. Bad key transport goes on
    /// with a random content key, so that every failure is [`CmsError::DoesNotOpen`] after the same work. About
    /// one in 256 envelopes with bad key transport opens to noise for that reason: the caller must answer what
    /// cannot be read inside just as it answers `DoesNotOpen`.
    ///
    /// A recipient names one of ours by SubjectKeyIdentifier, or by serial number and issuer. Issuers are compared
    /// as received and, where that differs, as structures. When no recipient names one of ours, a serial number
    /// that is unique among ours decides: there are clients that reorder the issuer's RDNs.
    ///
    /// # Errors
    /// Before the private-key operation: [`CmsError::NotForUs`]; [`CmsError::Structure`] when two recipients name
    /// ours, or the encrypted key has not the modulus's length; [`CmsError::Algorithm`] when its padding is not
    /// served. After it: [`CmsError::DoesNotOpen`], or [`CmsError::Key`] when the key itself failed.
    pub fn open(
        &self,
        ours: &[Recipient],
        provider: &dyn CryptoProvider,
    ) -> Result<Opened, CmsError> {
        let (transport, index, recipient) = self.find(ours)?;
        let padding = transport.padding(&self.der)?;
        let DecryptionKey::Rsa(key) = &recipient.key else {
            return Err(KeyError::Unsupported {
                operation: "key transport",
                key: recipient.key.public_key().algorithm().to_string(),
            }
            .into());
        };
        let encrypted_key = part(&self.der, &transport.encrypted_key);
        check_key_length(key.public_key(), encrypted_key, transport.at)?;
        let mut content_key = Secret::new(vec![0; self.encryption.key_len()]);
        provider.random(content_key.expose_mut())?;
        key.decrypt_key(padding, encrypted_key, &mut content_key)?;
        let plaintext = self.encryption.decrypt(
            content_key.expose(),
            part(&self.der, &self.iv),
            part(&self.der, &self.ciphertext),
        )?;
        Ok(Opened { plaintext, padding, content_encryption: self.encryption, recipient: index })
    }

    /// Opens it with a password, which must be its only recipient (PasswordRecipientInfo, RFC 5652, 6.2.4):
    ///
    /// ```text
    /// version                       0
    /// keyDerivationAlgorithm [0]    PBKDF2 (RFC 8018): a salt of 8 to 64 octets, 1,000 to max_iterations iterations,
    ///                               HMAC with SHA-256, SHA-384 or SHA-512, with SHA-1 on legacy endpoints
    /// keyEncryptionAlgorithm        id-alg-PWRI-KEK (RFC 3211) with AES-CBC of 128, 192 or 256 bits
    /// encryptedKey                  the wrapped content key, without more padding than it needs
    /// ```
    ///
    /// All of this is public, and checked before a key is derived. A wrong password or an altered key goes on with a
    /// random content key, so that every failure from there on is [`CmsError::DoesNotOpen`] after the same work.
    ///
    /// # Errors
    /// Before the derivation: [`CmsError::NotForUs`] when no recipient has a password; [`CmsError::Structure`] when
    /// there is another beside it, the password is empty, or the form is not the one above; [`CmsError::Algorithm`]
    /// and [`CmsError::Limit`]. After it: [`CmsError::DoesNotOpen`].
    pub fn open_with_password(
        &self,
        password: &Secret<String>,
        provider: &dyn CryptoProvider,
    ) -> Result<Secret<Vec<u8>>, CmsError> {
        let range = self.password.as_ref().ok_or(CmsError::NotForUs)?;
        if self.count != 1 {
            return Err(structure("recipient beside the one with a password", range.start));
        }
        let key = password::read(
            part(&self.der, range),
            self.encryption.key_len(),
            self.max_iterations,
            self.legacy,
        )
        .map_err(|error| error.within(range.start))?;
        let content_key = key.unwrap(password, self.encryption.key_len(), provider)?;
        self.encryption.decrypt(
            content_key.expose(),
            part(&self.der, &self.iv),
            part(&self.der, &self.ciphertext),
        )
    }

    /// Which of our recipients it names, known before opening; `None`: not exactly one.
    #[must_use]
    pub fn recipient(&self, ours: &[Recipient]) -> Option<usize> {
        self.find(ours).ok().map(|(_, index, _)| index)
    }

    /// Which of our recipients it names, and how the content key is transported to it: what [`EnvelopedData::open`] would
    /// use, found without the key.
    ///
    /// # Errors
    /// As for [`EnvelopedData::open`], before the private-key operation.
    pub fn transport(&self, ours: &[Recipient]) -> Result<(usize, RsaPadding), CmsError> {
        let (transport, index, _) = self.find(ours)?;
        Ok((index, transport.padding(&self.der)?))
    }

    /// The encryption algorithm, known before opening.
    #[must_use]
    pub const fn content_encryption(&self) -> ContentEncryption {
        self.encryption
    }

    fn find<'a>(
        &self,
        ours: &'a [Recipient],
    ) -> Result<(&KeyTransport, usize, &'a Recipient), CmsError> {
        let exact = |rid: &RecipientIdentifier, certificate: &CertificateDer| match rid {
            RecipientIdentifier::KeyId(id) => {
                certificate.subject_key_id() == Some(part(&self.der, id))
            }
            RecipientIdentifier::IssuerSerial(id) => {
                certificate.serial_content() == part(&self.der, &id.serial)
                    && same_name(certificate.issuer_der(), part(&self.der, &id.issuer))
            }
        };
        let by_serial = |rid: &RecipientIdentifier, certificate: &CertificateDer| match rid {
            RecipientIdentifier::KeyId(_) => false,
            RecipientIdentifier::IssuerSerial(id) => {
                certificate.serial_content() == part(&self.der, &id.serial)
            }
        };
        match self.matches(ours, exact)? {
            Some(found) => Ok(found),
            None => self.matches(ours, by_serial)?.ok_or(CmsError::NotForUs),
        }
    }

    /// The one recipient that fits one of ours.
    fn matches<'a>(
        &self,
        ours: &'a [Recipient],
        fits: impl Fn(&RecipientIdentifier, &CertificateDer) -> bool,
    ) -> Result<Option<(&KeyTransport, usize, &'a Recipient)>, CmsError> {
        let mut found = None;
        for transport in &self.recipients {
            for (index, recipient) in ours.iter().enumerate() {
                if !fits(&transport.rid, &recipient.certificate) {
                    continue;
                }
                if found.is_some() {
                    return Err(structure("second recipient that names our key", transport.at));
                }
                found = Some((transport, index, recipient));
            }
        }
        Ok(found)
    }
}

/// RFC 8017, 7.1.2 and 7.2.2: the ciphertext has the modulus's length. Both are public.
pub(crate) fn check_key_length(
    key: &scep_types::SpkiDer,
    encrypted_key: &[u8],
    at: usize,
) -> Result<(), CmsError> {
    match key.rsa() {
        Some(parts) if parts.modulus.len() == encrypted_key.len() => Ok(()),
        _ => Err(structure("encrypted key that is not of the modulus's length", at)),
    }
}

/// Encrypts to the RSA keys of certificates (issuerAndSerialNumber), content type id-data. Returns the ContentInfo's
/// DER.
///
/// # Errors
/// [`CmsError::Structure`] when there are no recipients; [`CmsError::Key`] when a key is not RSA or too small, or
/// randomness failed.
pub fn seal(
    provider: &dyn CryptoProvider,
    recipients: &[&CertificateDer],
    padding: RsaPadding,
    encryption: ContentEncryption,
    plaintext: &[u8],
) -> Result<Vec<u8>, CmsError> {
    if recipients.is_empty() {
        return Err(structure("envelope without recipients", 0));
    }
    let mut content_key = Secret::new(vec![0; encryption.key_len()]);
    provider.random(content_key.expose_mut())?;
    let mut iv = vec![0; encryption.block_len()];
    provider.random(&mut iv)?;

    let mut infos = Vec::with_capacity(recipients.len());
    for certificate in recipients {
        let key = provider.rsa_encrypt(certificate.spki(), padding, content_key.expose())?;
        let serial = tlv::encode(tag::INTEGER, certificate.serial_content());
        infos.push(tlv::sequence(&[
            &tlv::small_int(0),
            &tlv::sequence(&[certificate.issuer_der(), &serial]),
            &key_transport_algorithm(padding),
            &tlv::encode(tag::OCTET_STRING, &key),
        ]));
    }
    envelope(0, infos, encryption, &content_key, &iv, plaintext)
}

/// The ContentInfo of an envelope whose recipients are made.
pub(crate) fn envelope(
    version: u64,
    infos: Vec<Vec<u8>>,
    encryption: ContentEncryption,
    content_key: &Secret<Vec<u8>>,
    iv: &[u8],
    plaintext: &[u8],
) -> Result<Vec<u8>, CmsError> {
    let algorithm =
        tlv::sequence(&[&tlv::oid(&encryption.oid()), &tlv::encode(tag::OCTET_STRING, iv)]);
    let ciphertext = encryption.encrypt(content_key.expose(), iv, plaintext)?;
    let content = tlv::sequence(&[
        &tlv::oid(&oid::DATA),
        &algorithm,
        &tlv::encode(tag::context(0), &ciphertext),
    ]);
    let enveloped = tlv::sequence(&[&tlv::small_int(version), &tlv::set_of(infos), &content]);
    Ok(wrap(&oid::ENVELOPED_DATA, &enveloped))
}
