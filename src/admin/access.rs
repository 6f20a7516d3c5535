//! Who may do what: roles, scopes, and the one check in front of every route (`Gate`).

mod body;
mod gate;
mod origin;

use std::net::IpAddr;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::response::{IntoResponseParts, ResponseParts};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::accounts::AccountError;
use super::problem::Problem;
use crate::http::Peer;

pub(super) use gate::{Gate, guard};

/// What somebody with an account may do; each role may what the ones before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Watches: dashboard, live view, events.
    Viewer,
    /// Enrols, edits and erases subjects, verifies, names unknown faces.
    Operator,
    /// Settings, users up to admin, tokens, audit.
    Admin,
    /// Everything, owners included.
    Owner,
}

impl Role {
    /// Every role, from the least.
    pub const ALL: [Self; 4] = [Self::Viewer, Self::Operator, Self::Admin, Self::Owner];

    /// Its name in the API, in the database and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
            Self::Owner => "owner",
        }
    }

    /// The role of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }
}

/// What an API token may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Metrics and health.
    Metrics,
    /// Read events, their pictures and live messages.
    ReadEvents,
    /// Read subjects and their pictures.
    ReadSubjects,
    /// Enrol, edit and erase subjects.
    EditSubjects,
    /// Compare pictures with the gallery.
    Compare,
    /// Watch the camera.
    Watch,
    /// Open the door, enter PINs, make and take back PINs and passes.
    Door,
}

impl Scope {
    /// Every scope.
    pub const ALL: [Self; 7] = [
        Self::Metrics,
        Self::ReadEvents,
        Self::ReadSubjects,
        Self::EditSubjects,
        Self::Compare,
        Self::Watch,
        Self::Door,
    ];
}

/// Who may call an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Anybody: signing in, the pages' own files, addresses that carry their own permission.
    Public,
    /// Programs on this device, and otherwise whoever may watch. For monitors.
    LocalOr(Role),
    /// A signed-in user of at least this role.
    Role(Role),
}

/// Who calls, as the check has found. Handlers take it as an argument.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Caller {
    /// Who.
    pub(crate) who: Who,
    /// What they may do; none for [`Who::Nobody`].
    pub(crate) role: Option<Role>,
    /// What they are called; empty for whoever has no account.
    pub(crate) name: String,
    /// From where.
    pub(crate) address: IpAddr,
}

impl Caller {
    /// The role they act with.
    pub(crate) fn acting(&self) -> Result<Role, Problem> {
        self.role.ok_or_else(|| AccountError::NotAUser.into())
    }

    /// The account they act with.
    pub(crate) fn user(&self) -> Result<i64, Problem> {
        match self.who {
            Who::User { user, .. } => Ok(user),
            Who::Nobody | Who::Local | Who::Token { .. } => Err(AccountError::NotAUser.into()),
        }
    }
}

/// Somebody who calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    /// Not signed in.
    Nobody,
    /// A program on this device.
    Local,
    /// A user, in a session.
    User {
        /// The account.
        user: i64,
        /// The session.
        session: i64,
    },
    /// The holder of an API token.
    Token {
        /// The token.
        token: i64,
    },
}

/// Put into an answer: what was changed, for the audit log, where the path does not say it. Numbers,
/// roles, names of settings; never a name of a subject, never a secret.
#[derive(Clone, Debug)]
pub(super) struct AuditDetail(String);

impl AuditDetail {
    /// The longest, in characters.
    const MOST: usize = 200;

    pub(super) fn new(text: impl Into<String>) -> Self {
        let text: String = text.into();
        match text.char_indices().nth(Self::MOST) {
            None => Self(text),
            Some(_) => Self(text.chars().take(Self::MOST - 1).chain(['…']).collect()),
        }
    }

    /// As it goes into the log.
    fn text(&self) -> Option<String> {
        (!self.0.is_empty()).then(|| self.0.clone())
    }
}

impl IntoResponseParts for AuditDetail {
    type Error = std::convert::Infallible;

    fn into_response_parts(self, mut answer: ResponseParts) -> Result<ResponseParts, Self::Error> {
        answer.extensions_mut().insert(self);
        Ok(answer)
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        parts
            .extensions
            .get::<Self>()
            .cloned()
            .ok_or_else(|| Problem::failed("the access check", &"a route was reached past it"))
    }
}

impl<S: Sync> FromRequestParts<S> for Peer {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let peer = parts.extensions.get::<Self>().copied();
        peer.ok_or_else(|| Problem::failed("the access check", &"a connection without a peer"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn detail_is_never_longer_than_the_audit_log_takes() {
        assert_eq!(AuditDetail::new("").text(), None);
        assert_eq!(AuditDetail::new("user 7").text().as_deref(), Some("user 7"));
        assert_eq!(AuditDetail::new("ä".repeat(200)).text(), Some("ä".repeat(200)));
        let cut = AuditDetail::new("ä".repeat(201)).text().unwrap();
        assert!(cut.chars().count() == 200 && cut.ends_with('…'), "{cut}");
    }
}
