//! What people are told and what is kept of them: the notice, the data sheet, the limits with what they erased, and
//! everything about one person.

use std::io::Cursor;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::access::{Access, Role};
use super::faces::subject_id;
use super::operation::{Asked, Named, Operation};
use super::problem::Problem;
use super::site::Site;
use crate::clock::SystemClock;
use crate::event_store::EventStore;
use crate::gallery::{GalleryError, GalleryStore};
use crate::privacy::{Facts, Language, missing, notice, sheet};
use crate::retention::{KeptClass, Retained};
use crate::subject_export::{SubjectExportError, export_subject};

/// The pages bring their own style and nothing else.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'";

/// The routes.
pub(super) fn operations() -> Vec<Operation> {
    let viewer = Access::Role(Role::Viewer);
    vec![
        Operation::get("/api/privacy/notice", viewer, "show_door_notice", door_notice)
            .about("The notice for the door, made of the settings in force, as a page to be printed.")
            .query::<PageQuery>()
            .gives_bytes(&["text/html"]),
        Operation::get("/api/privacy/sheet", viewer, "show_data_sheet", data_sheet)
            .about("The data sheet, made of the settings in force, as a page to be printed.")
            .query::<PageQuery>()
            .gives_bytes(&["text/html"]),
        Operation::get("/api/privacy", Access::Role(Role::Admin), "show_what_is_kept", kept)
            .about("What is kept of people, how long at most, and what was erased because its time was over.")
            .gives::<PrivacyView>(StatusCode::OK)
            .refuses(&[503]),
        Operation::get("/api/subjects/{id}/export", Access::Role(Role::Admin), "export_subject", export)
            .audited()
            .about("Everything that is kept of one subject, as a zip (GDPR, article 15).")
            .gives_bytes(&["application/zip"])
            .refuses(&[404, 503])
            .within(Duration::from_secs(120)),
    ]
}

/// In which language.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct PageQuery {
    /// English if not said.
    language: Option<Language>,
}

fn page(html: String) -> Response {
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
        (CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
    ];
    (headers, html).into_response()
}

async fn door_notice(State(site): State<Arc<Site>>, Asked(query): Asked<PageQuery>) -> Response {
    let config = Arc::clone(&site.work.config.borrow());
    page(notice(&config, site.clock.wall(), query.language.unwrap_or_default()))
}

async fn data_sheet(State(site): State<Arc<Site>>, Asked(query): Asked<PageQuery>) -> Response {
    let config = Arc::clone(&site.work.config.borrow());
    let space = site.models.embedding_space().to_owned();
    let facts = Facts::new(&site.work.rekey.source, space, site.clock.wall());
    page(sheet(&config, &facts, query.language.unwrap_or_default()))
}

/// What is kept of people.
#[derive(Serialize, JsonSchema)]
struct PrivacyView {
    /// Settings that the notice and the data sheet need and that are not set.
    missing: Vec<&'static str>,
    /// Each class of data.
    kept: Vec<KeptView>,
}

/// One class of data.
#[derive(Serialize, JsonSchema)]
struct KeptView {
    class: KeptClass,
    /// How much there is.
    count: u64,
    /// How much there may be at most.
    most: Option<u32>,
    /// Hours after which it is erased; of people, after they were last recognised. Null: not by age.
    hours: Option<u32>,
    /// Whether it is kept at all.
    on: bool,
    #[serde(flatten)]
    retained: Retained,
}

async fn kept(State(site): State<Arc<Site>>) -> Result<Json<PrivacyView>, Problem> {
    let config = Arc::clone(&site.work.config.borrow());
    let counts = site.store.kept().await?;
    let entries = site.accounts.audit_entries().await?;
    let hours = |days: u32| Some(days * 24);
    let view = |class, count, most, hours, on| {
        let retained = site.metrics.retention.of(class);
        KeptView { class, count, most, hours, on, retained }
    };
    let (events, sightings) = (&config.events, &config.sightings);
    let unseen = Some(config.privacy.erase_unseen_days).filter(|days| *days > 0).and_then(hours);
    Ok(Json(PrivacyView {
        missing: missing(&config),
        kept: vec![
            view(KeptClass::Subjects, counts.subjects, None, unseen, true),
            view(KeptClass::Pictures, counts.pictures, None, unseen, config.enrolment.keep_pictures),
            view(KeptClass::Events, counts.events, Some(events.keep_count), hours(events.keep_days), true),
            view(
                KeptClass::EventPictures,
                counts.event_pictures,
                Some(events.keep_crops_count),
                hours(events.keep_crops_days),
                events.keep_crops,
            ),
            view(
                KeptClass::UnknownFaces,
                counts.unknown_faces,
                Some(sightings.maximum),
                Some(sightings.keep_hours),
                sightings.keep,
            ),
            view(
                KeptClass::Audit,
                entries,
                Some(config.audit.keep_count),
                hours(config.audit.keep_days),
                true,
            ),
        ],
    }))
}

async fn export(State(site): State<Arc<Site>>, Named(id): Named<String>) -> Result<Response, Problem> {
    let id = subject_id(&id)?;
    let place = site.export_place()?;
    let (state, key) = (site.work.state.clone(), site.work.rekey.ring.now());
    let now = site.clock.wall();
    let made = tokio::task::spawn_blocking(move || -> Result<Vec<u8>, SubjectExportError> {
        let _place = place;
        let gallery = GalleryStore::open(&state, &key, Arc::new(SystemClock))?;
        let events = EventStore::open(&state, &key, Arc::new(SystemClock), Duration::ZERO)?;
        let mut zip = Cursor::new(Vec::new());
        export_subject(id, &gallery, &events, now, &mut zip)?;
        Ok(zip.into_inner())
    })
    .await
    .map_err(|error| Problem::failed("exporting the subject", &error))?;
    let bytes = match made {
        Ok(bytes) => bytes,
        Err(SubjectExportError::Gallery(GalleryError::SubjectUnknown)) => {
            return Err(Problem::missing("subject"));
        }
        Err(error) => return Err(Problem::failed("exporting the subject", &error)),
    };
    let name = format!("attachment; filename=\"subject-{id}.zip\"");
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("application/zip")),
        (
            CONTENT_DISPOSITION,
            HeaderValue::from_str(&name).map_err(|error| Problem::failed("naming the file", &error))?,
        ),
    ];
    Ok((headers, bytes).into_response())
}
