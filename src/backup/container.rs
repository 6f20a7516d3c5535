//! A backup's file as it is opened: whether it is one, under which secret, and what is in it.

use std::collections::HashSet;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;
use zip::ZipArchive;
use zip::result::ZipError;

use super::{
    BackupError, FORMAT, MANIFEST, MAX_BYTES, MAX_MANIFEST_BYTES, Manifest, RecoveryKey, Temporary, databases,
};
use crate::database::{self, DatabaseError, Schema};
use crate::gallery::{gallery_schema, media_of};
use crate::media::{MEDIA_FOLDER, MediaName};
use crate::vault::{KeyPurpose, StateFolder};

/// An opened backup.
pub(super) struct Container {
    path: PathBuf,
    zip: ZipArchive<File>,
    secret: Zeroizing<String>,
    pub(super) manifest: Manifest,
    pub(super) bytes: u64,
}

/// Its databases, each checked and under the secret still, and what the key it is to get is for; the gallery last.
pub(super) struct Unpacked {
    pub(super) databases: Vec<(Temporary, &'static Schema, KeyPurpose)>,
    pub(super) pictures: HashSet<MediaName>,
    pub(super) subjects: u64,
}

fn damaged(path: &Path, found: String) -> BackupError {
    BackupError::NotABackup { path: path.into(), found }
}

/// What a backup says of itself, without its secret.
pub(super) fn manifest_of(file: &Path) -> Result<(Manifest, ZipArchive<File>, u64), BackupError> {
    let io = |source| BackupError::Io { what: "read", path: file.into(), source };
    let mut opened = File::open(file).map_err(io)?;
    let bytes = opened.seek(SeekFrom::End(0)).map_err(io)?;
    if bytes > MAX_BYTES {
        return Err(damaged(file, format!("it has {bytes} bytes, more than any backup")));
    }
    let mut zip = ZipArchive::new(opened).map_err(|error| damaged(file, error.to_string()))?;
    let mut text = Vec::new();
    let entry = zip.by_name(MANIFEST).map_err(|error| damaged(file, error.to_string()))?;
    entry.take(MAX_MANIFEST_BYTES).read_to_end(&mut text).map_err(io)?;
    let manifest: Manifest = serde_json::from_slice(&text)
        .map_err(|error| damaged(file, format!("its {MANIFEST} says: {error}")))?;
    Ok((manifest, zip, bytes))
}

impl Container {
    /// Opens a file. `passphrase` is what somebody typed: a recovery key where the file is under one.
    pub(super) fn open(file: &Path, passphrase: &str) -> Result<Self, BackupError> {
        let (manifest, zip, bytes) = manifest_of(file)?;
        if !(1..=FORMAT).contains(&manifest.format) {
            let found =
                format!("it has format {}, this program knows formats up to {FORMAT}", manifest.format);
            return Err(damaged(file, found));
        }
        if !manifest.files.iter().any(|name| name == gallery_schema().file) {
            return Err(damaged(file, "it holds no gallery".to_owned()));
        }
        let secret = match &manifest.recovery_key {
            None => Zeroizing::new(passphrase.to_owned()),
            Some(wanted) => {
                let key = RecoveryKey::parse(passphrase).map_err(BackupError::RecoveryKey)?;
                let (wanted, given) = (wanted.clone(), key.id());
                if wanted != given {
                    return Err(BackupError::OtherRecoveryKey { path: file.into(), wanted, given });
                }
                key.text()
            }
        };
        Ok(Self { path: file.into(), zip, secret, manifest, bytes })
    }

    /// What its parts are encrypted under.
    pub(super) fn secret(&self) -> &str {
        &self.secret
    }

    /// Unpacks the databases into the state folder under names that no start looks at, and checks them.
    pub(super) fn unpack(&mut self, state: &StateFolder) -> Result<Unpacked, BackupError> {
        let file = self.path.clone();
        let io = |source| BackupError::Io { what: "unpack", path: file.clone(), source };
        let mut unpacked = Unpacked { databases: Vec::new(), pictures: HashSet::new(), subjects: 0 };
        for (schema, purpose) in databases() {
            if !self.manifest.files.iter().any(|name| name == schema.file) {
                continue;
            }
            let copy = Temporary::new(state, &format!("{}.copy", schema.file))?;
            let entry =
                self.zip.by_name(schema.file).map_err(|error| damaged(&self.path, error.to_string()))?;
            let mut out = File::options().write(true).open(copy.path()).map_err(io)?;
            // No more than the file itself: what is stored does not grow.
            std::io::copy(&mut entry.take(self.bytes), &mut out).map_err(io)?;
            let opened = database::open_copy(copy.path(), &self.secret, schema)?;
            if schema.file == gallery_schema().file {
                let failed = |error| DatabaseError::sqlite(copy.path(), schema, "look into the copy", error);
                unpacked.subjects =
                    opened.query_row("select count(*) from subject", [], |row| row.get(0)).map_err(failed)?;
                // A list of an older schema cannot be: format and schema came together.
                if self.manifest.format > 1 {
                    unpacked.pictures = media_of(&opened).map_err(failed)?;
                }
            }
            drop(opened);
            unpacked.databases.push((copy, schema, purpose));
        }
        unpacked.databases.sort_by_key(|(_, schema, _)| schema.file == gallery_schema().file);
        Ok(unpacked)
    }

    /// Hands each of these pictures to `take`, or nothing where the file has it not.
    pub(super) fn pictures(
        &mut self,
        names: &HashSet<MediaName>,
        mut take: impl FnMut(MediaName, Option<&[u8]>) -> Result<(), BackupError>,
    ) -> Result<(), BackupError> {
        for name in names {
            match self.zip.by_name(&format!("{MEDIA_FOLDER}/{}", name.text())) {
                Ok(entry) => {
                    let mut bytes = Vec::new();
                    let read = entry.take(crate::media::MAX_BYTES).read_to_end(&mut bytes);
                    read.map_err(|source| BackupError::Io {
                        what: "unpack",
                        path: self.path.clone(),
                        source,
                    })?;
                    take(*name, Some(&bytes))?;
                }
                Err(ZipError::FileNotFound) => take(*name, None)?,
                Err(error) => return Err(damaged(&self.path, error.to_string())),
            }
        }
        Ok(())
    }
}
