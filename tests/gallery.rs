//! The gallery from the outside: files, other processes, crashes, wrong keys, full disks.

#![allow(clippy::print_stdout, reason = "child processes report to their parent")]
#![allow(clippy::unwrap_used, reason = "a test says what failed by panicking")]

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use limen::clock::{Clock, SimulatedClock, SystemClock, UnixMillis};
use limen::database::DatabaseError;
use limen::embedding::{Embedding, EmbeddingSpaceId};
use limen::gallery::{
    DATABASE_FILE, Enrolment, EnrolmentTarget, GalleryError, GalleryStore, NewCredential, NewSample,
    SampleId, SampleOrigin, SampleQuality, SearchScratch, SubjectId, SubjectName,
};
use limen::score::QualityScore;
use limen::vault::{KEY_FILE, KeyPurpose, RootKey, StateFolder};
use rusqlite::Connection;

const STATE_VARIABLE: &str = "LIMEN_TEST_STATE";

struct Device {
    _temp: tempfile::TempDir,
    state: StateFolder,
    key: RootKey,
}

impl Device {
    fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        let state = StateFolder::open_or_create(&temp.path().join("state")).unwrap();
        let (key, _) = RootKey::load(&state, None).unwrap();
        Self { _temp: temp, state, key }
    }

    fn open(&self) -> Result<GalleryStore, GalleryError> {
        GalleryStore::open(&self.state, &self.key, Arc::new(SystemClock))
    }

    fn database(&self) -> PathBuf {
        self.state.path().join(DATABASE_FILE)
    }

    /// A connection of the test's own, past the store.
    fn connection(&self) -> Connection {
        let connection = Connection::open(self.database()).unwrap();
        let key = self.key.subkey(KeyPurpose::Database);
        let digits: String = key.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        connection.execute_batch(&format!("pragma key = \"x'{digits}'\"")).unwrap();
        connection
    }

    /// Every page of the database file, decrypted, freed places included.
    fn decrypted_pages(&self) -> Vec<u8> {
        self.connection().serialize("main").unwrap().to_vec()
    }

    /// Every file of the state folder but the key, as it lies on the disk.
    fn files(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let entries = std::fs::read_dir(self.state.path()).unwrap().map(|entry| entry.unwrap().path());
        let files = entries.filter(|path| path.is_file() && path.file_name() != Some(KEY_FILE.as_ref()));
        files.map(|path| (path.clone(), std::fs::read(&path).unwrap())).collect()
    }

    /// Runs a test marked as child of this file in a process of its own.
    fn child(&self, test: &str) -> Command {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", test, "--ignored", "--nocapture", "--test-threads=1"])
            .env(STATE_VARIABLE, self.state.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        command
    }
}

/// The device of the parent, in a child.
fn device_of_parent() -> Option<(StateFolder, RootKey)> {
    let state = StateFolder::open_or_create(Path::new(&std::env::var_os(STATE_VARIABLE)?)).unwrap();
    let (key, _) = RootKey::load(&state, None).unwrap();
    Some((state, key))
}

fn space() -> EmbeddingSpaceId {
    EmbeddingSpaceId::new("test/1")
}

fn name(text: &str) -> SubjectName {
    SubjectName::new(text).unwrap()
}

/// A direction that differs for each seed and whose every byte looks random.
fn embedding(seed: u64) -> Embedding {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let values = (0..128).map(|_| {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        (state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 40) as f32 / (1_u32 << 23) as f32 - 1.0
    });
    Embedding::normalised(values.collect(), space()).unwrap()
}

fn sample(seed: u64) -> NewSample {
    let quality = SampleQuality {
        score: QualityScore::new(0.8),
        eye_distance_px: 61.5,
        sharpness: 12.0,
        yaw_deg: -3.0,
        pitch_deg: 4.0,
        roll_deg: 0.5,
    };
    NewSample { origin: SampleOrigin::File, quality, embedding: embedding(seed), picture: None }
}

