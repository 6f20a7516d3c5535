//! Pictures of samples: rows that say which file holds one, and the key of each subject's files.

use std::collections::HashSet;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, Transaction, params};

use crate::database::DatabaseError;
use crate::gallery::records::{SampleId, SubjectId};
use crate::media::{MediaError, MediaFolder, MediaKey, MediaName, PictureOf};

use super::rows::WriteError;
use super::{GalleryError, GalleryStore};

/// Pictures that one transaction adds.
pub(super) struct Album<'a> {
    media: &'a MediaFolder,
    written: usize,
}

impl<'a> Album<'a> {
    pub(super) fn new(media: &'a MediaFolder) -> Self {
        Self { media, written: 0 }
    }

    pub(super) fn add(
        &mut self,
        transaction: &Transaction<'_>,
        subject: SubjectId,
        sample: SampleId,
        jpeg: &[u8],
    ) -> Result<(), WriteError> {
        let file = self.write(transaction, PictureOf { subject, sample }, jpeg)?;
        transaction
            .prepare_cached("insert into picture (sample, file) values (?1, ?2)")?
            .execute(params![sample.0, file.0])?;
        Ok(())
    }

    fn write(
        &mut self,
        transaction: &Transaction<'_>,
        whose: PictureOf,
        jpeg: &[u8],
    ) -> Result<MediaName, WriteError> {
        let key = match key_of(transaction, whose.subject)? {
            Some(key) => key,
            None => new_key(transaction, whose.subject)?,
        };
        self.written += 1;
        Ok(self.media.write(&key, whose, jpeg)?)
    }

    /// Before the transaction commits: what it refers to is on the disk.
    pub(super) fn close(&self) -> Result<(), MediaError> {
        if self.has_pictures() { self.media.sync() } else { Ok(()) }
    }

    pub(super) fn has_pictures(&self) -> bool {
        self.written > 0
    }
}

fn key_of(db: &Connection, subject: SubjectId) -> rusqlite::Result<Option<MediaKey>> {
    db.prepare_cached("select key from media_key where subject = ?1")?
        .query_row([subject.as_bytes()], |row| row.get(0).map(MediaKey::from_bytes))
        .optional()
}

fn new_key(transaction: &Transaction<'_>, subject: SubjectId) -> Result<MediaKey, WriteError> {
    let key = MediaKey::random().map_err(WriteError::NoRandomness)?;
    transaction
        .prepare_cached(
            "insert into media_key (subject, key) values (?1, ?2)
             on conflict (subject) do update set key = excluded.key",
        )?
        .execute(params![subject.as_bytes(), key.as_bytes()])?;
    Ok(key)
}

/// The files of a subject's pictures.
pub(super) fn files_of(db: &Connection, subject: SubjectId) -> rusqlite::Result<Vec<MediaName>> {
    db.prepare_cached(
        "select p.file from sample s join picture p on p.sample = s.id
         where s.subject = ?1 and p.file is not null",
    )?
    .query_map([subject.as_bytes()], |row| row.get(0).map(MediaName))?
    .collect()
}

