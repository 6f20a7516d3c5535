//! A browser's part of HTTP, as far as the tests need it: one request a connection, on the loopback
//! address without TLS, with the session's cookie and its CSRF token.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::Program;

/// No answer of these tests takes longer, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(60);
pub(crate) const PASSWORD: &str = "correct horse battery";

/// A port that is free now. Another program may take it before the daemon does: then the test fails
/// with the daemon's words.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Somebody who asks a device.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) address: SocketAddr,
    /// Headers sent with every request.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) cookie: Option<String>,
    pub(crate) csrf: Option<String>,
}

/// What came back.
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Status line and headers.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Client {
    /// Nobody in particular, at this port of this machine.
    pub(crate) fn at(port: u16) -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        Self { address, headers: Vec::new(), cookie: None, csrf: None }
    }

    /// Waits until the daemon answers.
    #[track_caller]
    pub(crate) fn wait(self) -> Self {
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(self.address).is_err() {
            assert!(Instant::now() < deadline, "nobody answers on {}", self.address);
            std::thread::sleep(Duration::from_millis(20));
        }
        self
    }

    /// The first owner of a device that has none: with a setup code made on the command line.
    #[track_caller]
    pub(crate) fn owner(self, program: &Program) -> Self {
        // The daemon makes a code of its own before it listens; the last one made is good.
        let mut owner = self.wait();
        let code = program.json(0, &["users", "setup-code"]);
        let given = json!({ "code": code["code"], "name": "Owner", "password": PASSWORD });
        let session = owner.signs_in("/api/setup", &given, 201);
        assert_eq!(session["user"]["role"], "owner");
        owner
    }

    /// Somebody new with this role, by an invitation of this owner.
    #[track_caller]
    pub(crate) fn invites(&self, role: &str) -> Self {
        let invited = self.post("/api/invitations", &json!({ "role": role, "expires_in_hours": 1 }));
        let token = invited.json(201)["token"].clone();
        let mut new = Self { cookie: None, csrf: None, ..self.clone() };
        let given = json!({ "token": token, "name": format!("The {role}"), "password": PASSWORD });
        new.signs_in("/api/invitations/accept", &given, 201);
        new
    }

    /// A program with an API token of these scopes, made by this owner.
    #[track_caller]
    pub(crate) fn gives_token(&self, scopes: &[&str]) -> Self {
        let given = json!({ "name": scopes.join(" "), "scopes": scopes, "expires_in_days": 1 });
        let token = self.post("/api/tokens", &given).json(201)["token"].as_str().unwrap().to_owned();
        let mut program = Self { cookie: None, csrf: None, ..self.clone() };
        program.headers.push(("Authorization".to_owned(), format!("Bearer {token}")));
        program
    }

    /// Posts something that begins a session, and keeps its cookie.
    #[track_caller]
    pub(crate) fn signs_in(&mut self, path: &str, given: &Value, status: u16) -> Value {
        let answer = self.post(path, given);
        let session = answer.json(status);
        let cookie = answer.header("set-cookie").expect("a session has a cookie");
        self.cookie = Some(cookie.split(';').next().unwrap().to_owned());
        self.csrf = Some(session["csrf"].as_str().unwrap().to_owned());
        session
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.send("GET", path, None)
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Answer {
        self.send("POST", path, Some(("application/json", body.to_string().as_bytes())))
    }

    pub(crate) fn patch(&self, path: &str, body: &Value) -> Answer {
        self.send("PATCH", path, Some(("application/json", body.to_string().as_bytes())))
    }

    pub(crate) fn delete(&self, path: &str) -> Answer {
        self.send("DELETE", path, None)
    }

    /// Sends bytes of a media type.
    pub(crate) fn upload(&self, path: &str, media_type: &str, bytes: &[u8]) -> Answer {
        self.send("POST", path, Some((media_type, bytes)))
    }

    /// One request and its answer.
    pub(crate) fn send(&self, method: &str, path: &str, body: Option<(&str, &[u8])>) -> Answer {
        let mut stream = self.connect();
        let head = self.head(method, path, body.map(|(media_type, bytes)| (media_type, bytes.len())));
        // The server may refuse the rest of a request before it was sent.
        let _ =
            stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.map_or(&[], |(_, b)| b)));
        Answer::read(stream)
    }

    /// As `get`; none while nobody listens, as during a new start.
    pub(crate) fn get_if_there(&self, path: &str) -> Option<Answer> {
        let mut stream = TcpStream::connect(self.address).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(self.head("GET", path, None).as_bytes()).ok()?;
        Some(Answer::read(stream))
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Request line and headers.
    pub(crate) fn head(&self, method: &str, path: &str, body: Option<(&str, usize)>) -> String {
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n", self.address);
        let mut add = |name: &str, value: &str| head.push_str(&format!("{name}: {value}\r\n"));
        self.headers.iter().for_each(|(name, value)| add(name, value));
        if let Some(cookie) = &self.cookie {
            add("Cookie", cookie);
        }
        if let Some(csrf) = &self.csrf {
            add("X-CSRF-Token", csrf);
        }
        if let Some((media_type, length)) = body {
            add("Content-Type", media_type);
            add("Content-Length", &length.to_string());
        }
        head.push_str("\r\n");
        head
    }
}

impl Answer {
    /// Reads until the server closes the connection.
    pub(crate) fn read(mut stream: TcpStream) -> Self {
        let mut bytes = Vec::new();
        // A server that closes with unread bytes resets the connection; what came before counts.
        let _ = stream.read_to_end(&mut bytes);
        let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
            return Self { status: 0, head: String::new(), body: bytes };
        };
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let rest = bytes.split_off(end + 4);
        let body = if head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
            unchunked(&rest)
        } else {
            rest
        };
        Self { status, head, body }
    }

    /// A header's value.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// The JSON of an answer that must have this status.
    #[track_caller]
    pub(crate) fn json(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}\n{}", self.head, String::from_utf8_lossy(&self.body));
        if self.body.is_empty() { Value::Null } else { serde_json::from_slice(&self.body).unwrap() }
    }

    /// The code of an error that must have this status.
    #[track_caller]
    pub(crate) fn code(&self, status: u16) -> String {
        self.json(status)["error"]["code"].as_str().unwrap().to_owned()
    }
}

fn unchunked(mut rest: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    while let Some(end) = rest.windows(2).position(|window| window == b"\r\n") {
        let length = usize::from_str_radix(std::str::from_utf8(&rest[..end]).unwrap(), 16).unwrap();
        let start = end + 2;
        if length == 0 || rest.len() < start + length {
            break;
        }
        whole.extend_from_slice(&rest[start..start + length]);
        rest = rest.get(start + length + 2..).unwrap_or_default();
    }
    whole
}
