//! The admin page's part about faces, over HTTP, with the real program and the real networks.

#![allow(clippy::unwrap_used, reason = "a test says what failed by panicking")]

mod program;

use std::time::{Duration, Instant};

use program::http::{Client, free_port};
use program::socket::{Came, Socket};
use program::{Program, Running, portrait};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(60);

/// A device in front of which the built-in scene plays.
struct Device {
    program: Program,
    _running: Running,
    owner: Client,
}

impl Device {
    fn new() -> Self {
        let port = free_port();
        let program = Program::new().with("LIMEN_HTTP__LISTEN", format!("127.0.0.1:{port}"));
        let running = program.start(&["run", "--source", "scene", "--json"]);
        let owner = Client::at(port).wait().owner(&program);
        Self { program, _running: running, owner }
    }
}

fn picture(name: &str) -> Vec<u8> {
    std::fs::read(portrait(name)).unwrap()
}

#[track_caller]
fn upload(client: &Client, name: &str) -> Value {
    client.upload("/api/pictures", "image/jpeg", &picture(name)).json(201)
}

/// The first face of an uploaded portrait.
#[track_caller]
fn face(client: &Client, name: &str) -> Value {
    json!({ "picture": upload(client, name)["id"], "face": 0 })
}

#[track_caller]
fn enrol(client: &Client, name: &str, portraits: &[&str]) -> String {
    let samples: Vec<_> = portraits.iter().map(|portrait| face(client, portrait)).collect();
    let done = client.post("/api/subjects/enrol", &json!({ "name": name, "samples": samples })).json(201);
    done["subject"]["id"].as_str().unwrap().to_owned()
}

