//! Floods of every kind against a gateway's process: it stays small, and who behaves is served meanwhile.
//!
//! The floods come from other loopback addresses than the devices, so that they are other sources. Every address of
//! 127.0.0.0/8 is loopback on Linux only, which is also where a process says how much memory it has had.
#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests: what does not fit is a failed test"
)]

#[allow(dead_code, reason = "the crash tests use the rest")]
mod support;

use scep_testkit::process::{PATIENCE, http};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};
use support::{Gateway, enrol, identity};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;

/// What the gateway may have in memory at most.
const MOST: u64 = 256 << 20;

/// Connections of one source, a few less than it may have.
const OF_ONE_SOURCE: usize = 250;

fn gateway(limits: &str) -> Gateway {
    let mut gateway = Gateway::init();
    gateway.configure(|text| {
        assert!(!text.contains("[limits]"), "{text}");
        format!("{text}\n[limits]\n{limits}\n")
    });
    gateway.start(&[]);
    gateway
}

/// What the process has had in memory at most, octets.
fn peak(gateway: &Gateway) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", gateway.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let kib: u64 = line.trim().strip_suffix(" kB").unwrap().parse().unwrap();
    kib << 10
}

/// A device gets its certificate, and the gateway has stayed small.
async fn serves(gateway: &Gateway) {
    let (client, server) = gateway.client().await;
    enrol(&client, &server, &gateway.device().request(), &identity()).await.unwrap();
    let peak = peak(gateway);
    println!("at most {} MiB", peak >> 20);
    assert!(peak < MOST, "{} MiB", peak >> 20);
}

/// One of the addresses that floods come from.
fn flooder(n: usize) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 1, u8::try_from(n + 1).unwrap())
}

async fn connect(gateway: SocketAddr, from: Ipv4Addr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((from, 0).into()).unwrap();
    socket.connect(gateway).await.unwrap()
}

