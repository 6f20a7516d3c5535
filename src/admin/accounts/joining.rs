//! How somebody gets an account: they ask and an admin approves, or they were invited.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::records::{AccessRequest, Invitation, User, UserName};
use super::secret::{self, Secret};
use super::sign_in::{SessionView, signed_in};
use super::{AccountError, Password};
use crate::admin::access::{Access, AuditDetail, Caller, Role};
use crate::admin::operation::{Given, Named, Operation};
use crate::admin::problem::Problem;
use crate::admin::site::Site;
use crate::clock::UnixMillis;
use crate::http::Peer;

/// Hours that an invitation may work: a month.
const INVITATION_HOURS: std::ops::RangeInclusive<u32> = 1..=720;
const MESSAGE_CHARS: usize = 500;
const NOTE_CHARS: usize = 200;

/// Somebody asks for an account.
#[derive(Deserialize, JsonSchema)]
struct NewAccessRequest {
    /// Name they want to sign in with.
    name: String,
    /// Password they want to sign in with.
    password: Password,
    /// What they say to whoever decides.
    #[schemars(length(max = 500))]
    message: Option<String>,
}

/// Requests that wait.
#[derive(Serialize, JsonSchema)]
struct AccessRequests {
    /// The oldest first.
    requests: Vec<AccessRequest>,
}

/// What an approved request may do.
#[derive(Deserialize, JsonSchema)]
struct Approval {
    /// At most the role of whoever approves.
    role: Role,
}

/// An invitation to be made.
#[derive(Deserialize, JsonSchema)]
struct NewInvitation {
    /// At most the role of whoever invites.
    role: Role,
    /// How long it works.
    #[schemars(range(min = 1, max = 720))]
    expires_in_hours: u32,
    /// For whom or what it is.
    #[schemars(length(max = 200))]
    note: Option<String>,
}

/// An invitation that was made. Its secret is told once.
#[derive(Serialize, JsonSchema)]
struct NewInvitationView {
    /// Number of the invitation.
    id: i64,
    /// What proves it.
    token: String,
    /// Page on this device to open. Behind `#`, so that no server on the way sees the secret.
    path: String,
    /// When it stops working, in milliseconds since 1970.
    #[schemars(with = "i64")]
    expires_at: UnixMillis,
}

/// Open invitations.
#[derive(Serialize, JsonSchema)]
struct Invitations {
    /// The oldest first.
    invitations: Vec<Invitation>,
}

/// An invitation is taken up.
#[derive(Deserialize, JsonSchema)]
struct Acceptance {
    /// From the link.
    token: String,
    /// Name to sign in with.
    name: String,
    /// Password to sign in with.
    password: Password,
}

/// The routes.
pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::post("/api/access-requests", Role::Viewer, "request_access", request_access)
            .public()
            .about("Asks for an account. It can sign in once an admin has approved it.")
            .takes::<NewAccessRequest>()
            .gives_nothing(StatusCode::ACCEPTED)
            .refuses(&[409, 422]),
        Operation::get("/api/access-requests", Access::Role(Role::Admin), "access_requests", access_requests)
            .about("Requests for an account that wait for an answer. They are dropped after two weeks.")
            .gives::<AccessRequests>(StatusCode::OK),
        Operation::post("/api/access-requests/{id}/approve", Role::Admin, "approve_access", approve)
            .about("Makes an account of a request.")
            .takes::<Approval>()
            .gives::<User>(StatusCode::CREATED)
            .refuses(&[404, 409]),
        Operation::delete("/api/access-requests/{id}", Role::Admin, "refuse_access", refuse)
            .about("Drops a request.")
            .refuses(&[404]),
        Operation::post("/api/invitations", Role::Admin, "invite", invite)
            .about("Makes a link by which somebody makes an account, once.")
            .takes::<NewInvitation>()
            .gives::<NewInvitationView>(StatusCode::CREATED)
            .refuses(&[409, 422]),
        Operation::get("/api/invitations", Access::Role(Role::Admin), "invitations", invitations)
            .about("Open invitations.")
            .gives::<Invitations>(StatusCode::OK),
        Operation::delete("/api/invitations/{id}", Role::Admin, "withdraw_invitation", withdraw)
            .about("Takes an invitation back.")
            .refuses(&[404]),
        Operation::post("/api/invitations/accept", Role::Viewer, "accept_invitation", accept)
            .public()
            .about("Makes an account by an invitation, and signs it in.")
            .takes::<Acceptance>()
            .gives::<SessionView>(StatusCode::CREATED)
            .refuses(&[404, 409, 422]),
    ]
}

