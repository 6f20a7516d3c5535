//! The server as others meet it: over a real connection, byte by byte.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub(crate) use super::links::tests::signer;
use super::{Allowance, LIFETIME_S, Limits, Parts, run, serve_within};

use crate::admin;
use crate::admin::access::Role;
use crate::admin::site::Site;
use crate::admin::site::tests::Fixture;
use crate::event::{IdentityEvent, Outcome};
use crate::event_store::EventId;
use crate::frame::RgbImage;
use crate::reason::Reason;
use crate::status::{Condition, Part};
use crate::track::TrackId;

mod gate;

/// Shorter than a request that is sent bit by bit, longer than any other takes on a busy machine.
const LIMITS: Limits = Limits {
    connections: 5,
    connections_each: 4,
    headers_within: Duration::from_millis(400),
    unread: Duration::from_secs(20),
    requests: Allowance { burst: 1_000, per_s: 1 },
};
const PATIENCE: Duration = Duration::from_secs(20);

/// A server on a free port, ended when dropped.
struct Server {
    fixture: Fixture,
    address: SocketAddr,
    cancel: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

fn parts(site: &Arc<Site>) -> Parts {
    Parts {
        router: admin::router(Arc::clone(site)),
        metrics: Arc::clone(&site.metrics),
        status: site.status.clone(),
        sweep: site.sweep(),
        tls: Arc::clone(&site.tls),
        plain: false,
        local: super::is_local,
        clock: Arc::clone(&site.clock),
    }
}

/// Everybody is another machine, and is served without TLS.
fn served_in_plain(parts: &mut Parts) {
    parts.local = |_| false;
    parts.plain = true;
}

fn in_runtime(task: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
    std::thread::spawn(move || {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(task);
    })
}

impl Server {
    fn start() -> Self {
        Self::with(LIMITS, |_| {})
    }

    /// A server that takes nobody for a program on its own machine.
    fn for_others() -> Self {
        Self::with(LIMITS, |parts| parts.local = |_| false)
    }

    fn with(limits: Limits, change: impl FnOnce(&mut Parts)) -> Self {
        Self::with_site(limits, |parts, _| change(parts))
    }

    fn with_site(limits: Limits, change: impl FnOnce(&mut Parts, &Arc<Site>)) -> Self {
        let fixture = Fixture::new();
        let mut parts = parts(&fixture.site);
        change(&mut parts, &fixture.site);
        parts.tls.load().unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let (address, cancel) = (listener.local_addr().unwrap(), CancellationToken::new());
        let thread = in_runtime({
            let cancel = cancel.clone();
            async move { serve_within(limits, TcpListener::from_std(listener).unwrap(), parts, cancel).await }
        });
        Self { fixture, address, cancel, thread: Some(thread) }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Sends these bytes, and reads until the server closes the connection.
    fn send(&self, bytes: &[u8]) -> Answer {
        let mut stream = self.connect();
        // The server may refuse the rest of a request before it was sent.
        let _ = stream.write_all(bytes);
        Answer::read(stream)
    }

    fn get(&self, path: &str) -> Answer {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: door\r\nConnection: close\r\n\r\n").as_bytes())
    }

    /// The signed address of an event's picture.
    fn image(&self, event: EventId) -> String {
        let site = &self.fixture.site;
        site.links.image_path(event, site.clock.wall())
    }

    /// Records a visitor with a picture, and tells which event that is.
    fn pictured(&self) -> EventId {
        let site = &self.fixture.site;
        assert!(site.store.record(IdentityEvent {
            id: EventId::new(site.clock.wall()).unwrap(),
            track: TrackId(1),
            captured_at: site.clock.wall(),
            captured: site.clock.monotonic(),
            latency_ms: 40.0,
            looks: 4,
            probes: 4,
            crop: Some(Arc::new(RgbImage::black(16, 16))),
            sighting: None,
            outcome: Outcome::Unknown { best_score: None, reason: Reason::NobodyEnrolled },
        }));
        blocking(site.store.waiting(0, 100)).unwrap().last().unwrap().id
    }

    /// Records an event without a picture.
    fn unpictured(&self) -> EventId {
        blocking(self.fixture.site.store.ring()).unwrap()
    }
}

fn blocking<T>(task: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(task)
}

impl Drop for Server {
    fn drop(&mut self) {
        self.cancel.cancel();
        let ended = self.thread.take().unwrap().join();
        assert!(ended.is_ok() || std::thread::panicking());
    }
}

struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn read(mut stream: TcpStream) -> Self {
        let mut bytes = Vec::new();
        // A server that closes with unread bytes resets the connection; what came before counts.
        let _ = stream.read_to_end(&mut bytes);
        Self::parse(bytes)
    }

