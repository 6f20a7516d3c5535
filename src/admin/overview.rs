//! The device at a glance: what it is, how it is doing, by which thresholds it decides, and which
//! cameras it could use.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::access::{Access, Role, Scope};
use super::operation::Operation;
use super::problem::Problem;
use super::site::Site;
use crate::camera::list_devices;
use crate::gallery::{SnapshotReport, Staleness};
use crate::models::Manifest;

/// Counting takes a moment only after a change of the gallery.
const COUNTED_WITHIN: Duration = Duration::from_secs(1);

/// The routes.
pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::get("/api/device", Access::Role(Role::Viewer), "show_device", show)
            .about("What the device is, how it is doing, and by which thresholds it decides.")
            .scope(Scope::Metrics)
            .gives::<DeviceView>(StatusCode::OK),
        Operation::get("/api/cameras", Access::Role(Role::Admin), "list_cameras", cameras)
            .about("The cameras of this device with their formats, sizes and controls.")
            .gives::<CamerasView>(StatusCode::OK)
            .refuses(&[503]),
    ]
}

/// A network that is in use.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(crate) struct ModelView {
    name: String,
    sha256: String,
}

/// What the device recognises with.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(crate) struct ModelsView {
    detector: ModelView,
    landmarks: ModelView,
    embedder: ModelView,
    /// Only embeddings of one space compare.
    embedding_space: String,
    /// The runtime and its version.
    runtime: String,
}

impl ModelsView {
    /// The space that templates belong to.
    pub(crate) fn embedding_space(&self) -> &str {
        &self.embedding_space
    }
}

impl From<&Manifest> for ModelsView {
    fn from(manifest: &Manifest) -> Self {
        let model = |name: &str, sha256: &str| ModelView { name: name.to_owned(), sha256: sha256.to_owned() };
        let Manifest { runtime, detector, landmarks, embedder, .. } = manifest;
        Self {
            detector: model(&detector.name, &detector.sha256),
            landmarks: model(&landmarks.name, &landmarks.sha256),
            embedder: model(&embedder.name, &embedder.sha256),
            embedding_space: embedder.embedding_space.to_string(),
            runtime: format!("{} {}", runtime.name, runtime.version),
        }
    }
}

/// The device.
#[derive(Serialize, JsonSchema)]
struct DeviceView {
    name: String,
    version: &'static str,
    /// As `/health` has it.
    health: Value,
    /// SHA-256 of the certificate that browsers are shown, where there is one.
    fingerprint: Option<String>,
    /// What the camera streams; none while there is no stream.
    camera: Option<Value>,
    thresholds: ThresholdsView,
    models: ModelsView,
    gallery: GalleryView,
}

/// Comparison scores in force.
#[derive(Serialize, JsonSchema)]
struct ThresholdsView {
    /// 1:N: the best candidate must reach this.
    identification: f32,
    /// 1:1.
    verification: f32,
    /// At enrolment, another subject this close is worth a warning.
    conflict: f32,
    /// The best subject must lead the next by this.
    margin: f32,
}

/// Who is enrolled, as numbers.
#[derive(Serialize, JsonSchema)]
struct GalleryView {
    /// Subjects that can be recognised.
    subjects: u64,
    /// Their templates: one for each sample that is searched.
    templates: u64,
    /// Subjects that have expired.
    expired: u64,
    /// What waits for templates of the present networks; null where nothing does, or while it cannot be
    /// counted.
    stale: Option<StaleView>,
}

/// Enrolled under other networks, and not with the present ones.
#[derive(Serialize, JsonSchema)]
struct StaleView {
    /// Samples without a template that can be compared.
    samples: u64,
    /// Those of them whose picture is kept: the job `reembed` makes their templates.
    renewable: u64,
    /// Subjects without any: they are not recognised.
    subjects: u64,
}

async fn stale(site: &Site, report: &SnapshotReport) -> Option<StaleView> {
    // Every sample has a template of some network: without those of others there is nothing to count.
    if report.other_space == 0 {
        return None;
    }
    // How the device is doing is told also while the store is not.
    let counted = tokio::time::timeout(COUNTED_WITHIN, site.store.staleness()).await.ok()?.ok()?;
    let Staleness { samples, renewable, subjects } = counted;
    (samples > 0).then_some(StaleView { samples, renewable, subjects })
}

async fn show(State(site): State<Arc<Site>>) -> Result<Json<DeviceView>, Problem> {
    let config = site.settings.current();
    let in_force = site.settings.thresholds();
    let report = site.store.gallery().current().report();
    let gallery = GalleryView {
        subjects: report.subjects as u64,
        templates: report.templates as u64,
        expired: report.expired_subjects as u64,
        stale: stale(&site, &report).await,
    };
    let health = serde_json::to_value(site.dashboard.health())
        .map_err(|error| Problem::failed("telling the health", &error))?;
    let camera = site.dashboard.stream().and_then(|stream| serde_json::to_value(stream).ok());
    Ok(Json(DeviceView {
        name: config.device.name.clone(),
        version: env!("CARGO_PKG_VERSION"),
        health,
        fingerprint: site.tls.fingerprint(),
        camera,
        thresholds: ThresholdsView {
            identification: in_force.identification,
            verification: in_force.verification,
            conflict: in_force.conflict,
            margin: in_force.margin,
        },
        models: site.models.clone(),
        gallery,
    }))
}

/// The cameras.
#[derive(Serialize, JsonSchema)]
struct CamerasView {
    cameras: Vec<Value>,
}

async fn cameras(State(site): State<Arc<Site>>) -> Result<Json<CamerasView>, Problem> {
    // A driver may take its time; one asker at a time waits for it.
    let _turn = site
        .asking_cameras
        .try_acquire()
        .map_err(|_| Problem::busy("the cameras are being asked already; try again"))?;
    let cameras = tokio::task::spawn_blocking(list_devices)
        .await
        .map_err(|error| Problem::failed("asking the cameras", &error))?;
    let cameras = cameras.iter().filter_map(|camera| serde_json::to_value(camera).ok()).collect();
    Ok(Json(CamerasView { cameras }))
}
