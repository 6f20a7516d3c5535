//! "This is not them": a wrong recognition becomes a counter example of the subject it named, and is taken
//! back again.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::access::Role;
use super::events::parse_id;
use super::faces::subject_id;
use super::operation::{Asked, Named, Operation};
use super::problem::Problem;
use super::site::Site;
use crate::event_store::{EventKind, GalleryRefusal};
use crate::examiner::{ExamineError, Urgency};
use crate::gallery::{CounterExampleChoice, CounterExampleReceipt, GalleryError};

/// The routes.
pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::post("/api/events/{id}/not", Role::Operator, "rule_out_event", is_not)
            .about(
                "Notes that whoever this event named was not there: a face nearer to the one of its picture than \
                 to the subject no longer names the subject. Needs the picture.",
            )
            .gives::<CountView>(StatusCode::OK)
            .refuses(&[404, 409, 422, 503]),
        Operation::delete("/api/subjects/{id}/counter-examples", Role::Operator, "take_back_counter_examples", take_back)
            .about("Forgets faces that were noted not to be this subject, all of them or those noted last.")
            .query::<WhichQuery>()
            .gives::<TakenBackView>(StatusCode::OK)
            .refuses(&[404, 503]),
    ]
}

/// How many there are now.
#[derive(Serialize, JsonSchema)]
struct CountView {
    /// Faces noted not to be the subject.
    counter_examples: u64,
}

async fn is_not(State(site): State<Arc<Site>>, Named(id): Named<String>) -> Result<Json<CountView>, Problem> {
    let id = parse_id(&id)?;
    let page = site.store.event(id).await?;
    let event = page.events.first().ok_or_else(|| Problem::missing("event"))?;
    if event.kind != EventKind::Identified {
        let text = "this event names nobody: only a recognition can be wrong about somebody";
        return Err(Problem::conflict("not_identified", text));
    }
    let gone = || Problem::conflict("subject_gone", "whom this event named is not enrolled any more");
    let subject = event.subject.ok_or_else(gone)?;
    let no_picture = || {
        let text = "the picture of this event is not kept, so there is no face to remember; `events.keep_crops` \
                    keeps those of the events to come";
        Problem::conflict("no_picture", text)
    };
    let jpeg = site.store.crop(id).await?.ok_or_else(no_picture)?;
    let examiner = site.faces.examiner.of_every_face();
    let face = match examiner.examine(jpeg, Urgency::Interactive).await {
        Ok(examined) => examined.in_the_middle().and_then(|face| face.embedding),
        Err(ExamineError::Decode(_)) => None,
        Err(other) => return Err(other.into()),
    };
    let no_face = || Problem::unusable("no_face", "no face is found again in the picture of this event");
    let noted = site.store.is_not(subject, face.ok_or_else(no_face)?).await;
    let counter_examples = noted.map_err(|refusal| match refusal {
        GalleryRefusal::Gallery(GalleryError::SubjectUnknown) => gone(),
        other => other.into(),
    })?;
    Ok(Json(CountView { counter_examples }))
}

/// Which to forget.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct WhichQuery {
    /// All of them if not said.
    #[serde(default)]
    which: CounterExampleChoice,
}

/// What was forgotten.
#[derive(Serialize, JsonSchema)]
struct TakenBackView {
    /// Faces.
    removed: u64,
    /// Whether nothing of them is left in the database's log either.
    log_emptied: bool,
}

async fn take_back(
    State(site): State<Arc<Site>>,
    Named(id): Named<String>,
    Asked(WhichQuery { which }): Asked<WhichQuery>,
) -> Result<Json<TakenBackView>, Problem> {
    let CounterExampleReceipt { removed, log_emptied } =
        site.store.take_back(subject_id(&id)?, which).await?;
    Ok(Json(TakenBackView { removed, log_emptied }))
}
