//! What people agreed to: recorded, replaced and taken back.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::access::{AuditDetail, Caller, Role, Scope};
use super::faces::subject_id;
use super::operation::{Given, Named, Operation};
use super::problem::Problem;
use super::site::Site;
use super::subjects::{SubjectDetailsView, details_view};
use crate::clock::UnixMillis;
use crate::gallery::{Consent, ConsentWay};

/// The routes.
pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::post("/api/subjects/{id}/consent", Role::Operator, "record_consent", record)
            .about("Records that a subject agreed to being recognised, in the place of what stood there.")
            .scope(Scope::EditSubjects)
            .takes::<ConsentBody>()
            .gives::<SubjectDetailsView>(StatusCode::OK)
            .refuses(&[404, 422, 503]),
        Operation::delete("/api/subjects/{id}/consent", Role::Operator, "withdraw_consent", withdraw)
            .about(
                "Takes back the record of a consent. The subject stays enrolled: erasing it is another request, \
                 and what should follow as a rule.",
            )
            .scope(Scope::EditSubjects)
            .gives::<SubjectDetailsView>(StatusCode::OK)
            .refuses(&[404, 503]),
    ]
}

/// That a subject agreed to being recognised.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct ConsentView {
    /// Milliseconds since 1970.
    given_at: i64,
    /// Who agreed: the subject, or whoever may agree for them.
    given_by: String,
    way: ConsentWay,
    /// Version of the text that was agreed to.
    text_version: String,
    recorded_at: i64,
    /// The user who recorded it.
    recorded_by: String,
}

impl From<&Consent> for ConsentView {
    fn from(consent: &Consent) -> Self {
        Self {
            given_at: consent.given_at.0,
            given_by: consent.given_by.clone(),
            way: consent.way,
            text_version: consent.text_version.clone(),
            recorded_at: consent.recorded_at.0,
            recorded_by: consent.recorded_by.clone(),
        }
    }
}

/// What to record.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ConsentBody {
    /// Who agreed: the subject, or whoever may agree for them.
    #[schemars(length(min = 1, max = 120))]
    given_by: String,
    way: ConsentWay,
    /// Milliseconds since 1970, not in the future; now if not said.
    given_at: Option<i64>,
    /// Version of the text that was agreed to; that of now if not said.
    #[schemars(length(min = 1, max = 40))]
    text_version: Option<String>,
}

async fn record(
    State(site): State<Arc<Site>>,
    caller: Caller,
    Named(id): Named<String>,
    Given(body): Given<ConsentBody>,
) -> Result<(AuditDetail, Json<SubjectDetailsView>), Problem> {
    let id = subject_id(&id)?;
    let now = site.clock.wall();
    let given_at = body.given_at.map_or(now, UnixMillis);
    if given_at.0 < 0 || given_at > now {
        return Err(Problem::unusable(
            "given_at",
            "`given_at` is a time from 1970 until now, in milliseconds",
        ));
    }
    let text_version =
        body.text_version.unwrap_or_else(|| site.work.config.borrow().privacy.consent_text_version.clone());
    let consent = Consent {
        given_at,
        given_by: body.given_by,
        way: body.way,
        text_version,
        recorded_at: now,
        recorded_by: caller.name,
    };
    let way = consent.way.as_str();
    let details = site.store.record_consent(id, consent).await?;
    Ok((AuditDetail::new(way), Json(details_view(&site, &details))))
}

async fn withdraw(
    State(site): State<Arc<Site>>,
    Named(id): Named<String>,
) -> Result<Json<SubjectDetailsView>, Problem> {
    let details = site.store.withdraw_consent(subject_id(&id)?).await?;
    Ok(Json(details_view(&site, &details)))
}
