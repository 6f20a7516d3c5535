//! The door's policy, its secret, PINs and passes: the statements. They stand in the gallery's database because
//! they name its groups and subjects, and go with them.

use std::collections::BTreeMap;

use rusqlite::{OptionalExtension, Row, params};

use super::rows::Refusal;
use super::{GalleryError, GalleryStore};
use crate::clock::UnixMillis;
use crate::door::credential::{
    Credential, CredentialId, CredentialKind, DoorSecret, PassCode, PassFault, new_code, new_pin,
};
use crate::door::policy::{Person, PolicyDocument};
use crate::gallery::records::{GroupId, SubjectId, SubjectName};

/// Most PINs and passes: they are listed as a whole and held in memory.
pub const MAX_CREDENTIALS: usize = 1_000;
/// PINs that are made until one is nobody's yet.
const TRIES: usize = 20;

/// A new PIN or pass.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewCredential {
    /// A PIN; otherwise a pass.
    pub is_pin: bool,
    /// The subject it belongs to. Without one it is a visitor's.
    pub subject: Option<SubjectId>,
    /// The group whose rules hold for a visitor.
    pub group: Option<GroupId>,
    /// What the operator calls a visitor.
    pub label: Option<SubjectName>,
    /// From when on it is valid.
    pub valid_from: Option<UnixMillis>,
    /// From then on it is not.
    pub valid_until: Option<UnixMillis>,
    /// How often it may be used; none: as often as one likes.
    pub uses: Option<u32>,
    /// Whether the code of a pass changes every half minute.
    pub rotating: bool,
}

/// What was made.
#[derive(Clone, PartialEq, Eq)]
pub struct MadeCredential {
    /// Its number.
    pub id: CredentialId,
    /// The digits of a PIN: told once and never again.
    pub pin: Option<String>,
    /// The code of a pass.
    pub code: Option<PassCode>,
}

impl std::fmt::Debug for MadeCredential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "MadeCredential {{ {} }}", self.id.0)
    }
}

/// A PIN or pass in a list.
#[derive(Clone, Debug)]
pub struct ListedCredential {
    /// What it is and until when.
    pub credential: Credential,
    /// What the operator calls a visitor.
    pub label: Option<SubjectName>,
    /// When it was made.
    pub created_at: UnixMillis,
    /// When it opened last.
    pub last_used_at: Option<UnixMillis>,
}

const SELECT: &str =
    "select id, kind, key, subject, subject_group, valid_from, valid_until, uses_left, rotating,
    label, created_at, last_used_at from credential";

fn credential(row: &Row<'_>) -> rusqlite::Result<Credential> {
    let kind = match row.get::<_, String>(1)?.as_str() {
        "pin" => CredentialKind::Pin(row.get(2)?),
        _ => CredentialKind::Pass { code: PassCode(row.get(2)?), rotating: row.get(8)? },
    };
    Ok(Credential {
        id: CredentialId(row.get(0)?),
        kind,
        subject: row.get::<_, Option<_>>(3)?.map(SubjectId::from_bytes),
        group: row.get::<_, Option<_>>(4)?.map(GroupId),
        valid_from: row.get::<_, Option<_>>(5)?.map(UnixMillis),
        valid_until: row.get::<_, Option<_>>(6)?.map(UnixMillis),
        uses_left: row.get(7)?,
    })
}

impl GalleryStore {
    /// The policy as it was written down; none where none ever was.
    pub fn door_policy(&self) -> Result<Option<String>, GalleryError> {
        self.read("read the door's policy", |db| {
            db.query_row("select document from door_policy", [], |row| row.get(0)).optional()
        })
    }

    /// Puts a policy in the place of the one before. Whoever calls has checked it.
    pub fn set_door_policy(&mut self, document: &PolicyDocument) -> Result<(), GalleryError> {
        let now = self.clock.wall();
        // Texts, numbers and lists of them always have a JSON form.
        let text = serde_json::to_string(document).expect("a policy is JSON");
        self.write("keep the door's policy", |transaction| {
            transaction.execute(
                "insert into door_policy (id, document, changed_at) values (1, ?1, ?2)
                 on conflict (id) do update set document = excluded.document, changed_at = excluded.changed_at",
                params![text, now.0],
            )?;
            Ok(())
        })
    }

