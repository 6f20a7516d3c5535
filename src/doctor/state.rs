//! What the device keeps: the state folder, its key, its file system, the gallery in it.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Access, StatVfs, StatVfsMountFlags};

use super::{Check, Finding, size};
use crate::backup::{BackupLog, BackupPlan};
use crate::clock::{SystemClock, UnixMillis, rfc3339};
use crate::config::Config;
use crate::gallery::{DATABASE_FILE, GalleryStore};
use crate::vault::{CREDENTIAL_NAME, KEY_FILE, KeySource, KeySources, RootKey, StateFolder, VaultError};

/// Below this nothing can be written for long: a database grows by its log first.
const LEAST_FREE: u64 = 16 << 20;
/// Below this somebody should look what fills the disk.
const LITTLE_FREE: u64 = 256 << 20;
/// What SQLite takes for the size of a page of memory.
const SHARED_PAGE_BYTES: u64 = 4096;
/// Written to see whether writing works.
const TRIAL_BYTES: usize = 64 << 10;
/// Findings of one database that are told.
const MAX_FINDINGS: usize = 3;

/// The folder itself, or the nearest one above it that is there.
fn nearest(folder: &Path) -> PathBuf {
    let there = folder.ancestors().find(|path| !path.as_os_str().is_empty() && path.exists());
    there.unwrap_or(Path::new(".")).to_owned()
}

/// The state folder and the root key: there, private, and readable. Makes neither. The key is given
/// out for the checks that need it.
pub fn check_key(folder: &Path, sources: KeySources<'_>) -> (Finding, Option<(StateFolder, RootKey)>) {
    let shown = folder.display();
    if !folder.exists() {
        let above = nearest(folder);
        let finding = match rustix::fs::access(&above, Access::WRITE_OK | Access::EXEC_OK) {
            Ok(()) => {
                Finding::ok(Check::State, format!("{shown} is not there yet: it is made at the first start"))
            }
            Err(error) => Finding::problem(
                Check::State,
                format!(
                    "{shown} is not there, and this account may not make it in {}: {error}",
                    above.display()
                ),
                "as a service, systemd makes it (StateDirectory=limen); else make it with mode 0700 for the account that \
                 limen runs under, or set state.folder",
            ),
        };
        return (finding, None);
    }
    let opened = StateFolder::open_or_create(folder).and_then(|state| {
        let kept = |folder: &Path, name| folder.join(name).symlink_metadata().is_ok();
        let any = sources.command.is_some()
            || sources.credentials.is_some_and(|folder| kept(folder, CREDENTIAL_NAME))
            || kept(state.path(), KEY_FILE)
            || kept(state.path(), DATABASE_FILE);
        let key = any.then(|| RootKey::load_from(&state, sources)).transpose()?;
        Ok((state, key))
    });
    match opened {
        Ok((_, None)) => (
            Finding::ok(Check::State, format!("{shown} is private; the key is made at the first start")),
            None,
        ),
        Ok((state, Some((key, source)))) => (key_finding(&state, &source), Some((state, key))),
        Err(error) => (Finding::problem(Check::State, error.to_string(), advice(&error)), None),
    }
}

fn key_finding(state: &StateFolder, source: &KeySource) -> Finding {
    let shown = state.path().display();
    match source {
        KeySource::Given { by, unused_key_file: None } => {
            Finding::ok(Check::State, format!("{shown} is private; the root key is {by}"))
        }
        KeySource::Given { by, unused_key_file: Some(path) } => Finding::warning(
            Check::State,
            format!("the root key is {by}, but the same key lies in {}", path.display()),
            "erase that file: whoever takes the storage would have the key",
        ),
        KeySource::File { .. } => Finding::ok(
            Check::State,
            format!(
                "{shown} and the key file in it are private; a credential bound to a TPM would protect more"
            ),
        ),
    }
}

fn advice(error: &VaultError) -> &'static str {
    match error {
        VaultError::Unsafe { .. } => {
            "treat what others could read as known to them: move the state folder away and enrol anew, or, if nobody else \
             has an account here, set the modes and owner named and go on"
        }
        VaultError::Missing { .. } => {
            "put the key file back from its backup. A key that is a systemd credential is seen by the service only: \
             `systemd-run --pipe --wait -p User=limen -p LoadCredentialEncrypted=limen.root-key limen doctor`"
        }
        VaultError::Io { .. } => {
            "run this as the account that limen runs under: `sudo -u limen limen doctor`"
        }
        VaultError::NotAKey { .. } => "put the key file back from its backup",
        VaultError::Command { .. } => "run that program as root and look at what it prints and how it ends",
        VaultError::Claimed { .. } => "stop one of the two",
        VaultError::NoRandomness(_) => "the kernel is not ready; start again",
    }
}