#[test]
fn face_is_enrolled_shown_compared_changed_and_erased() {
    let device = Device::new();
    let owner = &device.owner;

    // Given: examined, shown, and kept for its owner.
    let given = upload(owner, "barack_obama_1");
    assert_eq!(given["faces"].as_array().unwrap().len(), 1);
    let found = &given["faces"][0];
    assert_eq!((found["usable"].as_bool(), &found["problem"]), (Some(true), &Value::Null), "{found}");
    assert!(found["quality"]["score"].as_f64().unwrap() > 0.8);
    let id = given["id"].as_str().unwrap();
    for path in [format!("/api/pictures/{id}/preview"), format!("/api/pictures/{id}/faces/0")] {
        let shown = owner.get(&path);
        assert_eq!((shown.status, shown.header("content-type")), (200, Some("image/jpeg")), "{path}");
        assert!(shown.body.starts_with(&[0xff, 0xd8]));
        assert_ne!(shown.body, picture("barack_obama_1"), "nothing is served as it was sent");
    }

    // Enrolled: in the list, found by name, with its picture.
    let group = owner.post("/api/groups", &json!({ "name": "Visitors" })).json(201)["id"].clone();
    let samples = [json!({ "picture": id, "face": 0 }), face(owner, "barack_obama_2")];
    let body =
        json!({ "name": "Barack Obama", "samples": samples, "groups": [group], "notes": "by the door" });
    let done = owner.post("/api/subjects/enrol", &body).json(201);
    assert_eq!((&done["created"], &done["templates"]), (&json!(true), &json!(2)));
    let subject = done["subject"]["id"].as_str().unwrap().to_owned();
    let again = owner.post("/api/subjects/enrol", &body);
    assert_eq!(again.code(409), "duplicates");
    let listed = owner.get("/api/subjects?search=oba&limit=10").json(200);
    assert_eq!((&listed["total"], &listed["next"]), (&json!(1), &Value::Null));
    assert_eq!(listed["subjects"][0]["groups"][0]["name"], "Visitors");
    let shown = owner.get(&format!("/api/subjects/{subject}")).json(200);
    assert_eq!(shown["samples_list"].as_array().unwrap().len(), 2);
    let path = shown["picture"].as_str().unwrap().to_owned();
    let sample_picture = owner.get(&path);
    assert_eq!(sample_picture.status, 200);
    let tag = sample_picture.header("etag").unwrap().to_owned();
    let mut cached = owner.clone();
    cached.headers.push(("If-None-Match".into(), tag));
    let unchanged = cached.get(&path);
    assert_eq!((unchanged.status, unchanged.body.len()), (304, 0));

    // Recognised at once, by the running daemon, without a restart.
    let deadline = Instant::now() + PATIENCE;
    let seen = loop {
        let events = owner.get(&format!("/api/events?subject={subject}")).json(200);
        if let Some(event) = events["events"].as_array().unwrap().first() {
            break event.clone();
        }
        assert!(Instant::now() < deadline, "he passes by every few seconds and is not recognised");
        std::thread::sleep(Duration::from_millis(100));
    };
    assert_eq!(seen["name"], "Barack Obama");

    // Compared: 1:1 with the subject and with a picture, 1:N.
    let (same, other) = (face(owner, "barack_obama_3"), face(owner, "joe_biden_1"));
    let verify = |body: Value| owner.post("/api/verify", &body).json(200);
    let matched = verify(json!({ "probe": same, "subject": subject }));
    assert_eq!((&matched["decision"], &matched["limits"]), (&json!("match"), &json!([])));
    assert!(matched["score"].as_f64() >= matched["threshold"].as_f64());
    assert_eq!(verify(json!({ "probe": other, "subject": subject }))["decision"], "no_match");
    assert_eq!(verify(json!({ "probe": same, "reference": other }))["decision"], "no_match");
    let identified = owner.post("/api/identify", &same).json(200);
    assert_eq!((&identified["decision"], &identified["subject"]), (&json!("match"), &json!(subject)));
    assert_eq!(identified["candidates"][0]["name"], "Barack Obama");
    let stranger = owner.post("/api/identify", &other).json(200);
    assert_eq!((&stranger["decision"], &stranger["subject"]), (&json!("no_match"), &Value::Null));

    // Judged: two good samples of one person.
    let quality = owner.get(&format!("/api/subjects/{subject}/quality")).json(200);
    let verdicts: Vec<_> = quality["samples"].as_array().unwrap().iter().map(|s| &s["verdict"]).collect();
    assert_eq!(verdicts, ["helps", "helps"], "{quality}");

    // Changed: only what is named.
    let path = format!("/api/subjects/{subject}");
    let changed = owner.patch(&path, &json!({ "name": "B. Obama", "expires_at": 1 })).json(200);
    assert_eq!((&changed["notes"], &changed["expired"]), (&json!("by the door"), &json!(true)));
    let expired = owner.post("/api/identify", &same).json(200);
    assert_eq!(expired["decision"], "no_match", "who has expired is not found any more");
    assert_eq!(
        owner.post("/api/verify", &json!({ "probe": same, "subject": subject })).code(409),
        "no_template"
    );
    let changed = owner.patch(&path, &json!({ "notes": null, "expires_at": null })).json(200);
    assert_eq!((&changed["notes"], &changed["expired"]), (&Value::Null, &json!(false)));
    assert_eq!(owner.post("/api/identify", &same).json(200)["candidates"][0]["name"], "B. Obama");
    let sample = &changed["samples_list"][0];
    let removed = owner.delete(&format!("/api/samples/{}", sample["id"])).json(200);
    assert_eq!((&removed["samples"], &removed["pictures"]), (&json!(1), &json!(1)));
    assert_eq!(owner.get(sample["picture"].as_str().unwrap()).status, 404);

    // Erased: with proof, and nothing is left.
    let receipt = owner.delete(&path).json(200);
    assert_eq!(
        (&receipt["subjects"], &receipt["samples"], &receipt["pictures"]),
        (&json!(1), &json!(1), &json!(1))
    );
    assert!(receipt["events"].as_u64().unwrap() >= 1, "{receipt}");
    assert_eq!(receipt["log_emptied"], true);
    let search = &receipt["search"];
    assert_eq!((&search["found"], &search["not_searched"]), (&json!([]), &json!([])), "{receipt}");
    assert!(
        search["databases"].as_u64().unwrap() >= 3 && search["files"].as_u64().unwrap() >= 4,
        "{receipt}"
    );
    assert_eq!(owner.get(&path).status, 404);
    assert_eq!(owner.get(&format!("/api/events?subject={subject}")).json(200)["events"], json!([]));
    assert_eq!(owner.post("/api/identify", &same).json(200)["candidates"], json!([]));
    assert_eq!(device.program.enrolled(), []);
}

