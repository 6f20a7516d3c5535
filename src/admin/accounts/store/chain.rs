//! The audit log as a chain of hashes: what was changed in it shows.
//!
//! Each entry has a link: SHA-256 of the link before and of the entry's content. Whoever changes, inserts or
//! swaps entries breaks it. An entry that is erased for its age or number leaves its link, so that the chain
//! goes on. Links go, oldest first, when no entry is before them; the last of them is the anchor from which the
//! rest is checked.
//!
//! What a chain cannot show: whoever has the root key can make the whole of it anew. For that a head that was
//! noted elsewhere, in the journal of another machine or on paper, is looked for in it.

use std::fmt;

use rusqlite::{Connection, OptionalExtension, Transaction, params};
use schemars::JsonSchema;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::AccountStore;
use super::audit::{AuditRetention, read_entry, without_ids};
use crate::admin::accounts::records::{AccountError, AuditEntry};
use crate::clock::UnixMillis;
use crate::vault::hex;

/// Links kept for each entry that may be kept: beyond, the chain begins later.
const LINKS_PER_ENTRY: i64 = 4;

type Hash = [u8; 32];

/// The last link of the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuditHead {
    /// Number of the entry.
    pub entry: i64,
    /// Its link.
    pub link: Hash,
}

impl fmt::Display for AuditHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.link))
    }
}

/// What is wrong with the log, and where first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case", tag = "what")]
pub enum AuditFault {
    /// The entry says something else than when it was made.
    Changed {
        /// Its number.
        entry: i64,
    },
    /// The link does not follow from the one before: links were changed, inserted, or taken out.
    Broken {
        /// Number of the entry.
        entry: i64,
    },
    /// The entry has no link: it was put in past the program.
    Unlinked {
        /// Its number.
        entry: i64,
    },
    /// The entry is gone, though neither its age nor the number of entries called for that.
    Gone {
        /// Its number.
        entry: i64,
    },
    /// The head that was expected is nowhere in the chain: its end was cut off, or all of it was made anew.
    HeadMissing,
}

impl fmt::Display for AuditFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Changed { entry } => write!(f, "entry {entry} was changed after it was made"),
            Self::Broken { entry } => {
                write!(f, "the chain breaks at entry {entry}: links were changed, inserted or taken out")
            }
            Self::Unlinked { entry } => write!(f, "entry {entry} was put in past the program"),
            Self::Gone { entry } => {
                write!(
                    f,
                    "entry {entry} is gone, though neither its age nor the number of entries called for it"
                )
            }
            Self::HeadMissing => f.write_str(
                "the head that was expected is not in the chain: its end was cut off, or it was made anew",
            ),
        }
    }
}

/// What reading the whole chain came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct AuditReport {
    /// Entries that were checked.
    pub entries: u64,
    /// Entries that were erased for their age or number, of which only the links were checked.
    pub erased: u64,
    /// Entries older than the chain: their links are gone.
    pub before: u64,
    /// The last link, in hexadecimal digits.
    pub head: String,
    /// The first thing that is wrong; null: nothing.
    pub fault: Option<AuditFault>,
}

/// Everything an entry says but how often it was repeated, each part with its length before it, so that no two
/// entries say the same in different parts.
fn content(entry: &AuditEntry) -> Hash {
    let AuditEntry { id, at, who, what, target, outcome, address, detail, times: _ } = entry;
    let mut hash = Sha256::new();
    hash.update(b"limen audit 1");
    hash.update(id.to_le_bytes());
    hash.update(at.0.to_le_bytes());
    hash.update(outcome.to_le_bytes());
    for text in [who.as_deref(), Some(what), Some(target), Some(address), detail.as_deref()] {
        match text {
            Some(text) => {
                hash.update((text.len() as u64 + 1).to_le_bytes());
                hash.update(text);
            }
            None => hash.update(0_u64.to_le_bytes()),
        }
    }
    hash.finalize().into()
}

