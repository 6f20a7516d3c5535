//! The check in front of every route, in one place: who calls, whether they may, whether the request is
//! theirs, what it may carry, how long it may take; and the note of it in the audit log.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body as HttpBody;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, TRANSFER_ENCODING};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::body::{Fault, Outcome, Pace, Paced, StillMay};
use super::{Access, AuditDetail, Caller, Scope, Who, origin};
use crate::admin::accounts::{
    AccountError, Actor, LiveSession, NewAuditEntry, Use, csrf, same, session_token,
};
use crate::admin::incoming::announced;
use crate::admin::operation::{Body, Gives, Operation, SMALL_BODY};
use crate::admin::problem::Problem;
use crate::admin::site::Site;
use crate::http::Peer;

const CSRF_HEADER: &str = "x-csrf-token";
/// Sent by a page that asks by itself, where nobody did anything.
pub(in crate::admin) const BACKGROUND_HEADER: &str = "x-limen-background";
const SEC_FETCH_DEST: &str = "sec-fetch-dest";
/// Between a request and its answer, where the operation does not say otherwise: the store may take
/// eight seconds for its part.
const USUAL_TIME: Duration = Duration::from_secs(20);
/// Letters of a path that go into the audit log.
const TARGET_CHARS: usize = 200;

/// What is checked for one operation.
pub(in crate::admin) struct Gate {
    site: Arc<Site>,
    access: Access,
    scope: Option<Scope>,
    id: &'static str,
    changes: bool,
    audited: bool,
    socket: bool,
    body: Body,
    within: Duration,
}

impl Gate {
    pub(in crate::admin) fn new(site: &Arc<Site>, operation: &Operation) -> Self {
        let socket = matches!(operation.gives.1, Gives::WebSocket);
        Self {
            site: Arc::clone(site),
            access: operation.access,
            scope: operation.scope,
            id: operation.id,
            changes: operation.changes(),
            audited: operation.audited || operation.changes(),
            socket,
            body: operation.body,
            within: operation.within.unwrap_or(USUAL_TIME),
        }
    }

    /// Who calls, and what they are called in the audit log.
    fn identify(&self, headers: &HeaderMap, peer: &Peer) -> Result<Identity, Problem> {
        let accounts = &self.site.accounts;
        // Other schemes are a proxy's business.
        if let Some(shown) = headers.get(AUTHORIZATION).and_then(|header| bearer(header.to_str().ok()?)) {
            let token = accounts.token(shown).ok_or_else(|| {
                let text = "the token in `Authorization: Bearer` is none of this device, or has expired";
                Problem::new(StatusCode::UNAUTHORIZED, "wrong_token", text)
            })?;
            return Ok(Identity::Token { token: token.token, name: token.name, scopes: token.scopes });
        }
        if let Some(shown) = session_token(headers, peer)
            && let Some(session) = accounts.session(shown, use_of(headers))
        {
            return Ok(Identity::User { csrf: csrf(shown), session });
        }
        Ok(if peer.local { Identity::Local } else { Identity::Nobody })
    }

    /// Whether they may, and as whom.
    fn admit(&self, identity: &Identity, headers: &HeaderMap, peer: &Peer) -> Result<Caller, Problem> {
        let (who, role, name) = match (self.access, identity) {
            (Access::Public, Identity::Nobody | Identity::Local) => (Who::Nobody, None, String::new()),
            (Access::LocalOr(role), Identity::Local) => (Who::Local, Some(role), String::new()),
            (_, Identity::Nobody | Identity::Local) => {
                let text = "sign in first";
                return Err(Problem::new(StatusCode::UNAUTHORIZED, "signed_out", text));
            }
            (access, Identity::User { session, .. }) => {
                let LiveSession { session, user, .. } = session;
                if let Access::Role(least) | Access::LocalOr(least) = access
                    && user.role < least
                    && !(peer.local && matches!(access, Access::LocalOr(_)))
                {
                    let text = format!("this needs the role {}; yours is {}", least.name(), user.role.name());
                    return Err(Problem::new(StatusCode::FORBIDDEN, "forbidden", text));
                }
                let name = user.name.as_str().to_owned();
                (Who::User { user: user.id, session: *session }, Some(user.role), name)
            }
            (access, Identity::Token { token, scopes, name }) => {
                let role = match access {
                    Access::Public => None,
                    Access::Role(role) | Access::LocalOr(role) => Some(role),
                };
                if role.is_some() && !self.scope.is_some_and(|scope| scopes.contains(&scope)) {
                    let text = match self.scope {
                        Some(_) => "this token does not have the scope for that",
                        None => "no token may do that; it needs somebody who is signed in",
                    };
                    return Err(Problem::new(StatusCode::FORBIDDEN, "forbidden", text));
                }
                (Who::Token { token: *token }, role, name.clone())
            }
        };
        self.check_forgery(identity, headers, peer)?;
        Ok(Caller { who, role, name, address: peer.address })
    }

