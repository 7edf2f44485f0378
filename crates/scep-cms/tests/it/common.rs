//! Keys, certificates, a DER tree to change, and key wrappers that count.

use scep_cms::CmsError;
use scep_keys::{AwsLc, SoftwareKey};
use scep_types::tlv::{self, Reader, tag};
use scep_types::{
    CertificateDer, CryptoProvider, DecryptionKey, DistinguishedName, EcdhKey, EphemeralAgreement,
    KeyAlgorithm, KeyError, ObjectIdentifier, RsaDecryptionKey, RsaPadding, Secret,
    SignatureInvalid, SignatureScheme, SpkiDer, Timestamp,
};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};

pub(crate) const DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.1");
pub(crate) const AUTH_ENVELOPED: ObjectIdentifier =
    ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.1.23");

fn key(algorithm: KeyAlgorithm) -> SoftwareKey {
    SoftwareKey::generate(algorithm).unwrap()
}

pub(crate) static RSA: LazyLock<SoftwareKey> = LazyLock::new(|| key(KeyAlgorithm::Rsa(2048)));
pub(crate) static RSA_2: LazyLock<SoftwareKey> = LazyLock::new(|| key(KeyAlgorithm::Rsa(2048)));
pub(crate) static P256: LazyLock<SoftwareKey> = LazyLock::new(|| key(KeyAlgorithm::P256));
pub(crate) static P384: LazyLock<SoftwareKey> = LazyLock::new(|| key(KeyAlgorithm::P384));

pub(crate) fn oid(dotted: &str) -> ObjectIdentifier {
    ObjectIdentifier::new(dotted).unwrap()
}

/// A self-signed certificate for the key, named and numbered as told, with our key id as
/// SubjectKeyIdentifier.
pub(crate) fn certificate(key: &SoftwareKey, name: &str, serial: u64) -> CertificateDer {
    let name: DistinguishedName = name.parse().unwrap();
    certificate_with_issuer(key, &name.to_der(), serial)
}

pub(crate) fn certificate_with_issuer(
    key: &SoftwareKey,
    name_der: &[u8],
    serial: u64,
) -> CertificateDer {
    let scheme = SignatureScheme::default_for(key.public_key().algorithm());
    let algorithm = match scheme {
        SignatureScheme::RsaPkcs1Sha256 => {
            tlv::sequence(&[&tlv::oid(&oid("1.2.840.113549.1.1.11")), &[5, 0]])
        }
        SignatureScheme::EcdsaSha256 => tlv::sequence(&[&tlv::oid(&oid("1.2.840.10045.4.3.2"))]),
        _ => tlv::sequence(&[&tlv::oid(&oid("1.2.840.10045.4.3.3"))]),
    };
    let time = |seconds| tlv::time(Timestamp::from_seconds(seconds));
    let key_id = tlv::encode(tag::OCTET_STRING, key.public_key().key_id().as_bytes());
    let extension =
        tlv::sequence(&[&tlv::oid(&oid("2.5.29.14")), &tlv::encode(tag::OCTET_STRING, &key_id)]);
    let tbs = tlv::sequence(&[
        &tlv::encode(tag::context_constructed(0), &tlv::small_int(2)),
        &tlv::small_int(serial),
        &algorithm,
        name_der,
        &tlv::sequence(&[&time(1_700_000_000), &time(2_400_000_000)]),
        name_der,
        key.public_key().as_der(),
        &tlv::encode(tag::context_constructed(3), &tlv::sequence(&[&extension])),
    ]);
    let signature = key.signer().sign(scheme, &tbs).unwrap();
    let der = tlv::sequence(&[&tbs, &algorithm, &tlv::whole_bits(&signature)]);
    CertificateDer::parse(&der).unwrap()
}

/// DER as a tree, to change one place of a good message.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Node {
    Primitive(u8, Vec<u8>),
    Constructed(u8, Vec<Self>),
}

impl Node {
    pub(crate) fn parse(der: &[u8]) -> Self {
        let mut reader = Reader::new(der);
        let node = Self::read(&mut reader);
        reader.finish().unwrap();
        node
    }

    fn read(reader: &mut Reader<'_>) -> Self {
        let tlv = reader.any().unwrap();
        if tlv.tag & 0x20 == 0 {
            return Self::Primitive(tlv.tag, tlv.value.to_vec());
        }
        let mut inner = tlv.reader();
        let mut children = Vec::new();
        while !inner.is_empty() {
            children.push(Self::read(&mut inner));
        }
        Self::Constructed(tlv.tag, children)
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        match self {
            Self::Primitive(tag, value) => tlv::encode(*tag, value),
            Self::Constructed(tag, children) => {
                let parts: Vec<Vec<u8>> = children.iter().map(Self::encode).collect();
                tlv::encode(*tag, &parts.concat())
            }
        }
    }