#[test]
fn consent_is_recorded_replaced_and_withdrawn() {
    let device = Device::new();
    let owner = &device.owner;
    let subject = enrol(owner, "Grace Hopper", &["grace_hopper_1"]);
    let path = format!("/api/subjects/{subject}");
    let before = owner.get(&path).json(200);
    assert_eq!((&before["consent"], &before["consent_text_version"]), (&Value::Null, &json!("1")));
    let year = 365 * 86_400_000_i64;
    let seen = before["last_seen_at"].as_i64().unwrap();
    assert_eq!(before["erased_unseen_at"].as_i64().unwrap(), seen + year);
    let consent = format!("{path}/consent");
    let given = json!({ "given_by": "Grace Hopper", "way": "written", "given_at": 1_790_000_000_000_i64 });
    let recorded = owner.post(&consent, &given).json(200);
    let kept = &recorded["consent"];
    assert_eq!((&kept["given_by"], &kept["way"]), (&json!("Grace Hopper"), &json!("written")));
    assert_eq!((&kept["text_version"], &kept["recorded_by"]), (&json!("1"), &json!("Owner")));
    let again = json!({ "given_by": "Her mother", "way": "spoken", "text_version": "2026-11" });
    let replaced = owner.post(&consent, &again).json(200);
    assert_eq!(replaced["consent"]["text_version"], "2026-11");
    for bad in [
        json!({ "given_by": " ", "way": "spoken" }),
        json!({ "given_by": "x".repeat(121), "way": "spoken" }),
        json!({ "given_by": "Grace Hopper", "way": "spoken", "given_at": 9_000_000_000_000_i64 }),
        json!({ "given_by": "Grace Hopper", "way": "spoken", "given_at": -1 }),
    ] {
        assert_eq!(owner.post(&consent, &bad).status, 422, "{bad}");
    }
    assert_eq!(owner.get(&path).json(200)["consent"], replaced["consent"]);
    assert_eq!(owner.delete(&consent).json(200)["consent"], Value::Null);
    let kept_for_good = owner.patch(&path, &json!({ "keep_unseen_days": 0 })).json(200);
    assert_eq!(
        (&kept_for_good["keep_unseen_days"], &kept_for_good["erased_unseen_at"]),
        (&json!(0), &Value::Null)
    );
    assert_eq!(owner.patch(&path, &json!({ "keep_unseen_days": 36_501 })).status, 422);
    // Who agreed is nobody's business in the audit log.
    let audit = owner.get("/api/audit").json(200).to_string();
    assert!(
        audit.contains("record_consent") && !audit.contains("Hopper") && !audit.contains("mother"),
        "{audit}"
    );
    assert!(!audit.contains(&subject), "subjects are named by their alias");
}

#[test]
fn likeness_to_somebody_enrolled_has_to_be_accepted() {
    let device = Device::new();
    let owner = &device.owner;
    let first = enrol(owner, "First", &["barack_obama_1"]);
    let given = upload(owner, "barack_obama_2");
    assert_eq!(given["faces"][0]["looks_like"]["subject"], first, "told as soon as the picture is given");
    let mut body = json!({ "name": "Second", "samples": [{ "picture": given["id"], "face": 0 }] });
    let warned = owner.post("/api/subjects/enrol", &body);
    assert_eq!(warned.code(409), "looks_like");
    assert_eq!(warned.json(409)["error"]["details"]["looks_like"][0]["name"], "First");
    assert_eq!(owner.get("/api/subjects").json(200)["total"], 1, "nothing was stored");
    body["accept_similar"] = json!(true);
    assert_eq!(owner.post("/api/subjects/enrol", &body).json(201)["looks_like"][0]["name"], "First");
    let quality = owner.get(&format!("/api/subjects/{first}/quality")).json(200);
    assert_eq!(quality["samples"][0]["verdict"], "conflicts");
    assert_eq!(quality["closest"][0]["name"], "Second");
    // Somebody else among the samples: all or nothing, unless the unusable ones may be left out.
    let samples: Vec<_> = ["barack_obama_3", "grace_hopper_1"].iter().map(|name| face(owner, name)).collect();
    let mut body = json!({ "subject": first, "samples": samples, "accept_similar": true });
    let refused = owner.post("/api/subjects/enrol", &body).code(422);
    assert!(["unusable", "different_people"].contains(&refused.as_str()), "{refused}");
    body["samples"] = json!([samples[1]]);
    let refused = owner.post("/api/subjects/enrol", &body).json(422);
    assert_eq!(refused["error"]["details"]["refused"][0]["code"], "disagrees_with_subject");
}

