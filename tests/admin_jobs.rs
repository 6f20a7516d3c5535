//! Imports and unknown faces through the running daemon: over its web server, as the admin page does it.

#![allow(clippy::unwrap_used, reason = "a test says what failed by panicking")]

mod program;

use std::io::{Cursor, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use program::http::{Answer, Client, free_port};
use program::{Program, Running, portrait};
use serde_json::{Value, json};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

/// Loading networks and examining some pictures, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two looks at something that changes by itself.
const GLANCE: Duration = Duration::from_millis(50);

/// A daemon on the built-in scene, and its first owner.
fn device(settings: &str) -> (Program, Running, Client) {
    let port = free_port();
    let program = Program::new();
    let text = format!("{settings}\n[http]\nlisten = \"127.0.0.1:{port}\"\n[mqtt]\nhost = \"\"\n");
    std::fs::write(program.path("limen.toml"), text).unwrap();
    let running = program.start(&["--json", "run", "--source", "scene"]);
    let owner = Client::at(port).wait().owner(&program);
    (program, running, owner)
}

fn picture(name: &str) -> Vec<u8> {
    std::fs::read(portrait(name)).unwrap()
}

fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (path, bytes) in files {
        writer.start_file(*path, SimpleFileOptions::default()).unwrap();
        writer.write_all(bytes).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

/// A picture without anybody, large enough for a face.
fn nobody() -> Vec<u8> {
    limen::frame::RgbImage::black(320, 320).to_jpeg(80).unwrap()
}

#[track_caller]
fn import(client: &Client, bytes: &[u8]) -> u64 {
    let job = client.upload("/api/imports", "application/zip", bytes).json(202);
    assert_eq!(job["kind"], "import");
    job["id"].as_u64().unwrap()
}

/// Waits until a job is as it should be.
#[track_caller]
fn until(client: &Client, id: u64, is: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let job = client.get(&format!("/api/jobs/{id}")).json(200);
        if is(&job) {
            return job;
        }
        assert!(Instant::now() < deadline, "{job}");
        std::thread::sleep(GLANCE);
    }
}

fn has_ended(job: &Value) -> bool {
    ["done", "cancelled", "failed"].contains(&job["state"].as_str().unwrap())
}

/// Path, outcome and code of every file.
#[track_caller]
fn report(client: &Client, id: u64) -> Vec<(String, String, String)> {
    let (mut entries, mut after) = (Vec::new(), String::new());
    loop {
        let page = client.get(&format!("/api/jobs/{id}/report?limit=3{after}")).json(200);
        for entry in page["entries"].as_array().unwrap() {
            let text = |key: &str| entry[key].as_str().unwrap().to_owned();
            entries.push((text("path"), text("outcome"), text("code")));
        }
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
    }
    entries.sort();
    entries
}

fn entry(path: &str, outcome: &str, code: &str) -> (String, String, String) {
    (path.to_owned(), outcome.to_owned(), code.to_owned())
}

#[test]
fn archive_becomes_subjects_and_every_file_is_reported() {
    let (program, _running, owner) = device("");
    let [obama, obama_2, collins, hopper] =
        ["barack_obama_1", "barack_obama_2", "eileen_collins_1", "grace_hopper_1"].map(picture);
    let nobody = nobody();
    let bytes = archive(&[
        ("people/Barack Obama/1.jpg", &obama),
        ("people/Barack Obama/2.jpg", &obama_2),
        ("people/Barack Obama/again.jpg", &obama),
        ("Grace Hopper/1.jpg", &hopper),
        ("Eileen Collins/1.jpg", &collins),
        ("Eileen Collins/not her.jpg", &obama),
        ("Eileen Collins/notes.txt", b"met in 1998"),
        ("Eileen Collins/cut.jpg", &collins[..collins.len() / 2]),
        ("Nobody/1.jpg", &nobody),
        ("loose.jpg", &obama),
        ("__MACOSX/Barack Obama/._1.jpg", b"litter"),
    ]);
    let id = import(&owner, &bytes);
    let job = until(&owner, id, has_ended);
    assert_eq!(
        (&job["state"], &job["done"], &job["total"]),
        (&"done".into(), &10.into(), &10.into()),
        "{job}"
    );
    assert_eq!(job["by"], "Owner");
    let result = &job["result"];
    assert_eq!((&result["subjects_created"], &result["duplicates"]), (&2.into(), &1.into()), "{job}");
    let entries = report(&owner, id);
    let fixed: Vec<_> = entries.iter().filter(|(path, ..)| !path.starts_with("Eileen")).cloned().collect();
    assert_eq!(
        fixed,
        [
            entry("Grace Hopper/1.jpg", "enrolled", "enrolled"),
            entry("Nobody/1.jpg", "refused", "no_face"),
            entry("loose.jpg", "refused", "no_folder"),
            entry("people/Barack Obama/1.jpg", "enrolled", "enrolled"),
            entry("people/Barack Obama/2.jpg", "enrolled", "enrolled"),
            entry("people/Barack Obama/again.jpg", "duplicate", "duplicate"),
        ]
    );
    assert!(entries.contains(&entry("Eileen Collins/cut.jpg", "refused", "cut_off")), "{entries:?}");
    assert!(entries.contains(&entry("Eileen Collins/notes.txt", "refused", "not_a_picture")), "{entries:?}");
    let enrolled: std::collections::BTreeMap<_, _> = program.enrolled().into_iter().collect();
    assert_eq!(enrolled.get("Barack Obama"), Some(&2), "{enrolled:?}");
    assert!(!enrolled.contains_key("Nobody"));
    // One against one: nobody can tell which of the two she is.
    for path in ["Eileen Collins/1.jpg", "Eileen Collins/not her.jpg"] {
        assert!(entries.contains(&entry(path, "refused", "different_people")), "{entries:?}");
    }
    assert!(!enrolled.contains_key("Eileen Collins"));

    // The same again adds nothing.
    let id = import(&owner, &archive(&[("Barack Obama/1.jpg", &obama)]));
    until(&owner, id, has_ended);
    assert_eq!(report(&owner, id), [entry("Barack Obama/1.jpg", "duplicate", "duplicate")]);
    let jobs = owner.get("/api/jobs").json(200);
    assert_eq!(jobs["jobs"].as_array().unwrap().len(), 2);
}

#[test]
fn what_is_no_archive_is_refused_at_once() {
    let (_program, _running, owner) = device("[enrolment]\nmaximum_import_mb = 1\n");
    let refused = |bytes: &[u8]| owner.upload("/api/imports", "application/zip", bytes);
    assert_eq!(refused(b"PK\x03\x04 but nothing else").code(422), "not_an_archive");
    assert_eq!(refused(b"").code(422), "not_an_archive");
    assert_eq!(refused(&vec![0; (1 << 20) + 1]).code(413), "too_large");
    let other = owner.upload("/api/imports", "image/jpeg", b"x");
    assert_eq!(other.code(415), "media_type");
    assert_eq!(owner.get("/api/jobs").json(200)["jobs"], json!([]));
    let viewer = owner.invites("viewer");
    assert_eq!(viewer.upload("/api/imports", "application/zip", b"x").code(403), "forbidden");
    assert_eq!(owner.get("/api/jobs/7").code(404), "not_found");
    assert_eq!(owner.post("/api/jobs/7/cancel", &json!({})).status, 413, "it takes no body");
}

/// The first half of an upload, and the stream that the rest goes into.
fn half(client: &Client, bytes: &[u8]) -> TcpStream {
    let mut stream = client.connect();
    let head = client.head("POST", "/api/imports", Some(("application/zip", bytes.len())));
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&bytes[..bytes.len() / 2]).unwrap();
    stream
}

