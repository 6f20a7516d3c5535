//! The small web server: metrics, health, and pictures by address. It answers GET only and changes
//! nothing.
//!
//! There is no sign-in: it listens on a loopback address unless the operator says otherwise, and a
//! picture needs an address that only this device can make ([`Signer`]) or that was made up at
//! random a minute ago ([`SnapshotShelf`]).
//!
//! One task listens, one more serves each connection, a single request long; how many, how long and
//! how large is bounded. A port that cannot be had is a degraded part and tried again, never an end of the daemon.

mod links;
mod shelf;
#[cfg(test)]
pub(crate) mod tests;

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderName, HeaderValue, Request, StatusCode};
use axum::response::Response;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use links::{LIFETIME_S, LinkError, Signer};
pub use shelf::{SnapshotId, SnapshotShelf};

use crate::metrics::Metrics;
use crate::status::{Part, Status};

/// What one asker, or all of them, may take.
#[derive(Clone, Copy)]
struct Limits {
    /// Connections open at a time; one more is told to come again.
    connections: usize,
    /// From accepting a connection to the last header of its request.
    headers_within: Duration,
    /// From accepting a connection to its end.
    connection_within: Duration,
}

impl Limits {
    /// Twenty seconds for a picture over a poor radio link, of which eight may be the store's.
    const NORMAL: Self = Self {
        connections: 64,
        headers_within: Duration::from_secs(5),
        connection_within: Duration::from_secs(20),
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

/// Request line and headers together.
const MAX_HEAD_BYTES: usize = 16 << 10;
const MAX_HEADERS: usize = 64;
/// Between two attempts at a port: doubles from the first to the second.
const RETRY: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(30)];
/// After accepting failed for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);
/// How often forgotten snapshots are dropped.
const SWEEP: Duration = Duration::from_secs(15);
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
    /// Pictures made on command, to be forgotten in time.
    pub(crate) shelf: Arc<SnapshotShelf>,
}

/// Serves on `listen` until `cancel`: opens the port, again and again while it cannot be had.
pub(crate) async fn run(listen: SocketAddr, parts: Parts, cancel: CancellationToken) {
    let parts = Arc::new(parts);
    let mut wait = RETRY[0];
    let listener = loop {
        match TcpListener::bind(listen).await {
            Ok(listener) => break listener,
            Err(error) => {
                let (found, advice) = refused(listen, &error);
                parts.status.degraded(Part::Http, format!("{found}; {advice}"));
            }
        }
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
pub(crate) async fn serve(listener: TcpListener, parts: Arc<Parts>, cancel: CancellationToken) {
    serve_within(Limits::NORMAL, listener, parts, cancel).await;
}

async fn serve_within(limits: Limits, listener: TcpListener, parts: Arc<Parts>, cancel: CancellationToken) {
    match listener.local_addr() {
        Ok(address) => tracing::info!(%address, "web server listens"),
        Err(error) => tracing::info!(%error, "web server listens"),
    }
    parts.status.working(Part::Http);
    let (places, connections) = (Arc::new(Semaphore::new(limits.connections)), TaskTracker::new());
    let mut sweep = tokio::time::interval(SWEEP);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = sweep.tick() => {
                parts.shelf.sweep();
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
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            parts.metrics.http_refused();
            turn_away(&stream);
            continue;
        };
        let peer = Peer { address: from.ip().to_canonical(), tls: false, local: is_local(&stream) };
        let (parts, cancel) = (Arc::clone(&parts), cancel.clone());
        connections.spawn(async move {
            // Whatever goes wrong on a connection is the other side's doing: it ends, that is all.
            let _ = tokio::time::timeout(
                limits.connection_within,
                connection(limits.headers_within, stream, peer, &parts, cancel),
            )
            .await;
            drop(place);
        });
    }
    drop(listener);
    connections.close();
    // What is not done by then is cut off when the runtime ends.
    let _ = tokio::time::timeout(PATIENCE, connections.wait()).await;
}

/// Whether the connection never leaves this machine.
fn is_local(stream: &TcpStream) -> bool {
    let loopback = |address: std::io::Result<SocketAddr>| {
        address.is_ok_and(|address| address.ip().to_canonical().is_loopback())
    };
    loopback(stream.peer_addr()) && loopback(stream.local_addr())
}

/// Serves one connection to its end.
async fn connection(
    headers_within: Duration,
    stream: TcpStream,
    peer: Peer,
    parts: &Arc<Parts>,
    cancel: CancellationToken,
) {
    let router = TowerToHyperService::new(parts.router.clone());
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer);
        let (answer, metrics) = (router.call(request), Arc::clone(&parts.metrics));
        async move {
            let mut response = answer.await?;
            metrics.http_answered(response.status().as_u16());
            // One request a connection; only what became a WebSocket goes on.
            if response.status() != StatusCode::SWITCHING_PROTOCOLS {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            for (name, value) in HEADERS {
                response.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
            }
            Ok::<Response, Infallible>(response)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(headers_within)
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

/// Says that there are too many, if that can be said without waiting.
fn turn_away(stream: &TcpStream) {
    const ANSWER: &[u8] = b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 2\r\nContent-Length: 30\r\n\
        Content-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\ntoo many connections are open\n";
    // It may not be taken any more; the connection is closed all the same.
    let _ = stream.try_write(ANSWER);
}
