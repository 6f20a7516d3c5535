//! The gallery on disk: one SQLCipher database, one writing connection. Lives on the thread
//! `store`; a command-line tool beside the daemon opens its own, and each notices the other's
//! commits through [`GalleryStore::changed_by_others`].
//!
//! Names leave this file only inside [`SubjectName`]; errors carry none.

mod door;
mod erasure;
mod error;
mod groups;
mod listing;
mod pictures;
mod presence;
mod rows;
mod upkeep;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};
use zeroize::Zeroizing;

use crate::clock::{Clock, UnixMillis};
use crate::database::{self, DatabaseError, Schema};
use crate::embedding::EmbeddingSpaceId;
use crate::media::{MediaFolder, MediaName};
use crate::vault::{KeyPurpose, RootKey, StateFolder, Subkeys};

use super::records::{
    EnrolledSubject, Enrolment, EnrolmentReceipt, EnrolmentTarget, RemovalReceipt, SampleId, SampleRecord,
    Statistics, SubjectEdit, SubjectId, SubjectName, TemplateId,
};
use super::snapshot::GallerySnapshot;
use pictures::Album;
use rows::{
    LoadError, Refusal, SELECT_SUBJECT, WriteError, decode, insert_sample, insert_subject, read_groups,
    read_sample, read_snapshot, read_subject, touch, update_snapshot, write_words,
};

pub use door::{ListedCredential, MAX_CREDENTIALS, MadeCredential, NewCredential};
pub(crate) use erasure::marks_of;
pub use error::GalleryError;
pub(crate) use pictures::media_of;
pub use presence::{Consent, ConsentWay, MAX_GIVEN_BY_CHARS, MAX_TEXT_VERSION_CHARS, erased_unseen_at};
pub use upkeep::{CounterExampleChoice, CounterExampleReceipt, MAX_COUNTER_EXAMPLES, StaleSample, Staleness};

/// Name of the database in the state folder.
pub const DATABASE_FILE: &str = "gallery.db";
/// Version 2: whether a subject asked for a sensor of its own in home automation.
const ANNOUNCED: &str =
    "alter table subject add column announced integer not null default 0 check (announced in (0, 1))";

/// Version 3: pictures of samples, groups, and the words that names are searched by.
const PICTURES_AND_GROUPS: &str = include_str!("schema-3.sql");

/// Version 5: the door's policy, its secret, PINs and passes.
const DOOR: &str = include_str!("schema-5.sql");

/// Version 4: pictures in files, when subjects were last seen, consent, and what was erased.
const PERSONAL_DATA: &str = include_str!("schema-4.sql");

pub(super) const SCHEMA: Schema = Schema {
    file: DATABASE_FILE,
    remedy: "restore a backup, or move it away and enrol anew",
    // "limn"
    application_id: 0x6c69_6d6e,
    script: include_str!("schema.sql"),
    precious: true,
    steps: &[ANNOUNCED, PICTURES_AND_GROUPS, PERSONAL_DATA, DOOR],
};

/// For copies of it.
pub(crate) fn gallery_schema() -> &'static Schema {
    &SCHEMA
}

/// Most samples of one enrolment: bounds the work of one transaction.
pub const MAX_SAMPLES: usize = 256;
const MAX_NOTES_CHARS: usize = 2000;
/// Most groups: they are listed as a whole.
const MAX_GROUPS: usize = 200;

/// The gallery's database and its one writing connection.
pub struct GalleryStore {
    connection: Connection,
    media: Arc<MediaFolder>,
    path: PathBuf,
    clock: Arc<dyn Clock>,
    /// `pragma data_version`: changes when another connection commits, not when this one does.
    data_version: i64,
}

impl std::fmt::Debug for GalleryStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "GalleryStore {{ {} }}", self.path.display())
    }
}

