//! Copies of a database under another key: a backup under a passphrase, and the way back.
//!
//! SQLCipher reads the one and writes the other, page by page; nothing is ever on the disk in clear. A
//! passphrase becomes a key by SQLCipher's own PBKDF2-HMAC-SHA512 with 256,000 rounds and a random salt.

use std::path::Path;

use rusqlite::Connection;
use zeroize::Zeroizing;

use super::DatabaseError;
use super::migrate::Schema;
use super::open::{connect_with_any, connect_with_passphrase};
use crate::vault::{StateFolder, Subkey, Subkeys, push_hex};

/// Before every passphrase, so that none is ever taken for SQLCipher's notation of a raw key.
const MARK: &str = "limen:";

/// A passphrase as SQLCipher is given it.
pub(crate) fn marked(passphrase: &str) -> Zeroizing<String> {
    let mut marked = Zeroizing::new(String::with_capacity(MARK.len() + passphrase.len()));
    marked.push_str(MARK);
    marked.push_str(passphrase);
    marked
}

/// Writes a consistent copy of a database, as of now, into the empty file `to`, under a passphrase; others
/// may go on writing meanwhile. Whoever keeps the copy opens it first, by [`open_copy`].
pub(crate) fn export(
    state: &StateFolder,
    keys: &Subkeys,
    schema: &Schema,
    to: &Path,
    passphrase: &str,
) -> Result<(), DatabaseError> {
    let from = state.path().join(schema.file);
    let (connection, _) = connect_with_any(&from, keys, schema)?;
    let passphrase = marked(passphrase);
    copy(&connection, (schema, &[]), &from, to, passphrase.as_str())?;
    Ok(())
}

/// Opens a copy and checks it.
pub(crate) fn open_copy(copy: &Path, passphrase: &str, schema: &Schema) -> Result<Connection, DatabaseError> {
    let connection = connect_with_passphrase(copy, &marked(passphrase), schema)?;
    check(&connection, copy, schema)?;
    Ok(connection)
}

/// Brings a copy back as a database of this state folder, which must have none, without the rows of the
/// tables `but`.
pub(crate) fn import(
    from: &Path,
    passphrase: &str,
    state: &StateFolder,
    key: &Subkey,
    (schema, but): (&Schema, &[&str]),
) -> Result<(), DatabaseError> {
    let connection = connect_with_passphrase(from, &marked(passphrase), schema)?;
    check(&connection, from, schema)?;
    place(&connection, from, state, key, (schema, but), schema.file)
}

/// Copies a database beside it, under the present key. By a connection of its own: SQLCipher's export leaves one
/// behind that can no longer empty its log.
pub(super) fn copy_as_is(
    state: &StateFolder,
    keys: &Subkeys,
    schema: &Schema,
    name: &str,
) -> Result<(), DatabaseError> {
    let from = state.path().join(schema.file);
    let (connection, _) = connect_with_any(&from, keys, schema)?;
    place(&connection, &from, state, &keys.present, (schema, &[]), name)
}

/// Copies a database into the state folder, wholly or not at all.
fn place(
    connection: &Connection,
    from: &Path,
    state: &StateFolder,
    key: &Subkey,
    (schema, but): (&Schema, &[&str]),
    name: &str,
) -> Result<(), DatabaseError> {
    let new_file = format!("{name}.new");
    let new = state.path().join(&new_file);
    match std::fs::remove_file(&new) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            return Err(DatabaseError::Io { path: new, source });
        }
        _ => {}
    }
    state.create_file(&new_file)?;
    let mut raw = Zeroizing::new(String::with_capacity(80));
    raw.push_str("x'");
    push_hex(&mut raw, key.as_bytes());
    raw.push('\'');
    copy(connection, (schema, but), from, &new, raw.as_str())?;
    state.rename(&new_file, name)?;
    Ok(())
}

fn copy(
    connection: &Connection,
    (schema, but): (&Schema, &[&str]),
    from: &Path,
    to: &Path,
    key: &str,
) -> Result<(), DatabaseError> {
    let failed = |error| DatabaseError::sqlite(from, schema, "copy the database", error);
    let version: i64 = connection.query_row("pragma user_version", [], |row| row.get(0)).map_err(failed)?;
    let to = to.to_string_lossy();
    // Bound, so that the key stands in no statement that an error could repeat.
    connection.execute("attach database ?1 as copy key ?2", [to.as_ref(), key]).map_err(failed)?;
    connection
        .query_row("select sqlcipher_export('copy')", [], |_| Ok(()))
        .and_then(|()| {
            for table in but {
                connection.execute(&format!("delete from copy.{table}"), [])?;
            }
            connection.execute_batch(&format!(
                "pragma copy.application_id = {}; pragma copy.user_version = {version}; detach database copy",
                schema.application_id
            ))
        })
        .map_err(failed)
}

/// Every page's authentication code, the structure, the references, and whose file it is.
fn check(connection: &Connection, path: &Path, schema: &Schema) -> Result<(), DatabaseError> {
    let failed = |error| DatabaseError::sqlite(path, schema, "check the copy", error);
    let number = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0)).map_err(failed);
    if number("pragma application_id")? != i64::from(schema.application_id) {
        return Err(DatabaseError::Foreign { path: path.into() });
    }
    let found = u32::try_from(number("pragma user_version")?).unwrap_or(u32::MAX);
    if found > schema.version() {
        return Err(DatabaseError::SchemaNewer { path: path.into(), found, known: schema.version() });
    }
    for pragma in ["pragma cipher_integrity_check", "pragma integrity_check", "pragma foreign_key_check"] {
        let mut query = connection.prepare(pragma).map_err(failed)?;
        let mut rows = query.query([]).map_err(failed)?;
        while let Some(row) = rows.next().map_err(failed)? {
            let line: String = row.get(0).map_err(failed)?;
            if line != "ok" {
                let found = format!("checking it found: {line}");
                return Err(DatabaseError::Damaged { path: path.into(), found, remedy: schema.remedy });
            }
        }
    }
    Ok(())
}
