//! Unknown faces on the disk: one SQLCipher database. Lives on the thread `store`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Row, Transaction, TransactionBehavior, params};
use thiserror::Error;
use zeroize::Zeroizing;

use super::Sighting;
use super::grouping::{GroupingThresholds, Groups, SightingGroupId, redundant};
use crate::clock::{Clock, UnixMillis};
use crate::database::{self, DatabaseError, Schema};
use crate::embedding::{Embedding, EmbeddingSpaceId};
use crate::gallery::SampleQuality;
use crate::score::QualityScore;
use crate::vault::{StateFolder, Subkeys};

/// Name of the database in the state folder.
pub const SIGHTINGS_FILE: &str = "sightings.db";

/// For whoever changes its key.
pub(crate) fn sightings_schema() -> &'static Schema {
    &SCHEMA
}

const SCHEMA: Schema = Schema {
    file: SIGHTINGS_FILE,
    remedy: "move it away: it holds nothing but unknown faces of the last hours",
    // "limS"
    application_id: 0x6c69_6d53,
    script: include_str!("schema.sql"),
    precious: false,
    steps: &[],
};

/// JPEG quality of a kept picture.
const JPEG_QUALITY: u8 = 90;
/// Sightings erased in one go, so that retention never keeps an event waiting for long.
const ERASED_AT_ONCE: u32 = 200;

/// Why a sighting could not be kept or found. Carries no content.
#[derive(Debug, Error)]
pub enum SightingError {
    /// The database cannot be used.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The picture cannot be a JPEG.
    #[error("the picture of a face could not be encoded")]
    Picture,
}

/// What is kept, and for how long.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SightingLimits {
    /// Each sighting is erased after this long.
    pub keep: Duration,
    /// The oldest of more sightings than this are erased.
    pub most: u32,
    /// When a sighting joins a group.
    pub grouping: GroupingThresholds,
}

/// A group as it is listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupRecord {
    /// Its number.
    pub id: SightingGroupId,
    /// Visits, those no longer kept included.
    pub count: u64,
    /// When it was seen first.
    pub first_seen_at: UnixMillis,
    /// When it was seen last.
    pub last_seen_at: UnixMillis,
    /// When its last sighting is erased.
    pub expires_at: UnixMillis,
    /// Hidden, and not to be asked about.
    pub ignored: bool,
    /// Sightings with a picture.
    pub pictures: u64,
}

/// Where a list of groups goes on: after this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupCursor {
    /// When it was seen last.
    pub last_seen_at: UnixMillis,
    /// Its number.
    pub id: SightingGroupId,
}

/// A sighting that is kept. Biometric data.
#[derive(Clone)]
pub struct KeptSighting {
    /// When.
    pub seen_at: UnixMillis,
    /// How usable.
    pub quality: SampleQuality,
    /// Its embedding.
    pub embedding: Embedding,
    /// The face with what is around it.
    pub jpeg: Vec<u8>,
}

impl std::fmt::Debug for KeptSighting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeptSighting(..)")
    }
}

/// The database of unknown faces and its one connection.
pub struct SightingStore {
    connection: Connection,
    path: PathBuf,
    clock: Arc<dyn Clock>,
    limits: SightingLimits,
    groups: Groups,
}

impl std::fmt::Debug for SightingStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SightingStore {{ {} }}", self.path.display())
    }
}

/// Erases what an earlier run kept, when nothing is to be kept any more. True if there was anything.
pub fn erase_files(state: &StateFolder, keys: &Subkeys) -> Result<bool, SightingError> {
    let path = state.path().join(SIGHTINGS_FILE);
    if path.symlink_metadata().is_err() {
        return Ok(false);
    }
    // Overwritten first, while it can be. A file that does not open is unreadable as it is.
    if let Ok(connection) = database::open_or_create(state, keys, &SCHEMA) {
        let emptied = connection.execute_batch("delete from sighting_group; pragma wal_checkpoint(truncate)");
        emptied.map_err(|error| DatabaseError::sqlite(&path, &SCHEMA, "erase all unknown faces", error))?;
    }
    for name in ["", "-wal", "-shm"] {
        let path = state.path().join(format!("{SIGHTINGS_FILE}{name}"));
        match std::fs::remove_file(&path) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                return Err(DatabaseError::Io { path, source }.into());
            }
            _ => {}
        }
    }
    Ok(true)
}

