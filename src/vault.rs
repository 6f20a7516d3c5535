//! Keys at rest: the one root key of this device, where it comes from, and the subkeys made of it.
//! Also the state folder and the private files in it, because a key is as safe as they are.
//!
//! Not here: what the keys encrypt (the database is [`crate::gallery`]'s). Runs once, at start, on
//! the thread that starts.
//!
//! The root key comes from the systemd credential `limen.root-key`, or else from the file
//! `root.key` in the state folder, which is made at the first start. Both hold 64 hexadecimal
//! digits, with or without a line end.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use hkdf::Hkdf;
use rustix::fd::OwnedFd;
use rustix::fs::{FileType, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use sha2::Sha256;
use thiserror::Error;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::gallery::DATABASE_FILE;

/// Name of the systemd credential.
pub const CREDENTIAL_NAME: &str = "limen.root-key";
/// Name of the key file in the state folder.
pub const KEY_FILE: &str = "root.key";
const NEW_KEY_FILE: &str = "root.key.new";
/// Bytes of a root key and of a subkey.
pub const KEY_BYTES: usize = 32;

/// Why there is no root key. No variant carries key material.
#[derive(Debug, Error)]
pub enum VaultError {
    /// A file or folder could not be used.
    #[error("cannot {what} {path}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// With which file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Somebody else could read, change or swap the key.
    #[error("{path} {found}; {remedy}")]
    Unsafe {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong with it.
        found: String,
        /// What to do.
        remedy: String,
    },
    /// The file is not a key.
    #[error("{path} does not hold a root key: 64 hexadecimal digits were expected, {found}")]
    NotAKey {
        /// The file.
        path: PathBuf,
        /// What was found instead.
        found: String,
    },
    /// There is an encrypted database but no key for it. No new key is made, since it could not
    /// open the database.
    #[error(
        "{database} is there but its key is not: neither the credential {CREDENTIAL_NAME} nor {key}; put the key back, or move the database away to start anew"
    )]
    Missing {
        /// Where the key file would be.
        key: PathBuf,
        /// The database that needs it.
        database: PathBuf,
    },
    /// Another daemon works with this folder.
    #[error(
        "another limen is running on {path}; stop that one first (`systemctl stop limen`), or give this one a folder of its own with --state"
    )]
    Claimed {
        /// The folder.
        path: PathBuf,
    },
    /// The system's random numbers could not be had.
    #[error("cannot make a root key: the system gives no random numbers: {0}")]
    NoRandomness(getrandom::Error),
}

/// What a subkey is for. Each gets a key of its own, so that none of them tells anything about
/// another one or the root key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyPurpose {
    /// The database of the gallery.
    Database,
    /// The database of the events.
    Events,
    /// The database of the accounts.
    Accounts,
    /// Signatures of addresses under which pictures can be fetched for a short time.
    Links,
    /// The database of unknown faces.
    Sightings,
}

impl KeyPurpose {
    /// The HKDF info. Changing one makes everything encrypted under it unreadable.
    const fn info(self) -> &'static [u8] {
        match self {
            Self::Database => b"limen/1/database",
            Self::Events => b"limen/1/events",
            Self::Accounts => b"limen/1/accounts",
            Self::Links => b"limen/1/links",
            Self::Sightings => b"limen/1/sightings",
        }
    }
}

/// The one key all others are made of. Wiped when dropped.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct RootKey([u8; KEY_BYTES]);

/// A key for one purpose. Wiped when dropped.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct Subkey([u8; KEY_BYTES]);

impl fmt::Debug for RootKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RootKey(..)")
    }
}

impl fmt::Debug for Subkey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Subkey(..)")
    }
}

impl Subkey {
    /// The key itself.
    pub fn as_bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }
}

/// Where the root key came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// The systemd credential.
    Credential {
        /// A key file that lies in the state folder all the same, unused.
        unused_key_file: Option<PathBuf>,
    },
    /// The file in the state folder.
    File {
        /// Where it is.
        path: PathBuf,
        /// Whether it was made just now.
        created: bool,
    },
}

