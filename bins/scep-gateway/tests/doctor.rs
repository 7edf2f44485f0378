//! `scep-gateway doctor` against servers: our own, through a proxy with short buffers, and other people's.
//!
//! A harness of its own, because only the run can tell which peers this machine has.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests: what does not fit is a failed test"
)]

use libtest_mimic::{Arguments, Trial};
use scep_testkit::process::peers::{Peer, folder, trial};
use scep_testkit::process::{
    Child, Site, SiteOptions, binary, free_address, must, run, temporary, text,
};
use serde_json::Value;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;

fn main() {
    let arguments = Arguments::from_args();
    let nginx = || [Peer::program("nginx")];
    let tls = || ["nginx", "openssl"].map(Peer::program);
    let trials: Vec<Trial> = vec![
        trial("the_doctor_finds_nothing_at_a_gateway", &[], healthy),
        trial("the_doctor_says_when_nobody_is_there", &[], nobody),
        trial("the_doctor_sees_through_a_bad_server", &[], bad),
        trial("quirk_14_the_doctor_names_the_proxy_that_cuts_a_long_get", &nginx(), short_buffers),
        trial(
            "quirk_13_the_doctor_sees_tls_ask_for_a_client_certificate",
            &tls(),
            client_certificate,
        ),
        trial(
            "quirk_33_the_doctor_names_the_old_algorithms_of_scepserver",
            &[Peer::program("scepserver")],
            micromdm,
        ),
        trial(
            "the_doctor_says_what_step_ca_does_not_serve",
            &[Peer::file(folder().join("step-ca")), Peer::program("openssl")],
            step_ca,
        ),
        trial("the_doctor_fetches_and_verifies_the_crl", &[Peer::program("openssl")], crl),
    ];
    libtest_mimic::run(&arguments, trials).exit();
}

/// What the doctor says: its exit code, and its findings.
struct Report {
    code: i32,
    json: Value,
}

impl Report {
    fn of(url: &str, more: &[&str]) -> Self {
        let mut command = Command::new(binary("scep-gateway"));
        command.env_remove("SCEP_GATEWAY_CONFIG");
        let output = run(command.args(["doctor", url, "--json"]).args(more));
        let json = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", text(&output)));
        Self { code: output.status.code().unwrap(), json }
    }

    fn finding(&self, check: &str) -> &Value {
        let all = self.json["findings"].as_array().unwrap();
        let found = all.iter().find(|finding| finding["check"] == check);
        found.unwrap_or_else(|| panic!("no {check}: {:#}", self.json))
    }

    #[track_caller]
    fn has(&self, check: &str, level: &str, found: &str) {
        let finding = self.finding(check);
        let says = finding["found"].as_str().unwrap();
        assert!(finding["level"] == level && says.contains(found), "{finding:#}");
        assert_eq!(finding["clients"].is_null(), level == "ok", "{finding:#}");
    }

    /// The checks that are not ok.
    fn troubles(&self) -> Vec<&str> {
        let all = self.json["findings"].as_array().unwrap().iter();
        let bad = all.filter(|finding| finding["level"] != "ok");
        bad.map(|finding| finding["check"].as_str().unwrap()).collect()
    }
}

fn healthy() {
    let site = Site::start(&SiteOptions::default());
    let report = Report::of(&site.url("/scep"), &[]);
    assert_eq!(report.troubles(), <[&str; 0]>::default(), "{:#}", report.json);
    assert_eq!(report.code, 0);
    for check in [
        "GetCACaps",
        "algorithms",
        "clock",
        "GetCACert",
        "RA key usage",
        "GetCACert order",
        "CA and RA validity",
        "message= of GetCACaps, GetCACert",
        "unknown parameters",
        "pkiclient.exe appended",
        "HTTP/1.0, no Host",
        "unknown path",
        "mscep_admin",
        "CRL",
        "POST without Content-Type, chunked",
        "GET, + / = not escaped",
        "GET, lines of base64",
        "GET of 31 KiB",
        "CertRep form",
    ] {
        report.has(check, "ok", "");
    }
    report.has("PKIOperation", "ok", "the whole way works: refused with ");
    // Six messages came; nothing was issued, and no challenge was used.
    assert!(site.log_lines(&["Issued"]).is_empty(), "{}", site.log());
    // The same for people, of the configuration's own address.
    let mut command = Command::new(binary("scep-gateway"));
    command.arg("doctor").arg("--config").arg(site.file("gateway.toml"));
    let table = String::from_utf8(must(&mut command)).unwrap();
    assert!(table.contains(", 0 warnings, 0 failures"), "{table}");
}