impl SightingStore {
    /// Encrypts everything anew.
    pub(crate) fn rekey(&mut self, keys: &Subkeys) -> Result<(), SightingError> {
        Ok(database::rekey(&mut self.connection, &self.path, &SCHEMA, keys)?)
    }

    /// Opens the database in the state folder, making it where there is none. What belongs to another
    /// embedding space can be compared with nothing any more, and is erased.
    pub fn open(
        state: &StateFolder,
        keys: &Subkeys,
        clock: Arc<dyn Clock>,
        space: &EmbeddingSpaceId,
        limits: SightingLimits,
    ) -> Result<Self, SightingError> {
        let path = state.path().join(SIGHTINGS_FILE);
        let connection = database::open_or_create(state, keys, &SCHEMA)?;
        let mut store = Self { connection, path, clock, limits, groups: Groups::new() };
        store.write("erase what is of another network", |transaction| {
            transaction.execute("delete from sighting where embedding_space != ?1", [space.as_str()])?;
            erase_empty_groups(transaction)
        })?;
        store.groups = store.read("load the unknown faces", |db| {
            let mut groups = Groups::new();
            let mut query = db.prepare("select sighting_group, id, embedding from sighting order by id")?;
            let mut rows = query.query([])?;
            while let Some(row) = rows.next()? {
                groups.add(SightingGroupId(row.get(0)?), row.get(1)?, read_embedding(row, 2, space)?);
            }
            Ok(groups)
        })?;
        store.empty_log()?;
        Ok(store)
    }

    /// Keeps otherwise from now on.
    pub fn set_limits(&mut self, limits: SightingLimits) {
        self.limits = limits;
    }

    /// Takes in one visit: it joins the group it looks like, or begins one. Of an ignored group the new
    /// sighting takes the place of an older one, so that it goes on being known.
    pub fn take_in(&mut self, sighting: &Sighting) -> Result<SightingGroupId, SightingError> {
        let jpeg = sighting.crop.to_jpeg(JPEG_QUALITY).ok_or(SightingError::Picture)?;
        let known = self.groups.find(&sighting.embedding, &self.limits.grouping);
        let kept = match known {
            None => Vec::new(),
            Some(group) => self.read("read the quality of sightings", |db| {
                let mut query =
                    db.prepare_cached("select id, quality from sighting where sighting_group = ?1")?;
                let rows = query.query_map([group.0], |row| Ok((row.get(0)?, row.get(1)?)))?;
                rows.collect::<Result<Vec<(i64, f32)>, _>>()
            })?,
        };
        let (group, id) = self.write("keep a sighting", |transaction| {
            let group = match known {
                Some(group) => {
                    transaction
                        .prepare_cached(
                            "update sighting_group set count = count + 1,
                             first_seen_at = min(first_seen_at, ?2), last_seen_at = max(last_seen_at, ?2)
                             where id = ?1",
                        )?
                        .execute(params![group.0, sighting.captured_at.0])?;
                    group
                }
                None => {
                    transaction
                        .prepare_cached(
                            "insert into sighting_group (first_seen_at, last_seen_at, count)
                             values (?1, ?1, 1)",
                        )?
                        .execute([sighting.captured_at.0])?;
                    SightingGroupId(transaction.last_insert_rowid())
                }
            };
            insert(transaction, group, sighting, &jpeg)?;
            Ok((group, transaction.last_insert_rowid()))
        })?;
        self.groups.add(group, id, sighting.embedding.clone());
        let quality = |id: i64| kept.iter().find(|(kept, _)| *kept == id).map(|(_, quality)| *quality);
        let rated: Vec<_> = self
            .groups
            .exemplars(group)
            .iter()
            .map(|(id, embedding)| (quality(*id).unwrap_or(sighting.quality.score.get()), embedding))
            .collect();
        if let Some(at) = redundant(&rated) {
            let gone = self.groups.exemplars(group)[at].0;
            self.write("drop a sighting", |transaction| {
                transaction.prepare_cached("delete from sighting where id = ?1")?.execute([gone])
            })?;
            self.groups.forget(group, gone);
        }
        Ok(group)
    }

