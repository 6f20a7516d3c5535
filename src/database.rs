//! The encrypted databases in the state folder: how one is opened, how it reaches its present schema, and
//! what can go wrong with it, sorted by what the operator can do.
//!
//! What is in them belongs to [`crate::gallery`] and [`crate::event_store`]; their keys to
//! [`crate::vault`].

mod copy;
mod former;
mod migrate;
mod open;
mod rekey;

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;
use thiserror::Error;

use crate::vault::VaultError;

use migrate::MigrateError;

pub(crate) use copy::{export, import, marked, open_copy};
pub(crate) use former::forget_former;
pub(crate) use migrate::Schema;
pub(crate) use open::{connect_with_any, is_under, open_or_create};
pub(crate) use rekey::rekey;

/// Why a database could not be opened, read or changed. Carries no content and no key.
#[derive(Debug, Error)]
pub enum DatabaseError {
    /// The file does not open with this key.
    #[error(
        "{path} does not open with this root key: the key is not the one it was made with, or the file is damaged at its beginning; put the right key or a backup in place. Nothing was changed"
    )]
    WrongKey {
        /// The database.
        path: PathBuf,
    },
    /// The file is a database, but not encrypted.
    #[error("{path} is not encrypted, so it is not a database of limen; move it away. Nothing was changed")]
    NotEncrypted {
        /// The file.
        path: PathBuf,
    },
    /// This build of SQLite cannot encrypt.
    #[error("this program was built with an SQLite that cannot encrypt; build it with SQLCipher")]
    NoCipher,
    /// The file is encrypted with the right key, but is not what its name says.
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
    #[error("{path} is damaged: {found}; {remedy}")]
    Damaged {
        /// The database.
        path: PathBuf,
        /// What was found.
        found: String,
        /// What to do.
        remedy: &'static str,
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
    #[error("cannot {what}: the storage of {path} is full or fails: {source}. It is as it was before")]
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

impl DatabaseError {
    pub(crate) fn sqlite(path: &Path, schema: &Schema, what: &'static str, source: rusqlite::Error) -> Self {
        let path = path.to_path_buf();
        match source.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Damaged {
                path,
                found: format!("{source}, while trying to {what}"),
                remedy: schema.remedy,
            },
            Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
                Self::ReadOnly { what, path }
            }
            Some(ErrorCode::DiskFull | ErrorCode::SystemIoFailure) => Self::Storage { what, path, source },
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Busy { what, path },
            _ => Self::Sqlite { what, path, source },
        }
    }

    fn creating(path: &Path, error: VaultError) -> Self {
        match error {
            VaultError::Io { source, .. }
                if matches!(source.kind(), ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem) =>
            {
                Self::ReadOnly { what: "make the database", path: path.into() }
            }
            other => other.into(),
        }
    }

    fn migrating(path: &Path, schema: &Schema, error: MigrateError) -> Self {
        let path = path.to_path_buf();
        match error {
            MigrateError::Newer { found } => Self::SchemaNewer { path, found, known: schema.version() },
            MigrateError::Foreign => Self::Foreign { path },
            MigrateError::Sqlite(source) => {
                Self::sqlite(&path, schema, "bring the schema up to date", source)
            }
        }
    }
}
