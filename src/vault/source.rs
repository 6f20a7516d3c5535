//! Where the root key comes from.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use zeroize::Zeroizing;

use super::{KEY_BYTES, KeyMaterial, RootKey, StateFolder, VaultError, io_error, push_hex};
use crate::admin::accounts::ACCOUNTS_FILE;
use crate::event_store::EVENTS_FILE;
use crate::gallery::DATABASE_FILE;

/// Name of the systemd credential.
pub const CREDENTIAL_NAME: &str = "limen.root-key";
/// Name of the systemd credential that held the key before it was changed.
pub const FORMER_CREDENTIAL_NAME: &str = "limen.root-key.former";
/// Name of the key file in the state folder.
pub const KEY_FILE: &str = "root.key";
const NEW_KEY_FILE: &str = "root.key.new";
/// The key that the one in the key file is being changed to.
const NEXT_KEY_FILE: &str = "root.key.next";
/// Digits of a key in a file, a credential or an output.
const DIGITS: usize = 2 * KEY_BYTES;
/// How long a program may take to print the key.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where a root key may come from, besides the state folder.
#[derive(Clone, Copy, Debug, Default)]
pub struct KeySources<'a> {
    /// The folder of `$CREDENTIALS_DIRECTORY`.
    pub credentials: Option<&'a Path>,
    /// A program that prints the key: `vault.key_command`.
    pub command: Option<&'a Path>,
}

/// Where the root key came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// From outside of the state folder.
    Given {
        /// By what, in words.
        by: String,
        /// A key file with the same key that lies in the state folder all the same.
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
            Self::Given { unused_key_file: None, .. } => None,
            Self::Given { by, unused_key_file: Some(path) } => Some(format!(
                "the root key is {by}, but the same key lies in {}, where whoever takes the storage finds it: erase that file",
                path.display()
            )),
            Self::File { path, .. } => Some(format!(
                "the root key is the file {}: copies of the databases without it are protected, but whoever takes the whole storage, or is root on this device, has both; give the key as the systemd credential {CREDENTIAL_NAME}, bound to a TPM where the board has one, or from the board's one-time-programmable memory by vault.key_command",
                path.display()
            )),
        }
    }

    /// What it is, in words.
    pub fn name(&self) -> String {
        match self {
            Self::Given { by, .. } => by.clone(),
            Self::File { path, .. } => format!("the file {}", path.display()),
        }
    }
}

impl RootKey {
    /// Loads the key as systemd or the state folder gives it, making one at the first start.
    /// `credentials` is the folder of `$CREDENTIALS_DIRECTORY`.
    pub fn load(state: &StateFolder, credentials: Option<&Path>) -> Result<(Self, KeySource), VaultError> {
        Self::load_from(state, KeySources { credentials, command: None })
    }

    /// Loads the key from the first of its sources that there is, and what it was before where it is being
    /// changed. Makes one at the first start where there is none.
    pub fn load_from(state: &StateFolder, sources: KeySources<'_>) -> Result<(Self, KeySource), VaultError> {
        if let Some(key) = credential(sources.credentials, CREDENTIAL_NAME)? {
            return Self::given(state, sources, key, format!("the credential {CREDENTIAL_NAME}"));
        }
        match sources.command {
            Some(path) => Self::given(state, sources, ask(path)?, format!("what {} prints", path.display())),
            None => Self::kept(state),
        }
    }

    /// A key from outside. What else there is was the key before.
    fn given(
        state: &StateFolder,
        sources: KeySources<'_>,
        present: KeyMaterial,
        by: String,
    ) -> Result<(Self, KeySource), VaultError> {
        let (mut former, mut unused_key_file) = (Vec::new(), None);
        former.extend(credential(sources.credentials, FORMER_CREDENTIAL_NAME)?);
        for name in [NEXT_KEY_FILE, KEY_FILE] {
            let path = state.path().join(name);
            let Some(key) = from_file(state, &path)? else { continue };
            if key == present {
                unused_key_file = Some(path);
            } else {
                former.push(key);
            }
        }
        former.retain(|key| *key != present);
        Ok((Self { present, former }, KeySource::Given { by, unused_key_file }))
    }

