//! Making the first owner, signing in and out, and the cookie by which a browser is known again.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::header::{COOKIE, SET_COOKIE, USER_AGENT};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::records::Claimant;
use super::secret::{self, Secret};
use super::slowdown::Claim;
use super::store::NewSession;
use super::{Accounts, LiveSession, Password, Use, User, UserName};
use crate::admin::access::{Access, Caller, Role, Who};
use crate::admin::operation::{Given, Operation};
use crate::admin::problem::Problem;
use crate::admin::site::Site;
use crate::clock::UnixMillis;
use crate::http::Peer;

/// Over TLS: browsers take a cookie of this prefix only with `Secure`, without `Domain` and for the
/// path `/`, so that no neighbour can set it.
const COOKIE_TLS: &str = "__Host-limen";
const COOKIE_PLAIN: &str = "limen";

/// Put into an answer: who acted, where the request itself could not tell. For the audit log.
#[derive(Clone, Debug)]
pub(in crate::admin) struct Actor(pub(in crate::admin) String);

fn cookie_name(peer: &Peer) -> &'static str {
    if peer.tls { COOKIE_TLS } else { COOKIE_PLAIN }
}

/// What the browser's cookie holds, if that could be a session.
pub(in crate::admin) fn session_token<'h>(headers: &'h HeaderMap, peer: &Peer) -> Option<&'h str> {
    let name = cookie_name(peer);
    let cookies = headers.get_all(COOKIE).iter().filter_map(|header| header.to_str().ok());
    cookies
        .flat_map(|header| header.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .filter(|(found, _)| *found == name)
        .map(|(_, value)| value)
        .find(|value| value.len() == 64 && value.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// Where somebody stands with this device.
#[derive(Clone, Copy, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Standing {
    /// Nobody owns the device yet: the setup code makes an owner.
    Setup,
    /// There are accounts, and this is none of them.
    SignedOut,
    /// Signed in.
    SignedIn,
}

/// Who is signed in.
#[derive(Serialize, JsonSchema)]
struct SignedInUser {
    /// Number of the account.
    id: i64,
    /// Their name.
    name: String,
    /// What they may do.
    role: Role,
}

/// What a page needs to know before anything else.
#[derive(Serialize, JsonSchema)]
pub(super) struct SessionView {
    /// Where the asker stands.
    state: Standing,
    /// Name of the device.
    device_name: String,
    /// Version of the program.
    version: &'static str,
    /// Whether this connection is encrypted.
    encrypted: bool,
    /// Who is signed in.
    user: Option<SignedInUser>,
    /// To be sent as `X-CSRF-Token` with every change.
    csrf: Option<String>,
    /// When the session ends unless it is used, in milliseconds since 1970.
    #[schemars(with = "Option<i64>")]
    expires_at: Option<UnixMillis>,
}

impl SessionView {
    fn new(site: &Site, peer: &Peer, session: Option<(LiveSession, &str)>) -> Self {
        let state = match &session {
            Some(_) => Standing::SignedIn,
            None if site.accounts.has_owner() => Standing::SignedOut,
            None => Standing::Setup,
        };
        let (session, token) = session.unzip();
        let expires_at = session.as_ref().map(|session| session.expires_at);
        Self {
            state,
            device_name: site.device_name.clone(),
            version: env!("CARGO_PKG_VERSION"),
            encrypted: peer.tls,
            user: session.map(|LiveSession { user: User { id, name, role, .. }, .. }| SignedInUser {
                id,
                name,
                role,
            }),
            csrf: token.map(secret::csrf),
            expires_at,
        }
    }
}

/// The code, and the owner it makes.
#[derive(Deserialize, JsonSchema)]
struct Setup {
    /// As the log shows it.
    code: String,
    /// Name of the owner.
    name: String,
    /// Their password.
    password: Password,
}

/// Name and password.
#[derive(Deserialize, JsonSchema)]
struct Credentials {
    /// Name of the user.
    name: String,
    /// Their password.
    password: Password,
}

/// The routes.
pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::get("/api/session", Access::Public, "session", session)
            .about("Who is signed in, and whether anybody can be.")
            .gives::<SessionView>(StatusCode::OK),
        Operation::post("/api/setup", Role::Viewer, "set_up", set_up)
            .public()
            .about("Makes the first owner with the code that the log shows at start. Signs them in.")
            .takes::<Setup>()
            .gives::<SessionView>(StatusCode::CREATED)
            .refuses(&[401, 409, 422]),
        Operation::post("/api/sign-in", Role::Viewer, "sign_in", sign_in)
            .public()
            .about("Signs a browser in: the answer sets the session's cookie.")
            .takes::<Credentials>()
            .gives::<SessionView>(StatusCode::OK)
            .refuses(&[401, 403]),
        Operation::post("/api/sign-out", Role::Viewer, "sign_out", sign_out).about("Ends the session."),
    ]
}