impl GalleryStore {
    /// Opens the database in the state folder, making it where there is none, and brings it to the
    /// present schema. Nothing is written before the key has proved right.
    pub fn open(state: &StateFolder, key: &RootKey, clock: Arc<dyn Clock>) -> Result<Self, GalleryError> {
        let path = state.path().join(DATABASE_FILE);
        let connection = database::open_or_create(state, &key.subkeys(KeyPurpose::Database), &SCHEMA)?;
        let media = Arc::new(MediaFolder::open(state)?);
        let mut store = Self { connection, media, path, clock, data_version: 0 };
        store.sweep_media()?;
        store.changed_by_others()?;
        Ok(store)
    }

    /// Encrypts the database anew; the pictures follow by [`Self::renew_media_key`].
    pub(crate) fn rekey(&mut self, keys: &Subkeys) -> Result<(), GalleryError> {
        Ok(database::rekey(&mut self.connection, &self.path, &SCHEMA, keys)?)
    }

    /// Where the database is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether another connection, of this process or another one, has committed since this was
    /// last asked. Costs a read of the log's header: fit to be asked every second.
    pub fn changed_by_others(&mut self) -> Result<bool, GalleryError> {
        let version = self
            .connection
            .query_row("pragma data_version", [], |row| row.get(0))
            .map_err(self.failed("look for changes"))?;
        Ok(std::mem::replace(&mut self.data_version, version) != version)
    }

    /// Carries out an enrolment in one transaction. When this returns, it is on the disk.
    pub fn enrol(&mut self, enrolment: &Enrolment) -> Result<EnrolmentReceipt, GalleryError> {
        self.enrol_with(enrolment, &SubjectEdit::default())
    }

    /// The same, with a change of the subject in the same transaction.
    pub fn enrol_with(
        &mut self,
        enrolment: &Enrolment,
        edit: &SubjectEdit,
    ) -> Result<EnrolmentReceipt, GalleryError> {
        match enrolment.samples.len() {
            0 => return Err(GalleryError::NoSamples),
            found if found > MAX_SAMPLES => return Err(GalleryError::TooManySamples { found }),
            _ => {}
        }
        let now = self.clock.wall();
        let media = Arc::clone(&self.media);
        let mut album = Album::new(&media);
        let done = self.write("enrol", |transaction| {
            let (subject, created) = match &enrolment.subject {
                EnrolmentTarget::New(name) => (insert_subject(transaction, name, now)?, true),
                EnrolmentTarget::Existing(id) => {
                    touch(transaction, *id, now)?;
                    presence::seen(transaction, *id, now)?;
                    (*id, false)
                }
            };
            let mut templates = Vec::with_capacity(enrolment.samples.len());
            for sample in &enrolment.samples {
                templates.push(insert_sample(transaction, subject, sample, now, &mut album)?);
            }
            write_edit(transaction, subject, edit)?;
            album.close()?;
            Ok(EnrolmentReceipt { subject, created, templates, enrolled_at: now })
        });
        if done.is_err() && album.has_pictures() {
            self.sweep_after_failure();
        }
        done
    }

    /// All subjects, in the order of their names.
    pub fn subjects(&self) -> Result<Vec<EnrolledSubject>, GalleryError> {
        self.read("list the subjects", |db| {
            let mut query = db.prepare_cached(&format!("{SELECT_SUBJECT} order by s.name_key"))?;
            let mut subjects = query.query_map([], read_subject)?.collect::<Result<Vec<_>, _>>()?;
            read_groups(db, &mut subjects)?;
            Ok(subjects)
        })
    }

    /// The ids of all subjects.
    pub fn subject_ids(&self) -> Result<BTreeSet<SubjectId>, GalleryError> {
        self.read("list the subjects", |db| {
            let mut query = db.prepare_cached("select id from subject")?;
            query.query_map([], |row| row.get(0).map(SubjectId::from_bytes))?.collect()
        })
    }

