//! Sessions as rows of the database.

use rusqlite::params;

use super::AccountStore;
use crate::admin::accounts::records::{AccountError, MAX_SESSIONS, SessionRecord};
use crate::admin::accounts::secret::SecretHash;
use crate::clock::UnixMillis;

/// A browser that signs in.
pub(in crate::admin::accounts) struct NewSession {
    pub(in crate::admin::accounts) user: i64,
    pub(in crate::admin::accounts) token_hash: SecretHash,
    pub(in crate::admin::accounts) address: String,
    pub(in crate::admin::accounts) agent: String,
    /// The session that the browser had before; it ends.
    pub(in crate::admin::accounts) instead_of: Option<SecretHash>,
}

impl AccountStore {
    /// Signs a browser in.
    pub(in crate::admin::accounts) fn create_session(
        &mut self,
        new: &NewSession,
    ) -> Result<i64, AccountError> {
        let now = self.clock.wall();
        self.write("sign somebody in", |transaction| {
            if let Some(before) = &new.instead_of {
                transaction.execute("delete from session where token_hash = ?1", [before])?;
            }
            transaction.execute(
                "insert into session (token_hash, user, created_at, last_seen_at, address, agent)
                 values (?1, ?2, ?3, ?3, ?4, ?5)",
                params![new.token_hash, new.user, now.0, new.address, new.agent],
            )?;
            let id = transaction.last_insert_rowid();
            transaction
                .execute("update user set last_seen_at = ?2 where id = ?1", params![new.user, now.0])?;
            transaction.execute(
                "delete from session where id in (
                     select id from session where user = ?1 order by created_at desc, id desc
                     limit -1 offset ?2)",
                params![new.user, MAX_SESSIONS],
            )?;
            Ok(id)
        })
    }

    /// Every session, whether its time is over or not.
    pub(in crate::admin::accounts) fn sessions(&self) -> Result<Vec<SessionRecord>, AccountError> {
        self.read("list the sessions", |db| {
            let mut query = db.prepare_cached(
                "select id, user, token_hash, created_at, last_seen_at, address, agent from session
                 order by id",
            )?;
            let rows = query.query_map([], |row| {
                Ok(SessionRecord {
                    id: row.get(0)?,
                    user: row.get(1)?,
                    token_hash: row.get(2)?,
                    created_at: UnixMillis(row.get(3)?),
                    last_seen_at: UnixMillis(row.get(4)?),
                    address: row.get(5)?,
                    agent: row.get(6)?,
                })
            })?;
            rows.collect()
        })
    }

    /// Ends a session of a user.
    pub(in crate::admin::accounts) fn end_session(&mut self, user: i64, id: i64) -> Result<(), AccountError> {
        self.write("end a session", |transaction| {
            let ended =
                transaction.execute("delete from session where id = ?1 and user = ?2", params![id, user])?;
            if ended == 0 { Err(AccountError::Missing("session").into()) } else { Ok(()) }
        })
    }

    /// Ends the sessions of a user but for one.
    pub(in crate::admin::accounts) fn end_sessions_but(
        &mut self,
        user: i64,
        but: i64,
    ) -> Result<(), AccountError> {
        self.write("end sessions", |transaction| {
            transaction.execute("delete from session where user = ?1 and id <> ?2", params![user, but])?;
            Ok(())
        })
    }

    /// Notes when sessions and tokens were last used.
    pub(in crate::admin::accounts) fn note_use(
        &mut self,
        sessions: &[(i64, i64, UnixMillis)],
        tokens: &[(i64, UnixMillis)],
    ) -> Result<(), AccountError> {
        if sessions.is_empty() && tokens.is_empty() {
            return Ok(());
        }
        self.write("note the use of sessions", |transaction| {
            for (session, user, at) in sessions {
                transaction
                    .prepare_cached("update session set last_seen_at = ?2 where id = ?1")?
                    .execute(params![session, at.0])?;
                transaction
                    .prepare_cached(
                        "update user set last_seen_at = ?2 where id = ?1 and coalesce(last_seen_at, 0) < ?2",
                    )?
                    .execute(params![user, at.0])?;
            }
            for (token, at) in tokens {
                transaction
                    .prepare_cached("update token set last_used_at = ?2 where id = ?1")?
                    .execute(params![token, at.0])?;
            }
            Ok(())
        })
    }

    /// Erases sessions that began before one time or were used last before the other, and whatever
    /// else is over. Returns whether anything was.
    pub(in crate::admin::accounts) fn erase_expired(
        &mut self,
        began_before: UnixMillis,
        idle_since: UnixMillis,
    ) -> Result<bool, AccountError> {
        const REQUESTS_KEPT_MS: i64 = 14 * 86_400_000;
        let now = self.clock.wall().0;
        self.write("erase what has expired", |transaction| {
            let mut erased = transaction.execute(
                "delete from session where created_at < ?1 or last_seen_at < ?2",
                params![began_before.0, idle_since.0],
            )?;
            erased += transaction.execute("delete from invitation where expires_at <= ?1", [now])?;
            erased += transaction.execute("delete from token where expires_at <= ?1", [now])?;
            erased += transaction
                .execute("delete from access_request where requested_at < ?1", [now - REQUESTS_KEPT_MS])?;
            Ok(erased > 0)
        })
    }
}
