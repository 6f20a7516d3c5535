//! Those who have no account yet: requests for access, and invitations.

use rusqlite::{OptionalExtension, Transaction, params};

use super::{AccountStore, Denied, insert_user, read_password, read_role, within};
use crate::admin::access::Role;
use crate::admin::accounts::password::PasswordHash;
use crate::admin::accounts::records::{
    AccessRequest, AccountError, Invitation, MAX_INVITATIONS, MAX_REQUESTS, MAX_REQUESTS_OF_NETWORK, User,
    UserName,
};
use crate::admin::accounts::secret::SecretHash;
use crate::clock::UnixMillis;
use crate::http::network;

impl AccountStore {
    /// Whether there is room for one more request from the network of this address. Asked before a
    /// password is hashed for it.
    pub(in crate::admin::accounts) fn takes_requests(&self, address: &str) -> Result<(), AccountError> {
        // As many as may wait, which are few.
        let waiting: Vec<String> = self.read("count the requests", |db| {
            let mut query = db.prepare_cached("select address from access_request")?;
            query.query_map([], |row| row.get(0))?.collect()
        })?;
        let asker = |address: &str| address.parse().map(network).ok();
        let theirs = waiting.iter().filter(|other| asker(other) == asker(address)).count();
        let remedy = "ask somebody with an account to answer those that wait";
        for (found, most) in [(waiting.len(), MAX_REQUESTS), (theirs, MAX_REQUESTS_OF_NETWORK)] {
            if found >= most {
                return Err(AccountError::TooMany { what: "requests for access", most, remedy });
            }
        }
        Ok(())
    }