    fn parse(mut bytes: Vec<u8>) -> Self {
        let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
            return Self { status: 0, head: String::new(), body: bytes };
        };
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap().to_ascii_lowercase();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Self { status, head, body: bytes.split_off(end + 4) }
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// The code of an error.
    fn code(&self) -> String {
        let body: serde_json::Value = serde_json::from_slice(&self.body).unwrap();
        body["error"]["code"].as_str().unwrap().to_owned()
    }
}

#[test]
fn metrics_come_with_their_media_type() {
    let server = Server::start();
    let answer = server.get("/metrics");
    assert_eq!(answer.status, 200);
    assert!(
        answer.head.contains("content-type: application/openmetrics-text; version=1.0.0"),
        "{}",
        answer.head
    );
    assert!(answer.text().ends_with("# EOF\n"));
    // The first answer was counted when the second was asked for.
    let second = server.get("/metrics");
    assert!(second.text().contains("limen_http_requests_total{status=\"ok\"} 1\n"), "{}", second.text());
}

#[test]
fn health_is_alive_while_degraded_and_503_when_dead() {
    let server = Server::start();
    server.fixture.started.status.degraded(Part::Camera, "unplugged");
    let answer = server.get("/health");
    let health: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!((answer.status, &health["status"]), (200, &"degraded".into()));
    assert_eq!(health["parts"]["camera"]["reason"], "unplugged");
    server.fixture.started.metrics.set_stuck(Some("recogniser".to_owned()));
    let answer = server.get("/health");
    let health: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!((answer.status, &health["status"]), (503, &"dead".into()));
}

#[test]
fn every_answer_stays_out_of_caches_frames_and_referrers() {
    let server = Server::start();
    let image = server.image(server.pictured());
    for path in ["/metrics", "/health", &image, "/api/nothing", "/image/x"] {
        let head = server.get(path).head;
        for header in [
            "cache-control: no-store",
            "content-security-policy: default-src 'none'; frame-ancestors 'none'",
            "x-content-type-options: nosniff",
            "referrer-policy: no-referrer",
            "cross-origin-resource-policy: same-origin",
            "connection: close",
        ] {
            assert!(head.contains(header), "{path}: {header} is not in {head}");
        }
    }
}

#[test]
fn signed_picture_is_given_out_until_it_expires() {
    let server = Server::start();
    let path = server.image(server.pictured());
    let answer = server.get(&path);
    assert_eq!((answer.status, &answer.body[..3]), (200, &[0xFF, 0xD8, 0xFF][..]));
    assert!(answer.head.contains("content-type: image/jpeg"), "{}", answer.head);
    server.fixture.started.clock.advance(Duration::from_secs(LIFETIME_S.unsigned_abs()));
    let answer = server.get(&path);
    assert_eq!(answer.status, 410);
    assert!(answer.text().contains("five minutes"), "{}", answer.text());
}

#[test]
fn picture_without_a_right_signature_is_refused_before_anything_is_looked_up() {
    let server = Server::start();
    let path = server.image(server.pictured());
    let (address, query) = path.split_once('?').unwrap();
    let other = server.image(server.unpictured());
    let (other, _) = other.split_once('?').unwrap();
    let last = path.chars().last().unwrap();
    let tampered = format!("{}{}", &path[..path.len() - 1], if last == '0' { '1' } else { '0' });
    for forged in [
        address.to_owned(),
        format!("{address}?expires=1"),
        format!("{address}?signature=00&expires=9999999999"),
        format!("{other}?{query}"),
        format!("{address}?{}", query.replace("expires=1", "expires=2")),
        format!("{address}?expires=99999999999999999999&signature={}", "0".repeat(64)),
        format!("/image/..%2f..%2fetc%2fpasswd?{query}"),
        format!("/image/%ff?{query}"),
        tampered,
    ] {
        let answer = server.get(&forged);
        // An address that is no text at all names nothing.
        assert!(
            answer.status == 403 || (forged.contains("%ff") && answer.status == 404),
            "{forged}: {}",
            answer.status
        );
    }
}

#[test]
fn picture_that_is_not_there_says_so_and_why() {
    let server = Server::start();
    let missing = server.get(&server.image(server.unpictured()));
    assert_eq!(missing.status, 404);
    assert!(missing.text().contains("events.keep_crops"), "{}", missing.text());
}

#[test]
fn snapshot_is_served_under_its_own_address_only() {
    let server = Server::start();
    let id = server.fixture.site.shelf.put(vec![0xFF, 0xD8, 7]).unwrap();
    let answer = server.get(&format!("/snapshot/{id}"));
    assert_eq!((answer.status, &answer.body[..]), (200, &[0xFF, 0xD8, 7][..]));
    assert_eq!(server.get(&format!("/snapshot/{}", "0".repeat(32))).status, 404);
    assert_eq!(server.get("/snapshot/").status, 404);
}

#[test]
fn unknown_places_methods_and_bodies_are_refused_in_words() {
    let server = Server::start();
    let unknown = server.get("/api/nothing");
    assert_eq!((unknown.status, unknown.code()), (404, "not_found".to_owned()));
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "BREW"] {
        let answer = server
            .send(format!("{method} /health HTTP/1.1\r\nHost: door\r\nConnection: close\r\n\r\n").as_bytes());
        assert_eq!((answer.status, answer.code()), (405, "method".to_owned()), "{method}");
        assert!(answer.head.contains("allow: get"), "{}", answer.head);
    }
    for body in ["Content-Length: 99999999999", "Transfer-Encoding: chunked"] {
        let request = format!("GET /health HTTP/1.1\r\nHost: door\r\n{body}\r\n\r\nxx");
        let answer = server.send(request.as_bytes());
        assert_eq!((answer.status, answer.code()), (413, "too_large".to_owned()), "{body}");
    }
    let head = server.send(b"HEAD /health HTTP/1.1\r\nHost: door\r\nConnection: close\r\n\r\n");
    assert_eq!((head.status, head.body.len()), (200, 0));
}

