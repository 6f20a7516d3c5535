//! Backup: the gallery with its pictures and the accounts in one file under a passphrase, and back again on an
//! empty state folder. Runs on the thread of its job, or of the command.
//!
//! The file is a zip of databases that are encrypted each by itself ([`crate::database`]) and of picture files
//! as they lie on the device, whose keys are in the gallery's database ([`crate::media`]), so that the container
//! needs no secrecy of its own; a `manifest.json` names the databases. Events, unknown faces and the root key
//! are not in it: a restored device makes a root key of its own.
//!
//! `erasures` in the container says who was erased on the device by then, under the same passphrase: a restore
//! asks it of every backup beside the one that is put back, so that an older one brings nobody back who was
//! erased since.

mod erasures;

use std::collections::HashSet;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::Connection;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use zeroize::Zeroizing;
use zip::result::ZipError;
use zip::write::{SimpleFileOptions, StreamWriter};
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use crate::admin::accounts::accounts_schema;
use crate::clock::{SystemClock, UnixMillis};
use crate::database::{self, DatabaseError, Schema};
use crate::gallery::{GalleryError, GalleryStore, gallery_schema, marks_of, media_of};
use crate::jobs::{Download, JobControl, Stopped};
use crate::media::{MEDIA_FOLDER, MediaError, MediaFolder, MediaName};
use crate::spool::{Spool, SpoolError, SpoolWriter};
use crate::vault::{KeyPurpose, KeyRing, RootKey, StateFolder, Subkeys, VaultError};

/// Letters a passphrase has at least: it is all that protects the file, wherever it goes.
pub const MIN_PASSPHRASE_CHARS: usize = 12;
/// Longest passphrase, in bytes.
pub const MAX_PASSPHRASE_BYTES: usize = 1_000;
/// Largest backup.
const MAX_BYTES: u64 = 4 << 30;
const MANIFEST: &str = "manifest.json";
const ERASURES: &str = "erasures";
/// Backups beside the one that is put back, of which is asked who was erased.
const MOST_SIBLINGS: usize = 1_000;
/// How often the gallery is copied anew because a picture went meanwhile.
const ATTEMPTS: usize = 3;
const MAX_MANIFEST_BYTES: u64 = 64 << 10;
/// Version of the container. Version 1 had pictures in the gallery's database, and no list of erasures.
const FORMAT: u32 = 2;

/// Why there is no backup, or why it cannot be put back. Holds no content and no secret.
#[derive(Debug, Error)]
pub enum BackupError {
    /// The passphrase protects too little, or is too long.
    #[error(
        "a passphrase has from {MIN_PASSPHRASE_CHARS} characters to {MAX_PASSPHRASE_BYTES} bytes; it is all that protects the file"
    )]
    Passphrase,
    /// A database cannot be read, written or opened.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The state folder cannot be used.
    #[error(transparent)]
    State(#[from] VaultError),
    /// The file cannot be kept.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// A file cannot be read or written.
    #[error("cannot {what} {path}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is no backup.
    #[error("{path} is no backup of limen, or it is damaged: {found}")]
    NotABackup {
        /// The file.
        path: PathBuf,
        /// What was found.
        found: String,
    },
    /// The system's random numbers could not be had.
    #[error("cannot write the backup: the system gives no random numbers: {0}")]
    NoRandomness(getrandom::Error),
    /// A picture cannot be read or put back.
    #[error(transparent)]
    Media(#[from] MediaError),
    /// The gallery that was put back cannot be used.
    #[error(transparent)]
    Gallery(#[from] GalleryError),
    /// There is a gallery already.
    #[error(
        "{path} is there already; a backup is put back on an empty state folder only. Stop the service and move the old databases away, or give a new folder with --state"
    )]
    NotEmpty {
        /// The database in the way.
        path: PathBuf,
    },
}

/// What stands in the container.
#[derive(Debug, Serialize, Deserialize)]
struct Manifest {
    /// [`FORMAT`].
    format: u32,
    /// Version of the program that made it.
    version: String,
    /// When.
    made_at: UnixMillis,
    /// Names of the databases.
    files: Vec<String>,
}

/// What a backup is made of.
pub struct BackupSource {
    state: StateFolder,
    key: KeyRing,
}

impl std::fmt::Debug for BackupSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BackupSource(..)")
    }
}

