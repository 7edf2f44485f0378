//! OpenSSL's command line as the other end, both ways.

use crate::common::{AUTH_ENVELOPED, DATA, P256, P384, RSA, algorithm, certificate, structure};
use scep_cms::{
    CmsError, ContentEncryption, EnvelopedData, LegacyAlgorithms, Limits, Opened, Recipient,
    SignedData, SignerId, ToSign, VerifiedSignedData, ber::normalize, certs_only, crl_only,
    open_auth, seal, seal_auth, seal_with_password, sign,
};
use scep_keys::{AwsLc, Backend, SoftwareKey};
use scep_types::tlv::{self, tag};
use scep_types::{CertificateDer, OaepHash, RsaPadding, Secret, SignatureScheme};
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use tempfile::TempDir;

/// A folder to exchange files with the program in.
struct Openssl {
    folder: TempDir,
}

impl Openssl {
    /// `None`, and a line on stderr, where the program is missing; a panic on CI.
    fn find(test: &str) -> Option<Self> {
        if Command::new("openssl").arg("version").output().is_ok_and(|out| out.status.success()) {
            return Some(Self { folder: tempfile::tempdir().unwrap() });
        }
        assert!(std::env::var("CI").as_deref() != Ok("true"), "openssl is missing");
        eprintln!("SKIPPED {test}: openssl is missing");
        None
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, contents: &[u8]) {
        fs::write(self.path(name), contents).unwrap();
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }

    /// Runs it in the folder, which must succeed.
    fn run(&self, arguments: &str) {
        let output = Command::new("openssl")
            .args(arguments.split_whitespace())
            .current_dir(self.folder.path())
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "openssl {arguments}\n{stderr}");
    }

    /// Runs it and reads the file it wrote.
    fn make(&self, arguments: &str) -> Vec<u8> {
        self.run(&format!("{arguments} -out out"));
        self.read("out")
    }

    /// Writes a key of ours and a certificate for it as `NAME.key` and `NAME.pem`.
    fn install(&self, name: &str, key: &SoftwareKey, certificate: &CertificateDer) {
        self.write("der", key.to_pkcs8_der().unwrap().expose());
        self.run(&format!("pkey -inform DER -in der -out {name}.key"));
        self.write("der", certificate.as_der());
        self.run(&format!("x509 -inform DER -in der -out {name}.pem"));
    }
}

const TEXT: &[u8] = b"text\0with octets\xff\r\nof all kinds";

/// A text, so long that OpenSSL streams it in several pieces.
fn long_text() -> Vec<u8> {
    (0..50_000_u32).map(|n| n.to_le_bytes()[1] ^ n.to_le_bytes()[0]).collect()
}

fn verify(der: &[u8], legacy: LegacyAlgorithms) -> Result<VerifiedSignedData, CmsError> {
    let limits = Limits::default();
    SignedData::parse(&normalize(der, &limits)?, &limits)?.verify(&AwsLc, legacy)
}

fn open(
    key: &SoftwareKey,
    certificate: &CertificateDer,
    der: &[u8],
    legacy: LegacyAlgorithms,
) -> Result<Opened, CmsError> {
    let limits = Limits::default();
    let ours = [Recipient { certificate: certificate.clone(), key: key.decryption().unwrap() }];
    EnvelopedData::parse(&normalize(der, &limits)?, &limits, legacy)?.open(&ours, &AwsLc)
}

#[test]
fn what_openssl_signs_verifies() {
    let Some(openssl) = Openssl::find("what_openssl_signs_verifies") else { return };
    let signer = certificate(&RSA, "CN=device,O=Example", 0x1234);
    openssl.install("rsa", &RSA, &signer);
    openssl.install("p256", &P256, &certificate(&P256, "CN=device", 2));
    openssl.install("p384", &P384, &certificate(&P384, "CN=device", 3));
    openssl.install("chain", &P256, &certificate(&P256, "CN=chain", 4));
    let text = long_text();
    openssl.write("text", &text);
    let pss = "-keyopt rsa_padding_mode:pss -keyopt rsa_pss_saltlen:-1";
    for (name, options, scheme) in [
        ("rsa", "", SignatureScheme::RsaPkcs1Sha256),
        ("rsa", "-md sha384", SignatureScheme::RsaPkcs1Sha384),
        ("rsa", "-md sha512", SignatureScheme::RsaPkcs1Sha512),
        ("rsa", pss, SignatureScheme::RsaPssSha256),
        ("p256", "-md sha256", SignatureScheme::EcdsaSha256),
        ("p384", "-md sha384", SignatureScheme::EcdsaSha384),
    ] {
        for form in
            ["", "-stream", "-keyid", "-stream -keyid", "-nosmimecap", "-certfile chain.pem"]
        {
            // OpenSSL 3.0 cannot write RSASSA-PSS as a stream.
            if options == pss && form.contains("-stream") {
                continue;
            }
            let der = openssl.make(&format!(
                "cms -sign -binary -nodetach -in text -signer {name}.pem -inkey {name}.key \
                 -outform DER {options} {form}"
            ));
            let verified = verify(&der, LegacyAlgorithms::Refuse)
                .unwrap_or_else(|error| panic!("{name} {options} {form}: {error}"));
            assert_eq!(verified.content(), text);
            assert_eq!(verified.content_type(), DATA);
            assert_eq!(verified.scheme(), scheme);
        }
    }
}

