//! The recovery key: what the backups that a device makes by itself are encrypted under, to be written down
//! by a person and typed on another device.
//!
//! 128 random bits and 12 of their SHA-256 as 28 letters and digits of Crockford's alphabet, in groups of
//! four: no I, L, O or U, so that each is read one way only. It lies in the gallery's database and therefore
//! comes back with a backup: what was written down stays right on the new device, and when the root key is
//! changed.

use std::fmt;

use rusqlite::{Connection, OptionalExtension, params};
use sha2::{Digest, Sha256};
use thiserror::Error;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::BackupError;
use crate::database::{self, DatabaseError};
use crate::gallery::gallery_schema;
use crate::vault::{KeyPurpose, RootKey, StateFolder, hex};

const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const KEY_BYTES: usize = 16;
/// Of the key and its check, the last four bits unused.
const BYTES: usize = KEY_BYTES + 2;
const LETTERS: usize = 28;
const GROUP: usize = 4;
/// Its name among the notes of the gallery.
const NOTE: &str = "recovery_key";

/// Why a text is no recovery key.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum RecoveryKeyError {
    /// It has more or fewer letters.
    #[error("a recovery key has {LETTERS} letters and digits, this has {0}")]
    Length(usize),
    /// It has something else in it.
    #[error("group {0} has a character that no recovery key has")]
    Character(usize),
    /// One letter or more is another one.
    #[error("it was mistyped: its last letters do not fit the others")]
    Check,
}

/// One recovery key. Wiped when dropped.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct RecoveryKey([u8; KEY_BYTES]);

impl fmt::Debug for RecoveryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RecoveryKey({})", self.id())
    }
}

impl RecoveryKey {
    fn new() -> Result<Self, BackupError> {
        let mut bytes = [0; KEY_BYTES];
        getrandom::fill(&mut bytes).map_err(BackupError::NoRandomness)?;
        Ok(Self(bytes))
    }

    /// The key of a device, made where there is none yet; or a new one in its place.
    pub fn of(state: &StateFolder, key: &RootKey, renew: bool) -> Result<Self, BackupError> {
        let schema = gallery_schema();
        let db = database::open_or_create(state, &key.subkeys(KeyPurpose::Database), schema)?;
        let noted = |db: &Connection| {
            db.query_row("select value from meta where key = ?1", [NOTE], |row| row.get::<_, String>(0))
                .optional()
        };
        let failed = |error| {
            let path = state.path().join(schema.file);
            BackupError::from(DatabaseError::sqlite(&path, schema, "keep the recovery key", error))
        };
        if !renew && let Some(text) = noted(&db).map_err(failed)? {
            return Self::parse(&Zeroizing::new(text)).map_err(BackupError::RecoveryKey);
        }
        let new = Self::new()?;
        // Of two processes that make the first one at a time, the one that comes later takes the other's.
        let conflict = if renew { "update set value = excluded.value" } else { "nothing" };
        db.execute(
            &format!("insert into meta (key, value) values (?1, ?2) on conflict (key) do {conflict}"),
            params![NOTE, new.text().as_str()],
        )
        .map_err(failed)?;
        match noted(&db).map_err(failed)? {
            Some(text) => Self::parse(&Zeroizing::new(text)).map_err(BackupError::RecoveryKey),
            None => Ok(new),
        }
    }

    /// As it is written down; also the passphrase that it stands for.
    pub fn text(&self) -> Zeroizing<String> {
        let bytes = self.with_check();
        let mut text = Zeroizing::new(String::with_capacity(LETTERS + LETTERS / GROUP));
        for at in 0..LETTERS {
            if at > 0 && at % GROUP == 0 {
                text.push('-');
            }
            let bit = |bit: usize| bytes[bit / 8] >> (7 - bit % 8) & 1;
            let five = (at * 5..at * 5 + 5).fold(0, |five, place| five << 1 | bit(place));
            text.push(char::from(ALPHABET[usize::from(five)]));
        }
        text
    }