impl GalleryStore {
    /// Erases up to so many pictures, whoever's they are; how many.
    pub(crate) fn drop_pictures(&mut self, limit: u32) -> Result<u64, GalleryError> {
        let any: bool = self.read("look for pictures", |db| {
            db.query_row("select exists (select 1 from picture)", [], |row| row.get(0))
        })?;
        if !any {
            return Ok(0);
        }
        // They would be in there still.
        self.forget_former(true)?;
        let files = self.write("erase pictures", |transaction| {
            let mut query = transaction.prepare_cached(
                "delete from picture where sample in (select sample from picture limit ?1) returning file",
            )?;
            let files: Vec<Option<[u8; 32]>> =
                query.query_map([limit], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
            Ok(files)
        })?;
        let names: Vec<MediaName> = files.iter().flatten().map(|file| MediaName(*file)).collect();
        self.media.remove(&names);
        self.empty_log()?;
        Ok(files.len() as u64)
    }
}

/// Runs a statement that deletes at most one picture and returns its file: how many, and which file is to
/// go once that is committed.
pub(super) fn delete(
    transaction: &Transaction<'_>,
    statement: &str,
    sample: i64,
) -> rusqlite::Result<(u64, Option<MediaName>)> {
    let deleted: Option<Option<[u8; 32]>> =
        transaction.prepare_cached(statement)?.query_row([sample], |row| row.get(0)).optional()?;
    Ok((deleted.is_some().into(), deleted.flatten().map(MediaName)))
}

/// The files that a database, or a copy of one, refers to.
pub(crate) fn media_of(db: &Connection) -> rusqlite::Result<HashSet<MediaName>> {
    let mut query = db.prepare("select file from picture where file is not null")?;
    query.query_map([], |row| row.get(0).map(MediaName))?.collect()
}

/// Where a picture is: in a file, or still in the row.
enum Kept {
    File(MediaName, MediaKey),
    Row(Vec<u8>),
}

const SELECT_PICTURE: &str = "select p.sample, s.subject, p.file, p.jpeg, k.key
    from picture p join sample s on s.id = p.sample left join media_key k on k.subject = s.subject";

fn read_picture(row: &rusqlite::Row<'_>) -> rusqlite::Result<(PictureOf, Kept)> {
    let whose = PictureOf { sample: SampleId(row.get(0)?), subject: SubjectId::from_bytes(row.get(1)?) };
    let kept = match row.get::<_, Option<[u8; 32]>>(2)? {
        Some(file) => Kept::File(MediaName(file), MediaKey::from_bytes(row.get(4)?)),
        None => Kept::Row(row.get(3)?),
    };
    Ok((whose, kept))
}

impl GalleryStore {
    /// The picture of a sample, where one is kept. JPEG.
    pub fn picture(&self, id: SampleId) -> Result<Option<Vec<u8>>, GalleryError> {
        let kept = self.read("read a picture", |db| {
            db.prepare_cached(&format!("{SELECT_PICTURE} where p.sample = ?1"))?
                .query_row([id.0], read_picture)
                .optional()
        })?;
        match kept {
            None => Ok(None),
            Some((whose, kept)) => Ok(Some(self.open_picture(whose, kept)?)),
        }
    }

    fn open_picture(&self, whose: PictureOf, kept: Kept) -> Result<Vec<u8>, MediaError> {
        match kept {
            Kept::File(name, key) => self.media.read(name, &key, whose),
            Kept::Row(jpeg) => Ok(jpeg),
        }
    }

    /// Moves up to `most` pictures that an older version kept in the database into files; returns how many
    /// it moved.
    pub fn move_pictures(&mut self, most: u32) -> Result<usize, GalleryError> {
        let rows: Vec<(PictureOf, Kept)> = self.read("look for pictures to move", |db| {
            db.prepare_cached(&format!("{SELECT_PICTURE} where p.jpeg is not null limit ?1"))?
                .query_map([most], read_picture)?
                .collect()
        })?;
        if rows.is_empty() {
            return Ok(0);
        }
        let media = Arc::clone(&self.media);
        let mut album = Album::new(&media);
        let moved = self.write("move pictures", |transaction| {
            let mut moved = 0;
            for (whose, kept) in &rows {
                let Kept::Row(jpeg) = kept else { continue };
                let file = album.write(transaction, *whose, jpeg)?;
                // Whose sample was removed meanwhile has no row, and the file is swept.
                moved += transaction
                    .prepare_cached("update picture set file = ?2, jpeg = null where sample = ?1")?
                    .execute(params![whose.sample.0, file.0])?;
            }
            album.close()?;
            Ok(moved)
        });
        if moved.is_err() {
            self.sweep_after_failure();
        }
        moved
    }

