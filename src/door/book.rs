//! What the doorkeeper goes by: the policy, people with their groups, PINs and passes, as of one moment. Made by
//! the thread `store` whenever the gallery changes, read by whoever needs it without waiting.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::credential::{Credential, CredentialKind, DoorSecret, PassCode, PassFault, is_fresh};
use super::keeper::{Moment, Presented};
use super::policy::{Person, Policy, PolicyDocument, PolicyProblem};
use crate::gallery::{GalleryError, GalleryStore, GroupId, SubjectId};

/// The policy, as far as there is one.
#[derive(Clone, Debug)]
pub enum PolicyState {
    /// Nobody has written one: the door opens for nobody.
    None,
    /// In force.
    InForce(Arc<Policy>),
    /// What is kept is no policy: the door opens for nobody until it is mended.
    Unusable(Vec<PolicyProblem>),
}

/// As of one moment.
#[derive(Clone, Debug)]
pub struct DoorBook {
    /// The policy.
    pub policy: PolicyState,
    /// Everybody who is enrolled.
    pub people: Arc<BTreeMap<SubjectId, Person>>,
    /// PINs and passes.
    pub credentials: Vec<Credential>,
    /// What they are made with.
    pub secret: DoorSecret,
}

impl DoorBook {
    /// Reads the databases.
    pub fn read(store: &mut GalleryStore) -> Result<Self, GalleryError> {
        let secret = store.door_secret()?;
        let groups: Vec<GroupId> = store.groups()?.into_iter().map(|group| group.id).collect();
        Ok(Self {
            policy: read_policy(store.door_policy()?, &groups),
            people: Arc::new(store.people()?),
            credentials: store.credentials()?.into_iter().map(|listed| listed.credential).collect(),
            secret,
        })
    }

    /// Nobody and nothing, with a secret that no database has.
    pub fn empty() -> Self {
        Self {
            policy: PolicyState::None,
            people: Arc::default(),
            credentials: Vec::new(),
            secret: DoorSecret::from_bytes([0; 32]),
        }
    }

    /// The policy in force.
    pub fn in_force(&self) -> Option<&Arc<Policy>> {
        match &self.policy {
            PolicyState::InForce(policy) => Some(policy),
            PolicyState::None | PolicyState::Unusable(_) => None,
        }
    }

    /// The PIN of this hash, if it is anybody's and valid now.
    pub fn pin(&self, hash: &[u8; 32], moment: &Moment) -> Option<Presented> {
        let found = self.credentials.iter().find(|credential| match credential.kind {
            CredentialKind::Pin(known) => known == *hash,
            CredentialKind::Pass { .. } => false,
        })?;
        found.check(moment.wall, moment.trusted).ok().map(|()| presented(found))
    }

    /// The pass whose code this is: none where the text is no pass at all.
    pub fn pass(
        &self,
        text: &str,
        moment: &Moment,
    ) -> Option<Result<Presented, (PassFault, Option<&Credential>)>> {
        let read = match self.secret.read_pass(text)? {
            Ok(read) => read,
            Err(fault) => return Some(Err((fault, None))),
        };
        let Some(found) = self.pass_of(read.code) else { return Some(Err((PassFault::Revoked, None))) };
        let rotating = matches!(found.kind, CredentialKind::Pass { rotating: true, .. });
        // The code of a pass on paper has no time, and that of a rotating one has.
        let stale = match rotating {
            true => !is_fresh(read.window, moment.wall),
            false => read.window != 0,
        };
        if stale {
            return Some(Err((PassFault::Stale, Some(found))));
        }
        let valid = found.check(moment.wall, moment.trusted);
        Some(valid.map(|()| presented(found)).map_err(|fault| (fault, Some(found))))
    }

    /// A pass by its code.
    pub fn pass_of(&self, wanted: PassCode) -> Option<&Credential> {
        self.credentials.iter().find(|credential| match credential.kind {
            CredentialKind::Pass { code, .. } => code == wanted,
            CredentialKind::Pin(_) => false,
        })
    }
}

fn presented(credential: &Credential) -> Presented {
    Presented {
        id: credential.id,
        holder: credential.holder(),
        person: Person { groups: credential.group.into_iter().collect(), expires_at: credential.valid_until },
    }
}

/// The policy of a text out of the database.
fn read_policy(text: Option<String>, groups: &[GroupId]) -> PolicyState {
    let Some(text) = text else { return PolicyState::None };
    let mut document: PolicyDocument = match serde_json::from_str(&text) {
        Ok(document) => document,
        Err(error) => {
            return PolicyState::Unusable(vec![PolicyProblem {
                place: "policy".to_owned(),
                problem: format!("what is kept cannot be read by this version: {error}; write it anew"),
            }]);
        }
    };
    // A group that has been removed has no members. Whoever a rule was for through it alone, it is for no more:
    // such a rule goes, for without groups it would be a mistake and not a rule for everyone.
    for rule in &mut document.rules {
        rule.groups.retain(|group| groups.contains(&GroupId(*group)));
    }
    document.rules.retain(|rule| rule.everyone || !rule.groups.is_empty());
    match Policy::check(&document, groups) {
        Ok(policy) => PolicyState::InForce(Arc::new(policy)),
        Err(problems) => PolicyState::Unusable(problems),
    }
}