fn nobody() {
    let report = Report::of(&format!("http://{}/scep", free_address()), &[]);
    report.has("reach the server", "fail", "died at the connection: ");
    assert_eq!(report.code, 2);
    let mut command = Command::new(binary("scep-gateway"));
    let output = run(command.args(["doctor", "ftp://scep.example.org/"]));
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
}

/// Capabilities that nobody should write, and a page for everything else.
fn bad() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = [0; 4096];
            let n = stream.read(&mut head).unwrap_or(0);
            let head = String::from_utf8_lossy(&head[..n]).into_owned();
            if head.starts_with("STOP") {
                return;
            }
            let answer = if head.contains("operation=GetCACaps") {
                "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
                 \r\naes \nPOSTPKIOperation\n"
            } else {
                "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<html></html>"
            };
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    let report = Report::of(&format!("http://{address}/scep"), &[]);
    assert_eq!(report.code, 2);
    report.has("GetCACaps", "warn", "content type \"text/plain; charset=utf-8\"");
    report.has("GetCACaps", "warn", "blanks around \"aes\"");
    report.has("algorithms", "fail", "SHA-256");
    report.has("clock", "warn", "s ahead of this machine");
    report.has("GetCACert", "fail", "with a web page");
    report.has("unknown path", "warn", "with a web page");
    report.has("mscep_admin", "fail", "open");
    report.has("PKIOperation", "fail", "not tried");
    std::net::TcpStream::connect(address).unwrap().write_all(b"STOP").unwrap();
    server.join().unwrap();
}

/// A CA whose certificate names a CRL: fresh, stale, of another CA, or not there.
fn crl() {
    let dir = temporary();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let openssl = |arguments: &str| {
        must(Command::new("openssl").current_dir(dir.path()).args(arguments.split_whitespace()));
    };
    let settings = "[ca]\ndefault_ca = own\n[own]\ndatabase = index.txt\ndefault_md = sha256\n";
    std::fs::write(dir.path().join("ca.cnf"), settings).unwrap();
    std::fs::write(dir.path().join("index.txt"), "").unwrap();
    for name in ["ours", "other"] {
        openssl(&format!(
            "req -x509 -newkey rsa:2048 -nodes -days 90 -subj /CN=CA -keyout {name}.key -out {name}.crt \
             -addext crlDistributionPoints=URI:http://{address}/crl"
        ));
    }
    openssl("x509 -in ours.crt -outform DER -out ours.der");
    let past = "-crl_lastupdate 20200101000000Z -crl_nextupdate 20200201000000Z";
    for (list, name, time) in [
        ("fresh", "ours", "-crldays 7"),
        ("stale", "ours", past),
        ("foreign", "other", "-crldays 7"),
    ] {
        openssl(&format!(
            "ca -gencrl -config ca.cnf -keyfile {name}.key -cert {name}.crt {time} -out {list}.pem"
        ));
        openssl(&format!("crl -in {list}.pem -outform DER -out {list}.crl"));
    }
    let certificate = std::fs::read(dir.path().join("ours.der")).unwrap();
    let served = dir.path().join("served.crl");
    let list = served.clone();
    let server = std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = [0; 4096];
            let n = stream.read(&mut head).unwrap_or(0);
            let head = String::from_utf8_lossy(&head[..n]).into_owned();
            let (content_type, body) = if head.starts_with("STOP") {
                return;
            } else if head.contains("operation=GetCACaps") {
                ("text/plain", Some(b"SCEPStandard\nAES\nSHA-256\nPOSTPKIOperation\n".to_vec()))
            } else if head.contains("operation=GetCACert") {
                ("application/x-x509-ca-cert", Some(certificate.clone()))
            } else if head.starts_with("GET /crl ") {
                ("application/pkix-crl", std::fs::read(&list).ok())
            } else {
                ("text/plain", None)
            };
            let status = if body.is_some() { "200 OK" } else { "404 Not Found" };
            let start = format!("HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\n\r\n");
            let _ = stream.write_all(&[start.as_bytes(), &body.unwrap_or_default()].concat());
        }
    });
    let url = format!("http://{address}/scep");
    Report::of(&url, &[]).has("CRL", "fail", "HTTP status 404");
    for (list, level, found) in [
        ("fresh", "ok", "0 revoked, next update 20"),
        ("stale", "fail", "stale since 2020-02-01"),
        ("foreign", "fail", "its signature is not the CA's"),
    ] {
        std::fs::copy(dir.path().join(format!("{list}.crl")), &served).unwrap();
        Report::of(&url, &[]).has("CRL", level, found);
    }
    std::net::TcpStream::connect(address).unwrap().write_all(b"STOP").unwrap();
    server.join().unwrap();
}

