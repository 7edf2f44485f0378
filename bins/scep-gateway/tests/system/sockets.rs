//! What listens.

use crate::estate::{Gateway, Issuer, until};
use std::collections::BTreeSet;
use std::net::SocketAddr;

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_57_a_gateway_listens_for_devices_and_on_loopback_and_nowhere_else() {
    let issuer = Issuer::start();
    let gateway = Gateway::join(&issuer, "main").await;
    // With its connection to the issuer open.
    until("the connector is connected", || async {
        let health: serde_json::Value = serde_json::from_slice(&gateway.health().body).ok()?;
        health["link"]["last_heard"].is_string().then_some(())
    })
    .await;
    let Some(listening) = listening(gateway.program.id()) else { return };
    assert_eq!(listening, BTreeSet::from([gateway.address, gateway.admin]));
    assert!(gateway.admin.ip().is_loopback());
}

/// The addresses at which a process has TCP sockets that listen. `None`: only root may know, as a process that forbids core
/// dumps shows its descriptors to nobody else.
#[cfg(target_os = "linux")]
fn listening(process: u32) -> Option<BTreeSet<SocketAddr>> {
    let descriptors = match std::fs::read_dir(format!("/proc/{process}/fd")) {
        Ok(descriptors) => descriptors,
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            let test = "attack_57_a_gateway_listens_for_devices_and_on_loopback_and_nowhere_else";
            scep_testkit::programs::skip(test, "root's right to see the sockets of a process");
            return None;
        }
        Err(error) => panic!("{error}"),
    };
    let sockets: BTreeSet<String> = descriptors
        .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
        .filter_map(|link| {
            let text = link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned();
            Some(text)
        })
        .collect();
    let mut found = BTreeSet::new();
    for table in ["tcp", "tcp6"] {
        let text = std::fs::read_to_string(format!("/proc/{process}/net/{table}")).unwrap();
        for line in text.lines().skip(1) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            // 0A: the socket listens; the tenth field is its inode.
            if fields[3] != "0A" || !sockets.contains(fields[9]) {
                continue;
            }
            let (address, port) = fields[1].split_once(':').unwrap();
            let port = u16::from_str_radix(port, 16).unwrap();
            assert_eq!(table, "tcp", "an IPv6 socket listens on port {port}");
            let address = u32::from_str_radix(address, 16).unwrap().to_le_bytes();
            found.insert(SocketAddr::from((address, port)));
        }
    }
    assert!(!found.is_empty());
    Some(found)
}
