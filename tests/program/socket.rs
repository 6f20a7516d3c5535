//! A browser's part of a WebSocket (RFC 6455), as far as the tests need it: whole messages, one frame
//! each.

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::Value;

use super::http::{Answer, Client};

/// What came.
#[derive(Debug, PartialEq)]
pub(crate) enum Came {
    Text(String),
    Binary(Vec<u8>),
    /// The other side has closed the connection, with or without saying so.
    Closed,
}

/// An open connection.
pub(crate) struct Socket {
    stream: TcpStream,
}

impl Socket {
    /// Opens one as a page of this device would; the answer where that is refused.
    pub(crate) fn open(client: &Client, path: &str) -> Result<Self, Answer> {
        let mut stream = client.connect();
        let head = client.head("GET", path, None);
        let host = head.lines().find_map(|line| line.strip_prefix("Host: ")).unwrap().to_owned();
        let head = head.replace("Connection: close", "Connection: Upgrade").trim_end().to_owned();
        let upgrade = "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
        stream.write_all(format!("{head}\r\nOrigin: http://{host}\r\n{upgrade}\r\n\r\n").as_bytes()).unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            if stream.read(&mut byte).unwrap_or(0) == 0 {
                break;
            }
            answer.push(byte[0]);
        }
        let text = String::from_utf8_lossy(&answer).into_owned();
        if !text.starts_with("HTTP/1.1 101") {
            let status = text.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
            let mut body = Vec::new();
            // Whoever refuses closes.
            let _ = stream.read_to_end(&mut body);
            return Err(Answer { status, head: text, body });
        }
        // The answer of the standard's own example.
        assert!(text.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{text}");
        Ok(Self { stream })
    }

    fn send(&mut self, kind: u8, payload: &[u8]) {
        let mut frame = vec![0x80 | kind];
        match payload.len() {
            length @ ..126 => frame.push(0x80 | length as u8),
            length @ ..65_536 => {
                frame.push(0x80 | 126);
                frame.extend_from_slice(&(length as u16).to_be_bytes());
            }
            length => {
                frame.push(0x80 | 127);
                frame.extend_from_slice(&(length as u64).to_be_bytes());
            }
        }
        // A mask of zeros leaves the payload as it is.
        frame.extend_from_slice(&[0; 4]);
        frame.extend_from_slice(payload);
        // The other side may close in the middle of a message that it does not want.
        let _ = self.stream.write_all(&frame);
    }

    pub(crate) fn say(&mut self, text: &str) {
        self.send(1, text.as_bytes());
    }

    pub(crate) fn give(&mut self, bytes: &[u8]) {
        self.send(2, bytes);
    }

    /// The next message.
    pub(crate) fn next(&mut self) -> Came {
        loop {
            let Some((kind, payload)) = self.frame() else { return Came::Closed };
            match kind {
                1 => return Came::Text(String::from_utf8(payload).unwrap()),
                2 => return Came::Binary(payload),
                8 => return Came::Closed,
                9 => self.send(10, &payload),
                _ => {}
            }
        }
    }

    /// The next message, which must be JSON.
    #[track_caller]
    pub(crate) fn json(&mut self) -> Value {
        match self.next() {
            Came::Text(text) => serde_json::from_str(&text).unwrap(),
            other => panic!("{other:?} came instead of JSON"),
        }
    }

    fn frame(&mut self) -> Option<(u8, Vec<u8>)> {
        let mut head = [0; 2];
        self.stream.read_exact(&mut head).ok()?;
        let length = match head[1] & 0x7f {
            126 => {
                let mut bytes = [0; 2];
                self.stream.read_exact(&mut bytes).ok()?;
                u16::from_be_bytes(bytes).into()
            }
            127 => {
                let mut bytes = [0; 8];
                self.stream.read_exact(&mut bytes).ok()?;
                u64::from_be_bytes(bytes)
            }
            length => length.into(),
        };
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        self.stream.read_exact(&mut payload).ok()?;
        Some((head[0] & 0x0f, payload))
    }
}