/// nginx in front of a site.
fn nginx(dir: &Path, server: &str, gateway: SocketAddr) -> (Child, SocketAddr) {
    for _ in 0..10 {
        let address = free_address();
        let server = server.replace("ADDRESS", &address.to_string());
        let config = format!(
            "daemon off;\nmaster_process off;\npid nginx.pid;\nerror_log stderr;\nevents {{}}\nhttp {{\n\
             access_log off;\nclient_body_temp_path body;\nproxy_temp_path proxy;\nfastcgi_temp_path fastcgi;\n\
             uwsgi_temp_path uwsgi;\nscgi_temp_path scgi;\nserver {{\n{server}\n\
             location / {{ proxy_pass http://{gateway}; proxy_http_version 1.1; }}\n}}\n}}\n"
        );
        std::fs::write(dir.join("nginx.conf"), config).unwrap();
        let mut command = Command::new("nginx");
        command.arg("-p").arg(dir).arg("-c").arg(dir.join("nginx.conf"));
        let mut child = Child::start(&mut command, dir, "nginx");
        if child.answers(address) && child.ended().is_none() {
            return (child, address);
        }
        assert!(child.stderr().contains("in use"), "{}", child.stderr());
    }
    panic!("no port stayed free");
}

fn short_buffers() {
    let site = Site::start(&SiteOptions::default());
    let dir = temporary();
    let server = "listen ADDRESS; large_client_header_buffers 4 8k;";
    let (_nginx, address) = nginx(dir.path(), server, site.address());
    let report = Report::of(&format!("http://{address}/scep"), &[]);
    report.has("GET of 31 KiB", "fail", "HTTP status 414 from nginx");
    report.has("PKIOperation", "ok", "the whole way works");
    report.has("GET, lines of base64", "ok", "");
    // nginx does not serve HTTP/1.1 without Host, and nothing else is wrong.
    assert_eq!(report.troubles(), ["HTTP/1.0, no Host", "GET of 31 KiB"], "{:#}", report.json);
    assert_eq!(report.code, 2);
    drop(_nginx);
    let server = "listen ADDRESS; large_client_header_buffers 4 96k;";
    let (_nginx, address) = nginx(dir.path(), server, site.address());
    let report = Report::of(&format!("http://{address}/scep"), &[]);
    assert_eq!(report.troubles(), ["HTTP/1.0, no Host"], "{:#}", report.json);
    assert_eq!(report.code, 1);
}

fn client_certificate() {
    let site = Site::start(&SiteOptions::default());
    let dir = temporary();
    let mut openssl = Command::new("openssl");
    openssl.args([
        "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj", "/CN=tls",
        "-addext",
    ]);
    openssl.args(["subjectAltName=IP:127.0.0.1", "-keyout"]).arg(dir.path().join("key.pem"));
    must(openssl.arg("-out").arg(dir.path().join("cert.pem")));
    let server = |verify: &str| {
        format!(
            "listen ADDRESS ssl; large_client_header_buffers 4 96k; ssl_certificate cert.pem; ssl_certificate_key \
             key.pem; ssl_client_certificate cert.pem; ssl_verify_client {verify};"
        )
    };
    let root = dir.path().join("cert.pem");
    let root = ["--tls-root", root.to_str().unwrap()];
    let (asking, address) = nginx(dir.path(), &server("optional"), site.address());
    let url = format!("https://{address}/scep");
    let report = Report::of(&url, &root);
    report.has("TLS client certificate", "fail", "asks for a client certificate");
    report.has("PKIOperation", "ok", "the whole way works");
    drop(asking);
    let (_quiet, address) = nginx(dir.path(), &server("off"), site.address());
    let url = format!("https://{address}/scep");
    // A certificate that is not trusted is named, and the other checks are made all the same.
    let report = Report::of(&url, &[]);
    report.has("TLS client certificate", "ok", "none is asked for");
    report.has("TLS certificate", "fail", "certificate");
    report.has("PKIOperation", "ok", "the whole way works");
    // Under another name.
    let other = url.replace("127.0.0.1", "localhost");
    let report = Report::of(&other, &root);
    report.has("TLS certificate", "fail", "");
}

