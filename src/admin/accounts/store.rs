//! The accounts on the disk: one SQLCipher database. The daemon has one connection to it, used by one
//! blocking task at a time; a command beside the daemon opens its own, which the daemon notices
//! through [`AccountStore::changed_by_others`].

mod audit;
mod chain;
mod newcomers;
mod sessions;
mod tokens;

use std::path::PathBuf;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, Row, Transaction, TransactionBehavior, params};

use super::password::{Cost, PasswordHash};
use super::records::{AccountError, Claimant, MAX_USERS, User, UserName};
use super::secret::{Secret, SecretHash};
use crate::admin::access::Role;
use crate::clock::{Clock, UnixMillis};
use crate::database::{self, DatabaseError, Schema};
use crate::vault::{KeyPurpose, RootKey, StateFolder, Subkeys};

pub use audit::AuditRetention;
pub use chain::{AuditFault, AuditHead, AuditReport};
pub(super) use sessions::NewSession;

/// Name of the database in the state folder.
pub const ACCOUNTS_FILE: &str = "accounts.db";

const SCHEMA: Schema = Schema {
    file: ACCOUNTS_FILE,
    remedy: "restore a backup, or move it away and make a new owner: gallery and events are other files and stay",
    // "limA"
    application_id: 0x6c69_6d41,
    script: include_str!("schema.sql"),
    precious: true,
    steps: &[include_str!("schema_2.sql"), include_str!("schema_3.sql")],
};

/// For copies of it.
pub(crate) fn accounts_schema() -> &'static Schema {
    &SCHEMA
}

const SELECT_USER: &str = "select id, name, role, disabled, created_at, last_seen_at from user";

/// The accounts' database and a writing connection.
pub struct AccountStore {
    connection: Connection,
    path: PathBuf,
    clock: Arc<dyn Clock>,
    /// `pragma data_version`: changes when another connection commits, not when this one does.
    data_version: i64,
}

impl std::fmt::Debug for AccountStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AccountStore {{ {} }}", self.path.display())
    }
}

/// Why a transaction was given up.
enum Denied {
    Sqlite(rusqlite::Error),
    Refused(AccountError),
}

impl From<rusqlite::Error> for Denied {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<AccountError> for Denied {
    fn from(error: AccountError) -> Self {
        Self::Refused(error)
    }
}

impl AccountStore {
    /// Opens the database in the state folder, making it where there is none.
    pub fn open(state: &StateFolder, key: &RootKey, clock: Arc<dyn Clock>) -> Result<Self, AccountError> {
        let path = state.path().join(ACCOUNTS_FILE);
        let connection = database::open_or_create(state, &key.subkeys(KeyPurpose::Accounts), &SCHEMA)?;
        let mut store = Self { connection, path, clock, data_version: 0 };
        store.link_older_entries()?;
        store.changed_by_others()?;
        Ok(store)
    }

    /// Encrypts everything anew.
    pub(crate) fn rekey(&mut self, keys: &Subkeys) -> Result<(), AccountError> {
        Ok(database::rekey(&mut self.connection, &self.path, &SCHEMA, keys)?)
    }

    /// Whether another connection has committed since this was last asked.
    pub(super) fn changed_by_others(&mut self) -> Result<bool, AccountError> {
        let version =
            self.read("look for changes", |db| db.query_row("pragma data_version", [], |row| row.get(0)))?;
        Ok(std::mem::replace(&mut self.data_version, version) != version)
    }

    /// Whether anybody owns this device who can sign in.
    pub fn has_owner(&self) -> Result<bool, AccountError> {
        self.read("look for an owner", |db| owners(db).map(|owners| owners > 0))
    }

    /// Makes the code with which the first owner is made; the one before it no longer works.
    pub fn new_setup_code(&mut self) -> Result<Secret, AccountError> {
        let code = Secret::code().map_err(AccountError::NoRandomness)?;
        let now = self.clock.wall();
        self.write("keep the setup code", |transaction| {
            if owners(transaction)? > 0 {
                return Err(AccountError::HasOwner.into());
            }
            transaction.execute(
                "insert into setup values (1, ?1, ?2)
                 on conflict (id) do update set code_hash = excluded.code_hash, made_at = excluded.made_at",
                params![code.hash(), now.0],
            )?;
            Ok(())
        })?;
        Ok(code)
    }

    /// Whether this is the setup code. It never is once there is an owner.
    pub(super) fn is_setup_code(&self, code: &SecretHash) -> Result<bool, AccountError> {
        self.read("look for the setup code", |db| {
            let kept: Option<SecretHash> =
                db.query_row("select code_hash from setup", [], |row| row.get(0)).optional()?;
            Ok(kept.as_ref() == Some(code))
        })
    }

