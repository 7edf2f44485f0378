//! Questions to the running gateway beside us, over its loopback listener.

use crate::config::AdminToken;
use core::time::Duration;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};

/// A gateway beside us that does not answer within this time does not answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Answers have some lines, or some pages of requests.
const MAX_ANSWER: u64 = 16 << 20;

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

/// What anybody may see.
pub(crate) fn get(address: SocketAddr, path: &str) -> io::Result<Answer> {
    exchange(address, &head("GET", address, path, ""), &[])
}

/// What operators may see.
pub(crate) fn get_with(address: SocketAddr, token: &AdminToken, path: &str) -> io::Result<Answer> {
    exchange(address, &head("GET", address, path, &authorization(token)), &[])
}

/// What operators do.
pub(crate) fn post_json(
    address: SocketAddr,
    token: &AdminToken,
    path: &str,
    json: &[u8],
) -> io::Result<Answer> {
    let more = format!(
        "{}Content-Type: application/json\r\nContent-Length: {}\r\n",
        authorization(token),
        json.len()
    );
    exchange(address, &head("POST", address, path, &more), json)
}

fn authorization(token: &AdminToken) -> String {
    format!("Authorization: Bearer {}\r\n", token.expose())
}

fn head(method: &str, address: SocketAddr, path: &str, more: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{more}\r\n")
}

fn exchange(address: SocketAddr, head: &str, body: &[u8]) -> io::Result<Answer> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER).read_to_end(&mut answer)?;
    read(&answer).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "not an HTTP answer"))
}

/// Connections are closed after the answer, which our listener never sends in chunks.
fn read(answer: &[u8]) -> Option<Answer> {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = str::from_utf8(answer.get(..end)?).ok()?;
    let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    Some(Answer { status, body: answer.get(end.checked_add(4)?..)?.to_vec() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_status_and_body() {
        let good = read(b"HTTP/1.1 409 Conflict\r\nContent-Length: 2\r\n\r\n{}").unwrap();
        assert_eq!((good.status, good.body.as_slice()), (409, &b"{}"[..]));
        for bad in ["", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 x\r\n\r\n", "SSH-2.0\r\n\r\n"] {
            assert!(read(bad.as_bytes()).is_none(), "{bad:?}");
        }
    }
}