    /// The subject of this name, upper and lower case alike.
    pub fn subject_named(&self, name: &SubjectName) -> Result<Option<EnrolledSubject>, GalleryError> {
        let key = Zeroizing::new(name.key());
        self.read("look up a subject", |db| {
            let found = db
                .prepare_cached(&format!("{SELECT_SUBJECT} where s.name_key = ?1"))?
                .query_row([key.as_str()], read_subject)
                .optional()?;
            with_groups(db, found)
        })
    }

    /// The subject with this id.
    pub fn subject(&self, id: SubjectId) -> Result<Option<EnrolledSubject>, GalleryError> {
        self.read("look up a subject", |db| {
            let found = db
                .prepare_cached(&format!("{SELECT_SUBJECT} where s.id = ?1"))?
                .query_row([id.as_bytes()], read_subject)
                .optional()?;
            with_groups(db, found)
        })
    }

    /// The samples and templates of one subject, oldest first.
    pub fn samples_of(&self, id: SubjectId) -> Result<Vec<SampleRecord>, GalleryError> {
        self.read("list the samples of a subject", |db| {
            let mut query = db.prepare_cached(
                "select t.id, t.embedding_space, s.origin, s.quality, s.eye_distance_px, s.sharpness,
                        s.yaw_deg, s.pitch_deg, s.roll_deg, t.enrolled_at, s.id,
                        exists (select 1 from picture p where p.sample = s.id)
                 from template t join sample s on s.id = t.sample
                 where t.subject = ?1 order by t.id",
            )?;
            query.query_map([id.as_bytes()], read_sample)?.collect()
        })
    }

    /// Changes a subject, wholly or not at all.
    pub fn edit(&mut self, id: SubjectId, edit: &SubjectEdit) -> Result<(), GalleryError> {
        let now = self.clock.wall();
        self.write("change a subject", |transaction| {
            touch(transaction, id, now)?;
            write_edit(transaction, id, edit)
        })?;
        // A name or note that is no longer meant to be known must not stay in the log.
        if edit.name.is_some() || edit.notes.is_some() { self.empty_log().map(|_| ()) } else { Ok(()) }
    }

    /// Gives a subject another name.
    pub fn rename(&mut self, id: SubjectId, name: &SubjectName) -> Result<(), GalleryError> {
        self.edit(id, &SubjectEdit { name: Some(name.clone()), ..SubjectEdit::default() })
    }

    /// Sets what the operator notes about a subject; blank text removes the note.
    pub fn set_notes(&mut self, id: SubjectId, notes: &str) -> Result<(), GalleryError> {
        self.edit(id, &SubjectEdit { notes: Some(notes.to_owned()), ..SubjectEdit::default() })
    }

    /// Sets when a subject stops being recognised, or that it never does.
    pub fn set_expiry(&mut self, id: SubjectId, at: Option<UnixMillis>) -> Result<(), GalleryError> {
        self.edit(id, &SubjectEdit { expires_at: Some(at), ..SubjectEdit::default() })
    }

    /// Sets whether a subject has a sensor of its own in home automation.
    pub fn set_announced(&mut self, id: SubjectId, announced: bool) -> Result<(), GalleryError> {
        self.edit(id, &SubjectEdit { announced: Some(announced), ..SubjectEdit::default() })
    }

    /// Removes a subject with everything kept about it. The freed places are overwritten and the log
    /// is emptied, so that not even the holder of the key finds anything of it in these files.
    pub fn remove(&mut self, id: SubjectId) -> Result<RemovalReceipt, GalleryError> {
        self.forget_former(true)?;
        let now = self.clock.wall();
        let (receipt, files) = self.write("remove a subject", |transaction| {
            let files = pictures::files_of(transaction, id)?;
            let count = |sql: &str| transaction.prepare_cached(sql)?.query_row([id.as_bytes()], |r| r.get(0));
            let templates: u64 = count("select count(*) from template where subject = ?1")?;
            let samples: u64 = count("select count(*) from sample where subject = ?1")?;
            let pictures: u64 = count(
                "select count(*) from sample s join picture p on p.sample = s.id where s.subject = ?1",
            )?;
            let subjects =
                transaction.prepare_cached("delete from subject where id = ?1")?.execute([id.as_bytes()])?;
            if subjects == 0 {
                return Err(Refusal::SubjectUnknown.into());
            }
            erasure::note(transaction, id, now)?;
            let subjects = subjects as u64;
            Ok((
                RemovalReceipt { subjects, samples, templates, pictures, ..RemovalReceipt::default() },
                files,
            ))
        })?;
        self.settle(receipt, &files)
    }