    /// Whether the request is meant by whoever it seems to come from. A token in a header is: no browser
    /// adds it by itself.
    fn check_forgery(&self, identity: &Identity, headers: &HeaderMap, peer: &Peer) -> Result<(), Problem> {
        if matches!(identity, Identity::Token { .. }) {
            return Ok(());
        }
        let forged = |text: &str| Err(Problem::new(StatusCode::FORBIDDEN, "csrf", text));
        let public_url = self.site.links.public_url();
        if self.socket && !origin::is_own_page(headers, peer, public_url) {
            return forged("a WebSocket is opened by this device's own pages only, or with a token");
        }
        if !self.changes {
            return Ok(());
        }
        if !origin::is_own_or_no_page(headers, peer, public_url) {
            return forged("this comes from a page of another origin");
        }
        if let Identity::User { csrf, .. } = identity
            && self.access != Access::Public
            && !headers
                .get(CSRF_HEADER)
                .and_then(|given| given.to_str().ok())
                .is_some_and(|given| same(given, csrf))
        {
            return forged("the header X-CSRF-Token is not that of the session; load the page again");
        }
        Ok(())
    }

    /// Whether what is announced may come at all.
    fn check_body(&self, headers: &HeaderMap) -> Result<usize, Problem> {
        let announced = announced(headers).unwrap_or(0);
        let has_body = headers.contains_key(TRANSFER_ENCODING) || announced > 0;
        let most = match self.body {
            Body::None => 0,
            Body::Json(_) => SMALL_BODY,
            Body::Bytes { most, .. } => most,
        };
        if (has_body && most == 0) || announced > most as u64 {
            return Err(too_large(most));
        }
        if let Body::Bytes { types, .. } = self.body {
            let given = headers.get(CONTENT_TYPE).and_then(|given| given.to_str().ok()).unwrap_or_default();
            let essence = given.split(';').next().unwrap_or_default().trim();
            if !types.iter().any(|known| known.eq_ignore_ascii_case(essence)) {
                let text = format!("this takes {}, as the header Content-Type says", types.join(", "));
                return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "media_type", text));
            }
        }
        Ok(most)
    }

    /// Whether the caller may still, when a body is there at last.
    fn still_may(&self, who: Who) -> StillMay {
        let (Access::Role(least) | Access::LocalOr(least)) = self.access else { return Box::new(|| true) };
        if matches!(self.body, Body::None) {
            return Box::new(|| true);
        }
        let site = Arc::clone(&self.site);
        Box::new(move || site.accounts.may_go_on(who, least))
    }

    async fn answer(&self, caller: Caller, most: usize, mut request: Request, next: Next) -> Response {
        let outcome = Outcome::default();
        let who = caller.who;
        request.extensions_mut().insert(caller);
        let still_may = self.still_may(who);
        let mut request = request
            .map(|body| HttpBody::new(Paced::new(body, most, Pace::NORMAL, outcome.clone(), still_may)));
        // The one above ends with a clear answer; axum's own is lower for bytes.
        DefaultBodyLimit::max(most.saturating_add(1)).apply(&mut request);
        let answer = match tokio::time::timeout(self.within, next.run(request)).await {
            Ok(answer) => answer,
            Err(_) => Problem::busy("this took too long; try again").into_response(),
        };
        match outcome.fault() {
            Some(Fault::TooLarge) if answer.status().is_client_error() => too_large(most).into_response(),
            Some(Fault::NotAnyMore) => Problem::from(AccountError::NoLonger).into_response(),
            Some(Fault::TooSlow) if answer.status().is_client_error() => {
                let text = "what was sent came in too slowly; try again on a better connection";
                Problem::new(StatusCode::REQUEST_TIMEOUT, "too_slow", text).into_response()
            }
            _ => answer,
        }
    }

    /// What the audit log says of a change or of what was carried away, or that it was tried. Of strangers
    /// only what was slowed down before, or succeeded: whatever else they send must not fill the log.
    fn entry(
        &self,
        identity: &Identity,
        target: String,
        address: String,
        answer: &Response,
    ) -> Option<NewAuditEntry> {
        let status = answer.status();
        let acted = answer.extensions().get::<Actor>().map(|actor| actor.0.clone());
        let who = acted.or_else(|| identity.name());
        let told = status.is_success() || status == StatusCode::UNAUTHORIZED;
        let stranger = who.is_none() && !(self.access == Access::Public && told);
        if !self.audited || stranger || status == StatusCode::TOO_MANY_REQUESTS {
            return None;
        }
        let detail = answer.extensions().get::<AuditDetail>().and_then(AuditDetail::text);
        Some(NewAuditEntry { who, what: self.id, target, outcome: status.as_u16(), address, detail })
    }
}

