//! Groups of subjects: the statements.

use rusqlite::{OptionalExtension, Transaction, params};

use super::rows::{Refusal, WriteError, read_group_name};
use super::{GalleryError, GalleryStore, MAX_GROUPS};
use crate::gallery::records::{Group, GroupId, GroupName, SubjectId};

impl GalleryStore {
    /// All groups, in the order of their names.
    pub fn groups(&self) -> Result<Vec<Group>, GalleryError> {
        self.read("list the groups", |db| {
            let mut query = db.prepare_cached(
                "select g.id, g.name, (select count(*) from group_member m where m.subject_group = g.id)
                 from subject_group g order by g.name_key",
            )?;
            let groups = query.query_map([], |row| {
                Ok(Group { id: GroupId(row.get(0)?), name: read_group_name(row, 1)?, members: row.get(2)? })
            })?;
            groups.collect()
        })
    }

    /// Makes a group.
    pub fn add_group(&mut self, name: &GroupName) -> Result<GroupId, GalleryError> {
        self.write("make a group", |transaction| {
            refuse_taken(transaction, name, None)?;
            let count: u64 =
                transaction.query_row("select count(*) from subject_group", [], |row| row.get(0))?;
            if count >= MAX_GROUPS as u64 {
                return Err(Refusal::TooManyGroups.into());
            }
            transaction
                .prepare_cached("insert into subject_group (name, name_key) values (?1, ?2)")?
                .execute([name.as_str(), &name.key()])?;
            Ok(GroupId(transaction.last_insert_rowid()))
        })
    }

    /// Gives a group another name.
    pub fn rename_group(&mut self, id: GroupId, name: &GroupName) -> Result<(), GalleryError> {
        self.write("rename a group", |transaction| {
            refuse_taken(transaction, name, Some(id))?;
            let changed = transaction
                .prepare_cached("update subject_group set name = ?2, name_key = ?3 where id = ?1")?
                .execute(params![id.0, name.as_str(), name.key()])?;
            if changed == 0 { Err(Refusal::GroupUnknown.into()) } else { Ok(()) }
        })
    }

    /// Removes a group. Its members stay, without it.
    pub fn remove_group(&mut self, id: GroupId) -> Result<(), GalleryError> {
        self.write("remove a group", |transaction| {
            let gone =
                transaction.prepare_cached("delete from subject_group where id = ?1")?.execute([id.0])?;
            if gone == 0 { Err(Refusal::GroupUnknown.into()) } else { Ok(()) }
        })
    }
}

fn refuse_taken(
    transaction: &Transaction<'_>,
    name: &GroupName,
    own: Option<GroupId>,
) -> Result<(), WriteError> {
    let other: Option<i64> = transaction
        .prepare_cached("select id from subject_group where name_key = ?1")?
        .query_row([name.key()], |row| row.get(0))
        .optional()?;
    match other {
        Some(other) if own != Some(GroupId(other)) => Err(Refusal::GroupTaken.into()),
        _ => Ok(()),
    }
}

/// Puts a subject into exactly these groups.
pub(super) fn write_memberships(
    transaction: &Transaction<'_>,
    subject: SubjectId,
    groups: &[GroupId],
) -> Result<(), WriteError> {
    transaction
        .prepare_cached("delete from group_member where subject = ?1")?
        .execute([subject.as_bytes()])?;
    for group in groups {
        let known =
            transaction.prepare_cached("select 1 from subject_group where id = ?1")?.exists([group.0])?;
        if !known {
            return Err(Refusal::GroupUnknown.into());
        }
        transaction
            .prepare_cached("insert or ignore into group_member (subject_group, subject) values (?1, ?2)")?
            .execute(params![group.0, subject.as_bytes()])?;
    }
    Ok(())
}