#[test]
fn what_is_no_request_ends_the_connection_and_nothing_else() {
    let server = Server::start();
    let huge = format!("GET /health HTTP/1.1\r\nHost: door\r\nX: {}\r\n\r\n", "a".repeat(200 << 10));
    let many = format!("GET /health HTTP/1.1\r\n{}\r\n", "X: 1\r\n".repeat(1000));
    let long = format!("GET /{} HTTP/1.1\r\nHost: door\r\n\r\n", "a".repeat(100 << 10));
    let both = "GET /health HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx";
    for (what, bytes) in [
        ("a huge header", huge.as_bytes()),
        ("many headers", many.as_bytes()),
        ("a long address", long.as_bytes()),
        ("two lengths", both.as_bytes()),
        ("TLS", &[0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03, 0x03]),
        ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        ("zeros", &[0; 4096]),
        ("an end", b""),
    ] {
        let mut stream = server.connect();
        let _ = stream.write_all(bytes);
        // Half of these are no whole request: say that nothing follows.
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let answer = Answer::read(stream);
        let refused = answer.status == 0 || (400..500).contains(&answer.status);
        assert!(refused, "{what}: {} {}", answer.status, answer.head);
        assert_eq!(server.get("/health").status, 200, "after {what}");
    }
}

#[test]
fn request_that_is_not_finished_in_time_is_cut_off() {
    let server = Server::start();
    let mut stream = server.connect();
    stream.write_all(b"GET /health HT").unwrap();
    // Nothing follows; this returns because the server closes.
    let answer = Answer::read(stream);
    assert!(answer.status == 0 || answer.status == 408, "{}", answer.status);
}

#[test]
fn one_connection_too_many_is_told_to_come_again_and_the_places_come_back() {
    let server = Server::start();
    let mut held: Vec<TcpStream> = (0..LIMITS.connections_each).map(|_| server.connect()).collect();
    // Each has its place once the server has seen its bytes, which it takes in order.
    held.iter_mut().for_each(|stream| stream.write_all(b"GET").unwrap());
    let answer = Answer::read(server.connect());
    assert_eq!(answer.status, 429);
    assert_eq!(answer.text(), "too many connections are open\n");
    // The held ones are cut off for their slowness.
    held.into_iter().for_each(|stream| drop(Answer::read(stream)));
    let text = server.get("/metrics");
    assert!(text.text().contains("limen_http_refused_connections_total 1\n"), "{}", text.text());
}