fn too_large(most: usize) -> Problem {
    let text = match most {
        0 => "this takes nothing behind its headers".to_owned(),
        most => format!("this takes at most {most} bytes"),
    };
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", text)
}

/// Pages say when they ask by themselves, and pictures that come with that bring no header of the page's:
/// an open page must not keep a session alive that nobody uses.
fn use_of(headers: &HeaderMap) -> Use {
    let picture = headers.get(SEC_FETCH_DEST).is_some_and(|dest| dest == "image");
    if picture || headers.contains_key(BACKGROUND_HEADER) { Use::Background } else { Use::Active }
}

fn bearer(header: &str) -> Option<&str> {
    let (scheme, token) = header.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

/// Who the request says it is from, found good.
enum Identity {
    Nobody,
    Local,
    User { csrf: String, session: LiveSession },
    Token { token: i64, name: String, scopes: Vec<Scope> },
}

impl Identity {
    fn name(&self) -> Option<String> {
        match self {
            Self::Nobody => None,
            Self::Local => None,
            Self::User { session, .. } => Some(session.user.name.clone()),
            Self::Token { name, .. } => Some(format!("token {name}")),
        }
    }
}

/// The middleware around every operation.
pub(in crate::admin) async fn guard(State(gate): State<Arc<Gate>>, request: Request, next: Next) -> Response {
    let Some(peer) = request.extensions().get::<Peer>().copied() else {
        return Problem::failed("the access check", &"a connection without a peer").into_response();
    };
    let headers = request.headers();
    let identity = match gate.identify(headers, &peer) {
        Ok(identity) => identity,
        Err(problem) => return problem.into_response(),
    };
    let admitted =
        gate.admit(&identity, headers, &peer).and_then(|caller| Ok((caller, gate.check_body(headers)?)));
    let target: String = request.uri().path().chars().take(TARGET_CHARS).collect();
    let changes = gate.changes;
    let finish = async move {
        let answer = match admitted {
            Ok((caller, most)) => gate.answer(caller, most, request, next).await,
            Err(problem) => problem.into_response(),
        };
        if let Some(entry) = gate.entry(&identity, target, peer.address.to_string(), &answer) {
            gate.site.accounts.note(entry).await;
        }
        answer
    };
    if !changes {
        return finish.await;
    }
    // Whoever hangs up is not waited for, but what they began is done to its end and noted.
    match tokio::spawn(finish).await {
        Ok(answer) => answer,
        Err(error) => Problem::failed("answering a request", &error).into_response(),
    }
}