    /// What PINs and passes are made with; made at the first call.
    pub fn door_secret(&mut self) -> Result<DoorSecret, GalleryError> {
        let known: Option<[u8; 32]> = self.read("read the door's secret", |db| {
            db.query_row("select secret from door_secret", [], |row| row.get(0)).optional()
        })?;
        if let Some(secret) = known {
            return Ok(DoorSecret::from_bytes(secret));
        }
        let mut fresh = [0; 32];
        getrandom::fill(&mut fresh).map_err(GalleryError::NoRandomness)?;
        let secret = self.write("make the door's secret", |transaction| {
            transaction.execute(
                "insert or ignore into door_secret (id, secret) values (1, ?1)",
                [fresh.as_slice()],
            )?;
            Ok(transaction.query_row("select secret from door_secret", [], |row| row.get(0))?)
        })?;
        Ok(DoorSecret::from_bytes(secret))
    }

    /// Everybody as the policy sees them.
    pub fn people(&self) -> Result<BTreeMap<SubjectId, Person>, GalleryError> {
        self.read("read who is in which group", |db| {
            let mut people = BTreeMap::new();
            let mut query = db.prepare_cached("select id, expires_at from subject")?;
            let mut rows = query.query([])?;
            while let Some(row) = rows.next()? {
                let person =
                    Person { groups: Vec::new(), expires_at: row.get::<_, Option<_>>(1)?.map(UnixMillis) };
                people.insert(SubjectId::from_bytes(row.get(0)?), person);
            }
            let mut query = db.prepare_cached("select subject, subject_group from group_member")?;
            let mut rows = query.query([])?;
            while let Some(row) = rows.next()? {
                if let Some(person) = people.get_mut(&SubjectId::from_bytes(row.get(0)?)) {
                    person.groups.push(GroupId(row.get(1)?));
                }
            }
            Ok(people)
        })
    }

    /// All PINs and passes, in the order they were made.
    pub fn credentials(&self) -> Result<Vec<ListedCredential>, GalleryError> {
        self.read("list PINs and passes", |db| {
            let mut query = db.prepare_cached(&format!("{SELECT} order by id"))?;
            let rows = query.query_map([], |row| {
                Ok(ListedCredential {
                    credential: credential(row)?,
                    label: super::rows::read_label(row, 9)?,
                    created_at: UnixMillis(row.get(10)?),
                    last_used_at: row.get::<_, Option<_>>(11)?.map(UnixMillis),
                })
            })?;
            rows.collect()
        })
    }

