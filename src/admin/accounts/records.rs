//! What the database of the accounts holds, as its callers see it.

use std::fmt;

use schemars::JsonSchema;
use serde::Serialize;
use thiserror::Error;

use crate::admin::access::{Role, Scope};
use crate::clock::UnixMillis;
use crate::database::DatabaseError;

use super::password::{PASSWORD_CHARS, PasswordHash};

/// Accounts there may be.
pub(super) const MAX_USERS: usize = 500;
/// Requests that may wait for an admin, and of these from one network.
pub(super) const MAX_REQUESTS: usize = 50;
pub(super) const MAX_REQUESTS_OF_NETWORK: usize = 5;
/// Invitations that may be open, and API tokens there may be.
pub(super) const MAX_INVITATIONS: u32 = 100;
pub(super) const MAX_TOKENS: u32 = 100;
/// Sessions of one user; with one more the oldest ends.
pub(super) const MAX_SESSIONS: u32 = 20;

/// Why something about accounts cannot be done. Carries no secret.
#[derive(Debug, Error)]
pub enum AccountError {
    /// The database cannot be used.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The system's random numbers could not be had.
    #[error("the system gives no random numbers: {0}")]
    NoRandomness(getrandom::Error),
    /// The password could not be hashed.
    #[error("a password cannot be hashed: {0}")]
    Hashing(String),
    /// The password has too few or too many characters.
    #[error("a password has {} to {} characters", PASSWORD_CHARS.start(), PASSWORD_CHARS.end())]
    PasswordLength,
    /// The name is none.
    #[error("a name has 1 to {} characters, and none that control a terminal", UserName::MAX_CHARS)]
    Name,
    /// There is a user of this name.
    #[error("there is a user of this name already; choose another one")]
    NameTaken,
    /// It is not there.
    #[error("there is no such {0}, or no longer")]
    Missing(&'static str),
    /// A program asks for what only a person with an account has.
    #[error("this is for somebody who is signed in with a name")]
    NotAUser,
    /// They were let in, and have lost the role or the session since.
    #[error("what you may do here has changed meanwhile; load the page again")]
    NoLonger,
    /// Nobody could answer yet.
    #[error("nobody owns this device yet; make the first owner with the setup code")]
    NoOwner,
    /// The first owner is there.
    #[error("this device has an owner; sign in, or ask for access")]
    HasOwner,
    /// Nobody could administer the device any more.
    #[error("the last owner cannot be removed, disabled or made anything else; make another owner first")]
    LastOwner,
    /// Somebody would give or take what they do not have themselves.
    #[error("this needs the role {}", .0.name())]
    AboveOwnRole(Role),
    /// There are as many as there may be.
    #[error("there are too many {what} ({most}); {remedy}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many there may be.
        most: usize,
        /// What to do.
        remedy: &'static str,
    },
}

/// Name of a user: what they type to sign in. White space is tidied.
#[derive(Clone, PartialEq, Eq)]
pub struct UserName(String);

/// Names of people go into no log by accident.
impl fmt::Debug for UserName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UserName(..)")
    }
}

impl UserName {
    /// Longest name, in characters.
    pub const MAX_CHARS: usize = 60;

    /// Tidies and checks a name.
    pub fn new(text: &str) -> Result<Self, AccountError> {
        // Bounded before any work: outside text may be of any length.
        if text.len() > 16 * Self::MAX_CHARS {
            return Err(AccountError::Name);
        }
        let name = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let fits = (1..=Self::MAX_CHARS).contains(&name.chars().count());
        // Invisible characters and those that turn the direction of text would make two names look alike.
        let visible = |c: char| {
            !c.is_control()
                && !matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
        };
        if fits && name.chars().all(visible) { Ok(Self(name)) } else { Err(AccountError::Name) }
    }

    /// The name itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What makes two names the same.
    pub(super) fn key(&self) -> String {
        self.0.to_lowercase()
    }
}

/// Somebody who may sign in.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct User {
    /// Number of the account; never given again.
    pub id: i64,
    /// What they type to sign in.
    pub name: String,
    /// What they may do.
    pub role: Role,
    /// Whether signing in is closed to them.
    pub disabled: bool,
    /// When the account was made, in milliseconds since 1970.
    #[schemars(with = "i64")]
    pub created_at: UnixMillis,
    /// When they last did something, to the minute.
    #[schemars(with = "Option<i64>")]
    pub last_seen_at: Option<UnixMillis>,
}

/// Whom a name belongs to, and how that is proved.
pub(super) enum Claimant {
    /// A user.
    User { user: User, password: PasswordHash },
    /// Somebody whose access is not approved yet.
    Asking { password: PasswordHash },
}

/// One browser that is signed in.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct SessionRecord {
    pub(super) id: i64,
    pub(super) user: i64,
    pub(super) token_hash: super::secret::SecretHash,
    pub(super) created_at: UnixMillis,
    pub(super) last_seen_at: UnixMillis,
    pub(super) address: String,
    pub(super) agent: String,
}

/// What a program signs in with.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct TokenRecord {
    pub(super) id: i64,
    pub(super) token_hash: super::secret::SecretHash,
    pub(super) name: String,
    pub(super) scopes: Vec<Scope>,
    pub(super) made_by: i64,
    pub(super) made_at: UnixMillis,
    pub(super) expires_at: UnixMillis,
    pub(super) last_used_at: Option<UnixMillis>,
}

/// A link by which somebody makes an account.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Invitation {
    /// Number of the invitation.
    pub id: i64,
    /// The role it gives.
    pub role: Role,
    /// For whom or what it is, as its maker noted.
    pub note: Option<String>,
    /// When it was made, in milliseconds since 1970.
    #[schemars(with = "i64")]
    pub made_at: UnixMillis,
    /// When it stops working.
    #[schemars(with = "i64")]
    pub expires_at: UnixMillis,
}

/// Somebody asks for an account.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct AccessRequest {
    /// Number of the request.
    pub id: i64,
    /// The name asked for.
    pub name: String,
    /// What they say.
    pub message: Option<String>,
    /// When, in milliseconds since 1970.
    #[schemars(with = "i64")]
    pub requested_at: UnixMillis,
    /// From which address.
    pub address: String,
}

/// Something that was changed.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct AuditEntry {
    /// Number of the entry; later ones are higher.
    pub id: i64,
    /// When, in milliseconds since 1970.
    #[schemars(with = "i64")]
    pub at: UnixMillis,
    /// Name of a user or a token; null: nobody that is known.
    pub who: Option<String>,
    /// The operation's name in this API.
    pub what: String,
    /// What it was done to, as a path.
    pub target: String,
    /// HTTP status of the answer.
    pub outcome: u16,
    /// From which address.
    pub address: String,
    /// What was changed, beyond the path: numbers, roles, names of settings. No name of a subject.
    pub detail: Option<String>,
    /// How often, within a minute: a refusal that is repeated stands once.
    pub times: u32,
}

/// An entry that is not written yet.
#[derive(Clone, Debug, PartialEq)]
pub struct NewAuditEntry {
    /// Name of a user or a token.
    pub who: Option<String>,
    /// Operation.
    pub what: &'static str,
    /// Path.
    pub target: String,
    /// HTTP status.
    pub outcome: u16,
    /// Address.
    pub address: String,
    /// What was changed, beyond the path.
    pub detail: Option<String>,
}

impl NewAuditEntry {
    /// What was done by something that is no user and has no address.
    pub fn done_by(who: &str, what: &'static str, target: String) -> Self {
        let (who, address) = (Some(who.to_owned()), "-".to_owned());
        Self { who, what, target, outcome: 200, address, detail: None }
    }
}
