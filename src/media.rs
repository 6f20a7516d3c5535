//! Pictures of samples as files: encrypted, authenticated, each under the SHA-256 of its bytes as its name.
//!
//! Owned here: the folder `media` and what a file in it looks like. Not here: which files there should be
//! and what they are encrypted with, which the gallery's database says; both change in one transaction of
//! [`crate::gallery::GalleryStore`], whose thread works here.
//!
//! A file is a nonce of 12 bytes and the picture sealed with AES-256-GCM, its subject and sample bound in as
//! associated data: nothing in it tells that it is a picture, and one that was damaged, swapped for another
//! or moved to another person is an error, never another picture. The key is the subject's own. Erasing
//! it makes every copy of the files unreadable, also those in worn blocks of a flash memory that no
//! program can reach.
//!
//! A file is written under another name, synced and renamed before the transaction that refers to it
//! commits, and removed after the transaction that forgets it. What a crash leaves behind in between is a
//! file that no row refers to; opening the gallery sweeps those away.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use sha2::{Digest, Sha256};
use thiserror::Error;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::gallery::{SampleId, SubjectId};
use crate::vault::{KEY_BYTES, StateFolder, VaultError, hex};

/// Name of the folder in the state folder.
pub const MEDIA_FOLDER: &str = "media";
/// Largest file: the largest picture with what encryption adds.
pub(crate) const MAX_BYTES: u64 = (256 << 10) + 64;
/// Before what a file is bound to, so that no other use of a key could make one.
const CONTEXT: &[u8] = b"limen picture 1";

/// Why a picture could not be kept or read. Holds no content and no key.
#[derive(Debug, Error)]
pub enum MediaError {
    /// The folder cannot be used.
    #[error(transparent)]
    State(#[from] VaultError),
    /// A file could not be read or written.
    #[error("cannot {what} the picture {path}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file that the gallery refers to is not there.
    #[error(
        "the picture {path} is not there; put it back from a backup, or remove its sample. Recognition does not need it"
    )]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The file is not what was written.
    #[error(
        "the picture {path} is damaged or was swapped: {found}; put it back from a backup, or remove its sample. Recognition does not need it"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        found: &'static str,
    },
    /// The system's random numbers could not be had.
    #[error("cannot encrypt a picture: the system gives no random numbers: {0}")]
    NoRandomness(getrandom::Error),
}

/// What the pictures of one subject are encrypted with. Wiped when dropped.
#[derive(Zeroize, ZeroizeOnDrop)]
pub(crate) struct MediaKey([u8; KEY_BYTES]);

impl MediaKey {
    /// A new one.
    pub(crate) fn random() -> Result<Self, getrandom::Error> {
        let mut key = Self([0; KEY_BYTES]);
        getrandom::fill(&mut key.0)?;
        Ok(key)
    }

    /// One that was kept.
    pub(crate) fn from_bytes(mut bytes: [u8; KEY_BYTES]) -> Self {
        let key = Self(bytes);
        bytes.zeroize();
        key
    }

    pub(crate) fn as_bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }

    fn aead(&self) -> LessSafeKey {
        LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &self.0).expect("a key has 32 bytes"))
    }
}

/// Whose picture a file holds.
#[derive(Clone, Copy)]
pub(crate) struct PictureOf {
    pub(crate) subject: SubjectId,
    pub(crate) sample: SampleId,
}

impl PictureOf {
    fn bound(self) -> Aad<[u8; CONTEXT.len() + 24]> {
        let mut bytes = [0; CONTEXT.len() + 24];
        bytes[..CONTEXT.len()].copy_from_slice(CONTEXT);
        bytes[CONTEXT.len()..][..16].copy_from_slice(self.subject.as_bytes());
        bytes[CONTEXT.len() + 16..].copy_from_slice(&self.sample.0.to_le_bytes());
        Aad::from(bytes)
    }
}

/// SHA-256 of a file, and with that its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct MediaName(pub(crate) [u8; 32]);

impl MediaName {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// As its file is called.
    pub(crate) fn text(self) -> String {
        hex(&self.0)
    }
}

/// The folder.
#[derive(Clone, Debug)]
pub(crate) struct MediaFolder(StateFolder);

impl MediaFolder {
    /// The folder of this state folder, made where it is missing.
    pub(crate) fn open(state: &StateFolder) -> Result<Self, VaultError> {
        state.subfolder(MEDIA_FOLDER).map(Self)
    }