    pub(crate) fn children(&mut self) -> &mut Vec<Self> {
        match self {
            Self::Constructed(_, children) => children,
            Self::Primitive(..) => panic!("a primitive value has no children"),
        }
    }

    /// The node at this path of child indices.
    pub(crate) fn at(&mut self, path: &[usize]) -> &mut Self {
        path.iter().fold(self, |node, index| &mut node.children()[*index])
    }

    pub(crate) fn value(&mut self) -> &mut Vec<u8> {
        match self {
            Self::Primitive(_, value) => value,
            Self::Constructed(..) => panic!("a constructed value has no octets of its own"),
        }
    }
}

/// The message with one change made to its tree.
pub(crate) fn changed(der: &[u8], change: impl FnOnce(&mut Node)) -> Vec<u8> {
    let mut tree = Node::parse(der);
    change(&mut tree);
    let out = tree.encode();
    assert_ne!(out, der, "the change changes nothing");
    out
}

/// Randomness that repeats: a test of implicit rejection must not depend on luck.
#[derive(Debug)]
pub(crate) struct Fixed(pub(crate) u8);

impl CryptoProvider for Fixed {
    fn verify(
        &self,
        key: &SpkiDer,
        scheme: SignatureScheme,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), SignatureInvalid> {
        AwsLc.verify(key, scheme, message, signature)
    }

    fn rsa_encrypt(
        &self,
        key: &SpkiDer,
        padding: RsaPadding,
        plaintext: &[u8],
    ) -> Result<Vec<u8>, KeyError> {
        AwsLc.rsa_encrypt(key, padding, plaintext)
    }

    fn ephemeral_agree(&self, peer: &SpkiDer) -> Result<EphemeralAgreement, KeyError> {
        AwsLc.ephemeral_agree(peer)
    }

    fn random(&self, out: &mut [u8]) -> Result<(), KeyError> {
        out.fill(self.0);
        Ok(())
    }
}

/// A decryption key that counts its operations.
#[derive(Debug)]
pub(crate) struct Counting<K> {
    key: K,
    operations: Arc<AtomicUsize>,
}

impl RsaDecryptionKey for Counting<Arc<dyn RsaDecryptionKey>> {
    fn public_key(&self) -> &SpkiDer {
        self.key.public_key()
    }

    fn decrypt_key(
        &self,
        padding: RsaPadding,
        ciphertext: &[u8],
        key: &mut Secret<Vec<u8>>,
    ) -> Result<(), KeyError> {
        self.operations.fetch_add(1, Ordering::Relaxed);
        self.key.decrypt_key(padding, ciphertext, key)
    }
}

impl EcdhKey for Counting<Arc<dyn EcdhKey>> {
    fn public_key(&self) -> &SpkiDer {
        self.key.public_key()
    }

    fn agree(&self, peer_point: &[u8]) -> Result<Secret<Vec<u8>>, KeyError> {
        self.operations.fetch_add(1, Ordering::Relaxed);
        self.key.agree(peer_point)
    }
}

/// The key as a decryption key, and how often it was used.
pub(crate) fn counting(key: &SoftwareKey) -> (DecryptionKey, Arc<AtomicUsize>) {
    let operations = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&operations);
    let key = match key.decryption().unwrap() {
        DecryptionKey::Rsa(key) => DecryptionKey::Rsa(Arc::new(Counting { key, operations })),
        DecryptionKey::Ec(key) => DecryptionKey::Ec(Arc::new(Counting { key, operations })),
    };
    (key, counter)
}

pub(crate) fn used(operations: &AtomicUsize) -> usize {
    operations.load(Ordering::Relaxed)
}

/// The text of a [`CmsError::Structure`].
#[track_caller]
pub(crate) fn structure<T: std::fmt::Debug>(result: Result<T, CmsError>) -> &'static str {
    match result {
        Err(CmsError::Structure { what, .. }) => what,
        other => panic!("{other:?} is no structure error"),
    }
}

#[track_caller]
pub(crate) fn algorithm<T: std::fmt::Debug>(result: Result<T, CmsError>) -> String {
    match result {
        Err(CmsError::Algorithm { name, .. }) => name,
        other => panic!("{other:?} is no algorithm error"),
    }
}