impl KeySource {
    /// What the operator should know about a key kept this way.
    pub fn warning(&self) -> Option<String> {
        match self {
            Self::Credential { unused_key_file: None } => None,
            Self::Credential { unused_key_file: Some(path) } => Some(format!(
                "the root key is the credential {CREDENTIAL_NAME}; {} is not used, and if it is the same key, whoever takes the storage has it: erase it",
                path.display()
            )),
            Self::File { path, .. } => Some(format!(
                "the root key is the file {}: copies of the database without it are protected, but whoever takes the whole storage, or is root on this device, has both; give the key as the systemd credential {CREDENTIAL_NAME}, bound to a TPM where the board has one",
                path.display()
            )),
        }
    }
}

impl RootKey {
    /// Takes 32 random bytes, for a caller that has them from elsewhere.
    pub fn from_bytes(mut bytes: [u8; KEY_BYTES]) -> Self {
        let key = Self(bytes);
        bytes.zeroize();
        key
    }

    /// Loads the key as systemd or the state folder gives it, making one at the first start.
    /// `credentials` is the folder of `$CREDENTIALS_DIRECTORY`.
    pub fn load(state: &StateFolder, credentials: Option<&Path>) -> Result<(Self, KeySource), VaultError> {
        if let Some(folder) = credentials {
            let path = folder.join(CREDENTIAL_NAME);
            match File::open(&path) {
                Ok(file) => {
                    let key_file = state.path.join(KEY_FILE);
                    let unused_key_file = key_file.symlink_metadata().is_ok().then_some(key_file);
                    return Ok((read_key(file, &path)?, KeySource::Credential { unused_key_file }));
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(VaultError::Io { what: "read the credential", path, source }),
            }
        }
        let path = state.path.join(KEY_FILE);
        if let Some(key) = Self::from_file(state, &path)? {
            return Ok((key, KeySource::File { path, created: false }));
        }
        // Two processes may start for the first time at once: the second one waits here, and then
        // finds the first one's key. The lock goes with the descriptor, also after a crash.
        let _lock = state.lock()?;
        if let Some(key) = Self::from_file(state, &path)? {
            return Ok((key, KeySource::File { path, created: false }));
        }
        let database = state.path.join(DATABASE_FILE);
        if database.symlink_metadata().is_ok() {
            return Err(VaultError::Missing { key: path, database });
        }
        let key = Self::create_file(state, &path)?;
        Ok((key, KeySource::File { path, created: true }))
    }

    /// The key for one purpose: HKDF-SHA256 (RFC 5869) without salt, which a root key of full
    /// entropy does not need.
    pub fn subkey(&self, purpose: KeyPurpose) -> Subkey {
        let mut subkey = Subkey([0; KEY_BYTES]);
        Hkdf::<Sha256>::new(None, &self.0)
            .expand(purpose.info(), &mut subkey.0)
            .expect("HKDF-SHA256 gives up to 255 times 32 bytes");
        subkey
    }

    fn from_file(state: &StateFolder, path: &Path) -> Result<Option<Self>, VaultError> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = match rustix::fs::open(path, flags, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::LOOP) => {
                return Err(VaultError::Unsafe {
                    path: path.into(),
                    found: "is a symbolic link".into(),
                    remedy: "put the key file itself there".into(),
                });
            }
            Err(error) => return Err(io_error("open", path)(error)),
        };
        let stat = rustix::fs::fstat(&file).map_err(io_error("examine", path))?;
        let unsafe_file = |found: String, remedy: &str| VaultError::Unsafe {
            path: path.into(),
            found,
            remedy: remedy.into(),
        };
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(unsafe_file("is not a regular file".into(), "put the key file itself there"));
        }
        let mode = stat.st_mode & 0o7777;
        if mode & 0o077 != 0 {
            return Err(unsafe_file(
                format!("has mode {mode:04o}, so others can use it"),
                "treat the key as known to them, or set mode 0600",
            ));
        }
        let us = rustix::process::geteuid().as_raw();
        // Root may act for the account that the folder belongs to, and only for that one.
        if stat.st_uid != us && !(us == 0 && stat.st_uid == state.owner) {
            return Err(unsafe_file(
                format!("belongs to user {} and not to {us}", stat.st_uid),
                "run as its owner, or give it to this one",
            ));
        }
        read_key(File::from(file), path).map(Some)
    }

    /// Writes a new key so that after a crash there is either no key file or a whole one.
    fn create_file(state: &StateFolder, path: &Path) -> Result<Self, VaultError> {
        let mut key = Self([0; KEY_BYTES]);
        getrandom::fill(&mut key.0).map_err(VaultError::NoRandomness)?;
        // A rest of an earlier start that was cut off; its key was never used.
        let new = state.path.join(NEW_KEY_FILE);
        match rustix::fs::unlink(&new) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(io_error("remove", &new)(error)),
        }
        let mut file = state.create_file(NEW_KEY_FILE)?;
        let mut text = Zeroizing::new(String::with_capacity(2 * KEY_BYTES + 1));
        push_hex(&mut text, &key.0);
        text.push('\n');
        let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
        written.map_err(|source| VaultError::Io { what: "write", path: path.into(), source })?;
        state.rename(NEW_KEY_FILE, KEY_FILE)?;
        Ok(key)
    }
}

