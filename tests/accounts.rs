//! The admin interface of the running program, as browsers and other programs meet it: accounts,
//! sessions, roles, tokens.

#![allow(clippy::unwrap_used, reason = "a test says what failed by panicking")]

mod program;

use program::http::{Client, PASSWORD, free_port};
use program::{Program, Running};
use serde_json::{Value, json};

/// A device with an owner, without a camera.
struct Device {
    program: Program,
    owner: Client,
    _running: Running,
}

impl Device {
    fn new() -> Self {
        let (program, running, port) = start();
        let owner = Client::at(port).owner(&program);
        Self { program, owner, _running: running }
    }

    /// Somebody who is not signed in.
    fn nobody(&self) -> Client {
        Client { cookie: None, csrf: None, ..self.owner.clone() }
    }
}

fn start() -> (Program, Running, u16) {
    let port = free_port();
    let program = Program::new()
        .with("LIMEN_HTTP__LISTEN", format!("127.0.0.1:{port}"))
        .with("LIMEN_CAMERA__SOURCE", "/dev/video-that-is-not-there");
    let running = program.start(&["run", "--json"]);
    (program, running, port)
}

fn credentials(name: &str, password: &str) -> Value {
    json!({ "name": name, "password": password })
}

#[test]
fn setup_code_from_the_log_makes_the_first_owner_once() {
    let (program, running, port) = start();
    let nobody = Client::at(port).wait();
    assert_eq!(nobody.get("/api/session").json(200)["state"], "setup");
    let given = json!({ "code": "2222-2222-2222", "name": "Ada", "password": PASSWORD });
    assert_eq!(nobody.post("/api/setup", &given).code(401), "wrong_code");
    running.signal(rustix::process::Signal::TERM);
    let (_, _, err) = running.wait(std::time::Duration::from_secs(20));
    let logged = err.split("enter the code ").nth(1).expect("the log shows the code");
    let logged: String = logged.chars().take(14).collect();

    // The code of that start is no longer good once the program has started anew.
    let running = program.start(&["run", "--json"]);
    let mut ada = Client::at(port).wait();
    let given = |code: &str| json!({ "code": code, "name": "Ada", "password": PASSWORD });
    assert_eq!(ada.post("/api/setup", &given(&logged)).code(401), "wrong_code");
    let fresh = program.json(0, &["users", "setup-code"])["code"].as_str().unwrap().to_owned();
    assert_eq!(
        ada.post("/api/setup", &json!({ "code": fresh, "name": "Ada", "password": "short" })).code(422),
        "password_length"
    );
    let session = ada.signs_in("/api/setup", &given(&fresh.to_lowercase()), 201);
    assert_eq!((&session["state"], &session["user"]["role"]), (&json!("signed_in"), &json!("owner")));
    assert_eq!(ada.get("/api/session").json(200)["user"]["name"], "Ada");
    assert_eq!(nobody.post("/api/setup", &given(&fresh)).code(409), "has_owner");
    program.ends(1, &["users", "setup-code"]).says(&["has an owner"]);
    running.signal(rustix::process::Signal::TERM);
    let (_, _, err) = running.wait(std::time::Duration::from_secs(20));
    assert!(!err.contains(PASSWORD) && !err.contains(&fresh), "{err}");
}

#[test]
fn signing_in_changes_the_session_and_signing_out_ends_it() {
    let device = Device::new();
    let mut browser = device.nobody();
    // A cookie that somebody else has put there before.
    let planted = format!("limen={}", "ab".repeat(32));
    browser.cookie = Some(planted.clone());
    let session = browser.signs_in("/api/sign-in", &credentials("OWNER", PASSWORD), 200);
    assert_eq!(session["user"]["name"], "Owner");
    assert_ne!(browser.cookie.as_ref(), Some(&planted));
    let mut victim = device.nobody();
    victim.cookie = Some(planted);
    assert_eq!(victim.get("/api/account/sessions").code(401), "signed_out");
    // Again: the session before ends, so that there is one of this browser.
    let before = browser.clone();
    browser.signs_in("/api/sign-in", &credentials("Owner", PASSWORD), 200);
    assert_ne!((&before.cookie, &before.csrf), (&browser.cookie, &browser.csrf));
    assert_eq!(before.get("/api/account/sessions").code(401), "signed_out");
    let sessions = browser.get("/api/account/sessions").json(200);
    assert_eq!(sessions["sessions"].as_array().unwrap().len(), 2, "{sessions}");
    let out = browser.post("/api/sign-out", &json!({}));
    assert_eq!(out.status, 413, "it takes nothing");
    let out = browser.send("POST", "/api/sign-out", None);
    assert_eq!(out.status, 204);
    assert!(out.header("set-cookie").unwrap().contains("Max-Age=0"), "{}", out.head);
    assert_eq!(browser.get("/api/account/sessions").code(401), "signed_out");
    assert_eq!(browser.get("/api/session").json(200)["state"], "signed_out");
}