fn enrolment(subject: &str, seeds: std::ops::Range<u64>) -> Enrolment {
    Enrolment { subject: EnrolmentTarget::New(name(subject)), samples: seeds.map(sample).collect() }
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

#[test]
fn what_was_enrolled_is_there_after_reopening() {
    let device = Device::new();
    let receipt = device.open().unwrap().enrol(&enrolment("Ada Lovelace", 0..3)).unwrap();
    assert!(receipt.created);

    let store = device.open().unwrap();
    let subject = store.subject_named(&name("ADA LOVELACE")).unwrap().unwrap();
    assert_eq!((subject.id, subject.name.as_str(), subject.templates), (receipt.subject, "Ada Lovelace", 3));
    let samples = store.samples_of(receipt.subject).unwrap();
    assert_eq!(samples.iter().map(|s| s.template).collect::<Vec<_>>(), receipt.templates);
    assert_eq!((samples[0].origin, samples[0].quality), (SampleOrigin::File, sample(0).quality));
    let snapshot = store.load_snapshot(&space()).unwrap();
    assert_eq!((snapshot.report().subjects, snapshot.report().templates), (1, 3));
    let found = snapshot.search(&embedding(1), 1, &mut SearchScratch::new()).unwrap();
    assert_eq!((found[0].subject, found[0].template), (receipt.subject, receipt.templates[1]));
    assert_eq!(found[0].score, embedding(1).compare(&embedding(1)).unwrap(), "the same bits came back");
    assert_eq!(store.integrity_check().unwrap(), Vec::<String>::new());
}

#[test]
fn files_are_private_to_their_owner() {
    let device = Device::new();
    let _store = device.open().unwrap();
    for (path, _) in device.files() {
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{}", path.display());
    }
    assert_eq!(device.state.path().metadata().unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn commits_of_another_process_are_noticed_and_own_ones_are_not() {
    let device = Device::new();
    let mut store = device.open().unwrap();
    store.enrol(&enrolment("Ada", 0..1)).unwrap();
    assert!(!store.changed_by_others().unwrap());
    let output = device.child("child_enrols_once").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert!(store.changed_by_others().unwrap());
    assert!(!store.changed_by_others().unwrap(), "noticed once");
    assert_eq!(store.load_snapshot(&space()).unwrap().report().subjects, 2);
}

#[test]
#[ignore = "child of commits_of_another_process_are_noticed_and_own_ones_are_not"]
fn child_enrols_once() {
    let Some((state, key)) = device_of_parent() else { return };
    let mut store = GalleryStore::open(&state, &key, Arc::new(SystemClock)).unwrap();
    store.enrol(&enrolment("Grace", 10..13)).unwrap();
}

#[test]
fn two_writers_at_once_both_succeed() {
    let device = Device::new();
    std::thread::scope(|scope| {
        for writer in 0..2 {
            let device = &device;
            scope.spawn(move || {
                let mut store = device.open().unwrap();
                for i in 0..25 {
                    let seed = writer * 1000 + i * 2;
                    store.enrol(&enrolment(&format!("subject {writer} {i}"), seed..seed + 2)).unwrap();
                }
            });
        }
    });
    let statistics = device.open().unwrap().statistics().unwrap();
    assert_eq!((statistics.subjects, statistics.samples), (50, 100));
    assert_eq!(statistics.templates, [("test/1".to_owned(), 128, 100)]);
}

/// A process that is killed when it goes out of scope, whatever the test does.
struct KilledOnDrop(Child);

impl Drop for KilledOnDrop {
    fn drop(&mut self) {
        // Already dead is as good; there is nothing else to do about an error here.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[test]
fn killed_while_enrolling_nothing_acknowledged_is_lost_and_nothing_is_half_done() {
    const KILLS: usize = 25;
    const SAMPLES: u64 = 40;
    let device = Device::new();
    let mut acknowledged = HashMap::new();
    for kill in 0..KILLS {
        let mut child = KilledOnDrop(device.child("child_enrols_without_end").spawn().unwrap());
        let mut lines = BufReader::new(child.0.stdout.take().unwrap()).lines();
        let wanted = acknowledged.len() + 1 + kill % 4;
        while acknowledged.len() < wanted {
            let line = lines.next().expect("the child goes on until it is killed").unwrap();
            if let Some((_, receipt)) = line.split_once("enrolled ") {
                let (id, templates) = receipt.split_once(' ').unwrap();
                acknowledged.insert(id.parse::<SubjectId>().unwrap(), templates.to_owned());
            }
        }
        // The child is inside a transaction nearly always; spread the moment over its length.
        let moment = std::time::Instant::now() + Duration::from_micros(137 * kill as u64);
        while std::time::Instant::now() < moment {
            std::hint::spin_loop();
        }
        child.0.kill().unwrap();
        child.0.wait().unwrap();
        for line in lines.map_while(Result::ok) {
            if let Some((_, receipt)) = line.split_once("enrolled ")
                && let Some((id, templates)) = receipt.split_once(' ')
            {
                acknowledged.insert(id.parse().unwrap(), templates.to_owned());
            }
        }

        let store = device.open().unwrap();
        let subjects = store.subjects().unwrap();
        for subject in &subjects {
            assert_eq!(subject.templates, SAMPLES, "all samples of an enrolment or none");
        }
        for (id, templates) in &acknowledged {
            let samples = store.samples_of(*id).unwrap();
            let found: Vec<String> = samples.iter().map(|s| s.template.to_string()).collect();
            assert_eq!(&found.join(","), templates, "acknowledged after kill {kill}");
        }
        assert!(subjects.len() <= acknowledged.len() + kill + 1, "one unacknowledged for each kill at most");
        assert_eq!(store.integrity_check().unwrap(), Vec::<String>::new(), "after kill {kill}");
    }
    assert!(acknowledged.len() >= KILLS);
}

#[test]
#[ignore = "child of killed_while_enrolling_nothing_acknowledged_is_lost_and_nothing_is_half_done"]
fn child_enrols_without_end() {
    let Some((state, key)) = device_of_parent() else { return };
    let mut store = GalleryStore::open(&state, &key, Arc::new(SystemClock)).unwrap();
    let first = store.statistics().unwrap().subjects;
    // Bounded, should the parent die before it kills.
    for i in first..first + 2_000 {
        let receipt = store.enrol(&enrolment(&format!("subject {i}"), i * 40..i * 40 + 40)).unwrap();
        let templates: Vec<String> = receipt.templates.iter().map(ToString::to_string).collect();
        println!("enrolled {} {}", receipt.subject, templates.join(","));
    }
}

#[test]
fn killed_at_its_first_start_the_next_start_succeeds() {
    const KILLS: u64 = 25;
    for kill in 0..KILLS {
        let temp = tempfile::tempdir().unwrap();
        let folder = temp.path().join("state");
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", "child_starts_for_the_first_time", "--ignored", "--nocapture"])
            .env(STATE_VARIABLE, &folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = KilledOnDrop(command.spawn().unwrap());
        let mut lines = BufReader::new(child.0.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().contains("starting")));
        let moment = std::time::Instant::now() + Duration::from_micros(400 * kill);
        while std::time::Instant::now() < moment {
            std::hint::spin_loop();
        }
        drop(child);
        let state = StateFolder::open_or_create(&folder).unwrap();
        let (key, _) = RootKey::load(&state, None).unwrap();
        let mut store = GalleryStore::open(&state, &key, Arc::new(SystemClock)).unwrap();
        store.enrol(&enrolment("Ada", 0..1)).unwrap();
        let mut files: Vec<_> = std::fs::read_dir(&folder)
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        files.sort();
        assert_eq!(
            files,
            ["gallery.db", "gallery.db-shm", "gallery.db-wal", "media", "root.key"],
            "after kill {kill}"
        );
    }
}

#[test]
#[ignore = "child of killed_at_its_first_start_the_next_start_succeeds"]
fn child_starts_for_the_first_time() {
    let Some(folder) = std::env::var_os(STATE_VARIABLE) else { return };
    println!("starting");
    let state = StateFolder::open_or_create(Path::new(&folder)).unwrap();
    let (key, _) = RootKey::load(&state, None).unwrap();
    GalleryStore::open(&state, &key, Arc::new(SystemClock)).unwrap();
    // Stays until it is killed, or its parent has gone away.
    std::io::stdin().lines().for_each(drop);
}

#[test]
fn full_storage_fails_the_enrolment_and_leaves_the_gallery_as_it_was() {
    let device = Device::new();
    let output = device.child("child_runs_out_of_storage").output().unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && stdout.contains("enrolments before the limit"), "{stdout}");
    // And for a process that comes later.
    let store = device.open().unwrap();
    assert_eq!(store.integrity_check().unwrap(), Vec::<String>::new());
    assert!(store.subject_named(&name("afterwards")).unwrap().is_some());
}

#[test]
#[ignore = "child of full_storage_fails_the_enrolment_and_leaves_the_gallery_as_it_was"]
fn child_runs_out_of_storage() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Some((state, key)) = device_of_parent() else { return };
    let mut store = GalleryStore::open(&state, &key, Arc::new(SystemClock)).unwrap();
    // A write beyond the limit sends SIGXFSZ, which would end the process; caught, it is EFBIG.
    let caught = Arc::new(std::sync::atomic::AtomicBool::new(false));
    signal_hook::flag::register(signal_hook::consts::SIGXFSZ, Arc::clone(&caught)).unwrap();
    let maximum = getrlimit(Resource::Fsize).maximum;
    setrlimit(Resource::Fsize, Rlimit { current: Some(600_000), maximum }).unwrap();

    let mut done = 0;
    let error = loop {
        match store.enrol(&enrolment(&format!("subject {done}"), done * 50..done * 50 + 50)) {
            Ok(_) => done += 1,
            Err(error) => break error,
        }
        assert!(done < 1_000, "the limit was never reached");
    };
    assert!(matches!(error, GalleryError::Database(DatabaseError::Storage { .. })), "{error:?}");
    assert!(error.to_string().contains(DATABASE_FILE), "{error}");
    assert!(caught.load(std::sync::atomic::Ordering::SeqCst));
    assert_eq!(store.statistics().unwrap().subjects, done);
    assert_eq!(store.load_snapshot(&space()).unwrap().report().templates as u64, done * 50);
    assert!(done > 0);

    setrlimit(Resource::Fsize, Rlimit { current: maximum, maximum }).unwrap();
    store.enrol(&enrolment("afterwards", 0..1)).unwrap();
    println!("{done} enrolments before the limit");
}

#[test]
fn folder_that_cannot_be_written_is_an_error_that_says_so() {
    let device = Device::new();
    device.open().unwrap().enrol(&enrolment("Ada", 0..2)).unwrap();
    let mut command = device.child("child_finds_a_read_only_folder");
    let mut copy = None;
    if rustix::process::geteuid().is_root() {
        // Nothing is read-only to root: the child runs as another account that owns the files.
        const NOBODY: u32 = 65_534;
        let temp = tempfile::tempdir().unwrap();
        std::fs::set_permissions(temp.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let program = temp.path().join("child");
        std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
        let parent = device.state.path().parent().unwrap();
        std::fs::set_permissions(parent, std::fs::Permissions::from_mode(0o755)).unwrap();
        for entry in std::fs::read_dir(device.state.path()).unwrap() {
            std::os::unix::fs::chown(entry.unwrap().path(), Some(NOBODY), Some(NOBODY)).unwrap();
        }
        std::os::unix::fs::chown(device.state.path(), Some(NOBODY), Some(NOBODY)).unwrap();
        let mut other = Command::new(&program);
        other.args(command.get_args()).env(STATE_VARIABLE, device.state.path()).uid(NOBODY).gid(NOBODY);
        other.current_dir(parent).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        command = other;
        copy = Some(temp);
    }
    std::fs::set_permissions(device.state.path(), std::fs::Permissions::from_mode(0o500)).unwrap();
    let output = command.output().unwrap();
    std::fs::set_permissions(device.state.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    drop(copy);
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && stdout.contains("cannot be written"), "{stdout}");
}

#[test]
#[ignore = "child of folder_that_cannot_be_written_is_an_error_that_says_so"]
fn child_finds_a_read_only_folder() {
    let Some((state, key)) = device_of_parent() else { return };
    let error = GalleryStore::open(&state, &key, Arc::new(SystemClock)).unwrap_err();
    assert!(matches!(error, GalleryError::Database(DatabaseError::ReadOnly { .. })), "{error:?}");
    println!("{error}");
}

#[test]
fn wrong_key_is_refused_and_nothing_is_overwritten() {
    let device = Device::new();
    // The store stays open, so that there is a log which a wrong key must leave alone too.
    let mut store = device.open().unwrap();
    store.enrol(&enrolment("Ada", 0..3)).unwrap();
    let before = std::fs::read(device.database()).unwrap();
    let wrong = RootKey::from_bytes([7; 32]);
    let error = GalleryStore::open(&device.state, &wrong, Arc::new(SystemClock)).unwrap_err();
    assert!(matches!(error, GalleryError::Database(DatabaseError::WrongKey { .. })), "{error:?}");
    assert!(error.to_string().contains(DATABASE_FILE), "{error}");
    drop(store);
    let error = GalleryStore::open(&device.state, &wrong, Arc::new(SystemClock)).unwrap_err();
    assert!(matches!(error, GalleryError::Database(DatabaseError::WrongKey { .. })), "{error:?}");
    assert!(before.len() >= 4096 && std::fs::read(device.database()).unwrap().len() >= before.len());
    let store = device.open().unwrap();
    assert_eq!(store.load_snapshot(&space()).unwrap().report().templates, 3);
    assert_eq!(store.integrity_check().unwrap(), Vec::<String>::new());
}

#[test]
fn wrong_key_changes_no_byte_of_a_closed_database() {
    let device = Device::new();
    device.open().unwrap().enrol(&enrolment("Ada", 0..3)).unwrap();
    let before = device.files();
    let wrong = RootKey::from_bytes([7; 32]);
    assert!(GalleryStore::open(&device.state, &wrong, Arc::new(SystemClock)).is_err());
    assert_eq!(std::fs::read(device.database()).unwrap(), before[0].1);
    assert_eq!(before.len(), 1, "a closed gallery is one file");
}

/// Opens, loads and checks; every error must be one that names the file.
fn damage_is_noticed(device: &Device) -> bool {
    let result = device.open().and_then(|store| {
        store.load_snapshot(&space())?;
        store.subjects()?;
        store.integrity_check()
    });
    match result {
        Ok(findings) => !findings.is_empty(),
        Err(
            error @ GalleryError::Database(DatabaseError::Damaged { .. } | DatabaseError::WrongKey { .. }),
        ) => {
            assert!(error.to_string().contains(DATABASE_FILE), "{error}");
            true
        }
        Err(error) => panic!("unexpected error: {error:?}"),
    }
}

#[test]
fn truncated_database_is_noticed_at_every_length() {
    let device = Device::new();
    device.open().unwrap().enrol(&enrolment("Ada", 0..100)).unwrap();
    let whole = std::fs::read(device.database()).unwrap();
    assert!(!damage_is_noticed(&device), "the whole file is well");
    let pages = whole.len() / 4096;
    assert!(pages >= 20, "{pages} pages");
    let mut tried = 0;
    for length in (1..pages).map(|page| page * 4096).chain([0, 1, 15, 16, 100, 4095, 5000, whole.len() - 1]) {
        std::fs::write(device.database(), &whole[..length]).unwrap();
        assert!(damage_is_noticed(&device), "cut to {length} of {} bytes", whole.len());
        tried += 1;
    }
    assert_eq!(tried, pages - 1 + 8);
}

#[test]
fn flipped_bit_in_any_page_is_noticed() {
    let device = Device::new();
    device.open().unwrap().enrol(&enrolment("Ada", 0..100)).unwrap();
    let whole = std::fs::read(device.database()).unwrap();
    for at in (0..whole.len()).step_by(4096).map(|page| page + (page / 4096 * 397) % 4096) {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x10;
        std::fs::write(device.database(), &damaged).unwrap();
        assert!(damage_is_noticed(&device), "byte {at}");
    }
    std::fs::write(device.database(), &whole).unwrap();
    assert!(!damage_is_noticed(&device), "the whole file is well");
}

#[test]
fn pages_swapped_within_the_file_are_noticed() {
    let device = Device::new();
    device.open().unwrap().enrol(&enrolment("Ada", 0..100)).unwrap();
    let mut swapped = std::fs::read(device.database()).unwrap();
    let (left, right) = swapped.split_at_mut(10 * 4096);
    left[5 * 4096..6 * 4096].swap_with_slice(&mut right[..4096]);
    std::fs::write(device.database(), &swapped).unwrap();
    assert!(damage_is_noticed(&device));
}

#[test]
fn files_that_are_no_gallery_are_refused_and_left_alone() {
    let unencrypted = Device::new();
    Connection::open(unencrypted.database()).unwrap().execute_batch("create table t (x)").unwrap();
    let foreign = Device::new();
    foreign.connection().execute_batch("create table t (x)").unwrap();
    let text = Device::new();
    std::fs::write(text.database(), "this is no database, but long enough to be taken for one".repeat(100))
        .unwrap();
    let folder = Device::new();
    std::fs::create_dir(folder.database()).unwrap();
    let link = Device::new();
    std::os::unix::fs::symlink("/dev/null", link.database()).unwrap();

    let refused = |device: &Device| device.open().unwrap_err();
    let before = std::fs::read(unencrypted.database()).unwrap();
    assert!(matches!(refused(&unencrypted), GalleryError::Database(DatabaseError::NotEncrypted { .. })));
    assert_eq!(std::fs::read(unencrypted.database()).unwrap(), before);
    assert!(matches!(refused(&foreign), GalleryError::Database(DatabaseError::Foreign { .. })));
    assert!(matches!(refused(&text), GalleryError::Database(DatabaseError::WrongKey { .. })));
    assert!(matches!(refused(&folder), GalleryError::Database(DatabaseError::Foreign { .. })));
    assert!(matches!(refused(&link), GalleryError::Database(DatabaseError::Foreign { .. })));
}

#[test]
fn schema_of_a_newer_program_is_refused() {
    let device = Device::new();
    device.open().unwrap().enrol(&enrolment("Ada", 0..1)).unwrap();
    device.connection().pragma_update(None, "user_version", 99).unwrap();
    let error = device.open().unwrap_err();
    assert!(
        matches!(error, GalleryError::Database(DatabaseError::SchemaNewer { found: 99, .. })),
        "{error:?}"
    );
    device.connection().pragma_update(None, "user_version", 5).unwrap();
    assert_eq!(device.open().unwrap().statistics().unwrap().subjects, 1);
}

#[test]
fn names_and_templates_never_appear_in_the_files() {
    let device = Device::new();
    let mut store = device.open().unwrap();
    store.enrol(&enrolment("Wilhelmina Featherstonehaugh", 0..20)).unwrap();
    store.set_notes(store.subjects().unwrap()[0].id, "wears a remarkable hat").unwrap();
    let needles: [&[u8]; 4] =
        [b"Featherstonehaugh", b"featherstonehaugh", b"remarkable hat", &bytes(&embedding(7).values()[..8])];
    let files = device.files();
    assert!(
        files.iter().any(|(path, _)| path.extension() == Some("db-wal".as_ref())),
        "the log is looked at"
    );
    for needle in needles {
        for (path, content) in &files {
            assert!(!contains(content, needle), "{}", path.display());
        }
        assert!(contains(&device.decrypted_pages(), needle), "the scan would find it");
    }
    assert!(!contains(&files[0].1, b"SQLite format 3") && !contains(&files[0].1, b"create table"));
}

/// What of one subject is still somewhere in the decrypted pages or the log.
fn traces(device: &Device, needles: &[Vec<u8>]) -> usize {
    let pages = device.decrypted_pages();
    needles.iter().filter(|needle| contains(&pages, needle)).count()
}

/// A gallery of 200 subjects and what to look for of one in the middle.
fn two_hundred(store: &mut GalleryStore) -> (SubjectId, Vec<Vec<u8>>) {
    for i in 0..200_u64 {
        if i != 99 {
            store.enrol(&enrolment(&format!("subject number {i}"), i * 3..i * 3 + 3)).unwrap();
        } else {
            store.enrol(&enrolment("Zebulon Quillfeather", 5000..5003)).unwrap();
        }
    }
    let id = store.subject_named(&name("zebulon quillfeather")).unwrap().unwrap().id;
    store.set_notes(id, "allergic to walnuts").unwrap();
    let mut needles: Vec<Vec<u8>> =
        vec![b"Quillfeather".to_vec(), b"quillfeather".to_vec(), b"walnuts".to_vec(), id.as_bytes().to_vec()];
    for seed in 5000..5003 {
        // Sixteen bytes at a time: also a part of a template must not be left.
        needles.extend(embedding(seed).values().chunks(4).map(bytes));
    }
    (id, needles)
}

#[test]
fn removed_subject_leaves_no_byte_behind() {
    let device = Device::new();
    let mut store = device.open().unwrap();
    let (id, needles) = two_hundred(&mut store);
    assert_eq!(traces(&device, &needles), needles.len(), "before the removal all is found");
    let receipt = store.remove(id).unwrap();
    assert_eq!((receipt.subjects, receipt.samples, receipt.templates), (1, 3, 3));
    assert!(receipt.log_emptied);
    assert_eq!(device.database().with_extension("db-wal").metadata().unwrap().size(), 0);
    assert_eq!(traces(&device, &needles), 0);
    assert_eq!(store.integrity_check().unwrap(), Vec::<String>::new());
    assert_eq!(store.load_snapshot(&space()).unwrap().report().subjects, 199);
    assert!(matches!(store.remove(id), Err(GalleryError::SubjectUnknown)));
}

#[test]
fn log_that_a_crash_left_is_taken_in_and_emptied_at_the_next_start() {
    let device = Device::new();
    let mut store = device.open().unwrap();
    store.enrol(&enrolment("Ada", 0..3)).unwrap();
    // What the disk holds if the process ends here: the store is open and its log is full.
    let crashed = Device::new();
    std::fs::copy(device.state.path().join(KEY_FILE), crashed.state.path().join(KEY_FILE)).unwrap();
    let (key, _) = RootKey::load(&crashed.state, None).unwrap();
    let crashed = Device { key, ..crashed };
    let log = |device: &Device| device.database().with_extension("db-wal");
    for path in [device.database(), log(&device)] {
        std::fs::copy(&path, crashed.state.path().join(path.file_name().unwrap())).unwrap();
    }
    assert!(log(&crashed).metadata().unwrap().size() > 0, "the enrolment is in the log only");
    let reopened = crashed.open().unwrap();
    assert_eq!(log(&crashed).metadata().unwrap().size(), 0);
    assert_eq!(reopened.load_snapshot(&space()).unwrap().report().templates, 3);
    assert_eq!(reopened.integrity_check().unwrap(), Vec::<String>::new());
}

#[test]
fn without_overwriting_a_removed_subject_would_be_found() {
    let device = Device::new();
    let (id, needles) = two_hundred(&mut device.open().unwrap());
    let connection = device.connection();
    connection.execute_batch("pragma foreign_keys = on; pragma secure_delete = off").unwrap();
    connection.execute("delete from subject where id = ?1", [id.as_bytes()]).unwrap();
    drop(connection);
    assert!(traces(&device, &needles) > needles.len() / 2);
}

#[test]
fn removal_says_when_a_reader_keeps_the_log_alive() {
    let device = Device::new();
    let mut store = device.open().unwrap();
    let receipt = store.enrol(&enrolment("Ada", 0..3)).unwrap();
    let reader = device.connection();
    reader.execute_batch("begin; select count(*) from subject;").unwrap();
    let mut impatient = device.connection();
    impatient.busy_timeout(Duration::ZERO).unwrap();
    let started = std::time::Instant::now();
    let removal = store.remove(receipt.subject).unwrap();
    assert!(!removal.log_emptied);
    assert!(started.elapsed() < Duration::from_secs(8), "bounded by the busy time-out");
    reader.execute_batch("commit").unwrap();
    assert!(impatient.transaction().is_ok(), "nothing is left locked");
}

#[test]
fn old_name_leaves_with_a_renaming() {
    let device = Device::new();
    let mut store = device.open().unwrap();
    let id = store.enrol(&enrolment("Zebulon Quillfeather", 0..2)).unwrap().subject;
    let other = store.enrol(&enrolment("Grace", 5..6)).unwrap().subject;
    assert!(matches!(store.rename(id, &name("gRACE")), Err(GalleryError::NameTaken)));
    store.rename(id, &name("zebulon Quillfeather")).unwrap();
    store.rename(id, &name("Zeb")).unwrap();
    assert_eq!(store.subject(id).unwrap().unwrap().name.as_str(), "Zeb");
    assert_eq!(traces(&device, &[b"Quillfeather".to_vec(), b"quillfeather".to_vec()]), 0);
    store.remove(other).unwrap();
    assert!(matches!(store.rename(other, &name("Hopper")), Err(GalleryError::SubjectUnknown)));
}

#[test]
fn removed_template_goes_with_its_sample_and_leaves_the_subject() {
    let device = Device::new();
    let mut store = device.open().unwrap();
    let receipt = store.enrol(&enrolment("Ada", 0..3)).unwrap();
    let removal = store.remove_template(receipt.templates[1]).unwrap();
    assert_eq!((removal.subjects, removal.samples, removal.templates), (0, 1, 1));
    assert!(matches!(store.remove_template(receipt.templates[1]), Err(GalleryError::TemplateUnknown)));
    assert_eq!(store.samples_of(receipt.subject).unwrap().len(), 2);
    assert_eq!(traces(&device, &[bytes(&embedding(1).values()[..4])]), 0);
}

#[test]
fn enrolment_that_fails_leaves_nothing() {
    let device = Device::new();
    let mut store = device.open().unwrap();
    let ada = store.enrol(&enrolment("Ada", 0..2)).unwrap().subject;
    let short = Embedding::normalised(vec![1.0; 64], space()).unwrap();
    let mut mixed = enrolment("Grace", 2..5);
    mixed.samples[2].embedding = short;
    assert!(matches!(
        store.enrol(&mixed),
        Err(GalleryError::OtherDimensions { expected: 128, found: 64, .. })
    ));
    assert!(store.subject_named(&name("Grace")).unwrap().is_none());
    assert!(matches!(store.enrol(&enrolment("ADA", 2..3)), Err(GalleryError::NameTaken)));
    assert!(matches!(store.enrol(&enrolment("Grace", 0..0)), Err(GalleryError::NoSamples)));
    assert!(matches!(
        store.enrol(&enrolment("Grace", 0..300)),
        Err(GalleryError::TooManySamples { found: 300 })
    ));
    let unknown = EnrolmentTarget::Existing(SubjectId::from_bytes([9; 16]));
    let samples = vec![sample(1)];
    assert!(matches!(
        store.enrol(&Enrolment { subject: unknown, samples: samples.clone() }),
        Err(GalleryError::SubjectUnknown)
    ));
    let mut broken = samples.clone();
    broken[0].quality.yaw_deg = f32::NAN;
    assert!(store.enrol(&Enrolment { subject: EnrolmentTarget::Existing(ada), samples: broken }).is_err());
    let added = store.enrol(&Enrolment { subject: EnrolmentTarget::Existing(ada), samples }).unwrap();
    assert!(!added.created);
    let statistics = store.statistics().unwrap();
    assert_eq!((statistics.subjects, statistics.samples), (1, 3));
}

#[test]
fn templates_of_another_space_are_left_out_and_counted() {
    let device = Device::new();
    let mut store = device.open().unwrap();
    store.enrol(&enrolment("Ada", 0..3)).unwrap();
    let mut other = enrolment("Grace", 3..5);
    for sample in &mut other.samples {
        let values = sample.embedding.values()[..64].to_vec();
        sample.embedding = Embedding::normalised(values, EmbeddingSpaceId::new("test/2")).unwrap();
    }
    store.enrol(&other).unwrap();
    let report = store.load_snapshot(&space()).unwrap().report();
    assert_eq!((report.templates, report.subjects, report.other_space), (3, 1, 2));
    let report = store.load_snapshot(&EmbeddingSpaceId::new("test/3")).unwrap().report();
    assert_eq!((report.templates, report.subjects, report.other_space), (0, 0, 5));
}

#[test]
fn expired_subject_is_left_out_from_that_moment_on() {
    let device = Device::new();
    let clock = Arc::new(SimulatedClock::new(UnixMillis(1_000_000)));
    let mut store = GalleryStore::open(&device.state, &device.key, clock.clone()).unwrap();
    let ada = store.enrol(&enrolment("Ada", 0..3)).unwrap().subject;
    store.enrol(&enrolment("Grace", 3..5)).unwrap();
    let expiry = UnixMillis(clock.wall().0 + 60_000);
    store.set_expiry(ada, Some(expiry)).unwrap();
    let report = store.load_snapshot(&space()).unwrap().report();
    assert_eq!((report.subjects, report.expired, report.next_expiry), (2, 0, Some(expiry)));
    clock.advance(Duration::from_secs(60));
    let report = store.load_snapshot(&space()).unwrap().report();
    assert_eq!((report.subjects, report.expired, report.next_expiry), (1, 3, None));
    store.set_expiry(ada, None).unwrap();
    assert_eq!(store.load_snapshot(&space()).unwrap().report().subjects, 2);
}

#[test]
fn wall_clock_set_back_does_not_break_changes() {
    let device = Device::new();
    let later = Arc::new(SimulatedClock::new(UnixMillis(2_000_000)));
    let id = GalleryStore::open(&device.state, &device.key, later)
        .unwrap()
        .enrol(&enrolment("Ada", 0..1))
        .unwrap()
        .subject;
    let earlier = Arc::new(SimulatedClock::new(UnixMillis(1_000)));
    let mut store = GalleryStore::open(&device.state, &device.key, earlier).unwrap();
    store.rename(id, &name("Countess")).unwrap();
    let subject = store.subject(id).unwrap().unwrap();
    assert!(subject.updated_at >= subject.created_at);
}

#[test]
fn errors_and_debug_output_show_no_names() {
    let device = Device::new();
    let mut store = device.open().unwrap();
    store.enrol(&enrolment("Quillfeather", 0..1)).unwrap();
    let error = store.enrol(&enrolment("Quillfeather", 1..2)).unwrap_err();
    let subject = store.subjects().unwrap().remove(0);
    let snapshot = store.load_snapshot(&space()).unwrap();
    let shown = format!(
        "{error} {error:?} {store:?} {subject:?} {snapshot:?} {:?} {:?}",
        snapshot.subjects(),
        enrolment("Quillfeather", 0..1)
    );
    assert!(!shown.to_lowercase().contains("quillfeather"), "{shown}");
}

/// Columns of every table, for comparing two ways to one schema: `alter table` leaves another text.
fn columns(connection: &Connection) -> Vec<(String, String, String, bool, Option<String>)> {
    let mut query = connection
        .prepare(
            "select t.name, c.name, c.type, c.\"notnull\", c.dflt_value
             from sqlite_schema t, pragma_table_xinfo(t.name) c
             where t.type = 'table' order by t.name, c.name",
        )
        .unwrap();
    let rows = query.query_map([], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?, r.get(4)?))).unwrap();
    rows.collect::<Result<_, _>>().unwrap()
}

/// Puts a gallery of an older version, in which there is Ada with one template, in the place of a
/// device's own. `values` are those of a row of the old table `subject`.
fn make_older(device: &Device, version: i32, script: &str, values: &str) {
    device.open().unwrap().enrol(&enrolment("Ada", 0..2)).unwrap();
    let old = device.connection();
    let (template, space_row): (Vec<u8>, String) = old
        .query_row("select embedding, embedding_space from template limit 1", [], |r| {
            Ok((r.get(0)?, r.get(1)?))
        })
        .unwrap();
    let drop_all: Vec<String> = {
        let mut query = old
            .prepare("select name from sqlite_schema where type = 'table' and name not like 'sqlite_%'")
            .unwrap();
        let names = query.query_map([], |row| row.get::<_, String>(0)).unwrap();
        names.map(|name| format!("drop table {};", name.unwrap())).collect()
    };
    old.execute_batch(&format!("pragma foreign_keys = off; {}", drop_all.join(" "))).unwrap();
    old.execute_batch(script).unwrap();
    let subject = SubjectId::from_bytes([7; 16]);
    old.execute(&format!("insert into subject values (?1, {values})"), [subject.as_bytes()]).unwrap();
    old.execute("insert into embedding_space values (?1, ?2)", (&space_row, template.len() / 4)).unwrap();
    old.execute(
        "insert into sample values (1, ?1, 'file', 0.8, 60.0, 0.5, 0.0, 0.0, 0.0, 1)",
        [subject.as_bytes()],
    )
    .unwrap();
    old.execute(
        "insert into template values (1, 1, ?1, ?2, ?3, ?4, 1)",
        (subject.as_bytes(), &space_row, template.len() / 4, &template),
    )
    .unwrap();
    old.pragma_update(None, "user_version", version).unwrap();
}

/// The columns of a new file.
fn fresh_columns() -> Vec<(String, String, String, bool, Option<String>)> {
    let device = Device::new();
    device.open().unwrap();
    columns(&device.connection())
}

#[test]
fn gallery_of_version_1_is_brought_up_with_everybody_in_it() {
    let device = Device::new();
    make_older(&device, 1, include_str!("fixtures/schemas/gallery-1.sql"), "'Ada', 'ada', null, 1, 1, null");
    let mut store = device.open().unwrap();
    assert_eq!(columns(&device.connection()), fresh_columns());
    let everybody = store.subjects().unwrap();
    assert_eq!((everybody.len(), everybody[0].templates, everybody[0].announced), (1, 1, false));
    assert_eq!(store.load_snapshot(&space()).unwrap().report().templates, 1);
    store.set_announced(everybody[0].id, true).unwrap();
    assert!(store.load_snapshot(&space()).unwrap().subjects()[0].announced);
    assert_eq!(store.integrity_check().unwrap(), Vec::<String>::new());
}

#[test]
fn gallery_of_version_2_is_brought_up_and_its_names_are_found() {
    // What parts words differs between Unicode and SQL only where the step was written carelessly.
    let names = ["Ada Lovelace", "Jean-Luc O'Brien (2. Stock)", "Ελένη Παπαδοπούλου", "X"];
    let mut checked = 0;
    for name_text in names {
        let device = Device::new();
        let key = name_text.to_lowercase();
        let (quoted, key) = (name_text.replace('\'', "''"), key.replace('\'', "''"));
        let values = format!("'{quoted}', '{key}', null, 1, 1, null, 1");
        make_older(&device, 2, include_str!("fixtures/schemas/gallery-2.sql"), &values);
        let mut store = device.open().unwrap();
        assert_eq!(columns(&device.connection()), fresh_columns());
        let words = |device: &Device| -> Vec<String> {
            let connection = device.connection();
            let mut query = connection.prepare("select word from subject_word order by word").unwrap();
            let rows = query.query_map([], |row| row.get(0)).unwrap();
            rows.collect::<Result<_, _>>().unwrap()
        };
        let migrated = words(&device);
        let subject = store.subjects().unwrap().remove(0);
        assert_eq!((subject.name.as_str(), subject.announced, subject.picture), (name_text, true, None));
        // Writing the same name again makes the words as this version does.
        store.rename(subject.id, &name(name_text)).unwrap();
        assert_eq!(migrated, words(&device));
        assert!(!migrated.is_empty());
        checked += 1;
    }
    assert_eq!(checked, 4);
}

#[test]
fn gallery_of_version_4_is_brought_up_and_may_have_a_door() {
    let device = Device::new();
    let values = "'Ada', 'ada', null, 1, 1, null, 0, 1, null";
    make_older(&device, 4, include_str!("fixtures/schemas/gallery-4.sql"), values);
    let mut store = device.open().unwrap();
    assert_eq!(columns(&device.connection()), fresh_columns());
    assert_eq!(store.door_policy().unwrap(), None);
    let people = store.people().unwrap();
    assert_eq!(people.len(), 1);
    let new =
        NewCredential { is_pin: true, subject: people.keys().next().copied(), ..NewCredential::default() };
    assert!(store.add_credential(&new).unwrap().pin.is_some());
    assert_eq!(store.integrity_check().unwrap(), Vec::<String>::new());
}

#[test]
fn gallery_of_version_3_is_brought_up_and_its_pictures_move_into_files() {
    let device = Device::new();
    let values = "'Ada', 'ada', null, 1, 1, null, 0";
    make_older(&device, 3, include_str!("fixtures/schemas/gallery-3.sql"), values);
    let jpeg: Vec<u8> = (0..9_000_u32).map(|i| (i * 7 % 251) as u8).collect();
    device.connection().execute("insert into picture values (1, ?1)", [&jpeg]).unwrap();
    let mut store = device.open().unwrap();
    // The version before can be put back by hand, until somebody is erased.
    let former = device.state.path().join("gallery.db.schema-3");
    assert!(former.exists());
    assert_eq!(columns(&device.connection()), fresh_columns());
    let sample = SampleId(1);
    assert_eq!(store.picture(sample).unwrap().as_ref(), Some(&jpeg), "before it is moved");
    assert_eq!(store.move_pictures(10).unwrap(), 1);
    assert_eq!(store.move_pictures(10).unwrap(), 0);
    assert_eq!(store.picture(sample).unwrap().as_ref(), Some(&jpeg));
    assert_eq!(std::fs::read_dir(device.state.path().join("media")).unwrap().count(), 1);
    assert_eq!(store.integrity_check().unwrap(), Vec::<String>::new());
    store.remove(store.subjects().unwrap()[0].id).unwrap();
    assert!(!former.exists());
    assert_eq!(std::fs::read_dir(device.state.path().join("media")).unwrap().count(), 0);
    // The log goes with the connection, and what stood in the row with it.
    drop(store);
    assert_eq!(traces(&device, &[jpeg[..64].to_vec()]), 0);
}
