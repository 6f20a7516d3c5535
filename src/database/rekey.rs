//! A database under another key: every page is encrypted anew, wholly or not at all.

use std::path::Path;

use rusqlite::{Connection, ErrorCode};
use zeroize::Zeroizing;

use super::DatabaseError;
use super::migrate::Schema;
use super::open::connect;
use crate::vault::{Subkey, push_hex};

/// Encrypts the database of this connection under another key, unless it is under that already. Nobody else may have it open: they are told
/// that it is busy, or this is. Cut off at any moment, the file is under one of the two keys.
///
/// For that the write-ahead log is left for a rollback journal, with which SQLCipher's `rekey` is one
/// transaction over all pages.
pub(crate) fn rekey(
    connection: &Connection,
    path: &Path,
    schema: &Schema,
    key: &Subkey,
) -> Result<(), DatabaseError> {
    match connect(path, key, schema) {
        Err(DatabaseError::WrongKey { .. }) => {}
        already => return already.map(drop),
    }
    const WHAT: &str = "encrypt the database under another key";
    let failed = |error| DatabaseError::sqlite(path, schema, WHAT, error);
    let pragma = |name: &str, value: &str| {
        connection.pragma_update_and_check(None, name, value, |row| row.get::<_, String>(0))
    };
    // Kept between the steps, so that nobody comes in between them.
    pragma("locking_mode", "exclusive").map_err(failed)?;
    let done = pragma("journal_mode", "delete").map_err(failed).and_then(|mode| {
        if mode != "delete" {
            return Err(DatabaseError::Busy { what: WHAT, path: path.into() });
        }
        let mut statement = Zeroizing::new(String::with_capacity(128));
        statement.push_str("pragma rekey = \"x'");
        push_hex(&mut statement, key.as_bytes());
        statement.push_str("'\"");
        // SQLite's error would repeat the statement, and with it the key: only its code is kept.
        connection.execute_batch(&statement).map_err(|error| {
            let code = error.sqlite_error().map_or(rusqlite::ffi::SQLITE_ERROR, |error| error.extended_code);
            failed(rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), None))
        })
    });
    pragma("locking_mode", "normal").map_err(failed)?;
    let mode = pragma("journal_mode", "wal");
    // The first access lets the lock go.
    let read = connection.query_row("select count(*) from sqlite_schema", [], |row| row.get::<_, i64>(0));
    done?;
    match mode {
        // Somebody was faster than this; the log is taken up by whoever opens it next.
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => {}
        other => drop(other.map_err(failed)?),
    }
    read.map_err(failed).map(|_| ())
}
