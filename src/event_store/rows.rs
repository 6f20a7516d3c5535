//! Events as rows of the database. On the thread `store`.

use std::time::Duration;

use rusqlite::{Connection, Row, Transaction, TransactionBehavior, params};

use super::records::{Age, EventId, EventKind, RecordedEvent};
use crate::clock::{Monotonic, UnixMillis};
use crate::gallery::SubjectId;

/// An event with its picture, as far as it is to be kept.
#[derive(Clone)]
pub(super) struct Entry {
    pub(super) event: RecordedEvent,
    pub(super) captured: Monotonic,
    pub(super) crop: Option<Vec<u8>>,
    /// When the broker acknowledged it, and whether as expired.
    pub(super) published: Option<(UnixMillis, bool)>,
}

pub(super) const SELECT_EVENT: &str = "select e.sequence, e.id, e.kind, e.track, e.captured_at, e.decided_at,
    e.expires_at, e.boot, e.captured_monotonic_us, e.latency_ms, e.subject, e.score, e.margin, e.quality,
    e.looks, e.probes, e.seen_ms, e.verdict, e.reason, e.published_at, e.reasons,
    exists (select 1 from crop c where c.sequence = e.sequence), e.door from event e";

pub(super) fn write<T>(
    connection: &mut Connection,
    run: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let value = run(&transaction)?;
    transaction.commit()?;
    Ok(value)
}

pub(super) fn insert(
    transaction: &Transaction<'_>,
    entry: &Entry,
    boot: &[u8; 16],
    queued: bool,
) -> rusqlite::Result<()> {
    let event = &entry.event;
    // A map of text to numbers always has a JSON form.
    let reasons = serde_json::to_string(&event.reasons).unwrap_or_else(|_| "{}".to_owned());
    let door = event.door.as_ref().and_then(|door| serde_json::to_string(door).ok());
    let micros = entry.captured.since(Monotonic::default()).as_micros();
    transaction
        .prepare_cached(
            "insert into event (sequence, id, kind, track, captured_at, decided_at, expires_at, boot,
                captured_monotonic_us, latency_ms, subject, score, margin, quality, looks, probes, seen_ms,
                verdict, reason, reasons, published_at, published_expired, door)
             values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19,
                ?20, ?21, ?22, ?23)",
        )?
        .execute(params![
            event.sequence,
            event.id.as_bytes(),
            event.kind.name(),
            event.track,
            event.captured_at.0,
            event.decided_at.0,
            event.expires_at.0,
            boot,
            u64::try_from(micros).unwrap_or(u64::MAX >> 1),
            event.latency_ms,
            event.subject.as_ref().map(SubjectId::as_bytes),
            event.score,
            event.margin,
            event.quality,
            event.looks,
            event.probes,
            event.seen_ms,
            event.verdict,
            event.reason,
            reasons,
            entry.published.map(|(at, _)| at.0),
            entry.published.map(|(_, expired)| expired),
            door,
        ])?;
    if queued && entry.published.is_none() {
        transaction.prepare_cached("insert into outbox (sequence) values (?1)")?.execute([event.sequence])?;
    }
    if let Some(jpeg) = &entry.crop {
        transaction
            .prepare_cached("insert into crop (sequence, jpeg) values (?1, ?2)")?
            .execute(params![event.sequence, jpeg])?;
    }
    Ok(())
}

pub(super) fn acknowledge(
    transaction: &Transaction<'_>,
    sequence: u64,
    at: UnixMillis,
    expired: bool,
) -> rusqlite::Result<()> {
    transaction.prepare_cached("delete from outbox where sequence = ?1")?.execute([sequence])?;
    transaction
        .prepare_cached(
            "update event set published_at = ?2, published_expired = ?3
             where sequence = ?1 and published_at is null",
        )?
        .execute(params![sequence, at.0, expired])?;
    Ok(())
}

/// The row that [`SELECT_EVENT`] gives; `boot` is the present boot of the machine.
pub(super) fn read(row: &Row<'_>, boot: &[u8; 16]) -> rusqlite::Result<RecordedEvent> {
    let kind: String = row.get(2)?;
    let reasons: String = row.get(20)?;
    let of_this_boot = row.get::<_, [u8; 16]>(7)? == *boot;
    let monotonic = Monotonic::from_duration(Duration::from_micros(row.get(8)?));
    Ok(RecordedEvent {
        sequence: row.get(0)?,
        id: EventId::from_bytes(row.get(1)?),
        kind: EventKind::ALL
            .into_iter()
            .find(|known| known.name() == kind)
            .ok_or_else(|| rusqlite::Error::InvalidColumnName(kind))?,
        track: row.get(3)?,
        captured_at: UnixMillis(row.get(4)?),
        decided_at: UnixMillis(row.get(5)?),
        expires_at: UnixMillis(row.get(6)?),
        latency_ms: row.get(9)?,
        subject: row.get::<_, Option<_>>(10)?.map(SubjectId::from_bytes),
        score: row.get(11)?,
        margin: row.get(12)?,
        quality: row.get(13)?,
        looks: row.get(14)?,
        probes: row.get(15)?,
        seen_ms: row.get(16)?,
        verdict: row.get(17)?,
        reason: row.get(18)?,
        published_at: row.get::<_, Option<_>>(19)?.map(UnixMillis),
        // The schema checks that it is JSON, and only this program writes it.
        reasons: serde_json::from_str(&reasons).unwrap_or_default(),
        has_crop: row.get(21)?,
        door: row.get::<_, Option<String>>(22)?.and_then(|door| serde_json::from_str(&door).ok()),
        age: if of_this_boot { Age::ThisBoot(monotonic) } else { Age::EarlierBoot },
    })
}
