//! When subjects were last seen, who has not been for too long, and what they agreed to.

use rusqlite::{Connection, OptionalExtension, Transaction, params};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::clock::UnixMillis;
use crate::gallery::records::SubjectId;

use super::rows::{Refusal, WriteError, touch};
use super::{GalleryError, GalleryStore};

const DAY_MS: i64 = 86_400_000;
/// Longest text of who agreed.
pub const MAX_GIVEN_BY_CHARS: usize = 120;
/// Longest version of a text.
pub const MAX_TEXT_VERSION_CHARS: usize = 40;
const MAX_RECORDED_BY_CHARS: usize = 80;

/// By what way somebody agreed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ConsentWay {
    /// Signed on paper.
    Written,
    /// Confirmed on a screen.
    Screen,
    /// Said to whoever enrolled them.
    Spoken,
}

impl ConsentWay {
    /// As the database holds it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Written => "written",
            Self::Screen => "screen",
            Self::Spoken => "spoken",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::Written, Self::Screen, Self::Spoken].into_iter().find(|way| way.as_str() == text)
    }
}

/// That a subject agreed to being recognised. Holds names: not for logs.
#[derive(Clone, PartialEq, Eq)]
pub struct Consent {
    /// When they agreed.
    pub given_at: UnixMillis,
    /// Who agreed: the subject, or whoever may agree for them.
    pub given_by: String,
    /// How.
    pub way: ConsentWay,
    /// To which version of the text.
    pub text_version: String,
    /// When it was recorded.
    pub recorded_at: UnixMillis,
    /// By which user, or the command line.
    pub recorded_by: String,
}

impl std::fmt::Debug for Consent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Consent {{ {:?}, text {} }}", self.way, self.text_version)
    }
}

impl Consent {
    fn fits(&self) -> bool {
        let within = |text: &str, most: usize| (1..=most).contains(&text.trim().chars().count());
        within(&self.given_by, MAX_GIVEN_BY_CHARS)
            && within(&self.text_version, MAX_TEXT_VERSION_CHARS)
            && within(&self.recorded_by, MAX_RECORDED_BY_CHARS)
    }
}

/// When a subject is erased for not having been seen; never, if that is how it is kept.
pub fn erased_unseen_at(
    last_seen: UnixMillis,
    keep_unseen_days: Option<u32>,
    usual_days: u32,
) -> Option<UnixMillis> {
    let days = keep_unseen_days.unwrap_or(usual_days);
    (days > 0).then(|| UnixMillis(last_seen.0.saturating_add(i64::from(days) * DAY_MS)))
}

pub(super) fn seen(transaction: &Transaction<'_>, id: SubjectId, at: UnixMillis) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "update subject set last_seen_at = max(coalesce(last_seen_at, created_at), ?2) where id = ?1",
        )?
        .execute(params![id.as_bytes(), at.0])
        .map(|_| ())
}

impl GalleryStore {
    /// Notes when subjects were seen. Those that are not there are left out.
    pub fn note_seen(&mut self, seen_at: &[(SubjectId, UnixMillis)]) -> Result<(), GalleryError> {
        self.write("note who was seen", |transaction| {
            Ok(seen_at.iter().try_for_each(|(id, at)| seen(transaction, *id, *at))?)
        })
    }

    /// Who was not seen for longer than they are kept: for `usual_days`, or for as many as is said of them. 0:
    /// they are kept anyway. Those longest unseen first.
    pub fn unseen(
        &self,
        usual_days: u32,
        now: UnixMillis,
        limit: u32,
    ) -> Result<Vec<SubjectId>, GalleryError> {
        self.read("look for who was not seen", |db| {
            db.prepare_cached(
                "select id from subject
                 where coalesce(keep_unseen_days, ?1) > 0
                   and coalesce(last_seen_at, created_at) < ?2 - coalesce(keep_unseen_days, ?1) * 86400000
                 order by coalesce(last_seen_at, created_at) limit ?3",
            )?
            .query_map(params![usual_days, now.0, limit], |row| row.get(0).map(SubjectId::from_bytes))?
            .collect()
        })
    }

