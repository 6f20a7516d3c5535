//! The web server: listening, encryption, connections. What is served is [`crate::admin`]'s.
//!
//! One port takes both TLS and plain HTTP, told apart by the first byte. Plain HTTP is served to
//! programs on this machine only, unless `http.plain` says otherwise; everybody else is sent to TLS.
//! Pictures for other programs have addresses of their own: signed by this device ([`Signer`]), or
//! made up at random a minute ago ([`SnapshotShelf`]).
//!
//! One task listens, one more serves each connection; how many there are, how long their headers may
//! take, how many requests an address may send and how long it may leave an answer unread is bounded.
//! A port or a certificate that cannot be had is a degraded part and tried again, never an end of the
//! daemon.

mod certificate;
mod links;
mod places;
mod shelf;
mod stream;
#[cfg(test)]
pub(crate) mod tests;
mod tls;

use std::convert::Infallible;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_SECURITY_POLICY, HOST, LOCATION, REFERRER_POLICY,
    STRICT_TRANSPORT_SECURITY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::uri::Authority;
use axum::http::{HeaderName, HeaderValue, Request, StatusCode};
use axum::response::{IntoResponse, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use links::{LIFETIME_S, LinkError, Signer};
pub use shelf::{SnapshotId, SnapshotShelf};
pub(crate) use tls::Tls;
pub use tls::stored_fingerprint;

use places::{Allowance, Budget};
pub(crate) use places::{Full, Place, Places};
use stream::Held;

use crate::admin::problem::Problem;
use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::status::{Part, Status};

/// What one asker, or all of them, may take.
#[derive(Clone, Copy)]
struct Limits {
    /// Connections open at a time; one more is closed.
    connections: usize,
    /// Of these, from one address. A browser opens six, and its sockets.
    connections_each: usize,
    /// From accepting a connection, or the end of an answer, to the last header of a request; and for
    /// setting up TLS.
    headers_within: Duration,
    /// How long an answer may go unread.
    unread: Duration,
    /// Requests of one address.
    requests: Allowance,
}

impl Limits {
    /// Pages ask for a few hundred thumbnails at once; twenty seconds are for a poor radio link.
    const NORMAL: Self = Self {
        connections: 128,
        connections_each: 32,
        headers_within: Duration::from_secs(10),
        unread: Duration::from_secs(20),
        requests: Allowance { burst: 600, per_s: 60 },
    };
}

/// Sent with every answer that does not say otherwise. Nothing may be framed, guessed at or embedded
/// elsewhere; pictures of faces stay in no cache, and addresses with a signature in no referrer.
const HEADERS: [(HeaderName, &str); 6] = [
    (CACHE_CONTROL, "no-store"),
    (CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
];

/// Sent over TLS: from then on the browser does not try without. Browsers ignore it where they could
/// not check the certificate.
const STRICT_TRANSPORT: &str = "max-age=31536000";

/// First byte of a TLS connection: RFC 8446, section 5.1.
const TLS_HANDSHAKE: u8 = 22;
/// Request line and headers together.
const MAX_HEAD_BYTES: usize = 16 << 10;
const MAX_HEADERS: usize = 64;
/// Between two attempts at a port: doubles from the first to the second.
const RETRY: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(30)];
/// After accepting failed for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);
/// How often pictures whose time is over are dropped.
const SWEEP: Duration = Duration::from_secs(15);
/// How often the certificate is looked at anew: for a renewed file, its end, and a clock that was set.
const RENEW: Duration = Duration::from_secs(3600);
/// What connections may take to end when the program does.
const PATIENCE: Duration = Duration::from_secs(1);

impl crate::config::Http {
    /// Where to listen; `None` when no web server is wanted.
    pub fn address(&self) -> Option<SocketAddr> {
        // Checking the configuration has refused what is no address.
        self.listen.as_ref().and_then(|listen| listen.parse().ok())
    }
}

/// Where a browser finds the pages; `None` when no web server is wanted.
pub fn page_address(http: &crate::config::Http) -> Option<String> {
    let listen = http.address()?;
    if let Some(url) = &http.public_url {
        return Some(url.trim_end_matches('/').to_owned());
    }
    let port = listen.port();
    Some(match listen.ip() {
        ip if ip.is_loopback() => format!("http://{}", SocketAddr::new(ip, port)),
        // By multicast DNS, which most networks without a name server of their own have.
        ip if ip.is_unspecified() => format!("https://{}.local:{port}", host_name()),
        ip => format!("https://{}", SocketAddr::new(ip, port)),
    })
}

/// What this machine calls itself, without its domain.
fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim().split('.').next().unwrap_or_default();
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if plain && !name.is_empty() { name.to_ascii_lowercase() } else { "limen".to_owned() }
}

/// Whoever has one IPv6 address usually has the 2^64 beside it; but for addresses of the link, of which
/// every neighbour has one out of the same 2^64.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) if v6.is_unicast_link_local() => IpAddr::V6(v6),
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
        v4 => v4,
    }
}