#[test]
fn quirk_34_sha1_is_served_on_legacy_endpoints_only() {
    let Some(openssl) = Openssl::find("quirk_34_sha1_is_served_on_legacy_endpoints_only") else {
        return;
    };
    openssl.install("rsa", &RSA, &certificate(&RSA, "CN=device", 1));
    openssl.write("text", TEXT);
    let sign = "cms -sign -binary -nodetach -in text -signer rsa.pem -inkey rsa.key -outform DER";
    let der = openssl.make(&format!("{sign} -md sha1"));
    assert_eq!(algorithm(verify(&der, LegacyAlgorithms::Refuse)), "sha1");
    let verified = verify(&der, LegacyAlgorithms::Accept).unwrap();
    assert_eq!(verified.scheme(), SignatureScheme::RsaPkcs1Sha1);
    assert_eq!(verified.content(), TEXT);
    let der = openssl.make(&format!("{sign} -md md5"));
    assert_eq!(algorithm(verify(&der, LegacyAlgorithms::Accept)), "md5");
}

#[test]
fn what_openssl_signs_otherwise_is_refused() {
    let Some(openssl) = Openssl::find("what_openssl_signs_otherwise_is_refused") else { return };
    openssl.install("rsa", &RSA, &certificate(&RSA, "CN=device", 1));
    openssl.install("p256", &P256, &certificate(&P256, "CN=device", 2));
    openssl.write("text", TEXT);
    let sign = "cms -sign -binary -nodetach -in text -signer rsa.pem -inkey rsa.key -outform DER";
    for (options, error) in [
        ("-noattr", "no signed attributes"),
        ("-nocerts", "signer without a certificate"),
        ("-signer p256.pem -inkey p256.key", "second SignerInfo"),
        // OpenSSL's own default is the longest salt there is room for.
        ("-keyopt rsa_padding_mode:pss", "RSASSA-PSS salt not of the digest's length"),
    ] {
        let der = openssl.make(&format!("{sign} {options}"));
        assert_eq!(structure(verify(&der, LegacyAlgorithms::Refuse)), error, "{options}");
    }
    let detached = openssl.make(&sign.replace("-nodetach", ""));
    assert_eq!(
        verify(&detached, LegacyAlgorithms::Refuse).unwrap_err(),
        CmsError::SignatureInvalid
    );
}

#[test]
fn openssl_verifies_what_is_signed_here() {
    let Some(openssl) = Openssl::find("openssl_verifies_what_is_signed_here") else { return };
    let chain = certificate(&P384, "CN=another", 77);
    use SignatureScheme as S;
    for (key, scheme) in [
        (&*RSA, S::RsaPkcs1Sha256),
        (&RSA, S::RsaPkcs1Sha384),
        (&RSA, S::RsaPkcs1Sha512),
        (&RSA, S::RsaPssSha256),
        (&RSA, S::RsaPssSha512),
        (&P256, S::EcdsaSha256),
        (&P384, S::EcdsaSha384),
    ] {
        let signer = certificate(key, "CN=signer,O=Example", 0xffff_ffff);
        openssl.install("signer", key, &signer);
        for content in [TEXT, b""] {
            for by_key_id in [false, true] {
                let what = ToSign {
                    content_type: DATA,
                    content,
                    attributes: &[
                        (crate::common::oid("2.16.840.1.113733.1.9.2"), b"\x13\x0219".to_vec()),
                        (crate::common::oid("2.16.840.1.113733.1.9.5"), vec![4, 2, 1, 2]),
                    ],
                    certificates: if by_key_id { &[] } else { std::slice::from_ref(&chain) },
                    signer_id: match by_key_id {
                        true => SignerId::KeyId,
                        false => SignerId::Certificate(&signer),
                    },
                    scheme,
                };
                let der = sign(key.signer().as_ref(), &what).unwrap();
                openssl.write("signed", &der);
                let given = if by_key_id { "-certfile signer.pem" } else { "" };
                let out = openssl.make(&format!(
                    "cms -verify -binary -inform DER -in signed -CAfile signer.pem \
                     -purpose any {given}"
                ));
                assert_eq!(out, content, "{scheme:?}");
            }
        }
    }
}