async fn session(State(site): State<Arc<Site>>, peer: Peer, headers: HeaderMap) -> Json<SessionView> {
    let token = session_token(&headers, &peer);
    // The check before has counted it as a use already, if it is one.
    let session = token.and_then(|token| site.accounts.session(token, Use::Background).zip(Some(token)));
    Json(SessionView::new(&site, &peer, session))
}

async fn set_up(
    State(site): State<Arc<Site>>,
    caller: Caller,
    peer: Peer,
    headers: HeaderMap,
    Given(given): Given<Setup>,
) -> Result<Response, Problem> {
    let accounts = &site.accounts;
    if accounts.has_owner() {
        return Err(super::AccountError::HasOwner.into());
    }
    let tried = accounts.may_try(None, caller.address)?;
    let code = secret::code_hash(&given.code);
    if !accounts.read(move |store| store.is_setup_code(&code)).await? {
        let text = "this is not the setup code; the log of the device shows it at every start without an \
                    owner, and `limen users setup-code` makes a new one";
        return Err(Problem::new(StatusCode::UNAUTHORIZED, "wrong_code", text));
    }
    let name = UserName::new(&given.name)?;
    let password = given.password;
    let password = accounts.hash(move || password.protect()).await?;
    let owner = accounts.change(move |store| store.create_owner(&code, &name, &password)).await?;
    accounts.succeeded(tried);
    signed_in(&site, &caller, &peer, &headers, owner, StatusCode::CREATED).await
}

async fn sign_in(
    State(site): State<Arc<Site>>,
    caller: Caller,
    peer: Peer,
    headers: HeaderMap,
    Given(given): Given<Credentials>,
) -> Result<Response, Problem> {
    let accounts = &site.accounts;
    let wrong = || {
        let text = "name or password is wrong";
        Problem::new(StatusCode::UNAUTHORIZED, "wrong_credentials", text)
    };
    let Ok(name) = UserName::new(&given.name) else {
        let _ = accounts.may_try(None, caller.address)?;
        return Err(wrong());
    };
    let tried = accounts.may_try(Some(Claim::Name(secret::hash(&name.key()))), caller.address)?;
    let claimant = accounts.read(move |store| store.claimant(&name)).await?;
    let kept = claimant.as_ref().map(|claimant| match claimant {
        Claimant::User { password, .. } | Claimant::Asking { password } => password.clone(),
    });
    let renew = kept.as_ref().is_some_and(|kept| kept.cost != super::password::Cost::PRESENT);
    let password = given.password;
    let (right, renewed) = accounts
        .hash(move || {
            let right = password.is(kept.as_ref())?;
            // Only one that fits: an old one that does not goes on working as it is.
            let renewed = if right && renew { password.protect().ok() } else { None };
            Ok((right, renewed))
        })
        .await?;
    let user = match claimant {
        Some(Claimant::User { user, .. }) if right => user,
        Some(Claimant::Asking { .. }) if right => {
            let text = "your request for access has not been approved yet";
            return Err(Problem::new(StatusCode::FORBIDDEN, "not_approved", text));
        }
        Some(Claimant::User { user, .. }) => {
            let mut answer = wrong().into_response();
            answer.extensions_mut().insert(Actor(user.name));
            return Ok(answer);
        }
        _ => return Err(wrong()),
    };
    if user.disabled {
        let text = "this account is disabled; an admin can enable it";
        return Err(Problem::new(StatusCode::FORBIDDEN, "disabled", text));
    }
    accounts.succeeded(tried);
    if let Some(renewed) = renewed {
        let id = user.id;
        accounts.change(move |store| store.rehash(id, &renewed)).await?;
    }
    signed_in(&site, &caller, &peer, &headers, user, StatusCode::OK).await
}

