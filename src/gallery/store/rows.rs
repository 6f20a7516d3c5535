//! The statements: rows in, rows out. What is a transaction is the store's business.

use rusqlite::{Connection, Row, Transaction, params};
use zeroize::Zeroizing;

use crate::clock::UnixMillis;
use crate::embedding::{Embedding, EmbeddingSpaceId};
use crate::gallery::records::{
    EnrolledSubject, GroupId, GroupName, NewSample, SampleId, SampleOrigin, SampleQuality, SampleRecord,
    SubjectId, SubjectName, TemplateId,
};
use crate::gallery::snapshot::{
    Aside, GallerySnapshot, GallerySubject, SnapshotBuilder, SnapshotError, SubjectContent,
};
use crate::media::MediaError;
use crate::score::QualityScore;

use super::pictures::Album;
use super::upkeep::know_space;
use super::{GalleryError, MAX_CREDENTIALS, MAX_GROUPS, MAX_NOTES_CHARS};

/// What ends a write without being SQLite's fault.
#[derive(Clone, Debug)]
pub(super) enum Refusal {
    SubjectUnknown,
    TemplateUnknown,
    SampleUnknown,
    GroupUnknown,
    GroupTaken,
    TooManyGroups,
    NotesTooLong,
    NameTaken,
    CredentialUnknown,
    TooManyCredentials,
    OtherDimensions { space: EmbeddingSpaceId, expected: usize, found: usize },
}

impl From<Refusal> for GalleryError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::SubjectUnknown => Self::SubjectUnknown,
            Refusal::TemplateUnknown => Self::TemplateUnknown,
            Refusal::SampleUnknown => Self::SampleUnknown,
            Refusal::GroupUnknown => Self::GroupUnknown,
            Refusal::GroupTaken => Self::GroupTaken,
            Refusal::TooManyGroups => Self::TooManyGroups { most: MAX_GROUPS },
            Refusal::NotesTooLong => Self::NotesTooLong { most: MAX_NOTES_CHARS },
            Refusal::NameTaken => Self::NameTaken,
            Refusal::CredentialUnknown => Self::CredentialUnknown,
            Refusal::TooManyCredentials => Self::TooManyCredentials { most: MAX_CREDENTIALS },
            Refusal::OtherDimensions { space, expected, found } => {
                Self::OtherDimensions { space, expected, found }
            }
        }
    }
}

pub(super) enum WriteError {
    Sqlite(rusqlite::Error),
    Refused(Refusal),
    NoRandomness(getrandom::Error),
    Media(MediaError),
}

impl From<MediaError> for WriteError {
    fn from(error: MediaError) -> Self {
        Self::Media(error)
    }
}

impl From<rusqlite::Error> for WriteError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<Refusal> for WriteError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

pub(super) enum LoadError {
    Sqlite(rusqlite::Error),
    Damaged(String),
}

impl From<rusqlite::Error> for LoadError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

pub(super) fn insert_subject(
    transaction: &Transaction<'_>,
    name: &SubjectName,
    now: UnixMillis,
) -> Result<SubjectId, WriteError> {
    let key = Zeroizing::new(name.key());
    let taken =
        transaction.prepare_cached("select 1 from subject where name_key = ?1")?.exists([key.as_str()])?;
    if taken {
        return Err(Refusal::NameTaken.into());
    }
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(WriteError::NoRandomness)?;
    transaction
        .prepare_cached(
            "insert into subject (id, name, name_key, created_at, updated_at) values (?1, ?2, ?3, ?4, ?4)",
        )?
        .execute(params![id, name.as_str(), key.as_str(), now.0])?;
    let id = SubjectId::from_bytes(id);
    write_words(transaction, id, name)?;
    Ok(id)
}

/// Replaces the words a subject is found by.
pub(super) fn write_words(
    transaction: &Transaction<'_>,
    id: SubjectId,
    name: &SubjectName,
) -> rusqlite::Result<()> {
    transaction.prepare_cached("delete from subject_word where subject = ?1")?.execute([id.as_bytes()])?;
    for word in name.words() {
        let word = Zeroizing::new(word);
        transaction
            .prepare_cached("insert into subject_word (word, subject) values (?1, ?2)")?
            .execute(params![word.as_str(), id.as_bytes()])?;
    }
    Ok(())
}

