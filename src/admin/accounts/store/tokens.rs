//! API tokens as rows of the database.

use rusqlite::params;

use super::AccountStore;
use super::newcomers::room;
use crate::admin::access::Scope;
use crate::admin::accounts::records::{AccountError, MAX_TOKENS, TokenRecord};
use crate::admin::accounts::secret::SecretHash;
use crate::clock::UnixMillis;

impl AccountStore {
    /// Keeps a token.
    pub(in crate::admin::accounts) fn make_token(
        &mut self,
        by: i64,
        name: &str,
        scopes: &[Scope],
        token_hash: SecretHash,
        expires_at: UnixMillis,
    ) -> Result<TokenRecord, AccountError> {
        let made_at = self.clock.wall();
        // A list of fixed words always has a JSON form.
        let written = serde_json::to_string(scopes).unwrap_or_default();
        self.write("make a token", |transaction| {
            room(transaction, "select count(*) from token", "tokens", MAX_TOKENS)?;
            transaction.execute(
                "insert into token (token_hash, name, scopes, made_by, made_at, expires_at)
                 values (?1, ?2, ?3, ?4, ?5, ?6)",
                params![token_hash, name, written, by, made_at.0, expires_at.0],
            )?;
            Ok(TokenRecord {
                id: transaction.last_insert_rowid(),
                token_hash,
                name: name.to_owned(),
                scopes: scopes.to_vec(),
                made_by: by,
                made_at,
                expires_at,
                last_used_at: None,
            })
        })
    }

    /// Every token, the oldest first. A scope that this version does not know is left out.
    pub(in crate::admin::accounts) fn tokens(&self) -> Result<Vec<TokenRecord>, AccountError> {
        self.read("list the tokens", |db| {
            let mut query = db.prepare_cached(
                "select id, token_hash, name, scopes, made_by, made_at, expires_at, last_used_at from token
                 order by id",
            )?;
            let rows = query.query_map([], |row| {
                let scopes: Vec<serde_json::Value> =
                    serde_json::from_str(&row.get::<_, String>(3)?).unwrap_or_default();
                Ok(TokenRecord {
                    id: row.get(0)?,
                    token_hash: row.get(1)?,
                    name: row.get(2)?,
                    scopes: scopes
                        .into_iter()
                        .filter_map(|scope| serde_json::from_value(scope).ok())
                        .collect(),
                    made_by: row.get(4)?,
                    made_at: UnixMillis(row.get(5)?),
                    expires_at: UnixMillis(row.get(6)?),
                    last_used_at: row.get::<_, Option<i64>>(7)?.map(UnixMillis),
                })
            })?;
            rows.collect()
        })
    }

    /// Takes a token away.
    pub(in crate::admin::accounts) fn remove_token(&mut self, id: i64) -> Result<(), AccountError> {
        self.erase_one("remove a token", "delete from token where id = ?1", id, "token")
    }
}
