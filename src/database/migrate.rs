//! A schema's version and how older files reach it. Runs when a database is opened, on its thread.
//!
//! `pragma user_version` holds the version. Every step is one transaction together with its new
//! version number, so that a step that is cut off did not happen.
//!
//! To add version n + 1: change the schema, append the step to its list, and keep the schema of
//! version n as a fixture for the test that brings it up.

use rusqlite::{Connection, TransactionBehavior};

/// What a database holds, and how it came to hold it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schema {
    /// Name in the state folder.
    pub(crate) file: &'static str,
    /// What to do when it is damaged.
    pub(crate) remedy: &'static str,
    /// Marks the file as ours among SQLite databases.
    pub(crate) application_id: i32,
    /// Statements that make a new file.
    pub(crate) script: &'static str,
    /// Whether a copy is kept for some days when it is brought to a newer version: what cannot be had again.
    pub(crate) precious: bool,
    /// Statements that bring version 1 to 2, 2 to 3, and so on.
    pub(crate) steps: &'static [&'static str],
}

impl Schema {
    /// The version this program works with.
    pub(crate) const fn version(&self) -> u32 {
        self.steps.len() as u32 + 1
    }
}

#[derive(Debug)]
pub(super) enum MigrateError {
    Newer { found: u32 },
    Foreign,
    Sqlite(rusqlite::Error),
}

impl From<rusqlite::Error> for MigrateError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

/// The version that an older file has; none where there is nothing to bring up.
pub(super) fn older(connection: &Connection, schema: &Schema) -> Result<Option<u32>, MigrateError> {
    Ok(Some(check(connection, schema)?).filter(|found| (1..schema.version()).contains(found)))
}

/// Brings the database to the version of `schema`; returns the version it had.
pub(super) fn migrate(connection: &mut Connection, schema: &Schema) -> Result<u32, MigrateError> {
    let newest = schema.version();
    let before = check(connection, schema)?;
    if before == newest {
        return Ok(before);
    }
    // Foreign keys can only be switched outside a transaction; a step may rebuild a table.
    connection.pragma_update(None, "foreign_keys", false)?;
    let mut at = before;
    while at < newest {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        // Another process may have come first while this one waited for the lock.
        at = check(&transaction, schema)?;
        if at == newest {
            break;
        }
        at = if at == 0 {
            transaction.execute_batch(schema.script)?;
            transaction.pragma_update(None, "application_id", schema.application_id)?;
            newest
        } else {
            transaction.execute_batch(schema.steps[at as usize - 1])?;
            at + 1
        };
        transaction.pragma_update(None, "user_version", at)?;
        if transaction.prepare("pragma foreign_key_check")?.exists([])? {
            return Err(rusqlite::Error::SqliteFailure(
                rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CONSTRAINT_FOREIGNKEY),
                None,
            )
            .into());
        }
        transaction.commit()?;
    }
    connection.pragma_update(None, "foreign_keys", true)?;
    Ok(before)
}

/// The version of a file of ours; 0 for an empty one.
fn check(connection: &Connection, schema: &Schema) -> Result<u32, MigrateError> {
    let application_id: i32 = connection.query_row("pragma application_id", [], |row| row.get(0))?;
    let version: i64 = connection.query_row("pragma user_version", [], |row| row.get(0))?;
    let objects: i64 = connection.query_row("select count(*) from sqlite_schema", [], |row| row.get(0))?;
    match (application_id, u32::try_from(version)) {
        (0, Ok(0)) if objects == 0 => Ok(0),
        (ours, Ok(found)) if ours == schema.application_id && found > schema.version() => {
            Err(MigrateError::Newer { found })
        }
        (ours, Ok(found)) if ours == schema.application_id && found > 0 => Ok(found),
        _ => Err(MigrateError::Foreign),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the schema consists of, in an order of its own.
    fn objects(connection: &Connection) -> Vec<(String, String)> {
        let mut query = connection
            .prepare("select type || ' ' || name, coalesce(sql, '') from sqlite_schema order by 1")
            .unwrap();
        let rows = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        rows.collect::<Result<_, _>>().unwrap()
    }

    const fn schema(script: &'static str, steps: &'static [&'static str]) -> Schema {
        Schema { file: "a.db", remedy: "", application_id: 7, script, precious: false, steps }
    }

    const OLD: Schema = schema("create table a (x integer) strict;", &[]);
    const STEP: &str = "alter table a add column y text; create index i on a (y);";
    const NEW: Schema =
        schema("create table a (x integer, y text) strict; create index i on a (y);", &[STEP]);

    #[test]
    fn new_file_gets_the_present_schema_and_version() {
        let mut db = Connection::open_in_memory().unwrap();
        assert_eq!(migrate(&mut db, &NEW).unwrap(), 0);
        assert_eq!(migrate(&mut db, &NEW).unwrap(), 2);
        assert_eq!(objects(&db).len(), 2);
    }

    #[test]
    fn older_file_is_brought_up_with_its_rows() {
        let mut old = Connection::open_in_memory().unwrap();
        migrate(&mut old, &OLD).unwrap();
        old.execute("insert into a values (7)", []).unwrap();
        assert_eq!(migrate(&mut old, &NEW).unwrap(), 1);
        let mut new = Connection::open_in_memory().unwrap();
        migrate(&mut new, &NEW).unwrap();
        let columns = |db: &Connection| {
            let mut query = db.prepare("select name, type from pragma_table_xinfo('a')").unwrap();
            let rows = query.query_map([], |r| Ok((r.get(0)?, r.get(1)?))).unwrap();
            rows.collect::<Result<Vec<(String, String)>, _>>().unwrap()
        };
        assert_eq!(columns(&old), columns(&new));
        assert_eq!(old.query_row("select x from a", [], |r| r.get::<_, i64>(0)).unwrap(), 7);
    }

    #[test]
    fn step_that_fails_leaves_the_file_as_it_was() {
        let mut db = Connection::open_in_memory().unwrap();
        migrate(&mut db, &OLD).unwrap();
        let before = objects(&db);
        const BROKEN: Schema =
            schema("", &["create table b (x integer) strict; create table b (x integer) strict;"]);
        assert!(matches!(migrate(&mut db, &BROKEN), Err(MigrateError::Sqlite(_))));
        assert_eq!(objects(&db), before);
        assert_eq!(migrate(&mut db, &OLD).unwrap(), 1, "the version is still 1");
    }

    #[test]
    fn newer_and_foreign_files_are_refused() {
        let mut db = Connection::open_in_memory().unwrap();
        migrate(&mut db, &NEW).unwrap();
        assert!(matches!(migrate(&mut db, &OLD), Err(MigrateError::Newer { found: 2 })));
        let mut foreign = Connection::open_in_memory().unwrap();
        foreign.execute_batch(OLD.script).unwrap();
        assert!(matches!(migrate(&mut foreign, &OLD), Err(MigrateError::Foreign)));
    }
}
