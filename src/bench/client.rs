//! Somebody at the admin page, for measurements and tests from the outside: requests and WebSockets to a
//! daemon on the loopback interface, over one blocking connection each.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use thiserror::Error;
use tungstenite::client::IntoClientRequest;
use tungstenite::{Message, WebSocket};

/// No answer takes longer.
const PATIENCE: Duration = Duration::from_secs(30);
/// A daemon that has not opened its port by then does not come.
const START: Duration = Duration::from_secs(60);

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum ClientError {
    /// The connection.
    #[error("cannot {what}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// What came is no HTTP answer.
    #[error("the answer to {0} is not HTTP")]
    NotHttp(String),
    /// The device refused.
    #[error("{what} was answered with {status}: {body}")]
    Refused {
        /// The request.
        what: String,
        /// Its status.
        status: u16,
        /// What it said.
        body: String,
    },
    /// A WebSocket.
    #[error("the WebSocket failed: {0}")]
    Socket(Box<tungstenite::Error>),
}

fn io(what: &'static str) -> impl FnOnce(std::io::Error) -> ClientError {
    move |source| ClientError::Io { what, source }
}

/// What a request carries.
#[derive(Clone, Copy, Debug)]
pub enum Content<'a> {
    /// Nothing.
    None,
    /// JSON.
    Json(&'a Value),
    /// Bytes of a media type.
    Bytes(&'a str, &'a [u8]),
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Status line and headers, as they came.
    pub head: String,
    /// Body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as JSON; null where it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// Milliseconds since 1970, as the device tells its times.
pub(super) fn wall_ms() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64() * 1e3
}

/// A port of the loopback interface that was free just now.
pub fn free_address() -> Result<SocketAddr, ClientError> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(io("find a free port"))?;
    listener.local_addr().map_err(io("find a free port"))
}

/// Somebody who is signed in.
#[derive(Clone, Debug)]
pub struct Client {
    address: SocketAddr,
    cookie: String,
    csrf: String,
}

impl Client {
    /// Somebody who is not signed in yet. Waits until the device at `address` answers.
    pub fn at(address: SocketAddr) -> Result<Self, ClientError> {
        let client = Self { address, cookie: String::new(), csrf: String::new() };
        client.wait()?;
        Ok(client)
    }

    /// Makes the device's owner with the setup code, which a device without an owner makes anew at its
    /// start.
    pub fn set_up(&mut self, code: &str, name: &str, password: &str) -> Result<(), ClientError> {
        self.enter("/api/setup", &json!({ "code": code, "name": name, "password": password }))
    }

    /// Waits until the device answers, and signs in.
    pub fn sign_in(&mut self, name: &str, password: &str) -> Result<(), ClientError> {
        self.wait()?;
        self.enter("/api/sign-in", &json!({ "name": name, "password": password }))
    }

    fn wait(&self) -> Result<(), ClientError> {
        let deadline = Instant::now() + START;
        loop {
            match TcpStream::connect(self.address) {
                Ok(_) => return Ok(()),
                Err(source) if Instant::now() >= deadline => {
                    return Err(ClientError::Io { what: "reach the device", source });
                }
                Err(_) => std::thread::sleep(Duration::from_millis(50)),
            }
        }
    }

