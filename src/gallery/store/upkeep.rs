//! Statements that keep a gallery fit: counter examples, and templates of a new network.

use rusqlite::{OptionalExtension, Transaction, params};
use schemars::JsonSchema;
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::embedding::{Embedding, EmbeddingSpaceId};
use crate::gallery::records::{SampleId, SubjectId, TemplateId};

use super::rows::{Refusal, WriteError, touch};
use super::{GalleryError, GalleryStore};

/// Most counter examples of one subject in one space: the oldest of more are dropped.
pub const MAX_COUNTER_EXAMPLES: u32 = 64;

/// A sample that has no template in some embedding space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StaleSample {
    /// The sample.
    pub id: SampleId,
    /// Whose.
    pub subject: SubjectId,
    /// Whether its picture is kept, so that a template can be made.
    pub picture: bool,
}

/// Samples and subjects that wait for templates of an embedding space.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Staleness {
    /// Samples without one.
    pub samples: u64,
    /// Those of them whose picture is kept, so that one can be made.
    pub renewable: u64,
    /// Subjects that have no sample with one: none of them is recognised.
    pub subjects: u64,
}

/// Which faces that are not a subject to forget.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CounterExampleChoice {
    /// All of them.
    #[default]
    All,
    /// Those that were noted last, together.
    Last,
}

/// What was forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CounterExampleReceipt {
    /// Faces.
    pub removed: u64,
    /// Whether nothing of them is left in the database's log either.
    pub log_emptied: bool,
}

impl GalleryStore {
    /// Notes that faces are not this subject, though they look like it.
    pub fn add_counter_examples(&mut self, id: SubjectId, faces: &[Embedding]) -> Result<(), GalleryError> {
        let now = self.clock.wall();
        self.write("note who is not a subject", |transaction| {
            touch(transaction, id, now)?;
            for face in faces {
                let dimensions = know_space(transaction, face)?;
                let bytes = bytes(face);
                transaction
                    .prepare_cached(
                        "insert into counter_example
                             (subject, embedding_space, dimensions, embedding, added_at)
                         values (?1, ?2, ?3, ?4, ?5)",
                    )?
                    .execute(params![
                        id.as_bytes(),
                        face.space().as_str(),
                        dimensions,
                        bytes.as_slice(),
                        now.0
                    ])?;
                transaction
                    .prepare_cached(
                        "delete from counter_example where subject = ?1 and embedding_space = ?2
                         and id not in (
                             select id from counter_example where subject = ?1 and embedding_space = ?2
                             order by id desc limit ?3)",
                    )?
                    .execute(params![id.as_bytes(), face.space().as_str(), MAX_COUNTER_EXAMPLES])?;
            }
            Ok(())
        })
    }

    /// How many faces are noted not to be this subject, in one space.
    pub fn counter_examples_of(&self, id: SubjectId, space: &EmbeddingSpaceId) -> Result<u64, GalleryError> {
        self.read("count who is not a subject", |db| {
            db.prepare_cached(
                "select count(*) from counter_example where subject = ?1 and embedding_space = ?2",
            )?
            .query_row(params![id.as_bytes(), space.as_str()], |row| row.get(0))
        })
    }

    /// The values of each template of a subject, of every embedding space.
    pub fn template_values_of(
        &self,
        id: SubjectId,
    ) -> Result<Vec<(TemplateId, String, Vec<f32>)>, GalleryError> {
        self.read("read the templates of a subject", |db| {
            let mut query = db.prepare_cached(
                "select id, embedding_space, embedding from template where subject = ?1 order by id",
            )?;
            let rows = query.query_map([id.as_bytes()], |row| {
                let bytes = row.get_ref(2)?.as_blob()?;
                let (values, _) = bytes.as_chunks::<4>();
                let values = values.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
                Ok((TemplateId(row.get(0)?), row.get(1)?, values))
            })?;
            rows.collect()
        })
    }

    /// How many faces are noted not to be a subject, in every embedding space.
    pub fn all_counter_examples_of(&self, id: SubjectId) -> Result<u64, GalleryError> {
        self.read("count who is not a subject", |db| {
            db.prepare_cached("select count(*) from counter_example where subject = ?1")?
                .query_row([id.as_bytes()], |row| row.get(0))
        })
    }

