//! The event store from the outside: restarts, kills, full disks, expiry, erasure.

#![allow(clippy::unwrap_used, reason = "a test says what failed by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use limen::clock::{Clock, Monotonic, SimulatedClock, SystemClock, UnixMillis};
use limen::database::DatabaseError;
use limen::event::{EndVerdict, IdentityEvent, Outcome};
use limen::event_store::{
    Age, EVENTS_FILE, EventFilter, EventId, EventKind, EventStore, EventStoreError, Outbox, RecordedEvent,
    Retention,
};
use limen::gallery::{SubjectId, SubjectName};
use limen::reason::Reason;
use limen::score::{ComparisonScore, QualityScore};
use limen::track::TrackId;
use limen::vault::{KeyPurpose, RootKey, StateFolder};

const LIFETIME: Duration = Duration::from_secs(10);
const START: UnixMillis = UnixMillis(1_700_000_000_000);
const STATE_VARIABLE: &str = "LIMEN_TEST_STATE";

struct Device {
    _folder: tempfile::TempDir,
    state: StateFolder,
    key: RootKey,
    clock: Arc<SimulatedClock>,
}

impl Device {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let state = StateFolder::open_or_create(&folder.path().join("state")).unwrap();
        let (key, _) = RootKey::load(&state, None).unwrap();
        Self { _folder: folder, state, key, clock: Arc::new(SimulatedClock::new(START)) }
    }

    fn open(&self) -> EventStore {
        EventStore::open(&self.state, &self.key, self.clock.clone(), LIFETIME).unwrap()
    }
}

fn subject(n: u8) -> SubjectId {
    SubjectId::from_bytes([n; 16])
}

fn event(clock: &dyn Clock, outcome: Outcome) -> IdentityEvent {
    IdentityEvent {
        id: EventId::new(clock.wall()).unwrap(),
        track: TrackId(3),
        captured_at: clock.wall(),
        captured: clock.monotonic(),
        latency_ms: 40.5,
        looks: 5,
        probes: 2,
        crop: None,
        sighting: None,
        outcome,
    }
}

fn identified(clock: &dyn Clock, who: u8) -> IdentityEvent {
    let name = SubjectName::new("Ada Lovelace").unwrap();
    let (score, margin) = (ComparisonScore::new(0.75), Some(0.5));
    let quality = QualityScore::new(0.5);
    event(
        clock,
        Outcome::Identified { subject: subject(who), name, score, margin, agreeing_probes: 2, quality },
    )
}

fn ended(clock: &dyn Clock) -> IdentityEvent {
    let inconclusive = BTreeMap::from([(Reason::TooFar, 7), (Reason::Blurred, 1)]);
    let outcome = Outcome::Ended {
        seen_ms: 2_400,
        verdict: EndVerdict::Undecided,
        subject: None,
        name: None,
        reason: Some(Reason::TooFar),
        matches: 0,
        no_match: 0,
        inconclusive,
    };
    event(clock, outcome)
}

fn sequences(events: &[RecordedEvent]) -> Vec<u64> {
    events.iter().map(|event| event.sequence).collect()
}

#[test]
fn event_keeps_all_that_was_measured_and_no_name() {
    let device = Device::new();
    let mut store = device.open();
    store
        .record([(identified(&*device.clock, 7), Some(vec![1, 2, 3])), (ended(&*device.clock), None)])
        .unwrap();
    drop(store);
    let store = device.open();
    let events = store.newest(None, 10).unwrap();
    let [ended, identified] = events.as_slice() else { panic!("{events:?}") };
    assert_eq!((identified.sequence, ended.sequence), (1, 2));
    assert_eq!((identified.kind, ended.kind), (EventKind::Identified, EventKind::Ended));
    assert_eq!(identified.subject, Some(subject(7)));
    assert_eq!((identified.score, identified.margin), (Some(0.75), Some(0.5)));
    assert_eq!((identified.quality, ended.reason.as_deref()), (Some(0.5), Some("too_far")));
    assert_eq!((identified.looks, identified.probes, identified.latency_ms), (5, 2, 40.5));
    assert_eq!((identified.captured_at, identified.decided_at), (START, UnixMillis(START.0 + 40)));
    assert_eq!(identified.expires_at, UnixMillis(START.0 + 10_000));
    assert_eq!((ended.seen_ms, ended.verdict.as_deref()), (Some(2_400), Some("undecided")));
    assert_eq!(ended.reasons, BTreeMap::from([("too_far".to_owned(), 7), ("blurred".to_owned(), 1)]));
    assert_eq!(store.crop(identified.id).unwrap().as_deref(), Some([1, 2, 3].as_slice()));
    assert_eq!(store.crop(ended.id).unwrap(), None);
    assert!(identified.has_crop && !ended.has_crop && identified.id != ended.id);
    let shown = format!("{events:?}");
    assert!(!shown.contains("Ada"), "{shown}");
}