#[test]
fn port_in_use_is_degraded_and_taken_when_it_is_free() {
    let fixture = Fixture::new();
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, cancel) = (other.local_addr().unwrap(), CancellationToken::new());
    let (status, mut changes) = (fixture.site.status.clone(), fixture.site.status.changes());
    let server = in_runtime(run(address, parts(&fixture.site), cancel.clone()));
    let mut next = |wanted: fn(&Condition) -> bool| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            tokio::time::timeout(PATIENCE, async {
                while !wanted(&status.condition(Part::Http)) {
                    changes.changed().await.unwrap();
                }
            })
            .await
            .unwrap();
        });
        status.condition(Part::Http)
    };
    let Condition::Degraded { reason, .. } = next(|http| matches!(http, Condition::Degraded { .. })) else {
        panic!("it was degraded just now")
    };
    assert!(reason.contains(&address.to_string()) && reason.contains("http.listen"), "{reason}");
    drop(other);
    next(|http| matches!(http, Condition::Working { .. }));
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(b"GET /health HTTP/1.1\r\nHost: door\r\nConnection: close\r\n\r\n").unwrap();
    assert_eq!(Answer::read(stream).status, 200);
    cancel.cancel();
    server.join().unwrap();
}

#[test]
fn connection_takes_one_request_after_the_other_and_is_closed_when_it_idles() {
    let server = Server::start();
    let mut stream = server.connect();
    for _ in 0..3 {
        stream.write_all(b"GET /api/session HTTP/1.1\r\nHost: door\r\n\r\n").unwrap();
        let (mut head, mut byte) = (Vec::new(), [0]);
        while !head.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap();
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        let length = head.split("content-length: ").nth(1).unwrap().split("\r\n").next().unwrap();
        stream.read_exact(&mut vec![0; length.parse().unwrap()]).unwrap();
    }
    // Returns because the server closes.
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
}

#[test]
fn other_machines_are_sent_to_tls_unless_the_operator_wants_it_otherwise() {
    let server = Server::for_others();
    let answer = server.get("/faces?x=1");
    assert_eq!(answer.status, 308);
    assert!(answer.head.contains("location: https://door/faces?x=1"), "{}", answer.head);
    assert!(!answer.head.contains("strict-transport-security"), "{}", answer.head);
    for host in ["", "Host: a@b\r\n", "Host: a b\r\n"] {
        let answer = server.send(format!("GET / HTTP/1.1\r\n{host}\r\n").as_bytes());
        assert_eq!(answer.status, 400, "{host}");
    }
    // What is meant for others is not in the answer to them either.
    assert_eq!(server.get("/health").status, 308);
    let plain = Server::with(LIMITS, served_in_plain);
    assert_eq!(plain.get("/sign-in").status, 200);
    assert_eq!((plain.get("/health").status, plain.get("/health").code()), (401, "signed_out".to_owned()));
}

/// A browser that has been told to trust this server's certificate.
fn over_tls(server: &Server, name: &str, request: &str) -> std::io::Result<Answer> {
    use rustls_pki_types::pem::PemObject;
    use rustls_pki_types::{CertificateDer, ServerName};
    use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, Stream, crypto::ring};

    let file = server.fixture.state.path().join(super::certificate::CERTIFICATE_FILE);
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(file).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut tls = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut stream = server.connect();
    let mut stream = Stream::new(&mut tls, &mut stream);
    stream.write_all(request.as_bytes())?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    Ok(Answer::parse(bytes))
}

#[test]
fn same_port_speaks_tls_with_a_certificate_for_every_name_of_the_machine() {
    let server = Server::for_others();
    let request = "GET /api/session HTTP/1.1\r\nHost: door\r\nConnection: close\r\n\r\n";
    for name in ["localhost", "127.0.0.1"] {
        let answer = over_tls(&server, name, request).unwrap();
        assert_eq!(answer.status, 200);
        assert!(answer.head.contains("strict-transport-security: max-age=31536000"), "{}", answer.head);
        assert!(answer.text().contains("\"encrypted\":true"), "{}", answer.text());
    }
    over_tls(&server, "somebody.else", request).err().expect("the certificate is not for that name");
    // Over TLS the cookie is one that no other server of the same host can set.
    let body = r#"{"name":"Ada","password":"correct horse battery"}"#;
    let (token, csrf) = crate::admin::accounts::tests::session(&server.fixture.site.accounts, Role::Viewer);
    let length = body.len();
    let answer = over_tls(
        &server,
        "localhost",
        &format!(
            "POST /api/sign-out HTTP/1.1\r\nHost: door\r\nConnection: close\r\nOrigin: https://door\r\n\
             Cookie: __Host-limen={token}\r\nX-CSRF-Token: {csrf}\r\n\r\n"
        ),
    )
    .unwrap();
    assert_eq!(answer.status, 204);
    assert!(
        answer
            .head
            .contains("set-cookie: __host-limen=; path=/; max-age=0; httponly; samesite=strict; secure"),
        "{}",
        answer.head
    );
    let answer = over_tls(
        &server,
        "localhost",
        &format!(
            "POST /api/sign-in HTTP/1.1\r\nHost: door\r\nConnection: close\r\nContent-Length: {length}\r\n\
             Content-Type: application/json\r\n\r\n{body}"
        ),
    )
    .unwrap();
    assert_eq!((answer.status, answer.code()), (401, "wrong_credentials".to_owned()));
}

