//! PINs and passes: the REST API.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::access::{Access, AuditDetail, Role, Scope};
use super::faces::subject_id;
use super::operation::{Given, Named, Operation};
use super::problem::Problem;
use super::site::Site;
use super::subjects::bad_name;
use crate::clock::UnixMillis;
use crate::door::credential::{Credential, CredentialId, CredentialKind, window_of};
use crate::door::passes::draw_code;
use crate::gallery::{GroupId, ListedCredential, NewCredential, SubjectName};

/// Pixels of one module of a code.
const CODE_SCALE: u32 = 10;

/// The routes.
pub(super) fn operations() -> Vec<Operation> {
    let operator = Access::Role(Role::Operator);
    vec![
        Operation::get("/api/credentials", operator, "list_credentials", list)
            .about("PINs and passes, in the order they were made. No PIN is told again.")
            .gives::<CredentialList>(StatusCode::OK)
            .refuses(&[503]),
        Operation::post("/api/credentials", Role::Operator, "make_credential", make)
            .about(
                "Makes a PIN or a pass. A PIN is told in this answer and never again. A pass works once unless said \
                 otherwise: whoever photographs it has it too, so that a rotating one, or one that is used up, is \
                 the safer choice.",
            )
            .scope(Scope::Door)
            .takes::<CredentialBody>()
            .gives::<MadeView>(StatusCode::CREATED)
            .refuses(&[404, 409, 422, 503]),
        Operation::delete("/api/credentials/{id}", Role::Operator, "revoke_credential", revoke)
            .about("Takes a PIN or pass back; it opens nothing any more.")
            .scope(Scope::Door)
            .refuses(&[404, 503]),
        Operation::get("/api/credentials/{id}/code", operator, "show_pass", code)
            .audited()
            .about("The code of a pass as a picture, to be printed or sent; of a rotating pass that of this moment.")
            .scope(Scope::Door)
            .gives_bytes(&["image/png"])
            .refuses(&[404, 409]),
        Operation::get("/api/passes/{link}", Access::Public, "show_rotating_pass", rotating)
            .about("The code of a rotating pass as of this moment, for whoever holds its link.")
            .gives_bytes(&["image/png"])
            .refuses(&[404]),
    ]
}

/// PIN or pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum KindView {
    /// Digits.
    Pin,
    /// A code that stays as it is.
    Pass,
    /// A code that changes every half minute.
    RotatingPass,
}

/// A PIN or pass.
#[derive(Serialize, JsonSchema)]
struct CredentialView {
    id: CredentialId,
    kind: KindView,
    /// The subject it belongs to.
    subject: Option<String>,
    /// What a visitor is called, or the subject.
    name: Option<String>,
    /// The group whose rules hold for a visitor.
    group: Option<i64>,
    /// Milliseconds since 1970.
    valid_from: Option<i64>,
    valid_until: Option<i64>,
    /// How often it may still be used; null: as often as one likes.
    uses_left: Option<u32>,
    created_at: i64,
    last_used_at: Option<i64>,
    /// Whether it could open something now, apart from the policy.
    valid: bool,
}

/// All of them.
#[derive(Serialize, JsonSchema)]
struct CredentialList {
    credentials: Vec<CredentialView>,
}

async fn list(State(site): State<Arc<Site>>) -> Result<Json<CredentialList>, Problem> {
    let all = site.store.credentials().await?;
    Ok(Json(CredentialList { credentials: all.iter().map(|listed| view(&site, listed)).collect() }))
}

fn view(site: &Site, listed: &ListedCredential) -> CredentialView {
    let ListedCredential { credential, label, created_at, last_used_at } = listed;
    let gallery = site.store.gallery().current();
    let subject = credential.subject.and_then(|subject| gallery.subject(subject));
    let name = label.as_ref().or(subject.map(|subject| &subject.name));
    CredentialView {
        id: credential.id,
        kind: match credential.kind {
            CredentialKind::Pin(_) => KindView::Pin,
            CredentialKind::Pass { rotating: false, .. } => KindView::Pass,
            CredentialKind::Pass { rotating: true, .. } => KindView::RotatingPass,
        },
        subject: credential.subject.map(|subject| subject.to_string()),
        name: name.map(|name| name.as_str().to_owned()),
        group: credential.group.map(|group| group.0),
        valid_from: credential.valid_from.map(|at| at.0),
        valid_until: credential.valid_until.map(|at| at.0),
        uses_left: credential.uses_left,
        created_at: created_at.0,
        last_used_at: last_used_at.map(|at| at.0),
        valid: credential.check(site.clock.wall(), true).is_ok(),
    }
}