fn next(before: &Hash, content: &Hash) -> Hash {
    let mut hash = Sha256::new();
    hash.update(before);
    hash.update(content);
    hash.finalize().into()
}

fn anchor(db: &Connection) -> rusqlite::Result<AuditHead> {
    db.prepare_cached("select entry, link from audit_anchor")?
        .query_row([], |row| Ok(AuditHead { entry: row.get(0)?, link: row.get(1)? }))
}

fn head(db: &Connection) -> rusqlite::Result<AuditHead> {
    let last = db
        .prepare_cached("select id, link from audit_link order by id desc limit 1")?
        .query_row([], |row| Ok(AuditHead { entry: row.get(0)?, link: row.get(1)? }))
        .optional()?;
    last.map_or_else(|| anchor(db), Ok)
}

/// Links an entry that was written in this transaction.
pub(super) fn link(transaction: &Transaction<'_>, entry: &AuditEntry) -> rusqlite::Result<()> {
    let before = head(transaction)?;
    let content = content(entry);
    transaction
        .prepare_cached("insert into audit_link (id, at, content, link) values (?1, ?2, ?3, ?4)")?
        .execute(params![entry.id, entry.at.0, content, next(&before.link, &content)])
        .map(|_| ())
}

/// After entries were erased: the links before the first that is left go, and those of more than are ever
/// needed.
pub(super) fn shorten(transaction: &Transaction<'_>, keep: AuditRetention) -> rusqlite::Result<()> {
    let first: Option<i64> = transaction.query_row("select min(id) from audit", [], |row| row.get(0))?;
    let most = LINKS_PER_ENTRY * i64::from(keep.count).max(1);
    let surplus: Option<i64> = transaction
        .prepare_cached("select id from audit_link order by id desc limit 1 offset ?1")?
        .query_row([most], |row| row.get(0))
        .optional()?;
    let until = first.map_or(i64::MAX, |first| first - 1).max(surplus.unwrap_or(0));
    let last: Option<(i64, Hash)> = transaction
        .prepare_cached("select id, link from audit_link where id <= ?1 order by id desc limit 1")?
        .query_row([until], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    if let Some((entry, link)) = last {
        transaction.execute("update audit_anchor set entry = ?1, link = ?2", params![entry, link])?;
        transaction.execute("delete from audit_link where id <= ?1", [entry])?;
    }
    Ok(())
}

impl AccountStore {
    /// Links the entries of a file that an older version wrote. Their targets are rewritten before that, for
    /// they named subjects by their ids.
    pub(super) fn link_older_entries(&mut self) -> Result<(), AccountError> {
        let waiting = self.read("look at the audit log", |db| {
            let unlinked = "select not exists (select 1 from audit_link) and exists (select 1 from audit)";
            Ok(db.query_row(unlinked, [], |row| row.get::<_, bool>(0))? && anchor(db)?.entry == 0)
        })?;
        if !waiting {
            return Ok(());
        }
        self.write("link the audit log", |transaction| {
            // Another process may have come first.
            if head(transaction)?.entry != 0 {
                return Ok(());
            }
            let mut after = 0;
            loop {
                let entries = page(transaction, after)?;
                let Some(last) = entries.last() else { return Ok(()) };
                after = last.id;
                for mut entry in entries {
                    let target = without_ids(&entry.target);
                    let detail = entry.detail.as_deref().map(without_ids);
                    if target != entry.target || detail != entry.detail {
                        transaction
                            .prepare_cached("update audit set target = ?2, detail = ?3 where id = ?1")?
                            .execute(params![entry.id, target, detail])?;
                        (entry.target, entry.detail) = (target, detail);
                    }
                    link(transaction, &entry)?;
                }
            }
        })
    }

    /// The end of the chain, to be noted elsewhere.
    pub fn audit_head(&self) -> Result<AuditHead, AccountError> {
        self.read("look at the audit log", head)
    }

    /// Reads the whole log and checks it. `expected` is a head, in hexadecimal digits, that was noted before.
    pub fn verify_audit(
        &self,
        expected: Option<&str>,
        keep: AuditRetention,
    ) -> Result<AuditReport, AccountError> {
        let now = self.clock.wall();
        self.read("check the audit log", |db| verify(db, expected, keep, now))
    }
}

const PAGE: u32 = 500;

fn page(db: &Connection, after: i64) -> rusqlite::Result<Vec<AuditEntry>> {
    db.prepare_cached(
        "select id, at, who, operation, target, outcome, address, detail, times from audit
         where id > ?1 order by id limit ?2",
    )?
    .query_map(params![after, PAGE], read_entry)?
    .collect()
}

/// Entries in order, a page in memory at a time.
struct Entries<'a> {
    db: &'a Connection,
    page: std::vec::IntoIter<AuditEntry>,
    after: i64,
}