/// The other end of a connection, as the server knows it: put into every request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Peer {
    /// Its address.
    pub(crate) address: IpAddr,
    /// Whether the connection is encrypted.
    pub(crate) tls: bool,
    /// A program on this device.
    pub(crate) local: bool,
}

/// What the server is made of.
pub(crate) struct Parts {
    /// What it serves.
    pub(crate) router: Router,
    /// Where it counts its answers.
    pub(crate) metrics: Arc<Metrics>,
    /// Where it says how it is doing itself.
    pub(crate) status: Status,
    /// Drops pictures that were kept in memory for a short time, once that is over.
    pub(crate) sweep: Arc<dyn Fn() + Send + Sync>,
    /// The certificate.
    pub(crate) tls: Arc<Tls>,
    /// Whether other machines are served without encryption.
    pub(crate) plain: bool,
    /// Tells this machine from others: [`is_local`], but for tests, which have no other machine.
    pub(crate) local: fn(&TcpStream) -> bool,
    /// The time.
    pub(crate) clock: Arc<dyn Clock>,
}

/// Serves on `listen` until `cancel`: opens the port, again and again while it cannot be had.
pub(crate) async fn run(listen: SocketAddr, parts: Parts, cancel: CancellationToken) {
    let mut wait = RETRY[0];
    let listener = loop {
        let trouble = match load(&parts.tls).await {
            Err(reason) => reason,
            Ok(()) => match TcpListener::bind(listen).await {
                Ok(listener) => break listener,
                Err(error) => {
                    let (found, advice) = refused(listen, &error);
                    format!("{found}; {advice}")
                }
            },
        };
        parts.status.degraded(Part::Http, trouble);
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = cancel.cancelled() => return,
        }
        wait = (wait * 2).min(RETRY[1]);
    };
    serve(listener, parts, cancel).await;
}

/// Why a port cannot be had, and what to do about it.
pub fn refused(listen: SocketAddr, error: &std::io::Error) -> (String, &'static str) {
    use std::io::ErrorKind::{AddrInUse, AddrNotAvailable, PermissionDenied};
    let advice = match error.kind() {
        AddrInUse => {
            "another program has this port, or another limen: end it, or set http.listen to a free one"
        }
        AddrNotAvailable => "this machine does not have that address now: set http.listen to one it has",
        PermissionDenied => "ports below 1024 are for root: set http.listen to a higher one",
        _ => "see http.listen",
    };
    (format!("cannot listen on {listen}: {error}"), advice)
}

/// Serves on an open port until `cancel`.
pub(crate) async fn serve(listener: TcpListener, parts: Parts, cancel: CancellationToken) {
    serve_within(Limits::NORMAL, listener, parts, cancel).await;
}

async fn serve_within(limits: Limits, listener: TcpListener, parts: Parts, cancel: CancellationToken) {
    match listener.local_addr() {
        Ok(address) => tracing::info!(%address, "web server listens"),
        Err(error) => tracing::info!(%error, "web server listens"),
    }
    parts.status.working(Part::Http);
    let server = Arc::new(Server { limits, parts, budget: Budget::default() });
    let (places, connections) = (Arc::new(Places::default()), TaskTracker::new());
    let (mut sweep, mut renew) = (tokio::time::interval(SWEEP), tokio::time::interval(RENEW));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = sweep.tick() => {
                (server.parts.sweep)();
                continue;
            }
            _ = renew.tick() => {
                let tls = Arc::clone(&server.parts.tls);
                connections.spawn(async move {
                    if let Err(reason) = load(&tls).await {
                        tracing::warn!(reason, "the certificate of the web server stays as it is");
                    }
                });
                continue;
            }
            () = cancel.cancelled() => break,
        };
        let (stream, from) = match accepted {
            Ok(accepted) => accepted,
            // The other side may have gone again; or there are no descriptors left, and asking at once
            // would find the same.
            Err(error) => {
                tracing::debug!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let peer =
            Peer { address: from.ip().to_canonical(), tls: false, local: (server.parts.local)(&stream) };
        let Ok(place) = places.take(network(peer.address), limits.connections, limits.connections_each)
        else {
            server.parts.metrics.http_refused();
            server.turn_away(&stream, peer);
            continue;
        };
        let (server, cancel) = (Arc::clone(&server), cancel.clone());
        // Whatever goes wrong on a connection is the other side's doing: it ends, that is all.
        connections.spawn(async move { server.connection(stream, peer, place, cancel).await });
    }
    drop(listener);
    connections.close();
    // What is not done by then is cut off when the runtime ends.
    let _ = tokio::time::timeout(PATIENCE, connections.wait()).await;
}

/// Reads the certificate where that holds nobody up.
async fn load(tls: &Arc<Tls>) -> Result<(), String> {
    let tls = Arc::clone(tls);
    match tokio::task::spawn_blocking(move || tls.load()).await {
        Ok(loaded) => loaded.map_err(|error| error.to_string()),
        Err(error) => Err(format!("reading the certificate panicked: {error}")),
    }
}

/// Whether the connection never leaves this machine.
pub(crate) fn is_local(stream: &TcpStream) -> bool {
    let loopback = |address: std::io::Result<SocketAddr>| {
        address.is_ok_and(|address| address.ip().to_canonical().is_loopback())
    };
    loopback(stream.peer_addr()) && loopback(stream.local_addr())
}