#[test]
fn wrong_passwords_are_slowed_down_and_told_apart_from_nothing() {
    let device = Device::new();
    let nobody = device.nobody();
    let wrong = nobody.post("/api/sign-in", &credentials("Owner", "not the password")).json(401);
    let unknown = nobody.post("/api/sign-in", &credentials("Nobody", "not the password")).json(401);
    assert_eq!(wrong, unknown);
    // Each failure beyond the third doubles the wait, so that also a slow machine comes to feel it.
    let tries = (1..=12)
        .find(|_| nobody.post("/api/sign-in", &credentials("Owner", "not the password")).status == 429);
    assert!(tries.is_some_and(|tries| tries >= 3), "{tries:?}: four in all from this address are free");
    let slow = nobody.post("/api/sign-in", &credentials("Owner", PASSWORD));
    let wait = slow.header("retry-after").unwrap().to_owned();
    let body = slow.json(429);
    assert_eq!(body["error"]["code"], "slow_down");
    assert_eq!(body["error"]["retry_after_s"].to_string(), wait);
}

#[test]
fn somebody_who_asks_for_access_gets_in_when_an_admin_approves() {
    let device = Device::new();
    let mut new = device.nobody();
    let asks = json!({ "name": "Grace", "password": PASSWORD, "message": "night shift" });
    assert_eq!(new.post("/api/access-requests", &asks).status, 202);
    assert_eq!(new.post("/api/sign-in", &credentials("Grace", PASSWORD)).code(403), "not_approved");
    assert_eq!(
        new.post("/api/sign-in", &credentials("Grace", "not the password")).code(401),
        "wrong_credentials"
    );
    let requests = device.owner.get("/api/access-requests").json(200);
    let request = &requests["requests"][0];
    assert_eq!((&request["name"], &request["message"]), (&json!("Grace"), &json!("night shift")));
    let approve = format!("/api/access-requests/{}/approve", request["id"]);
    let admin = device.owner.invites("admin");
    assert_eq!(admin.post(&approve, &json!({ "role": "owner" })).code(403), "forbidden");
    let user = admin.post(&approve, &json!({ "role": "operator" })).json(201);
    assert_eq!(user["role"], "operator");
    new.signs_in("/api/sign-in", &credentials("Grace", PASSWORD), 200);
    assert_eq!(new.get("/api/users").code(403), "forbidden");
    assert_eq!(device.owner.get("/api/access-requests").json(200)["requests"], json!([]));
}

#[test]
fn nobody_rises_above_their_own_role_and_the_last_owner_stays() {
    let device = Device::new();
    let (owner, admin) = (&device.owner, device.owner.invites("admin"));
    let users = owner.get("/api/users").json(200);
    let id = |name: &str| {
        let found = users["users"].as_array().unwrap().iter().find(|user| user["name"] == name).unwrap();
        format!("/api/users/{}", found["id"])
    };
    let (first, theirs) = (id("Owner"), id("The admin"));
    assert_eq!(admin.patch(&theirs, &json!({ "role": "owner" })).code(403), "forbidden");
    assert_eq!(admin.patch(&first, &json!({ "disabled": true })).code(403), "forbidden");
    assert_eq!(admin.delete(&first).code(403), "forbidden");
    let invited = admin.post("/api/invitations", &json!({ "role": "owner", "expires_in_hours": 1 }));
    assert_eq!(invited.code(403), "forbidden");
    for change in [json!({ "role": "admin" }), json!({ "disabled": true })] {
        assert_eq!(owner.patch(&first, &change).code(409), "last_owner");
    }
    assert_eq!(owner.delete(&first).code(409), "last_owner");
    // With a second owner the first may go, and with them their sessions.
    assert_eq!(owner.patch(&theirs, &json!({ "role": "owner" })).json(200)["role"], "owner");
    assert_eq!(admin.delete(&first).status, 204);
    assert_eq!(owner.get("/api/users").code(401), "signed_out");
}

