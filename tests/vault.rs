//! Pictures and the root key at rest, from the outside: files that are damaged, swapped, left behind; a key
//! that is changed, also by processes that are killed while they do it.

#![allow(clippy::print_stdout, reason = "child processes report to their parent")]
#![allow(clippy::unwrap_used, reason = "a test says what failed by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use limen::admin::accounts::AccountStore;
use limen::clock::SystemClock;
use limen::embedding::{Embedding, EmbeddingSpaceId};
use limen::erasure::search;
use limen::event_store::EventStore;
use limen::frame::RgbImage;
use limen::gallery::{
    Enrolment, EnrolmentTarget, GalleryError, GalleryStore, NewSample, SampleId, SampleOrigin, SamplePicture,
    SampleQuality, SubjectId, SubjectName,
};
use limen::media::{MEDIA_FOLDER, MediaError};
use limen::rekey::{RekeyError, rekey_offline};
use limen::score::QualityScore;
use limen::vault::{CREDENTIAL_NAME, FORMER_CREDENTIAL_NAME, KEY_FILE, KeySource, RootKey, StateFolder};

const STATE_VARIABLE: &str = "LIMEN_TEST_STATE";
/// How often a process is killed; 500 in what docs/performance.md reports.
const KILLS_VARIABLE: &str = "LIMEN_TEST_KILLS";
/// Samples of each enrolment.
const SAMPLES: u64 = 2;

fn random(seed: u64) -> impl Iterator<Item = u64> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    std::iter::repeat_with(move || {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32
    })
}

fn space() -> EmbeddingSpaceId {
    EmbeddingSpaceId::new("test/1")
}

fn sample(seed: u64) -> NewSample {
    let pixels = random(seed).map(|value| value as u8).take(48 * 48 * 3).collect();
    let values = random(seed).map(|value| value as f32 / u32::MAX as f32 - 0.5).take(128).collect();
    NewSample {
        origin: SampleOrigin::File,
        quality: SampleQuality {
            score: QualityScore::new(0.8),
            eye_distance_px: 61.5,
            sharpness: 12.0,
            yaw_deg: -3.0,
            pitch_deg: 4.0,
            roll_deg: 0.5,
        },
        embedding: Embedding::normalised(values, space()).unwrap(),
        picture: SamplePicture::encode(&RgbImage::from_pixels(48, 48, pixels).unwrap()),
    }
}

fn enrol(store: &mut GalleryStore, name: &str, seed: u64) -> SubjectId {
    let samples = (seed * SAMPLES..(seed + 1) * SAMPLES).map(sample).collect();
    let subject = EnrolmentTarget::New(SubjectName::new(name).unwrap());
    store.enrol(&Enrolment { subject, samples }).unwrap().subject
}

fn state_of(folder: &Path) -> StateFolder {
    StateFolder::open_or_create(folder).unwrap()
}

fn load(state: &StateFolder) -> (RootKey, KeySource) {
    RootKey::load(state, None).unwrap()
}

fn open(state: &StateFolder, key: &RootKey) -> GalleryStore {
    GalleryStore::open(state, key, Arc::new(SystemClock)).unwrap()
}

/// The databases that a service has besides the gallery.
fn open_others(state: &StateFolder, key: &RootKey) {
    EventStore::open(state, key, Arc::new(SystemClock), Duration::from_secs(10)).unwrap();
    AccountStore::open(state, key, Arc::new(SystemClock)).unwrap();
}

fn pictures(store: &GalleryStore, subject: SubjectId) -> BTreeMap<i64, Vec<u8>> {
    let samples = store.samples_of(subject).unwrap();
    samples.iter().map(|sample| (sample.id.0, store.picture(sample.id).unwrap().unwrap())).collect()
}

fn media_files(state: &StateFolder) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(state.path().join(MEDIA_FOLDER)).unwrap();
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// Every file below the state folder but the keys.
fn all_files(state: &StateFolder) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = std::fs::read_dir(state.path()).unwrap().map(|entry| entry.unwrap().path());
    let files = entries.filter(|path| path.is_file() && !path.to_string_lossy().contains(KEY_FILE));
    files.chain(media_files(state)).map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