/// The folder of everything this device keeps. Private to its owner.
#[derive(Clone, Debug)]
pub struct StateFolder {
    path: PathBuf,
    owner: u32,
}

impl StateFolder {
    /// Makes the folder (mode 0700) where it is missing, with the folders above it, and refuses one
    /// that others could write to.
    pub fn open_or_create(path: &Path) -> Result<Self, VaultError> {
        let made = std::os::unix::fs::DirBuilderExt::mode(std::fs::DirBuilder::new().recursive(true), 0o700)
            .create(path);
        made.map_err(|source| VaultError::Io { what: "make the folder", path: path.into(), source })?;
        // Links above and including the folder are the operator's choice; SQLite refuses them later.
        let path = path.canonicalize().map_err(|source| VaultError::Io {
            what: "find the folder",
            path: path.into(),
            source,
        })?;
        let mut folder = Self { path, owner: 0 };
        let stat = rustix::fs::fstat(folder.open()?).map_err(io_error("examine", &folder.path))?;
        folder.refuse_shared(stat.st_mode & 0o7777)?;
        folder.owner = stat.st_uid;
        Ok(folder)
    }

    /// A folder in this one, as private, made where it is missing.
    pub(crate) fn subfolder(&self, name: &str) -> Result<Self, VaultError> {
        let path = self.path.join(name);
        let made = match rustix::fs::mkdir(&path, Mode::RWXU) {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            Err(error) => return Err(io_error("make the folder", &path)(error)),
        };
        let folder = Self { path, owner: self.owner };
        let opened = folder.open()?;
        if made {
            if rustix::process::geteuid().is_root() && self.owner != 0 {
                let owner = rustix::fs::Uid::from_raw(self.owner);
                rustix::fs::fchown(&opened, Some(owner), None)
                    .map_err(io_error("give away", &folder.path))?;
            }
            self.sync()?;
        }
        let mode = rustix::fs::fstat(&opened).map_err(io_error("examine", &folder.path))?.st_mode & 0o7777;
        folder.refuse_shared(mode)?;
        Ok(folder)
    }

    fn refuse_shared(&self, mode: u32) -> Result<(), VaultError> {
        if mode & 0o022 == 0 {
            return Ok(());
        }
        Err(VaultError::Unsafe {
            path: self.path.clone(),
            found: format!("has mode {mode:04o}, so others could swap the files in it"),
            remedy: "set mode 0700".into(),
        })
    }

    /// Where it is, without links.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Keeps other processes from making the same files. Goes with what is returned, also after a
    /// crash.
    pub(crate) fn lock(&self) -> Result<OwnedFd, VaultError> {
        let folder = self.open()?;
        rustix::fs::flock(&folder, FlockOperation::LockExclusive).map_err(io_error("lock", &self.path))?;
        Ok(folder)
    }

