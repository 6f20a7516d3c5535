//! Users as admins see them, and everybody's own account: password and sessions.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::records::User;
use super::slowdown::Claim;
use super::{AccountError, Password, locked};
use crate::admin::access::{Access, AuditDetail, Caller, Role, Who};
use crate::admin::operation::{Given, Named, Operation};
use crate::admin::problem::Problem;
use crate::admin::site::Site;
use crate::clock::UnixMillis;

/// Everybody with an account.
#[derive(Serialize, JsonSchema)]
struct Users {
    /// By name.
    users: Vec<User>,
}

/// What is to be changed of a user.
#[derive(Deserialize, JsonSchema)]
struct UserChange {
    /// Another role, at most that of whoever asks.
    role: Option<Role>,
    /// Whether signing in is closed to them.
    disabled: Option<bool>,
}

/// The present password and the next one.
#[derive(Deserialize, JsonSchema)]
struct PasswordChange {
    /// The present one.
    current: Password,
    /// The next one: 10 to 200 characters.
    new: Password,
    /// Whether the API tokens that the asker has made end too; false if not said.
    #[serde(default)]
    end_tokens: bool,
}

/// One browser that is signed in.
#[derive(Serialize, JsonSchema)]
struct OwnSession {
    /// Number of the session.
    id: i64,
    /// When it signed in, in milliseconds since 1970.
    #[schemars(with = "i64")]
    created_at: UnixMillis,
    /// When it last asked for something.
    #[schemars(with = "i64")]
    last_seen_at: UnixMillis,
    /// Where it signed in from.
    address: String,
    /// What the browser calls itself.
    agent: String,
    /// Whether it is the one that asks.
    current: bool,
}

/// Browsers that are signed in as the asker.
#[derive(Serialize, JsonSchema)]
struct OwnSessions {
    /// The one used last first.
    sessions: Vec<OwnSession>,
}

/// The routes.
pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::get("/api/users", Access::Role(Role::Admin), "users", users)
            .about("Everybody with an account.")
            .gives::<Users>(StatusCode::OK),
        Operation::patch("/api/users/{id}", Role::Admin, "change_user", change_user)
            .about("Changes what a user may do. Disabling ends their sessions; the last owner stays.")
            .takes::<UserChange>()
            .gives::<User>(StatusCode::OK)
            .refuses(&[404, 409]),
        Operation::delete("/api/users/{id}", Role::Admin, "remove_user", remove_user)
            .about("Removes a user with their sessions, invitations and API tokens. The last owner stays.")
            .refuses(&[404, 409]),
        Operation::post("/api/account/password", Role::Viewer, "change_password", change_password)
            .about(
                "Changes the asker's own password. Their other sessions and the invitations they made end.",
            )
            .takes::<PasswordChange>()
            .refuses(&[422]),
        Operation::get("/api/account/sessions", Access::Role(Role::Viewer), "sessions", sessions)
            .about("Browsers that are signed in as the asker.")
            .gives::<OwnSessions>(StatusCode::OK),
        Operation::delete("/api/account/sessions/{id}", Role::Viewer, "end_session", end_session)
            .about("Signs one of the asker's browsers out.")
            .refuses(&[404]),
        Operation::delete("/api/account/sessions", Role::Viewer, "end_other_sessions", end_other_sessions)
            .about("Signs all other browsers of the asker out."),
    ]
}

async fn users(State(site): State<Arc<Site>>) -> Json<Users> {
    Json(Users { users: locked(&site.accounts.live).users() })
}

async fn change_user(
    State(site): State<Arc<Site>>,
    caller: Caller,
    Named(id): Named<i64>,
    Given(UserChange { role, disabled }): Given<UserChange>,
) -> Result<(AuditDetail, Json<User>), Problem> {
    let accounts = &site.accounts;
    let changed =
        accounts.change_as(&caller, move |store, acting| store.change_user(acting, id, role, disabled));
    let changed = changed.await?;
    let role = role.map(|role| format!("role {}", role.name()));
    let disabled = disabled.map(|disabled| if disabled { "disabled" } else { "enabled" }.to_owned());
    let detail = role.into_iter().chain(disabled).collect::<Vec<_>>().join(", ");
    Ok((AuditDetail::new(detail), Json(changed)))
}

async fn remove_user(
    State(site): State<Arc<Site>>,
    caller: Caller,
    Named(id): Named<i64>,
) -> Result<StatusCode, Problem> {
    site.accounts.change_as(&caller, move |store, acting| store.remove_user(acting, id)).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn change_password(
    State(site): State<Arc<Site>>,
    caller: Caller,
    Given(PasswordChange { current, new, end_tokens }): Given<PasswordChange>,
) -> Result<(StatusCode, AuditDetail, ()), Problem> {
    let accounts = &site.accounts;
    let Who::User { user, session } = caller.who else { return Err(not_signed_in()) };
    new.fits()?;
    // A browser left open must not be a place to try passwords quickly either.
    let tried = accounts.may_try(Some(Claim::User(user)), caller.address)?;
    let kept = accounts.read(move |store| store.password_of(user)).await?;
    let made =
        accounts.hash(move || if current.is(Some(&kept))? { new.protect().map(Some) } else { Ok(None) });
    let Some(made) = made.await? else {
        return Err(Problem::unusable("wrong_password", "the present password is another one"));
    };
    accounts.succeeded(tried);
    accounts.change(move |store| store.set_password(user, &made, Some(session), end_tokens)).await?;
    Ok((StatusCode::NO_CONTENT, AuditDetail::new(if end_tokens { "API tokens ended" } else { "" }), ()))
}

async fn sessions(State(site): State<Arc<Site>>, caller: Caller) -> Result<Json<OwnSessions>, Problem> {
    let Who::User { user, session } = caller.who else { return Err(not_signed_in()) };
    let accounts = &site.accounts;
    let found = locked(&accounts.live).sessions_of(user, accounts.times, accounts.now());
    let sessions = found
        .into_iter()
        .map(|record| OwnSession {
            id: record.id,
            created_at: record.created_at,
            last_seen_at: record.last_seen_at,
            address: record.address,
            agent: record.agent,
            current: record.id == session,
        })
        .collect();
    Ok(Json(OwnSessions { sessions }))
}

async fn end_session(
    State(site): State<Arc<Site>>,
    caller: Caller,
    Named(id): Named<i64>,
) -> Result<StatusCode, Problem> {
    let user = caller.user()?;
    site.accounts.change(move |store| store.end_session(user, id)).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn end_other_sessions(State(site): State<Arc<Site>>, caller: Caller) -> Result<StatusCode, Problem> {
    let Who::User { user, session } = caller.who else { return Err(not_signed_in()) };
    site.accounts.change(move |store| store.end_sessions_but(user, session)).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn not_signed_in() -> Problem {
    AccountError::NotAUser.into()
}