    /// The key file's, or a new one.
    fn kept(state: &StateFolder) -> Result<(Self, KeySource), VaultError> {
        let path = state.path().join(KEY_FILE);
        if let Some(key) = Self::from_files(state)? {
            return Ok((key, KeySource::File { path, created: false }));
        }
        // Two processes may start for the first time at once: the second one waits here, and then
        // finds the first one's key. The lock goes with the descriptor, also after a crash.
        let _lock = state.lock()?;
        if let Some(key) = Self::from_files(state)? {
            return Ok((key, KeySource::File { path, created: false }));
        }
        for file in [DATABASE_FILE, EVENTS_FILE, ACCOUNTS_FILE] {
            let database = state.path().join(file);
            if database.symlink_metadata().is_ok() {
                return Err(VaultError::Missing { key: path, database });
            }
        }
        let present = create_file(state, KEY_FILE)?;
        Ok((Self { present, former: Vec::new() }, KeySource::File { path, created: true }))
    }

    fn from_files(state: &StateFolder) -> Result<Option<Self>, VaultError> {
        let next = from_file(state, &state.path().join(NEXT_KEY_FILE))?;
        let file = from_file(state, &state.path().join(KEY_FILE))?;
        Ok(match (next, file) {
            (Some(present), former) => Some(Self { present, former: former.into_iter().collect() }),
            (None, Some(present)) => Some(Self { present, former: Vec::new() }),
            (None, None) => None,
        })
    }

    /// Makes a new key beside the one in the key file, which opens everything as before; what is opened from
    /// now on is encrypted anew. A change that was begun before goes on with the key of then.
    pub(crate) fn begin_change(state: &StateFolder) -> Result<Self, VaultError> {
        let _lock = state.lock()?;
        if let Some(key) = Self::from_files(state)?
            && key.is_changing()
        {
            return Ok(key);
        }
        create_file(state, NEXT_KEY_FILE)?;
        let key = Self::from_files(state)?;
        Ok(key.expect("a key file was written just now"))
    }

    /// Forgets what the key was before: nothing needs it any longer. Returns the files that went.
    pub(crate) fn end_change(
        state: &StateFolder,
        source: &KeySource,
    ) -> Result<Vec<&'static str>, VaultError> {
        let _lock = state.lock()?;
        let there = |name: &str| state.path().join(name).symlink_metadata().is_ok();
        let mut gone = Vec::new();
        match source {
            KeySource::File { .. } => {
                if there(NEXT_KEY_FILE) {
                    state.rename(NEXT_KEY_FILE, KEY_FILE)?;
                    gone.push(KEY_FILE);
                }
            }
            KeySource::Given { unused_key_file, .. } => {
                for name in [KEY_FILE, NEXT_KEY_FILE] {
                    let path = state.path().join(name);
                    // The present key itself may be wanted as it is; the warning tells of it.
                    if there(name) && unused_key_file.as_ref() != Some(&path) {
                        rustix::fs::unlink(&path).map_err(io_error("remove", &path))?;
                        gone.push(name);
                    }
                }
                state.sync()?;
            }
        }
        Ok(gone)
    }
}

fn credential(folder: Option<&Path>, name: &str) -> Result<Option<KeyMaterial>, VaultError> {
    let Some(folder) = folder else { return Ok(None) };
    let path = folder.join(name);
    match File::open(&path) {
        Ok(file) => read_key(file, &path).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(VaultError::Io { what: "read the credential", path, source }),
    }
}

/// What a program prints. It is run without arguments, input and environment, and must be one that only
/// root, or the account this runs under, can change.
fn ask(path: &Path) -> Result<KeyMaterial, VaultError> {
    let failed = |found: String| VaultError::Command { path: path.into(), found };
    let program = path.canonicalize().map_err(|error| failed(format!("it cannot be found: {error}")))?;
    let metadata = program.metadata().map_err(|error| failed(format!("it cannot be looked at: {error}")))?;
    let us = rustix::process::geteuid().as_raw();
    if !metadata.is_file() || metadata.mode() & 0o022 != 0 || ![0, us].contains(&metadata.uid()) {
        let found = "others than root and this account can change it; give it to root with mode 0755";
        return Err(failed(found.into()));
    }
    let started = Command::new(&program)
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let mut child = started.map_err(|error| failed(format!("it does not start: {error}")))?;
    let printed = read_within(child.stdout.take().expect("its output is a pipe"), PATIENCE);
    if printed.is_err() {
        // It may be at an end already.
        let _ = child.kill();
    }
    let status = child.wait().map_err(|error| failed(format!("its end cannot be told: {error}")))?;
    let text = printed.map_err(|error| failed(format!("its output cannot be read: {error}")))?;
    if !status.success() {
        return Err(failed(format!("it ended with {status}")));
    }
    parse(&text, path)
}