/// What to make.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct CredentialBody {
    kind: KindView,
    /// The subject it belongs to. Without one it is a visitor's, who needs a name.
    subject: Option<String>,
    /// What a visitor is called.
    #[schemars(length(max = 120))]
    name: Option<String>,
    /// The group whose rules hold for a visitor.
    group: Option<i64>,
    /// Milliseconds since 1970.
    #[schemars(range(min = 0, max = 253402300799999_i64))]
    valid_from: Option<i64>,
    #[schemars(range(min = 0, max = 253402300799999_i64))]
    valid_until: Option<i64>,
    /// How often it may be used, 1 to 1000. Not said: a pass that does not rotate once, others as often as one likes.
    #[schemars(range(min = 1, max = 1000))]
    uses: Option<u32>,
    /// As often as one likes, also for a pass that does not rotate.
    #[serde(default)]
    unlimited: bool,
}

/// What was made.
#[derive(Serialize, JsonSchema)]
struct MadeView {
    id: CredentialId,
    /// The digits of a PIN, told here and never again.
    pin: Option<String>,
    /// Of a rotating pass: the page that shows it, for the visitor.
    link: Option<String>,
}

async fn make(
    State(site): State<Arc<Site>>,
    Given(body): Given<CredentialBody>,
) -> Result<(StatusCode, AuditDetail, Json<MadeView>), Problem> {
    if body.uses.is_some_and(|uses| !(1..=1_000).contains(&uses)) || body.unlimited && body.uses.is_some() {
        return Err(Problem::unusable("uses", "`uses` is 1 to 1000, or `unlimited` is said instead"));
    }
    let once = body.kind == KindView::Pass && !body.unlimited;
    let new = NewCredential {
        is_pin: body.kind == KindView::Pin,
        subject: body.subject.as_deref().map(subject_id).transpose()?,
        group: body.group.map(GroupId),
        label: body.name.as_deref().map(SubjectName::new).transpose().map_err(bad_name)?,
        valid_from: body.valid_from.map(UnixMillis),
        valid_until: body.valid_until.map(UnixMillis),
        uses: body.uses.or(once.then_some(1)),
        rotating: body.kind == KindView::RotatingPass,
    };
    let rotating = new.rotating;
    let made = site.store.add_credential(new).await?;
    let link = made.code.filter(|_| rotating).map(|code| {
        let base = site.links.public_url().unwrap_or_default();
        format!("{base}/pass#{}", site.door.book().secret.link(code))
    });
    let detail = format!("{} {}", if made.pin.is_some() { "PIN" } else { "pass" }, made.id.0);
    Ok((StatusCode::CREATED, AuditDetail::new(detail), Json(MadeView { id: made.id, pin: made.pin, link })))
}

async fn revoke(State(site): State<Arc<Site>>, Named(id): Named<i64>) -> Result<StatusCode, Problem> {
    site.store.remove_credential(CredentialId(id)).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn picture(site: &Site, credential: &Credential) -> Result<Response, Problem> {
    let CredentialKind::Pass { code, rotating } = credential.kind else {
        return Err(Problem::conflict("no_pass", "a PIN has no code, and is never told again"));
    };
    let window = if rotating { window_of(site.clock.wall()) } else { 0 };
    let text = site.door.book().secret.pass_text(code, window);
    let png = draw_code(&text, CODE_SCALE).and_then(|image| image.to_png());
    let png = png.ok_or_else(|| Problem::failed("drawing a code", &"its text does not fit"))?;
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("image/png")),
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    Ok((headers, png).into_response())
}

async fn code(State(site): State<Arc<Site>>, Named(id): Named<i64>) -> Result<Response, Problem> {
    let book = site.door.book();
    let found = book.credentials.iter().find(|credential| credential.id == CredentialId(id));
    picture(&site, found.ok_or_else(|| Problem::missing("PIN or pass"))?)
}

async fn rotating(State(site): State<Arc<Site>>, Named(link): Named<String>) -> Result<Response, Problem> {
    let book = site.door.book();
    let found = book.secret.read_link(&link).and_then(|code| book.pass_of(code));
    let found = found.filter(|credential| {
        matches!(credential.kind, CredentialKind::Pass { rotating: true, .. })
            && credential.valid_until.is_none_or(|until| site.clock.wall() < until)
    });
    picture(&site, found.ok_or_else(|| Problem::missing("pass"))?)
}