#[test]
fn disabled_user_is_out_at_once_and_says_why_when_signing_in() {
    let device = Device::new();
    let viewer = device.owner.invites("viewer");
    let users = device.owner.get("/api/users").json(200);
    let user = users["users"].as_array().unwrap().iter().find(|user| user["name"] == "The viewer").unwrap();
    let path = format!("/api/users/{}", user["id"]);
    device.owner.patch(&path, &json!({ "disabled": true })).json(200);
    assert_eq!(viewer.get("/api/account/sessions").code(401), "signed_out");
    let nobody = device.nobody();
    assert_eq!(nobody.post("/api/sign-in", &credentials("The viewer", PASSWORD)).code(403), "disabled");
}

#[test]
fn changed_password_ends_the_other_sessions() {
    let device = Device::new();
    let (mut first, mut second) = (device.nobody(), device.nobody());
    first.signs_in("/api/sign-in", &credentials("Owner", PASSWORD), 200);
    second.signs_in("/api/sign-in", &credentials("Owner", PASSWORD), 200);
    let change = |current: &str, new: &str| json!({ "current": current, "new": new });
    let path = "/api/account/password";
    assert_eq!(first.post(path, &change("not this one", "another one 22")).code(422), "wrong_password");
    assert_eq!(first.post(path, &change(PASSWORD, "short")).code(422), "password_length");
    assert_eq!(first.post(path, &change(PASSWORD, "another one 22")).status, 204);
    assert_eq!(first.get("/api/account/sessions").json(200)["sessions"].as_array().unwrap().len(), 1);
    assert_eq!(second.get("/api/account/sessions").code(401), "signed_out");
    assert_eq!(device.owner.get("/api/account/sessions").code(401), "signed_out");
    assert_eq!(second.post("/api/sign-in", &credentials("Owner", PASSWORD)).code(401), "wrong_credentials");
}

#[test]
fn invitation_works_once_and_not_after_it_is_withdrawn() {
    let device = Device::new();
    let owner = &device.owner;
    let make =
        || owner.post("/api/invitations", &json!({ "role": "viewer", "expires_in_hours": 1 })).json(201);
    let accept = |made: &Value, name: &str| {
        let given = json!({ "token": made["token"], "name": name, "password": PASSWORD });
        device.nobody().post("/api/invitations/accept", &given)
    };
    let made = make();
    assert_eq!(made["path"], format!("/invitation#{}", made["token"].as_str().unwrap()));
    assert_eq!(accept(&made, "owner").code(409), "name_taken");
    assert_eq!(accept(&made, "Grace").status, 201);
    assert_eq!(accept(&made, "Grace the second").code(404), "not_found");
    let made = make();
    assert_eq!(owner.delete(&format!("/api/invitations/{}", made["id"])).status, 204);
    assert_eq!(accept(&made, "Late").code(404), "not_found");
    assert_eq!(owner.get("/api/invitations").json(200)["invitations"], json!([]));
}

#[test]
fn changes_need_the_token_of_the_session_and_the_page_of_this_device() {
    let device = Device::new();
    let path = "/api/tokens";
    let given = json!({ "name": "t", "scopes": ["metrics"], "expires_in_days": 1 });
    let with = |headers: &[(&str, &str)], csrf: Option<String>| {
        let mut client = Client { csrf, ..device.owner.clone() };
        client.headers = headers.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        client.post(path, &given)
    };
    let csrf = device.owner.csrf.clone();
    assert_eq!(with(&[], None).code(403), "csrf");
    assert_eq!(with(&[], Some("0".repeat(64))).code(403), "csrf");
    for headers in [
        [("Origin", "https://evil.example")],
        [("Origin", "null")],
        [("Sec-Fetch-Site", "cross-site")],
        [("Sec-Fetch-Site", "same-site")],
    ] {
        assert_eq!(with(&headers, csrf.clone()).code(403), "csrf", "{headers:?}");
    }
    assert_eq!(with(&[("Sec-Fetch-Site", "same-origin")], csrf).status, 201);
    // Signing somebody else's browser in is a forgery too.
    let mut browser = device.nobody();
    browser.headers = vec![("Origin".to_owned(), "https://evil.example".to_owned())];
    assert_eq!(browser.post("/api/sign-in", &credentials("Owner", PASSWORD)).code(403), "csrf");
    browser.headers.clear();
    assert_eq!(browser.post("/api/sign-in", &credentials("Owner", PASSWORD)).status, 200);
}

