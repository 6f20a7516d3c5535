//! Copies that are kept for some days when a newer program brings a database to its schema, for whoever has to
//! go back to the program before.
//!
//! One is called `gallery.db.schema-3`, is encrypted under the same key, and is put in the database's place by
//! hand. Whoever is erased would stay in it, so it goes with the first erasure, with a change of the key, and
//! after a week.

use std::path::Path;
use std::time::{Duration, SystemTime};

use super::DatabaseError;
use super::copy::copy_as_is;
use super::migrate::Schema;
use crate::vault::{StateFolder, Subkeys};

const KEPT: Duration = Duration::from_secs(7 * 86_400);
const MARK: &str = ".schema-";

/// Keeps a copy. Without one the database is brought up all the same: that happens wholly or not at all.
pub(super) fn keep_former(state: &StateFolder, keys: &Subkeys, schema: &Schema, version: u32) {
    let name = format!("{}{MARK}{version}", schema.file);
    if state.path().join(&name).exists() {
        return;
    }
    match copy_as_is(state, keys, schema, &name) {
        Ok(()) => tracing::info!(
            copy = name,
            "a copy of the database is kept for a week before it is brought up to date"
        ),
        Err(error) => {
            tracing::warn!(%error, "no copy of the database could be kept before it is brought up to date")
        }
    }
}

/// Throws the copies away: all, or those that were kept for long enough.
pub(crate) fn forget_former(state: &Path, all: bool) -> Result<(), DatabaseError> {
    let io = |source| DatabaseError::Io { path: state.into(), source };
    for entry in std::fs::read_dir(state).map_err(io)? {
        let entry = entry.map_err(io)?;
        if !entry.file_name().to_string_lossy().contains(&format!(".db{MARK}")) {
            continue;
        }
        let made = entry.metadata().and_then(|metadata| metadata.modified());
        let old = made.is_ok_and(|made| SystemTime::now().duration_since(made).is_ok_and(|age| age > KEPT));
        if all || old {
            std::fs::remove_file(entry.path())
                .map_err(|source| DatabaseError::Io { path: entry.path(), source })?;
        }
    }
    Ok(())
}
