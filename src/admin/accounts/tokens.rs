//! API tokens, by which programs use the API, and the audit log.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::records::{AuditEntry, TokenRecord, UserName};
use super::secret::Secret;
use super::store::AuditReport;
use super::{AccountError, locked};
use crate::admin::access::{Access, AuditDetail, Caller, Role, Scope};
use crate::admin::operation::{Asked, Given, Named, Operation};
use crate::admin::problem::Problem;
use crate::admin::site::Site;
use crate::clock::UnixMillis;

/// By this somebody who finds one knows what it is.
const PREFIX: &str = "limen_";
const TOKEN_DAYS: std::ops::RangeInclusive<u32> = 1..=1_825;
const PAGE: std::ops::RangeInclusive<u32> = 1..=200;
const USUAL_PAGE: u32 = 50;

/// A token to be made.
#[derive(Deserialize, JsonSchema)]
struct NewToken {
    /// For what it is.
    name: String,
    /// What it may do.
    #[schemars(length(min = 1))]
    scopes: Vec<Scope>,
    /// How long it works.
    #[schemars(range(min = 1, max = 1825))]
    expires_in_days: u32,
}

/// A token, without its secret.
#[derive(Serialize, JsonSchema)]
struct TokenView {
    /// Number of the token.
    id: i64,
    /// For what it is.
    name: String,
    /// What it may do.
    scopes: Vec<Scope>,
    /// Name of whoever made it.
    made_by: Option<String>,
    /// When it was made, in milliseconds since 1970.
    #[schemars(with = "i64")]
    made_at: UnixMillis,
    /// When it stops working.
    #[schemars(with = "i64")]
    expires_at: UnixMillis,
    /// When it was last used, to the minute.
    #[schemars(with = "Option<i64>")]
    last_used_at: Option<UnixMillis>,
}

/// A token that was made. Its secret is told once.
#[derive(Serialize, JsonSchema)]
struct NewTokenView {
    /// To be sent as `Authorization: Bearer`.
    token: String,
    /// The token.
    #[serde(flatten)]
    view: TokenView,
}

/// Every token.
#[derive(Serialize, JsonSchema)]
struct Tokens {
    /// The oldest first.
    tokens: Vec<TokenView>,
}

/// Which part of a list.
#[derive(Deserialize, JsonSchema)]
struct Part {
    /// Where the last one ended: its `next`.
    after: Option<String>,
    /// Entries, 50 unless told otherwise.
    #[schemars(range(min = 1, max = 200))]
    limit: Option<u32>,
}

/// Part of the audit log.
#[derive(Serialize, JsonSchema)]
struct Audit {
    /// The newest first.
    entries: Vec<AuditEntry>,
    /// For the part after this one; null: there is none.
    next: Option<String>,
}

/// The routes.
pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::get("/api/tokens", Access::Role(Role::Admin), "tokens", tokens)
            .about("Every API token, without its secret.")
            .gives::<Tokens>(StatusCode::OK),
        Operation::post("/api/tokens", Role::Admin, "make_token", make_token)
            .about("Makes an API token. It works while whoever made it is an admin; its secret is told once.")
            .takes::<NewToken>()
            .gives::<NewTokenView>(StatusCode::CREATED)
            .refuses(&[409, 422]),
        Operation::delete("/api/tokens/{id}", Role::Admin, "remove_token", remove_token)
            .about("Takes an API token away.")
            .refuses(&[404]),
        Operation::get("/api/audit", Access::Role(Role::Admin), "audit", audit)
            .about("Who changed what, the newest first. Holds no name of a subject.")
            .query::<Part>()
            .gives::<Audit>(StatusCode::OK),
        Operation::get("/api/audit/verify", Access::Role(Role::Admin), "verify_audit", verify_audit)
            .about("Checks that nothing in the audit log was changed, put in or taken out past the program.")
            .gives::<AuditReport>(StatusCode::OK),
    ]
}

fn view(record: TokenRecord, made_by: Option<String>) -> TokenView {
    TokenView {
        id: record.id,
        name: record.name,
        scopes: record.scopes,
        made_by,
        made_at: record.made_at,
        expires_at: record.expires_at,
        last_used_at: record.last_used_at,
    }
}

async fn tokens(State(site): State<Arc<Site>>) -> Json<Tokens> {
    let live = locked(&site.accounts.live);
    let tokens = live
        .tokens()
        .into_iter()
        .map(|record| {
            let made_by = live.name_of(record.made_by).map(str::to_owned);
            view(record, made_by)
        })
        .collect();
    Json(Tokens { tokens })
}

async fn make_token(
    State(site): State<Arc<Site>>,
    caller: Caller,
    Given(mut given): Given<NewToken>,
) -> Result<(StatusCode, AuditDetail, Json<NewTokenView>), Problem> {
    let user = caller.user()?;
    let name = UserName::new(&given.name)?;
    given.scopes.sort_unstable();
    given.scopes.dedup();
    if given.scopes.is_empty() {
        return Err(Problem::unusable("scopes", "a token without a scope may do nothing; give it one"));
    }
    if !TOKEN_DAYS.contains(&given.expires_in_days) {
        return Err(Problem::unusable("expires_in_days", "a token works for 1 to 1825 days"));
    }
    let expires_at = UnixMillis(site.clock.wall().0 + i64::from(given.expires_in_days) * 86_400_000);
    let token = Secret::token(PREFIX).map_err(AccountError::NoRandomness)?;
    let hash = token.hash();
    let made = site.accounts.change_as(&caller, move |store, _| {
        store.make_token(user, name.as_str(), &given.scopes, hash, expires_at)
    });
    let made = made.await?;
    let made_by = locked(&site.accounts.live).name_of(made.made_by).map(str::to_owned);
    let view = view(made, made_by);
    let scopes = serde_json::to_string(&view.scopes).unwrap_or_default();
    let detail = AuditDetail::new(format!("token {}, scopes {scopes}", view.id));
    Ok((StatusCode::CREATED, detail, Json(NewTokenView { token: token.expose().to_owned(), view })))
}

async fn remove_token(
    State(site): State<Arc<Site>>,
    caller: Caller,
    Named(id): Named<i64>,
) -> Result<StatusCode, Problem> {
    site.accounts.change_as(&caller, move |store, _| store.remove_token(id)).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn verify_audit(State(site): State<Arc<Site>>) -> Result<Json<AuditReport>, Problem> {
    site.accounts.verify_audit().await.map(Json)
}

async fn audit(
    State(site): State<Arc<Site>>,
    Asked(Part { after, limit }): Asked<Part>,
) -> Result<Json<Audit>, Problem> {
    let limit = limit.unwrap_or(USUAL_PAGE);
    if !PAGE.contains(&limit) {
        return Err(Problem::invalid("limit is from 1 to 200"));
    }
    let before = after.map(|after| after.parse::<i64>()).transpose();
    let before = before.map_err(|_| Problem::invalid("after is not a `next` of this list"))?;
    let mut entries = site.accounts.read(move |store| store.audit(before, limit + 1)).await?;
    let more = entries.len() > limit as usize;
    entries.truncate(limit as usize);
    let next = entries.last().filter(|_| more).map(|last| last.id.to_string());
    Ok(Json(Audit { entries, next }))
}
