//! Who was erased, so that a backup from before does not bring them back.
//!
//! Kept is a mark, SHA-256 of an id: it tells whether an id is that of somebody erased, and nothing else,
//! since ids are 128 random bits that stand nowhere any longer.

use std::collections::HashSet;

use rusqlite::{Connection, Transaction, params};
use zeroize::Zeroizing;

use crate::clock::UnixMillis;
use crate::erasure::{TraceKind, Traces};
use crate::gallery::records::{ErasureMark, SampleId, SubjectId};

use super::{GalleryError, GalleryStore};

pub(super) fn note(transaction: &Transaction<'_>, id: SubjectId, now: UnixMillis) -> rusqlite::Result<()> {
    insert(transaction, id.mark(), now)
}

fn insert(transaction: &Transaction<'_>, mark: ErasureMark, at: UnixMillis) -> rusqlite::Result<()> {
    transaction
        .prepare_cached("insert or ignore into erasure (mark, erased_at) values (?1, ?2)")?
        .execute(params![mark.0, at.0])
        .map(|_| ())
}

/// The marks in a database, or a copy of one.
pub(crate) fn marks_of(db: &Connection) -> rusqlite::Result<Vec<(ErasureMark, UnixMillis)>> {
    let mut query = db.prepare("select mark, erased_at from erasure")?;
    query.query_map([], |row| Ok((ErasureMark(row.get(0)?), UnixMillis(row.get(1)?))))?.collect()
}

impl GalleryStore {
    /// What a subject can be recognised by in files, to be looked for when it is erased.
    pub fn traces_of(&self, id: SubjectId) -> Result<Traces, GalleryError> {
        let subject = self.subject(id)?.ok_or(GalleryError::SubjectUnknown)?;
        let mut traces = Traces::new(id, subject.name.as_str());
        let (templates, samples) = self.read("read what is to be erased", |db| {
            let templates: Vec<Vec<u8>> = db
                .prepare_cached("select embedding from template where subject = ?1")?
                .query_map([id.as_bytes()], |row| row.get(0))?
                .collect::<Result<_, _>>()?;
            let samples: Vec<SampleId> = db
                .prepare_cached(
                    "select p.sample from picture p join sample s on s.id = p.sample where s.subject = ?1",
                )?
                .query_map([id.as_bytes()], |row| row.get(0).map(SampleId))?
                .collect::<Result<_, _>>()?;
            Ok((templates, samples))
        })?;
        for template in templates {
            traces.add_piece(TraceKind::Template, &Zeroizing::new(template));
        }
        for sample in samples {
            // One that is missing or damaged leaves nothing to look for.
            if let Ok(Some(jpeg)) = self.picture(sample) {
                traces.add_piece(TraceKind::Picture, &jpeg);
            }
        }
        Ok(traces)
    }

    /// The marks of everybody who was erased here, and when.
    pub fn erasure_marks(&self) -> Result<Vec<(ErasureMark, UnixMillis)>, GalleryError> {
        self.read("list who was erased", marks_of)
    }

    /// Erases whoever bears one of these marks, and keeps the marks; returns how many that were.
    pub fn apply_erasures(&mut self, marks: &[(ErasureMark, UnixMillis)]) -> Result<u64, GalleryError> {
        self.write("keep who was erased", |transaction| {
            marks.iter().try_for_each(|(mark, at)| Ok(insert(transaction, *mark, *at)?))
        })?;
        // Also by its own marks: the copy may be of a moment in which an erasure was half restored.
        let erased: HashSet<ErasureMark> = self.erasure_marks()?.into_iter().map(|(mark, _)| mark).collect();
        let mut removed = 0;
        for id in self.subject_ids()? {
            if erased.contains(&id.mark()) {
                self.remove(id)?;
                removed += 1;
            }
        }
        Ok(removed)
    }
}