    /// Keeps a request for access.
    pub(in crate::admin::accounts) fn request_access(
        &mut self,
        name: &UserName,
        password: &PasswordHash,
        message: Option<&str>,
        address: &str,
    ) -> Result<(), AccountError> {
        self.takes_requests(address)?;
        let now = self.clock.wall();
        let PasswordHash { salt, hash, cost } = password;
        self.write("keep a request for access", |transaction| {
            transaction.execute(
                "insert into access_request (name, name_key, message, salt, hash, memory_kib, passes, lanes,
                     requested_at, address)
                 values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
                params![
                    name.as_str(),
                    name.key(),
                    message,
                    salt,
                    hash,
                    cost.memory_kib,
                    cost.passes,
                    cost.lanes,
                    now.0,
                    address
                ],
            )?;
            Ok(())
        })
    }

    /// Requests that wait, the oldest first.
    pub(in crate::admin::accounts) fn access_requests(&self) -> Result<Vec<AccessRequest>, AccountError> {
        self.read("list the requests for access", |db| {
            let mut query = db.prepare_cached(
                "select id, name, message, requested_at, address from access_request order by id",
            )?;
            let rows = query.query_map([], |row| {
                Ok(AccessRequest {
                    id: row.get(0)?,
                    name: row.get(1)?,
                    message: row.get(2)?,
                    requested_at: UnixMillis(row.get(3)?),
                    address: row.get(4)?,
                })
            })?;
            rows.collect()
        })
    }

    /// Makes an account of a request.
    pub(in crate::admin::accounts) fn approve(
        &mut self,
        acting: Role,
        request: i64,
        role: Role,
    ) -> Result<User, AccountError> {
        within(acting, role)?;
        let now = self.clock.wall();
        self.write("approve a request", |transaction| {
            let found = transaction
                .query_row(
                    "select name, salt, hash, memory_kib, passes, lanes from access_request where id = ?1",
                    [request],
                    |row| Ok((row.get::<_, String>(0)?, read_password(row, 1)?)),
                )
                .optional()?;
            let (name, password) = found.ok_or(AccountError::Missing("request"))?;
            let user = insert_user(transaction, &UserName::new(&name)?, role, &password, now)?;
            transaction.execute("delete from access_request where id = ?1", [request])?;
            Ok(user)
        })
    }

    /// Takes a request away.
    pub(in crate::admin::accounts) fn refuse_request(&mut self, request: i64) -> Result<(), AccountError> {
        self.erase_one("refuse a request", "delete from access_request where id = ?1", request, "request")
    }

    /// Makes an invitation. `by` is nobody for the command line.
    pub fn invite(
        &mut self,
        by: Option<i64>,
        acting: Role,
        role: Role,
        note: Option<&str>,
        token: &SecretHash,
        expires_at: UnixMillis,
    ) -> Result<Invitation, AccountError> {
        within(acting, role)?;
        let made_at = self.clock.wall();
        self.write("make an invitation", |transaction| {
            room(transaction, "select count(*) from invitation", "invitations", MAX_INVITATIONS)?;
            transaction.execute(
                "insert into invitation (token_hash, role, note, made_by, made_at, expires_at)
                 values (?1, ?2, ?3, ?4, ?5, ?6)",
                params![token, role.name(), note, by, made_at.0, expires_at.0],
            )?;
            let id = transaction.last_insert_rowid();
            Ok(Invitation { id, role, note: note.map(str::to_owned), made_at, expires_at })
        })
    }

    /// Open invitations, the oldest first.
    pub(in crate::admin::accounts) fn invitations(&self) -> Result<Vec<Invitation>, AccountError> {
        let now = self.clock.wall();
        self.read("list the invitations", |db| {
            let mut query = db.prepare_cached(
                "select id, role, note, made_at, expires_at from invitation where expires_at > ?1 order by id",
            )?;
            let rows = query.query_map([now.0], |row| {
                Ok(Invitation {
                    id: row.get(0)?,
                    role: read_role(row, 1)?,
                    note: row.get(2)?,
                    made_at: UnixMillis(row.get(3)?),
                    expires_at: UnixMillis(row.get(4)?),
                })
            })?;
            rows.collect()
        })
    }

    /// Takes an invitation back.
    pub(in crate::admin::accounts) fn withdraw(&mut self, acting: Role, id: i64) -> Result<(), AccountError> {
        self.write("withdraw an invitation", |transaction| {
            let role = transaction
                .query_row("select role from invitation where id = ?1", [id], |row| read_role(row, 0))
                .optional()?;
            within(acting, role.ok_or(AccountError::Missing("invitation"))?)?;
            transaction.execute("delete from invitation where id = ?1", [id])?;
            Ok(())
        })
    }

    /// The role that an invitation gives, if it is open.
    pub(in crate::admin::accounts) fn invited_as(&self, token: &SecretHash) -> Result<Role, AccountError> {
        let now = self.clock.wall();
        let role = self.read("look for an invitation", |db| invited_as(db, token, now))?;
        role.ok_or(AccountError::Missing("invitation"))
    }

    /// Makes an account by an invitation, which is used up with that.
    pub(in crate::admin::accounts) fn accept(
        &mut self,
        token: &SecretHash,
        name: &UserName,
        password: &PasswordHash,
    ) -> Result<User, AccountError> {
        let now = self.clock.wall();
        self.write("accept an invitation", |transaction| {
            let role = invited_as(transaction, token, now)?.ok_or(AccountError::Missing("invitation"))?;
            transaction.execute("delete from invitation where token_hash = ?1", [token])?;
            insert_user(transaction, name, role, password, now)
        })
    }

    /// Erases the row that `statement` names by its number.
    pub(super) fn erase_one(
        &mut self,
        doing: &'static str,
        statement: &str,
        id: i64,
        what: &'static str,
    ) -> Result<(), AccountError> {
        self.write(doing, |transaction| match transaction.execute(statement, [id])? {
            0 => Err(AccountError::Missing(what).into()),
            _ => Ok(()),
        })
    }
}

/// Only while whoever made it could still make it.
fn invited_as(
    db: &rusqlite::Connection,
    token: &SecretHash,
    now: UnixMillis,
) -> rusqlite::Result<Option<Role>> {
    let found = db
        .query_row(
            "select i.role, u.role, coalesce(u.disabled, 0) from invitation i left join user u on u.id = i.made_by
             where i.token_hash = ?1 and i.expires_at > ?2",
            params![token, now.0],
            |row| {
                let by: Option<String> = row.get(1)?;
                Ok((read_role(row, 0)?, by.and_then(|role| Role::named(&role)), row.get::<_, bool>(2)?))
            },
        )
        .optional()?;
    Ok(found.and_then(|(role, by, disabled)| {
        let may = by.is_none_or(|by| by >= Role::Admin && role <= by);
        (may && !disabled).then_some(role)
    }))
}

/// Refuses one more than there may be.
pub(super) fn room(
    transaction: &Transaction<'_>,
    count: &str,
    what: &'static str,
    most: u32,
) -> Result<(), Denied> {
    let found: u32 = transaction.query_row(count, [], |row| row.get(0))?;
    if found < most {
        return Ok(());
    }
    Err(AccountError::TooMany { what, most: most as usize, remedy: "remove some that nobody uses" }.into())
}