impl Entries<'_> {
    fn next(&mut self) -> rusqlite::Result<Option<AuditEntry>> {
        if self.page.as_slice().is_empty() {
            self.page = page(self.db, self.after)?.into_iter();
        }
        let entry = self.page.next();
        if let Some(entry) = &entry {
            self.after = entry.id;
        }
        Ok(entry)
    }
}

fn verify(
    db: &Connection,
    expected: Option<&str>,
    keep: AuditRetention,
    now: UnixMillis,
) -> rusqlite::Result<AuditReport> {
    let anchor = anchor(db)?;
    let expected = expected.map(str::to_ascii_lowercase);
    let mut met = expected.as_ref().is_none_or(|expected| *expected == hex(&anchor.link));
    let mut last = anchor.link;
    let mut report = AuditReport { entries: 0, erased: 0, before: 0, head: String::new(), fault: None };
    let mut fault = None;
    let mut entries = Entries { db, page: Vec::new().into_iter(), after: 0 };
    let mut entry = entries.next()?;
    let count: i64 = db.query_row("select count(*) from audit", [], |row| row.get(0))?;
    let few = count < i64::from(keep.count);
    let oldest = now.0.saturating_sub(keep.keep_ms);
    let mut query = db.prepare("select id, at, content, link from audit_link order by id")?;
    let mut links = query.query([])?;
    while let Some(row) = links.next()? {
        let (id, at): (i64, i64) = (row.get(0)?, row.get(1)?);
        let (content_then, link): (Hash, Hash) = (row.get(2)?, row.get(3)?);
        while let Some(unlinked) = entry.take_if(|entry| entry.id < id) {
            if unlinked.id <= anchor.entry {
                report.before += 1;
            } else {
                fault.get_or_insert(AuditFault::Unlinked { entry: unlinked.id });
            }
            entry = entries.next()?;
        }
        match entry.take_if(|entry| entry.id == id) {
            Some(found) => {
                if content(&found) != content_then {
                    fault.get_or_insert(AuditFault::Changed { entry: id });
                }
                report.entries += 1;
                entry = entries.next()?;
            }
            None => {
                if few && at > oldest {
                    fault.get_or_insert(AuditFault::Gone { entry: id });
                }
                report.erased += 1;
            }
        }
        if link != next(&last, &content_then) {
            fault.get_or_insert(AuditFault::Broken { entry: id });
        }
        last = link;
        met |= expected.as_ref().is_some_and(|expected| *expected == hex(&link));
    }
    while let Some(unlinked) = entry {
        if unlinked.id <= anchor.entry {
            report.before += 1;
        } else {
            fault.get_or_insert(AuditFault::Unlinked { entry: unlinked.id });
        }
        entry = entries.next()?;
    }
    if !met {
        fault.get_or_insert(AuditFault::HeadMissing);
    }
    report.head = hex(&last);
    report.fault = fault;
    Ok(report)
}