    /// Removes one template; its sample goes with the last template made of it. The subject stays.
    pub fn remove_template(&mut self, id: TemplateId) -> Result<RemovalReceipt, GalleryError> {
        self.forget_former(true)?;
        let now = self.clock.wall();
        let (receipt, file) = self.write("remove a template", |transaction| {
            let (sample, subject): (i64, [u8; 16]) = transaction
                .prepare_cached("select sample, subject from template where id = ?1")?
                .query_row([id.0], |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()?
                .ok_or(Refusal::TemplateUnknown)?;
            touch(transaction, SubjectId::from_bytes(subject), now)?;
            transaction.prepare_cached("delete from template where id = ?1")?.execute([id.0])?;
            let (pictures, file) = pictures::delete(
                transaction,
                "delete from picture where sample = ?1
                 and not exists (select 1 from template where sample = ?1) returning file",
                sample,
            )?;
            let samples = transaction
                .prepare_cached(
                    "delete from sample where id = ?1
                     and not exists (select 1 from template where sample = ?1)",
                )?
                .execute([sample])?;
            let samples = samples as u64;
            let receipt = RemovalReceipt { samples, templates: 1, pictures, ..RemovalReceipt::default() };
            Ok((receipt, file))
        })?;
        self.settle(receipt, file.as_slice())
    }

    /// Removes one sample with its picture and every template made of it. The subject stays.
    pub fn remove_sample(&mut self, id: SampleId) -> Result<(SubjectId, RemovalReceipt), GalleryError> {
        self.forget_former(true)?;
        let now = self.clock.wall();
        let (subject, receipt, file) = self.write("remove a sample", |transaction| {
            let subject: [u8; 16] = transaction
                .prepare_cached("select subject from sample where id = ?1")?
                .query_row([id.0], |row| row.get(0))
                .optional()?
                .ok_or(Refusal::SampleUnknown)?;
            let subject = SubjectId::from_bytes(subject);
            touch(transaction, subject, now)?;
            let delete = |sql: &str| transaction.prepare_cached(sql)?.execute([id.0]).map(|rows| rows as u64);
            let templates = delete("delete from template where sample = ?1")?;
            let (pictures, file) =
                pictures::delete(transaction, "delete from picture where sample = ?1 returning file", id.0)?;
            let samples = delete("delete from sample where id = ?1")?;
            let receipt = RemovalReceipt { samples, templates, pictures, ..RemovalReceipt::default() };
            Ok((subject, receipt, file))
        })?;
        Ok((subject, self.settle(receipt, file.as_slice())?))
    }

    /// Throws copies from before an upgrade away: all, before something is removed that would still be in them,
    /// or those that were kept for long enough.
    pub(crate) fn forget_former(&self, all: bool) -> Result<(), GalleryError> {
        let state = self.path.parent().unwrap_or(Path::new("."));
        Ok(database::forget_former(state, all)?)
    }

    /// What follows a removal that is committed.
    fn settle(
        &mut self,
        receipt: RemovalReceipt,
        files: &[MediaName],
    ) -> Result<RemovalReceipt, GalleryError> {
        let files_left = self.media.remove(files);
        Ok(RemovalReceipt { log_emptied: self.empty_log()?, files_left, ..receipt })
    }

    /// Reads every template of one embedding space whose subject has not expired. Call it anew after
    /// a change and when [`next_expiry`](super::SnapshotReport::next_expiry) has come.
    pub fn load_snapshot(&self, space: &EmbeddingSpaceId) -> Result<GallerySnapshot, GalleryError> {
        let now = self.clock.wall();
        self.load("load the gallery", |db| read_snapshot(db, space, now))
    }

    /// `before` brought up to date with what is now on the disk of one subject; for changes by this
    /// connection. Equals [`load_snapshot`](Self::load_snapshot) where nothing else has changed and
    /// nobody else has expired.
    pub fn update_snapshot(
        &self,
        before: &GallerySnapshot,
        id: SubjectId,
    ) -> Result<GallerySnapshot, GalleryError> {
        let now = self.clock.wall();
        self.load("load a subject", |db| update_snapshot(db, before, id, now))
    }

    /// Runs in one transaction: subjects and templates of one moment.
    fn load(
        &self,
        what: &'static str,
        run: impl FnOnce(&Connection) -> Result<GallerySnapshot, LoadError>,
    ) -> Result<GallerySnapshot, GalleryError> {
        let transaction = self.connection.unchecked_transaction().map_err(self.failed(what))?;
        let snapshot = run(&transaction).map_err(|error| match error {
            LoadError::Sqlite(error) => self.failed(what)(error),
            LoadError::Damaged(found) => {
                DatabaseError::Damaged { path: self.path.clone(), found, remedy: SCHEMA.remedy }.into()
            }
        })?;
        transaction.finish().map_err(self.failed(what))?;
        Ok(snapshot)
    }

    /// How much the gallery holds.
    pub fn statistics(&self) -> Result<Statistics, GalleryError> {
        self.read("count the gallery", |db| {
            let one = |sql: &str| db.query_row(sql, [], |row| row.get::<_, u64>(0));
            let mut spaces = db.prepare_cached(
                "select name, e.dimensions, count(t.id) from embedding_space e
                 left join template t on t.embedding_space = e.name group by name order by name",
            )?;
            let templates =
                spaces.query_map([], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?)))?.collect::<Result<_, _>>()?;
            Ok(Statistics {
                subjects: one("select count(*) from subject")?,
                samples: one("select count(*) from sample")?,
                pictures: one("select count(*) from picture")?,
                templates,
                // Zero if it vanished meanwhile; the next access to the database reports that.
                database_bytes: self.path.metadata().map_or(0, |file| file.len()),
                schema_version: SCHEMA.version(),
            })
        })
    }

    /// Reads the whole database and checks it: every page's authentication code, the structure, the
    /// references, and that every template is an embedding. The findings name pages, tables and row
    /// numbers only; none means that all is well.
    pub fn integrity_check(&self) -> Result<Vec<String>, GalleryError> {
        self.read("check the database", |db| {
            let lines = |sql: &str| -> rusqlite::Result<Vec<String>> {
                db.prepare(sql)?.query_map([], |row| row.get(0))?.collect()
            };
            let mut findings = lines("pragma cipher_integrity_check")?;
            findings.extend(lines("pragma integrity_check")?.into_iter().filter(|line| line != "ok"));
            let mut query = db.prepare("pragma foreign_key_check")?;
            let broken = query.query_map([], |row| row.get::<_, String>(0))?;
            for table in broken {
                findings.push(format!("a row of {} refers to something that is not there", table?));
            }
            let mut query = db.prepare("select id, embedding_space, embedding from template")?;
            let mut rows = query.query([])?;
            while let Some(row) = rows.next()? {
                let space = EmbeddingSpaceId::new(row.get_ref(1)?.as_str().unwrap_or_default());
                if decode(row.get_ref(2)?.as_blob().unwrap_or_default(), &space).is_none() {
                    findings.push(format!("template {} is not an embedding", row.get::<_, i64>(0)?));
                }
            }
            Ok(findings)
        })
        .and_then(|mut findings| {
            findings.extend(self.check_pictures()?);
            Ok(findings)
        })
    }

    /// Moves the log into the database and cuts it to nothing, so that overwritten content leaves
    /// it. False if another connection was in the way.
    fn empty_log(&mut self) -> Result<bool, GalleryError> {
        let busy: i64 = self
            .connection
            .query_row("pragma wal_checkpoint(truncate)", [], |row| row.get(0))
            .map_err(self.failed("empty the log"))?;
        Ok(busy == 0)
    }

    fn read<T>(
        &self,
        what: &'static str,
        run: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, GalleryError> {
        run(&self.connection).map_err(self.failed(what))
    }

    fn write<T>(
        &mut self,
        what: &'static str,
        run: impl FnOnce(&Transaction<'_>) -> Result<T, WriteError>,
    ) -> Result<T, GalleryError> {
        let path = &self.path;
        let failed = |error| match error {
            WriteError::Sqlite(error) => DatabaseError::sqlite(path, &SCHEMA, what, error).into(),
            WriteError::Refused(refusal) => refusal.into(),
            WriteError::NoRandomness(error) => GalleryError::NoRandomness(error),
            WriteError::Media(error) => error.into(),
        };
        // Immediate: the lock is taken before the first read, so that nothing read can be outdated
        // by the time of the write. Dropped without commit, a transaction is rolled back.
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(|error| failed(error.into()))?;
        let value = run(&transaction).map_err(failed)?;
        transaction.commit().map_err(|error| failed(error.into()))?;
        Ok(value)
    }

    fn failed(&self, what: &'static str) -> impl Fn(rusqlite::Error) -> GalleryError + '_ {
        move |error| DatabaseError::sqlite(&self.path, &SCHEMA, what, error).into()
    }
}

fn with_groups(db: &Connection, found: Option<EnrolledSubject>) -> rusqlite::Result<Option<EnrolledSubject>> {
    let mut found = found;
    read_groups(db, found.as_mut_slice())?;
    Ok(found)
}

fn write_edit(transaction: &Transaction<'_>, id: SubjectId, edit: &SubjectEdit) -> Result<(), WriteError> {
    let SubjectEdit { name, notes, groups, expires_at, announced, keep_unseen_days } = edit;
    if let Some(name) = name {
        write_name(transaction, id, name)?;
    }
    if let Some(notes) = notes {
        write_notes(transaction, id, notes)?;
    }
    if let Some(groups) = groups {
        groups::write_memberships(transaction, id, groups)?;
    }
    if let Some(at) = expires_at {
        transaction
            .prepare_cached("update subject set expires_at = ?2 where id = ?1")?
            .execute(params![id.as_bytes(), at.map(|at| at.0)])?;
    }
    if let Some(days) = keep_unseen_days {
        presence::write_keep_unseen(transaction, id, *days)?;
    }
    if let Some(announced) = announced {
        transaction
            .prepare_cached("update subject set announced = ?2 where id = ?1")?
            .execute(params![id.as_bytes(), announced])?;
    }
    Ok(())
}

fn write_name(transaction: &Transaction<'_>, id: SubjectId, name: &SubjectName) -> Result<(), WriteError> {
    let key = Zeroizing::new(name.key());
    let other: Option<[u8; 16]> = transaction
        .prepare_cached("select id from subject where name_key = ?1")?
        .query_row([key.as_str()], |row| row.get(0))
        .optional()?;
    if other.is_some_and(|other| other != *id.as_bytes()) {
        return Err(Refusal::NameTaken.into());
    }
    transaction
        .prepare_cached("update subject set name = ?2, name_key = ?3 where id = ?1")?
        .execute(params![id.as_bytes(), name.as_str(), key.as_str()])?;
    Ok(write_words(transaction, id, name)?)
}

fn write_notes(transaction: &Transaction<'_>, id: SubjectId, notes: &str) -> Result<(), WriteError> {
    let notes = notes.trim();
    if notes.chars().count() > MAX_NOTES_CHARS {
        return Err(Refusal::NotesTooLong.into());
    }
    transaction
        .prepare_cached("update subject set notes = nullif(?2, '') where id = ?1")?
        .execute(params![id.as_bytes(), notes])?;
    Ok(())
}