    /// Reads what somebody typed: in either case, with or without the dashes, with O for 0 and I or L for 1.
    pub fn parse(text: &str) -> Result<Self, RecoveryKeyError> {
        let letters = text.chars().filter(|letter| !letter.is_whitespace() && *letter != '-');
        let count = letters.clone().count();
        if count != LETTERS {
            return Err(RecoveryKeyError::Length(count));
        }
        let mut bytes = Zeroizing::new([0_u8; BYTES]);
        for (at, letter) in letters.enumerate() {
            let letter = match letter.to_ascii_uppercase() {
                'O' => '0',
                'I' | 'L' => '1',
                other => other,
            };
            let five = ALPHABET
                .iter()
                .position(|known| char::from(*known) == letter)
                .ok_or(RecoveryKeyError::Character(at / GROUP + 1))?;
            for bit in (0..5).filter(|bit| five >> (4 - bit) & 1 == 1) {
                let place = at * 5 + bit;
                bytes[place / 8] |= 0x80 >> (place % 8);
            }
        }
        let (key, _) = bytes.split_first_chunk().expect("the key comes first");
        let key = Self(*key);
        if *key.with_check() == *bytes { Ok(key) } else { Err(RecoveryKeyError::Check) }
    }

    /// Tells keys apart and tells nothing about them.
    pub fn id(&self) -> String {
        let digest = Sha256::new().chain_update(b"limen/1/recovery-key-id").chain_update(self.0).finalize();
        hex(&digest[..4])
    }

    /// The key, and twelve bits of its digest behind it.
    fn with_check(&self) -> Zeroizing<[u8; BYTES]> {
        let digest =
            Sha256::new().chain_update(b"limen/1/recovery-key-check").chain_update(self.0).finalize();
        let mut bytes = Zeroizing::new([0; BYTES]);
        bytes[..KEY_BYTES].copy_from_slice(&self.0);
        bytes[KEY_BYTES..].copy_from_slice(&[digest[0], digest[1] & 0xf0]);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_is_read_as_it_is_written_and_as_people_type() {
        for byte in [0, 1, 0x5a, 0xff] {
            let mut bytes = [byte; KEY_BYTES];
            bytes[3] = 7;
            let key = RecoveryKey(bytes);
            let text = key.text();
            assert_eq!(text.split('-').map(str::len).collect::<Vec<_>>(), [4; 7]);
            assert_eq!(RecoveryKey::parse(&text), Ok(key.clone()));
            let typed = text.to_lowercase().replace('-', " ").replace('0', "o").replace('1', "l");
            assert_eq!(RecoveryKey::parse(&typed), Ok(key));
        }
    }

    #[test]
    fn mistyped_key_is_told_from_a_wrong_one() {
        let text = RecoveryKey([9; KEY_BYTES]).text();
        let mut unnoticed = 0;
        for at in 0..text.len() {
            let there = text.as_bytes()[at];
            for other in ALPHABET.iter().filter(|other| there != b'-' && **other != there) {
                let mut typed = text.as_bytes().to_vec();
                typed[at] = *other;
                unnoticed += usize::from(RecoveryKey::parse(std::str::from_utf8(&typed).unwrap()).is_ok());
            }
        }
        // Of 868 slips of one letter, one in 4096 would go unnoticed.
        assert!(unnoticed <= 3, "{unnoticed}");
        assert_eq!(RecoveryKey::parse(&text[1..]), Err(RecoveryKeyError::Length(27)));
        assert_eq!(RecoveryKey::parse(&"u".repeat(28)), Err(RecoveryKeyError::Character(1)));
    }

    #[test]
    fn device_keeps_its_key_until_it_is_renewed() {
        let temp = tempfile::tempdir().unwrap();
        let state = StateFolder::open_or_create(temp.path()).unwrap();
        let root = RootKey::from_bytes([3; 32]);
        let first = RecoveryKey::of(&state, &root, false).unwrap();
        assert_eq!(RecoveryKey::of(&state, &root, false).unwrap(), first);
        let second = RecoveryKey::of(&state, &root, true).unwrap();
        assert_ne!(first, second);
        assert_ne!(first.id(), second.id());
        assert_eq!(RecoveryKey::of(&state, &root, false).unwrap(), second);
        assert!(!format!("{first:?}").contains(first.text().as_str()));
    }
}