    /// Keeps a second daemon away, by a lock on one of the folder's files. Goes with what is returned,
    /// also after a crash. Not the lock that SQLite takes: commands beside the daemon are welcome.
    pub(crate) fn claim(&self, file: &str) -> Result<OwnedFd, VaultError> {
        let path = self.path.join(file);
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let claimed = rustix::fs::open(&path, flags, Mode::empty()).map_err(io_error("open", &path))?;
        match rustix::fs::flock(&claimed, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(claimed),
            Err(Errno::WOULDBLOCK) => Err(VaultError::Claimed { path: self.path.clone() }),
            Err(error) => Err(io_error("lock", &path)(error)),
        }
    }

    /// Writes a file of mode 0600 whole or not at all; on the disk when this returns.
    pub(crate) fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), VaultError> {
        let new = format!("{name}.new");
        let path = self.path.join(&new);
        // Left behind by a crash.
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(VaultError::Io { what: "remove", path, source: error });
            }
            _ => {}
        }
        let mut file = self.create_file(&new)?;
        file.write_all(bytes).and_then(|()| file.sync_all()).map_err(|source| VaultError::Io {
            what: "write",
            path,
            source,
        })?;
        self.rename(&new, name)
    }

    /// Gives a file its final name; on the disk when this returns.
    pub(crate) fn rename(&self, from: &str, to: &str) -> Result<(), VaultError> {
        let folder = self.open()?;
        rustix::fs::renameat(&folder, from, &folder, to).map_err(io_error("make", &self.path.join(to)))?;
        rustix::fs::fsync(&folder).map_err(io_error("sync", &self.path))
    }

    /// Puts the names of its files on the disk.
    pub(crate) fn sync(&self) -> Result<(), VaultError> {
        rustix::fs::fsync(self.open()?).map_err(io_error("sync", &self.path))
    }

    fn open(&self) -> Result<OwnedFd, VaultError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        rustix::fs::open(&self.path, flags, Mode::empty()).map_err(io_error("open the folder", &self.path))
    }

    /// Makes a file of mode 0600 that must not exist yet. Root acting in the folder of the service's
    /// account leaves the file to that account, which could not open it otherwise.
    pub(crate) fn create_file(&self, name: &str) -> Result<File, VaultError> {
        let path = self.path.join(name);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file =
            rustix::fs::open(&path, flags, Mode::RUSR | Mode::WUSR).map_err(io_error("make", &path))?;
        if rustix::process::geteuid().is_root() && self.owner != 0 {
            let owner = rustix::fs::Uid::from_raw(self.owner);
            rustix::fs::fchown(&file, Some(owner), None).map_err(io_error("give away", &path))?;
        }
        Ok(File::from(file))
    }
}

/// The folder in which systemd gives this process its credentials, if it does.
pub fn credentials_directory() -> Option<PathBuf> {
    std::env::var_os("CREDENTIALS_DIRECTORY").filter(|folder| !folder.is_empty()).map(PathBuf::from)
}

/// Writes bytes as lower-case hexadecimal digits.
pub(crate) fn push_hex(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        for digit in [byte >> 4, byte & 15] {
            text.push(char::from_digit(u32::from(digit), 16).expect("four bits are one hex digit"));
        }
    }
}

