//! The door with real databases and without hardware: passes, PINs, policy, by the program's own library and its
//! command line.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod broker;

use std::sync::Arc;
use std::time::Duration;

use broker::device::{Device, State, config};
use broker::{Broker, Guard};
use limen::clock::{Clock, SimulatedClock, SystemClock, UnixMillis};
use limen::config::Config;
use limen::door::credential::{PassFault, window_of};
use limen::door::keeper::Moment;
use limen::door::policy::{Needs, PolicyDocument, RuleDocument};
use limen::door::thread::{DoorInput, Ruled};
use limen::event_store::{EventKind, RecordedEvent};
use limen::gallery::{MadeCredential, NewCredential, SubjectName};
use limen::vault::{RootKey, StateFolder};

fn policy(needs: &[Needs]) -> PolicyDocument {
    let rule = |needs: &Needs| RuleDocument {
        name: needs.code().to_owned(),
        groups: Vec::new(),
        everyone: true,
        schedule: None,
        needs: *needs,
        probes: 0,
        score_above: 0.0,
        pad: false,
    };
    PolicyDocument {
        rules: needs.iter().map(rule).collect(),
        dry_run: false,
        cool_down_s: 0,
        ..Default::default()
    }
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

struct Door {
    device: Device,
    _state: State,
}

impl Door {
    fn new(clock: Arc<dyn Clock>, needs: &[Needs]) -> Self {
        Self::by(clock, policy(needs))
    }

    fn by(clock: Arc<dyn Clock>, policy: PolicyDocument) -> Self {
        let state = State::new();
        let device = Device::without_mqtt(&state, clock);
        wait(device.store.set_door_policy(policy)).unwrap();
        device.until("the policy", || device.door.state().borrow().policy == "in_force");
        Self { device, _state: state }
    }

    fn make(&self, new: NewCredential) -> MadeCredential {
        let label = new.subject.is_none().then(|| SubjectName::new("Visitor").unwrap());
        wait(self.device.store.add_credential(NewCredential { label, ..new })).unwrap()
    }

    fn text(&self, made: &MadeCredential, window: u32) -> String {
        self.device.door.book().secret.pass_text(made.code.unwrap(), window)
    }

    /// Shows a code to the camera, and gives the event that comes of it.
    fn show(&self, text: &str) -> RecordedEvent {
        let before = self.events().len();
        self.device.door.tell(DoorInput::Pass(text.to_owned()));
        self.device.until("the ruling", || self.events().len() > before);
        self.events().into_iter().find(|event| event.kind != EventKind::Alarm).unwrap()
    }

    fn enter(&self, pin: &str) -> Ruled {
        wait(limen::door::enter_pin(&self.device.door, pin.to_owned().into())).unwrap()
    }

    fn events(&self) -> Vec<RecordedEvent> {
        wait(self.device.store.list_events(Default::default(), None, 200)).unwrap().events
    }
}

#[test]
fn used_pass_opens_nothing_again() {
    let door = Door::new(Arc::new(SystemClock), &[Needs::Pass]);
    let made = door.make(NewCredential { uses: Some(1), ..NewCredential::default() });
    let text = door.text(&made, 0);
    let event = door.show(&text);
    assert_eq!((event.kind, event.door.as_ref().unwrap().credential), (EventKind::Granted, Some(made.id)));
    let event = door.show(&text);
    assert_eq!((event.kind, event.reason.as_deref()), (EventKind::Denied, Some("pass_used_up")));
}

#[test]
fn every_reason_of_a_pass_is_told_apart() {
    let clock = Arc::new(SimulatedClock::new(UnixMillis(1_800_000_000_000)));
    let mut patient = policy(&[Needs::Pass]);
    patient.lock_out.failures = 0;
    let door = Door::by(clock.clone(), patient);
    let now = clock.wall();
    let later = |ms: i64| Some(UnixMillis(now.0 + ms));
    let good = door.make(NewCredential::default());
    let future = door.make(NewCredential { valid_from: later(3_600_000), ..NewCredential::default() });
    let short = door.make(NewCredential { valid_until: later(60_000), ..NewCredential::default() });
    let rotating = door.make(NewCredential { rotating: true, ..NewCredential::default() });
    let revoked = door.make(NewCredential::default());
    wait(door.device.store.remove_credential(revoked.id)).unwrap();
    let mut forged = door.text(&good, 0).into_bytes();
    let last = forged.len() - 3;
    forged[last] = if forged[last] == b'A' { b'B' } else { b'A' };
    let forged = String::from_utf8(forged).unwrap();
    let window = window_of(now);
    let cases = [
        (door.text(&good, 0), None),
        (door.text(&rotating, window), None),
        (forged, Some("pass_forged")),
        ("LIMEN:AAAA".to_owned(), Some("pass_malformed")),
        (door.text(&revoked, 0), Some("pass_revoked")),
        (door.text(&future, 0), Some("pass_not_yet_valid")),
        (door.text(&rotating, window - 2), Some("pass_stale")),
        (door.text(&rotating, 0), Some("pass_stale")),
    ];
    for (text, reason) in cases {
        let event = door.show(&text);
        assert_eq!(event.reason.as_deref(), reason, "{text}");
        assert_eq!(event.kind == EventKind::Granted, reason.is_none());
    }
    clock.advance(Duration::from_secs(60));
    assert_eq!(door.show(&door.text(&short, 0)).reason.as_deref(), Some("pass_expired"));
    let book = door.device.door.book();
    let untrusted = Moment { monotonic: clock.monotonic(), wall: clock.wall(), trusted: false };
    let (fault, _) = book.pass(&door.text(&short, 0), &untrusted).unwrap().unwrap_err();
    assert_eq!(fault, PassFault::ClockNotTrusted);
    assert!(book.pass("https://example.org", &untrusted).is_none());
}

#[test]
fn pin_opens_for_its_holder_and_five_wrong_ones_lock_pins() {
    let door = Door::new(Arc::new(SystemClock), &[Needs::Pin]);
    let made = door.make(NewCredential { is_pin: true, ..NewCredential::default() });
    let pin = made.pin.unwrap();
    assert!(door.enter(&pin).granted);
    let wrong = if pin == "000000" { "000001" } else { "000000" };
    for text in [wrong, "1", "", "abcdef", wrong] {
        assert_eq!(door.enter(text).reason.as_deref(), Some("wrong_pin"), "{text:?}");
    }
    assert_eq!(door.enter(&pin).reason.as_deref(), Some("locked_out"), "the right one too");
    let alarms = door.events().into_iter().filter(|event| event.kind == EventKind::Alarm).count();
    assert_eq!(alarms, 1);
    let written = format!("{:?}", door.events());
    assert!(!written.contains(&pin));
}

#[test]
fn erased_subject_takes_their_pins_and_passes_along() {
    let door = Door::new(Arc::new(SystemClock), &[Needs::Pin]);
    let ada = door.device.enrol("Ada", false);
    let made = door.make(NewCredential { is_pin: true, subject: Some(ada), ..NewCredential::default() });
    let pin = made.pin.unwrap();
    door.device.until("the book", || door.device.door.book().people.contains_key(&ada));
    // The doorkeeper takes a new book within a tenth of a second.
    door.device.until("the doorkeeper", || door.enter(&pin).granted);
    door.device.erase(ada);
    door.device.until("the erasure", || door.device.door.book().credentials.is_empty());
    assert_eq!(door.enter(&pin).reason.as_deref(), Some("wrong_pin"));
}

#[test]
fn policy_that_cannot_be_read_opens_for_nobody_and_says_so() {
    let state = State::new();
    let folder = StateFolder::open_or_create(&state.folder.path().join("state")).unwrap();
    let (key, _) = RootKey::load(&folder, None).unwrap();
    let mut store = limen::gallery::GalleryStore::open(&folder, &key, Arc::new(SystemClock)).unwrap();
    store
        .set_door_policy(&PolicyDocument { time_zone: "Nowhere/At_All".to_owned(), ..policy(&[Needs::Pin]) })
        .unwrap();
    drop(store);
    let device = Device::without_mqtt(&state, Arc::new(SystemClock));
    device.until("the complaint", || device.door.state().borrow().policy == "unusable");
    let ruled = wait(limen::door::enter_pin(&device.door, "123456".to_owned().into())).unwrap();
    assert!(!ruled.granted);
}

#[test]
fn broker_opens_the_door_only_where_that_is_allowed() {
    for allowed in [false, true] {
        let (broker, state) = (Broker::new(Guard::Open), State::new());
        let mut messages = broker.listen();
        let mut config: Config = config(&broker);
        config.mqtt.open_door = allowed;
        let device = Device::start(&state, &config, Arc::new(SystemClock));
        messages.on("limen/door/availability");
        wait(device.store.set_door_policy(policy(&[Needs::Pin]))).unwrap();
        let new = NewCredential {
            is_pin: true,
            label: Some(SubjectName::new("V").unwrap()),
            ..NewCredential::default()
        };
        let made = wait(device.store.add_credential(new)).unwrap();
        device.until("the policy", || device.door.state().borrow().policy == "in_force");
        broker.publish("limen/door/request/open_door", r#"{"transaction":"1"}"#, &[]);
        let opened = messages.on("limen/door/response/open_door").json();
        let pin = made.pin.unwrap();
        broker.publish("limen/door/request/pin", &format!(r#"{{"transaction":"2","pin":"{pin}"}}"#), &[]);
        let entered = messages.on("limen/door/response/pin").json();
        broker.publish("limen/door/lock/set", "LOCK", &[]);
        assert_eq!(messages.on("limen/door/response/lock").json()["status"], "error");
        if allowed {
            assert_eq!(
                (&opened["status"], &opened["data"]["switched"]),
                (&"ok".into(), &"no_relay".into()),
                "{opened}"
            );
            assert_eq!(entered["data"]["granted"], true, "{entered}");
            let mut seen = messages.seen_on("limen/door/door/event");
            if seen.is_empty() {
                messages.on("limen/door/door/event");
                seen = messages.seen_on("limen/door/door/event");
            }
            let said = seen[0].json();
            assert_eq!(
                (&said["event_type"], &said["door"]["by"]),
                (&"granted".into(), &"mqtt".into()),
                "{said}"
            );
        } else {
            for answer in [opened, entered] {
                assert!(answer["error"].as_str().unwrap().contains("mqtt.open_door"), "{answer}");
            }
        }
        broker::schema::check_all(&messages.seen);
    }
}