struct Device {
    temp: tempfile::TempDir,
    state: StateFolder,
    key: RootKey,
    source: KeySource,
}

impl Device {
    fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        let state = state_of(&temp.path().join("state"));
        let (key, source) = load(&state);
        Self { temp, state, key, source }
    }

    fn open(&self) -> GalleryStore {
        open(&self.state, &self.key)
    }
}

#[test]
fn pictures_lie_in_files_that_show_neither_a_picture_nor_a_name() {
    let device = Device::new();
    let mut store = device.open();
    let subject = enrol(&mut store, "Wilhelmina Featherstonehaugh", 1);
    let kept = pictures(&store, subject);
    assert_eq!((kept.len(), media_files(&device.state).len()), (2, 2));
    for jpeg in kept.values() {
        assert!(jpeg.starts_with(b"\xff\xd8\xff"), "it comes back as a JPEG");
        for needle in [&jpeg[..4], &jpeg[jpeg.len() / 2..][..12], b"Featherstonehaugh", b"JFIF"] {
            for (path, content) in all_files(&device.state) {
                // Four bytes stand in a megabyte of random ones once in some 4,000 runs: at the beginning of
                // a file they never do by chance.
                let found =
                    if needle.len() < 5 { content.starts_with(needle) } else { contains(&content, needle) };
                assert!(!found, "{}", path.display());
            }
        }
    }
    // With the key everything is there.
    assert_eq!(store.integrity_check().unwrap(), Vec::<String>::new());
}

#[test]
fn erased_subject_takes_its_pictures_and_their_key_along() {
    let device = Device::new();
    let mut store = device.open();
    let (ada, grace) = (enrol(&mut store, "Ada", 1), enrol(&mut store, "Grace", 2));
    let copies: Vec<(PathBuf, Vec<u8>)> = media_files(&device.state)
        .into_iter()
        .map(|path| (path.clone(), std::fs::read(path).unwrap()))
        .collect();
    let removal = store.remove(ada).unwrap();
    assert_eq!((removal.pictures, removal.files_left, removal.log_emptied), (2, 0, true));
    assert_eq!(media_files(&device.state).len(), 2);
    assert_eq!(pictures(&store, grace).len(), 2);
    // Whoever kept copies of the files has nothing: put back, they are files that nobody refers to.
    drop(store);
    for (path, content) in copies {
        std::fs::write(path, content).unwrap();
    }
    assert_eq!(media_files(&device.state).len(), 4);
    let store = device.open();
    assert_eq!(media_files(&device.state).len(), 2, "swept when the gallery is opened");
    assert_eq!(store.integrity_check().unwrap(), Vec::<String>::new());
}

#[test]
fn of_two_hundred_an_erased_one_is_found_nowhere() {
    let device = Device::new();
    open_others(&device.state, &device.key);
    let mut store = device.open();
    let ids: Vec<SubjectId> = (0..200).map(|i| enrol(&mut store, &format!("Person number {i}"), i)).collect();
    let erased = ids[99];
    let traces = store.traces_of(erased).unwrap();
    let looked = || search(&device.state, &device.key, &traces);
    let before = looked();
    let kinds: BTreeSet<String> = before.found.iter().map(|trace| format!("{:?}", trace.kind)).collect();
    assert_eq!(kinds.into_iter().collect::<Vec<_>>(), ["Id", "Name", "Template"], "the search would find it");
    for trace in &before.found {
        assert_eq!(trace.place, "gallery.db, decrypted", "nothing shows without the key");
    }
    assert_eq!((before.databases, before.not_searched.len()), (3, 0));
    assert!(before.files > 400 && before.bytes > 1 << 20, "{before:?}");

    store.remove(erased).unwrap();
    let after = looked();
    assert_eq!((&after.found[..], &after.not_searched[..]), (&[][..], &[][..]));
    assert_eq!(before.files - after.files, SAMPLES, "its pictures, and no other file");
    // Plain bytes anywhere are found too, also across the pieces a file is read in.
    let mut leaked = vec![0_u8; (1 << 20) - 3];
    leaked.extend_from_slice(erased.to_string().as_bytes());
    std::fs::write(device.state.path().join("leak"), leaked).unwrap();
    let found = looked().found;
    assert_eq!((found.len(), found[0].place.as_str()), (1, "leak"));
    assert_eq!(store.subjects().unwrap().len(), 199);
}