pub(super) fn insert_sample(
    transaction: &Transaction<'_>,
    subject: SubjectId,
    sample: &NewSample,
    now: UnixMillis,
    album: &mut Album<'_>,
) -> Result<TemplateId, WriteError> {
    let NewSample { origin, quality, embedding, picture } = sample;
    let space = embedding.space();
    let found = embedding.values().len();
    know_space(transaction, embedding)?;
    transaction
        .prepare_cached(
            "insert into sample (subject, origin, quality, eye_distance_px, sharpness,
                                 yaw_deg, pitch_deg, roll_deg, enrolled_at)
             values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )?
        .execute(params![
            subject.as_bytes(),
            origin.as_str(),
            quality.score.get(),
            quality.eye_distance_px,
            quality.sharpness,
            quality.yaw_deg,
            quality.pitch_deg,
            quality.roll_deg,
            now.0
        ])?;
    let sample = transaction.last_insert_rowid();
    if let Some(picture) = picture {
        album.add(transaction, subject, SampleId(sample), picture.jpeg())?;
    }
    let bytes: Zeroizing<Vec<u8>> =
        Zeroizing::new(embedding.values().iter().flat_map(|v| v.to_le_bytes()).collect());
    transaction
        .prepare_cached(
            "insert into template (sample, subject, embedding_space, dimensions, embedding, enrolled_at)
             values (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute(params![
            sample,
            subject.as_bytes(),
            space.as_str(),
            found as u64,
            bytes.as_slice(),
            now.0
        ])?;
    Ok(TemplateId(transaction.last_insert_rowid()))
}

/// Marks a subject as changed; an error if there is none. A wall clock that was set back must not
/// make it older than it is.
pub(super) fn touch(transaction: &Transaction<'_>, id: SubjectId, now: UnixMillis) -> Result<(), WriteError> {
    let changed = transaction
        .prepare_cached("update subject set updated_at = max(created_at, ?2) where id = ?1")?
        .execute(params![id.as_bytes(), now.0])?;
    if changed == 0 { Err(Refusal::SubjectUnknown.into()) } else { Ok(()) }
}

pub(super) const SELECT_SUBJECT: &str =
    "select s.id, s.name, s.notes, s.created_at, s.updated_at, s.expires_at, s.announced,
    (select count(*) from template t where t.subject = s.id),
    (select count(*) from sample m where m.subject = s.id),
    (select min(p.sample) from sample m join picture p on p.sample = m.id where m.subject = s.id),
    coalesce(s.last_seen_at, s.created_at), s.keep_unseen_days
    from subject s";

pub(super) fn read_subject(row: &Row<'_>) -> rusqlite::Result<EnrolledSubject> {
    Ok(EnrolledSubject {
        id: SubjectId::from_bytes(row.get(0)?),
        name: read_name(row, 1)?,
        notes: row.get(2)?,
        created_at: UnixMillis(row.get(3)?),
        updated_at: UnixMillis(row.get(4)?),
        expires_at: row.get::<_, Option<i64>>(5)?.map(UnixMillis),
        announced: row.get(6)?,
        templates: row.get(7)?,
        samples: row.get(8)?,
        picture: row.get::<_, Option<i64>>(9)?.map(SampleId),
        last_seen_at: UnixMillis(row.get(10)?),
        keep_unseen_days: row.get(11)?,
        groups: Vec::new(),
    })
}

fn read_name(row: &Row<'_>, column: usize) -> rusqlite::Result<SubjectName> {
    SubjectName::new(row.get_ref(column)?.as_str()?).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(error))
    })
}

/// Adds the groups that each of `subjects` is in.
pub(super) fn read_groups(db: &Connection, subjects: &mut [EnrolledSubject]) -> rusqlite::Result<()> {
    let mut query = db.prepare_cached(
        "select g.id, g.name from group_member m join subject_group g on g.id = m.subject_group
         where m.subject = ?1 order by g.name_key",
    )?;
    for subject in subjects {
        let groups = query
            .query_map([subject.id.as_bytes()], |row| Ok((GroupId(row.get(0)?), read_group_name(row, 1)?)))?;
        subject.groups = groups.collect::<Result<_, _>>()?;
    }
    Ok(())
}

pub(super) fn read_group_name(row: &Row<'_>, column: usize) -> rusqlite::Result<GroupName> {
    GroupName::new(row.get_ref(column)?.as_str()?).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(error))
    })
}

pub(super) fn read_label(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<SubjectName>> {
    let label = row.get_ref(column)?.as_str_or_null()?;
    label.map(SubjectName::new).transpose().map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(error))
    })
}

pub(super) fn read_sample(row: &Row<'_>) -> rusqlite::Result<SampleRecord> {
    let origin = SampleOrigin::parse(row.get_ref(2)?.as_str()?);
    Ok(SampleRecord {
        template: TemplateId(row.get(0)?),
        space: row.get(1)?,
        origin: origin.ok_or_else(|| {
            rusqlite::Error::InvalidColumnType(2, "origin".into(), rusqlite::types::Type::Text)
        })?,
        quality: SampleQuality {
            score: QualityScore::new(row.get(3)?),
            eye_distance_px: row.get(4)?,
            sharpness: row.get(5)?,
            yaw_deg: row.get(6)?,
            pitch_deg: row.get(7)?,
            roll_deg: row.get(8)?,
        },
        enrolled_at: UnixMillis(row.get(9)?),
        id: SampleId(row.get(10)?),
        picture: row.get(11)?,
    })
}

