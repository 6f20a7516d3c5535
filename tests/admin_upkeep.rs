//! What keeps a gallery right over time, through the running daemon: wrong recognitions that are told and
//! taken back, templates after a change of the network, and answers that need not be sent again.

#![allow(clippy::unwrap_used, reason = "a test says what failed by panicking")]

mod program;

use std::sync::Arc;
use std::time::{Duration, Instant};

use limen::clock::SystemClock;
use limen::decode::still;
use limen::embedding::{Embedding, EmbeddingSpaceId};
use limen::gallery::{
    Enrolment, EnrolmentTarget, GalleryStore, NewSample, SampleOrigin, SamplePicture, SampleQuality,
    SubjectName,
};
use limen::score::QualityScore;
use limen::vault::{RootKey, StateFolder};
use program::http::{Client, free_port};
use program::{Program, Running, portrait};
use serde_json::{Value, json};

/// Whatever is waited for comes long before, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two looks at something that changes by itself.
const GLANCE: Duration = Duration::from_millis(50);

/// A device that is not yet running.
fn device(settings: &str) -> (Program, u16) {
    let (program, port) = (Program::new(), free_port());
    let text = format!("{settings}\n[http]\nlisten = \"127.0.0.1:{port}\"\n[mqtt]\nhost = \"\"\n");
    std::fs::write(program.path("limen.toml"), text).unwrap();
    (program, port)
}

/// It runs on the built-in scene, and has an owner.
fn start(program: &Program, port: u16) -> (Running, Client) {
    let running = program.start(&["--json", "run", "--source", "scene"]);
    (running, Client::at(port).wait().owner(program))
}

/// Asks until the answer is as wanted.
#[track_caller]
fn until(client: &Client, path: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let found = client.get(path).json(200);
        if wanted(&found) {
            return found;
        }
        assert!(Instant::now() < deadline, "{path}: {found:#}");
        std::thread::sleep(GLANCE);
    }
}

/// The first event that a filter lets through, once there is one.
#[track_caller]
fn event(client: &Client, filter: &str) -> Value {
    until(client, &format!("/api/events?{filter}"), |found| found["events"][0].is_object())["events"][0]
        .clone()
}

/// Just after the newest event there is.
#[track_caller]
fn from_now(client: &Client) -> i64 {
    client.get("/api/events?limit=1").json(200)["events"][0]["captured_at"].as_i64().unwrap() + 1
}

#[test]
fn wrong_recognition_is_told_counts_at_once_and_is_taken_back() {
    let (program, port) = device("[events]\nkeep_crops = true\n");
    // One who passes by, under the name of another.
    program.ends(0, &["enrol", "Somebody Else", &portrait("barack_obama_1")]);
    let (_running, owner) = start(&program, port);
    let wrong = event(&owner, "kind=identified");
    assert!(wrong["picture"].is_string(), "{wrong}");
    let subject = wrong["subject"].as_str().unwrap().to_owned();
    let not = |event: &Value| {
        owner.send("POST", &format!("/api/events/{}/not", event["id"].as_str().unwrap()), None)
    };
    let counted =
        || owner.get(&format!("/api/subjects/{subject}")).json(200)["counter_examples"].as_u64().unwrap();
    assert_eq!(counted(), 0);
    let from = from_now(&owner);
    assert_eq!(not(&wrong).json(200), json!({ "counter_examples": 1 }));
    assert_eq!(counted(), 1);
    // From now on they are nobody, and the events say why.
    let unknown = event(&owner, &format!("kind=unknown&reason=ruled_out&from={from}"));
    assert!(unknown["name"].is_null(), "{unknown}");

    // What names nobody cannot be wrong about somebody; what is not kept cannot be looked at.
    assert_eq!(not(&unknown).code(409), "not_identified");
    assert_eq!(not(&json!({ "id": "00000000-0000-7000-8000-000000000000" })).code(404), "not_found");
    let viewer = owner.invites("viewer");
    let path = format!("/api/events/{}/not", wrong["id"].as_str().unwrap());
    assert_eq!(viewer.send("POST", &path, None).code(403), "forbidden");
    assert_eq!(not(&wrong).json(200), json!({ "counter_examples": 2 }));

    // Taken back, the last first: then they are who they were taken for.
    let examples = format!("/api/subjects/{subject}/counter-examples");
    assert_eq!(viewer.delete(&examples).code(403), "forbidden");
    assert_eq!(owner.delete(&format!("{examples}?which=some")).status, 400);
    assert_eq!(owner.delete(&format!("{examples}?which=last")).json(200)["removed"], 1);
    assert_eq!(counted(), 1);
    let back = owner.delete(&examples).json(200);
    assert_eq!((&back["removed"], &back["log_emptied"]), (&json!(1), &json!(true)));
    let change = json!({ "changes": { "events.keep_crops": false } });
    owner.patch("/api/settings", &change).json(200);
    let from = from_now(&owner);
    let again = event(&owner, &format!("kind=identified&from={from}"));
    assert_eq!(again["name"], "Somebody Else");
    assert_eq!(counted(), 0);
    // Without a picture there is nothing to remember.
    assert!(again["picture"].is_null(), "{again}");
    assert_eq!(not(&again).code(409), "no_picture");
    owner.delete(&format!("/api/subjects/{subject}")).json(200);
    assert_eq!(not(&wrong).code(409), "subject_gone");
    assert_eq!(owner.delete(&examples).code(404), "not_found");
}