#[test]
fn what_cannot_be_enrolled_is_refused_with_the_reason() {
    let device = Device::new();
    let owner = &device.owner;
    let whole = picture("joe_biden_1");
    let mut huge = whole.clone();
    let at = huge.windows(2).position(|pair| pair == [0xff, 0xc0] || pair == [0xff, 0xc2]).unwrap();
    huge[at + 5..at + 9].copy_from_slice(&[0xff, 0xdc, 0xff, 0xdc]);
    // A PNG of 20 megapixels in a few kilobytes, which is decoded and holds nobody; and one that claims more.
    let blank = png(5_000, 4_000);
    let bomb = png_header(60_000, 60_000);
    let cases: [(u16, &str, Vec<u8>); 7] = [
        (415, "not_a_picture", b"name,age\nAda,36\n".to_vec()),
        (415, "not_a_picture", b"<svg xmlns='http://www.w3.org/2000/svg'/>".to_vec()),
        (422, "cut_off", whole[..whole.len() / 2].to_vec()),
        (422, "picture_bomb", huge),
        (422, "picture_bomb", bomb),
        (422, "no_face", blank),
        (413, "too_large", vec![0xff; (32 << 20) + 1]),
    ];
    let mut refused = 0;
    for (status, code, bytes) in cases {
        // The type that is claimed changes nothing.
        for claimed in ["image/jpeg", "image/png"] {
            let answer = owner.upload("/api/pictures", claimed, &bytes);
            assert_eq!(answer.code(status), code);
            refused += 1;
        }
    }
    assert_eq!(refused, 14);
    assert_eq!(owner.upload("/api/pictures", "text/html", &whole).status, 415);

    // Two people in one picture: each can be chosen.
    let two = side_by_side("barack_obama_1", "grace_hopper_1");
    let given = owner.upload("/api/pictures", "image/jpeg", &two).json(201);
    let faces = given["faces"].as_array().unwrap();
    assert_eq!(faces.len(), 2, "{given}");
    assert!(faces[0]["bbox"]["x"].as_f64() < faces[1]["bbox"]["x"].as_f64(), "left to right");
    let sample = |face: usize| json!([{ "picture": given["id"], "face": face }]);
    let body = json!({ "name": "Grace Hopper", "samples": sample(1) });
    owner.post("/api/subjects/enrol", &body).json(201);
    let hopper = owner.post("/api/identify", &face(owner, "grace_hopper_1")).json(200);
    assert_eq!(hopper["candidates"][0]["name"], "Grace Hopper");
    assert_eq!(hopper["decision"], "match");

    // Requests that make no sense.
    for (status, body) in [
        (404, json!({ "name": "A", "samples": sample(2) })),
        (404, json!({ "name": "A", "samples": [{ "picture": "00", "face": 0 }] })),
        (404, json!({ "subject": "0".repeat(32), "samples": sample(0) })),
        (422, json!({ "name": "A", "samples": [] })),
        (422, json!({ "name": "  ", "samples": sample(0) })),
        (422, json!({ "name": "A\u{202e}B", "samples": sample(0) })),
        (422, json!({ "samples": sample(0) })),
        (404, json!({ "name": "A", "samples": sample(0), "groups": [77] })),
        (422, json!({ "name": "A", "samples": sample(0), "unknown": 1 })),
    ] {
        assert_eq!(owner.post("/api/subjects/enrol", &body).status, status, "{body}");
    }
    assert_eq!(owner.get("/api/subjects").json(200)["total"], 1);
    for path in ["/api/subjects?limit=0", "/api/subjects?limit=201", "/api/subjects?unknown=1"] {
        assert_eq!(owner.get(path).status, 400, "{path}");
    }
}