fn databases(key: &RootKey) -> [(&'static Schema, Subkeys); 2] {
    [
        (gallery_schema(), key.subkeys(KeyPurpose::Database)),
        (accounts_schema(), key.subkeys(KeyPurpose::Accounts)),
    ]
}

fn check_passphrase(passphrase: &str) -> Result<(), BackupError> {
    let long_enough = passphrase.chars().count() >= MIN_PASSPHRASE_CHARS;
    let fits = passphrase.len() <= MAX_PASSPHRASE_BYTES && !passphrase.contains('\0');
    if long_enough && fits { Ok(()) } else { Err(BackupError::Passphrase) }
}

/// A file of the state folder that goes when this is dropped.
struct Temporary(PathBuf);

impl Temporary {
    /// Empty. One that a crash left behind is replaced.
    fn new(state: &StateFolder, name: &str) -> Result<Self, BackupError> {
        let file = Self(state.path().join(name));
        file.empty(state)?;
        Ok(file)
    }

    fn empty(&self, state: &StateFolder) -> Result<(), VaultError> {
        self.remove();
        let name = self.0.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        state.create_file(name).map(drop)
    }

    fn remove(&self) {
        // Whoever makes the file anew finds out if it could not be removed.
        let _ = std::fs::remove_file(&self.0);
        let _ = std::fs::remove_file(format!("{}-journal", self.0.display()));
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        self.remove();
    }
}

impl BackupSource {
    /// Of the databases of this state folder.
    pub fn new(state: StateFolder, key: KeyRing) -> Self {
        Self { state, key }
    }

    /// Whether a passphrase will do.
    pub fn check_passphrase(&self, passphrase: &str) -> Result<(), BackupError> {
        check_passphrase(passphrase)
    }

    /// Makes a backup and offers it for download.
    pub fn run(
        &self,
        passphrase: &Zeroizing<String>,
        now: UnixMillis,
        control: &JobControl,
    ) -> Result<(), Stopped> {
        let (spool, missing) = self.write(passphrase, now, control)?;
        let bytes = spool.len();
        control.offer(Download { spool: Arc::new(spool), name: format!("limen-{}.backup", now.0) });
        control.result(serde_json::json!({ "bytes": bytes, "pictures_missing": missing }));
        Ok(())
    }

    fn write(
        &self,
        passphrase: &str,
        now: UnixMillis,
        control: &JobControl,
    ) -> Result<(Spool, u64), Stopped> {
        let failed = |error: BackupError| Stopped::Failed(error.to_string());
        check_passphrase(passphrase).map_err(failed)?;
        let io = |error: std::io::Error| Stopped::Failed(format!("cannot write the backup: {error}"));
        let zipping =
            |error: zip::result::ZipError| Stopped::Failed(format!("cannot write the backup: {error}"));
        let there = |schema: &Schema| self.state.path().join(schema.file).symlink_metadata().is_ok();
        let there: Vec<_> =
            databases(&self.key.now()).into_iter().filter(|(schema, _)| there(schema)).collect();
        let spool = SpoolWriter::create(&self.state, MAX_BYTES).map_err(|error| failed(error.into()))?;
        let mut zip = ZipWriter::new_stream(spool);
        // Encrypted bytes do not shrink.
        let options =
            SimpleFileOptions::default().compression_method(CompressionMethod::Stored).large_file(true);
        let manifest = Manifest {
            format: FORMAT,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            made_at: now,
            files: there.iter().map(|(schema, _)| schema.file.to_owned()).collect(),
        };
        zip.start_file(MANIFEST, SimpleFileOptions::default()).map_err(zipping)?;
        // Numbers and words always have a JSON form.
        zip.write_all(&serde_json::to_vec(&manifest).unwrap_or_default()).map_err(io)?;
        let total = there.len() as u64;
        let mut missing = 0;
        for (done, (schema, keys)) in there.into_iter().enumerate() {
            control.checkpoint()?;
            control.progress(done as u64, total);
            let copy = Temporary::new(&self.state, &format!("{}.copy", schema.file)).map_err(failed)?;
            let exported = || {
                copy.empty(&self.state)?;
                database::export(&self.state, &keys, schema, &copy.0, passphrase)?;
                database::open_copy(&copy.0, passphrase, schema)
            };
            let mut copied = exported().map_err(|error| failed(error.into()))?;
            if schema.file == gallery_schema().file {
                let mut kept = HashSet::new();
                for attempt in 1.. {
                    missing = self.add_pictures(&copied, &mut kept, &mut zip, control)?;
                    // Whoever was erased while this ran is not to be in a backup that is finished later.
                    if missing == 0 || attempt == ATTEMPTS {
                        break;
                    }
                    drop(copied);
                    copied = exported().map_err(|error| failed(error.into()))?;
                }
                let marks = marks_of(&copied).map_err(|error| {
                    failed(DatabaseError::sqlite(&copy.0, schema, "list who was erased", error).into())
                })?;
                zip.start_file(ERASURES, options).map_err(zipping)?;
                zip.write_all(&erasures::seal(&marks, passphrase).map_err(failed)?).map_err(io)?;
            }
            drop(copied);
            zip.start_file(schema.file, options).map_err(zipping)?;
            std::io::copy(&mut File::open(&copy.0).map_err(io)?, &mut zip).map_err(io)?;
        }
        control.progress(total, total);
        let spool = zip.finish().map_err(zipping)?.into_inner();
        let spool = spool.finish().map_err(|error| failed(error.into()))?;
        Ok((spool, missing))
    }

    /// Adds the picture files that a copy of the gallery refers to, but those that were added before; how many
    /// are not there.
    fn add_pictures(
        &self,
        copied: &Connection,
        kept: &mut HashSet<MediaName>,
        zip: &mut ZipWriter<StreamWriter<SpoolWriter>>,
        control: &JobControl,
    ) -> Result<u64, Stopped> {
        let failed = |error: BackupError| Stopped::Failed(error.to_string());
        let zipping = |error: String| Stopped::Failed(format!("cannot write the backup: {error}"));
        let media = MediaFolder::open(&self.state).map_err(|error| failed(error.into()))?;
        let names = media_of(copied).map_err(|error| {
            failed(
                DatabaseError::sqlite(self.state.path(), gallery_schema(), "list the pictures", error).into(),
            )
        })?;
        let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
        let mut missing = 0;
        for name in names {
            if kept.contains(&name) {
                continue;
            }
            control.checkpoint()?;
            let Some(bytes) = media.sealed(name).map_err(|error| failed(error.into()))? else {
                missing += 1;
                continue;
            };
            zip.start_file(format!("{MEDIA_FOLDER}/{}", name.text()), options)
                .map_err(|error| zipping(error.to_string()))?;
            zip.write_all(&bytes).map_err(|error| zipping(error.to_string()))?;
            kept.insert(name);
        }
        Ok(missing)
    }
}

/// What was put back.
#[derive(Clone, Debug, Serialize)]
pub struct Restored {
    /// When the backup was made.
    pub made_at: UnixMillis,
    /// By which version of the program.
    pub version: String,
    /// The databases.
    pub files: Vec<String>,
    /// Picture files.
    pub pictures: u64,
    /// Picture files that the backup should have and has not, or that are damaged in it.
    pub pictures_missing: u64,
    /// Subjects of the backup that were erased since, as other backups say.
    pub erased_again: u64,
}

/// What of the accounts does not come back: whoever was signed in or invited then may since have been
/// shown out, and codes of that time have been read.
const PASSING: &[&str] = &["session", "setup", "invitation"];

/// Puts a backup back on a state folder that has none of its databases. Whoever was erased since it was made is
/// erased again, as far as the backups beside it and those in `others` know.
pub fn restore(
    file: &Path,
    passphrase: &str,
    others: &[PathBuf],
    state: &StateFolder,
    key: &RootKey,
) -> Result<Restored, BackupError> {
    let databases = databases(key);
    for (schema, _) in &databases {
        let path = state.path().join(schema.file);
        if path.symlink_metadata().is_ok() {
            return Err(BackupError::NotEmpty { path });
        }
    }
    let io = |what| move |source| BackupError::Io { what, path: file.into(), source };
    let damaged = |found: String| BackupError::NotABackup { path: file.into(), found };
    let mut opened = File::open(file).map_err(io("read"))?;
    let bytes = opened.seek(SeekFrom::End(0)).map_err(io("read"))?;
    if bytes > MAX_BYTES {
        return Err(damaged(format!("it has {bytes} bytes, more than any backup")));
    }
    let mut zip = ZipArchive::new(opened).map_err(|error| damaged(error.to_string()))?;
    let manifest: Manifest = {
        let entry = zip.by_name(MANIFEST).map_err(|error| damaged(error.to_string()))?;
        let mut text = Vec::new();
        entry.take(MAX_MANIFEST_BYTES).read_to_end(&mut text).map_err(io("read"))?;
        serde_json::from_slice(&text).map_err(|error| damaged(format!("its {MANIFEST} says: {error}")))?
    };
    if !(1..=FORMAT).contains(&manifest.format) {
        let found = format!("it has format {}, this program knows formats up to {FORMAT}", manifest.format);
        return Err(damaged(found));
    }
    if !manifest.files.iter().any(|name| name == gallery_schema().file) {
        return Err(damaged("it holds no gallery".to_owned()));
    }
    // All are unpacked and checked before the first is put in place.
    let mut copies = Vec::new();
    let mut wanted = HashSet::new();
    for (schema, key) in
        databases.iter().filter(|(schema, _)| manifest.files.iter().any(|n| n == schema.file))
    {
        let copy = Temporary::new(state, &format!("{}.copy", schema.file))?;
        let entry = zip.by_name(schema.file).map_err(|error| damaged(error.to_string()))?;
        let mut out = File::options().write(true).open(&copy.0).map_err(io("unpack"))?;
        // No more than the file itself: what is stored does not grow.
        std::io::copy(&mut entry.take(bytes), &mut out).map_err(io("unpack"))?;
        let opened = database::open_copy(&copy.0, passphrase, schema)?;
        if schema.file == gallery_schema().file && manifest.format > 1 {
            // A list of an older schema cannot be: format and schema came together.
            wanted = media_of(&opened)
                .map_err(|error| DatabaseError::sqlite(&copy.0, schema, "list the pictures", error))?;
        }
        drop(opened);
        copies.push((copy, *schema, &key.present));
    }
    let media = MediaFolder::open(state)?;
    let (mut pictures, mut pictures_missing) = (0, 0);
    for name in wanted {
        let whole = match zip.by_name(&format!("{MEDIA_FOLDER}/{}", name.text())) {
            Ok(entry) => {
                let mut bytes = Vec::new();
                entry.take(crate::media::MAX_BYTES).read_to_end(&mut bytes).map_err(io("unpack"))?;
                media.put_back(name, &bytes)?
            }
            Err(ZipError::FileNotFound) => false,
            Err(error) => return Err(damaged(error.to_string())),
        };
        if whole { pictures += 1 } else { pictures_missing += 1 }
    }
    media.sync()?;
    // The gallery last: while it is not there, the pictures are swept by whoever starts next.
    copies.sort_by_key(|(_, schema, _)| schema.file == gallery_schema().file);
    for (copy, schema, key) in copies {
        let but = if schema.file == accounts_schema().file { PASSING } else { &[] };
        database::import(&copy.0, passphrase, state, key, (schema, but))?;
    }
    let (version, made_at, files) = (manifest.version, manifest.made_at, manifest.files);
    let mut marks = Vec::new();
    for other in siblings(file).iter().chain(others) {
        marks.extend(erasures::in_backup(other, passphrase, made_at)?);
    }
    // Opened only now, so that a gallery that cannot be used leaves no mark of a success.
    let erased_again = GalleryStore::open(state, key, Arc::new(SystemClock))?.apply_erasures(&marks)?;
    Ok(Restored { made_at, version, files, pictures, pictures_missing, erased_again })
}

/// The other backups in the folder of one.
fn siblings(file: &Path) -> Vec<PathBuf> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // A folder that cannot be listed has none to ask.
    let entries = std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    let others = entries.map(|entry| entry.path()).filter(|path| {
        path.extension().is_some_and(|extension| extension == "backup")
            && path.file_name() != file.file_name()
    });
    others.take(MOST_SIBLINGS).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;
    use crate::admin::accounts::AccountStore;
    use crate::clock::Clock;
    use crate::embedding::{Embedding, EmbeddingSpaceId};
    use crate::gallery::{
        Enrolment, EnrolmentTarget, NewSample, SampleOrigin, SamplePicture, SampleQuality, SubjectId,
        SubjectName,
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
            quality: SampleQuality {
                score: QualityScore::new(0.9),
                eye_distance_px: 60.0,
                sharpness: 0.5,
                yaw_deg: 0.0,
                pitch_deg: 0.0,
                roll_deg: 0.0,
            },
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
        while !matches!(jobs.get(id).unwrap().state, JobState::Done | JobState::Failed) {
            std::thread::yield_now();
        }
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
        let names: Vec<_> =
            std::fs::read_dir(state.path()).unwrap().map(|f| f.unwrap().file_name()).collect();
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
        assert!(left.is_empty(), "{left:?}");
        let mut empty = ZipWriter::new(Cursor::new(Vec::new()));
        empty.start_file("other", SimpleFileOptions::default()).unwrap();
        let other_zip = empty.finish().unwrap().into_inner();
        assert!(matches!(
            put_back(&other_zip, PASSPHRASE, &new, &other),
            Err(BackupError::NotABackup { .. })
        ));
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
}