/// Reads at most a few bytes more than a key has, whatever the file is.
fn read_key(file: File, path: &Path) -> Result<RootKey, VaultError> {
    const DIGITS: usize = 2 * KEY_BYTES;
    // Allocated once: growing would leave copies of the key behind.
    let mut text = Zeroizing::new(Vec::with_capacity(DIGITS + 8));
    file.take(DIGITS as u64 + 3).read_to_end(&mut text).map_err(|source| VaultError::Io {
        what: "read",
        path: path.into(),
        source,
    })?;
    let not_a_key = |found: String| VaultError::NotAKey { path: path.into(), found };
    let digits = text.strip_suffix(b"\n").unwrap_or(&text);
    let digits = digits.strip_suffix(b"\r").unwrap_or(digits);
    if digits.len() != DIGITS {
        let more = if digits.len() > DIGITS { "more" } else { "fewer" };
        return Err(not_a_key(format!("there is {more} than that")));
    }
    let mut key = RootKey([0; KEY_BYTES]);
    let (pairs, _) = digits.as_chunks::<2>();
    for (byte, pair) in key.0.iter_mut().zip(pairs) {
        for digit in pair {
            let value = char::from(*digit).to_digit(16);
            let value = value.ok_or_else(|| not_a_key("there is something else among them".into()))?;
            *byte = (*byte << 4) | value as u8;
        }
    }
    Ok(key)
}