    fn enter(&mut self, path: &str, body: &Value) -> Result<(), ClientError> {
        let answer = self.ask("POST", path, Content::Json(body))?;
        let cookie = answer.head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            let is_cookie = name.eq_ignore_ascii_case("set-cookie");
            is_cookie.then(|| value.split(';').next().unwrap_or_default().trim().to_owned())
        });
        self.cookie = cookie.unwrap_or_default();
        answer.json()["csrf"].as_str().unwrap_or_default().clone_into(&mut self.csrf);
        Ok(())
    }

    /// Sends a request and reads the answer, whatever it is.
    pub fn send(&self, method: &str, path: &str, content: Content<'_>) -> Result<Answer, ClientError> {
        let mut stream = TcpStream::connect(self.address).map_err(io("reach the device"))?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(io("set a time limit"))?;
        let json;
        let (media_type, body) = match content {
            Content::None => ("", &[][..]),
            Content::Json(value) => {
                json = value.to_string();
                ("application/json", json.as_bytes())
            }
            Content::Bytes(media_type, bytes) => (media_type, bytes),
        };
        let about = match body.len() {
            0 => String::new(),
            length => format!("Content-Type: {media_type}\r\nContent-Length: {length}\r\n"),
        };
        // In this version an answer ends with its connection, and no part of it is counted.
        let request = format!(
            "{method} {path} HTTP/1.0\r\nHost: {}\r\nCookie: {}\r\nX-CSRF-Token: {}\r\n{about}\r\n",
            self.address, self.cookie, self.csrf
        );
        stream
            .write_all(request.as_bytes())
            .and_then(|()| stream.write_all(body))
            .map_err(io("send a request"))?;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).map_err(io("read an answer"))?;
        let not_http = || ClientError::NotHttp(format!("{method} {path}"));
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").ok_or_else(not_http)?;
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(not_http)?;
        Ok(Answer { status, head, body: bytes.split_off(end + 4) })
    }

    /// The same, where any refusal is an error.
    pub fn ask(&self, method: &str, path: &str, content: Content<'_>) -> Result<Answer, ClientError> {
        let answer = self.send(method, path, content)?;
        if (200..300).contains(&answer.status) {
            return Ok(answer);
        }
        let (status, body) = (answer.status, String::from_utf8_lossy(&answer.body).into_owned());
        Err(ClientError::Refused { what: format!("{method} {path}"), status, body })
    }

    /// JSON of a path.
    pub fn get(&self, path: &str) -> Result<Value, ClientError> {
        self.ask("GET", path, Content::None).map(|answer| answer.json())
    }

    /// Milliseconds from capture to decision of everybody who was named or found unknown between two wall
    /// times in milliseconds; of each kind the newest two hundred.
    pub fn decision_latencies(&self, from: f64, to: f64) -> Result<Vec<f64>, ClientError> {
        let mut latencies = Vec::new();
        for kind in ["identified", "unknown"] {
            let path = format!("/api/events?limit=200&kind={kind}&from={from:.0}&to={to:.0}");
            let found = self.get(&path)?;
            let events = found["events"].as_array().into_iter().flatten();
            latencies.extend(events.filter_map(|event| event["latency_ms"].as_f64()));
        }
        Ok(latencies)
    }

    /// Opens a WebSocket, as this device's own pages do.
    pub fn socket(&self, path: &str) -> Result<Socket, ClientError> {
        let failed = |error| ClientError::Socket(Box::new(error));
        let address = self.address;
        let mut request = format!("ws://{address}{path}").into_client_request().map_err(failed)?;
        for (name, value) in [("cookie", self.cookie.clone()), ("origin", format!("http://{address}"))] {
            let value = value.parse().map_err(|_| ClientError::NotHttp(path.to_owned()))?;
            request.headers_mut().insert(name, value);
        }
        let stream = TcpStream::connect(address).map_err(io("reach the device"))?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(io("set a time limit"))?;
        stream.set_nodelay(true).map_err(io("send at once"))?;
        match tungstenite::client(request, stream) {
            Ok((socket, _)) => Ok(Socket(socket)),
            Err(tungstenite::HandshakeError::Failure(error)) => Err(failed(error)),
            Err(tungstenite::HandshakeError::Interrupted(_)) => {
                Err(ClientError::Socket(Box::new(tungstenite::Error::ConnectionClosed)))
            }
        }
    }
}

/// An open WebSocket.
pub struct Socket(WebSocket<TcpStream>);

/// A frame of the live view.
#[derive(Debug)]
pub struct LiveFrame {
    /// What stands in front of the picture.
    pub json: Value,
    /// The picture.
    pub jpeg: Vec<u8>,
}

impl Socket {
    /// The next text or bytes.
    pub fn receive(&mut self) -> Result<Message, ClientError> {
        loop {
            match self.0.read().map_err(|error| ClientError::Socket(Box::new(error)))? {
                message @ (Message::Text(_) | Message::Binary(_)) => return Ok(message),
                Message::Close(_) => {
                    return Err(ClientError::Socket(Box::new(tungstenite::Error::ConnectionClosed)));
                }
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
            }
        }
    }

    /// Says something.
    pub fn say(&mut self, text: &str) -> Result<(), ClientError> {
        self.0.send(Message::text(text)).map_err(|error| ClientError::Socket(Box::new(error)))
    }

    /// The next frame of the live view; texts in between are left out.
    pub fn next_frame(&mut self) -> Result<LiveFrame, ClientError> {
        loop {
            let Message::Binary(bytes) = self.receive()? else { continue };
            let not_a_frame = || ClientError::NotHttp("the live view".to_owned());
            let (length, rest) = bytes.split_first_chunk::<4>().ok_or_else(not_a_frame)?;
            let length = u32::from_le_bytes(*length) as usize;
            let (json, jpeg) = rest.split_at_checked(length).ok_or_else(not_a_frame)?;
            let json = serde_json::from_slice(json).map_err(|_| not_a_frame())?;
            return Ok(LiveFrame { json, jpeg: jpeg.to_vec() });
        }
    }
}