/// All of a key's output, or the beginning of a longer one; an error when that takes too long.
fn read_within(mut pipe: std::process::ChildStdout, patience: Duration) -> io::Result<Zeroizing<Vec<u8>>> {
    let until = Instant::now() + patience;
    let mut text = Zeroizing::new(vec![0; DIGITS + 8]);
    let mut read = 0;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
        let ready = poll(&mut [PollFd::from_borrowed_fd(pipe.as_fd(), PollFlags::IN)], Some(&timeout))?;
        if ready == 0 {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "it takes longer than 10 s"));
        }
        match pipe.read(&mut text[read..])? {
            0 => break,
            more => read += more,
        }
        if read == text.len() {
            break;
        }
    }
    text.truncate(read);
    Ok(text)
}

fn from_file(state: &StateFolder, path: &Path) -> Result<Option<KeyMaterial>, VaultError> {
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
    let unsafe_file =
        |found: String, remedy: &str| VaultError::Unsafe { path: path.into(), found, remedy: remedy.into() };
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

/// Writes a new key so that after a crash there is either no key file of this name or a whole one. The
/// caller holds the folder's lock.
fn create_file(state: &StateFolder, name: &str) -> Result<KeyMaterial, VaultError> {
    let key = KeyMaterial::random()?;
    // A rest of an earlier start that was cut off; its key was never used.
    let new = state.path().join(NEW_KEY_FILE);
    match rustix::fs::unlink(&new) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(error) => return Err(io_error("remove", &new)(error)),
    }
    let mut file = state.create_file(NEW_KEY_FILE)?;
    let mut text = Zeroizing::new(String::with_capacity(DIGITS + 1));
    push_hex(&mut text, &key.0);
    text.push('\n');
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    written.map_err(|source| VaultError::Io { what: "write", path: state.path().join(name), source })?;
    state.rename(NEW_KEY_FILE, name)?;
    Ok(key)
}

/// A new key as the text that a credential or a key file holds.
pub fn new_key_text() -> Result<Zeroizing<String>, VaultError> {
    let key = KeyMaterial::random()?;
    let mut text = Zeroizing::new(String::with_capacity(DIGITS));
    push_hex(&mut text, &key.0);
    Ok(text)
}

/// The folder in which systemd gives this process its credentials, if it does.
pub fn credentials_directory() -> Option<PathBuf> {
    std::env::var_os("CREDENTIALS_DIRECTORY").filter(|folder| !folder.is_empty()).map(PathBuf::from)
}

/// Reads at most a few bytes more than a key has, whatever the file is.
fn read_key(file: File, path: &Path) -> Result<KeyMaterial, VaultError> {
    // Allocated once: growing would leave copies of the key behind.
    let mut text = Zeroizing::new(Vec::with_capacity(DIGITS + 8));
    file.take(DIGITS as u64 + 3).read_to_end(&mut text).map_err(|source| VaultError::Io {
        what: "read",
        path: path.into(),
        source,
    })?;
    parse(&text, path)
}

fn parse(text: &[u8], path: &Path) -> Result<KeyMaterial, VaultError> {
    let not_a_key = |found: String| VaultError::NotAKey { path: path.into(), found };
    let digits = text.strip_suffix(b"\n").unwrap_or(text);
    let digits = digits.strip_suffix(b"\r").unwrap_or(digits);
    if digits.len() != DIGITS {
        let more = if digits.len() > DIGITS { "more" } else { "fewer" };
        return Err(not_a_key(format!("there is {more} than that")));
    }
    let mut key = KeyMaterial([0; KEY_BYTES]);
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
