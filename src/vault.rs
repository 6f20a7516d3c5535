//! Keys at rest: the one root key of this device, where it comes from, and the subkeys made of it.
//! Also the state folder and the private files in it, because a key is as safe as they are.
//!
//! Not here: what the keys encrypt (the databases are [`crate::database`]'s, the pictures
//! [`crate::media`]'s). Runs at start, on the thread that starts, and once more when the key is changed.
//!
//! The root key comes from the first of these that there is: the systemd credential `limen.root-key`; what
//! the program `vault.key_command` prints, made for a key in the one-time-programmable memory of a board;
//! the file `root.key` in the state folder, which is made at the first start where there is neither. Each
//! holds 64 hexadecimal digits, with or without a line end.
//!
//! While the root key is being changed there are two: the present one, under which everything is written,
//! and the former ones, which open what has not been encrypted anew yet ([`crate::rekey`]).

mod folder;
mod source;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use hkdf::Hkdf;
use rustix::io::Errno;
use sha2::Sha256;
use thiserror::Error;
use zeroize::{Zeroize, ZeroizeOnDrop};

pub use folder::StateFolder;
pub use source::{
    CREDENTIAL_NAME, FORMER_CREDENTIAL_NAME, KEY_FILE, KeySource, KeySources, credentials_directory,
    new_key_text,
};

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
    #[error("{path} does not give a root key: 64 hexadecimal digits were expected, {found}")]
    NotAKey {
        /// The file.
        path: PathBuf,
        /// What was found instead.
        found: String,
    },
    /// There is an encrypted database but no key for it. No new key is made, since it could not
    /// open the database.
    #[error(
        "{database} is there but its key is not: neither the credential {CREDENTIAL_NAME} nor vault.key_command nor {key}; put the key back, or move the database away to start anew"
    )]
    Missing {
        /// Where the key file would be.
        key: PathBuf,
        /// The database that needs it.
        database: PathBuf,
    },
    /// The program that is to give the key did not.
    #[error("the program {path}, which vault.key_command names, gives no key: {found}")]
    Command {
        /// The program.
        path: PathBuf,
        /// What went wrong.
        found: String,
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
    /// The database of the gallery, which holds the keys of the pictures.
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

/// One root key. Wiped when dropped.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub(crate) struct KeyMaterial([u8; KEY_BYTES]);

/// The one key all others are made of, and, while it is being changed, what it was before. Wiped when
/// dropped.
#[derive(Clone)]
pub struct RootKey {
    present: KeyMaterial,
    former: Vec<KeyMaterial>,
}

/// The keys for one purpose: the present one, and former ones while the root key is being changed.
#[derive(Clone)]
pub struct Subkeys {
    pub(crate) present: Subkey,
    pub(crate) former: Vec<Subkey>,
}

/// A key for one purpose. Wiped when dropped.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Subkey([u8; KEY_BYTES]);

impl fmt::Debug for RootKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RootKey(..)")
    }
}

impl fmt::Debug for Subkeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Subkeys(..)")
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

impl KeyMaterial {
    fn subkey(&self, purpose: KeyPurpose) -> Subkey {
        let mut subkey = Subkey([0; KEY_BYTES]);
        Hkdf::<Sha256>::new(None, &self.0)
            .expand(purpose.info(), &mut subkey.0)
            .expect("HKDF-SHA256 gives up to 255 times 32 bytes");
        subkey
    }

    fn random() -> Result<Self, VaultError> {
        let mut key = Self([0; KEY_BYTES]);
        getrandom::fill(&mut key.0).map_err(VaultError::NoRandomness)?;
        Ok(key)
    }
}

impl RootKey {
    /// Takes 32 random bytes, for a caller that has them from elsewhere.
    pub fn from_bytes(mut bytes: [u8; KEY_BYTES]) -> Self {
        let key = KeyMaterial(bytes);
        bytes.zeroize();
        Self { present: key, former: Vec::new() }
    }

    /// The key for one purpose: HKDF-SHA256 (RFC 5869) without salt, which a root key of full
    /// entropy does not need.
    pub fn subkey(&self, purpose: KeyPurpose) -> Subkey {
        self.present.subkey(purpose)
    }

    /// The same, with the former ones while the root key is being changed.
    pub(crate) fn subkeys(&self, purpose: KeyPurpose) -> Subkeys {
        Subkeys {
            present: self.present.subkey(purpose),
            former: self.former.iter().map(|former| former.subkey(purpose)).collect(),
        }
    }

    /// The present one alone: whatever is opened with it is encrypted under it.
    pub(crate) fn present_only(&self) -> Self {
        Self { present: self.present.clone(), former: Vec::new() }
    }

    /// Whether something may still be encrypted under a former key.
    pub fn is_changing(&self) -> bool {
        !self.former.is_empty()
    }
}

/// The root key of a running program, for those who need it later: it may be changed meanwhile.
#[derive(Clone)]
pub struct KeyRing(Arc<ArcSwap<RootKey>>);

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyRing(..)")
    }
}

impl KeyRing {
    /// With the key of the start.
    pub fn new(key: RootKey) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(key)))
    }

    /// The key as it is now.
    pub fn now(&self) -> Arc<RootKey> {
        self.0.load_full()
    }

    /// Another one.
    pub(crate) fn replace(&self, key: RootKey) {
        self.0.store(Arc::new(key));
    }
}

/// Bytes as lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    push_hex(&mut text, bytes);
    text
}

/// Writes bytes as lower-case hexadecimal digits.
pub(crate) fn push_hex(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        for digit in [byte >> 4, byte & 15] {
            text.push(char::from_digit(u32::from(digit), 16).expect("four bits are one hex digit"));
        }
    }
}

fn io_error<'a>(what: &'static str, path: &'a Path) -> impl Fn(Errno) -> VaultError + 'a {
    move |error| VaultError::Io { what, path: path.into(), source: error.into() }
}

#[cfg(test)]
mod tests;
