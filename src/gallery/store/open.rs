//! Opening the encrypted database: what must hold before anything is written to it.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags};
use zeroize::Zeroizing;

use crate::vault::{StateFolder, Subkey, push_hex};

use super::{DATABASE_FILE, GalleryError};

/// How long a writer waits for another process's transaction, which takes milliseconds.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection whose key has proved right.
pub(super) fn connect(state: &StateFolder, path: &Path, key: &Subkey) -> Result<Connection, GalleryError> {
    if has_content(path)?.is_none() {
        // Made here and not by SQLite, for its mode and its owner.
        match state.create_file(DATABASE_FILE) {
            Ok(_) => {}
            // Another process starts for the first time too.
            Err(error) if already_exists(&error) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let failed = |error| GalleryError::sqlite(path, "open the gallery", error);
    let connection = Connection::open_with_flags(path, flags).map_err(failed)?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(failed)?;

    let mut pragma = Zeroizing::new(String::with_capacity(128));
    pragma.push_str("pragma key = \"x'");
    push_hex(&mut pragma, key.as_bytes());
    pragma.push_str("'\"");
    // The error is dropped on purpose: SQLite's repeats the statement, and with it the key.
    connection.execute_batch(&pragma).map_err(|_| GalleryError::NoCipher)?;
    let version = connection.query_row("pragma cipher_version", [], |row| row.get::<_, String>(0));
    if version.map_or(true, |version| version.is_empty()) {
        return Err(GalleryError::NoCipher);
    }
    // The first read decrypts the first page and checks its authentication code.
    let read = connection.query_row("select count(*) from sqlite_schema", [], |row| row.get::<_, i64>(0));
    read.map_err(|error| match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => GalleryError::WrongKey { path: path.into() },
        _ => failed(error),
    })?;
    configure(&connection).map_err(failed)?;
    Ok(connection)
}

fn configure(connection: &Connection) -> rusqlite::Result<()> {
    // In this order: what must not touch the disk first.
    let settings: [(&str, &str); 8] = [
        // Temporary tables and sorters would be written unencrypted.
        ("temp_store", "memory"),
        ("foreign_keys", "on"),
        // Freed places are overwritten with zeros before they are encrypted again.
        ("secure_delete", "on"),
        // The schema of a damaged or forged file may call nothing.
        ("trusted_schema", "off"),
        ("cell_size_check", "on"),
        // KiB of page cache. The gallery is read once into its own memory.
        ("cache_size", "-2048"),
        // The log is cut back after it has grown by a large enrolment.
        ("journal_size_limit", "1048576"),
        // A commit that was acknowledged survives a power cut.
        ("synchronous", "full"),
    ];
    for (name, value) in settings {
        connection.pragma_update(None, name, value)?;
    }
    connection.pragma_update_and_check(None, "journal_mode", "wal", |row| {
        let mode: String = row.get(0)?;
        if mode == "wal" { Ok(()) } else { Err(rusqlite::Error::QueryReturnedNoRows) }
    })
}

/// None: there is no file. An error if it is an unencrypted database or no regular file.
fn has_content(path: &Path) -> Result<Option<bool>, GalleryError> {
    let io = |source| GalleryError::Io { path: path.into(), source };
    let metadata = match path.symlink_metadata() {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io(error)),
    };
    if !metadata.is_file() {
        return Err(GalleryError::Foreign { path: path.into() });
    }
    let mut header = Vec::with_capacity(16);
    File::open(path).and_then(|file| file.take(16).read_to_end(&mut header)).map_err(io)?;
    if header == b"SQLite format 3\0" {
        return Err(GalleryError::NotEncrypted { path: path.into() });
    }
    Ok(Some(!header.is_empty()))
}

fn already_exists(error: &crate::vault::VaultError) -> bool {
    matches!(error, crate::vault::VaultError::Io { source, .. } if source.kind() == std::io::ErrorKind::AlreadyExists)
}
