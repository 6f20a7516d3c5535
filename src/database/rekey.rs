//! A database under another key: every page is encrypted anew, wholly or not at all.

use std::path::Path;

use rusqlite::{Connection, ErrorCode};
use zeroize::Zeroizing;

use super::DatabaseError;
use super::migrate::Schema;
use super::open::{connect, connect_with_any};
use crate::vault::{Subkeys, push_hex};

/// Encrypts the database of this connection under the present key, unless it is under that already. Nobody else may
/// have it open: they are told that it is busy, or this is. Cut off at any moment, the file is under one of the keys.
///
/// For that the write-ahead log is left for a rollback journal, with which SQLCipher's `rekey` is one
/// transaction over all pages. One that fails, on a full disk for instance, is rolled back, but SQLCipher leaves the
/// connection with the new key for what it writes next, and the old one for what it reads: it is not used again, and
/// another one takes its place.
pub(crate) fn rekey(
    connection: &mut Connection,
    path: &Path,
    schema: &Schema,
    keys: &Subkeys,
) -> Result<(), DatabaseError> {
    match connect(path, &keys.present, schema) {
        Err(DatabaseError::WrongKey { .. }) => {}
        already => return already.map(drop),
    }
    const WHAT: &str = "encrypt the database under another key";
    let failed = |error| DatabaseError::sqlite(path, schema, WHAT, error);
    let pragma = |connection: &Connection, name: &str, value: &str| {
        connection.pragma_update_and_check(None, name, value, |row| row.get::<_, String>(0))
    };
    // Kept between the steps, so that nobody comes in between them.
    pragma(connection, "locking_mode", "exclusive").map_err(failed)?;
    let done = pragma(connection, "journal_mode", "delete").map_err(failed).and_then(|mode| {
        if mode != "delete" {
            return Err(DatabaseError::Busy { what: WHAT, path: path.into() });
        }
        let mut statement = Zeroizing::new(String::with_capacity(128));
        statement.push_str("pragma rekey = \"x'");
        push_hex(&mut statement, keys.present.as_bytes());
        statement.push_str("'\"");
        // SQLite's error would repeat the statement, and with it the key: only its code is kept.
        connection.execute_batch(&statement).map_err(|error| {
            // SQLCipher says no more than that there was an error; all it does there is to read and write pages.
            let code = match error.sqlite_error().map(|error| error.extended_code) {
                None | Some(rusqlite::ffi::SQLITE_ERROR) => rusqlite::ffi::SQLITE_IOERR,
                Some(code) => code,
            };
            failed(rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), None))
        })
    });
    if matches!(&done, Err(error) if !matches!(error, DatabaseError::Busy { .. })) {
        // Closed before the next is opened, which rolls back what this one could not.
        *connection = Connection::open_in_memory().map_err(failed)?;
        (*connection, _) = connect_with_any(path, keys, schema)?;
    }
    pragma(connection, "locking_mode", "normal").map_err(failed)?;
    let mode = pragma(connection, "journal_mode", "wal");
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