#[test]
fn given_pictures_belong_to_whoever_gave_them() {
    let device = Device::new();
    let owner = &device.owner;
    let (operator, viewer) = (owner.invites("operator"), owner.invites("viewer"));
    let given = upload(&operator, "joe_biden_1");
    let path = format!("/api/pictures/{}/preview", given["id"].as_str().unwrap());
    assert_eq!((operator.get(&path).status, owner.get(&path).status), (200, 404));
    let probe = json!({ "picture": given["id"], "face": 0 });
    assert_eq!(owner.post("/api/identify", &probe).code(404), "picture_gone");
    assert_eq!(viewer.upload("/api/pictures", "image/jpeg", &picture("joe_biden_1")).status, 403);
    assert_eq!(viewer.get("/api/subjects").status, 200);
    assert_eq!(viewer.post("/api/groups", &json!({ "name": "A" })).status, 403);
    assert_eq!(operator.delete(path.trim_end_matches("/preview")).status, 204);
    assert_eq!(operator.get(&path).status, 404);
    // The device's own camera.
    let taken = operator.send("POST", "/api/pictures/camera", None);
    assert!([201, 422].contains(&taken.status), "somebody is in the scene or not: {}", taken.status);
}

#[test]
fn browser_camera_is_compared_frame_by_frame() {
    let device = Device::new();
    let owner = &device.owner;
    let obama = enrol(owner, "Barack Obama", &["barack_obama_1"]);
    let mut socket = Socket::open(owner, "/api/compare/stream").ok().unwrap();
    for (frame, name) in [(1, "barack_obama_2"), (2, "barack_obama_3")] {
        socket.give(&picture(name));
        let answer = socket.json();
        assert_eq!((&answer["frame"], &answer["faces"][0]["decision"]), (&json!(frame), &json!("match")));
        assert_eq!(answer["faces"][0]["name"], "Barack Obama");
    }
    socket.give(&picture("eileen_collins_1"));
    assert_eq!(socket.json()["faces"][0]["decision"], "no_match");
    // Abuse is answered, and the connection goes on.
    for (given, code) in [
        (b"rubbish".to_vec(), "not_a_picture"),
        (png(5_000, 4_000), "too_large"),
        (Vec::new(), "not_a_picture"),
    ] {
        socket.give(&given);
        assert_eq!(socket.json()["error"]["code"], code);
    }
    socket.say("next");
    assert_eq!(socket.json()["error"]["code"], "not_a_picture");
    socket.give(&picture("barack_obama_2"));
    assert_eq!(socket.json()["faces"][0]["decision"], "match");
    // What is larger than any frame ends it.
    socket.give(&vec![0xff; 3 << 20]);
    assert_eq!(socket.next(), Came::Closed);

    let claimed = format!("/api/compare/stream?subject={obama}");
    let mut socket = Socket::open(owner, &claimed).ok().unwrap();
    socket.give(&picture("joe_biden_1"));
    assert_eq!(socket.json()["faces"][0]["decision"], "no_match");

    let refused = |client: &Client, path: &str| Socket::open(client, path).err().map(|answer| answer.status);
    let viewer = owner.invites("viewer");
    let mut nobody = owner.clone();
    (nobody.cookie, nobody.csrf) = (None, None);
    let missing = format!("/api/compare/stream?subject={}", "0".repeat(32));
    for (client, path, status) in [
        (&viewer, "/api/compare/stream", 403),
        (&viewer, "/api/enrol/guide?source=browser", 403),
        (&nobody, "/api/compare/stream", 401),
        (owner, missing.as_str(), 404),
        (owner, "/api/enrol/guide?source=elsewhere", 400),
        (owner, "/api/enrol/guide", 400),
    ] {
        assert_eq!(refused(client, path), Some(status), "{path}");
    }
}