#[test]
fn outbox_survives_a_restart_in_order_and_forgets_what_was_acknowledged() {
    let device = Device::new();
    let mut store = device.open();
    for _ in 0..50 {
        store.record([(identified(&*device.clock, 1), None)]).unwrap();
    }
    assert_eq!(sequences(&store.waiting(0, 20).unwrap()), (1..=20).collect::<Vec<_>>());
    store.published(&(1..=10).map(|n| (n, false)).collect::<Vec<_>>()).unwrap();
    drop(store);
    let mut store = device.open();
    assert_eq!(store.outbox(), Outbox { newest: 50, waiting: 40, ..Outbox::default() });
    assert_eq!(sequences(&store.waiting(0, 3).unwrap()), [11, 12, 13]);
    assert_eq!(sequences(&store.waiting(48, 9).unwrap()), [49, 50]);
    let published = &store.newest(Some(11), 1).unwrap()[0];
    assert_eq!(published.published_at, Some(START));
    // Acknowledged twice, as after a connection that broke in between: counted once.
    store.published(&[(11, true), (11, true)]).unwrap();
    store.published(&[(11, false)]).unwrap();
    assert_eq!((store.outbox().waiting, store.outbox().expired), (39, 1));
}

#[test]
fn without_a_broker_events_are_kept_and_nothing_is_queued() {
    let device = Device::new();
    let mut store = device.open().without_broker();
    store.record([(identified(&*device.clock, 1), None)]).unwrap();
    assert_eq!(store.outbox(), Outbox { newest: 1, ..Outbox::default() });
    assert_eq!(store.waiting(0, 9).unwrap(), []);
    assert_eq!(store.count().unwrap(), 1);
    drop(store);
    assert_eq!(device.open().outbox().waiting, 0);
}

#[test]
fn number_of_an_erased_event_is_not_given_again() {
    let device = Device::new();
    let mut store = device.open();
    for _ in 0..5 {
        store.record([(ended(&*device.clock), None)]).unwrap();
    }
    device.clock.advance(Duration::from_secs(86_400));
    let all = Retention {
        keep: Duration::from_secs(3_600),
        count: 100,
        keep_crops: Duration::ZERO,
        crops: 1_000,
        keep_pictures: true,
    };
    assert_eq!(store.retain(&all).unwrap().events, 5);
    assert_eq!(store.outbox(), Outbox { newest: 5, waiting: 0, expired: 0, lost: 5 });
    drop(store);
    let mut store = device.open();
    store.record([(ended(&*device.clock), None)]).unwrap();
    assert_eq!(sequences(&store.newest(None, 9).unwrap()), [6]);
}

#[test]
fn retention_erases_the_oldest_by_age_and_by_number_a_bounded_number_at_a_time() {
    let device = Device::new();
    let mut store = device.open();
    let mut record = |number: usize| {
        let events: Vec<_> = (0..number).map(|_| (identified(&*device.clock, 1), Some(vec![9]))).collect();
        store.record(events).unwrap();
    };
    record(700);
    device.clock.advance(Duration::from_secs(100));
    record(300);
    let by_age = Retention {
        keep: Duration::from_secs(50),
        count: 100_000,
        keep_crops: Duration::from_secs(50),
        crops: 1_000,
        keep_pictures: true,
    };
    let mut rounds = Vec::new();
    loop {
        match store.retain(&by_age).unwrap().events {
            0 => break,
            erased => rounds.push(erased),
        }
    }
    assert_eq!(rounds, [500, 200]);
    assert_eq!(sequences(&store.newest(None, 1_000).unwrap()).last(), Some(&701));
    let by_number = Retention { count: 100, ..by_age };
    assert_eq!(store.retain(&by_number).unwrap().events, 200);
    assert_eq!(store.count().unwrap(), 100);
    let few_pictures = Retention { crops: 40, ..by_number };
    assert_eq!(store.retain(&few_pictures).unwrap().crops, 60, "the oldest of them");
    assert_eq!(store.count_crops().unwrap(), 40);
    device.clock.advance(Duration::from_secs(60));
    let pictures = Retention {
        keep: Duration::from_secs(1_000),
        count: 100,
        keep_crops: Duration::from_secs(50),
        crops: 1_000,
        keep_pictures: true,
    };
    assert_eq!(store.retain(&pictures).unwrap().crops, 40);
    assert_eq!(store.count().unwrap(), 100, "the events themselves stay");
}