    /// Forgets faces that were noted not to be this subject, so that nothing of them stays in these files.
    pub fn remove_counter_examples(
        &mut self,
        id: SubjectId,
        which: CounterExampleChoice,
    ) -> Result<CounterExampleReceipt, GalleryError> {
        let now = self.clock.wall();
        let removed = self.write("forget who is not a subject", |transaction| {
            touch(transaction, id, now)?;
            let statement = match which {
                CounterExampleChoice::All => "delete from counter_example where subject = ?1",
                // Those of one note were added in one transaction, at one time.
                CounterExampleChoice::Last => {
                    "delete from counter_example where subject = ?1 and added_at = (
                         select added_at from counter_example where subject = ?1 order by id desc limit 1)"
                }
            };
            let removed = transaction.prepare_cached(statement)?.execute([id.as_bytes()])?;
            Ok(removed as u64)
        })?;
        Ok(CounterExampleReceipt { removed, log_emptied: self.empty_log()? })
    }

    /// Samples without a template in this space, in the order of their ids, from the one after `after`
    /// on.
    pub fn stale_samples(
        &self,
        space: &EmbeddingSpaceId,
        after: Option<SampleId>,
        limit: u32,
    ) -> Result<Vec<StaleSample>, GalleryError> {
        self.read("look for samples of another network", |db| {
            let mut query = db.prepare_cached(
                "select s.id, s.subject, exists (select 1 from picture p where p.sample = s.id)
                 from sample s
                 where s.id > ?1 and not exists (
                     select 1 from template t where t.sample = s.id and t.embedding_space = ?2)
                 order by s.id limit ?3",
            )?;
            let after = after.map_or(i64::MIN, |after| after.0);
            let rows = query.query_map(params![after, space.as_str(), limit], |row| {
                Ok(StaleSample {
                    id: SampleId(row.get(0)?),
                    subject: SubjectId::from_bytes(row.get(1)?),
                    picture: row.get(2)?,
                })
            })?;
            rows.collect()
        })
    }

    /// How many samples have no template in this space.
    pub fn count_stale(&self, space: &EmbeddingSpaceId) -> Result<u64, GalleryError> {
        self.read("count the samples of another network", |db| {
            db.prepare_cached(
                "select count(*) from sample s where not exists (
                     select 1 from template t where t.sample = s.id and t.embedding_space = ?1)",
            )?
            .query_row([space.as_str()], |row| row.get(0))
        })
    }

    /// What waits for templates of this space. Reads every sample.
    pub fn staleness(&self, space: &EmbeddingSpaceId) -> Result<Staleness, GalleryError> {
        let now = self.clock.wall();
        self.read("count what waits for another network", |db| {
            let (samples, renewable) = db
                .prepare_cached(
                    "select count(*), coalesce(sum(exists (select 1 from picture p where p.sample = s.id)), 0)
                     from sample s where not exists (
                         select 1 from template t where t.sample = s.id and t.embedding_space = ?1)",
                )?
                .query_row([space.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))?;
            let subjects = db
                .prepare_cached(
                    "select count(*) from subject s where (expires_at is null or expires_at > ?2)
                     and exists (select 1 from template t where t.subject = s.id)
                     and not exists (
                         select 1 from template t where t.subject = s.id and t.embedding_space = ?1)",
                )?
                .query_row(params![space.as_str(), now.0], |row| row.get(0))?;
            Ok(Staleness { samples, renewable, subjects })
        })
    }

    /// Adds a template of another space to a sample that is still there and has none in it; gives its
    /// subject.
    pub fn add_template(
        &mut self,
        sample: SampleId,
        embedding: &Embedding,
    ) -> Result<SubjectId, GalleryError> {
        let now = self.clock.wall();
        self.write("add a template", |transaction| {
            let subject: [u8; 16] = transaction
                .prepare_cached("select subject from sample where id = ?1")?
                .query_row([sample.0], |row| row.get(0))
                .optional()?
                .ok_or(Refusal::SampleUnknown)?;
            let dimensions = know_space(transaction, embedding)?;
            let bytes = bytes(embedding);
            transaction
                .prepare_cached(
                    "insert into template
                         (sample, subject, embedding_space, dimensions, embedding, enrolled_at)
                     values (?1, ?2, ?3, ?4, ?5, ?6) on conflict (sample, embedding_space) do nothing",
                )?
                .execute(params![
                    sample.0,
                    subject,
                    embedding.space().as_str(),
                    dimensions,
                    bytes.as_slice(),
                    now.0
                ])?;
            Ok(SubjectId::from_bytes(subject))
        })
    }
}

/// Makes an embedding space known; an error if it is known with another number of values.
pub(super) fn know_space(transaction: &Transaction<'_>, embedding: &Embedding) -> Result<u64, WriteError> {
    let (space, found) = (embedding.space(), embedding.values().len());
    transaction
        .prepare_cached(
            "insert into embedding_space (name, dimensions) values (?1, ?2) on conflict do nothing",
        )?
        .execute(params![space.as_str(), found as u64])?;
    let expected: u64 = transaction
        .prepare_cached("select dimensions from embedding_space where name = ?1")?
        .query_row([space.as_str()], |row| row.get(0))?;
    let expected = expected as usize;
    if expected != found {
        return Err(Refusal::OtherDimensions { space: space.clone(), expected, found }.into());
    }
    Ok(found as u64)
}

fn bytes(embedding: &Embedding) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(embedding.values().iter().flat_map(|value| value.to_le_bytes()).collect())
}