#[test]
fn openssl_reads_degenerate_messages() {
    let Some(openssl) = Openssl::find("openssl_reads_degenerate_messages") else { return };
    let (ra, ca) = (certificate(&RSA, "CN=RA,O=Example", 2), certificate(&P256, "CN=CA", 1));
    openssl.write("certs", &certs_only(&[ra.clone(), ca.clone()]));
    let pem = openssl.make("pkcs7 -inform DER -in certs -print_certs");
    let text = String::from_utf8(pem).unwrap();
    let (first, second) = (text.find("CN = RA").unwrap(), text.find("CN = CA").unwrap());
    assert!(first < second, "{text}");
    // And what it writes is read here.
    openssl.install("ra", &RSA, &ra);
    openssl.install("ca", &P256, &ca);
    let der = openssl.make("crl2pkcs7 -nocrl -certfile ra.pem -certfile ca.pem -outform DER");
    let parsed = SignedData::parse(&der, &Limits::default()).unwrap();
    assert_eq!(parsed.into_certs_only().unwrap(), [ra, ca]);

    openssl.write("index", b"");
    openssl.write("number", b"01\n");
    openssl.write("ca.cnf", b"[ca]\ndatabase=index\ncrlnumber=number\ndefault_md=sha256\n");
    openssl.run(
        "ca -config ca.cnf -name ca -gencrl -crldays 9 -cert ca.pem -keyfile ca.key -out crl.pem",
    );
    openssl.run("crl -in crl.pem -outform DER -out crl.der");
    let crl = openssl.read("crl.der");
    openssl.write("crls", &crl_only(&crl));
    openssl.run("pkcs7 -inform DER -in crls -print_certs -out crls.txt");
    assert!(openssl.read("crls.txt").windows(4).any(|window| window == b"X509"));
    let der = openssl.make("crl2pkcs7 -in crl.pem -outform DER");
    let parsed = SignedData::parse(&der, &Limits::default()).unwrap();
    assert_eq!(parsed.into_crls_only().unwrap(), [crl]);
}

#[test]
fn what_openssl_encrypts_opens() {
    let Some(openssl) = Openssl::find("what_openssl_encrypts_opens") else { return };
    let ra = certificate(&RSA, "CN=RA,O=Example", 0x99);
    openssl.install("ra", &RSA, &ra);
    let text = long_text();
    openssl.write("text", &text);
    let oaep = "-keyopt rsa_padding_mode:oaep";
    for (options, padding) in [
        ("", RsaPadding::Pkcs1v15),
        (oaep, RsaPadding::Oaep(OaepHash::Sha1)),
        (&format!("{oaep} -keyopt rsa_oaep_md:sha256"), RsaPadding::Oaep(OaepHash::Sha256)),
        (&format!("{oaep} -keyopt rsa_oaep_md:sha384"), RsaPadding::Oaep(OaepHash::Sha384)),
        (&format!("{oaep} -keyopt rsa_oaep_md:sha512"), RsaPadding::Oaep(OaepHash::Sha512)),
    ] {
        for (cipher, encryption) in [
            ("aes-128-cbc", ContentEncryption::Aes128Cbc),
            ("aes-192-cbc", ContentEncryption::Aes192Cbc),
            ("aes-256-cbc", ContentEncryption::Aes256Cbc),
            ("des-ede3-cbc", ContentEncryption::DesEde3Cbc),
        ] {
            for form in ["", "-stream", "-keyid", "-stream -keyid"] {
                let der = openssl.make(&format!(
                    "cms -encrypt -binary -in text -outform DER -{cipher} {form} -recip ra.pem \
                     {options}"
                ));
                let opened = open(&RSA, &ra, &der, LegacyAlgorithms::Accept)
                    .unwrap_or_else(|error| panic!("{options} {cipher} {form}: {error}"));
                assert_eq!(opened.plaintext.expose(), &text);
                assert_eq!((opened.padding, opened.content_encryption), (padding, encryption));
                let strict = open(&RSA, &ra, &der, LegacyAlgorithms::Refuse);
                match encryption {
                    ContentEncryption::DesEde3Cbc => {
                        assert_eq!(algorithm(strict), "des-ede3-cbc");
                    }
                    _ => assert!(strict.is_ok()),
                }
            }
        }
    }
    // A different hash in the mask.
    let der = openssl.make(&format!(
        "cms -encrypt -binary -in text -outform DER -aes-128-cbc -recip ra.pem {oaep} \
         -keyopt rsa_oaep_md:sha256 -keyopt rsa_mgf1_md:sha1"
    ));
    assert_eq!(
        structure(open(&RSA, &ra, &der, LegacyAlgorithms::Refuse)),
        "MGF1 with another hash"
    );
}