fn io_error<'a>(what: &'static str, path: &'a Path) -> impl Fn(Errno) -> VaultError + 'a {
    move |error| VaultError::Io { what, path: path.into(), source: error.into() }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn state() -> (tempfile::TempDir, StateFolder) {
        let temp = tempfile::tempdir().unwrap();
        let state = StateFolder::open_or_create(&temp.path().join("a/state")).unwrap();
        (temp, state)
    }

    fn write(path: &Path, text: &str, mode: u32) {
        std::fs::write(path, text).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    fn mode(path: &Path) -> u32 {
        path.metadata().unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn subkeys_follow_rfc_5869() {
        // Reference made with OpenSSL: HKDF, SHA256, no salt, key of 32 times 0x0b, this info.
        let key = RootKey::from_bytes([0x0b; 32]);
        for (purpose, expected) in [
            (KeyPurpose::Database, "e4daa75d1fcfecec894bc47b31b31bc1166ff7b6174ae64c657c2866fa2e8895"),
            (KeyPurpose::Links, "dab06b92c58c5409b3ed8d9fafe9a3c6d5dac0b9216f2892067d9551ad351fb1"),
        ] {
            let mut hex = String::new();
            push_hex(&mut hex, key.subkey(purpose).as_bytes());
            assert_eq!(hex, expected, "{purpose:?}");
        }
    }

    #[test]
    fn first_start_makes_a_private_key_and_later_starts_find_it() {
        let (_temp, state) = state();
        let (first, source) = RootKey::load(&state, None).unwrap();
        assert_eq!(source, KeySource::File { path: state.path().join(KEY_FILE), created: true });
        assert!(source.warning().unwrap().contains("root.key"));
        let (second, source) = RootKey::load(&state, None).unwrap();
        assert!(matches!(source, KeySource::File { created: false, .. }));
        assert_eq!(first.0, second.0);
        assert_ne!(first.0, [0; 32]);
        assert_eq!(mode(&state.path().join(KEY_FILE)), 0o600);
        assert_eq!(mode(state.path()), 0o700);
        assert!(!state.path().join(NEW_KEY_FILE).exists());
        let text = std::fs::read_to_string(state.path().join(KEY_FILE)).unwrap();
        assert!(text.len() == 65 && text.trim_end().bytes().all(|b| b.is_ascii_hexdigit()));
    }

    #[test]
    fn starts_at_the_same_time_agree_on_one_key() {
        let (_temp, state) = state();
        let keys: Vec<[u8; 32]> = std::thread::scope(|scope| {
            let starts: Vec<_> =
                (0..8).map(|_| scope.spawn(|| RootKey::load(&state, None).unwrap().0.0)).collect();
            starts.into_iter().map(|s| s.join().unwrap()).collect()
        });
        assert!(keys.iter().all(|k| *k == keys[0]));
    }

    #[test]
    fn rest_of_a_first_start_that_was_cut_off_is_replaced() {
        let (_temp, state) = state();
        write(&state.path().join(NEW_KEY_FILE), "0123", 0o600);
        assert!(RootKey::load(&state, None).is_ok());
        assert!(!state.path().join(NEW_KEY_FILE).exists());
    }

    #[test]
    fn credential_comes_before_the_file() {
        let (temp, state) = state();
        RootKey::load(&state, None).unwrap();
        let credentials = temp.path().join("credentials");
        std::fs::create_dir(&credentials).unwrap();
        // A credential folder without our credential is that of another unit's setting.
        let (_, source) = RootKey::load(&state, Some(&credentials)).unwrap();
        assert!(matches!(source, KeySource::File { .. }));
        write(&credentials.join(CREDENTIAL_NAME), &"aB".repeat(32), 0o400);
        let (key, source) = RootKey::load(&state, Some(&credentials)).unwrap();
        assert_eq!(key.0, [0xab; 32]);
        assert!(source.warning().unwrap().contains("not used"));
        std::fs::remove_file(state.path().join(KEY_FILE)).unwrap();
        let (_, source) = RootKey::load(&state, Some(&credentials)).unwrap();
        assert_eq!(source.warning(), None);
    }

    #[test]
    fn bad_credential_is_an_error_and_not_a_reason_to_take_another_key() {
        let (temp, state) = state();
        write(&temp.path().join(CREDENTIAL_NAME), "short", 0o400);
        assert!(matches!(RootKey::load(&state, Some(temp.path())), Err(VaultError::NotAKey { .. })));
        assert!(!state.path().join(KEY_FILE).exists());
    }

    #[test]
    fn keys_that_others_could_use_are_refused() {
        let (temp, state) = state();
        let path = state.path().join(KEY_FILE);
        for bad in [0o640, 0o604, 0o660, 0o610] {
            write(&path, &"ab".repeat(32), bad);
            let error = RootKey::load(&state, None).unwrap_err();
            assert!(matches!(error, VaultError::Unsafe { .. }), "{bad:o}");
            assert!(error.to_string().contains(&format!("{bad:04o}")), "{error}");
        }
        std::fs::remove_file(&path).unwrap();
        let elsewhere = temp.path().join("elsewhere");
        write(&elsewhere, &"ab".repeat(32), 0o600);
        symlink(&elsewhere, &path).unwrap();
        let error = RootKey::load(&state, None).unwrap_err();
        assert!(error.to_string().contains("symbolic link"), "{error}");
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
        assert!(matches!(RootKey::load(&state, None), Err(VaultError::Unsafe { .. })));
    }

    #[test]
    fn texts_that_are_no_key_are_refused_without_repeating_them() {
        let (_temp, state) = state();
        let path = state.path().join(KEY_FILE);
        let digits = "0123456789abcdef".repeat(4);
        for text in [
            String::new(),
            digits[..63].into(),
            format!("{digits}0"),
            format!("{digits}\n\n"),
            digits.replace('f', "g"),
            digits.replace("01", "é"),
            "x".repeat(1 << 20),
        ] {
            write(&path, &text, 0o600);
            let error = RootKey::load(&state, None).unwrap_err();
            assert!(matches!(error, VaultError::NotAKey { .. }), "{error}");
            assert!(!format!("{error:?} {error}").contains("0123"), "{error:?}");
        }
        write(&path, &format!("{digits}\r\n"), 0o600);
        assert!(RootKey::load(&state, None).is_ok());
    }

    #[test]
    fn no_new_key_is_made_beside_a_database_that_needs_the_old_one() {
        let (_temp, state) = state();
        write(&state.path().join(DATABASE_FILE), "encrypted", 0o600);
        assert!(matches!(RootKey::load(&state, None), Err(VaultError::Missing { .. })));
        assert!(!state.path().join(KEY_FILE).exists());
    }

    #[test]
    fn folder_that_others_can_write_to_is_refused() {
        let temp = tempfile::tempdir().unwrap();
        std::fs::set_permissions(temp.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
        assert!(matches!(StateFolder::open_or_create(temp.path()), Err(VaultError::Unsafe { .. })));
    }

    #[test]
    fn debug_output_shows_no_key() {
        let key = RootKey::from_bytes([0xab; 32]);
        assert_eq!(format!("{key:?} {:?}", key.subkey(KeyPurpose::Database)), "RootKey(..) Subkey(..)");
    }
}