/// Finds out in time when the other side has gone without a word: a phone that left the house holds no
/// place for a WebSocket.
fn keep_probing(stream: &TcpStream) {
    use rustix::net::sockopt;
    let set = sockopt::set_socket_keepalive(stream, true)
        .and_then(|()| sockopt::set_tcp_keepidle(stream, Duration::from_secs(60)))
        .and_then(|()| sockopt::set_tcp_keepintvl(stream, Duration::from_secs(15)))
        .and_then(|()| sockopt::set_tcp_keepcnt(stream, 4))
        .and_then(|()| sockopt::set_tcp_nodelay(stream, true));
    if let Err(error) = set {
        tracing::debug!(%error, "a connection is not probed");
    }
}

/// What every connection is served from.
struct Server {
    limits: Limits,
    parts: Parts,
    budget: Budget,
}

impl Server {
    /// Serves one connection to its end.
    async fn connection(
        self: Arc<Self>,
        stream: TcpStream,
        peer: Peer,
        place: Place<IpAddr>,
        cancel: CancellationToken,
    ) {
        keep_probing(&stream);
        let mut first = [0];
        let peeked = tokio::time::timeout(self.limits.headers_within, stream.peek(&mut first)).await;
        if !matches!(peeked, Ok(Ok(1))) {
            return;
        }
        if first[0] != TLS_HANDSHAKE {
            let stream = Held::new(stream, self.limits.unread, place);
            return self.serve(stream, peer, cancel).await;
        }
        let Some(acceptor) = self.parts.tls.acceptor() else { return };
        match tokio::time::timeout(self.limits.headers_within, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => {
                let stream = Held::new(stream, self.limits.unread, place);
                self.serve(stream, Peer { tls: true, ..peer }, cancel).await;
            }
            Ok(Err(error)) => tracing::debug!(%error, "TLS could not be set up"),
            Err(_) => tracing::debug!("TLS was not set up in time"),
        }
    }

    /// Serves requests, one after the other.
    async fn serve<S>(self: Arc<Self>, stream: Held<S>, peer: Peer, cancel: CancellationToken)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let limits = self.limits;
        let router = TowerToHyperService::new(self.parts.router.clone());
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(peer);
            let refused = self.refuse(&request, peer);
            let answer = refused.is_none().then(|| router.call(request));
            let server = Arc::clone(&self);
            async move {
                let mut response = match (refused, answer) {
                    (Some(refused), _) => refused,
                    (None, Some(answer)) => answer.await?,
                    (None, None) => unreachable!("what is not refused is answered"),
                };
                server.parts.metrics.http_answered(response.status().as_u16());
                let headers = response.headers_mut();
                for (name, value) in HEADERS {
                    headers.entry(name).or_insert(HeaderValue::from_static(value));
                }
                if peer.tls {
                    headers.insert(STRICT_TRANSPORT_SECURITY, HeaderValue::from_static(STRICT_TRANSPORT));
                }
                Ok::<Response, Infallible>(response)
            }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.headers_within)
            .half_close(true)
            .max_headers(MAX_HEADERS)
            .max_buf_size(MAX_HEAD_BYTES)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        tokio::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = cancel.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a connection ended early");
        }
    }

    /// Why a request is not even looked at, if it is not.
    fn refuse(&self, request: &Request<Incoming>, peer: Peer) -> Option<Response> {
        let (address, now) = (network(peer.address), self.parts.clock.monotonic());
        if !self.budget.take(address, self.limits.requests, now) {
            let text = "too many requests from this address; slow down";
            let problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, "too_many_requests", text);
            return Some(problem.retry_after(1).into_response());
        }
        (!self.is_served(peer)).then(|| to_tls(request))
    }

    /// Whether what comes over this connection may be answered at all.
    fn is_served(&self, peer: Peer) -> bool {
        peer.tls || peer.local || self.parts.plain
    }

    /// Says that there are too many, if that can be said without waiting. In TLS it cannot.
    fn turn_away(&self, stream: &TcpStream, peer: Peer) {
        const ANSWER: &[u8] = b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 2\r\nContent-Length: 30\r\n\
            Content-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\ntoo many connections are open\n";
        if self.is_served(peer) {
            // It may not be taken any more; the connection is closed all the same.
            let _ = stream.try_write(ANSWER);
        }
    }
}

/// Sends a browser to the same address over TLS, which the same port takes.
fn to_tls(request: &Request<Incoming>) -> Response {
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok());
    let host = host.filter(|host| host.parse::<Authority>().is_ok_and(|host| !host.as_str().contains('@')));
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let location = host.and_then(|host| HeaderValue::try_from(format!("https://{host}{path}")).ok());
    let mut response = match location {
        Some(location) => {
            let text = "this device speaks HTTPS here\n";
            (StatusCode::PERMANENT_REDIRECT, [(LOCATION, location)], text).into_response()
        }
        None => Problem::invalid("the header Host is missing; this device speaks HTTPS here").into_response(),
    };
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}