pub(super) fn read_snapshot(
    db: &Connection,
    space: &EmbeddingSpaceId,
    now: UnixMillis,
) -> Result<GallerySnapshot, LoadError> {
    let mut builder = SnapshotBuilder::new(space.clone());
    let damaged = |error: SnapshotError| LoadError::Damaged(error.to_string());
    let mut query = db.prepare_cached(
        "select id, name, announced from subject where expires_at is null or expires_at > ?1",
    )?;
    let mut rows = query.query([now.0])?;
    while let Some(row) = rows.next()? {
        let id = SubjectId::from_bytes(row.get(0)?);
        builder
            .subject(GallerySubject { id, name: read_name(row, 1)?, announced: row.get(2)? })
            .map_err(damaged)?;
    }
    // One pass in the order of the table, so that each page is decrypted once; whose subject has
    // expired is told by the subject's absence, not by a join for every row.
    let mut query = db.prepare_cached(
        "select id, subject, embedding_space, embedding from template not indexed order by id",
    )?;
    let mut rows = query.query([])?;
    while let Some(row) = rows.next()? {
        let id = TemplateId(row.get(0)?);
        let subject = SubjectId::from_bytes(row.get(1)?);
        if row.get_ref(2)?.as_str() != Ok(space.as_str()) {
            builder.leave_out(subject, Aside { other_space: 1, expired: 0 });
        } else if !builder.knows(subject) {
            builder.leave_out(subject, Aside { other_space: 0, expired: 1 });
        } else {
            let embedding = row.get_ref(3)?.as_blob().ok().and_then(|bytes| decode(bytes, space));
            let embedding =
                embedding.ok_or_else(|| LoadError::Damaged(format!("template {id} is not an embedding")))?;
            builder.template(id, subject, &embedding).map_err(damaged)?;
        }
    }
    let mut query =
        db.prepare_cached("select subject, embedding from counter_example where embedding_space = ?1")?;
    let mut rows = query.query([space.as_str()])?;
    while let Some(row) = rows.next()? {
        let subject = SubjectId::from_bytes(row.get(0)?);
        if builder.knows(subject) {
            builder.counter_example(subject, counter_example(row, 1, space)?);
        }
    }
    Ok(builder.finish(next_expiry(db, now)?))
}

fn next_expiry(db: &Connection, now: UnixMillis) -> rusqlite::Result<Option<UnixMillis>> {
    let next: Option<i64> = db
        .prepare_cached("select min(expires_at) from subject where expires_at > ?1")?
        .query_row([now.0], |row| row.get(0))?;
    Ok(next.map(UnixMillis))
}

/// `before` with what the database now holds of one subject.
pub(super) fn update_snapshot(
    db: &Connection,
    before: &GallerySnapshot,
    id: SubjectId,
    now: UnixMillis,
) -> Result<GallerySnapshot, LoadError> {
    let mut content = SubjectContent::default();
    let mut query = db.prepare_cached(
        "select name, announced from subject where id = ?1 and (expires_at is null or expires_at > ?2)",
    )?;
    let mut rows = query.query(params![id.as_bytes(), now.0])?;
    if let Some(row) = rows.next()? {
        content.subject = Some(GallerySubject { id, name: read_name(row, 0)?, announced: row.get(1)? });
    }
    let space = before.space();
    let mut query = db.prepare_cached(
        "select id, embedding_space, embedding from template where subject = ?1 order by id",
    )?;
    let mut rows = query.query([id.as_bytes()])?;
    while let Some(row) = rows.next()? {
        let template = TemplateId(row.get(0)?);
        if row.get_ref(1)?.as_str() != Ok(space.as_str()) {
            content.aside.other_space += 1;
        } else if content.subject.is_none() {
            content.aside.expired += 1;
        } else {
            let embedding = row.get_ref(2)?.as_blob().ok().and_then(|bytes| decode(bytes, space));
            let embedding = embedding
                .ok_or_else(|| LoadError::Damaged(format!("template {template} is not an embedding")))?;
            content.templates.push((template, embedding));
        }
    }
    let mut query = db.prepare_cached(
        "select embedding from counter_example where subject = ?1 and embedding_space = ?2",
    )?;
    let mut rows = query.query(params![id.as_bytes(), space.as_str()])?;
    while let Some(row) = rows.next()? {
        if content.subject.is_some() {
            content.counter_examples.push(counter_example(row, 0, space)?);
        }
    }
    before
        .with_changed(id, content, next_expiry(db, now)?)
        .map_err(|error| LoadError::Damaged(error.to_string()))
}

fn counter_example(row: &Row<'_>, column: usize, space: &EmbeddingSpaceId) -> Result<Embedding, LoadError> {
    let embedding = row.get_ref(column)?.as_blob().ok().and_then(|bytes| decode(bytes, space));
    embedding.ok_or_else(|| LoadError::Damaged("a counter example is not an embedding".to_owned()))
}

/// The embedding in a blob, or nothing if it is none.
pub(super) fn decode(bytes: &[u8], space: &EmbeddingSpaceId) -> Option<Embedding> {
    let (values, rest) = bytes.as_chunks::<4>();
    if !rest.is_empty() {
        return None;
    }
    Embedding::from_unit(values.iter().map(|v| f32::from_le_bytes(*v)).collect(), space.clone()).ok()
}