#[test]
fn who_has_an_answer_is_told_so_behind_the_access_check() {
    let (program, port) = device("[events]\nkeep_crops = true\n[sightings]\nkeep = true\n");
    program.ends(0, &["enrol", "Barack Obama", &portrait("barack_obama_1")]);
    let (_running, owner) = start(&program, port);
    owner.post("/api/groups", &json!({ "name": "Family" })).json(201);
    let seen = event(&owner, "kind=identified");
    let subject = seen["subject"].as_str().unwrap();
    let sample =
        owner.get(&format!("/api/subjects/{subject}")).json(200)["picture"].as_str().unwrap().to_owned();
    let group = until(&owner, "/api/sightings", |found| found["groups"][0].is_object());
    let at = seen["captured_at"].as_i64().unwrap();
    let viewer = owner.invites("viewer");
    let mut gone = Client::at(port);
    for (path, least) in [
        ("/api/subjects".to_owned(), &viewer),
        (format!("/api/subjects/{subject}"), &viewer),
        ("/api/groups".to_owned(), &viewer),
        (format!("/api/events?from={at}&to={}", at + 1), &viewer),
        (seen["picture"].as_str().unwrap().to_owned(), &viewer),
        (sample, &viewer),
        ("/api/sightings?ignored=true".to_owned(), &owner),
    ] {
        let first = owner.get(&path);
        assert_eq!(first.status, 200, "{path}");
        assert!(!first.body.is_empty());
        assert_eq!(first.header("cache-control"), Some("private, no-cache"), "{path}");
        let tag = first.header("etag").unwrap().to_owned();
        let knowing = |who: &Client, tag: &str| {
            let mut who = who.clone();
            who.headers.push(("If-None-Match".into(), tag.to_owned()));
            who.get(&path)
        };
        for who in [&owner, least] {
            let unchanged = knowing(who, &tag);
            assert_eq!((unchanged.status, unchanged.body.len()), (304, 0), "{path}");
            assert_eq!(unchanged.header("etag"), Some(tag.as_str()));
        }
        assert_eq!(knowing(&owner, "\"another\"").body, first.body, "{path}");
        // The tag opens nothing.
        assert_eq!(knowing(&gone, &tag).code(401), "signed_out", "{path}");
        if std::ptr::eq(least, &owner) {
            assert_eq!(knowing(&viewer, &tag).code(403), "forbidden", "{path}");
        }
    }
    // A better picture of a group may come at any time; in between the one there is need not be sent twice.
    let path = group["groups"][0]["picture"].as_str().unwrap();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut knowing = owner.clone();
        knowing.headers.push(("If-None-Match".into(), owner.get(path).header("etag").unwrap().to_owned()));
        if knowing.get(path).status == 304 {
            break;
        }
        assert!(Instant::now() < deadline, "{path} is sent each time");
    }
    // What changes is sent again.
    let tag = owner.get("/api/subjects").header("etag").unwrap().to_owned();
    owner.patch(&format!("/api/subjects/{subject}"), &json!({ "notes": "by the door" })).json(200);
    let mut knowing = owner.clone();
    knowing.headers.push(("If-None-Match".into(), tag.clone()));
    let changed = knowing.get("/api/subjects");
    assert_eq!(
        (changed.status, changed.json(200)["subjects"][0]["notes"].as_str()),
        (200, Some("by the door"))
    );
    assert_ne!(owner.get("/api/subjects").header("etag"), Some(tag.as_str()));
    // Signed out, what was kept cannot be confirmed any more.
    let tag = owner.get("/api/subjects").header("etag").unwrap().to_owned();
    assert_eq!(owner.send("POST", "/api/sign-out", None).status, 204);
    gone = owner.clone();
    gone.headers.push(("If-None-Match".into(), tag));
    assert_eq!(gone.get("/api/subjects").code(401), "signed_out");
}