async fn sign_out(State(site): State<Arc<Site>>, caller: Caller, peer: Peer) -> Result<Response, Problem> {
    if let Who::User { user, session } = caller.who {
        site.accounts.change(move |store| store.end_session(user, session)).await?;
    }
    Ok((StatusCode::NO_CONTENT, [(SET_COOKIE, cookie(&peer, "", 0))]).into_response())
}

/// Begins a session and answers with its cookie. The secret is always a new one, and the session
/// that the browser had before ends: a cookie that somebody else put there never becomes a session.
pub(super) async fn signed_in(
    site: &Site,
    caller: &Caller,
    peer: &Peer,
    headers: &HeaderMap,
    user: User,
    status: StatusCode,
) -> Result<Response, Problem> {
    let accounts: &Accounts = &site.accounts;
    let token = Secret::token("").map_err(super::AccountError::NoRandomness)?;
    let agent = headers.get(USER_AGENT).map(|agent| String::from_utf8_lossy(agent.as_bytes()));
    let agent = agent.unwrap_or_default().chars().filter(|c| !c.is_control()).take(200).collect();
    let new = NewSession {
        user: user.id,
        token_hash: token.hash(),
        address: caller.address.to_string(),
        agent,
        instead_of: session_token(headers, peer).map(secret::hash),
    };
    accounts.change(move |store| store.create_session(&new)).await?;
    let session = accounts.session(token.expose(), Use::Active);
    let session = session.ok_or_else(|| Problem::failed("signing in", &"the session has ended already"))?;
    let view = SessionView::new(site, peer, Some((session, token.expose())));
    let lasts = accounts.session_lasts().as_secs();
    let mut answer = (status, Json(view)).into_response();
    answer.headers_mut().insert(SET_COOKIE, cookie(peer, token.expose(), lasts));
    answer.extensions_mut().insert(Actor(user.name));
    Ok(answer)
}

fn cookie(peer: &Peer, value: &str, seconds: u64) -> HeaderValue {
    let (name, secure) = (cookie_name(peer), if peer.tls { "; Secure" } else { "" });
    let text = format!("{name}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}");
    HeaderValue::try_from(text).expect("names and hexadecimal digits stand in any header")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TLS: Peer =
        Peer { address: std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), tls: true, local: true };
    const PLAIN: Peer = Peer { tls: false, ..TLS };

    fn headers(cookie: &str) -> HeaderMap {
        HeaderMap::from_iter([(COOKIE, HeaderValue::from_str(cookie).unwrap())])
    }

    #[test]
    fn cookie_is_bound_to_the_host_and_kept_from_scripts() {
        let tls = cookie(&TLS, "ab", 9);
        assert_eq!(tls, "__Host-limen=ab; Path=/; Max-Age=9; HttpOnly; SameSite=Strict; Secure");
        let plain = cookie(&PLAIN, "ab", 9);
        assert_eq!(plain, "limen=ab; Path=/; Max-Age=9; HttpOnly; SameSite=Strict");
    }

    #[test]
    fn session_is_found_among_other_cookies_and_only_under_its_own_name() {
        let token = "0123456789abcdef".repeat(4);
        let found = |cookie: &str, peer| session_token(&headers(cookie), &peer).map(str::to_owned);
        assert_eq!(found(&format!("a=b; __Host-limen={token}; c"), TLS), Some(token.clone()));
        assert_eq!(found(&format!("limen={token}"), PLAIN), Some(token.clone()));
        // A neighbour on plain HTTP may set the one without the prefix.
        assert_eq!(found(&format!("limen={token}"), TLS), None);
        for nothing in ["limen=", "limen=abc", "limenx=1", "", &format!("limen={token}0")] {
            assert_eq!(found(nothing, PLAIN), None, "{nothing}");
        }
        // One that was put in front does not hide the right one.
        assert_eq!(found(&format!("limen=x; limen={token}"), PLAIN), Some(token));
    }
}