#[track_caller]
fn rest(mut stream: TcpStream, bytes: &[u8]) -> Answer {
    stream.write_all(&bytes[bytes.len() / 2..]).unwrap();
    Answer::read(stream)
}

/// Waits until no further upload has a place.
#[track_caller]
fn places_are_taken(client: &Client) {
    let deadline = Instant::now() + PATIENCE;
    while client.upload("/api/imports", "application/zip", b"no archive").status != 503 {
        assert!(Instant::now() < deadline, "there is always another place");
        std::thread::sleep(GLANCE);
    }
}

#[test]
fn two_uploads_have_a_place_and_whoever_is_disabled_meanwhile_enrols_nobody() {
    let (program, _running, owner) = device("");
    let operator = owner.invites("operator");
    let users = owner.get("/api/users").json(200);
    let theirs = |user: &&Value| user["name"] == "The operator";
    let id = users["users"].as_array().unwrap().iter().find(theirs).unwrap()["id"].clone();
    let obama = picture("barack_obama_1");
    let bytes = archive(&[("Barack Obama/1.jpg", &obama)]);
    let (one, other) = (half(&operator, &bytes), half(&owner, &bytes));
    places_are_taken(&owner);
    owner.patch(&format!("/api/users/{id}"), &json!({ "disabled": true })).json(200);
    assert_eq!(rest(one, &bytes).code(403), "forbidden");
    assert_eq!(owner.get("/api/jobs").json(200)["jobs"], json!([]));
    assert!(program.enrolled().is_empty());
    let job = rest(other, &bytes).json(202);
    until(&owner, job["id"].as_u64().unwrap(), |job| job["state"] == "done");
    assert_eq!(program.enrolled().len(), 1);
}