#[test]
fn expiry_is_told_by_the_clock_that_nobody_can_set() {
    let at = |seconds: u64| Monotonic::from_duration(Duration::from_secs(seconds));
    let device = Device::new();
    let mut store = device.open();
    device.clock.advance(Duration::from_secs(100));
    store.record([(ended(&*device.clock), None)]).unwrap();
    drop(store);
    let event = device.open().waiting(0, 1).unwrap().remove(0);
    assert_eq!(event.age, Age::ThisBoot(at(100)));
    assert_eq!(event.remaining(at(103)), Some(Duration::from_secs(7)));
    assert_eq!(event.remaining(at(110)), None);
    // A board without a clock of its own does not know how long it was off.
    let earlier = RecordedEvent { age: Age::EarlierBoot, ..event };
    assert_eq!(earlier.remaining(at(0)), None);
}

#[test]
fn event_captured_while_the_clock_was_wrong_takes_no_other_along() {
    let device = Device::new();
    let mut store = device.open();
    store.record([(ended(&*device.clock), None)]).unwrap();
    let back_dated = IdentityEvent { captured_at: UnixMillis(0), ..ended(&*device.clock) };
    store.record([(back_dated, None), (ended(&*device.clock), None)]).unwrap();
    let year = Duration::from_secs(365 * 86_400);
    let retention = Retention { keep: year, count: 100, keep_crops: year, crops: 1_000, keep_pictures: true };
    assert_eq!(store.retain(&retention).unwrap().events, 1);
    assert_eq!(sequences(&store.newest(None, 9).unwrap()), [3, 1]);
}

#[test]
fn erased_subject_leaves_neither_reference_nor_picture() {
    let device = Device::new();
    let mut store = device.open();
    for who in [1, 2, 1] {
        let visit = IdentityEvent { track: TrackId(who.into()), ..identified(&*device.clock, who) };
        store.record([(visit, Some(vec![0xa5; 2_000]))]).unwrap();
    }
    assert_eq!(store.forget_all_but(&BTreeSet::from([subject(1), subject(2)])).unwrap(), 0);
    assert_eq!(store.forget_all_but(&BTreeSet::from([subject(2)])).unwrap(), 2);
    let events = store.newest(None, 9).unwrap();
    let left: Vec<_> = events.iter().map(|event| (event.subject, event.has_crop)).collect();
    assert_eq!(left, [(None, false), (Some(subject(2)), true), (None, false)]);
}

#[test]
fn picture_taken_before_somebody_was_known_goes_with_them() {
    let device = Device::new();
    let mut store = device.open();
    let unknown = Outcome::Unknown { best_score: None, reason: Reason::BelowThreshold };
    let crop = Some(vec![0xa5; 2_000]);
    let other = IdentityEvent { track: TrackId(9), ..event(&*device.clock, unknown.clone()) };
    store.record([(event(&*device.clock, unknown), crop.clone()), (other, crop.clone())]).unwrap();
    store.record([(identified(&*device.clock, 1), crop)]).unwrap();
    assert_eq!(store.forget_all_but(&BTreeSet::new()).unwrap(), 1);
    let left: Vec<_> = store.newest(None, 9).unwrap().iter().map(|e| (e.sequence, e.has_crop)).collect();
    assert_eq!(left, [(3, false), (2, true), (1, false)]);
}

#[test]
fn face_unlock_is_on_until_switched_off_and_stays_off() {
    let device = Device::new();
    let mut store = device.open();
    assert!(store.face_unlock().unwrap());
    store.set_face_unlock(false).unwrap();
    drop(store);
    assert!(!device.open().face_unlock().unwrap());
}

