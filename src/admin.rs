//! The admin interface: accounts, the REST API, live view, and the pages that use them.
//!
//! Every route is an `Operation`, declared once with its method, path,
//! who may call it, what it takes and what it answers. The router, the access check and the OpenAPI
//! document are all made from that list, so that none of them can know a route the others do not.
//!
//! Not here: listening, TLS and connections ([`crate::http`]). Handlers run on the thread `network`
//! and must not block: databases are asked through handles, computing goes to the pool or to the
//! threads that own the networks.

pub mod access;
pub mod accounts;
mod assets;
mod compare;
mod consent;
mod counter;
mod credentials;
mod device;
mod door;
mod enrolment;
mod events;
pub(crate) mod faces;
mod groups;
mod guide;
mod incoming;
pub(crate) mod jobs;
pub(crate) mod live;
mod openapi;
pub(crate) mod operation;
pub(crate) mod overview;
mod pictures;
mod privacy;
pub(crate) mod problem;
mod revalidate;
pub(crate) mod settings;
mod sightings;
pub(crate) mod site;
pub(crate) mod socket;
mod subjects;
mod tray;

use std::sync::Arc;

use axum::Router;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use operation::Operation;
use problem::Problem;
use site::Site;

/// Every route there is.
pub(crate) fn operations() -> Vec<Operation> {
    let mut all = Vec::new();
    all.extend(accounts::operations());
    all.extend(device::operations());
    all.extend(live::operations());
    all.extend(events::operations());
    all.extend(jobs::operations());
    all.extend(sightings::operations());
    all.extend(settings::operations());
    all.extend(overview::operations());
    all.extend(pictures::operations());
    all.extend(subjects::operations());
    all.extend(consent::operations());
    all.extend(privacy::operations());
    all.extend(enrolment::operations());
    all.extend(groups::operations());
    all.extend(door::operations());
    all.extend(credentials::operations());
    all.extend(compare::operations());
    all.extend(counter::operations());
    all.extend(guide::operations());
    all.extend(openapi::operations());
    all
}

/// What the web server serves.
pub(crate) fn router(site: Arc<Site>) -> Router {
    operation::router(operations(), &site)
        .merge(assets::router())
        .fallback(assets::nowhere)
        .method_not_allowed_fallback(not_allowed)
        .with_state(site)
}

async fn not_allowed() -> Response {
    let text = "this address does not take that method";
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method", text).into_response()
}
