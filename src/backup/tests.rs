use std::io::{Cursor, Read};

use super::*;
use crate::admin::accounts::AccountStore;
use crate::clock::Clock;
use crate::embedding::{Embedding, EmbeddingSpaceId};
use crate::gallery::{
    Enrolment, EnrolmentTarget, NewSample, SampleOrigin, SamplePicture, SampleQuality, SubjectId, SubjectName,
};
use crate::jobs::{JobKind, JobState, Jobs};
use crate::score::QualityScore;
use crate::spool::SpoolReader;

const PASSPHRASE: &str = "x'0123456789abcdef'; a passphrase";

fn folder() -> (tempfile::TempDir, StateFolder) {
    let folder = tempfile::tempdir().unwrap();
    let state = StateFolder::open_or_create(&folder.path().join("state")).unwrap();
    (folder, state)
}

/// A device with one subject and, if wanted, accounts.
fn device(accounts: bool) -> (tempfile::TempDir, StateFolder, RootKey) {
    let (folder, state) = folder();
    let key = RootKey::from_bytes([5; 32]);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let mut store = GalleryStore::open(&state, &key, Arc::clone(&clock)).unwrap();
    enrol(&mut store, "Ada Lovelace");
    if accounts {
        AccountStore::open(&state, &key, clock).unwrap();
    }
    (folder, state, key)
}

fn enrol(store: &mut GalleryStore, name: &str) -> SubjectId {
    let sample = NewSample {
        origin: SampleOrigin::File,
        quality: SampleQuality::unmeasured(QualityScore::new(0.9)),
        embedding: Embedding::normalised(vec![1.0, 2.0], EmbeddingSpaceId::new("t")).unwrap(),
        picture: SamplePicture::of_jpeg(name.repeat(40).into_bytes()),
    };
    let subject = EnrolmentTarget::New(SubjectName::new(name).unwrap());
    store.enrol(&Enrolment { subject, samples: vec![sample] }).unwrap().subject
}

fn backup(state: &StateFolder, key: &RootKey) -> Vec<u8> {
    backup_at(state, key, UnixMillis(7))
}

fn backup_at(state: &StateFolder, key: &RootKey, now: UnixMillis) -> Vec<u8> {
    let jobs = Jobs::new(Arc::new(SystemClock));
    let source = BackupSource::new(state.clone(), KeyRing::new(key.clone()));
    let passphrase = Zeroizing::new(PASSPHRASE.to_owned());
    let job =
        jobs.start(JobKind::Backup, String::new(), move |control| source.run(&passphrase, now, control));
    let id = job.unwrap().id;
    jobs.wait(id).unwrap();
    let download = jobs.download(id).unwrap_or_else(|| panic!("{:?}", jobs.get(id)));
    let mut bytes = Vec::new();
    SpoolReader::new(download.spool).read_to_end(&mut bytes).unwrap();
    bytes
}

fn put_back(
    bytes: &[u8],
    passphrase: &str,
    state: &StateFolder,
    key: &RootKey,
) -> Result<Restored, BackupError> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("limen.backup");
    std::fs::write(&file, bytes).unwrap();
    restore(&file, passphrase, &[], state, key)
}

#[test]
fn backup_comes_back_under_another_root_key() {
    let (_from, state, key) = device(true);
    let bytes = backup(&state, &key);
    let names: Vec<_> = std::fs::read_dir(state.path()).unwrap().map(|f| f.unwrap().file_name()).collect();
    assert!(names.iter().all(|name| !name.to_string_lossy().contains("copy")), "{names:?}");
    // Shorter, and it would stand among random bytes by chance.
    assert!(!bytes.windows(12).any(|some| some == b"Ada Lovelace"));

    let (_to, new) = folder();
    let other = RootKey::from_bytes([6; 32]);
    let restored = put_back(&bytes, PASSPHRASE, &new, &other).unwrap();
    assert_eq!((restored.made_at, restored.files.len()), (UnixMillis(7), 2));
    let store = GalleryStore::open(&new, &other, Arc::new(SystemClock)).unwrap();
    let subjects = store.subjects().unwrap();
    assert_eq!((subjects.len(), subjects[0].name.as_str()), (1, "Ada Lovelace"));
    assert!(store.integrity_check().unwrap().is_empty());
    let sample = store.samples_of(subjects[0].id).unwrap()[0].id;
    assert_eq!(store.picture(sample).unwrap().unwrap(), "Ada Lovelace".repeat(40).as_bytes());
    assert_eq!((restored.pictures, restored.pictures_missing, restored.erased_again), (1, 0, 0));
    drop(store);
    AccountStore::open(&new, &other, Arc::new(SystemClock)).unwrap();
    assert!(matches!(put_back(&bytes, PASSPHRASE, &new, &other), Err(BackupError::NotEmpty { .. })));
}