#[test]
fn damaged_or_foreign_event_database_is_refused_and_says_that_the_gallery_stays() {
    let device = Device::new();
    drop(device.open());
    let path = device.state.path().join(EVENTS_FILE);
    std::fs::write(&path, b"short").unwrap();
    let error = EventStore::open(&device.state, &device.key, device.clock.clone(), LIFETIME).unwrap_err();
    assert!(matches!(error, EventStoreError::Database(DatabaseError::Damaged { .. })), "{error:?}");
    assert!(error.to_string().contains("gallery is another file"), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), b"short");
}

/// The device of the parent process, for a child that is this program again.
fn state_of_parent() -> Option<(StateFolder, RootKey)> {
    let state = StateFolder::open_or_create(Path::new(&std::env::var_os(STATE_VARIABLE)?)).unwrap();
    let (key, _) = RootKey::load(&state, None).unwrap();
    Some((state, key))
}

fn child(device: &Device, test: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([test, "--exact", "--ignored", "--nocapture"]).env(STATE_VARIABLE, device.state.path());
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    command
}

#[test]
#[ignore = "child of killed_program_loses_no_event_it_had_recorded"]
#[allow(clippy::print_stdout, reason = "the child reports to its parent")]
fn child_records_until_killed() {
    let Some((state, key)) = state_of_parent() else { return };
    let mut store = EventStore::open(&state, &key, Arc::new(SystemClock), LIFETIME).unwrap();
    loop {
        store.record([(identified(&SystemClock, 1), None)]).unwrap();
        println!("recorded {}", store.outbox().newest);
        if store.outbox().newest.is_multiple_of(3) {
            store.published(&[(store.outbox().newest, false)]).unwrap();
            println!("published {}", store.outbox().newest);
        }
    }
}

#[test]
fn killed_program_loses_no_event_it_had_recorded() {
    const KILLS: usize = 30;
    let device = Device::new();
    let (mut recorded, mut published) = (0, BTreeSet::new());
    for round in 0..KILLS {
        let mut process = child(&device, "child_records_until_killed").spawn().unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut seen = 0;
        let mut take = |line: &str| {
            if let Some(number) = line.strip_prefix("recorded ") {
                recorded = number.parse().unwrap();
                seen += 1;
            } else if let Some(number) = line.strip_prefix("published ") {
                published.insert(number.parse::<u64>().unwrap());
            }
            seen
        };
        while take(&lines.next().unwrap().unwrap()) < 3 + round % 5 {}
        process.kill().unwrap();
        process.wait().unwrap();
        // What was in the pipe when it died was said all the same. The last line may be cut off.
        for line in lines.map_while(Result::ok) {
            take(&line);
        }
        let store = device.open();
        let newest = store.outbox().newest;
        assert!(newest >= recorded, "{newest} on the disk, {recorded} recorded, round {round}");
        let waiting = sequences(&store.waiting(0, 100_000).unwrap());
        let expected: Vec<u64> = (1..=newest).filter(|n| !published.contains(n)).collect();
        // An acknowledgement that was not reported any more may be on the disk or not.
        let missing: Vec<_> = expected.iter().filter(|n| !waiting.contains(n)).collect();
        assert!(missing.iter().all(|n| n.is_multiple_of(3)) && missing.len() <= round + 1, "{missing:?}");
        assert!(waiting.iter().all(|n| !published.contains(n)), "round {round}");
        assert_eq!(waiting.len() + published.len() + missing.len(), newest as usize);
    }
    assert!(recorded >= 3 * KILLS as u64, "{recorded}");
}