#[test]
fn damaged_missing_and_swapped_pictures_are_named_and_recognition_goes_on() {
    let device = Device::new();
    let mut store = device.open();
    let subjects = [enrol(&mut store, "Ada", 1), enrol(&mut store, "Grace", 2)];
    let samples: Vec<SampleId> =
        subjects.iter().flat_map(|id| store.samples_of(*id).unwrap()).map(|sample| sample.id).collect();
    // Which file is whose cannot be told from outside: each is tried.
    let files = media_files(&device.state);
    let whole: Vec<Vec<u8>> = files.iter().map(|path| std::fs::read(path).unwrap()).collect();
    let broken = |store: &GalleryStore| {
        let results = samples.iter().map(|sample| store.picture(*sample));
        let errors: Vec<_> = results.filter_map(Result::err).collect();
        for error in &errors {
            assert!(matches!(error, GalleryError::Media(_)), "{error}");
        }
        assert_eq!(store.integrity_check().unwrap().len(), errors.len());
        assert_eq!(store.load_snapshot(&space()).unwrap().report().templates, 4);
        errors
    };
    assert_eq!(broken(&store).len(), 0);
    for (path, content) in files.iter().zip(&whole) {
        let mut changed = content.clone();
        changed[content.len() / 2] ^= 1;
        std::fs::write(path, &changed).unwrap();
        let errors = broken(&store);
        assert!(matches!(errors[..], [GalleryError::Media(MediaError::Damaged { .. })]), "{errors:?}");
        std::fs::remove_file(path).unwrap();
        let errors = broken(&store);
        assert!(matches!(errors[..], [GalleryError::Media(MediaError::Missing { .. })]), "{errors:?}");
        std::fs::write(path, content).unwrap();
    }
    // Each in the place of the next.
    for (path, content) in files.iter().zip(whole.iter().cycle().skip(1)) {
        std::fs::write(path, content).unwrap();
    }
    assert_eq!(broken(&store).len(), 4);
    assert_eq!(media_files(&device.state).len(), 4, "nothing is thrown away");
}

#[test]
fn changed_key_opens_everything_and_the_one_before_opens_nothing() {
    let device = Device::new();
    let mut store = device.open();
    let ada = enrol(&mut store, "Ada", 1);
    let before = pictures(&store, ada);
    let files_before: BTreeSet<PathBuf> = media_files(&device.state).into_iter().collect();
    drop(store);
    open_others(&device.state, &device.key);
    let old_text = std::fs::read(device.state.path().join(KEY_FILE)).unwrap();

    rekey_offline(&device.state, device.key.clone(), &device.source).unwrap();

    let (key, source) = load(&device.state);
    assert!(!key.is_changing() && matches!(source, KeySource::File { created: false, .. }));
    assert_ne!(std::fs::read(device.state.path().join(KEY_FILE)).unwrap(), old_text);
    let store = open(&device.state, &key);
    assert_eq!(pictures(&store, ada), before);
    assert_eq!(store.integrity_check().unwrap(), Vec::<String>::new());
    open_others(&device.state, &key);
    assert!(media_files(&device.state).iter().all(|path| !files_before.contains(path)), "encrypted anew");
    drop(store);
    let others = [
        GalleryStore::open(&device.state, &device.key, Arc::new(SystemClock))
            .map(|_| ())
            .unwrap_err()
            .to_string(),
        EventStore::open(&device.state, &device.key, Arc::new(SystemClock), Duration::ZERO)
            .map(|_| ())
            .unwrap_err()
            .to_string(),
        AccountStore::open(&device.state, &device.key, Arc::new(SystemClock))
            .map(|_| ())
            .unwrap_err()
            .to_string(),
    ];
    for error in others {
        assert!(error.contains("does not open with this root key"), "{error}");
    }
}