/// `count` connections from one address or more, which have sent `begun` as far as it was taken.
async fn begin(gateway: &Gateway, count: usize, begun: &[u8]) -> Vec<TcpStream> {
    let (address, mut connecting, mut open) = (gateway.address(), JoinSet::new(), Vec::new());
    for n in 0..count {
        let begun = begun.to_vec();
        connecting.spawn(async move {
            let mut stream = connect(address, flooder(n / OF_ONE_SOURCE)).await;
            // Who is turned away may not get rid of all of it.
            let _ = stream.write_all(&begun).await;
            stream
        });
        // Not more at once than the kernel keeps for a busy gateway: it would drop some, and their senders would not know.
        if connecting.len() >= 200 {
            open.extend(core::mem::take(&mut connecting).join_all().await);
            let soon = Instant::now() + Duration::from_secs(2);
            while metric(gateway, "scep_connections") <= n as u64 && Instant::now() < soon {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }
    open.extend(connecting.join_all().await);
    open
}

/// The value of one of the gateway's metrics.
fn metric(gateway: &Gateway, name: &str) -> u64 {
    let config = std::fs::read_to_string(gateway.file("gw/gateway.toml")).unwrap();
    let line = config.lines().find_map(|line| line.strip_prefix("admin_listen = ")).unwrap();
    let answer = http(line.trim_matches('"').parse().unwrap(), "GET", "/metrics", b"");
    let text = String::from_utf8(answer.body).unwrap();
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.unwrap_or_else(|| panic!("{name}: {text}")).parse().unwrap()
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Whether the gateway has read all that its connections were sent.
fn all_read(gateway: &Gateway) -> bool {
    let table = std::fs::read_to_string(format!("/proc/{}/net/tcp", gateway.id())).unwrap();
    let port = format!(":{:04X}", gateway.address().port());
    table.lines().skip(1).all(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let established = fields[1].ends_with(&port) && fields[3] == "01";
        !established || fields[4].ends_with(":00000000")
    })
}

/// What came back before the connection ended, in whatever way.
async fn rest_of(mut stream: TcpStream) -> Vec<u8> {
    let mut answer = Vec::new();
    let ended = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
    // It may be reset, where it has sent what nobody reads.
    let _ = ended.expect("the gateway ends it");
    answer
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_59_large_and_deep_messages_cost_little() {
    let gateway = gateway("");
    let address = gateway.address();
    // 1 GB, announced or in chunks: it is not read any further than a message may be long.
    let head = "POST /scep?operation=PKIOperation HTTP/1.1\r\nHost: x\r\n";
    let zeros = vec![b'0'; 64 << 10];
    let announced = (format!("{head}Content-Length: {}\r\n\r\n", 1 << 30), zeros.clone());
    let chunk = [b"10000\r\n", &zeros[..], b"\r\n"].concat();
    let chunked = (format!("{head}Transfer-Encoding: chunked\r\n\r\n"), chunk);
    let mut sending = JoinSet::new();
    for n in 0..16 {
        let (head, piece) = if n % 2 == 0 { announced.clone() } else { chunked.clone() };
        sending.spawn(async move {
            let mut stream = connect(address, flooder(0)).await;
            stream.write_all(head.as_bytes()).await.unwrap();
            let mut sent = 0;
            while sent < 1 << 30 && stream.write_all(&piece).await.is_ok() {
                sent += piece.len();
            }
            (sent, rest_of(stream).await)
        });
    }
    for (sent, answer) in sending.join_all().await {
        // The kernels' buffers take some of it.
        assert!(sent < 64 << 20, "{sent}");
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 413 "), "{answer:?}");
    }
    serves(&gateway).await;
    // GETs of 40 KB.
    let message = "A".repeat(40_000);
    let request = format!(
        "GET /scep?operation=PKIOperation&message={message} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    );
    for stream in begin(&gateway, 200, request.as_bytes()).await {
        assert!(rest_of(stream).await.starts_with(b"HTTP/1.1 400 "));
    }
    // As deep as a message can be, with and without lengths.
    let indefinite = [0x30, 0x80].repeat(128 << 10);
    let mut definite = Vec::new();
    while definite.len() < 200_000 {
        let length = u32::try_from(definite.len()).unwrap().to_be_bytes();
        // Written from the inside, back to front.
        definite.extend(length.iter().rev());
        definite.extend([0x84, 0x30]);
    }
    definite.reverse();
    for deep in [indefinite, definite] {
        let answer = http(address, "POST", "/scep?operation=PKIOperation", &deep);
        assert_eq!(answer.status, 400, "{answer:?}");
    }
    serves(&gateway).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_59_ten_thousand_connections_are_held_or_turned_away() {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
    let descriptors = line.split_whitespace().next().unwrap().parse().unwrap_or(usize::MAX);
    // A third for the tests beside this one, which share the process.
    let count = 10_000.min(descriptors / 3 * 2);
    if count < 10_000 {
        eprintln!("only {count} connections: no more descriptors are allowed here");
    }
    let begun = b"GET /scep?operation=GetCACaps HTTP/1.1\r\nHost";

    // Of many sources, to a gateway that may have so many.
    let all = gateway("connections = 12000\nhead_timeout = \"5m\"");
    let held = begin(&all, count, begun).await;
    until("all of them are open", || metric(&all, "scep_connections") >= count as u64).await;
    serves(&all).await;
    drop((held, all));

    // Of one source: all but its share are turned away, and nobody waits behind them.
    let gateway = gateway("head_timeout = \"5m\"");
    let mut kept = Vec::new();
    for _ in 0..count {
        kept.push(connect(gateway.address(), flooder(0)).await);
    }
    let turned_away = count as u64 - 256;
    until("the rest is turned away", || metric(&gateway, "scep_overloaded_total") >= turned_away)
        .await;
    assert_eq!(metric(&gateway, "scep_connections"), 256);
    serves(&gateway).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_59_whoever_takes_every_connection_and_sends_slowly_loses_them() {
    let gateway = gateway("connections = 500\nhead_timeout = \"2s\"\nbody_timeout = \"2s\"");
    let body = "POST /scep HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n";
    for begun in ["GET /scep?operation=GetCACaps HTTP/1.1\r\nX: ", body] {
        let mut slow = JoinSet::new();
        for mut stream in begin(&gateway, 500, begun.as_bytes()).await {
            slow.spawn(async move {
                // One octet after the other, for as long as they are taken.
                while stream.write_all(b"0").await.is_ok() {
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
            });
        }
        // Every connection is theirs; the device waits its turn.
        serves(&gateway).await;
        tokio::time::timeout(PATIENCE, slow.join_all()).await.expect("each is cut off");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_59_heads_and_bodies_on_every_connection_fit_into_memory() {
    let gateway = gateway("head_timeout = \"5m\"\nbody_timeout = \"5m\"");
    // As long as a head may be, and not ended.
    let head = format!("GET /scep HTTP/1.1\r\nHost: x\r\nX: {}", "x".repeat((96 << 10) - 100));
    let held = begin(&gateway, 1_000, head.as_bytes()).await;
    until("all are open", || metric(&gateway, "scep_connections") >= 1_000).await;
    until("all heads are read", || all_read(&gateway)).await;
    serves(&gateway).await;
    drop(held);
    until("they are gone", || metric(&gateway, "scep_connections") < 10).await;
    // Bodies, as far as there is room for all of them; who comes later is told to come again.
    let body = format!(
        "POST /scep HTTP/1.1\r\nHost: x\r\nContent-Length: 250000\r\n\r\n{}",
        "0".repeat(200_000)
    );
    let held = begin(&gateway, 1_000, body.as_bytes()).await;
    until("some are told to come again", || metric(&gateway, "scep_overloaded_total") >= 500).await;
    until("all bodies are read", || all_read(&gateway)).await;
    let peak = peak(&gateway);
    println!("at most {} MiB", peak >> 20);
    assert!(peak < MOST, "{} MiB", peak >> 20);
    drop(held);
    serves(&gateway).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_59_the_log_has_the_client_that_a_trusted_proxy_names_and_nobody_elses_word() {
    let mut gateway = Gateway::init();
    gateway.configure(|text| {
        text.replacen("admin_listen", "trusted_proxies = [\"127.0.0.1\"]\nadmin_listen", 1)
    });
    gateway.start(&[]);
    for (from, named) in [(Ipv4Addr::LOCALHOST, "192.0.2.1"), (flooder(0), "192.0.2.2")] {
        let mut stream = connect(gateway.address(), from).await;
        let request = format!(
            "GET /scep?operation=GetCACaps HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
             X-Forwarded-For: 192.0.2.3, {named}\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        assert!(rest_of(stream).await.starts_with(b"HTTP/1.1 200 "));
    }
    let log = gateway.log();
    assert!(log.contains("192.0.2.1") && log.contains(&flooder(0).to_string()), "{log}");
    assert!(!log.contains("192.0.2.2") && !log.contains("192.0.2.3"), "{log}");
}
