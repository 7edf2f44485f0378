//! Through tinyproxy.

use crate::gateway::{Gateway, eventually};
use crate::issuer::Issuer;
use scep_connector::{ConnectorError, Proxy};
use scep_testkit::process::{Child, free_address, peers};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

struct Tinyproxy {
    address: SocketAddr,
    process: Child,
}

impl Tinyproxy {
    fn start(folder: &Path, more: &str) -> Self {
        // Another process may take the address first.
        for _ in 0..10 {
            let address = free_address();
            let config = folder.join("tinyproxy.conf");
            let text = format!(
                "Port {}\nListen 127.0.0.1\nAllow 127.0.0.1\nTimeout 600\nMaxClients 100\n\
                 LogLevel Connect\n{more}\n",
                address.port()
            );
            std::fs::write(&config, text).unwrap();
            let program = peers::find("tinyproxy").unwrap();
            let mut command = Command::new(program);
            command.arg("-d").arg("-c").arg(&config);
            let mut process = Child::start(&mut command, folder, "tinyproxy");
            if process.answers(address) {
                return Self { address, process };
            }
        }
        panic!("tinyproxy does not start");
    }

    fn log(&self) -> String {
        format!("{}{}", self.process.stdout(), self.process.stderr())
    }
}

pub(crate) async fn everything_goes_through() {
    let issuer = Issuer::start().await;
    let mut gateway = Gateway::new(&issuer);
    let proxy = Tinyproxy::start(gateway.folder.path(), "");
    gateway.settings.proxy = Some(Proxy::parse(&format!("http://{}", proxy.address)).unwrap());
    gateway.enrol(&issuer).await.unwrap();
    gateway.event(1).await;
    gateway.start();
    eventually("the event", || (issuer.book().events.len() == 1).then_some(())).await;
    eventually("check-ins", || (issuer.book().check_ins().len() > 1).then_some(())).await;
    assert_eq!(gateway.trouble(), None);
    // Nothing went another way: what the issuer has seen, the proxy has.
    let tunnel = format!("CONNECT localhost:{} HTTP/1.1", issuer.address.port());
    gateway.stop().await;
    let shaken = issuer.book().shaken;
    eventually("the log", || (proxy.log().matches(&tunnel).count() >= shaken).then_some(())).await;
}

pub(crate) async fn knows_its_users() {
    let issuer = Issuer::start().await;
    let mut gateway = Gateway::new(&issuer);
    let proxy = Tinyproxy::start(gateway.folder.path(), "BasicAuth gateway s3cret");
    for (user, right) in [("gateway:s3cret@", true), ("gateway:wr0ng@", false), ("", false)] {
        let url = format!("http://{user}{}", proxy.address);
        gateway.settings.proxy = Some(Proxy::parse(&url).unwrap());
        let enrolled = gateway.enrol(&issuer).await;
        if right {
            enrolled.unwrap();
            continue;
        }
        let error = enrolled.unwrap_err();
        let said = error.to_string();
        assert!(matches!(error, ConnectorError::ProxyRefused { .. }), "{said}");
        assert!(said.contains(&proxy.address.to_string()) && !said.contains("wr0ng"), "{said}");
    }
}
