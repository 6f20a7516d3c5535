//! Backup: the gallery with its pictures and the accounts in one file under a passphrase, and back again on an
//! empty state folder. Runs on the thread of its job, or of the command. What the device makes by itself
//! ([`BackupSchedule`]) is under its recovery key ([`RecoveryKey`]).
//!
//! The file is a zip of databases that are encrypted each by itself ([`crate::database`]) and of picture files
//! as they lie on the device, whose keys are in the gallery's database ([`crate::media`]), so that the container
//! needs no secrecy of its own; a `manifest.json` names the databases. Events, unknown faces and the root key
//! are not in it: a restored device makes a root key of its own.
//!
//! `erasures` in the container says who was erased on the device by then, under the same passphrase: a restore
//! asks it of every backup beside the one that is put back, so that an older one brings nobody back who was
//! erased since.

mod container;
mod erasures;
mod recovery;
mod schedule;
mod sftp;

use std::collections::HashSet;
use std::fs::{File, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::Connection;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use zeroize::Zeroizing;
use zip::write::{SimpleFileOptions, StreamWriter};
use zip::{CompressionMethod, ZipWriter};

use crate::admin::accounts::accounts_schema;
use crate::clock::{SystemClock, UnixMillis};
use crate::database::{self, DatabaseError, Schema};
use crate::gallery::{GalleryError, GalleryStore, gallery_schema, marks_of, media_of};
use crate::jobs::{Download, JobControl, Stopped};
use crate::media::{MEDIA_FOLDER, MediaError, MediaFolder, MediaName};
use crate::spool::{SpoolError, SpoolWriter};
use crate::vault::{KeyPurpose, KeyRing, RootKey, StateFolder, VaultError};

use container::Container;
pub use recovery::{RecoveryKey, RecoveryKeyError};
pub use schedule::{
    BackupDone, BackupFailed, BackupLog, BackupPlan, BackupSchedule, FoundBackup, backups_in,
};
pub use sftp::{SftpError, SftpPlace};

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
/// Keeps other processes from working with backups.
const LOCK: &str = "backup.lock";
/// There while a restore is under way.
const UNFINISHED: &str = "restore.unfinished";
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
    /// What was typed is no recovery key.
    #[error("that is not the recovery key: {0}")]
    RecoveryKey(RecoveryKeyError),
    /// It was made under another recovery key.
    #[error(
        "{path} was made under the recovery key with the id {wanted}, and this is the one with the id {given}: look for the one that was written down when it was made"
    )]
    OtherRecoveryKey {
        /// The file.
        path: PathBuf,
        /// Id of the right one.
        wanted: String,
        /// Id of the one given.
        given: String,
    },
    /// Another process makes or checks one.
    #[error("another program makes or checks a backup of this device; wait for it to end")]
    Busy,
    /// A file cannot be sent away or fetched.
    #[error(transparent)]
    Sftp(#[from] SftpError),
    /// The place for backups cannot be used.
    #[error("{0}")]
    Place(String),
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
    /// Id of the recovery key that it is under; none where somebody chose a passphrase.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    recovery_key: Option<String>,
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

/// What is in a backup, and what its key is for.
fn databases() -> [(&'static Schema, KeyPurpose); 2] {
    [(gallery_schema(), KeyPurpose::Database), (accounts_schema(), KeyPurpose::Accounts)]
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

    fn path(&self) -> &Path {
        &self.0
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
        let failed = |error: SpoolError| Stopped::Failed(BackupError::from(error).to_string());
        check_passphrase(passphrase).map_err(|error| Stopped::Failed(error.to_string()))?;
        let spool = SpoolWriter::create(&self.state, MAX_BYTES).map_err(failed)?;
        let (spool, missing) = self.write(spool, passphrase, None, now, control)?;
        let spool = spool.finish().map_err(failed)?;
        let bytes = spool.len();
        control.offer(Download { spool: Arc::new(spool), name: format!("limen-{}.backup", now.0) });
        control.result(serde_json::json!({ "bytes": bytes, "pictures_missing": missing }));
        Ok(())
    }

    /// Writes the container; how many pictures are not there. Under a recovery key, its id is told.
    fn write<W: Write>(
        &self,
        to: W,
        passphrase: &str,
        recovery_key: Option<String>,
        now: UnixMillis,
        control: &JobControl,
    ) -> Result<(W, u64), Stopped> {
        let failed = |error: BackupError| Stopped::Failed(error.to_string());
        let _turn = turn(&self.state).map_err(failed)?;
        let io = |error: std::io::Error| Stopped::Failed(format!("cannot write the backup: {error}"));
        let zipping =
            |error: zip::result::ZipError| Stopped::Failed(format!("cannot write the backup: {error}"));
        let there = |schema: &Schema| self.state.path().join(schema.file).symlink_metadata().is_ok();
        let there: Vec<_> = databases().into_iter().filter(|(schema, _)| there(schema)).collect();
        let key = self.key.now();
        let mut zip = ZipWriter::new_stream(to);
        // Encrypted bytes do not shrink.
        let options =
            SimpleFileOptions::default().compression_method(CompressionMethod::Stored).large_file(true);
        let manifest = Manifest {
            format: FORMAT,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            made_at: now,
            files: there.iter().map(|(schema, _)| schema.file.to_owned()).collect(),
            recovery_key,
        };
        zip.start_file(MANIFEST, SimpleFileOptions::default()).map_err(zipping)?;
        // Numbers and words always have a JSON form.
        zip.write_all(&serde_json::to_vec(&manifest).unwrap_or_default()).map_err(io)?;
        let total = there.len() as u64;
        let mut missing = 0;
        for (done, (schema, purpose)) in there.into_iter().enumerate() {
            control.checkpoint()?;
            control.progress(done as u64, total);
            let copy = Temporary::new(&self.state, &format!("{}.copy", schema.file)).map_err(failed)?;
            let exported = || {
                copy.empty(&self.state)?;
                database::export(&self.state, &key.subkeys(purpose), schema, &copy.0, passphrase)?;
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
        Ok((zip.finish().map_err(zipping)?.into_inner(), missing))
    }

    /// Adds the picture files that a copy of the gallery refers to, but those that were added before; how many
    /// are not there.
    fn add_pictures<W: Write>(
        &self,
        copied: &Connection,
        kept: &mut HashSet<MediaName>,
        zip: &mut ZipWriter<StreamWriter<W>>,
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
/// erased again, as far as the backups beside it and those in `others` know. `passphrase` may be a recovery key.
pub fn restore(
    file: &Path,
    passphrase: &str,
    others: &[PathBuf],
    state: &StateFolder,
    key: &RootKey,
) -> Result<Restored, BackupError> {
    let _turn = turn(state)?;
    // What a restore that was cut off had put in place is of no use by itself.
    if is_unfinished(state) {
        for (schema, _) in databases() {
            for name in
                [schema.file.to_owned(), format!("{}-wal", schema.file), format!("{}-shm", schema.file)]
            {
                remove(&state.path().join(name))?;
            }
        }
    }
    for (schema, _) in databases() {
        let path = state.path().join(schema.file);
        if path.symlink_metadata().is_ok() {
            return Err(BackupError::NotEmpty { path });
        }
    }
    let mut container = Container::open(file, passphrase)?;
    // All are unpacked and checked before the first is put in place.
    let unpacked = container.unpack(state)?;
    let media = MediaFolder::open(state)?;
    let (mut pictures, mut pictures_missing) = (0, 0);
    container.pictures(&unpacked.pictures, |name, bytes| {
        let whole = bytes.map(|bytes| media.put_back(name, bytes)).transpose()?.unwrap_or(false);
        if whole {
            pictures += 1
        } else {
            pictures_missing += 1
        }
        Ok(())
    })?;
    media.sync()?;
    let mut marks = Vec::new();
    for other in siblings(file).iter().chain(others) {
        marks.extend(erasures::in_backup(other, container.secret(), container.manifest.made_at)?);
    }
    // From here on until the end nothing else may be made of what lies there.
    state.replace(UNFINISHED, b"a restore was begun and has not ended\n")?;
    // The gallery last: while it is not there, the pictures are swept by whoever starts next.
    for (copy, schema, purpose) in &unpacked.databases {
        let but = if schema.file == accounts_schema().file { PASSING } else { &[] };
        database::import(copy.path(), container.secret(), state, &key.subkey(*purpose), (schema, but))?;
    }
    // Opened only now, so that a gallery that cannot be used leaves no mark of a success.
    let erased_again = GalleryStore::open(state, key, Arc::new(SystemClock))?.apply_erasures(&marks)?;
    remove(&state.path().join(UNFINISHED))?;
    state.sync()?;
    let Manifest { made_at, version, files, .. } = container.manifest;
    Ok(Restored { made_at, version, files, pictures, pictures_missing, erased_again })
}

/// Whether a restore was begun on this state folder and has not ended. What lies there then is not whole.
pub fn is_unfinished(state: &StateFolder) -> bool {
    state.path().join(UNFINISHED).symlink_metadata().is_ok()
}

fn remove(path: &Path) -> Result<(), BackupError> {
    match std::fs::remove_file(path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(BackupError::Io { what: "remove", path: path.into(), source })
        }
        _ => Ok(()),
    }
}

/// What was found in a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// When it was made.
    pub made_at: UnixMillis,
    /// By which version of the program.
    pub version: String,
    /// Bytes of the file.
    pub bytes: u64,
    /// Subjects in it.
    pub subjects: u64,
    /// Picture files that are whole.
    pub pictures: u64,
    /// Those that should be in it and are not, or are damaged.
    pub pictures_missing: u64,
}

/// Opens a backup as a restore would and checks every page of its databases and every picture. Needs room for
/// the databases in the state folder, where they lie under the passphrase meanwhile.
pub fn verify(file: &Path, passphrase: &str, state: &StateFolder) -> Result<Verified, BackupError> {
    let _turn = turn(state)?;
    let mut container = Container::open(file, passphrase)?;
    let unpacked = container.unpack(state)?;
    let (mut pictures, mut pictures_missing) = (0, 0);
    container.pictures(&unpacked.pictures, |name, bytes| {
        if bytes.is_some_and(|bytes| MediaName::of(bytes) == name) {
            pictures += 1
        } else {
            pictures_missing += 1
        }
        Ok(())
    })?;
    let bytes = container.bytes;
    let Manifest { made_at, version, .. } = container.manifest;
    Ok(Verified { made_at, version, bytes, subjects: unpacked.subjects, pictures, pictures_missing })
}

/// One process at a time makes, checks or puts back backups of a state folder: they use the same names for what
/// lies there meanwhile. Goes with what is returned, also after a crash.
fn turn(state: &StateFolder) -> Result<File, BackupError> {
    let path = state.path().join(LOCK);
    let io = |source| BackupError::Io { what: "lock", path: path.clone(), source };
    let file = match state.create_file(LOCK) {
        Ok(file) => file,
        Err(_) => File::options().write(true).open(&path).map_err(io)?,
    };
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(BackupError::Busy),
        Err(TryLockError::Error(source)) => Err(io(source)),
    }
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
mod tests;
