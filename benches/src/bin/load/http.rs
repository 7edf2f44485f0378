//! As little of HTTP/1.1 as a load needs: prepared bytes out, status and body in.

use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Longer than any server here may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Requests of one source address: fewer than a gateway takes of one source at once.
const OF_ONE_SOURCE: u32 = 500;

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
    /// Whether the server ends the connection.
    close: bool,
}

/// One device after another, on one connection or on one for each request.
#[derive(Debug)]
pub(crate) struct Connection<'a> {
    server: SocketAddr,
    keep_alive: bool,
    /// Loopback addresses that were used by this and other connections.
    sources: &'a AtomicU32,
    stream: Option<TcpStream>,
    source: u32,
    sent: u32,
}

impl<'a> Connection<'a> {
    pub(crate) fn new(server: SocketAddr, keep_alive: bool, sources: &'a AtomicU32) -> Self {
        let source = sources.fetch_add(1, Ordering::Relaxed);
        Self { server, keep_alive, sources, stream: None, source, sent: 0 }
    }

    /// Sends a whole request, and reads the whole answer.
    pub(crate) fn exchange(&mut self, request: &[u8]) -> io::Result<Answer> {
        let answer = self.attempt(request);
        if !self.keep_alive || answer.as_ref().is_ok_and(|answer| answer.close) || answer.is_err() {
            self.stream = None;
        }
        answer
    }

    fn attempt(&mut self, request: &[u8]) -> io::Result<Answer> {
        if self.sent == OF_ONE_SOURCE {
            self.sent = 0;
            self.source = self.sources.fetch_add(1, Ordering::Relaxed);
            self.stream = None;
        }
        self.sent = self.sent.saturating_add(1);
        let stream = match &mut self.stream {
            Some(stream) => stream,
            none => none.insert(open(self.server, self.source)?),
        };
        stream.write_all(request)?;
        let (mut read, mut buffer) = (Vec::new(), [0; 16_384]);
        loop {
            let got = stream.read(&mut buffer)?;
            read.extend_from_slice(buffer.get(..got).unwrap_or_default());
            if let Some(answer) = parse(&read, got == 0)? {
                return Ok(answer);
            }
            if got == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

/// To a server on this machine from the loopback address with this number: there each is a source of its own.
fn open(server: SocketAddr, source: u32) -> io::Result<TcpStream> {
    let stream = if server.ip().is_loopback() && server.is_ipv4() {
        let socket = socket(AddressFamily::INET, SocketType::STREAM, None)?;
        // 127.1.0.0 and what follows.
        let address = Ipv4Addr::from_bits(0x7f01_0000 | source & 0x000f_ffff);
        bind(&socket, &SocketAddrV4::new(address, 0))?;
        connect(&socket, &server)?;
        TcpStream::from(socket)
    } else {
        TcpStream::connect(server)?
    };
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// The answer, once all of it is there. `ended`: nothing more comes.
fn parse(read: &[u8], ended: bool) -> io::Result<Option<Answer>> {
    let wrong = |what| io::Error::new(io::ErrorKind::InvalidData, what);
    let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
    let (head, rest) = read.split_at(end);
    let rest = rest.get(4..).unwrap_or_default();
    let head = core::str::from_utf8(head).map_err(|_| wrong("a head that is no text"))?;
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok());
    let status = status.ok_or_else(|| wrong("no status"))?;
    let (mut length, mut chunked, mut close) = (None, false, false);
    for line in lines {
        let Some((name, value)) = line.split_once(':') else { continue };
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "content-length" => {
                length = Some(value.parse::<usize>().map_err(|_| wrong("a length"))?);
            }
            "transfer-encoding" => chunked = value.eq_ignore_ascii_case("chunked"),
            "connection" => close = value.eq_ignore_ascii_case("close"),
            _ => {}
        }
    }
    let body = if chunked {
        unchunk(rest).map_err(wrong)?
    } else if let Some(length) = length {
        rest.get(..length).map(<[u8]>::to_vec)
    } else {
        close = true;
        ended.then(|| rest.to_vec())
    };
    Ok(body.map(|body| Answer { status, body, close }))
}

/// The chunks put together, once the last one is there. Without trailers.
fn unchunk(mut rest: &[u8]) -> Result<Option<Vec<u8>>, &'static str> {
    let mut body = Vec::new();
    loop {
        let Some(end) = rest.windows(2).position(|two| two == b"\r\n") else { return Ok(None) };
        let (size, after) = rest.split_at(end);
        let size = core::str::from_utf8(size).ok().and_then(|size| {
            usize::from_str_radix(size.split(';').next().unwrap_or_default().trim(), 16).ok()
        });
        let size = size.ok_or("a chunk's size")?;
        let after = after.get(2..).unwrap_or_default();
        let Some(chunk) = after.get(..size) else { return Ok(None) };
        let Some(next) = after.get(size..).and_then(|next| next.get(2..)) else { return Ok(None) };
        if size == 0 {
            return Ok(Some(body));
        }
        body.extend_from_slice(chunk);
        rest = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn all(read: &[u8], body: &[u8], close: bool) {
        let whole = parse(read, close).unwrap().expect("all of it");
        assert_eq!((whole.status, whole.body.as_slice(), whole.close), (200, body, close));
        for part in 0..read.len() {
            assert_eq!(parse(&read[..part], false).unwrap(), None, "{part} octets");
        }
    }

    #[test]
    fn an_answer_is_read_once_it_is_whole() {
        all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", b"hello", false);
        all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n", b"", true);
        let chunks = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;x\r\nlo\r\n0\r\n\r\n";
        all(chunks, b"hello", false);
    }

    #[test]
    fn an_answer_without_a_length_ends_with_the_connection() {
        let read = b"HTTP/1.0 503 Busy\r\n\r\nlater";
        assert_eq!(parse(read, false).unwrap(), None);
        let answer = Answer { status: 503, body: b"later".to_vec(), close: true };
        assert_eq!(parse(read, true).unwrap(), Some(answer));
    }

    #[test]
    fn what_is_not_http_is_an_error() {
        assert!(parse(b"SSH-2.0\r\n\r\n", false).is_err());
        assert!(parse(b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", false).is_err());
        let chunks = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n";
        assert!(parse(chunks, false).is_err());
    }
}
