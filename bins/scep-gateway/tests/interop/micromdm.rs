//! micromdm's `scepclient`: single DES and SHA-1 only, which RFC 8894 forbids (2.9).

use crate::support::{log_has_no_secrets, profile};
use libtest_mimic::Trial;
use scep_testkit::process::peers::{Peer, trial};
use scep_testkit::process::{Site, SiteOptions, run, temporary, text};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

pub(crate) fn trials() -> Vec<Trial> {
    let peers = || [Peer::program("scepclient")];
    vec![
        trial("quirk_33_scepclient_is_told_of_sha1", &peers(), sha1),
        trial("quirk_33_scepclient_is_told_of_des_on_a_legacy_endpoint", &peers(), des),
        trial("quirk_33_scepclient_is_told_of_des_at_the_preset_for_cisco_ios", &peers(), router),
    ]
}

fn sha1() {
    must_be_told("/", "sha1");
}

fn des() {
    must_be_told("/legacy", "des-cbc");
}

fn router() {
    must_be_told("/router", "des-cbc");
}

/// scepclient gets a CertRep with badAlg that names the algorithm: on the wire, for itself and in the log.
fn must_be_told(path: &str, algorithm: &str) {
    // scepclient encrypts to every certificate of the bundle, and breaks down at one whose key is not RSA.
    let site = Site::start(&SiteOptions {
        init: ["--ca-key", "rsa2048"].map(str::to_owned).to_vec(),
        config: [("/legacy", "generic"), ("/router", "cisco-ios")]
            .map(|(path, preset)| {
                format!("[[endpoints]]\npath = \"{path}\"\npreset = \"{preset}\"\nlegacy = true\n")
            })
            .concat(),
        ..SiteOptions::default()
    });
    let challenge = site.mint(&profile("CN=dev", &[]), "dev", &[]);
    let relay = Relay::start(site.address());
    let dir = temporary();
    let mut command = Command::new("scepclient");
    command.args(["-server-url", &format!("http://{}{path}", relay.address)]);
    command.args(["-cn", "dev", "-organization", "", "-ou", "", "-country", ""]);
    command.args(["-challenge", &challenge, "-private-key"]).arg(dir.path().join("key.pem"));
    let output = run(&mut command);
    assert!(!output.status.success(), "{}", text(&output));
    assert!(text(&output).contains("failInfo: badAlg (0)"), "{}\n{}", text(&output), site.log());
    assert!(!dir.path().join("client.pem").exists());

    let answers = relay.stop();
    let answer = answers.iter().find(|answer| {
        let head = String::from_utf8_lossy(answer);
        head.starts_with("HTTP/1.1 200 ") && head.contains("application/x-pki-message\r\n")
    });
    let answer = answer.unwrap_or_else(|| panic!("no CertRep among {} answers", answers.len()));
    // The attributes' DER, written out: no parser of ours stands between.
    let fail_info = b"\x06\x0a\x60\x86\x48\x01\x86\xf8\x45\x01\x09\x04\x31\x03\x13\x010";
    assert!(answer.windows(fail_info.len()).any(|bytes| bytes == fail_info));
    let fail_info_text = b"\x06\x08\x2b\x06\x01\x05\x05\x07\x18\x01\x31";
    let at = answer.windows(fail_info_text.len()).position(|bytes| bytes == fail_info_text);
    let value = &answer[at.expect("a failInfoText") + fail_info_text.len()..];
    // The lengths of the set and of the string in it; texts are short.
    let [_, 0x0c, length, ..] = *value else { panic!("no UTF8String: {value:02x?}") };
    let text = std::str::from_utf8(&value[3..3 + usize::from(length)]).unwrap();
    assert!(text.contains(algorithm), "{text}");

    let lines = site.log_lines(&["outcome=Refused", "reason=AlgorithmNotSupported"]);
    assert_eq!(lines.len(), 1, "{}", site.log());
    assert!(lines[0].contains(&format!("algorithm {algorithm} is not supported")), "{}", lines[0]);
    log_has_no_secrets(&site, &[]);
}

/// Passes connections on, and keeps what the server answers on each.
struct Relay {
    address: SocketAddr,
    stopping: Arc<AtomicBool>,
    accepting: Option<JoinHandle<()>>,
    answers: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Relay {
    fn start(server: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let stopping = Arc::new(AtomicBool::new(false));
        let answers = Arc::new(Mutex::new(Vec::new()));
        let (stop, kept) = (Arc::clone(&stopping), Arc::clone(&answers));
        let accepting = std::thread::spawn(move || {
            let mut connections = Vec::new();
            for client in listener.incoming() {
                if stop.load(Ordering::SeqCst) {
                    break;
                }
                let kept = Arc::clone(&kept);
                let client = client.unwrap();
                connections.push(std::thread::spawn(move || pass_on(client, server, &kept)));
            }
            for connection in connections {
                connection.join().unwrap();
            }
        });
        Self { address, stopping, accepting: Some(accepting), answers }
    }

    /// Waits for the connections to end; what was answered on them, one entry for each HTTP response.
    fn stop(mut self) -> Vec<Vec<u8>> {
        self.end();
        let kept = std::mem::take(&mut *self.answers.lock().unwrap());
        kept.iter().flat_map(|stream| responses(stream)).collect()
    }

    fn end(&mut self) {
        self.stopping.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.address);
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.end();
    }
}

fn pass_on(mut client: TcpStream, server: SocketAddr, answers: &Mutex<Vec<Vec<u8>>>) {
    let mut server = TcpStream::connect(server).unwrap();
    let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    let asking = std::thread::spawn(move || {
        // Either side may end the connection first.
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Write);
    });
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(read) = server.read(&mut buffer) {
        if read == 0 || client.write_all(&buffer[..read]).is_err() {
            break;
        }
        answer.extend_from_slice(&buffer[..read]);
    }
    let _ = client.shutdown(Shutdown::Both);
    asking.join().unwrap();
    answers.lock().unwrap().push(answer);
}

/// The responses on one connection.
fn responses(stream: &[u8]) -> Vec<Vec<u8>> {
    let start = b"HTTP/1.1 ";
    let mut found: Vec<Vec<u8>> = Vec::new();
    for at in 0..stream.len() {
        if stream[at..].starts_with(start) {
            found.push(Vec::new());
        }
        if let Some(last) = found.last_mut() {
            last.push(stream[at]);
        }
    }
    found
}