#[test]
fn audit_log_says_who_did_what_and_holds_no_secret() {
    let device = Device::new();
    let admin = device.owner.invites("admin");
    admin.gives_token(&["metrics"]);
    let nobody = device.nobody();
    nobody.post("/api/sign-in", &credentials("The admin", "not the password")).code(401);
    nobody.post("/api/sign-in", &credentials("my password by mistake", "x")).code(401);
    // Strangers who are turned away leave no trace that could fill the disk.
    nobody.delete("/api/users/1").code(401);
    let audit = device.owner.get("/api/audit?limit=200").json(200);
    let entries: Vec<_> = audit["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| {
            (
                e["who"].as_str().unwrap_or("-").to_owned(),
                e["what"].as_str().unwrap().to_owned(),
                e["outcome"].as_u64().unwrap(),
            )
        })
        .collect();
    let entry = |who: &str, what: &str, outcome| (who.to_owned(), what.to_owned(), outcome);
    assert_eq!(
        entries,
        [
            entry("-", "sign_in", 401),
            entry("The admin", "sign_in", 401),
            entry("The admin", "make_token", 201),
            entry("The admin", "accept_invitation", 201),
            entry("Owner", "invite", 201),
            entry("Owner", "set_up", 201),
            entry("command line", "users_setup_code", 200),
        ]
    );
    let text = audit.to_string();
    assert!(!text.contains(PASSWORD) && !text.contains("by mistake"), "{text}");
    let page = device.owner.get("/api/audit?limit=3").json(200);
    let next = page["next"].as_str().unwrap();
    let rest = device.owner.get(&format!("/api/audit?limit=200&after={next}")).json(200);
    assert_eq!((rest["entries"].as_array().unwrap().len(), &rest["next"]), (4, &Value::Null));
    let verified = device.owner.get("/api/audit/verify").json(200);
    assert_eq!((&verified["entries"], &verified["fault"]), (&json!(7), &Value::Null));
    assert_eq!(verified["head"].as_str().unwrap().len(), 64);
    assert_eq!(device.owner.get("/api/audit?after=x").code(400), "invalid");
    assert_eq!(device.owner.get("/api/audit?limit=0").code(400), "invalid");
}

#[test]
fn token_does_what_its_scopes_say_and_ends_with_its_maker() {
    let device = Device::new();
    let admin = device.owner.invites("admin");
    let token = admin.gives_token(&["metrics"]);
    assert_eq!(token.get("/metrics").status, 200);
    assert_eq!(token.get("/api/users").code(403), "forbidden");
    let listed = device.owner.get("/api/tokens").json(200);
    assert_eq!(listed["tokens"][0]["made_by"], "The admin");
    assert!(listed["tokens"][0].get("token").is_none());
    let users = device.owner.get("/api/users").json(200);
    let user = users["users"].as_array().unwrap().iter().find(|user| user["name"] == "The admin").unwrap();
    device.owner.patch(&format!("/api/users/{}", user["id"]), &json!({ "role": "viewer" })).json(200);
    assert_eq!(token.get("/metrics").code(401), "wrong_token");
}

#[test]
fn command_line_brings_back_an_owner_who_forgot_the_password() {
    let device = Device::new();
    let list = device.program.json(0, &["users", "list"]);
    assert_eq!(list["users"][0]["name"], "Owner");
    let reset = device.program.json(0, &["users", "reset-password", "owner"]);
    let password = reset["password"].as_str().unwrap();
    device.nobody().signs_in("/api/sign-in", &credentials("Owner", password), 200);
    let invited = device.program.json(0, &["users", "invite", "--role", "viewer"]);
    let token = invited["address"].as_str().unwrap().split('#').nth(1).unwrap();
    let mut new = device.nobody();
    let given = json!({ "token": token, "name": "Grace", "password": PASSWORD });
    new.signs_in("/api/invitations/accept", &given, 201);
    device.program.ends(2, &["users", "remove", "Grace"]).says(&["--yes"]);
    device.program.ends(0, &["users", "remove", "--yes", "Grace"]);
    device.program.ends(1, &["users", "remove", "--yes", "Owner"]).says(&["last owner"]);
    device.program.ends(1, &["users", "reset-password", "Grace"]).says(&["no such user"]);
    // The daemon looks every two seconds.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while new.get("/api/account/sessions").status != 401 {
        assert!(std::time::Instant::now() < deadline, "the removed user is still signed in");
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
}