    /// Makes a PIN or pass. A PIN's digits are in what is returned, and nowhere else.
    pub fn add_credential(&mut self, new: &NewCredential) -> Result<MadeCredential, GalleryError> {
        let label = new.label.as_ref().map(SubjectName::as_str);
        if new.subject.is_some() && (new.group.is_some() || label.is_some()) || new.is_pin && new.rotating {
            return Err(GalleryError::CredentialMixed);
        }
        if new.subject.is_none() && label.is_none() {
            return Err(GalleryError::CredentialOfNobody);
        }
        let range = new.valid_from.zip(new.valid_until);
        if range.is_some_and(|(from, until)| from >= until) || new.uses == Some(0) {
            return Err(GalleryError::CredentialNeverValid);
        }
        let now = self.clock.wall();
        let secret = self.door_secret()?;
        for _ in 0..TRIES {
            let (pin, code, key) = if new.is_pin {
                let pin = new_pin().map_err(GalleryError::NoRandomness)?;
                let hash = secret.pin_hash(&pin).expect("a new PIN is one");
                (Some(pin), None, hash.to_vec())
            } else {
                let code = new_code().map_err(GalleryError::NoRandomness)?;
                (None, Some(code), code.0.to_vec())
            };
            let made = self.write("make a PIN or pass", |transaction| {
                let count: u64 = transaction.query_row("select count(*) from credential", [], |row| row.get(0))?;
                if count >= MAX_CREDENTIALS as u64 {
                    return Err(Refusal::TooManyCredentials.into());
                }
                if let Some(subject) = new.subject
                    && !transaction
                        .prepare_cached("select 1 from subject where id = ?1")?
                        .exists([subject.as_bytes()])?
                {
                    return Err(Refusal::SubjectUnknown.into());
                }
                if let Some(group) = new.group
                    && !transaction
                        .prepare_cached("select 1 from subject_group where id = ?1")?
                        .exists([group.0])?
                {
                    return Err(Refusal::GroupUnknown.into());
                }
                let kind = if new.is_pin { "pin" } else { "pass" };
                let inserted = transaction
                    .prepare_cached(
                        "insert or ignore into credential (kind, key, subject, subject_group, label, valid_from,
                            valid_until, uses_left, rotating, created_at)
                         values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
                    )?
                    .execute(params![
                        kind,
                        key,
                        new.subject.as_ref().map(SubjectId::as_bytes),
                        new.group.map(|group| group.0),
                        label,
                        new.valid_from.map(|at| at.0),
                        new.valid_until.map(|at| at.0),
                        new.uses,
                        new.rotating,
                        now.0,
                    ])?;
                Ok((inserted == 1).then(|| CredentialId(transaction.last_insert_rowid())))
            })?;
            // Somebody else's PIN: another one is made, and nobody learns that this one is taken.
            if let Some(id) = made {
                return Ok(MadeCredential { id, pin, code });
            }
        }
        Err(GalleryError::TooManyCredentials { most: MAX_CREDENTIALS })
    }

    /// Takes a PIN or pass back.
    pub fn remove_credential(&mut self, id: CredentialId) -> Result<(), GalleryError> {
        self.write("take back a PIN or pass", |transaction| {
            let gone = transaction.prepare_cached("delete from credential where id = ?1")?.execute([id.0])?;
            if gone == 0 { Err(Refusal::CredentialUnknown.into()) } else { Ok(()) }
        })
    }

    /// Uses a PIN or pass once. It is on the disk when this returns, so that nobody uses it again after the
    /// power was cut.
    pub fn use_credential(&mut self, id: CredentialId) -> Result<Result<(), PassFault>, GalleryError> {
        let now = self.clock.wall();
        self.write("use a pass", |transaction| {
            let left: Option<Option<u32>> = transaction
                .prepare_cached("select uses_left from credential where id = ?1")?
                .query_row([id.0], |row| row.get(0))
                .optional()?;
            match left {
                None => return Ok(Err(PassFault::Revoked)),
                Some(Some(0)) => return Ok(Err(PassFault::UsedUp)),
                Some(_) => {}
            }
            transaction
                .prepare_cached(
                    "update credential set uses_left = uses_left - 1, last_used_at = ?2 where id = ?1",
                )?
                .execute(params![id.0, now.0])?;
            Ok(Ok(()))
        })
    }

    /// Erases PINs and passes that ended, or were used up, before a time; how many.
    pub fn erase_ended_credentials(&mut self, before: UnixMillis) -> Result<u64, GalleryError> {
        let there = self.read("look for ended passes", |db| {
            db.prepare_cached(
                "select 1 from credential where valid_until < ?1 or (uses_left = 0 and last_used_at < ?1) limit 1",
            )?
            .exists([before.0])
        })?;
        if !there {
            return Ok(0);
        }
        self.write("erase ended passes", |transaction| {
            let gone = transaction
                .prepare_cached(
                    "delete from credential where valid_until < ?1 or (uses_left = 0 and last_used_at < ?1)",
                )?
                .execute([before.0])?;
            Ok(gone as u64)
        })
    }
}