/// Enrols as an older program did: with a network that is there no more.
fn enrol_before(program: &Program, people: &[(&str, &str, bool)]) {
    let state = StateFolder::open_or_create(&program.state()).unwrap();
    let (key, _) = RootKey::load(&state, None).unwrap();
    let mut store = GalleryStore::open(&state, &key, Arc::new(SystemClock)).unwrap();
    for (number, (name, of, keep)) in people.iter().enumerate() {
        let picture = still(&std::fs::read(portrait(of)).unwrap()).unwrap();
        let sample = NewSample {
            origin: SampleOrigin::File,
            quality: SampleQuality::unmeasured(QualityScore::new(0.9)),
            embedding: Embedding::normalised(vec![1.0, number as f32], EmbeddingSpaceId::new("before/1"))
                .unwrap(),
            picture: keep.then(|| SamplePicture::encode(&picture).unwrap()),
        };
        let subject = EnrolmentTarget::New(SubjectName::new(name).unwrap());
        store.enrol(&Enrolment { subject, samples: vec![sample] }).unwrap();
    }
}

#[test]
fn templates_of_another_network_are_told_and_made_anew_of_kept_pictures() {
    let (program, port) = device("");
    enrol_before(
        &program,
        &[("Barack Obama", "barack_obama_1", true), ("Eileen Collins", "eileen_collins_1", false)],
    );
    let (_running, owner) = start(&program, port);
    let gallery = || owner.get("/api/device").json(200)["gallery"].clone();
    let stale = |samples: u64, renewable: u64, subjects: u64| json!({ "samples": samples, "renewable": renewable, "subjects": subjects });
    let probe =
        owner.upload("/api/pictures", "image/jpeg", &std::fs::read(portrait("barack_obama_2")).unwrap());
    let probe = json!({ "picture": probe.json(201)["id"], "face": 0 });
    let who = || owner.post("/api/identify", &probe).json(200)["decision"].clone();

    // It began by itself.
    let ended = until(&owner, "/api/jobs", |list| {
        let state = list["jobs"][0]["state"].as_str();
        state.is_some_and(|state| ["done", "cancelled", "failed"].contains(&state))
    });
    let ended = ended["jobs"][0].clone();
    assert_eq!((&ended["kind"], &ended["by"]), (&json!("reembed"), &json!("the start")));
    assert_eq!((&ended["state"], &ended["done"], &ended["total"]), (&json!("done"), &json!(2), &json!(2)));
    assert_eq!(ended["result"]["templates"], 1, "{ended}");
    assert_eq!(ended["result"]["failed"], json!([]));
    let left = ended["result"]["without_picture"].as_array().unwrap();
    assert_eq!(left.len(), 1, "{ended}");
    assert_eq!((&left[0]["name"], &left[0]["samples"]), (&json!("Eileen Collins"), &json!(1)));

    // Recognised again, from a picture and before the camera, without a restart.
    assert_eq!(who(), "match");
    assert_eq!(event(&owner, "kind=identified")["name"], "Barack Obama");
    assert_eq!(gallery(), json!({ "subjects": 1, "templates": 1, "expired": 0, "stale": stale(1, 0, 1) }));
    // The old template is still there, for going back to that network.
    assert_eq!(program.enrolled(), [("Barack Obama".to_owned(), 2), ("Eileen Collins".to_owned(), 1)]);
    // There is nothing to do a second time.
    let job = owner.send("POST", "/api/jobs/reembed", None).json(202);
    let ended = until(&owner, &format!("/api/jobs/{}", job["id"]), |job| job["state"] == "done");
    assert_eq!(ended["result"]["templates"], 0, "{ended}");

    // Whoever has expired is counted as such.
    let path = format!(
        "/api/subjects/{}",
        owner.get("/api/subjects?search=barack").json(200)["subjects"][0]["id"].as_str().unwrap()
    );
    for never in [-1, 253_402_300_800_000_i64, i64::MAX] {
        assert_eq!(owner.patch(&path, &json!({ "expires_at": never })).code(422), "expires_at");
    }
    owner.patch(&path, &json!({ "expires_at": 1 })).json(200);
    let gallery = gallery();
    assert_eq!((&gallery["subjects"], &gallery["expired"]), (&json!(0), &json!(1)), "{gallery}");
}

