//! Opening an encrypted database: what must hold before anything is written to it.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags};
use zeroize::Zeroizing;

use crate::vault::{StateFolder, Subkey, Subkeys, push_hex};

use super::DatabaseError;
use super::former::keep_former;
use super::migrate::{Schema, migrate, older};
use super::rekey::rekey;

/// How long a writer waits for another process's transaction, which takes milliseconds.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// SQLCipher's page size.
const PAGE_BYTES: u64 = 4096;

/// A connection to the database of the present schema, made where there is none.
pub(crate) fn open_or_create(
    state: &StateFolder,
    keys: &Subkeys,
    schema: &Schema,
) -> Result<Connection, DatabaseError> {
    let path = &state.path().join(schema.file);
    if !examine(path, schema)? {
        // Another process may start for the first time too; it waits here and finds the file.
        let _lock = state.lock()?;
        if !examine(path, schema)? {
            create(state, path, &keys.present, schema)?;
        }
    }
    let mut connection = adopt(path, keys, schema)?;
    let failed = |error| DatabaseError::migrating(path, schema, error);
    if schema.precious
        && let Some(version) = older(&connection, schema).map_err(failed)?
    {
        keep_former(state, keys, schema, version);
    }
    if migrate(&mut connection, schema).map_err(failed)? != schema.version() {
        // The connection that brought up a file without a log, as a backup's is, keeps a lock on it after it has
        // got one, and could not empty it.
        drop(connection);
        connection = adopt(path, keys, schema)?;
    }
    // The file is ours and its key is right: from here on it may be written.
    connection
        .pragma_update_and_check(None, "journal_mode", "wal", |row| row.get::<_, String>(0))
        .map_err(|error| DatabaseError::sqlite(path, schema, "start the log", error))?;
    // A process that was killed leaves its log behind, and in it what was erased since. Where another
    // connection is in the way, this is its business at the next removal.
    connection
        .query_row("pragma wal_checkpoint(truncate)", [], |row| row.get::<_, i64>(0))
        .map_err(|error| DatabaseError::sqlite(path, schema, "empty the log", error))?;
    Ok(connection)
}

/// Makes a whole database under another name first, so that a file of the final name is always a
/// whole one and anything shorter than a page is damage. The caller holds the folder's lock.
fn create(state: &StateFolder, path: &Path, key: &Subkey, schema: &Schema) -> Result<(), DatabaseError> {
    let new_file = format!("{}.new", schema.file);
    let new = state.path().join(&new_file);
    // The rest of a first start that was cut off.
    for name in [new_file.clone(), format!("{new_file}-journal")] {
        match std::fs::remove_file(state.path().join(name)) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                return Err(DatabaseError::Io { path: new, source });
            }
            _ => {}
        }
    }
    // Made here and not by SQLite, for its mode and its owner.
    state.create_file(&new_file).map_err(|error| DatabaseError::creating(path, error))?;
    let mut connection = connect(&new, key, schema)?;
    migrate(&mut connection, schema).map_err(|error| DatabaseError::migrating(&new, schema, error))?;
    connection
        .close()
        .map_err(|(_, error)| DatabaseError::sqlite(&new, schema, "make the database", error))?;
    state.rename(&new_file, schema.file)?;
    Ok(())
}

/// A connection to a database that is under the present key from now on, if nobody else has it open, and
/// under a former one until then.
fn adopt(path: &Path, keys: &Subkeys, schema: &Schema) -> Result<Connection, DatabaseError> {
    let (mut connection, former) = connect_with_any(path, keys, schema)?;
    if former {
        match rekey(&mut connection, path, schema, keys) {
            Err(DatabaseError::Busy { .. }) => {}
            other => other?,
        }
    }
    Ok(connection)
}

/// A connection by the first key that proves right, and whether that is a former one. Nothing is written.
pub(crate) fn connect_with_any(
    path: &Path,
    keys: &Subkeys,
    schema: &Schema,
) -> Result<(Connection, bool), DatabaseError> {
    let present = connect(path, &keys.present, schema);
    if !matches!(present, Err(DatabaseError::WrongKey { .. })) {
        return present.map(|connection| (connection, false));
    }
    for former in &keys.former {
        match connect(path, former, schema) {
            Err(DatabaseError::WrongKey { .. }) => {}
            other => return other.map(|connection| (connection, true)),
        }
    }
    present.map(|connection| (connection, false))
}

/// Whether there is no such database, or one that opens with this very key.
pub(crate) fn is_under(state: &StateFolder, key: &Subkey, schema: &Schema) -> Result<bool, DatabaseError> {
    let path = state.path().join(schema.file);
    if !examine(&path, schema)? {
        return Ok(true);
    }
    match connect(&path, key, schema) {
        Ok(_) => Ok(true),
        Err(DatabaseError::WrongKey { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// A connection whose key has proved right. Nothing is written.
pub(super) fn connect(path: &Path, key: &Subkey, schema: &Schema) -> Result<Connection, DatabaseError> {
    connect_by(path, schema, |connection| {
        let mut pragma = Zeroizing::new(String::with_capacity(128));
        pragma.push_str("pragma key = \"x'");
        push_hex(&mut pragma, key.as_bytes());
        pragma.push_str("'\"");
        connection.execute_batch(&pragma)
    })
}

/// The same for a database under a passphrase.
pub(super) fn connect_with_passphrase(
    path: &Path,
    passphrase: &str,
    schema: &Schema,
) -> Result<Connection, DatabaseError> {
    connect_by(path, schema, |connection| connection.pragma_update(None, "key", passphrase))
}

fn connect_by(
    path: &Path,
    schema: &Schema,
    give_key: impl FnOnce(&Connection) -> rusqlite::Result<()>,
) -> Result<Connection, DatabaseError> {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let failed = |error| DatabaseError::sqlite(path, schema, "open the database", error);
    let connection = Connection::open_with_flags(path, flags).map_err(failed)?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(failed)?;

    // SQLCipher would print to the standard error stream what is returned as an error anyway.
    connection.execute_batch("pragma cipher_log_level = none").map_err(failed)?;
    // The error is dropped on purpose: SQLite's repeats the statement, and with it the key.
    give_key(&connection).map_err(|_| DatabaseError::NoCipher)?;
    let version = connection.query_row("pragma cipher_version", [], |row| row.get::<_, String>(0));
    if version.map_or(true, |version| version.is_empty()) {
        return Err(DatabaseError::NoCipher);
    }
    // The first read decrypts the first page and checks its authentication code.
    let read = connection.query_row("select count(*) from sqlite_schema", [], |row| row.get::<_, i64>(0));
    read.map_err(|error| match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => DatabaseError::WrongKey { path: path.into() },
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
        // KiB of page cache: what is read often is kept in memory anyway.
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
fn examine(path: &Path, schema: &Schema) -> Result<bool, DatabaseError> {
    let io = |source| DatabaseError::Io { path: path.into(), source };
    let metadata = match path.symlink_metadata() {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(io(error)),
    };
    if !metadata.is_file() {
        return Err(DatabaseError::Foreign { path: path.into() });
    }
    let mut header = Vec::with_capacity(16);
    File::open(path).and_then(|file| file.take(16).read_to_end(&mut header)).map_err(io)?;
    if header == b"SQLite format 3\0" {
        return Err(DatabaseError::NotEncrypted { path: path.into() });
    }
    if metadata.len() < PAGE_BYTES {
        let found = format!("it has {} bytes, less than its first page", metadata.len());
        return Err(DatabaseError::Damaged { path: path.into(), found, remedy: schema.remedy });
    }
    Ok(true)
}