#[test]
fn sessions_invitations_and_the_setup_code_do_not_come_back() {
    let (_from, state, key) = device(true);
    let db = |state: &StateFolder, key: &RootKey| {
        database::open_or_create(state, &key.subkeys(KeyPurpose::Accounts), accounts_schema()).unwrap()
    };
    db(&state, &key)
        .execute_batch(
            "insert into user (id, name, name_key, role, salt, hash, memory_kib, passes, lanes, created_at)
                 values (1, 'Ada', 'ada', 'owner', zeroblob(16), zeroblob(32), 8, 1, 1, 1);
             insert into session (token_hash, user, created_at, last_seen_at, address, agent)
                 values (zeroblob(32), 1, 1, 1, '-', '-');
             insert into invitation (token_hash, role, made_by, made_at, expires_at)
                 values (zeroblob(32), 'owner', 1, 1, 2);
             insert into setup values (1, zeroblob(32), 1);
             insert into token (token_hash, name, scopes, made_by, made_at, expires_at)
                 values (zeroblob(32), 'a program', '[]', 1, 1, 2);",
        )
        .unwrap();
    let counts = |db: rusqlite::Connection| {
        ["user", "token", "session", "invitation", "setup"].map(|table| {
            let count = format!("select count(*) from {table}");
            db.query_row(&count, [], |row| row.get::<_, i64>(0)).unwrap()
        })
    };
    assert_eq!(counts(db(&state, &key)), [1; 5]);
    let bytes = backup(&state, &key);
    let (_to, new) = folder();
    let other = RootKey::from_bytes([6; 32]);
    put_back(&bytes, PASSPHRASE, &new, &other).unwrap();
    assert_eq!(counts(db(&new, &other)), [1, 1, 0, 0, 0]);
    assert_eq!(counts(db(&state, &key)), [1; 5]);
}

#[test]
fn wrong_passphrase_and_damage_put_nothing_back() {
    let (_from, state, key) = device(false);
    let bytes = backup(&state, &key);
    let (_to, new) = folder();
    let other = RootKey::from_bytes([6; 32]);
    let wrong = put_back(&bytes, "not the passphrase", &new, &other);
    assert!(matches!(wrong, Err(BackupError::Database(DatabaseError::WrongKey { .. }))), "{wrong:?}");
    // One bit anywhere in the encrypted database, beyond its first page.
    let mut changed = bytes.clone();
    let at = changed.len() / 2;
    changed[at] ^= 1;
    assert!(put_back(&changed, PASSPHRASE, &new, &other).is_err());
    assert!(put_back(&bytes[..bytes.len() / 2], PASSPHRASE, &new, &other).is_err());
    assert!(put_back(b"", PASSPHRASE, &new, &other).is_err());
    let left: Vec<_> = std::fs::read_dir(new.path()).unwrap().map(|f| f.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| name == LOCK), "{left:?}");
    let mut empty = ZipWriter::new(Cursor::new(Vec::new()));
    empty.start_file("other", SimpleFileOptions::default()).unwrap();
    let other_zip = empty.finish().unwrap().into_inner();
    assert!(matches!(put_back(&other_zip, PASSPHRASE, &new, &other), Err(BackupError::NotABackup { .. })));
}

