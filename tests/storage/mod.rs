//! A device's storage while something happens to it: a process that works on it without end and tells what is
//! done, and what has to hold whatever came in between. For processes that are killed (`tests/vault.rs`) and
//! machines that lose their power or their disk (`tests/storage_lab.rs`).

#![allow(clippy::print_stdout, reason = "child processes report to their parent")]
#![allow(clippy::unwrap_used, reason = "a test says what failed by panicking")]
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use limen::admin::accounts::{AccountStore, AuditRetention, NewAuditEntry};
use limen::clock::SystemClock;
use limen::config::Config;
use limen::embedding::{Embedding, EmbeddingSpaceId};
use limen::event_store::EventStore;
use limen::frame::RgbImage;
use limen::gallery::{
    Enrolment, EnrolmentTarget, GalleryError, GalleryStore, NewSample, SampleOrigin, SamplePicture,
    SampleQuality, SubjectId, SubjectName,
};
use limen::media::MEDIA_FOLDER;
use limen::rekey::rekey_offline;
use limen::score::QualityScore;
use limen::vault::{KeySource, RootKey, StateFolder};

/// Where a child works.
pub(crate) const STATE_VARIABLE: &str = "LIMEN_TEST_STATE";
/// Which child it is: others enrol others.
const SEED_VARIABLE: &str = "LIMEN_TEST_SEED";

/// Samples of each enrolment.
pub(crate) const SAMPLES: u64 = 2;

pub(crate) fn random(seed: u64) -> impl Iterator<Item = u64> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    std::iter::repeat_with(move || {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32
    })
}

pub(crate) fn space() -> EmbeddingSpaceId {
    EmbeddingSpaceId::new("test/1")
}

pub(crate) fn sample(seed: u64) -> NewSample {
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

pub(crate) fn try_enrol(store: &mut GalleryStore, name: &str, seed: u64) -> Result<SubjectId, GalleryError> {
    let samples = (seed * SAMPLES..(seed + 1) * SAMPLES).map(sample).collect();
    let subject = EnrolmentTarget::New(SubjectName::new(name).unwrap());
    Ok(store.enrol(&Enrolment { subject, samples })?.subject)
}

pub(crate) fn enrol(store: &mut GalleryStore, name: &str, seed: u64) -> SubjectId {
    try_enrol(store, name, seed).unwrap()
}

pub(crate) fn state_of(folder: &Path) -> StateFolder {
    StateFolder::open_or_create(folder).unwrap()
}

pub(crate) fn load(state: &StateFolder) -> (RootKey, KeySource) {
    RootKey::load(state, None).unwrap()
}

pub(crate) fn open(state: &StateFolder, key: &RootKey) -> GalleryStore {
    GalleryStore::open(state, key, Arc::new(SystemClock)).unwrap()
}

/// The databases that a service has besides the gallery.
pub(crate) fn open_others(state: &StateFolder, key: &RootKey) {
    EventStore::open(state, key, Arc::new(SystemClock), Duration::from_secs(10)).unwrap();
    AccountStore::open(state, key, Arc::new(SystemClock)).unwrap();
}

pub(crate) fn pictures(store: &GalleryStore, subject: SubjectId) -> BTreeMap<i64, Vec<u8>> {
    let samples = store.samples_of(subject).unwrap();
    samples.iter().map(|sample| (sample.id.0, store.picture(sample.id).unwrap().unwrap())).collect()
}

pub(crate) fn media_files(state: &StateFolder) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(state.path().join(MEDIA_FOLDER)).unwrap();
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// What the child has said.
#[derive(Default)]
pub(crate) struct Told {
    pub(crate) enrolled: BTreeSet<SubjectId>,
    pub(crate) removing: BTreeSet<SubjectId>,
    pub(crate) removed: BTreeSet<SubjectId>,
    pub(crate) rotations: usize,
    pub(crate) templates: usize,
    pub(crate) audited: u64,
    /// Lines of a file that nobody waited for.
    pub(crate) unsynced: usize,
    pub(crate) failed: Vec<String>,
}

impl Told {
    pub(crate) fn hear(&mut self, line: &str) {
        let Some((_, told)) = line.trim_end().split_once("told: ") else { return };
        let id = |text: &str| text.parse::<SubjectId>().unwrap();
        match told.split_once(' ') {
            Some(("enrolled", text)) => drop(self.enrolled.insert(id(text))),
            Some(("removing", text)) => drop(self.removing.insert(id(text))),
            Some(("removed", text)) => drop(self.removed.insert(id(text))),
            Some(("templates", _)) => self.templates += 1,
            Some(("audited", _)) => self.audited += 1,
            Some(("unsynced", count)) => self.unsynced = count.parse().unwrap(),
            Some(("failed", error)) => self.failed.push(error.to_owned()),
            Some(("rotated", _)) => self.rotations += 1,
            _ => {}
        }
    }
}

/// Looks at what is left, as the next start finds it.
pub(crate) fn check(state: &StateFolder, told: &Told, kill: usize) {
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
    let accounts = AccountStore::open(state, &key, Arc::new(SystemClock)).unwrap();
    let report = accounts.verify_audit(None, AuditRetention::new(&Config::default())).unwrap();
    assert_eq!(report.fault, None, "the audit log's chain after kill {kill}");
    assert!(report.entries >= told.audited, "audited and lost after kill {kill}: {report:?}");
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { enrolled, removed, rotations, templates, audited, .. } = self;
        write!(
            f,
            "{} enrolments, {} erasures, {rotations} changes of the key, {templates} new templates and {audited} audit \
             entries",
            enrolled.len(),
            removed.len()
        )
    }
}