    /// Makes the first owner. The setup code is gone with that.
    pub(super) fn create_owner(
        &mut self,
        code: &SecretHash,
        name: &UserName,
        password: &PasswordHash,
    ) -> Result<User, AccountError> {
        let now = self.clock.wall();
        self.write("make the owner", |transaction| {
            if owners(transaction)? > 0 {
                return Err(AccountError::HasOwner.into());
            }
            // Two may have typed it at once.
            if transaction.execute("delete from setup where code_hash = ?1", [code])? == 0 {
                return Err(AccountError::Missing("setup code").into());
            }
            insert_user(transaction, name, Role::Owner, password, now)
        })
    }

    /// Whom a name belongs to.
    pub(super) fn claimant(&self, name: &UserName) -> Result<Option<Claimant>, AccountError> {
        self.read("look for a user", |db| {
            let user = db
                .prepare_cached(
                    "select id, name, role, disabled, created_at, last_seen_at, salt, hash, memory_kib,
                     passes, lanes from user where name_key = ?1",
                )?
                .query_row([name.key()], |row| {
                    Ok(Claimant::User { user: read_user(row)?, password: read_password(row, 6)? })
                })
                .optional()?;
            if user.is_some() {
                return Ok(user);
            }
            db.prepare_cached(
                "select salt, hash, memory_kib, passes, lanes from access_request where name_key = ?1
                 order by id desc limit 1",
            )?
            .query_row([name.key()], |row| Ok(Claimant::Asking { password: read_password(row, 0)? }))
            .optional()
        })
    }

    /// What is kept of a user's password.
    pub(super) fn password_of(&self, user: i64) -> Result<PasswordHash, AccountError> {
        let found = self.read("look for a user", |db| {
            db.query_row(
                "select salt, hash, memory_kib, passes, lanes from user where id = ?1",
                [user],
                |row| read_password(row, 0),
            )
            .optional()
        })?;
        found.ok_or(AccountError::Missing("user"))
    }

    /// Keeps another hash of the same password.
    pub(super) fn rehash(&mut self, user: i64, password: &PasswordHash) -> Result<(), AccountError> {
        self.write("keep a password", |transaction| update_password(transaction, user, password))
    }

    /// Gives a user another password; ends their sessions but for one, and the invitations they made. With
    /// `tokens` also the API tokens they made: whoever knew the password may have made some for later.
    pub fn set_password(
        &mut self,
        user: i64,
        password: &PasswordHash,
        but: Option<i64>,
        tokens: bool,
    ) -> Result<(), AccountError> {
        self.write("change a password", |transaction| {
            update_password(transaction, user, password)?;
            transaction
                .execute("delete from session where user = ?1 and id is not ?2", params![user, but])?;
            transaction.execute("delete from invitation where made_by = ?1", [user])?;
            if tokens {
                transaction.execute("delete from token where made_by = ?1", [user])?;
            }
            Ok(())
        })
    }

    /// Everybody who may sign in, by name.
    pub fn users(&self) -> Result<Vec<User>, AccountError> {
        self.read("list the users", |db| {
            let mut query = db.prepare_cached(&format!("{SELECT_USER} order by name_key"))?;
            query.query_map([], read_user)?.collect()
        })
    }

    /// The user of a name.
    pub fn user_named(&self, name: &UserName) -> Result<User, AccountError> {
        let found = self.read("look for a user", |db| {
            db.query_row(&format!("{SELECT_USER} where name_key = ?1"), [name.key()], read_user).optional()
        })?;
        found.ok_or(AccountError::Missing("user"))
    }

    /// Changes what a user may do. `acting` is the role of whoever asks for it.
    pub(super) fn change_user(
        &mut self,
        acting: Role,
        id: i64,
        role: Option<Role>,
        disabled: Option<bool>,
    ) -> Result<User, AccountError> {
        self.write("change a user", |transaction| {
            let user = user(transaction, id)?;
            within(acting, user.role.max(role.unwrap_or(user.role)))?;
            let (role, disabled) = (role.unwrap_or(user.role), disabled.unwrap_or(user.disabled));
            transaction.execute(
                "update user set role = ?2, disabled = ?3 where id = ?1",
                params![id, role.name(), disabled],
            )?;
            keep_an_owner(transaction, &user)?;
            if disabled {
                transaction.execute("delete from session where user = ?1", [id])?;
            }
            Ok(User { role, disabled, ..user })
        })
    }

    /// Removes a user with everything of theirs. `acting` is the role of whoever asks for it.
    pub fn remove_user(&mut self, acting: Role, id: i64) -> Result<User, AccountError> {
        self.write("remove a user", |transaction| {
            let user = user(transaction, id)?;
            within(acting, user.role)?;
            transaction.execute("delete from user where id = ?1", [id])?;
            keep_an_owner(transaction, &user)?;
            Ok(user)
        })
    }

