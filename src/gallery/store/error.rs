//! What can go wrong with the gallery on disk, sorted by what the operator can do about it.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;
use thiserror::Error;

use crate::embedding::EmbeddingSpaceId;
use crate::gallery::migrate::{self, MigrateError};
use crate::vault::VaultError;

/// Why the gallery could not be opened, read or changed. Carries no name and no key.
#[derive(Debug, Error)]
pub enum GalleryError {
    /// The subject is not in the gallery.
    #[error("no such subject is enrolled")]
    SubjectUnknown,
    /// The template is not in the gallery.
    #[error("there is no such template")]
    TemplateUnknown,
    /// Another subject has this name, upper and lower case alike.
    #[error("another subject has this name; choose another one, or add samples to that subject")]
    NameTaken,
    /// The note is too long.
    #[error("a note has at most {most} characters")]
    NotesTooLong {
        /// The limit.
        most: usize,
    },
    /// An enrolment without samples.
    #[error("an enrolment needs at least one sample")]
    NoSamples,
    /// An enrolment of too many samples.
    #[error("an enrolment has at most {} samples, this one has {found}", super::MAX_SAMPLES)]
    TooManySamples {
        /// Samples given.
        found: usize,
    },
    /// The gallery knows this space with embeddings of another length.
    #[error(
        "the gallery holds embeddings of {expected} values in the space {space}, these have {found}; a changed network needs a new name of its space"
    )]
    OtherDimensions {
        /// The space.
        space: EmbeddingSpaceId,
        /// Values of the embeddings in the gallery.
        expected: usize,
        /// Values of the refused ones.
        found: usize,
    },
    /// The file does not open with this key.
    #[error(
        "{path} does not open with this root key: the key is not the one it was made with, or the file is damaged at its beginning; put the right key or a backup in place. Nothing was changed"
    )]
    WrongKey {
        /// The database.
        path: PathBuf,
    },
    /// The file is a database, but not encrypted.
    #[error("{path} is not encrypted, so it is not a gallery of limen; move it away. Nothing was changed")]
    NotEncrypted {
        /// The file.
        path: PathBuf,
    },
    /// This build of SQLite cannot encrypt.
    #[error("this program was built with an SQLite that cannot encrypt; build it with SQLCipher")]
    NoCipher,
    /// The file is encrypted with the right key, but is not a gallery.
    #[error("{path} is a database of something else; move it away. Nothing was changed")]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// The file was written by a later version of limen.
    #[error(
        "{path} has schema version {found}, this program knows versions up to {known}; run the newer program again. Nothing was changed"
    )]
    SchemaNewer {
        /// The database.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The newest version this program knows.
        known: u32,
    },
    /// The content of the file is not what was written.
    #[error("{path} is damaged: {found}; restore a backup, or move it away and enrol anew")]
    Damaged {
        /// The database.
        path: PathBuf,
        /// What was found.
        found: String,
    },
    /// The file or its folder cannot be written.
    #[error(
        "cannot {what}: {path} cannot be written; check the owner of the folder and whether its file system is read-only"
    )]
    ReadOnly {
        /// What was tried.
        what: &'static str,
        /// The database.
        path: PathBuf,
    },
    /// The storage is full or fails. Nothing of the change was kept.
    #[error(
        "cannot {what}: the storage of {path} is full or fails: {source}. The gallery is as it was before"
    )]
    Storage {
        /// What was tried.
        what: &'static str,
        /// The database.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// Another process kept the database locked for longer than the time-out.
    #[error("cannot {what}: another process keeps {path} locked; try again")]
    Busy {
        /// What was tried.
        what: &'static str,
        /// The database.
        path: PathBuf,
    },
    /// The system's random numbers could not be had.
    #[error("cannot make the id of a subject: the system gives no random numbers: {0}")]
    NoRandomness(getrandom::Error),
    /// The file could not be made.
    #[error(transparent)]
    State(#[from] VaultError),
    /// The file could not be looked at.
    #[error("cannot read {path}: {source}")]
    Io {
        /// The database.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Anything else SQLite says.
    #[error("cannot {what} in {path}: {source}")]
    Sqlite {
        /// What was tried.
        what: &'static str,
        /// The database.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
}

impl GalleryError {
    pub(super) fn sqlite(path: &Path, what: &'static str, source: rusqlite::Error) -> Self {
        let path = path.to_path_buf();
        match source.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                Self::Damaged { path, found: format!("{source}, while trying to {what}") }
            }
            Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
                Self::ReadOnly { what, path }
            }
            Some(ErrorCode::DiskFull | ErrorCode::SystemIoFailure) => Self::Storage { what, path, source },
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Busy { what, path },
            _ => Self::Sqlite { what, path, source },
        }
    }

    pub(super) fn creating(path: &Path, error: VaultError) -> Self {
        match error {
            VaultError::Io { source, .. }
                if matches!(source.kind(), ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem) =>
            {
                Self::ReadOnly { what: "make the gallery", path: path.into() }
            }
            other => other.into(),
        }
    }

    pub(super) fn migrating(path: &Path, error: MigrateError) -> Self {
        let path = path.to_path_buf();
        match error {
            MigrateError::Newer { found } => Self::SchemaNewer { path, found, known: migrate::VERSION },
            MigrateError::Foreign => Self::Foreign { path },
            MigrateError::Sqlite(source) => Self::sqlite(&path, "bring the schema up to date", source),
        }
    }
}