#[test]
fn switching_pictures_off_erases_those_there_are_and_the_page_tells() {
    let (program, port) = device("[privacy]\nresponsible = \"The <house>\"\n");
    program.ends(0, &["enrol", "Joe", &portrait("barack_obama_1"), &portrait("barack_obama_2")]);
    let (_running, owner) = start(&program, port);
    let media = program.state().join("media");
    assert_eq!(std::fs::read_dir(&media).unwrap().count(), 2);
    let class = |view: &Value, class: &str| {
        view["kept"].as_array().unwrap().iter().find(|each| each["class"] == class).unwrap().clone()
    };
    let view = owner.get("/api/privacy").json(200);
    assert_eq!(class(&view, "pictures")["count"], 2);
    assert_eq!(
        (&class(&view, "subjects")["hours"], &class(&view, "audit")["on"]),
        (&json!(365 * 24), &json!(true))
    );
    assert_eq!(view["missing"], json!(["privacy.contact", "privacy.purpose", "privacy.alternative"]));
    let subject = owner.get("/api/subjects").json(200)["subjects"][0]["id"].as_str().unwrap().to_owned();
    let export = owner.get(&format!("/api/subjects/{subject}/export"));
    assert_eq!(export.header("content-type"), Some("application/zip"));
    let mut zip = zip::ZipArchive::new(std::io::Cursor::new(export.body.clone())).unwrap();
    let names: Vec<String> = zip.file_names().map(|name| name.unwrap().into_owned()).collect();
    assert_eq!(names.iter().filter(|name| name.starts_with("pictures/")).count(), 2);
    assert!(std::io::read_to_string(zip.by_name("data.json").unwrap()).unwrap().contains("Joe"));
    owner.get("/api/subjects/00000000000000000000000000000000/export").json(404);

    owner.patch("/api/settings", &json!({ "changes": { "enrolment.keep_pictures": false } })).json(200);
    let view = until(&owner, "/api/privacy", |view| class(view, "pictures")["count"] == 0);
    assert_eq!(
        (&class(&view, "pictures")["erased"], &class(&view, "pictures")["on"]),
        (&json!(2), &json!(false))
    );
    assert_eq!(std::fs::read_dir(&media).unwrap().count(), 0);
    // They are recognised as before.
    assert_eq!(owner.get("/api/device").json(200)["gallery"]["templates"], 2);
    let sheet = owner.get("/api/privacy/sheet?language=de");
    let text = String::from_utf8(sheet.body.clone()).unwrap();
    assert!(text.contains("The &lt;house&gt;") && text.contains("nur Vorlagen"), "{text}");
    assert!(sheet.header("content-security-policy").unwrap().contains("default-src 'none'"));
    let written = program.json(0, &["privacy", "notice", "--to", &program.path("notice.html")]);
    assert_eq!(written["missing"].as_array().unwrap().len(), 3);
    assert!(
        std::fs::read_to_string(program.path("notice.html")).unwrap().contains("Faces are recognised here")
    );
}

/// A copy of the models under another name of their space: networks whose templates cannot be compared.
fn other_networks(program: &Program) -> std::path::PathBuf {
    let folder = std::path::PathBuf::from(program.path("other-models"));
    std::fs::create_dir(&folder).unwrap();
    for entry in std::fs::read_dir(program::models_folder()).unwrap() {
        let entry = entry.unwrap();
        if entry.path().is_file() {
            std::fs::copy(entry.path(), folder.join(entry.file_name())).unwrap();
        }
    }
    let manifest = folder.join("manifest.toml");
    let text = std::fs::read_to_string(&manifest).unwrap();
    let line = text.lines().find(|line| line.starts_with("embedding_space")).unwrap();
    std::fs::write(&manifest, text.replace(line, "embedding_space = \"another/1\"")).unwrap();
    folder
}

#[test]
fn networks_of_before_recognise_until_those_of_an_update_have_their_templates() {
    let (program, port) = device("");
    program.ends(
        0,
        &[
            "enrol",
            "Barack Obama",
            &portrait("barack_obama_1"),
            &portrait("barack_obama_2"),
            &portrait("barack_obama_3"),
        ],
    );
    let space = |owner: &Client| owner.get("/api/device").json(200)["models"]["embedding_space"].clone();
    let (running, owner) = start(&program, port);
    let before = space(&owner);
    running.signal(rustix::process::Signal::TERM);
    running.wait(PATIENCE);
    assert!(program.state().join("networks/manifest.toml").is_file());

    let other = other_networks(&program);
    let program = program.with("LIMEN_MODELS__FOLDER", other);
    let running = program.start(&["--json", "run", "--source", "scene"]);
    // Sessions outlive a start.
    let owner = owner.wait();
    // Whoever was enrolled is known from the first moment on, by the one or the other.
    let mut spaces = Vec::new();
    let deadline = Instant::now() + PATIENCE;
    while spaces.last() != Some(&json!("another/1")) {
        assert!(Instant::now() < deadline, "{spaces:?}");
        // While it starts anew nobody answers.
        if let Some(answer) = owner.get_if_there("/api/device")
            && answer.status == 200
        {
            let device = answer.json(200);
            assert_eq!(device["gallery"]["subjects"], 1, "{device}");
            let now = device["models"]["embedding_space"].clone();
            if spaces.last() != Some(&now) {
                spaces.push(now);
            }
        }
        std::thread::sleep(GLANCE);
    }
    assert_eq!(spaces, [before, json!("another/1")]);
    assert_eq!(event(&owner, "kind=identified")["name"], "Barack Obama");
    // Templates of both, for going back.
    assert_eq!(program.enrolled(), [("Barack Obama".to_owned(), 6)]);
    drop(running);
}