#[test]
#[ignore = "child of events_outlast_a_full_disk_in_memory"]
#[allow(clippy::print_stdout, reason = "the child reports to its parent")]
fn child_fills_the_disk() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Some((state, key)) = state_of_parent() else { return };
    // Without the signal a write beyond the limit fails as on a full disk.
    let _caught = signal_hook::flag::register(
        signal_hook::consts::SIGXFSZ,
        Arc::new(std::sync::atomic::AtomicBool::new(false)),
    )
    .unwrap();
    let mut store = EventStore::open(&state, &key, Arc::new(SystemClock), LIFETIME).unwrap();
    let unlimited = getrlimit(Resource::Fsize);
    setrlimit(Resource::Fsize, Rlimit { current: Some(300_000), ..unlimited }).unwrap();
    let mut recorded = 0;
    let error = loop {
        recorded += 1;
        assert!(recorded < 10_000, "the limit was never reached");
        if let Err(error) = store.record([(identified(&SystemClock, 1), Some(vec![7; 10_000]))]) {
            break error;
        }
    };
    assert!(matches!(error, EventStoreError::Database(DatabaseError::Storage { .. })), "{error:?}");
    for _ in 0..5 {
        recorded += 1;
        assert!(store.record([(identified(&SystemClock, 1), None)]).is_err());
    }
    assert!(store.has_unwritten());
    let waiting = sequences(&store.waiting(0, 100_000).unwrap());
    assert_eq!(waiting, (1..=recorded).collect::<Vec<_>>(), "all of them are to be delivered");
    // Delivered while the disk is full: not again from memory.
    assert!(store.published(&[(1, false), (recorded, false)]).is_err());
    assert_eq!(store.waiting(0, 1).unwrap()[0].sequence, 2);
    setrlimit(Resource::Fsize, unlimited).unwrap();
    store.retry().unwrap();
    assert!(!store.has_unwritten());
    drop(store);
    let store = EventStore::open(&state, &key, Arc::new(SystemClock), LIFETIME).unwrap();
    assert_eq!(sequences(&store.waiting(0, 100_000).unwrap()), (2..recorded).collect::<Vec<_>>());
    println!("recorded {recorded}");
}

#[test]
fn events_outlast_a_full_disk_in_memory() {
    let device = Device::new();
    let output =
        child(&device, "child_fills_the_disk").process_group(0).stderr(Stdio::piped()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("recorded "), "{text}");
}

/// Every object of a schema, for comparing two ways to one: spaces are not part of it.
fn objects(db: &rusqlite::Connection) -> BTreeMap<String, String> {
    let mut query = db.prepare("select type || ' ' || name, coalesce(sql, '') from sqlite_schema").unwrap();
    let rows = query.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))).unwrap();
    // A table that was made anew and renamed has its name in quotes.
    let plain = |sql: String| sql.replace('"', "").split_whitespace().collect::<Vec<_>>().join(" ");
    rows.map(|row| row.map(|(name, sql)| (name, plain(sql))).unwrap()).collect()
}

#[test]
fn events_of_older_versions_are_brought_up_and_counted() {
    for (version, script) in [
        (1, include_str!("fixtures/schemas/events-1.sql")),
        (2, include_str!("fixtures/schemas/events-2.sql")),
    ] {
        let device = Device::new();
        let mut store = device.open();
        store
            .record([(identified(&*device.clock, 7), Some(vec![1])), (ended(&*device.clock), None)])
            .unwrap();
        store.ring().unwrap();
        let everything = store.newest(None, 10).unwrap();
        let waiting = store.waiting(0, 10).unwrap();
        let counted = store.summary(UnixMillis(0), UnixMillis(i64::MAX)).unwrap();
        assert_eq!((counted.hours.len(), counted.hours[0].undecided, counted.hours[0].ring), (1, 1, 1));
        assert_eq!(counted.decisions(), 1);
        drop(store);

        // As that version left it: its own tables with the same rows in them.
        let key = device.key.subkey(KeyPurpose::Events);
        let path = device.state.path().join(EVENTS_FILE);
        let db = rusqlite::Connection::open(path).unwrap();
        let digits: String = key.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        db.execute_batch(&format!("pragma key = \"x'{digits}'\"; pragma foreign_keys = off;")).unwrap();
        let fresh = objects(&db);
        db.execute_batch(
            "create temp table e as select * from event; create temp table o as select * from outbox;
             create temp table c as select * from crop;
             drop table event; drop table outbox; drop table crop; drop table switch; drop table hour;
             drop table hour_latency;",
        )
        .unwrap();
        db.execute_batch(script).unwrap();
        let columns: Vec<String> = db
            .prepare("select name from pragma_table_info('event')")
            .unwrap()
            .query_map([], |row| row.get(0))
            .unwrap()
            .collect::<Result<_, _>>()
            .unwrap();
        let columns = columns.join(", ");
        db.execute_batch(&format!(
            "insert into event ({columns}) select {columns} from e; insert into outbox select * from o;
             insert into crop select * from c; update sqlite_sequence set seq = 9 where name = 'event';
             drop table e; drop table o; drop table c; pragma user_version = {version};",
        ))
        .unwrap();

        let mut store = device.open();
        assert_eq!(objects(&db), fresh);
        assert_eq!(store.newest(None, 10).unwrap(), everything);
        assert_eq!(store.waiting(0, 10).unwrap(), waiting);
        assert_eq!(store.summary(UnixMillis(0), UnixMillis(i64::MAX)).unwrap(), counted);
        store.ring().unwrap();
        assert_eq!(store.newest(None, 1).unwrap()[0].sequence, 10, "a number is not given again");
    }
}