    fn read<T>(
        &self,
        what: &'static str,
        run: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, AccountError> {
        run(&self.connection).map_err(|error| DatabaseError::sqlite(&self.path, &SCHEMA, what, error).into())
    }

    /// One transaction; nothing of it is kept when `run` fails.
    fn write<T>(
        &mut self,
        what: &'static str,
        run: impl FnOnce(&Transaction<'_>) -> Result<T, Denied>,
    ) -> Result<T, AccountError> {
        let failed = |error| DatabaseError::sqlite(&self.path, &SCHEMA, what, error).into();
        let transaction =
            self.connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
        let value = run(&transaction).map_err(|denied| match denied {
            Denied::Sqlite(error) => failed(error),
            Denied::Refused(error) => error,
        })?;
        transaction.commit().map_err(failed)?;
        Ok(value)
    }
}

/// Nobody gives or takes more than they have.
fn within(acting: Role, concerned: Role) -> Result<(), AccountError> {
    if concerned <= acting { Ok(()) } else { Err(AccountError::AboveOwnRole(concerned)) }
}

fn owners(db: &Connection) -> rusqlite::Result<i64> {
    db.query_row("select count(*) from user where role = 'owner' and disabled = 0", [], |row| row.get(0))
}

/// After a change of `before`: there must be an owner who can sign in, if there was one.
fn keep_an_owner(transaction: &Transaction<'_>, before: &User) -> Result<(), Denied> {
    let was_owner = before.role == Role::Owner && !before.disabled;
    if was_owner && owners(transaction)? == 0 { Err(AccountError::LastOwner.into()) } else { Ok(()) }
}

fn user(transaction: &Transaction<'_>, id: i64) -> Result<User, Denied> {
    let found = transaction.query_row(&format!("{SELECT_USER} where id = ?1"), [id], read_user).optional()?;
    Ok(found.ok_or(AccountError::Missing("user"))?)
}

fn insert_user(
    transaction: &Transaction<'_>,
    name: &UserName,
    role: Role,
    password: &PasswordHash,
    now: UnixMillis,
) -> Result<User, Denied> {
    let count: i64 = transaction.query_row("select count(*) from user", [], |row| row.get(0))?;
    if count >= MAX_USERS as i64 {
        let remedy = "remove some that nobody uses";
        return Err(AccountError::TooMany { what: "users", most: MAX_USERS, remedy }.into());
    }
    let taken: bool = transaction.query_row(
        "select exists (select 1 from user where name_key = ?1)",
        [name.key()],
        |row| row.get(0),
    )?;
    if taken {
        return Err(AccountError::NameTaken.into());
    }
    let PasswordHash { salt, hash, cost } = password;
    transaction.execute(
        "insert into user (name, name_key, role, salt, hash, memory_kib, passes, lanes, created_at)
         values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        params![
            name.as_str(),
            name.key(),
            role.name(),
            salt,
            hash,
            cost.memory_kib,
            cost.passes,
            cost.lanes,
            now.0
        ],
    )?;
    let id = transaction.last_insert_rowid();
    let name = name.as_str().to_owned();
    Ok(User { id, name, role, disabled: false, created_at: now, last_seen_at: None })
}

fn update_password(transaction: &Transaction<'_>, user: i64, password: &PasswordHash) -> Result<(), Denied> {
    let PasswordHash { salt, hash, cost } = password;
    let changed = transaction.execute(
        "update user set salt = ?2, hash = ?3, memory_kib = ?4, passes = ?5, lanes = ?6 where id = ?1",
        params![user, salt, hash, cost.memory_kib, cost.passes, cost.lanes],
    )?;
    if changed == 0 { Err(AccountError::Missing("user").into()) } else { Ok(()) }
}

fn read_user(row: &Row<'_>) -> rusqlite::Result<User> {
    Ok(User {
        id: row.get(0)?,
        name: row.get(1)?,
        role: read_role(row, 2)?,
        disabled: row.get(3)?,
        created_at: UnixMillis(row.get(4)?),
        last_seen_at: row.get::<_, Option<i64>>(5)?.map(UnixMillis),
    })
}

fn read_role(row: &Row<'_>, column: usize) -> rusqlite::Result<Role> {
    let name: String = row.get(column)?;
    Role::named(&name).ok_or(rusqlite::Error::IntegralValueOutOfRange(column, 0))
}

/// The five columns of a password from `first` on.
fn read_password(row: &Row<'_>, first: usize) -> rusqlite::Result<PasswordHash> {
    let cost =
        Cost { memory_kib: row.get(first + 2)?, passes: row.get(first + 3)?, lanes: row.get(first + 4)? };
    Ok(PasswordHash { salt: row.get(first)?, hash: row.get(first + 1)?, cost })
}

#[cfg(test)]
mod tests;