/// A child of this test program at one of its ignored tests.
pub(crate) fn child(test: &str, state: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", test, "--ignored", "--nocapture", "--test-threads=1"])
        .env(STATE_VARIABLE, state)
        .stdin(Stdio::null());
    command
}

/// The child that works without end, which each file that starts one has as a test of its own.
pub(crate) fn worker(state: &Path, seed: usize) -> Command {
    let mut command = child("child_works_without_end", state);
    command.env(SEED_VARIABLE, seed.to_string());
    command
}

/// What that child does.
pub(crate) fn work_as_child() {
    let Some(folder) = std::env::var_os(STATE_VARIABLE) else { return };
    work(Path::new(&folder), std::env::var(SEED_VARIABLE).unwrap().parse().unwrap());
}

/// One line for whoever listens: on its way when this returns, also over a serial line.
fn say(text: &str) {
    println!("told: {text}");
    // Only terminals have something to wait for.
    let _ = rustix::termios::tcdrain(std::io::stdout());
}

/// Enrols, erases, renews templates, changes the key and writes the audit log, and tells of each before and after,
/// until it is ended from outside or something fails, which it tells too.
fn work(folder: &Path, seed: u64) {
    if let Err(error) = try_work(folder, seed) {
        say(&format!("failed {error}"));
    }
}

fn try_work(folder: &Path, seed: u64) -> Result<(), Box<dyn Error>> {
    let state = StateFolder::open_or_create(folder)?;
    let (mut key, mut source) = RootKey::load(&state, None)?;
    EventStore::open(&state, &key, Arc::new(SystemClock), Duration::from_secs(10))?;
    let gallery = |key: &RootKey| GalleryStore::open(&state, key, Arc::new(SystemClock));
    let accounts = |key: &RootKey| AccountStore::open(&state, key, Arc::new(SystemClock));
    let (mut store, mut log) = (gallery(&key)?, accounts(&key)?);
    println!("working");
    let mut choices = random(seed + 1);
    // Bounded, should nobody end it.
    for i in 0..2_000 {
        let number = seed * 10_000 + i;
        // So few that a change of the key is done before the next kill as often as not.
        let crowded = store.statistics()?.subjects > 6;
        match choices.next().unwrap() % 9 {
            0..=3 if !crowded => {
                let subject = try_enrol(&mut store, &format!("subject {number}"), number)?;
                say(&format!("enrolled {subject}"));
            }
            4 => {
                // A network that comes after: templates of another space for one subject.
                let Some(subject) = store.subject_ids()?.pop_first() else { continue };
                let values = random(number).map(|value| value as f32 - 2e9).take(64).collect();
                let embedding = Embedding::normalised(values, EmbeddingSpaceId::new("test/2"))?;
                for sample in store.samples_of(subject)? {
                    store.add_template(sample.id, &embedding)?;
                }
                say(&format!("templates {subject}"));
            }
            0..=3 | 5 | 6 => {
                let Some(subject) = store.subject_ids()?.pop_last() else { continue };
                say(&format!("removing {subject}"));
                store.remove(subject)?;
                say(&format!("removed {subject}"));
            }
            7 => {
                let target = format!("number {number}");
                log.note(&NewAuditEntry::done_by("a test", "worked", target))?;
                say("audited it");
            }
            _ => {
                drop((store, log));
                rekey_offline(&state, key, &source)?;
                (key, source) = RootKey::load(&state, None)?;
                (store, log) = (gallery(&key)?, accounts(&key)?);
                say("rotated the key");
            }
        }
    }
    Ok(())
}
