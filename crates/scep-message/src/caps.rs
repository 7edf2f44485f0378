//! GetCACaps (RFC 8894, 3.5): what a server can do, as text.

use scep_cms::LegacyAlgorithms;

/// The content type of the answer, without parameters.
pub const CONTENT_TYPE: &str = "text/plain";

/// Whether GetNextCACert is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NextCa {
    /// There is no next CA yet.
    #[default]
    Unknown,
    /// The next CA's certificates can be had.
    Known,
}

/// The body, generated from what is enabled: one keyword a line in the RFC's case, LF line ends, no
/// blanks. `GetNextCACert` is listed only while there is a next CA to tell of.
///
/// SHA-384 is not among the RFC's keywords, but strongSwan uses AES only where it is listed. Single
/// DES and MD5 are never served, hence never listed; `SHA-1` and `DES3` on legacy endpoints only.
#[must_use]
pub fn body(legacy: LegacyAlgorithms, next: NextCa) -> String {
    let mut body = String::from("AES\n");
    match next {
        NextCa::Unknown => {}
        NextCa::Known => body.push_str("GetNextCACert\n"),
    }
    body.push_str("POSTPKIOperation\nRenewal\nSCEPStandard\nSHA-256\nSHA-384\nSHA-512\n");
    match legacy {
        LegacyAlgorithms::Refuse => {}
        // At the end: some clients take the first digest and cipher they know.
        LegacyAlgorithms::Accept => body.push_str("SHA-1\nDES3\n"),
    }
    body
}

/// What a server says it can do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// AES-128-CBC.
    pub aes: bool,
    /// PKIOperation by POST.
    pub post: bool,
    /// SHA-256.
    pub sha256: bool,
    /// SHA-384 (not in the RFC).
    pub sha384: bool,
    /// SHA-512.
    pub sha512: bool,
    /// SHA-1.
    pub sha1: bool,
    /// Three-key 3DES-CBC.
    pub des3: bool,
    /// RenewalReq.
    pub renewal: bool,
    /// GetNextCACert.
    pub get_next_ca_cert: bool,
    /// Everything that RFC 8894 makes mandatory.
    pub scep_standard: bool,
}

impl Capabilities {
    /// Reads a body as RFC 8894, 3.5.2 demands of clients: lines end in LF or CRLF, case is
    /// ignored, unknown keywords are ignored. `SCEPStandard` implies AES, POST and SHA-256. An
    /// empty body has no capability; so has an HTTP error, which is for the caller to read as
    /// [`Capabilities::default`].
    #[must_use]
    pub fn parse(body: &str) -> Self {
        let mut all = Self::default();
        for line in body.trim_start_matches('\u{feff}').split(['\n', '\r']) {
            let keyword = line.trim().to_ascii_lowercase();
            match keyword.as_str() {
                "aes" => all.aes = true,
                "postpkioperation" => all.post = true,
                "sha-256" => all.sha256 = true,
                "sha-384" => all.sha384 = true,
                "sha-512" => all.sha512 = true,
                "sha-1" => all.sha1 = true,
                "des3" => all.des3 = true,
                "renewal" => all.renewal = true,
                "getnextcacert" => all.get_next_ca_cert = true,
                "scepstandard" => {
                    all.scep_standard = true;
                    all.aes = true;
                    all.post = true;
                    all.sha256 = true;
                }
                _ => {}
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quirk_15_exact_keywords_with_lf_and_no_blanks() {
        let body = body(LegacyAlgorithms::Refuse, NextCa::Unknown);
        assert!(body.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'\n')));
        let lines: Vec<&str> = body.lines().collect();
        assert_eq!(
            lines,
            ["AES", "POSTPKIOperation", "Renewal", "SCEPStandard", "SHA-256", "SHA-384", "SHA-512"]
        );
        assert!(body.ends_with('\n'));
    }

    #[test]
    fn attack_60_caps_advertise_no_sha1_and_no_des() {
        let body = body(LegacyAlgorithms::Refuse, NextCa::Unknown);
        assert!(!body.contains("SHA-1\n") && !body.contains("DES"), "{body}");
        assert!(!Capabilities::parse(&body).sha1 && !Capabilities::parse(&body).des3);
        let legacy = super::body(LegacyAlgorithms::Accept, NextCa::Unknown);
        assert!(Capabilities::parse(&legacy).sha1 && Capabilities::parse(&legacy).des3);
        assert!(!legacy.to_ascii_uppercase().contains("MD5") && !legacy.contains("DES\n"));
    }

    #[test]
    fn get_next_ca_cert_is_listed_only_while_there_is_one() {
        for legacy in [LegacyAlgorithms::Refuse, LegacyAlgorithms::Accept] {
            for (next, listed) in [(NextCa::Unknown, false), (NextCa::Known, true)] {
                let body = body(legacy, next);
                assert_eq!(body.lines().any(|line| line == "GetNextCACert"), listed);
                assert_eq!(Capabilities::parse(&body).get_next_ca_cert, listed);
            }
        }
    }

    #[test]
    fn clients_ignore_case_line_ends_and_what_they_do_not_know() {
        for body in ["aes\r\nsha-256\r\nUpdate\r\n", "\u{feff}AES \nSHA-256", "Sha-256\rAes\r\r"] {
            let expected = Capabilities { aes: true, sha256: true, ..Capabilities::default() };
            assert_eq!(Capabilities::parse(body), expected, "{body:?}");
        }
        assert_eq!(Capabilities::parse(""), Capabilities::default());
        assert_eq!(Capabilities::parse("<html>AES SHA-256</html>"), Capabilities::default());
    }

    #[test]
    fn scep_standard_implies_what_is_mandatory() {
        let all = Capabilities::parse("SCEPStandard");
        assert!(all.scep_standard && all.aes && all.post && all.sha256);
        assert!(!all.sha512 && !all.renewal && !all.sha1 && !all.des3);
    }
}
