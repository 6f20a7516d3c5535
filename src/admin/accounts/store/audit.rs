//! The audit log as rows of the database.

use rusqlite::{Row, params};

use super::{AccountStore, chain};
use crate::admin::accounts::records::{AccountError, AuditEntry, NewAuditEntry};
use crate::clock::UnixMillis;
use crate::config::Config;
use crate::gallery::SubjectId;

/// Entries erased in one go, so that nobody waits long for the database.
const ERASED_AT_ONCE: u32 = 1_000;

/// Refusals this close together are one entry.
const FOLDED_WITHIN_MS: i64 = 60_000;
/// Counts a refusal where one like it stands.
pub(super) const REPEATED: &str = "update audit set times = times + 1 where id = (
         select id from audit where coalesce(who, '') = ?1 and operation = ?2 and address = ?3
             and outcome = ?4 and outcome >= 400 and at > ?5
         order by at desc limit 1)";
pub(super) const LARGEST_SHARES: &str =
    "select who, entries from audit_share where entries > 0 order by entries desc limit 2";
pub(super) const ERASE_OF: &str = "delete from audit where id in (
         select id from audit where coalesce(who, '') = ?1 order by (outcome < 400), id limit ?2)";

/// What of the audit log is kept.
#[derive(Clone, Copy, Debug)]
pub struct AuditRetention {
    pub(in crate::admin::accounts) keep_ms: i64,
    pub(in crate::admin::accounts) count: u32,
}

impl AuditRetention {
    /// As configured.
    pub fn new(config: &Config) -> Self {
        Self { keep_ms: i64::from(config.audit.keep_days) * 86_400_000, count: config.audit.keep_count }
    }
}

pub(super) fn read_entry(row: &Row<'_>) -> rusqlite::Result<AuditEntry> {
    Ok(AuditEntry {
        id: row.get(0)?,
        at: UnixMillis(row.get(1)?),
        who: row.get(2)?,
        what: row.get(3)?,
        target: row.get(4)?,
        outcome: row.get(5)?,
        address: row.get(6)?,
        detail: row.get(7)?,
        times: row.get(8)?,
    })
}

/// A text in which subjects are named by their aliases: the log outlives them, and nothing in it may tell that
/// an id was known here.
pub(super) fn without_ids(text: &str) -> String {
    let word = |c: char| c.is_ascii_alphanumeric();
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(word) {
        let (before, from) = rest.split_at(start);
        let (token, after) = from.split_at(from.find(|c| !word(c)).unwrap_or(from.len()));
        plain.push_str(before);
        match token.parse::<SubjectId>() {
            Ok(id) => plain.push_str(&id.alias()),
            Err(_) => plain.push_str(token),
        }
        rest = after;
    }
    plain.push_str(rest);
    plain
}

impl AccountStore {
    /// Adds an entry. A refusal like one of the last minute is counted there: whoever may do nothing
    /// must not be able to fill the log.
    pub fn note(&mut self, entry: &NewAuditEntry) -> Result<(), AccountError> {
        let now = self.clock.wall();
        let NewAuditEntry { who, what, target, outcome, address, detail } = entry;
        self.write("write the audit log", |transaction| {
            if *outcome >= 400 {
                let since = now.0.saturating_sub(FOLDED_WITHIN_MS);
                let whose = who.as_deref().unwrap_or_default();
                let repeated = transaction
                    .prepare_cached(REPEATED)?
                    .execute(params![whose, what, address, outcome, since])?;
                if repeated > 0 {
                    return Ok(());
                }
            }
            let target = without_ids(target);
            let detail = detail.as_deref().map(without_ids);
            transaction
                .prepare_cached(
                    "insert into audit (at, who, operation, target, outcome, address, detail)
                     values (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                )?
                .execute(params![now.0, who, what, target, outcome, address, detail])?;
            let id = transaction.last_insert_rowid();
            let (who, what) = (who.clone(), (*what).to_owned());
            let (outcome, address) = (*outcome, address.clone());
            let entry = AuditEntry { id, at: now, who, what, target, outcome, address, detail, times: 1 };
            Ok(chain::link(transaction, &entry)?)
        })
    }

    /// Entries before one, the newest first.
    pub fn audit(&self, before: Option<i64>, limit: u32) -> Result<Vec<AuditEntry>, AccountError> {
        self.read("read the audit log", |db| {
            let mut query = db.prepare_cached(
                "select id, at, who, operation, target, outcome, address, detail, times from audit
                 where id < ?1 order by id desc limit ?2",
            )?;
            query.query_map(params![before.unwrap_or(i64::MAX), limit], read_entry)?.collect()
        })
    }

    /// How many entries there are.
    pub(in crate::admin::accounts) fn audit_entries(&self) -> Result<u64, AccountError> {
        self.read("count the audit log", |db| {
            db.query_row("select count(*) from audit", [], |row| row.get(0))
        })
    }

    /// Erases a bounded number of what is older or more than may be kept; returns how many. Of too many,
    /// those go of whoever has most, refusals first and then the oldest: nobody can push out what others
    /// have done.
    pub(in crate::admin::accounts) fn retain_audit(
        &mut self,
        keep: AuditRetention,
    ) -> Result<usize, AccountError> {
        let before = self.clock.wall().0.saturating_sub(keep.keep_ms);
        self.write("erase old entries of the audit log", |transaction| {
            let mut erased = transaction.execute(
                "delete from audit where id in (select id from audit where at < ?1 limit ?2)",
                params![before, ERASED_AT_ONCE],
            )?;
            let kept: i64 =
                transaction
                    .query_row("select coalesce(sum(entries), 0) from audit_share", [], |row| row.get(0))?;
            let mut left = (kept - i64::from(keep.count)).clamp(0, ERASED_AT_ONCE.into());
            let mut shares = transaction.prepare_cached(LARGEST_SHARES)?;
            let mut erase = transaction.prepare_cached(ERASE_OF)?;
            while left > 0 {
                let largest: Vec<(String, i64)> =
                    shares.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?;
                let Some((whose, theirs)) = largest.first() else { break };
                // Down to whoever has most after them, and from then on in turns.
                let next = largest.get(1).map_or(0, |(_, entries)| *entries);
                let many = left.min((theirs - next).max(1));
                erased += erase.execute(params![whose, many])?;
                left -= many;
            }
            if erased > 0 {
                chain::shorten(transaction, keep)?;
            }
            Ok(erased)
        })
    }
}