#[test]
fn key_is_not_changed_under_a_database_that_somebody_has_open() {
    let device = Device::new();
    let mut store = device.open();
    let ada = enrol(&mut store, "Ada", 1);
    let refused = rekey_offline(&device.state, device.key.clone(), &device.source);
    assert!(matches!(refused, Err(RekeyError::Unfinished(_))), "{refused:?}");
    // Whoever has it open goes on, and so does the next start, which has both keys.
    assert_eq!(pictures(&store, ada).len(), 2);
    enrol(&mut store, "Grace", 2);
    drop(store);
    let (key, source) = load(&device.state);
    assert!(key.is_changing());
    rekey_offline(&device.state, key, &source).unwrap();
    let (key, _) = load(&device.state);
    assert!(!key.is_changing());
    assert_eq!(open(&device.state, &key).subjects().unwrap().len(), 2);
}

#[test]
fn credential_takes_the_place_of_a_key_file_and_of_another_credential() {
    let device = Device::new();
    let ada = enrol(&mut device.open(), "Ada", 1);
    open_others(&device.state, &device.key);
    let credentials = device.temp.path().join("credentials");
    std::fs::create_dir(&credentials).unwrap();
    let give = |name: &str, digit: &str| std::fs::write(credentials.join(name), digit.repeat(64)).unwrap();
    give(CREDENTIAL_NAME, "a");
    let (key, source) = RootKey::load(&device.state, Some(&credentials)).unwrap();
    assert!(key.is_changing());
    rekey_offline(&device.state, key, &source).unwrap();
    assert!(!device.state.path().join(KEY_FILE).exists(), "whoever takes the storage must not find it");
    let (key, source) = RootKey::load(&device.state, Some(&credentials)).unwrap();
    assert_eq!((key.is_changing(), source.warning()), (false, None));
    assert_eq!(pictures(&open(&device.state, &key), ada).len(), 2);
    // A key of outside is changed outside.
    let refused = rekey_offline(&device.state, key, &source);
    assert!(matches!(refused, Err(RekeyError::GivenFromOutside(_))), "{refused:?}");
    give(CREDENTIAL_NAME, "b");
    give(FORMER_CREDENTIAL_NAME, "a");
    let (key, source) = RootKey::load(&device.state, Some(&credentials)).unwrap();
    rekey_offline(&device.state, key, &source).unwrap();
    std::fs::remove_file(credentials.join(FORMER_CREDENTIAL_NAME)).unwrap();
    let (key, _) = RootKey::load(&device.state, Some(&credentials)).unwrap();
    assert_eq!(pictures(&open(&device.state, &key), ada).len(), 2);
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

fn work_in_a_child(state: &StateFolder, seed: usize) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_works_without_end", "--ignored", "--nocapture", "--test-threads=1"])
        .env(STATE_VARIABLE, state.path())
        .env("LIMEN_TEST_SEED", seed.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// What the child has said.
#[derive(Default)]
struct Told {
    enrolled: BTreeSet<SubjectId>,
    removing: BTreeSet<SubjectId>,
    removed: BTreeSet<SubjectId>,
    rotations: usize,
    templates: usize,
}

impl Told {
    fn hear(&mut self, line: &str) {
        let Some((_, told)) = line.split_once("told: ") else { return };
        let id = |text: &str| text.parse::<SubjectId>().unwrap();
        match told.split_once(' ') {
            Some(("enrolled", text)) => drop(self.enrolled.insert(id(text))),
            Some(("removing", text)) => drop(self.removing.insert(id(text))),
            Some(("removed", text)) => drop(self.removed.insert(id(text))),
            Some(("templates", _)) => self.templates += 1,
            Some(("rotated", _)) => self.rotations += 1,
            _ => {}
        }
    }
}

/// Looks at what a killed process left, as the next start finds it.
fn check(state: &StateFolder, told: &Told, kill: usize) {
    let (key, _) = load(state);
    let store = open(state, &key);
    open_others(state, &key);
    assert_eq!(store.integrity_check().unwrap(), Vec::<String>::new(), "after kill {kill}");
    let there: BTreeSet<SubjectId> = store.subject_ids().unwrap();
    for id in &told.enrolled - &told.removing {
        assert!(there.contains(&id), "acknowledged and lost after kill {kill}");
        assert_eq!(pictures(&store, id).len(), SAMPLES as usize, "after kill {kill}");
    }
    assert_eq!(&there & &told.removed, BTreeSet::new(), "erased and back after kill {kill}");
    let statistics = store.statistics().unwrap();
    assert_eq!(statistics.samples, there.len() as u64 * SAMPLES, "whole enrolments after kill {kill}");
    assert_eq!(media_files(state).len() as u64, statistics.pictures, "no orphan after kill {kill}");
}

#[test]
fn killed_at_any_moment_nothing_acknowledged_is_lost_and_nothing_is_left_behind() {
    let kills = std::env::var(KILLS_VARIABLE).map_or(60, |text| text.parse().unwrap());
    let device = Device::new();
    open_others(&device.state, &device.key);
    let (mut told, mut moments) = (Told::default(), random(std::process::id().into()));
    for kill in 0..kills {
        let mut child = KilledOnDrop(work_in_a_child(&device.state, kill));
        let mut lines = BufReader::new(child.0.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().contains("working")), "the child starts");
        let moment = Instant::now() + Duration::from_micros(moments.next().unwrap() % 150_000);
        // Heard until then, so that the child never waits for a full pipe.
        let reader = std::thread::spawn(move || lines.map_while(Result::ok).collect::<Vec<_>>());
        std::thread::sleep(moment.saturating_duration_since(Instant::now()));
        child.0.kill().unwrap();
        child.0.wait().unwrap();
        reader.join().unwrap().iter().for_each(|line| told.hear(line));
        check(&device.state, &told, kill);
    }
    println!(
        "{kills} kills: {} enrolments, {} erasures, {} changes of the key and {} new templates acknowledged",
        told.enrolled.len(),
        told.removed.len(),
        told.rotations,
        told.templates
    );
    assert!(
        told.enrolled.len() >= kills / 2 && told.removed.len() >= kills / 8 && told.rotations >= kills / 16
    );
}

#[test]
#[ignore = "child of killed_at_any_moment_nothing_acknowledged_is_lost_and_nothing_is_left_behind"]
fn child_works_without_end() {
    let Some(folder) = std::env::var_os(STATE_VARIABLE) else { return };
    let seed: u64 = std::env::var("LIMEN_TEST_SEED").unwrap().parse().unwrap();
    let state = state_of(Path::new(&folder));
    let (mut key, mut source) = load(&state);
    let mut store = open(&state, &key);
    println!("working");
    let mut choices = random(seed + 1);
    // Bounded, should the parent die before it kills.
    for i in 0..2_000 {
        let number = seed * 10_000 + i;
        // So few that a change of the key is done before the next kill as often as not.
        let crowded = store.statistics().unwrap().subjects > 6;
        match choices.next().unwrap() % 8 {
            0..=3 if !crowded => {
                println!("told: enrolled {}", enrol(&mut store, &format!("subject {number}"), number))
            }
            4 => {
                // A network that comes after: templates of another space for one subject.
                let Some(subject) = store.subject_ids().unwrap().pop_first() else { continue };
                let values = random(number).map(|value| value as f32 - 2e9).take(64).collect();
                let embedding = Embedding::normalised(values, EmbeddingSpaceId::new("test/2")).unwrap();
                for sample in store.samples_of(subject).unwrap() {
                    store.add_template(sample.id, &embedding).unwrap();
                }
                println!("told: templates {subject}");
            }
            0..=3 | 5 | 6 => {
                let Some(subject) = store.subject_ids().unwrap().pop_last() else { continue };
                println!("told: removing {subject}");
                store.remove(subject).unwrap();
                println!("told: removed {subject}");
            }
            _ => {
                drop(store);
                rekey_offline(&state, key, &source).unwrap();
                (key, source) = load(&state);
                store = open(&state, &key);
                println!("told: rotated the key");
            }
        }
    }
}
