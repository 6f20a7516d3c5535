//! What each address answers. Nothing here changes anything on the device.

use std::sync::Arc;

use axum::Router;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, Request, State};
use axum::http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY,
    RETRY_AFTER, TRANSFER_ENCODING, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Deserialize;
use tokio::sync::Semaphore;

use super::{LinkError, Parts, SnapshotId};
use crate::event_store::{EventId, StoreRefusal};
use crate::metrics::{self, Dashboard, Health, Overall};

/// Sent with every answer. The pages hold no script and are for no frame; pictures of faces stay in no
/// cache, and addresses with a signature in no referrer.
const HEADERS: [(HeaderName, &str); 5] = [
    (CACHE_CONTROL, "no-store"),
    (CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

const PLACES: &str = "\
limen serves, to GET:
  /metrics        for Prometheus
  /health         for people and monitors
  /image/ID       by signed address, the picture of an event
  /snapshot/ID    the picture that the MQTT command `snapshot` was answered with
";

/// What the pages are made from.
struct Site {
    parts: Arc<Parts>,
    /// One reading of `/proc` and `/sys` at a time, so that many askers need no more than one thread.
    readings: Semaphore,
}

pub(super) fn router(parts: Arc<Parts>) -> Router {
    let site = Arc::new(Site { parts, readings: Semaphore::new(1) });
    Router::new()
        .route("/metrics", get(exposition))
        .route("/health", get(health))
        .route("/image/{event}", get(image))
        .route("/snapshot/{id}", get(snapshot))
        .fallback(async || words(StatusCode::NOT_FOUND, PLACES))
        .method_not_allowed_fallback(async || {
            let answer = words(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are answered here\n");
            ([(ALLOW, "GET, HEAD")], answer)
        })
        .layer(from_fn_with_state(Arc::clone(&site), around))
        .with_state(site)
}

fn words(status: StatusCode, text: impl Into<String>) -> Response {
    (status, text.into()).into_response()
}

/// Around every page: refuses bodies, counts the answer, adds the headers.
async fn around(State(site): State<Arc<Site>>, request: Request, next: Next) -> Response {
    let headers = request.headers();
    let has_body = headers.contains_key(TRANSFER_ENCODING)
        || headers.get(CONTENT_LENGTH).is_some_and(|length| length.as_bytes() != b"0");
    let mut response = if has_body {
        words(StatusCode::PAYLOAD_TOO_LARGE, "nothing can be uploaded here\n")
    } else {
        next.run(request).await
    };
    site.parts.metrics.http_answered(response.status().as_u16());
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Reads the metrics where waiting for a sensor holds nobody up.
async fn read<T: Send + 'static>(site: &Site, read: fn(&Arc<Dashboard>) -> T) -> Result<T, Response> {
    let failed = |text: &str| words(StatusCode::INTERNAL_SERVER_ERROR, text);
    let _turn = site.readings.acquire().await.map_err(|_| failed("the program is ending\n"))?;
    let dashboard = Arc::clone(&site.parts.dashboard);
    tokio::task::spawn_blocking(move || read(&dashboard))
        .await
        .map_err(|_| failed("reading failed; the log may say why\n"))
}

async fn exposition(State(site): State<Arc<Site>>) -> Response {
    match read(&site, Dashboard::exposition).await {
        Ok(text) => ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response(),
        Err(failed) => failed,
    }
}

async fn health(State(site): State<Arc<Site>>) -> Response {
    let health: Health = match read(&site, |dashboard| dashboard.health()).await {
        Ok(health) => health,
        Err(failed) => return failed,
    };
    // Degraded is alive: a monitor that restarts the device would only make it worse.
    let status = match health.status {
        Overall::Dead => StatusCode::SERVICE_UNAVAILABLE,
        Overall::Starting | Overall::Working | Overall::Degraded => StatusCode::OK,
    };
    let json = serde_json::to_string(&health).expect("health is plain values");
    (status, [(CONTENT_TYPE, "application/json")], json).into_response()
}

/// What stands behind the question mark of a signed address.
#[derive(Deserialize)]
struct Signed {
    expires: i64,
    signature: String,
}

async fn image(
    State(site): State<Arc<Site>>,
    Path(event): Path<String>,
    signed: Result<Query<Signed>, QueryRejection>,
) -> Response {
    let forged = || words(StatusCode::FORBIDDEN, format!("{}\n", LinkError::Forged));
    let (Some(event), Ok(Query(signed))) = (EventId::parse(&event), signed) else { return forged() };
    let parts = &site.parts;
    match parts.links.check(event, signed.expires, &signed.signature, parts.clock.wall()) {
        Err(LinkError::Forged) => return forged(),
        Err(error @ LinkError::Expired) => return words(StatusCode::GONE, format!("{error}\n")),
        Ok(()) => {}
    }
    match (parts.crops)(event).await {
        Ok(Some(jpeg)) => ([(CONTENT_TYPE, "image/jpeg")], jpeg).into_response(),
        Ok(None) => words(
            StatusCode::NOT_FOUND,
            "there is no picture of this event: none was kept (events.keep_crops), or it has been erased\n",
        ),
        Err(StoreRefusal::Busy) => {
            let busy = words(StatusCode::SERVICE_UNAVAILABLE, "the event store is busy; try again\n");
            ([(RETRY_AFTER, "2")], busy).into_response()
        }
        Err(StoreRefusal::Ended) => words(StatusCode::SERVICE_UNAVAILABLE, "the program is ending\n"),
        Err(StoreRefusal::Failed(reason)) => {
            tracing::warn!(%reason, "a picture could not be read");
            words(StatusCode::INTERNAL_SERVER_ERROR, "the picture cannot be read; the log says why\n")
        }
    }
}

async fn snapshot(State(site): State<Arc<Site>>, Path(id): Path<String>) -> Response {
    match SnapshotId::parse(&id).and_then(|id| site.parts.shelf.get(id)) {
        Some(jpeg) => ([(CONTENT_TYPE, "image/jpeg")], jpeg.to_vec()).into_response(),
        None => {
            words(StatusCode::NOT_FOUND, "there is no such picture, or no longer: one is kept for a minute\n")
        }
    }
}