#[test]
fn quirk_22_a_streamed_envelope_in_a_streamed_signature() {
    let Some(openssl) = Openssl::find("quirk_22_a_streamed_envelope_in_a_streamed_signature")
    else {
        return;
    };
    let ra = certificate(&RSA, "CN=RA,O=Example", 0x99);
    openssl.install("ra", &RSA, &ra);
    openssl.install("device", &P256, &certificate(&P256, "CN=device", 1));
    openssl.write("text", TEXT);
    let envelope = openssl
        .make("cms -encrypt -stream -binary -in text -outform DER -aes-128-cbc -recip ra.pem");
    openssl.write("envelope", &envelope);
    let der = openssl.make(
        "cms -sign -stream -binary -nodetach -in envelope -outform DER -signer device.pem \
         -inkey device.key",
    );
    let verified = verify(&der, LegacyAlgorithms::Refuse).unwrap();
    // The inner BER is signed content: it comes out as it went in.
    assert_eq!(verified.content(), envelope);
    let opened = open(&RSA, &ra, verified.content(), LegacyAlgorithms::Refuse).unwrap();
    assert_eq!(opened.plaintext.expose(), TEXT);
}

#[test]
fn openssl_decrypts_what_is_sealed_here() {
    let Some(openssl) = Openssl::find("openssl_decrypts_what_is_sealed_here") else { return };
    let device = certificate(&RSA, "CN=device", 3);
    openssl.install("device", &RSA, &device);
    for padding in [
        RsaPadding::Pkcs1v15,
        RsaPadding::Oaep(OaepHash::Sha1),
        RsaPadding::Oaep(OaepHash::Sha256),
        RsaPadding::Oaep(OaepHash::Sha384),
        RsaPadding::Oaep(OaepHash::Sha512),
    ] {
        for encryption in [
            ContentEncryption::Aes128Cbc,
            ContentEncryption::Aes192Cbc,
            ContentEncryption::Aes256Cbc,
            ContentEncryption::DesEde3Cbc,
        ] {
            openssl.write("sealed", &seal(&AwsLc, &[&device], padding, encryption, TEXT).unwrap());
            let out = openssl.make(
                "cms -decrypt -binary -inform DER -in sealed -recip device.pem -inkey device.key",
            );
            assert_eq!(out, TEXT, "{padding:?} {encryption:?}");
        }
    }
}

#[test]
fn openssl_decrypts_what_is_sealed_with_a_password() {
    let Some(openssl) = Openssl::find("openssl_decrypts_what_is_sealed_with_a_password") else {
        return;
    };
    let blob = "MIIBsomethingLikeAChallenge+/".repeat(150);
    for password in ["p", "challenge-1234", &blob] {
        for encryption in [
            ContentEncryption::Aes128Cbc,
            ContentEncryption::Aes192Cbc,
            ContentEncryption::Aes256Cbc,
            ContentEncryption::DesEde3Cbc,
        ] {
            let secret = Secret::new(password.to_owned());
            let der = seal_with_password(&AwsLc, &secret, encryption, TEXT).unwrap();
            openssl.write("sealed", &der);
            let out = openssl.make(&format!(
                "cms -decrypt -binary -inform DER -in sealed -pwri_password {password}"
            ));
            assert_eq!(out, TEXT, "{encryption:?}");
        }
    }
}