#[test]
fn guided_capture_keeps_samples_of_one_person_for_enrolment() {
    let device = Device::new();
    let owner = &device.owner;
    let mut socket = Socket::open(owner, "/api/enrol/guide?source=browser").ok().unwrap();
    let mut answer = Value::Null;
    for _ in 0..3 {
        socket.give(&picture("barack_obama_1"));
        answer = socket.json();
    }
    assert_eq!((&answer["step"]["want"], &answer["step"]["taken"]), (&json!("left"), &json!(1)), "{answer}");
    assert_eq!(answer["kept"].as_array().unwrap().len(), 1);
    assert_eq!(answer["kept"][0]["pose"], "front");
    socket.give(&picture("eileen_collins_1"));
    let other = socket.json();
    assert!(other["step"]["hint"].as_str().unwrap().contains("somebody else"), "{other}");
    assert_eq!(other["kept"].as_array().unwrap().len(), 1);
    socket.give(b"rubbish");
    assert_eq!(socket.json()["error"]["code"], "not_a_picture");

    let kept = &answer["kept"][0];
    let path = format!("/api/pictures/{}/faces/{}", kept["picture"].as_str().unwrap(), kept["face"]);
    assert_eq!(owner.get(&path).status, 200);
    let samples = json!([{ "picture": kept["picture"], "face": kept["face"] }]);
    owner.post("/api/subjects/enrol", &json!({ "name": "Barack Obama", "samples": samples })).json(201);

    // The device's camera shows the scene, in which somebody appears sooner or later.
    let mut socket = Socket::open(owner, "/api/enrol/guide?source=device").ok().unwrap();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let Came::Binary(message) = socket.next() else { panic!("a frame was expected") };
        let length = u32::from_le_bytes(message[..4].try_into().unwrap()) as usize;
        let answer: Value = serde_json::from_slice(&message[4..4 + length]).unwrap();
        assert!(message[4 + length..].starts_with(&[0xff, 0xd8]), "a JPEG follows");
        if answer["faces"].as_array().is_some_and(|faces| !faces.is_empty()) {
            assert_eq!(answer["step"]["needed"], 5);
            break;
        }
        assert!(Instant::now() < deadline, "nobody appears");
        socket.say("next");
    }
}

/// A black PNG of this size.
fn png(width: u32, height: u32) -> Vec<u8> {
    let image = image::RgbImage::new(width, height);
    let mut bytes = std::io::Cursor::new(Vec::new());
    image.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    bytes.into_inner()
}

/// The beginning of a PNG that claims this size.
fn png_header(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR".to_vec();
    bytes.extend_from_slice(&width.to_be_bytes());
    bytes.extend_from_slice(&height.to_be_bytes());
    bytes.extend_from_slice(&[8, 2, 0, 0, 0]);
    let mut checksum = flate2::Crc::new();
    checksum.update(&bytes[12..]);
    bytes.extend_from_slice(&checksum.sum().to_be_bytes());
    bytes.extend_from_slice(b"\0\0\0\0IDAT\x35\xaf\x06\x1e");
    bytes
}

/// Two portraits beside each other, as a JPEG.
fn side_by_side(left: &str, right: &str) -> Vec<u8> {
    let [left, right] =
        [left, right].map(|name| image::load_from_memory(&picture(name)).unwrap().into_rgb8());
    let size = (left.width() + right.width(), left.height().max(right.height()));
    let mut both = image::RgbImage::from_pixel(size.0, size.1, image::Rgb([128; 3]));
    image::imageops::replace(&mut both, &left, 0, 0);
    image::imageops::replace(&mut both, &right, left.width().into(), 0);
    let mut bytes = std::io::Cursor::new(Vec::new());
    both.write_to(&mut bytes, image::ImageFormat::Jpeg).unwrap();
    bytes.into_inner()
}