    /// Groups, seen last first, from the one after `after` on.
    pub fn list(
        &self,
        ignored: bool,
        after: Option<GroupCursor>,
        limit: usize,
    ) -> Result<Vec<GroupRecord>, SightingError> {
        let keep = i64::try_from(self.limits.keep.as_millis()).unwrap_or(i64::MAX);
        let (at, id) = after.map_or((i64::MAX, i64::MAX), |after| (after.last_seen_at.0, after.id.0));
        self.read("list the unknown faces", |db| {
            let mut query = db.prepare_cached(&format!(
                "{SELECT_GROUP} where g.ignored = ?1 and (g.last_seen_at, g.id) < (?2, ?3)
                 order by g.last_seen_at desc, g.id desc limit ?4"
            ))?;
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            query.query_map(params![ignored, at, id, limit], |row| read_group(row, keep))?.collect()
        })
    }

    /// One group.
    pub fn group(&self, id: SightingGroupId) -> Result<Option<GroupRecord>, SightingError> {
        let keep = i64::try_from(self.limits.keep.as_millis()).unwrap_or(i64::MAX);
        self.read("look up an unknown face", |db| {
            db.prepare_cached(&format!("{SELECT_GROUP} where g.id = ?1"))?
                .query_row([id.0], |row| read_group(row, keep))
                .optional()
        })
    }

    /// The picture of one of its sightings, JPEG: 0 is the best.
    pub fn picture(&self, id: SightingGroupId, number: u32) -> Result<Option<Vec<u8>>, SightingError> {
        self.read("read a picture", |db| {
            db.prepare_cached(
                "select jpeg from sighting where sighting_group = ?1
                 order by quality desc, id desc limit 1 offset ?2",
            )?
            .query_row(params![id.0, number], |row| row.get(0))
            .optional()
        })
    }

    /// The embedding of its best sighting.
    pub fn best(
        &self,
        id: SightingGroupId,
        space: &EmbeddingSpaceId,
    ) -> Result<Option<Embedding>, SightingError> {
        self.read("read a sighting", |db| {
            db.prepare_cached(
                "select embedding from sighting where sighting_group = ?1
                 order by quality desc, id desc limit 1",
            )?
            .query_row([id.0], |row| read_embedding(row, 0, space))
            .optional()
        })
    }

    /// All sightings of a group, the best first.
    pub fn sightings_of(
        &self,
        id: SightingGroupId,
        space: &EmbeddingSpaceId,
    ) -> Result<Vec<KeptSighting>, SightingError> {
        self.read("read the sightings of a face", |db| {
            let mut query = db.prepare_cached(
                "select seen_at, quality, eye_distance_px, sharpness, yaw_deg, pitch_deg, roll_deg,
                        embedding, jpeg
                 from sighting where sighting_group = ?1 order by quality desc, id desc",
            )?;
            query.query_map([id.0], |row| read_sighting(row, space))?.collect()
        })
    }

    /// Hides a group, or shows it again; false if there is none.
    pub fn ignore(&mut self, id: SightingGroupId, ignored: bool) -> Result<bool, SightingError> {
        self.write("ignore an unknown face", |transaction| {
            let changed = transaction
                .prepare_cached("update sighting_group set ignored = ?2 where id = ?1")?
                .execute(params![id.0, ignored])?;
            Ok(changed > 0)
        })
    }

    /// Erases groups; returns how many sightings that concerned.
    pub fn remove(&mut self, ids: &[SightingGroupId]) -> Result<u64, SightingError> {
        let removed = self.write("erase unknown faces", |transaction| {
            let mut removed = 0;
            for id in ids {
                removed += transaction
                    .prepare_cached("delete from sighting where sighting_group = ?1")?
                    .execute([id.0])? as u64;
                transaction.prepare_cached("delete from sighting_group where id = ?1")?.execute([id.0])?;
            }
            Ok(removed)
        })?;
        ids.iter().for_each(|id| self.groups.forget_group(*id));
        self.empty_log()?;
        Ok(removed)
    }