#[test]
fn pages_and_their_files_come_from_inside_the_program_only() {
    let server = Server::start();
    let shell = server.get("/");
    assert_eq!(shell.status, 200);
    for header in [
        "content-type: text/html",
        "cache-control: no-cache",
        "require-trusted-types-for 'script'",
        "permissions-policy: camera=(self)",
    ] {
        assert!(shell.head.contains(header), "{header} is not in {}", shell.head);
    }
    let tag = shell.head.split("etag: ").nth(1).unwrap().lines().next().unwrap().to_owned();
    let asked = |path: &str, header: &str| {
        server.send(
            format!("GET {path} HTTP/1.1\r\nHost: door\r\nConnection: close\r\n{header}\r\n\r\n").as_bytes(),
        )
    };
    assert_eq!(asked("/events", &format!("If-None-Match: {tag}")).status, 304);
    let folder = shell.text().split("src=\"").nth(1).unwrap().split("/early.js").next().unwrap();
    let file = asked(&format!("{folder}/app.js"), "Accept-Encoding: gzip");
    assert_eq!(file.status, 200);
    for header in [
        "content-type: text/javascript",
        "max-age=31536000, immutable",
        "content-encoding: gzip",
        "vary: accept-encoding",
    ] {
        assert!(file.head.contains(header), "{header} is not in {}", file.head);
    }
    let plain = server.get(&format!("{folder}/app.js"));
    assert!(plain.text().contains("import") && !plain.head.contains("content-encoding"), "{}", plain.head);
    for outside in [
        format!("{folder}/../index.html"),
        format!("{folder}/..%2f..%2f..%2fetc%2fpasswd"),
        format!("{folder}/%2e%2e/index.html"),
        format!("{folder}/index.html"),
        format!("{folder}/app.js%00"),
        format!("{folder}/APP.JS"),
        format!("{folder}//app.js"),
        "/assets/0000000000000000/app.js".to_owned(),
        "/assets/../../../../etc/passwd".to_owned(),
        "//etc/passwd".to_owned(),
    ] {
        let answer = server.get(&outside);
        assert_eq!(answer.status, 404, "{outside}: {}", answer.head);
    }
    // People get a page that says so, programs a word for it.
    let lost = asked("/nowhere", "Accept: text/html,*/*");
    assert!(lost.status == 404 && lost.head.contains("content-type: text/html"), "{}", lost.head);
    assert_eq!(server.get("/nowhere").code(), "not_found");
}

#[test]
fn body_that_is_larger_than_it_may_be_is_refused_however_it_comes() {
    let server = Server::start();
    let large = "x".repeat(70 << 10);
    let chunked = format!("{:x}\r\n{large}\r\n0\r\n\r\n", large.len());
    for (framing, body) in [
        (format!("Content-Length: {}", large.len()), large.as_str()),
        ("Transfer-Encoding: chunked".to_owned(), chunked.as_str()),
    ] {
        let request = format!(
            "POST /api/sign-in HTTP/1.1\r\nHost: door\r\nContent-Type: application/json\r\nConnection: close\r\n{framing}\r\n\r\n{body}"
        );
        let answer = server.send(request.as_bytes());
        assert_eq!((answer.status, answer.code()), (413, "too_large".to_owned()), "{framing}");
    }
    let wrong_type = "POST /api/sign-in HTTP/1.1\r\nHost: door\r\nContent-Type: text/plain\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}";
    let answer = server.send(wrong_type.as_bytes());
    assert_eq!((answer.status, answer.code()), (415, "media_type".to_owned()));
}

#[test]
fn address_that_asks_too_often_is_told_to_slow_down() {
    let limits = Limits { requests: Allowance { burst: 3, per_s: 1 }, ..LIMITS };
    let server = Server::with(limits, |_| {});
    let statuses: Vec<_> = (0..4).map(|_| server.get("/api/session")).map(|a| a.status).collect();
    assert_eq!(statuses, [200, 200, 200, 429]);
    server.fixture.started.clock.advance(Duration::from_secs(1));
    assert_eq!(server.get("/api/session").status, 200);
    assert_eq!(server.get("/api/session").code(), "too_many_requests");
}