#[test]
fn what_openssl_encrypts_with_a_password_opens() {
    let Some(openssl) = Openssl::find("what_openssl_encrypts_with_a_password_opens") else {
        return;
    };
    let text = long_text();
    openssl.write("text", &text);
    for (cipher, encryption) in [
        ("aes-128-cbc", ContentEncryption::Aes128Cbc),
        ("aes-192-cbc", ContentEncryption::Aes192Cbc),
        ("aes-256-cbc", ContentEncryption::Aes256Cbc),
    ] {
        for form in ["", "-stream"] {
            let der = openssl.make(&format!(
                "cms -encrypt -binary -in text -outform DER -{cipher} {form} \
                 -pwri_password challenge"
            ));
            let limits = Limits::default();
            let der = normalize(&der, &limits).unwrap();
            // Its command derives keys by HMAC with SHA-1, and cannot be told otherwise.
            let envelope = EnvelopedData::parse(&der, &limits, LegacyAlgorithms::Accept).unwrap();
            assert_eq!(envelope.content_encryption(), encryption);
            let open = |password: &str| {
                envelope.open_with_password(&Secret::new(password.to_owned()), &AwsLc)
            };
            assert_eq!(open("challenge").unwrap().expose(), &text);
            assert_eq!(open("Challenge").unwrap_err(), CmsError::DoesNotOpen);
        }
    }
}

#[test]
fn openssl_decrypts_blobs() {
    let Some(openssl) = Openssl::find("openssl_decrypts_blobs") else { return };
    for key in [&*P256, &P384, &RSA] {
        openssl.install("gateway", key, &certificate(key, "CN=gateway", 4));
        let bare = seal_auth(&AwsLc, key.public_key(), TEXT).unwrap();
        // The header that a blob leaves out.
        let with_header = tlv::sequence(&[
            &tlv::oid(&AUTH_ENVELOPED),
            &tlv::encode(tag::context_constructed(0), &bare),
        ]);
        openssl.write("sealed", &with_header);
        let out = openssl.make(
            "cms -decrypt -binary -inform DER -in sealed -recip gateway.pem -inkey gateway.key",
        );
        assert_eq!(out, TEXT, "{}", key.public_key().algorithm());
    }
}

#[test]
fn blobs_that_openssl_makes_open() {
    let Some(openssl) = Openssl::find("blobs_that_openssl_makes_open") else { return };
    openssl.write("text", TEXT);
    for (key, options) in [
        (&*P256, "-keyopt ecdh_kdf_md:sha256 -keyopt ecdh_cofactor_mode:0"),
        (&P384, "-keyopt ecdh_kdf_md:sha256"),
        (&RSA, "-keyopt rsa_padding_mode:oaep -keyopt rsa_oaep_md:sha256"),
    ] {
        openssl.install("gateway", key, &certificate(key, "CN=gateway", 4));
        let der = openssl.make(&format!(
            "cms -encrypt -binary -in text -outform DER -aes-256-gcm -keyid -recip gateway.pem \
             {options}"
        ));
        // ContentInfo's header: 4 octets, the OID, 4 octets of [0].
        let mut tree = crate::common::Node::parse(&der);
        let bare = tree.at(&[1, 0]).encode();
        let opened =
            open_auth(&AwsLc, &bare, &key.decryption().unwrap(), &Limits::default()).unwrap();
        assert_eq!(opened.expose(), TEXT);
    }
}

#[test]
fn openssl_verifies_the_signature_of_blobs() {
    let Some(openssl) = Openssl::find("openssl_verifies_the_signature_of_blobs") else { return };
    for key in [&*P256, &P384, &RSA] {
        let issuer = certificate(key, "CN=issuer", 4);
        openssl.install("issuer", key, &issuer);
        let bare = seal_auth(&AwsLc, P256.public_key(), TEXT).unwrap();
        let what = ToSign {
            content_type: AUTH_ENVELOPED,
            content: &bare,
            attributes: &[],
            certificates: &[],
            signer_id: SignerId::KeyId,
            scheme: SignatureScheme::default_for(key.public_key().algorithm()),
        };
        openssl.write("blob", &sign(key.signer().as_ref(), &what).unwrap());
        let out = openssl.make(
            "cms -verify -binary -inform DER -in blob -certfile issuer.pem -CAfile issuer.pem \
             -purpose any",
        );
        assert_eq!(out, bare);
    }
}

#[test]
fn the_portable_back_end_opens_the_same() {
    let ra = certificate(&RSA, "CN=RA", 7);
    let portable =
        SoftwareKey::from_pkcs8_der(RSA.to_pkcs8_der().unwrap().expose(), Backend::PureRust)
            .unwrap();
    for padding in [RsaPadding::Pkcs1v15, RsaPadding::Oaep(OaepHash::Sha256)] {
        let der = seal(&AwsLc, &[&ra], padding, ContentEncryption::Aes256Cbc, TEXT).unwrap();
        let opened = open(&portable, &ra, &der, LegacyAlgorithms::Refuse).unwrap();
        assert_eq!(opened.plaintext.expose(), TEXT);
    }
}