    /// Erases the groups that may show somebody with these templates; returns how many sightings that
    /// concerned.
    pub fn remove_like(&mut self, templates: &[Embedding]) -> Result<u64, SightingError> {
        let groups = self.groups.like(templates, self.limits.grouping.related);
        if groups.is_empty() { Ok(0) } else { self.remove(&groups) }
    }

    /// Erases a bounded number of what is older or more than may be kept, and returns how many; call it
    /// again while it erases something.
    pub fn retain(&mut self) -> Result<u64, SightingError> {
        let now = self.clock.wall().0;
        let keep = i64::try_from(self.limits.keep.as_millis()).unwrap_or(i64::MAX);
        let (before, most) = (now.saturating_sub(keep), self.limits.most);
        let gone = self.write("erase old unknown faces", |transaction| {
            let total: i64 = transaction
                .prepare_cached("select count(*) from sighting")?
                .query_row([], |row| row.get(0))?;
            let surplus = (total - i64::from(most)).max(0);
            let mut query = transaction.prepare_cached(
                "select sighting_group, id from (
                     select sighting_group, id, seen_at from sighting order by seen_at, id limit ?1)
                 where seen_at < ?2 or id in (select id from sighting order by seen_at, id limit ?3)",
            )?;
            let rows = query.query_map(params![ERASED_AT_ONCE, before, surplus], |row| {
                Ok((SightingGroupId(row.get(0)?), row.get(1)?))
            })?;
            let gone = rows.collect::<Result<Vec<(SightingGroupId, i64)>, _>>()?;
            for (_, id) in &gone {
                transaction.prepare_cached("delete from sighting where id = ?1")?.execute([id])?;
            }
            if !gone.is_empty() {
                erase_empty_groups(transaction)?;
            }
            Ok(gone)
        })?;
        for (group, id) in &gone {
            self.groups.forget(*group, *id);
        }
        if !gone.is_empty() {
            self.empty_log()?;
        }
        Ok(gone.len() as u64)
    }

    /// Sightings that are kept.
    pub fn count(&self) -> Result<u64, SightingError> {
        self.read("count the unknown faces", |db| {
            db.query_row("select count(*) from sighting", [], |row| row.get(0))
        })
    }

    /// What was erased leaves the log too.
    fn empty_log(&self) -> Result<(), SightingError> {
        self.read("empty the log", |db| {
            db.query_row("pragma wal_checkpoint(truncate)", [], |row| row.get::<_, i64>(0)).map(|_| ())
        })
    }

    fn read<T>(
        &self,
        what: &'static str,
        run: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, SightingError> {
        run(&self.connection).map_err(|error| DatabaseError::sqlite(&self.path, &SCHEMA, what, error).into())
    }

    fn write<T>(
        &mut self,
        what: &'static str,
        run: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, SightingError> {
        let written = || {
            let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let value = run(&transaction)?;
            transaction.commit()?;
            Ok(value)
        };
        written().map_err(|error| DatabaseError::sqlite(&self.path, &SCHEMA, what, error).into())
    }
}

const SELECT_GROUP: &str = "select g.id, g.count, g.first_seen_at, g.last_seen_at, g.ignored,
    (select count(*) from sighting s where s.sighting_group = g.id) from sighting_group g";

fn read_group(row: &Row<'_>, keep: i64) -> rusqlite::Result<GroupRecord> {
    let last_seen_at: i64 = row.get(3)?;
    Ok(GroupRecord {
        id: SightingGroupId(row.get(0)?),
        count: row.get(1)?,
        first_seen_at: UnixMillis(row.get(2)?),
        last_seen_at: UnixMillis(last_seen_at),
        expires_at: UnixMillis(last_seen_at.saturating_add(keep)),
        ignored: row.get(4)?,
        pictures: row.get(5)?,
    })
}

fn erase_empty_groups(transaction: &Transaction<'_>) -> rusqlite::Result<usize> {
    transaction
        .prepare_cached(
            "delete from sighting_group
             where not exists (select 1 from sighting s where s.sighting_group = sighting_group.id)",
        )?
        .execute([])
}

fn insert(
    transaction: &Transaction<'_>,
    group: SightingGroupId,
    sighting: &Sighting,
    jpeg: &[u8],
) -> rusqlite::Result<()> {
    let Sighting { captured_at, embedding, quality, .. } = sighting;
    let values: Zeroizing<Vec<u8>> =
        Zeroizing::new(embedding.values().iter().flat_map(|value| value.to_le_bytes()).collect());
    transaction
        .prepare_cached(
            "insert into sighting (sighting_group, seen_at, quality, eye_distance_px, sharpness,
                                   yaw_deg, pitch_deg, roll_deg, embedding_space, embedding, jpeg)
             values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        )?
        .execute(params![
            group.0,
            captured_at.0,
            quality.score.get(),
            quality.eye_distance_px,
            quality.sharpness,
            quality.yaw_deg,
            quality.pitch_deg,
            quality.roll_deg,
            embedding.space().as_str(),
            values.as_slice(),
            jpeg
        ])?;
    Ok(())
}