#[test]
fn older_backup_brings_nobody_back_who_was_erased_since() {
    let (_from, state, key) = device(false);
    let mut store = GalleryStore::open(&state, &key, Arc::new(SystemClock)).unwrap();
    let grace = enrol(&mut store, "Grace Hopper");
    let before = backup_at(&state, &key, UnixMillis(1));
    store.remove(grace).unwrap();
    let after = backup_at(&state, &key, UnixMillis(2));
    // The later one has nothing of her, not even her id.
    assert!(!after.windows(12).any(|some| some == b"Grace Hopper" || some == &grace.as_bytes()[..12]));
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let old = place("old.backup", &before);
    let restore_into = |others: &[PathBuf]| {
        let (temp, new) = self::folder();
        let other = RootKey::from_bytes([6; 32]);
        let restored = restore(&old, PASSPHRASE, others, &new, &other).unwrap();
        let store = GalleryStore::open(&new, &other, Arc::new(SystemClock)).unwrap();
        let names: Vec<_> =
            store.subjects().unwrap().iter().map(|subject| subject.name.as_str().to_owned()).collect();
        let files = std::fs::read_dir(new.path().join(MEDIA_FOLDER)).unwrap().count();
        drop(temp);
        (names, files, restored.erased_again)
    };
    let both = vec!["Ada Lovelace".to_owned(), "Grace Hopper".to_owned()];
    assert_eq!(restore_into(&[]), (both.clone(), 2, 0), "nothing tells of it");
    place("no.backup", b"not a zip");
    let elsewhere = tempfile::tempdir().unwrap();
    let later = elsewhere.path().join("later.backup");
    std::fs::write(&later, &after).unwrap();
    assert_eq!(restore_into(&[later]), (both[..1].to_vec(), 1, 1), "another file does");
    place("new.backup", &after);
    assert_eq!(restore_into(&[]), (both[..1].to_vec(), 1, 1), "one beside it does");
}

#[test]
fn picture_that_is_missing_or_damaged_in_a_backup_is_told_and_the_rest_comes_back() {
    let (_from, state, key) = device(false);
    let bytes = backup(&state, &key);
    let file = std::fs::read_dir(state.path().join(MEDIA_FOLDER)).unwrap().next().unwrap().unwrap();
    let content = std::fs::read(file.path()).unwrap();
    let at = bytes.windows(content.len()).position(|some| some == content).unwrap();
    let mut damaged = bytes.clone();
    damaged[at + 20] ^= 1;
    let (_to, new) = folder();
    let other = RootKey::from_bytes([6; 32]);
    // The zip's own check finds it first.
    assert!(put_back(&damaged, PASSPHRASE, &new, &other).is_err());
    assert!(!new.path().join(gallery_schema().file).exists());
    std::fs::remove_file(file.path()).unwrap();
    let without = backup(&state, &key);
    let restored = put_back(&without, PASSPHRASE, &new, &other).unwrap();
    assert_eq!((restored.pictures, restored.pictures_missing), (0, 1));
    let store = GalleryStore::open(&new, &other, Arc::new(SystemClock)).unwrap();
    assert_eq!((store.subjects().unwrap().len(), store.integrity_check().unwrap().len()), (1, 1));
}

#[test]
fn short_passphrase_is_refused() {
    assert!(check_passphrase("eleven char").is_err());
    assert!(check_passphrase("twelve chars").is_ok());
    assert!(check_passphrase(&"x".repeat(MAX_PASSPHRASE_BYTES + 1)).is_err());
    assert!(check_passphrase("with a nul \0 inside").is_err());
}

fn plan(folder: &Path) -> BackupPlan {
    BackupPlan {
        every: std::time::Duration::from_secs(86_400),
        keep: 2,
        folder: Some(folder.to_owned()),
        sftp: None,
        device: "door".to_owned(),
    }
}