    fn path(&self, name: MediaName) -> PathBuf {
        self.0.path().join(name.text())
    }

    /// Encrypts a picture into a file, whose content is on the disk when this returns. Its name is after
    /// [`Self::sync`].
    pub(crate) fn write(
        &self,
        key: &MediaKey,
        whose: PictureOf,
        jpeg: &[u8],
    ) -> Result<MediaName, MediaError> {
        let mut nonce = [0; NONCE_LEN];
        getrandom::fill(&mut nonce).map_err(MediaError::NoRandomness)?;
        let mut sealed = jpeg.to_vec();
        key.aead()
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), whose.bound(), &mut sealed)
            .expect("a picture is far shorter than AES-GCM can seal");
        let mut bytes = nonce.to_vec();
        bytes.append(&mut sealed);
        let name = MediaName::of(&bytes);
        self.place(name, &bytes)?;
        Ok(name)
    }

    fn place(&self, name: MediaName, bytes: &[u8]) -> Result<(), MediaError> {
        let new = format!("{}.new", name.text());
        let failed = |what| {
            let path = self.0.path().join(&new);
            move |source| MediaError::Io { what, path, source }
        };
        let mut file = self.0.create_file(&new)?;
        file.write_all(bytes).and_then(|()| file.sync_all()).map_err(failed("write"))?;
        std::fs::rename(self.0.path().join(&new), self.path(name)).map_err(failed("rename"))
    }

    /// Puts the names of everything written so far on the disk.
    pub(crate) fn sync(&self) -> Result<(), MediaError> {
        Ok(self.0.sync()?)
    }

    /// Reads a picture back.
    pub(crate) fn read(
        &self,
        name: MediaName,
        key: &MediaKey,
        whose: PictureOf,
    ) -> Result<Vec<u8>, MediaError> {
        let path = self.path(name);
        let mut bytes = read_bounded(&path)?;
        let damaged = |found| MediaError::Damaged { path: path.clone(), found };
        if MediaName::of(&bytes) != name {
            return Err(damaged("its content is not what its name says"));
        }
        let Some((nonce, sealed)) = bytes.split_first_chunk_mut::<NONCE_LEN>() else {
            return Err(damaged("it is too short"));
        };
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let plain = key.aead().open_in_place(nonce, whose.bound(), sealed);
        Ok(plain.map_err(|_| damaged("it does not open with the key of its subject"))?.to_vec())
    }

    /// The encrypted file as it lies there, for a backup; none where it is gone.
    pub(crate) fn sealed(&self, name: MediaName) -> Result<Option<Vec<u8>>, MediaError> {
        match read_bounded(&self.path(name)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(MediaError::Missing { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Puts an encrypted file back; false where its bytes are not what its name says.
    pub(crate) fn put_back(&self, name: MediaName, bytes: &[u8]) -> Result<bool, MediaError> {
        if MediaName::of(bytes) != name {
            return Ok(false);
        }
        self.place(name, bytes).map(|()| true)
    }

    /// Removes files that nothing refers to any longer. Returns how many are still there.
    pub(crate) fn remove(&self, names: &[MediaName]) -> u64 {
        let stays = |name: &&MediaName| match std::fs::remove_file(self.path(**name)) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                tracing::warn!(%error, "a picture file whose key is erased could not be removed; it is tried again at the next start");
                true
            }
            _ => false,
        };
        names.iter().filter(stays).count() as u64
    }

    /// Removes every file but `known`; returns how many those were. The caller sees to it that nobody writes
    /// one meanwhile.
    pub(crate) fn sweep(&self, known: &HashSet<MediaName>) -> Result<u64, MediaError> {
        let io = |what, path: &Path| {
            let path = path.to_path_buf();
            move |source| MediaError::Io { what, path, source }
        };
        let folder = self.0.path();
        let mut swept = 0;
        for entry in std::fs::read_dir(folder).map_err(io("list", folder))? {
            let entry = entry.map_err(io("list", folder))?;
            let named = entry.file_name().to_str().and_then(parse);
            if named.is_some_and(|name| known.contains(&name)) {
                continue;
            }
            let path = entry.path();
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(io("remove", &path)(error)),
                _ => swept += 1,
            }
        }
        Ok(swept)
    }
}

