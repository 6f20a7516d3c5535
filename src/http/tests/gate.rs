//! Who may ask what, and what the audit log has of it, as others meet that: over a real connection.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use axum::routing::{MethodFilter, on};

use super::*;
use crate::admin;
use crate::admin::access::{Access, Role, Scope};
use crate::admin::operation::Operation;

/// Headers of a new session of somebody of this role.
fn signed_in(server: &Server, role: Role) -> String {
    let (token, csrf) = crate::admin::accounts::tests::session(&server.fixture.site.accounts, role);
    format!("Cookie: limen={token}\r\nX-CSRF-Token: {csrf}\r\n")
}

fn request(method: &str, path: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    let typed = if body.is_empty() {
        String::new()
    } else {
        format!("Content-Type: application/json\r\nContent-Length: {length}\r\n")
    };
    format!("{method} {path} HTTP/1.1\r\nHost: door\r\nConnection: close\r\n{headers}{typed}\r\n{body}")
}

/// The number of somebody of this role.
fn user(server: &Server, owner: &str, role: &str) -> i64 {
    let users = server.send(request("GET", "/api/users", owner, "").as_bytes());
    let users: serde_json::Value = serde_json::from_str(users.text()).unwrap();
    let theirs = users["users"].as_array().unwrap().iter().find(|user| user["role"] == role);
    theirs.unwrap()["id"].as_i64().unwrap()
}

#[test]
fn change_whose_body_was_held_back_is_refused_when_its_sender_may_no_longer() {
    let server = Server::start();
    let [owner, admin, viewer] =
        [Role::Owner, Role::Admin, Role::Viewer].map(|role| signed_in(&server, role));
    let (admin_id, viewer_id) = (user(&server, &owner, "admin"), user(&server, &owner, "viewer"));
    let patch = |headers: &str, id: i64, role: &str| {
        let body = format!("{{\"role\":\"{role}\"}}");
        request("PATCH", &format!("/api/users/{id}"), headers, &body)
    };
    let held_back = patch(&admin, viewer_id, "operator");
    let (first, last) = held_back.split_at(held_back.len() - 1);
    let mut stream = server.connect();
    stream.write_all(first.as_bytes()).unwrap();
    // Its headers are behind the check when the device asks for nothing but the last byte: an answer to a
    // request that came after them tells.
    for _ in 0..3 {
        let seen = server.send(request("GET", "/api/session", &viewer, "").as_bytes());
        assert_eq!(seen.status, 200);
    }
    assert_eq!(server.send(patch(&owner, admin_id, "operator").as_bytes()).status, 200);
    stream.write_all(last.as_bytes()).unwrap();
    let answer = Answer::read(stream);
    assert_eq!((answer.status, answer.code()), (403, "forbidden".to_owned()), "{}", answer.text());
    assert!(answer.text().contains("meanwhile"), "{}", answer.text());
    assert_eq!(user(&server, &owner, "viewer"), viewer_id, "nothing was changed");
    // The audit log says what was, and that this was tried.
    let audit = server.send(request("GET", "/api/audit", &owner, "").as_bytes());
    let audit: serde_json::Value = serde_json::from_str(audit.text()).unwrap();
    let entries: Vec<_> = audit["entries"].as_array().unwrap().iter().collect();
    assert_eq!((&entries[0]["outcome"], &entries[0]["detail"]), (&403.into(), &serde_json::Value::Null));
    assert_eq!((&entries[1]["outcome"], &entries[1]["detail"]), (&200.into(), &"role operator".into()));
}

#[test]
fn page_that_lies_open_keeps_no_session_alive() {
    let server = Server::start();
    let [open, used] = [signed_in(&server, Role::Viewer), signed_in(&server, Role::Viewer)];
    let asks = |headers: &str, more: &str| {
        let headers = format!("{headers}{more}");
        server.send(request("GET", "/api/device", &headers, "").as_bytes()).status
    };
    let mut statuses = Vec::new();
    for _ in 0..4 {
        server.fixture.started.clock.advance(Duration::from_secs(20 * 60));
        statuses.push((
            asks(&open, "X-Limen-Background: 1\r\n"),
            asks(&open, "Sec-Fetch-Dest: image\r\n"),
            asks(&used, ""),
        ));
    }
    assert_eq!(statuses, [(200, 200, 200), (200, 200, 200), (401, 401, 200), (401, 401, 200)]);
}

#[test]
fn audit_log_has_what_is_carried_away() {
    let server = Server::start();
    let owner = signed_in(&server, Role::Owner);
    let export = server.send(request("GET", "/api/events/export?format=csv", &owner, "").as_bytes());
    assert_eq!(export.status, 200);
    assert_eq!(server.send(request("GET", "/api/events", &owner, "").as_bytes()).status, 200);
    let audit = server.send(request("GET", "/api/audit", &owner, "").as_bytes());
    let audit: serde_json::Value = serde_json::from_str(audit.text()).unwrap();
    let what: Vec<_> = audit["entries"].as_array().unwrap().iter().map(|entry| &entry["what"]).collect();
    assert_eq!(what, ["export_events"]);
}

