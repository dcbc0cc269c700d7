//! What tests need of plain HTTP: a caller that sends what it is told, byte for byte.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

pub struct Heard {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

/// Sends bytes, reads until the server closes.
pub fn raw(addr: &str, request: &[u8]) -> Heard {
    let mut tcp = TcpStream::connect(addr).unwrap();
    tcp.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let _ = tcp.write_all(request);
    let mut answer = Vec::new();
    let _ = tcp.read_to_end(&mut answer);
    let end = answer.windows(4).position(|w| w == b"\r\n\r\n").unwrap_or(answer.len());
    let head = String::from_utf8_lossy(&answer[..end]).to_lowercase();
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
    Heard { status, head, body: answer.get(end + 4..).unwrap_or_default().to_vec() }
}

pub fn get(addr: &str, path: &str) -> Heard {
    raw(addr, format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").as_bytes())
}

pub fn post(addr: &str, path: &str, body: &[u8]) -> Heard {
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    raw(addr, &[head.as_bytes(), body].concat())
}