#[test]
fn limits_are_told_and_what_is_beyond_them_is_refused_before_it_is_sent() {
    let (_program, _running, owner) = device("[enrolment]\nmaximum_import_mb = 3\n");
    let limits = owner.get("/api/imports/limits").json(200);
    assert_eq!(limits, json!({ "archive_bytes": 3 << 20, "entries": 20_000 }));
    assert_eq!(owner.invites("viewer").get("/api/imports/limits").code(403), "forbidden");
    let mut stream = owner.connect();
    let head = owner.head("POST", "/api/imports", Some(("application/zip", 40 << 20)));
    stream.write_all(head.as_bytes()).unwrap();
    // Not a byte of it was sent. Then all of it is, and the answer is still there to be read.
    let mut start = [0; 12];
    stream.read_exact(&mut start).unwrap();
    assert_eq!(&start, b"HTTP/1.1 413");
    stream.write_all(&vec![7; 40 << 20]).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("too_large") && answer.contains("3145728"), "{answer}");
}

#[test]
fn cancelled_import_leaves_whole_subjects_only() {
    let (program, _running, owner) = device("");
    let (one, two) = (picture("barack_obama_1"), picture("barack_obama_2"));
    let names: Vec<_> =
        (0..40).map(|number| (format!("P{number:02}/1.jpg"), format!("P{number:02}/2.jpg"))).collect();
    let files: Vec<(&str, &[u8])> = names
        .iter()
        .flat_map(|(first, second)| [(first.as_str(), one.as_slice()), (second.as_str(), two.as_slice())])
        .collect();
    let id = import(&owner, &archive(&files));
    let command = |what: &str| owner.send("POST", &format!("/api/jobs/{id}/{what}"), None);
    until(&owner, id, |job| job["done"].as_u64() > Some(0));
    assert_eq!(command("pause").json(200)["state"], "paused");
    assert_eq!(command("resume").json(200)["state"], "running");
    command("cancel").json(200);
    let job = until(&owner, id, has_ended);
    assert_eq!(job["state"], "cancelled", "{job}");
    let enrolled = program.enrolled();
    assert!((1..40).contains(&enrolled.len()), "{}", enrolled.len());
    assert!(enrolled.iter().all(|(_, templates)| *templates == 2), "{enrolled:?}");
    let done = job["done"].as_u64().unwrap();
    assert_eq!(done, 2 * enrolled.len() as u64, "what is reported is what is enrolled");
    assert_eq!(command("cancel").code(409), "job_has_ended");
}