    /// Encrypts the pictures of up to `limit` subjects anew, of those with pictures whose ids follow `after`:
    /// of how many, and the last of them.
    pub fn renew_media_keys(
        &mut self,
        after: Option<SubjectId>,
        limit: u32,
    ) -> Result<(u32, Option<SubjectId>), GalleryError> {
        let subjects: Vec<SubjectId> = self.read("look for pictures", |db| {
            let after = after.as_ref().map(SubjectId::as_bytes);
            db.prepare_cached(
                "select subject from media_key where ?1 is null or subject > ?1 order by subject limit ?2",
            )?
            .query_map(params![after, limit], |row| row.get(0).map(SubjectId::from_bytes))?
            .collect()
        })?;
        for subject in &subjects {
            self.renew_media_key(*subject)?;
        }
        Ok((subjects.len() as u32, subjects.last().copied()))
    }

    /// Encrypts the pictures of a subject anew under a new key, so that whoever knew the one before can read
    /// none of them.
    fn renew_media_key(&mut self, subject: SubjectId) -> Result<(), GalleryError> {
        let pictures: Vec<(PictureOf, Kept)> = self.read("read pictures", |db| {
            db.prepare_cached(&format!("{SELECT_PICTURE} where s.subject = ?1 and p.file is not null"))?
                .query_map([subject.as_bytes()], read_picture)?
                .collect()
        })?;
        if pictures.is_empty() {
            return Ok(());
        }
        let mut plain = Vec::with_capacity(pictures.len());
        let mut old = Vec::with_capacity(pictures.len());
        for (whose, kept) in pictures {
            let Kept::File(name, _) = kept else { continue };
            match self.open_picture(whose, kept) {
                Ok(jpeg) => {
                    plain.push((whose, jpeg));
                    old.push(name);
                }
                // It is lost already, and its row goes on telling so.
                Err(error @ (MediaError::Missing { .. } | MediaError::Damaged { .. })) => {
                    tracing::warn!(%error, "a picture could not be encrypted anew");
                }
                Err(error) => return Err(error.into()),
            }
        }
        let media = Arc::clone(&self.media);
        let mut album = Album::new(&media);
        let done = self.write("encrypt pictures anew", |transaction| {
            new_key(transaction, subject)?;
            for (whose, jpeg) in &plain {
                let file = album.write(transaction, *whose, jpeg)?;
                transaction
                    .prepare_cached("update picture set file = ?2 where sample = ?1")?
                    .execute(params![whose.sample.0, file.0])?;
            }
            Ok(album.close()?)
        });
        match done {
            Ok(()) => drop(self.media.remove(&old)),
            Err(_) => self.sweep_after_failure(),
        }
        done
    }

    /// Takes away files that no row refers to, which a crash left behind. Nobody adds one meanwhile: files
    /// are only written by whoever has the database for writing. Where that is somebody else just now, it is
    /// left to the next start.
    pub(super) fn sweep_media(&mut self) -> Result<(), GalleryError> {
        let media = Arc::clone(&self.media);
        let swept = self.write("look for files left behind", |db| Ok(media.sweep(&media_of(db)?)?));
        let swept = match swept {
            // Nothing can be swept where nothing can be written.
            Err(GalleryError::Database(DatabaseError::Busy { .. } | DatabaseError::ReadOnly { .. })) => 0,
            other => other?,
        };
        if swept > 0 {
            tracing::info!(files = swept, "picture files that nothing refers to were removed");
        }
        Ok(())
    }

    pub(super) fn sweep_after_failure(&mut self) {
        if let Err(error) = self.sweep_media() {
            tracing::warn!(%error, "picture files of a failed change may be left; they go at the next start");
        }
    }

    /// Reads every picture; the findings name samples only.
    pub(super) fn check_pictures(&self) -> Result<Vec<String>, GalleryError> {
        let kept: Vec<SampleId> = self.read("check the pictures", |db| {
            db.prepare("select sample from picture order by sample")?
                .query_map([], |row| row.get(0).map(SampleId))?
                .collect()
        })?;
        let mut findings = Vec::new();
        for sample in kept {
            match self.picture(sample) {
                Ok(_) => {}
                Err(GalleryError::Media(error)) => findings.push(format!("sample {}: {error}", sample.0)),
                Err(error) => return Err(error),
            }
        }
        Ok(findings)
    }
}