/// The file system of the state folder: space, and whether writing works.
pub fn check_storage(folder: &Path) -> Finding {
    let place = nearest(folder);
    let failed = |what: &str, error: std::io::Error| {
        Finding::problem(Check::Storage, format!("{} {what}: {error}", place.display()), advice_for(&error))
    };
    let room = match rustix::fs::statvfs(&place) {
        Ok(room) => Room::from(&room),
        Err(error) => return failed("cannot be examined", error.into()),
    };
    if let Some(finding) = too_little(&place, &room) {
        return finding;
    }
    // A file without a name: nothing of it stays, whatever happens.
    let trial = || {
        let mut file = tempfile::tempfile_in(&place)?;
        file.write_all(&vec![0; TRIAL_BYTES])?;
        file.sync_all()
    };
    // A folder that is to be made yet was asked about by the check of the state.
    if folder.exists()
        && let Err(error) = trial()
    {
        return failed("cannot be written", error);
    }
    let Room { free, total, .. } = room;
    let found = format!("{} of {} free at {}", size(free), size(total), place.display());
    if total > 0 && free < LITTLE_FREE {
        let advice = "see what fills the disk; events.keep_days and events.keep_count bound what limen keeps";
        return Finding::warning(Check::Storage, found, advice);
    }
    if let Some(finding) = small_blocks(&place, &room) {
        return finding;
    }
    Finding::ok(Check::Storage, found)
}

fn advice_for(error: &std::io::Error) -> &'static str {
    use std::io::ErrorKind::{PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    match error.kind() {
        StorageFull | QuotaExceeded => "free some space: recognition goes on, but events cannot be kept",
        ReadOnlyFilesystem => {
            "mount it for writing; one that became read-only by itself is failing: look at the kernel log"
        }
        PermissionDenied => "run this as the account that limen runs under: `sudo -u limen limen doctor`",
        _ => "the storage may be failing: look at the kernel log, and keep a backup",
    }
}

/// SQLite maps a file beside each database into memory and makes sure of room for each 4096 bytes of it, by writing
/// one of them. Where a block is smaller, the others may find none on a full disk, and the kernel ends the program.
fn small_blocks(place: &Path, room: &Room) -> Option<Finding> {
    (room.total > 0 && room.block < SHARED_PAGE_BYTES).then(|| {
        Finding::warning(
            Check::Storage,
            format!("{} has blocks of {} bytes", place.display(), room.block),
            "when it is full, the program can be ended by the kernel (SIGBUS): make the file system with blocks of 4096 \
             bytes (`mkfs.ext4 -b 4096`), which is not what small ones get by themselves",
        )
    })
}

struct Room {
    free: u64,
    block: u64,
    total: u64,
    files_left: Option<u64>,
    read_only: bool,
}

impl From<&StatVfs> for Room {
    fn from(stat: &StatVfs) -> Self {
        Self {
            free: stat.f_bavail.saturating_mul(stat.f_frsize),
            block: stat.f_frsize,
            total: stat.f_blocks.saturating_mul(stat.f_frsize),
            // Some file systems make places for files as needed and say 0.
            files_left: (stat.f_files > 0).then_some(stat.f_favail),
            read_only: stat.f_flag.contains(StatVfsMountFlags::RDONLY),
        }
    }
}

fn too_little(place: &Path, room: &Room) -> Option<Finding> {
    let problem = |found: String, advice: &str| Some(Finding::problem(Check::Storage, found, advice));
    let shown = place.display();
    if room.read_only {
        return problem(
            format!("{shown} is mounted read-only"),
            "mount it for writing, or set state.folder to one that is; a disk that became read-only by itself is failing",
        );
    }
    // File systems of the kernel's own have no size at all.
    if room.total > 0 && room.free < LEAST_FREE {
        return problem(
            format!("only {} free at {shown}", size(room.free)),
            "free some space: recognition goes on, but events cannot be kept",
        );
    }
    if room.files_left == Some(0) {
        return problem(
            format!("{shown} has no place for another file"),
            "erase files there: the disk has run out of inodes",
        );
    }
    None
}