/// A text that may be missing; an empty one is.
fn text(given: Option<String>, most: usize, what: &str) -> Result<Option<String>, Problem> {
    let Some(given) = given.map(|given| given.trim().to_owned()).filter(|given| !given.is_empty()) else {
        return Ok(None);
    };
    if given.chars().count() > most {
        return Err(Problem::unusable("too_long", format!("{what} has at most {most} characters")));
    }
    Ok(Some(given))
}

async fn request_access(
    State(site): State<Arc<Site>>,
    caller: Caller,
    Given(given): Given<NewAccessRequest>,
) -> Result<StatusCode, Problem> {
    let accounts = &site.accounts;
    let name = UserName::new(&given.name)?;
    let message = text(given.message, MESSAGE_CHARS, "a message")?;
    given.password.fits()?;
    // Each costs as much as a failure to sign in: a device that is flooded with requests helps nobody.
    let _ = accounts.may_try(None, caller.address)?;
    let address = caller.address.to_string();
    accounts
        .read({
            let address = address.clone();
            move |store| {
                if store.has_owner()? { store.takes_requests(&address) } else { Err(AccountError::NoOwner) }
            }
        })
        .await?;
    let password = given.password;
    let password = accounts.hash(move || password.protect()).await?;
    accounts
        .change(move |store| store.request_access(&name, &password, message.as_deref(), &address))
        .await?;
    Ok(StatusCode::ACCEPTED)
}

async fn access_requests(State(site): State<Arc<Site>>) -> Result<Json<AccessRequests>, Problem> {
    let requests = site.accounts.read(|store| store.access_requests()).await?;
    Ok(Json(AccessRequests { requests }))
}

async fn approve(
    State(site): State<Arc<Site>>,
    caller: Caller,
    Named(id): Named<i64>,
    Given(Approval { role }): Given<Approval>,
) -> Result<(StatusCode, AuditDetail, Json<User>), Problem> {
    let user = site.accounts.change_as(&caller, move |store, acting| store.approve(acting, id, role)).await?;
    let detail = AuditDetail::new(format!("user {}, role {}", user.id, role.name()));
    Ok((StatusCode::CREATED, detail, Json(user)))
}

async fn refuse(
    State(site): State<Arc<Site>>,
    caller: Caller,
    Named(id): Named<i64>,
) -> Result<StatusCode, Problem> {
    site.accounts.change_as(&caller, move |store, _| store.refuse_request(id)).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn invite(
    State(site): State<Arc<Site>>,
    caller: Caller,
    Given(given): Given<NewInvitation>,
) -> Result<(StatusCode, AuditDetail, Json<NewInvitationView>), Problem> {
    let user = caller.user()?;
    if !INVITATION_HOURS.contains(&given.expires_in_hours) {
        return Err(Problem::unusable("expires_in_hours", "an invitation works for 1 to 720 hours"));
    }
    let note = text(given.note, NOTE_CHARS, "a note")?;
    let expires_at = UnixMillis(site.clock.wall().0 + i64::from(given.expires_in_hours) * 3_600_000);
    let token = Secret::token("").map_err(AccountError::NoRandomness)?;
    let hash = token.hash();
    let made = site.accounts.change_as(&caller, move |store, acting| {
        store.invite(Some(user), acting, given.role, note.as_deref(), &hash, expires_at)
    });
    let Invitation { id, expires_at, .. } = made.await?;
    let detail = AuditDetail::new(format!("invitation {id}, role {}", given.role.name()));
    let path = format!("/invitation#{}", token.expose());
    let token = token.expose().to_owned();
    Ok((StatusCode::CREATED, detail, Json(NewInvitationView { id, token, path, expires_at })))
}

async fn invitations(State(site): State<Arc<Site>>) -> Result<Json<Invitations>, Problem> {
    let invitations = site.accounts.read(|store| store.invitations()).await?;
    Ok(Json(Invitations { invitations }))
}

async fn withdraw(
    State(site): State<Arc<Site>>,
    caller: Caller,
    Named(id): Named<i64>,
) -> Result<StatusCode, Problem> {
    site.accounts.change_as(&caller, move |store, acting| store.withdraw(acting, id)).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn accept(
    State(site): State<Arc<Site>>,
    caller: Caller,
    peer: Peer,
    headers: HeaderMap,
    Given(given): Given<Acceptance>,
) -> Result<Response, Problem> {
    let accounts = &site.accounts;
    let tried = accounts.may_try(None, caller.address)?;
    let token = secret::hash(&given.token);
    accounts.read(move |store| store.invited_as(&token)).await?;
    let name = UserName::new(&given.name)?;
    let password = given.password;
    let password = accounts.hash(move || password.protect()).await?;
    let user = accounts.change(move |store| store.accept(&token, &name, &password)).await?;
    accounts.succeeded(tried);
    signed_in(&site, &caller, &peer, &headers, user, StatusCode::CREATED).await
}
