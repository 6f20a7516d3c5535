//! The audit log as rows of the database.

use rusqlite::params;

use super::AccountStore;
use crate::admin::accounts::records::{AccountError, AuditEntry, NewAuditEntry};
use crate::clock::UnixMillis;

/// Entries erased in one go, so that nobody waits long for the database.
const ERASED_AT_ONCE: u32 = 1_000;

/// What of the audit log is kept.
#[derive(Clone, Copy, Debug)]
pub(in crate::admin::accounts) struct AuditRetention {
    pub(in crate::admin::accounts) keep_ms: i64,
    pub(in crate::admin::accounts) count: u32,
}

impl AccountStore {
    /// Adds an entry.
    pub fn note(&mut self, entry: &NewAuditEntry) -> Result<(), AccountError> {
        let now = self.clock.wall();
        self.write("write the audit log", |transaction| {
            transaction
                .prepare_cached(
                    "insert into audit (at, who, operation, target, outcome, address)
                     values (?1, ?2, ?3, ?4, ?5, ?6)",
                )?
                .execute(params![now.0, entry.who, entry.what, entry.target, entry.outcome, entry.address])?;
            Ok(())
        })
    }

    /// Entries before one, the newest first.
    pub(in crate::admin::accounts) fn audit(
        &self,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<AuditEntry>, AccountError> {
        self.read("read the audit log", |db| {
            let mut query = db.prepare_cached(
                "select id, at, who, operation, target, outcome, address from audit where id < ?1
                 order by id desc limit ?2",
            )?;
            let rows = query.query_map(params![before.unwrap_or(i64::MAX), limit], |row| {
                Ok(AuditEntry {
                    id: row.get(0)?,
                    at: UnixMillis(row.get(1)?),
                    who: row.get(2)?,
                    what: row.get(3)?,
                    target: row.get(4)?,
                    outcome: row.get(5)?,
                    address: row.get(6)?,
                })
            })?;
            rows.collect()
        })
    }

    /// Erases a bounded number of what is older or more than may be kept; returns how many.
    pub(in crate::admin::accounts) fn retain_audit(
        &mut self,
        keep: AuditRetention,
    ) -> Result<usize, AccountError> {
        let before = self.clock.wall().0.saturating_sub(keep.keep_ms);
        self.write("erase old entries of the audit log", |transaction| {
            let many: i64 = transaction.query_row(
                "select coalesce((select id from audit order by id desc limit 1 offset ?1), 0)",
                [keep.count],
                |row| row.get(0),
            )?;
            let old = transaction.execute(
                "delete from audit where id in (select id from audit where at < ?1 limit ?2)",
                params![before, ERASED_AT_ONCE],
            )?;
            let more = transaction.execute(
                "delete from audit where id in (select id from audit where id <= ?1 limit ?2)",
                params![many, ERASED_AT_ONCE],
            )?;
            Ok(old + more)
        })
    }
}