/// Whether the gallery opens, and is as it was written. One of an earlier version is brought to this
/// one's schema, as any other command would.
pub fn check_gallery(state: &StateFolder, key: &RootKey) -> Finding {
    if !state.path().join(DATABASE_FILE).exists() {
        return nobody();
    }
    let examined = GalleryStore::open(state, key, Arc::new(SystemClock)).and_then(|store| {
        let findings = store.integrity_check()?;
        Ok((findings, store.statistics()?))
    });
    match examined {
        Ok((findings, _)) if !findings.is_empty() => {
            let told = findings.iter().take(MAX_FINDINGS).map(String::as_str).collect::<Vec<_>>().join("; ");
            Finding::problem(
                Check::Gallery,
                format!("the gallery is damaged ({} findings): {told}", findings.len()),
                "stop limen, put a backup of gallery.db in place or enrol anew, and check the storage: it may be failing",
            )
        }
        Ok((_, statistics)) if statistics.subjects == 0 => nobody(),
        Ok((_, statistics)) => Finding::ok(
            Check::Gallery,
            format!(
                "intact: {} subjects, {} samples, {}",
                statistics.subjects,
                statistics.samples,
                size(statistics.database_bytes)
            ),
        ),
        Err(error) => Finding::problem(
            Check::Gallery,
            error.to_string(),
            "put the right key or a backup of gallery.db in place; to start anew, move gallery.db away and enrol again",
        ),
    }
}

/// Backups that the device makes by itself: whether there are any, and whether the last one is recent.
pub fn check_backups(config: &Config, now: UnixMillis) -> Finding {
    let Some(plan) = BackupPlan::new(config) else {
        return Finding::ok(
            Check::Backup,
            "none are made by themselves; backup.folder or backup.sftp says where they should go",
        );
    };
    let log = BackupLog::of(&config.state.folder);
    if let Some(failed) = &log.failed {
        return Finding::problem(
            Check::Backup,
            format!("the last one failed: {}", failed.message),
            "mend that, and run `limen backup now`",
        );
    }
    let Some(last) = &log.last else {
        return Finding::warning(
            Check::Backup,
            "none has been made yet",
            "the service makes one soon after its start; `limen backup now` makes one at once",
        );
    };
    let old = u128::try_from(now.0 - last.at.0).is_ok_and(|past| past > 3 * plan.every.as_millis());
    if old {
        return Finding::problem(
            Check::Backup,
            format!("the last one is of {}", rfc3339(last.at)),
            "the service makes them: look whether it runs",
        );
    }
    let found = format!("{} of {}, {} subjects", last.places.join(" and "), rfc3339(last.at), last.subjects);
    match last.pictures_missing {
        0 => Finding::ok(Check::Backup, found),
        missing => Finding::warning(
            Check::Backup,
            format!("{found}; {missing} pictures are missing in it"),
            "the storage may be failing: look at the gallery's finding",
        ),
    }
}

fn nobody() -> Finding {
    Finding::warning(
        Check::Gallery,
        "nobody is enrolled, so everybody is unknown",
        "`limen enrol NAME PICTURE…` enrols somebody, also while limen runs",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Level;

    const PLENTY: Room =
        Room { free: 8 << 30, block: 4096, total: 16 << 30, files_left: Some(1000), read_only: false };

    #[test]
    fn each_way_to_have_no_room_is_told() {
        let found = |room: Room| too_little(Path::new("/state"), &room).map(|finding| finding.found);
        assert_eq!(found(PLENTY), None);
        assert_eq!(found(Room { files_left: None, ..PLENTY }), None);
        assert!(found(Room { read_only: true, ..PLENTY }).unwrap().contains("read-only"));
        assert!(found(Room { free: LEAST_FREE - 1, ..PLENTY }).unwrap().contains("16 MiB free"));
        assert!(found(Room { files_left: Some(0), ..PLENTY }).unwrap().contains("another file"));
        assert!(small_blocks(Path::new("/state"), &PLENTY).is_none());
        let small = small_blocks(Path::new("/state"), &Room { block: 1024, ..PLENTY }).unwrap();
        assert!(small.level == Level::Warning && small.found.contains("1024 bytes"), "{small:?}");
    }

    #[test]
    fn checking_leaves_nothing_behind() {
        let temp = tempfile::tempdir().unwrap();
        let folder = temp.path().join("a/state");
        let (finding, key) = check_key(&folder, KeySources::default());
        assert!(finding.level == Level::Ok && key.is_none(), "{finding:?}");
        assert_ne!(check_storage(&folder).level, Level::Problem);
        assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 0);

        StateFolder::open_or_create(&folder).unwrap();
        let (finding, key) = check_key(&folder, KeySources::default());
        assert!(finding.level == Level::Ok && key.is_none(), "{finding:?}");
        assert_ne!(check_storage(&folder).level, Level::Problem);
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
    }

    #[test]
    fn gallery_of_another_key_is_a_problem() {
        let temp = tempfile::tempdir().unwrap();
        let state = StateFolder::open_or_create(temp.path()).unwrap();
        let key = |byte| RootKey::from_bytes([byte; 32]);
        drop(GalleryStore::open(&state, &key(1), Arc::new(SystemClock)).unwrap());
        assert_eq!(check_gallery(&state, &key(1)).level, Level::Warning);
        assert_eq!(check_gallery(&state, &key(2)).level, Level::Problem);
    }
}
