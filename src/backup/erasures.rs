//! Who was erased on a device by the time of a backup, in a part of it that is read without unpacking the
//! gallery.
//!
//! Salt of 16 bytes, nonce of 12, and the marks with their times sealed with AES-256-GCM under a key that
//! PBKDF2-HMAC-SHA512 makes of the passphrase, with as many rounds as SQLCipher takes for the databases.

use std::fs::File;
use std::io::Read;
use std::num::NonZeroU32;
use std::path::Path;

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::pbkdf2::{PBKDF2_HMAC_SHA512, derive};
use zeroize::Zeroizing;
use zip::ZipArchive;
use zip::result::ZipError;

use super::{BackupError, ERASURES, MANIFEST, MAX_MANIFEST_BYTES, Manifest};
use crate::clock::UnixMillis;
use crate::database::marked;
use crate::gallery::ErasureMark;

const ROUNDS: NonZeroU32 = NonZeroU32::new(256_000).expect("it is not zero");
const SALT_BYTES: usize = 16;
/// A mark and when.
const ENTRY_BYTES: usize = 32 + 8;
/// More than any device has erased.
const MAX_BYTES: u64 = 64 << 20;

type Mark = (ErasureMark, UnixMillis);

pub(super) fn seal(marks: &[Mark], passphrase: &str) -> Result<Vec<u8>, BackupError> {
    let mut bytes = vec![0; SALT_BYTES + NONCE_LEN];
    getrandom::fill(&mut bytes).map_err(BackupError::NoRandomness)?;
    let (salt, nonce) = bytes.split_at(SALT_BYTES);
    let nonce = Nonce::try_assume_unique_for_key(nonce).expect("it has the length of a nonce");
    let mut sealed: Vec<u8> =
        marks.iter().flat_map(|(mark, at)| mark.0.into_iter().chain(at.0.to_le_bytes())).collect();
    key(passphrase, salt)
        .seal_in_place_append_tag(nonce, Aad::from(ERASURES.as_bytes()), &mut sealed)
        .expect("some megabytes are less than AES-GCM can seal");
    bytes.append(&mut sealed);
    Ok(bytes)
}

fn open(mut bytes: Vec<u8>, passphrase: &str) -> Option<Vec<Mark>> {
    let (salt, rest) = bytes.split_at_mut_checked(SALT_BYTES)?;
    let (nonce, sealed) = rest.split_at_mut_checked(NONCE_LEN)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
    let plain = key(passphrase, salt).open_in_place(nonce, Aad::from(ERASURES.as_bytes()), sealed).ok()?;
    let (entries, _) = plain.as_chunks::<ENTRY_BYTES>();
    let entry = |entry: &[u8; ENTRY_BYTES]| {
        let (mark, at) = entry.split_first_chunk::<32>()?;
        Some((ErasureMark(*mark), UnixMillis(i64::from_le_bytes(at.try_into().ok()?))))
    };
    entries.iter().map(entry).collect()
}

/// Those in a backup that was made later than `than`. None where it is no backup, or under another
/// passphrase: it says nothing then.
pub(super) fn in_backup(file: &Path, passphrase: &str, than: UnixMillis) -> Result<Vec<Mark>, BackupError> {
    let io = |source| BackupError::Io { what: "read", path: file.into(), source };
    let opened = File::open(file).map_err(io)?;
    let Ok(mut zip) = ZipArchive::new(opened) else { return Ok(Vec::new()) };
    let part = |zip: &mut ZipArchive<File>, name: &str, most: u64| match zip.by_name(name) {
        Ok(entry) => {
            let mut bytes = Vec::new();
            entry.take(most).read_to_end(&mut bytes).map_err(io)?;
            Ok(bytes)
        }
        Err(ZipError::Io(source)) => Err(io(source)),
        Err(_) => Ok(Vec::new()),
    };
    let manifest = part(&mut zip, MANIFEST, MAX_MANIFEST_BYTES)?;
    let later = serde_json::from_slice(&manifest).is_ok_and(|manifest: Manifest| manifest.made_at > than);
    if !later {
        return Ok(Vec::new());
    }
    Ok(open(part(&mut zip, ERASURES, MAX_BYTES)?, passphrase).unwrap_or_default())
}

fn key(passphrase: &str, salt: &[u8]) -> LessSafeKey {
    let mut key = Zeroizing::new([0; 32]);
    derive(PBKDF2_HMAC_SHA512, ROUNDS, salt, marked(passphrase).as_bytes(), &mut *key);
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &*key).expect("a key has 32 bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_come_back_under_the_passphrase_only() {
        let marks = vec![(ErasureMark([7; 32]), UnixMillis(12)), (ErasureMark([8; 32]), UnixMillis(-1))];
        let sealed = seal(&marks, "a passphrase").unwrap();
        assert!(!sealed.windows(8).any(|some| some == [7; 8]));
        assert_eq!(open(sealed.clone(), "a passphrase"), Some(marks));
        assert_eq!(open(sealed.clone(), "a passphrasf"), None);
        assert_eq!(open(sealed[..20].to_vec(), "a passphrase"), None);
        assert_eq!(open(seal(&[], "a passphrase").unwrap(), "a passphrase"), Some(Vec::new()));
    }
}