/// Who calls, in the test that walks every route.
#[derive(Clone, Copy, Debug, PartialEq)]
enum As {
    Nobody,
    Role(Role),
    /// Without the token against forgery.
    Forged(Role),
    Token(Scope),
}

/// One route as docs/openapi.json has it.
struct Documented {
    method: String,
    path: String,
    public: bool,
    least: Option<Role>,
    scope: Option<Scope>,
    socket: bool,
}

fn documented() -> Vec<Documented> {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/openapi.json");
    let document: serde_json::Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let mut all = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let about = operation["description"].as_str().unwrap();
            let after =
                |mark: &str| about.split(mark).nth(1).map(|rest| rest.split(['.', '`']).next().unwrap());
            all.push(Documented {
                method: method.to_uppercase(),
                path: path.clone(),
                public: operation["security"] == serde_json::json!([]),
                least: after("Least role: ").map(|name| Role::named(name).unwrap()),
                scope: after("Scope of API tokens: `")
                    .map(|name| serde_json::from_value(name.into()).unwrap()),
                socket: operation["responses"]["101"].is_object(),
            });
        }
    }
    all
}

/// What differs between what is documented and what a server with these operations does.
fn walk(mut operations: Vec<Operation>) -> (usize, Vec<String>) {
    // What lies behind the check does not matter, and must not be done.
    for operation in &mut operations {
        let filter = MethodFilter::try_from(operation.method.clone()).unwrap();
        operation.handler = on(filter, async || "reached");
    }
    let limits = Limits { requests: Allowance { burst: 1_000_000, per_s: 1_000 }, ..LIMITS };
    let stubs = Server::with_site(limits, |parts, site| {
        served_in_plain(parts);
        parts.router = admin::operation::router(operations, site).with_state(Arc::clone(site));
    });
    let accounts = &stubs.fixture.site.accounts;
    let mut callers = vec![As::Nobody];
    callers.extend(Role::ALL.map(As::Role));
    callers.extend(Role::ALL.map(As::Forged));
    callers.extend(Scope::ALL.map(As::Token));
    let signed: Vec<(As, String)> = callers
        .into_iter()
        .map(|caller| {
            let headers = match caller {
                As::Nobody => String::new(),
                As::Role(role) => signed_in(&stubs, role),
                As::Forged(role) => {
                    let (token, _) = crate::admin::accounts::tests::session(accounts, role);
                    format!("Cookie: limen={token}\r\n")
                }
                As::Token(scope) => {
                    let token = crate::admin::accounts::tests::token(accounts, &[scope]);
                    format!("Authorization: Bearer {token}\r\n")
                }
            };
            (caller, headers)
        })
        .collect();
    let (mut asked, mut wrong) = (0, Vec::new());
    for route in documented() {
        let path = route.path.replace(['{', '}'], "");
        let changes = route.method != "GET";
        for (caller, headers) in &signed {
            let expected = match (*caller, route.least) {
                (_, None) => "reached",
                (As::Nobody, Some(_)) => "signed_out",
                (As::Role(role) | As::Forged(role), Some(least)) if role < least => "forbidden",
                (As::Forged(_), Some(_)) if changes => "csrf",
                (As::Token(scope), Some(_)) if route.scope != Some(scope) => "forbidden",
                _ => "reached",
            };
            let expected = if route.public { "reached" } else { expected };
            // A browser says where a socket is opened from; a program does not.
            let origin = if route.socket { "Origin: http://door\r\n" } else { "" };
            let body = if changes { "Content-Type: application/json\r\n" } else { "" };
            let request = format!(
                "{} {path} HTTP/1.1\r\nHost: door\r\nConnection: close\r\n{headers}{origin}{body}\r\n",
                route.method
            );
            let answer = stubs.send(request.as_bytes());
            let found = match answer.status {
                200 => answer.text().to_owned(),
                // Past the question of who calls: it takes bytes of another kind.
                415 => "reached".to_owned(),
                _ => answer.code(),
            };
            asked += 1;
            if found != expected {
                wrong
                    .push(format!("{} {}: {caller:?}: {found} and not {expected}", route.method, route.path));
            }
        }
    }
    (asked, wrong)
}

#[test]
fn every_route_answers_those_it_says_and_nobody_else() {
    let operations = admin::operations();
    let routes = operations.len();
    let (asked, wrong) = walk(operations);
    assert_eq!(documented().len(), routes, "docs/openapi.json is not current");
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(asked, routes * 16, "nobody, four roles with and without the token, seven scopes");
    assert!(routes >= 30, "{routes}");
}

#[test]
fn route_that_is_open_wider_than_it_says_is_noticed() {
    let mut operations = admin::operations();
    let users = operations.iter_mut().find(|operation| operation.id == "users").unwrap();
    users.access = Access::Role(Role::Viewer);
    let (_, wrong) = walk(operations);
    let found: Vec<_> = wrong.iter().map(|line| line.split(':').next().unwrap()).collect();
    assert_eq!(found, ["GET /api/users"; 4], "viewer and operator, with and without the token: {wrong:#?}");
}