fn read_sighting(row: &Row<'_>, space: &EmbeddingSpaceId) -> rusqlite::Result<KeptSighting> {
    Ok(KeptSighting {
        seen_at: UnixMillis(row.get(0)?),
        quality: SampleQuality {
            score: QualityScore::new(row.get(1)?),
            eye_distance_px: row.get(2)?,
            sharpness: row.get(3)?,
            yaw_deg: row.get(4)?,
            pitch_deg: row.get(5)?,
            roll_deg: row.get(6)?,
        },
        embedding: read_embedding(row, 7, space)?,
        jpeg: row.get(8)?,
    })
}

fn read_embedding(row: &Row<'_>, column: usize, space: &EmbeddingSpaceId) -> rusqlite::Result<Embedding> {
    let (values, _) = row.get_ref(column)?.as_blob()?.as_chunks::<4>();
    let values = values.iter().map(|value| f32::from_le_bytes(*value)).collect();
    Embedding::from_unit(values, space.clone()).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Blob, Box::new(error))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::random::Random;
    use crate::clock::SimulatedClock;
    use crate::frame::RgbImage;
    use crate::models::Thresholds;
    use crate::vault::{KeyPurpose, RootKey};

    const HOUR: i64 = 3_600_000;

    struct Device {
        _folder: tempfile::TempDir,
        state: StateFolder,
        clock: Arc<SimulatedClock>,
        random: Random,
        most: u32,
    }

    fn key() -> Subkeys {
        RootKey::from_bytes([7; 32]).subkeys(KeyPurpose::Sightings)
    }

    fn space() -> EmbeddingSpaceId {
        EmbeddingSpaceId::new("test/1")
    }

    impl Device {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let state = StateFolder::open_or_create(&folder.path().join("state")).unwrap();
            let clock = Arc::new(SimulatedClock::new(UnixMillis(1_000 * HOUR)));
            Self { _folder: folder, state, clock, random: Random::new(3), most: 2_000 }
        }

        fn open_in(&self, space: &EmbeddingSpaceId) -> SightingStore {
            let in_force =
                Thresholds { identification: 0.48, verification: 0.43, margin: 0.05, conflict: 0.43 };
            let limits = SightingLimits {
                keep: Duration::from_millis(48 * HOUR as u64),
                most: self.most,
                grouping: GroupingThresholds::from(&in_force),
            };
            SightingStore::open(&self.state, &key(), self.clock.clone(), space, limits).unwrap()
        }

        fn open(&self) -> SightingStore {
            self.open_in(&space())
        }

        /// Somebody: each is an axis, leant a little towards one of many others.
        fn sighting(&mut self, who: usize, quality: f32) -> Sighting {
            let mut values = vec![0.0; 64];
            values[who] = 1.0;
            values[32 + self.random.below(32) as usize] = 0.3;
            Sighting {
                captured_at: self.clock.wall(),
                embedding: Embedding::normalised(values, space()).unwrap(),
                quality: SampleQuality {
                    score: QualityScore::new(quality),
                    eye_distance_px: 40.0,
                    sharpness: 0.5,
                    yaw_deg: 1.0,
                    pitch_deg: 2.0,
                    roll_deg: 3.0,
                },
                crop: RgbImage::black(32, 32),
            }
        }

        fn raw(&self) -> Vec<u8> {
            ["", "-wal"]
                .iter()
                .filter_map(|end| {
                    std::fs::read(self.state.path().join(format!("{SIGHTINGS_FILE}{end}"))).ok()
                })
                .flatten()
                .collect()
        }
    }

    #[test]
    fn sightings_of_one_face_are_one_group_over_a_restart() {
        let mut device = Device::new();
        let mut store = device.open();
        let first = store.take_in(&device.sighting(0, 0.5)).unwrap();
        let other = store.take_in(&device.sighting(1, 0.5)).unwrap();
        assert_ne!(first, other);
        device.clock.advance(Duration::from_millis(HOUR as u64));
        drop(store);
        let mut store = device.open();
        assert_eq!(store.take_in(&device.sighting(0, 0.9)).unwrap(), first);
        let listed = store.list(false, None, 10).unwrap();
        let expected = GroupRecord {
            id: first,
            count: 2,
            first_seen_at: UnixMillis(1_000 * HOUR),
            last_seen_at: UnixMillis(1_001 * HOUR),
            expires_at: UnixMillis(1_049 * HOUR),
            ignored: false,
            pictures: 2,
        };
        assert_eq!((listed.len(), listed[0], listed[1].id), (2, expected, other));
        let cursor = GroupCursor { last_seen_at: listed[0].last_seen_at, id: first };
        assert_eq!(store.list(false, Some(cursor), 10).unwrap(), listed[1..]);
        let kept = store.sightings_of(first, &space()).unwrap();
        assert_eq!((kept.len(), kept[0].quality.score.get()), (2, 0.9), "the best comes first");
        assert_eq!(store.picture(first, 0).unwrap().as_ref(), Some(&kept[0].jpeg));
        assert_eq!(store.picture(first, 2).unwrap(), None);
    }

    #[test]
    fn group_keeps_a_bounded_number_of_sightings_and_counts_all() {
        let mut device = Device::new();
        let mut store = device.open();
        let group = store.take_in(&device.sighting(0, 0.5)).unwrap();
        for _ in 0..99 {
            assert_eq!(store.take_in(&device.sighting(0, 0.5)).unwrap(), group);
        }
        let record = store.group(group).unwrap().unwrap();
        assert_eq!((record.count, record.pictures), (100, super::super::MAX_EXEMPLARS as u64));
        assert_eq!(store.count().unwrap(), record.pictures);
    }

    #[test]
    fn ignored_group_is_hidden_and_goes_on_swallowing() {
        let mut device = Device::new();
        let mut store = device.open();
        let group = store.take_in(&device.sighting(0, 0.5)).unwrap();
        assert!(store.ignore(group, true).unwrap());
        assert_eq!(store.take_in(&device.sighting(0, 0.5)).unwrap(), group);
        assert!(store.list(false, None, 10).unwrap().is_empty());
        assert_eq!(store.list(true, None, 10).unwrap()[0].count, 2);
        assert!(store.ignore(group, false).unwrap());
        assert_eq!(store.list(false, None, 10).unwrap().len(), 1);
        assert!(!store.ignore(SightingGroupId(99), true).unwrap());
    }

    #[test]
    fn retention_erases_by_age_and_number_and_numbers_are_not_given_again() {
        let mut device = Device::new();
        device.most = 3;
        let mut store = device.open();
        let old = store.take_in(&device.sighting(0, 0.5)).unwrap();
        device.clock.advance(Duration::from_millis(47 * HOUR as u64));
        for who in 1..=3 {
            store.take_in(&device.sighting(who, 0.5)).unwrap();
        }
        assert_eq!(store.retain().unwrap(), 1, "the oldest of four");
        assert_eq!(store.group(old).unwrap(), None);
        assert_eq!(store.retain().unwrap(), 0);
        device.clock.advance(Duration::from_millis(49 * HOUR as u64));
        assert_eq!(store.retain().unwrap(), 3, "too old");
        assert!(store.take_in(&device.sighting(0, 0.5)).unwrap() > SightingGroupId(4));
    }

    #[test]
    fn what_is_erased_is_gone_from_the_files() {
        let mut device = Device::new();
        let mut store = device.open();
        let group = store.take_in(&device.sighting(0, 0.5)).unwrap();
        let before = device.raw();
        assert_eq!(store.remove(&[group]).unwrap(), 1);
        assert_eq!((store.count().unwrap(), store.group(group).unwrap()), (0, None));
        let log = std::fs::metadata(device.state.path().join(format!("{SIGHTINGS_FILE}-wal"))).unwrap();
        assert_eq!(log.len(), 0);
        // Encrypted pages: none of those that held the sighting is left as it was.
        let after = device.raw();
        let pages = |bytes: &[u8]| bytes.chunks(4096).map(<[u8]>::to_vec).collect::<Vec<_>>();
        let data_pages = store.read("find pages", |db| {
            db.query_row("select count(*) from sighting", [], |row| row.get::<_, i64>(0))
        });
        assert_eq!(data_pages.unwrap(), 0);
        assert!(pages(&before).iter().skip(1).any(|page| !pages(&after).contains(page)));
        assert_ne!(store.take_in(&device.sighting(0, 0.5)).unwrap(), group);
    }

    #[test]
    fn whoever_is_erased_takes_their_sightings_along() {
        let mut device = Device::new();
        let mut store = device.open();
        let (theirs, other) = (device.sighting(0, 0.5), device.sighting(1, 0.5));
        store.take_in(&theirs).unwrap();
        let other = store.take_in(&other).unwrap();
        let template = device.sighting(0, 0.9).embedding;
        assert_eq!(store.remove_like(&[template]).unwrap(), 1);
        let left: Vec<_> = store.list(false, None, 10).unwrap().iter().map(|group| group.id).collect();
        assert_eq!(left, [other]);
    }

    #[test]
    fn switching_it_off_removes_the_files() {
        let mut device = Device::new();
        assert!(!erase_files(&device.state, &key()).unwrap());
        let mut store = device.open();
        store.take_in(&device.sighting(0, 0.5)).unwrap();
        drop(store);
        assert!(erase_files(&device.state, &key()).unwrap());
        assert!(device.raw().is_empty());
        assert_eq!(std::fs::read_dir(device.state.path()).unwrap().count(), 0);
    }

    #[test]
    fn another_network_begins_anew() {
        let mut device = Device::new();
        let mut store = device.open();
        store.take_in(&device.sighting(0, 0.5)).unwrap();
        drop(store);
        let store = device.open_in(&EmbeddingSpaceId::new("test/2"));
        assert_eq!((store.count().unwrap(), store.list(false, None, 10).unwrap().len()), (0, 0));
    }

    #[test]
    fn lists_scan_nothing() {
        let store = Device::new().open();
        for query in [
            format!(
                "{SELECT_GROUP} where g.ignored = 0 and (g.last_seen_at, g.id) < (9, 9)
                 order by g.last_seen_at desc, g.id desc limit 50"
            ),
            "select jpeg from sighting where sighting_group = 1 order by quality desc, id desc limit 1"
                .to_owned(),
        ] {
            let plan = store.read("explain", |db| {
                let mut query = db.prepare(&format!("explain query plan {query}"))?;
                query.query_map([], |row| row.get::<_, String>(3))?.collect::<Result<Vec<_>, _>>()
            });
            let plan = plan.unwrap();
            assert!(!plan.is_empty());
            for step in plan {
                assert!(!step.contains("SCAN") && !step.contains("TEMP B-TREE"), "{step}");
            }
        }
    }
}