fn parse(text: &str) -> Option<MediaName> {
    let text = Some(text).filter(|text| text.len() == 64)?;
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let digit = |digit: u8| match digit {
            b'0'..=b'9' => Some(digit - b'0'),
            b'a'..=b'f' => Some(digit - b'a' + 10),
            _ => None,
        };
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(MediaName(bytes))
}

fn read_bounded(path: &Path) -> Result<Vec<u8>, MediaError> {
    let failed = |source: io::Error| match source.kind() {
        ErrorKind::NotFound => MediaError::Missing { path: path.into() },
        _ => MediaError::Io { what: "read", path: path.into(), source },
    };
    let mut bytes = Vec::new();
    File::open(path).map_err(failed)?.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(MediaError::Damaged { path: path.into(), found: "it is too long" });
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const JPEG: &[u8] = b"\xff\xd8\xff\xe0 stands for a picture";

    fn folder() -> (tempfile::TempDir, MediaFolder) {
        let temp = tempfile::tempdir().unwrap();
        let state = StateFolder::open_or_create(&temp.path().join("state")).unwrap();
        (temp, MediaFolder::open(&state).unwrap())
    }

    fn of(subject: u8, sample: i64) -> PictureOf {
        PictureOf { subject: SubjectId::from_bytes([subject; 16]), sample: SampleId(sample) }
    }

    #[test]
    fn picture_comes_back_and_its_file_shows_nothing_of_it() {
        let (_temp, media) = folder();
        let key = MediaKey::random().unwrap();
        let name = media.write(&key, of(1, 7), JPEG).unwrap();
        media.sync().unwrap();
        assert_eq!(media.read(name, &key, of(1, 7)).unwrap(), JPEG);
        let file = std::fs::read(media.path(name)).unwrap();
        assert_eq!(file.len(), JPEG.len() + 28);
        assert!(!file.windows(4).any(|some| some == &JPEG[..4]));
        // Twice the same picture is not twice the same file.
        assert_ne!(media.write(&key, of(1, 7), JPEG).unwrap(), name);
    }

    #[test]
    fn damaged_swapped_and_missing_files_are_told_apart_from_pictures() {
        let (_temp, media) = folder();
        let (ours, theirs) = (MediaKey::random().unwrap(), MediaKey::random().unwrap());
        let name = media.write(&ours, of(1, 7), JPEG).unwrap();
        let damaged = |result: Result<Vec<u8>, MediaError>| match result {
            Err(MediaError::Damaged { found, .. }) => found,
            other => panic!("{:?}", other.map(|_| ())),
        };
        let another_key = "it does not open with the key of its subject";
        assert_eq!(damaged(media.read(name, &theirs, of(1, 7))), another_key);
        assert_eq!(damaged(media.read(name, &ours, of(2, 7))), another_key, "another subject");
        assert_eq!(damaged(media.read(name, &ours, of(1, 8))), another_key, "another sample");
        let other = media.write(&ours, of(1, 7), b"another picture").unwrap();
        std::fs::copy(media.path(other), media.path(name)).unwrap();
        let content = "its content is not what its name says";
        assert_eq!(damaged(media.read(name, &ours, of(1, 7))), content);
        let mut cut = std::fs::read(media.path(other)).unwrap();
        cut.pop();
        std::fs::write(media.path(other), &cut).unwrap();
        assert_eq!(damaged(media.read(other, &ours, of(1, 7))), content);
        std::fs::write(media.path(other), vec![0; 1 << 20]).unwrap();
        assert_eq!(damaged(media.read(other, &ours, of(1, 7))), "it is too long");
        assert_eq!(media.remove(&[other]), 0);
        assert!(matches!(media.read(other, &ours, of(1, 7)), Err(MediaError::Missing { .. })));
    }

    #[test]
    fn sweep_leaves_only_what_is_known() {
        let (_temp, media) = folder();
        let key = MediaKey::random().unwrap();
        let known = media.write(&key, of(1, 1), JPEG).unwrap();
        media.write(&key, of(1, 2), JPEG).unwrap();
        std::fs::write(media.0.path().join("cut-off.new"), b"x").unwrap();
        assert_eq!(media.sweep(&HashSet::from([known])).unwrap(), 2);
        assert_eq!(media.read(known, &key, of(1, 1)).unwrap(), JPEG);
        assert_eq!(media.sweep(&HashSet::from([known])).unwrap(), 0);
    }
}