fn micromdm() {
    let dir = temporary();
    let depot = dir.path().join("depot");
    let mut init = Command::new("scepserver");
    init.args(["ca", "-init", "-keySize", "2048", "-organization", "Example", "-depot"]);
    must(init.arg(&depot));
    for _ in 0..10 {
        let address = free_address();
        let mut command = Command::new("scepserver");
        command.args(["-challenge", "secret", "-port", &address.port().to_string(), "-depot"]);
        let mut server = Child::start(command.arg(&depot), dir.path(), "scepserver");
        if !server.answers(address) || server.ended().is_some() {
            assert!(server.stderr().contains("in use"), "{}", server.stderr());
            continue;
        }
        let report = Report::of(&format!("http://{address}/scep"), &[]);
        report.has("algorithms", "warn", "SHA-1, DES3");
        report.has("PKIOperation", "ok", "the whole way works: refused with BadRequest");
        report.has("CertRep form", "warn", "digest SHA-1");
        report.has("pkiclient.exe appended", "fail", "HTTP status 404");
        report.has("GET, + / = not escaped", "fail", "HTTP status ");
        return;
    }
    panic!("no port stayed free");
}

fn step_ca() {
    let dir = temporary();
    let openssl = |arguments: &str| {
        must(Command::new("openssl").current_dir(dir.path()).args(arguments.split_whitespace()));
    };
    openssl(
        "req -x509 -newkey rsa:2048 -nodes -days 90 -subj /CN=Root -keyout root.key -out root.crt",
    );
    openssl(
        "req -newkey rsa:2048 -nodes -subj /CN=Intermediate -keyout intermediate.key -out intermediate.csr",
    );
    std::fs::write(
        dir.path().join("ca.cnf"),
        "basicConstraints = critical, CA:TRUE, pathlen:0\n\
         keyUsage = critical, keyCertSign, cRLSign, digitalSignature, keyEncipherment\n",
    )
    .unwrap();
    openssl(
        "x509 -req -in intermediate.csr -CA root.crt -CAkey root.key -CAcreateserial -days 60 -extfile ca.cnf \
         -out intermediate.crt",
    );
    for _ in 0..10 {
        let (address, https) = (free_address(), free_address());
        let file = |name: &str| dir.path().join(name).display().to_string();
        let config = serde_json::json!({
            "root": file("root.crt"), "crt": file("intermediate.crt"), "key": file("intermediate.key"),
            "address": https.to_string(), "insecureAddress": address.to_string(), "dnsNames": ["127.0.0.1"],
            "logger": { "format": "text" },
            "db": { "type": "badgerv2", "dataSource": file("db") },
            "authority": { "provisioners": [{
                "type": "SCEP", "name": "scep", "challenge": "a static password",
                "minimumPublicKeyLength": 2048, "encryptionAlgorithmIdentifier": 2,
            }] },
        });
        std::fs::write(dir.path().join("ca.json"), config.to_string()).unwrap();
        let mut command = Command::new(folder().join("step-ca"));
        let mut server = Child::start(command.arg(file("ca.json")), dir.path(), "step-ca");
        if !server.answers(address) || server.ended().is_some() {
            assert!(server.stderr().contains("in use"), "{}", server.stderr());
            continue;
        }
        let report = Report::of(&format!("http://{address}/scep/scep"), &[]);
        report.has("algorithms", "warn", "SHA-1, DES3");
        // It reads no PKIOperation by GET.
        report.has("GET of 31 KiB", "fail", "HTTP status ");
        assert_eq!(report.code, 2);
        return;
    }
    panic!("no port stayed free");
}