#[test]
fn lists_filter_and_go_on_where_they_stopped() {
    let device = Device::new();
    let mut store = device.open();
    for who in 0..30 {
        device.clock.advance(Duration::from_secs(60));
        let visitor = identified(&*device.clock, who % 3);
        store.record([(visitor, None), (ended(&*device.clock), None)]).unwrap();
    }
    store.ring().unwrap();
    let all = |filter: &EventFilter, limit| {
        let (mut found, mut after, mut pages) = (Vec::new(), None, 0);
        loop {
            let page = store.list(filter, after, limit).unwrap();
            assert!(page.events.len() <= limit);
            found.extend(page.events);
            pages += 1;
            after = page.next;
            if after.is_none() {
                return (found, pages);
            }
        }
    };
    let (everything, pages) = all(&EventFilter::default(), 7);
    assert_eq!((everything.len(), pages), (61, 9));
    let mut newest_first = everything.clone();
    newest_first.sort_by_key(|event| std::cmp::Reverse((event.captured_at, event.sequence)));
    assert_eq!(everything, newest_first);

    let count = |filter: EventFilter| all(&filter, 10).0.len();
    let (kind, whom) = (EventFilter::default(), Some(subject(1)));
    assert_eq!(count(EventFilter { kind: Some(EventKind::Ring), ..kind.clone() }), 1);
    assert_eq!(count(EventFilter { subject: whom, ..kind.clone() }), 10);
    assert_eq!(count(EventFilter { subject: whom, kind: Some(EventKind::Identified), ..kind.clone() }), 10);
    assert_eq!(count(EventFilter { subject: whom, kind: Some(EventKind::Unknown), ..kind.clone() }), 0);
    assert_eq!(count(EventFilter { reason: Some(Reason::TooFar), ..kind.clone() }), 30);
    assert_eq!(count(EventFilter { reason: Some(Reason::Blurred), ..kind.clone() }), 0);
    assert_eq!(count(EventFilter { verdict: Some(EndVerdict::Undecided), ..kind.clone() }), 30);
    assert_eq!(count(EventFilter { verdict: Some(EndVerdict::Identified), ..kind.clone() }), 0);
    let (from, to) = (Some(UnixMillis(START.0 + 60_000)), Some(UnixMillis(START.0 + 180_000)));
    assert_eq!(count(EventFilter { from, to, ..kind }), 4);
}

#[test]
fn retention_takes_events_out_of_the_hours_too() {
    let device = Device::new();
    let mut store = device.open();
    for _ in 0..3 {
        store.record([(identified(&*device.clock, 1), None), (ended(&*device.clock), None)]).unwrap();
        device.clock.advance(Duration::from_secs(3_600));
    }
    let summary = |store: &EventStore| {
        let found = store.summary(UnixMillis(0), UnixMillis(i64::MAX)).unwrap();
        (found.hours.len(), found.hours.iter().map(|hour| hour.undecided).sum::<u64>(), found.decisions())
    };
    assert_eq!(summary(&store), (3, 3, 3));
    let day = Duration::from_secs(86_400);
    store
        .retain(&Retention {
            keep: Duration::from_secs(5_400),
            count: 100,
            keep_crops: day,
            crops: 1_000,
            keep_pictures: true,
        })
        .unwrap();
    assert_eq!(summary(&store), (1, 1, 1));
    store
        .retain(&Retention { keep: day, count: 1, keep_crops: day, crops: 1_000, keep_pictures: true })
        .unwrap();
    assert_eq!(summary(&store), (1, 1, 0));
}