#[test]
fn unknown_visitors_are_grouped_named_and_known_from_then_on() {
    let (_program, running, owner) = device("[sightings]\nkeep = true\nminimum_quality = 0.1\n");
    let deadline = Instant::now() + PATIENCE;
    let groups = loop {
        let list = owner.get("/api/sightings").json(200);
        assert_eq!(list["enabled"], true);
        let groups = list["groups"].as_array().unwrap().clone();
        if groups.len() >= 2 {
            break groups;
        }
        assert!(Instant::now() < deadline, "{list}");
        std::thread::sleep(GLANCE);
    };
    let (first, other) = (&groups[0]["id"], &groups[1]["id"]);
    let picture = owner.get(groups[0]["picture"].as_str().unwrap());
    assert_eq!((picture.status, picture.header("content-type")), (200, Some("image/jpeg")));
    assert!(limen::decode::still(&picture.body).is_ok());

    let named =
        owner.post("/api/sightings/name", &json!({ "groups": [first], "name": "A Visitor" })).json(201);
    assert_eq!(named["created"], true);
    running.wait_for("visit of the one who was named", PATIENCE, |event| {
        event["event"] == "identified" && event["name"] == "A Visitor"
    });

    let path = |id: &Value, what: &str| format!("/api/sightings/{id}{what}");
    assert_eq!(owner.get(&path(first, "/picture")).code(404), "not_found", "what was named is gone here");
    let not = owner.post(&path(other, "/not"), &json!({ "subject": named["subject"] }));
    assert_eq!(not.status, 204);
    assert_eq!(owner.post(&path(other, "/ignore"), &json!({ "ignored": true })).status, 204);
    let ignored = owner.get("/api/sightings?ignored=true").json(200);
    assert_eq!(&ignored["groups"][0]["id"], other);
    assert_eq!(owner.delete(&path(other, "")).status, 204);
    assert_eq!(owner.delete(&path(other, "")).code(404), "not_found");
}

#[test]
fn nobody_unknown_is_kept_unless_that_is_wanted() {
    let (program, running, owner) = device("[sightings]\nminimum_quality = 0.1\n");
    running.wait_for("unknown visitor who leaves", PATIENCE, |event| {
        event["event"] == "ended" && event["verdict"] == "unknown"
    });
    let list = owner.get("/api/sightings").json(200);
    assert_eq!((&list["enabled"], &list["groups"]), (&false.into(), &json!([])));
    assert!(!program.state().join("sightings.db").exists());
}

#[test]
fn root_key_is_changed_while_the_service_runs() {
    let (program, running, owner) = device("");
    let id = import(&owner, &archive(&[("Grace Hopper/1.jpg", &picture("grace_hopper_1"))]));
    until(&owner, id, has_ended);
    let subject = &owner.get("/api/subjects").json(200)["subjects"][0];
    let shown = owner.get(subject["picture"].as_str().unwrap()).body;
    assert!(shown.starts_with(b"\xff\xd8"));
    let key = || std::fs::read_to_string(program.state().join("root.key")).unwrap();
    let before = key();

    let job = owner.send("POST", "/api/jobs/rekey", None).json(202);
    let job = until(&owner, job["id"].as_u64().unwrap(), has_ended);
    assert_eq!(job["state"], "done", "{job}");
    assert_ne!(key(), before);
    assert!(!program.state().join("root.key.next").exists());
    // Everything goes on: pictures, changes, sign-in, and a backup with the key of now.
    assert_eq!(owner.get(subject["picture"].as_str().unwrap()).body, shown);
    let path = format!("/api/subjects/{}", subject["id"].as_str().unwrap());
    owner.patch(&path, &json!({ "notes": "after the change" })).json(200);
    let job = owner.post("/api/jobs/backup", &json!({ "passphrase": "twelve letters" })).json(202);
    let job = until(&owner, job["id"].as_u64().unwrap(), has_ended);
    assert_eq!((&job["state"], &job["result"]["pictures_missing"]), (&json!("done"), &json!(0)), "{job}");
    assert_eq!(owner.get("/api/audit/verify").json(200)["fault"], Value::Null);
    drop(running);
    assert_eq!(program.enrolled(), [("Grace Hopper".to_owned(), 1)]);
}