    /// A time that was noted under this name.
    pub(crate) fn noted_time(&self, name: &'static str) -> Result<Option<UnixMillis>, GalleryError> {
        let text: Option<String> = self.read("read the time", |db| {
            db.prepare_cached("select value from meta where key = ?1")?
                .query_row([name], |row| row.get(0))
                .optional()
        })?;
        Ok(text.and_then(|text| text.parse().ok()).map(UnixMillis))
    }

    /// Notes a time under a name.
    pub(crate) fn note_time(&mut self, name: &'static str, at: UnixMillis) -> Result<(), GalleryError> {
        self.write("note the time", |transaction| {
            transaction
                .prepare_cached(
                    "insert into meta (key, value) values (?1, ?2)
                     on conflict (key) do update set value = excluded.value",
                )?
                .execute(params![name, at.0.to_string()])?;
            Ok(())
        })
    }

    /// What a subject agreed to, if that is recorded.
    pub fn consent_of(&self, id: SubjectId) -> Result<Option<Consent>, GalleryError> {
        self.read("read a consent", |db| consent(db, id))
    }

    /// Records what a subject agreed to, in the place of what stood there.
    pub fn record_consent(&mut self, id: SubjectId, consent: &Consent) -> Result<(), GalleryError> {
        if !consent.fits() {
            return Err(GalleryError::ConsentText);
        }
        let now = self.clock.wall();
        self.write("record a consent", |transaction| {
            touch(transaction, id, now)?;
            transaction.execute(
                "insert or replace into consent
                     (subject, given_at, given_by, way, text_version, recorded_at, recorded_by)
                 values (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                params![
                    id.as_bytes(),
                    consent.given_at.0,
                    consent.given_by.trim(),
                    consent.way.as_str(),
                    consent.text_version.trim(),
                    consent.recorded_at.0,
                    consent.recorded_by.trim()
                ],
            )?;
            Ok(())
        })?;
        // The one before may hold a name that is no longer meant to be known.
        self.empty_log().map(drop)
    }

    /// Takes back the record; whether there was one.
    pub fn withdraw_consent(&mut self, id: SubjectId) -> Result<bool, GalleryError> {
        let now = self.clock.wall();
        let removed = self.write("withdraw a consent", |transaction| -> Result<usize, WriteError> {
            touch(transaction, id, now)?;
            Ok(transaction.execute("delete from consent where subject = ?1", [id.as_bytes()])?)
        })?;
        self.empty_log()?;
        Ok(removed > 0)
    }
}

fn consent(db: &Connection, id: SubjectId) -> rusqlite::Result<Option<Consent>> {
    db.prepare_cached(
        "select given_at, given_by, way, text_version, recorded_at, recorded_by from consent where subject = ?1",
    )?
    .query_row([id.as_bytes()], |row| {
        let way = ConsentWay::parse(row.get_ref(2)?.as_str()?);
        Ok(Consent {
            given_at: UnixMillis(row.get(0)?),
            given_by: row.get(1)?,
            way: way.ok_or_else(|| {
                rusqlite::Error::InvalidColumnType(2, "way".into(), rusqlite::types::Type::Text)
            })?,
            text_version: row.get(3)?,
            recorded_at: UnixMillis(row.get(4)?),
            recorded_by: row.get(5)?,
        })
    })
    .optional()
}

/// Sets for how many days a subject is kept without being seen; none: as is usual.
pub(super) fn write_keep_unseen(
    transaction: &Transaction<'_>,
    id: SubjectId,
    days: Option<u32>,
) -> Result<(), WriteError> {
    let changed = transaction
        .prepare_cached("update subject set keep_unseen_days = ?2 where id = ?1")?
        .execute(params![id.as_bytes(), days])?;
    if changed == 0 { Err(Refusal::SubjectUnknown.into()) } else { Ok(()) }
}
