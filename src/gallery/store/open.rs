//! Opening the encrypted database: what must hold before anything is written to it.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags};
use zeroize::Zeroizing;

use crate::gallery::migrate;
use crate::vault::{StateFolder, Subkey, push_hex};

use super::{DATABASE_FILE, GalleryError};

/// How long a writer waits for another process's transaction, which takes milliseconds.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// While a new database is made it has this name, so that a file named [`DATABASE_FILE`] is always
/// a whole one and anything shorter than a page is damage, not a gallery of nobody.
const NEW_DATABASE_FILE: &str = "gallery.db.new";
/// SQLCipher's page size.
const PAGE_BYTES: u64 = 4096;

/// A connection to the database of the present schema, made where there is none.
pub(super) fn open_or_create(
    state: &StateFolder,
    path: &Path,
    key: &Subkey,
) -> Result<Connection, GalleryError> {
    if !examine(path)? {
        // Another process may start for the first time too; it waits here and finds the file.
        let _lock = state.lock()?;
        if !examine(path)? {
            create(state, path, key)?;
        }
    }
    let mut connection = connect(path, key)?;
    migrate::migrate(&mut connection).map_err(|error| GalleryError::migrating(path, error))?;
    // The file is ours and its key is right: from here on it may be written.
    connection
        .pragma_update_and_check(None, "journal_mode", "wal", |row| row.get::<_, String>(0))
        .map_err(|error| GalleryError::sqlite(path, "start the log", error))?;
    // A process that was killed leaves its log behind, and in it what was erased since. Where another
    // connection is in the way, this is its business at the next removal.
    connection
        .query_row("pragma wal_checkpoint(truncate)", [], |row| row.get::<_, i64>(0))
        .map_err(|error| GalleryError::sqlite(path, "empty the log", error))?;
    Ok(connection)
}

/// Makes a whole database under another name first. The caller holds the folder's lock.
fn create(state: &StateFolder, path: &Path, key: &Subkey) -> Result<(), GalleryError> {
    let new = state.path().join(NEW_DATABASE_FILE);
    // The rest of a first start that was cut off.
    for name in [NEW_DATABASE_FILE, "gallery.db.new-journal"] {
        match std::fs::remove_file(state.path().join(name)) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                return Err(GalleryError::Io { path: new, source });
            }
            _ => {}
        }
    }
    // Made here and not by SQLite, for its mode and its owner.
    state.create_file(NEW_DATABASE_FILE).map_err(|error| GalleryError::creating(path, error))?;
    let mut connection = connect(&new, key)?;
    migrate::migrate(&mut connection).map_err(|error| GalleryError::migrating(&new, error))?;
    connection.close().map_err(|(_, error)| GalleryError::sqlite(&new, "make the gallery", error))?;
    state.rename(NEW_DATABASE_FILE, DATABASE_FILE)?;
    Ok(())
}

/// A connection whose key has proved right. Nothing is written.
fn connect(path: &Path, key: &Subkey) -> Result<Connection, GalleryError> {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let failed = |error| GalleryError::sqlite(path, "open the gallery", error);
    let connection = Connection::open_with_flags(path, flags).map_err(failed)?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(failed)?;

    // SQLCipher would print to the standard error stream what is returned as an error anyway.
    connection.execute_batch("pragma cipher_log_level = none").map_err(failed)?;
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
    Ok(())
}

/// Whether there is a database. An error if what is there cannot be one of ours.
fn examine(path: &Path) -> Result<bool, GalleryError> {
    let io = |source| GalleryError::Io { path: path.into(), source };
    let metadata = match path.symlink_metadata() {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
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
    if metadata.len() < PAGE_BYTES {
        let found = format!("it has {} bytes, less than its first page", metadata.len());
        return Err(GalleryError::Damaged { path: path.into(), found });
    }
    Ok(true)
}
