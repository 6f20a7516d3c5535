//! What the device tells monitors and other programs: metrics, health, and pictures by address.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Deserialize;

use super::access::{Access, Role, Scope};
use super::operation::{Asked, Named, Operation};
use super::problem::Problem;
use super::site::Site;
use crate::event_store::EventId;
use crate::http::{LinkError, SnapshotId};
use crate::metrics::{self, Dashboard, Health, Overall};

/// The routes.
pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::get("/metrics", Access::LocalOr(Role::Viewer), "metrics", exposition)
            .about("What the device counts and measures, for Prometheus.")
            .scope(Scope::Metrics)
            .gives_bytes(&[metrics::CONTENT_TYPE]),
        Operation::get("/health", Access::LocalOr(Role::Viewer), "health", health)
            .about("How the parts of the device are doing. 503 with the same body when it is dead.")
            .scope(Scope::Metrics)
            .gives::<serde_json::Map<String, serde_json::Value>>(StatusCode::OK)
            .refuses(&[503]),
        Operation::get("/image/{event}", Access::Public, "signed_image", image)
            .about("The picture of an event, by an address that the device has signed: it works for five minutes.")
            .query::<Signed>()
            .gives_bytes(&["image/jpeg"])
            .refuses(&[403, 404, 410, 503]),
        Operation::get("/snapshot/{id}", Access::Public, "snapshot", snapshot)
            .about("The picture that the MQTT command `snapshot` was answered with; kept for a minute.")
            .gives_bytes(&["image/jpeg"])
            .refuses(&[404]),
    ]
}

/// Reads the metrics where waiting for a sensor holds nobody up.
async fn read<T: Send + 'static>(site: &Site, read: fn(&Arc<Dashboard>) -> T) -> Result<T, Problem> {
    let _turn = site.readings.acquire().await.map_err(|_| Problem::busy("the program is ending"))?;
    let dashboard = Arc::clone(&site.dashboard);
    tokio::task::spawn_blocking(move || read(&dashboard))
        .await
        .map_err(|error| Problem::failed("reading the metrics", &error))
}

async fn exposition(State(site): State<Arc<Site>>) -> Result<Response, Problem> {
    let text = read(&site, Dashboard::exposition).await?;
    Ok(([(CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response())
}

async fn health(State(site): State<Arc<Site>>) -> Result<Response, Problem> {
    let health: Health = read(&site, |dashboard| dashboard.health()).await?;
    // Degraded is alive: a monitor that restarts the device would only make it worse.
    let status = match health.status {
        Overall::Dead => StatusCode::SERVICE_UNAVAILABLE,
        Overall::Starting | Overall::Working | Overall::Degraded => StatusCode::OK,
    };
    Ok((status, Json(health)).into_response())
}

/// What stands behind the question mark of a signed address.
#[derive(Deserialize, JsonSchema)]
struct Signed {
    /// Second since 1970 at which it stops working.
    expires: i64,
    /// HMAC of event and second, in hexadecimal digits.
    signature: String,
}

async fn image(
    State(site): State<Arc<Site>>,
    Named(event): Named<String>,
    signed: Result<Asked<Signed>, Problem>,
) -> Result<Response, Problem> {
    let forged = || Problem::new(StatusCode::FORBIDDEN, "forged", LinkError::Forged.to_string());
    let (Some(event), Ok(Asked(signed))) = (EventId::parse(&event), signed) else { return Err(forged()) };
    match site.links.check(event, signed.expires, &signed.signature, site.clock.wall()) {
        Err(LinkError::Forged) => return Err(forged()),
        Err(error @ LinkError::Expired) => {
            return Err(Problem::new(StatusCode::GONE, "expired", error.to_string()));
        }
        Ok(()) => {}
    }
    let jpeg = site.store.crop(event).await?.ok_or_else(|| {
        let text =
            "there is no picture of this event: none was kept (events.keep_crops), or it has been erased";
        Problem::new(StatusCode::NOT_FOUND, "not_found", text)
    })?;
    Ok(([(CONTENT_TYPE, "image/jpeg")], jpeg).into_response())
}

async fn snapshot(State(site): State<Arc<Site>>, Named(id): Named<String>) -> Result<Response, Problem> {
    let jpeg = SnapshotId::parse(&id).and_then(|id| site.shelf.get(id)).ok_or_else(|| {
        let text = "there is no such picture, or no longer: one is kept for a minute";
        Problem::new(StatusCode::NOT_FOUND, "not_found", text)
    })?;
    Ok(([(CONTENT_TYPE, "image/jpeg")], jpeg.to_vec()).into_response())
}