/// Runs a plan as its job does; how the job ended.
fn run_plan(source: &Arc<BackupSource>, plan: &BackupPlan, now: UnixMillis) -> crate::jobs::JobView {
    let (jobs, source, plan) = (Jobs::new(Arc::new(SystemClock)), Arc::clone(source), plan.clone());
    let work = move |control: &JobControl| source.run_plan(&plan, now, control);
    let job = jobs.start(JobKind::Backup, String::new(), work).unwrap();
    jobs.wait(job.id).unwrap()
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

const DAY: i64 = 86_400_000;

#[test]
fn planned_backups_are_checked_counted_and_only_their_own_are_thrown_away() {
    let (_temp, state, key) = device(true);
    let to = tempfile::tempdir().unwrap();
    let source = Arc::new(BackupSource::new(state.clone(), KeyRing::new(key.clone())));
    let plan = plan(to.path());
    // What a crash left, and what belongs to others.
    std::fs::write(to.path().join("limen-door-19990101T000000Z.backup.part"), "half").unwrap();
    let others = ["limen-door-2-19990101T000000Z.backup", "limen-door-old.backup", "notes.txt"];
    for name in others {
        std::fs::write(to.path().join(name), "not ours").unwrap();
    }
    for day in 0..4 {
        assert!(source.log().due(&plan, UnixMillis(day * DAY)));
        let job = run_plan(&source, &plan, UnixMillis(day * DAY));
        assert_eq!((job.state, job.message), (JobState::Done, None));
        assert!(!source.log().due(&plan, UnixMillis(day * DAY + DAY - 1)));
    }
    let mut expected: Vec<String> = others.map(str::to_owned).into();
    expected.extend(
        ["limen-door-19700103T000000Z.backup", "limen-door-19700104T000000Z.backup"].map(str::to_owned),
    );
    expected.sort();
    assert_eq!(names(to.path()), expected);
    let last = source.log().last.unwrap();
    assert_eq!((last.subjects, last.pictures, last.pictures_missing), (1, 1, 0));
    assert_eq!(last.places, [to.path().display().to_string()]);
    assert!(!names(state.path()).iter().any(|name| name.contains("copy")), "{:?}", names(state.path()));
    let found = backups_in(to.path()).unwrap();
    let ids: Vec<_> =
        found.iter().map(|backup| (backup.made_at.0 / DAY, backup.recovery_key.clone())).collect();
    let ours = Some(source.recovery_key(false).unwrap().id());
    assert_eq!(ids, [(3, ours.clone()), (2, ours)]);
}

#[test]
fn planned_backup_that_fails_is_noted_and_tried_again_soon() {
    let (_temp, state, key) = device(false);
    let to = tempfile::tempdir().unwrap();
    let source = Arc::new(BackupSource::new(state.clone(), KeyRing::new(key)));
    let plan = plan(&to.path().join("not mounted"));
    let job = run_plan(&source, &plan, UnixMillis(DAY));
    assert_eq!(job.state, JobState::Failed);
    let log = source.log();
    assert!(log.failed.as_ref().unwrap().message.contains("mount what it is on"), "{log:?}");
    assert!(!to.path().join("not mounted").exists());
    assert!(!log.due(&plan, UnixMillis(DAY + 1_000)));
    assert!(log.due(&plan, UnixMillis(DAY + 3_600_000)));
    std::fs::create_dir(to.path().join("not mounted")).unwrap();
    assert_eq!(run_plan(&source, &plan, UnixMillis(2 * DAY)).state, JobState::Done);
    assert_eq!(source.log().failed, None);
    // A clock that was ahead keeps nothing from being made.
    assert!(source.log().due(&plan, UnixMillis(DAY)));
    std::fs::write(state.path().join("backups.json"), "{").unwrap();
    assert_eq!(source.log(), BackupLog::default());
}

#[test]
fn schedule_makes_what_is_due_and_tells_what_fails() {
    let (_temp, state, key) = device(false);
    let to = tempfile::tempdir().unwrap();
    let clock = Arc::new(crate::clock::SimulatedClock::new(UnixMillis(DAY)));
    let shared: Arc<dyn Clock> = Arc::<crate::clock::SimulatedClock>::clone(&clock);
    let mut config = crate::config::Config::default();
    let (sender, receiver) = tokio::sync::watch::channel(Arc::new(config.clone()));
    let status = crate::status::Status::new(Arc::clone(&shared));
    let jobs = Jobs::new(Arc::clone(&shared));
    let source = Arc::new(BackupSource::new(state, KeyRing::new(key)));
    let metrics = Arc::new(crate::metrics::Metrics::new());
    let schedule =
        BackupSchedule::new(Arc::clone(&source), jobs.clone(), receiver, status.clone(), metrics, shared);
    let long = std::time::Duration::from_secs(3_600);
    let looked = |uptime| {
        schedule.look(uptime);
        let open: Vec<_> = jobs.list().into_iter().map(|job| job.id).collect();
        open.iter().for_each(|id| drop(jobs.wait(*id)));
        open.len()
    };
    let condition = || status.condition(crate::status::Part::Backup);
    assert_eq!(looked(long), 0);
    assert_eq!(condition(), crate::status::Condition::Off);
    config.backup.folder = Some(to.path().join("missing"));
    sender.send_replace(Arc::new(config.clone()));
    assert_eq!(looked(std::time::Duration::ZERO), 0, "not at once after the start");
    assert_eq!(looked(long), 1);
    looked(long);
    assert!(matches!(condition(), crate::status::Condition::Degraded { .. }));
    std::fs::create_dir(to.path().join("missing")).unwrap();
    assert_eq!(looked(long), 1, "not before an hour");
    clock.advance(long);
    assert_eq!(looked(long), 2);
    looked(long);
    assert!(matches!(condition(), crate::status::Condition::Working { .. }));
    assert_eq!(looked(long), 2);
    clock.advance(long * 24);
    assert_eq!(looked(long), 3);
}

#[test]
fn backup_under_the_recovery_key_comes_back_with_it_and_keeps_it() {
    let (_temp, state, key) = device(true);
    let to = tempfile::tempdir().unwrap();
    let source = Arc::new(BackupSource::new(state, KeyRing::new(key)));
    assert_eq!(run_plan(&source, &plan(to.path()), UnixMillis(DAY)).state, JobState::Done);
    let file = backups_in(to.path()).unwrap().remove(0).path;
    let recovery = source.recovery_key(false).unwrap();
    let (_new_temp, new) = folder();
    let other = RootKey::from_bytes([6; 32]);
    let tried = |secret: &str| restore(&file, secret, &[], &new, &other);
    assert!(matches!(tried("twelve letters"), Err(BackupError::RecoveryKey(_))));
    let wrong = RecoveryKey::of(&folder().1, &other, false).unwrap();
    let error = tried(&wrong.text()).unwrap_err().to_string();
    assert!(error.contains(&recovery.id()) && error.contains(&wrong.id()), "{error}");
    let typed = recovery.text().to_lowercase().replace('-', " ");
    assert_eq!(tried(&typed).unwrap().pictures, 1);
    // What was written down stays right on the new device.
    assert_eq!(RecoveryKey::of(&new, &other, false).unwrap(), recovery);
}

#[test]
fn checking_finds_damage_anywhere() {
    let (_temp, state, key) = device(true);
    let to = tempfile::tempdir().unwrap();
    let file = to.path().join("a.backup");
    let bytes = backup(&state, &key);
    std::fs::write(&file, &bytes).unwrap();
    let found = verify(&file, PASSPHRASE, &state).unwrap();
    assert_eq!((found.subjects, found.pictures, found.pictures_missing), (1, 1, 0));
    assert_eq!(found.bytes, bytes.len() as u64);
    let mut unnoticed = 0;
    for part in 1..16 {
        let mut damaged = bytes.clone();
        damaged[bytes.len() * part / 16] ^= 0x10;
        std::fs::write(&file, &damaged).unwrap();
        let whole = verify(&file, PASSPHRASE, &state);
        unnoticed += usize::from(whole.is_ok_and(|found| found.pictures_missing == 0));
    }
    assert_eq!(unnoticed, 0);
    let left: Vec<_> = names(state.path()).into_iter().filter(|name| name.contains("copy")).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn restore_that_was_cut_off_is_begun_anew() {
    let (_temp, state, key) = device(true);
    let bytes = backup(&state, &key);
    let other = RootKey::from_bytes([6; 32]);
    // After the accounts, and after the gallery too.
    for gallery_too in [false, true] {
        let (_new_temp, new) = folder();
        put_back(&bytes, PASSPHRASE, &new, &other).unwrap();
        assert!(!is_unfinished(&new));
        if !gallery_too {
            std::fs::remove_file(new.path().join(gallery_schema().file)).unwrap();
        }
        new.replace(UNFINISHED, b"").unwrap();
        assert!(is_unfinished(&new));
        put_back(&bytes, PASSPHRASE, &new, &other).unwrap();
        assert!(!is_unfinished(&new));
        let store = GalleryStore::open(&new, &other, Arc::new(SystemClock)).unwrap();
        assert_eq!((store.subjects().unwrap().len(), store.integrity_check().unwrap().len()), (1, 0));
    }
}

#[test]
fn backup_of_an_older_schema_and_format_comes_back() {
    let (_temp, state, key) = device(false);
    let db = database::open_or_create(&state, &key.subkeys(KeyPurpose::Database), gallery_schema()).unwrap();
    let tables: String = {
        let sql = "select name from sqlite_schema where type = 'table' and name not like 'sqlite_%'";
        let mut query = db.prepare(sql).unwrap();
        let names = query.query_map([], |row| row.get::<_, String>(0)).unwrap();
        names.map(|name| format!("drop table {};", name.unwrap())).collect()
    };
    db.execute_batch(&format!("pragma foreign_keys = off; {tables}")).unwrap();
    db.execute_batch(include_str!("../../tests/fixtures/schemas/gallery-3.sql")).unwrap();
    let jpeg = b"a picture in a row".repeat(9);
    db.execute_batch(
        "insert into subject values (zeroblob(16), 'Ada', 'ada', null, 1, 1, null, 0);
         insert into embedding_space values ('t', 2);
         insert into sample values (1, zeroblob(16), 'file', 0.8, 60.0, 0.5, 0.0, 0.0, 0.0, 1);
         insert into template values (1, 1, zeroblob(16), 't', 2, x'0000803f00000000', 1)",
    )
    .unwrap();
    db.execute("insert into picture values (1, ?1)", [&jpeg]).unwrap();
    db.pragma_update(None, "user_version", 3).unwrap();
    drop(db);
    // As version 1 of the container was.
    let copy = Temporary::new(&state, "gallery.db.copy").unwrap();
    let keys = key.subkeys(KeyPurpose::Database);
    database::export(&state, &keys, gallery_schema(), copy.path(), PASSPHRASE).unwrap();
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    zip.start_file(MANIFEST, SimpleFileOptions::default()).unwrap();
    zip.write_all(br#"{ "format": 1, "version": "0.0.9", "made_at": 5, "files": ["gallery.db"] }"#).unwrap();
    zip.start_file("gallery.db", SimpleFileOptions::default()).unwrap();
    zip.write_all(&std::fs::read(copy.path()).unwrap()).unwrap();
    let bytes = zip.finish().unwrap().into_inner();
    drop(copy);
    let (_new_temp, new) = folder();
    let other = RootKey::from_bytes([6; 32]);
    let restored = put_back(&bytes, PASSPHRASE, &new, &other).unwrap();
    assert_eq!((restored.version.as_str(), restored.files.len()), ("0.0.9", 1));
    let mut store = GalleryStore::open(&new, &other, Arc::new(SystemClock)).unwrap();
    assert_eq!(store.move_pictures(10).unwrap(), 1);
    let sample = store.samples_of(store.subjects().unwrap()[0].id).unwrap()[0].id;
    assert_eq!(store.picture(sample).unwrap().unwrap(), jpeg);
    assert_eq!(store.integrity_check().unwrap(), Vec::<String>::new());
}
