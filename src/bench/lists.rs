//! What it takes to list, sum up and export events when there are very many.
//!
//! A database on the disk, encrypted as on the device, is filled through the event store itself; each list
//! is read some times, and the slowest is told. The page cache of the system is warm, as it is for whoever
//! turns pages.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::clock::{Clock, Monotonic, SystemClock, UnixMillis};
use crate::event::{EndVerdict, IdentityEvent, Outcome};
use crate::event_store::{
    EventCursor, EventFilter, EventId, EventKind, EventStore, EventStoreError, HOUR_MS,
};
use crate::gallery::{SubjectId, SubjectName};
use crate::reason::Reason;
use crate::score::{ComparisonScore, QualityScore};
use crate::track::TrackId;
use crate::vault::{RootKey, StateFolder};

/// Events committed together: as many as the store holds in memory.
const GROUP: u32 = 1_000;
/// Subjects that the events are about.
const SUBJECTS: u32 = 10_000;
/// Times each list is read.
const ROUNDS: usize = 5;
/// Events of a page.
const PAGE: usize = 50;

/// One kind of question.
#[derive(Clone, Debug, Serialize)]
pub struct ListTiming {
    /// What was asked.
    pub what: &'static str,
    /// The slowest answer.
    pub slowest_ms: f64,
    /// Events in it.
    pub found: usize,
}

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub struct ListTimings {
    /// Events there are.
    pub events: u64,
    /// Recording one, with its indexes and sums, in groups.
    pub record_us: f64,
    /// The questions.
    pub lists: Vec<ListTiming>,
    /// Exported in a second.
    pub exported_per_second: f64,
}

impl std::fmt::Display for ListTimings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{} events, {:.0} µs to record one; slowest of {ROUNDS}:", self.events, self.record_us)?;
        for list in &self.lists {
            writeln!(f, "  {:<52} {:>7.1} ms, {} found", list.what, list.slowest_ms, list.found)?;
        }
        write!(f, "  export: {:.0} events/s", self.exported_per_second)
    }
}

fn subject(number: u32) -> SubjectId {
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    SubjectId::from_bytes(bytes)
}

/// Visits as a busy door has them: of four, two are of subjects, one is of a stranger, one stays undecided.
fn visit(number: u32, captured_at: UnixMillis, name: &SubjectName) -> Vec<IdentityEvent> {
    let event = |outcome| IdentityEvent {
        id: EventId::without_randomness(captured_at, u64::from(number) << 2 | number_of(&outcome)),
        track: TrackId(number.into()),
        captured_at,
        captured: Monotonic::default(),
        latency_ms: 20.0 + (number % 97) as f32,
        looks: 6,
        probes: 3,
        crop: None,
        sighting: None,
        outcome,
    };
    let ended = |verdict, subject: Option<SubjectId>, reason| Outcome::Ended {
        seen_ms: 3_000,
        verdict,
        subject,
        name: subject.map(|_| name.clone()),
        reason,
        matches: 2,
        no_match: 0,
        inconclusive: BTreeMap::from([(Reason::TooFar, 3), (Reason::Blurred, 1)]),
    };
    let whom = subject(number.wrapping_mul(2_654_435_761) % SUBJECTS);
    match number % 4 {
        0 | 1 => vec![
            event(Outcome::Identified {
                subject: whom,
                name: name.clone(),
                score: ComparisonScore::new(0.7),
                margin: Some(0.3),
                agreeing_probes: 2,
                quality: QualityScore::new(0.6),
            }),
            event(ended(EndVerdict::Identified, Some(whom), None)),
        ],
        2 => vec![
            event(Outcome::Unknown {
                best_score: Some(ComparisonScore::new(0.2)),
                reason: Reason::BelowThreshold,
            }),
            event(ended(EndVerdict::Unknown, None, Some(Reason::BelowThreshold))),
        ],
        _ => vec![event(ended(EndVerdict::Undecided, None, Some(Reason::ALL[number as usize / 4 % 9])))],
    }
}

fn number_of(outcome: &Outcome) -> u64 {
    u64::from(matches!(outcome, Outcome::Ended { .. }))
}

/// Fills a new database in `state` with `events` events over the last year, and asks it.
pub fn bench_lists(state: &StateFolder, key: &RootKey, events: u64) -> Result<ListTimings, EventStoreError> {
    let clock = Arc::new(SystemClock);
    let now = clock.wall();
    let mut store = EventStore::open(state, key, clock, Duration::from_secs(10))?.without_broker();
    let name = SubjectName::new("somebody").expect("this is a name");
    let year = 365 * 24 * HOUR_MS;
    let started = Instant::now();
    let (mut number, mut recorded) = (0_u32, 0_u64);
    while recorded < events {
        let mut group = Vec::with_capacity(GROUP as usize + 1);
        while group.len() < GROUP as usize && recorded + (group.len() as u64) < events {
            let at = now.0 - year + (recorded + group.len() as u64) as i64 * year / events as i64;
            group.extend(visit(number, UnixMillis(at), &name));
            number += 1;
        }
        group.truncate(GROUP as usize);
        recorded += group.len() as u64;
        store.record(group.into_iter().map(|event| (event, None)))?;
    }
    let record_us = started.elapsed().as_secs_f64() * 1e6 / recorded as f64;

    let day = 24 * HOUR_MS;
    let all = EventFilter::default();
    let half = Some(EventCursor { captured_at: UnixMillis(now.0 - year / 2), sequence: u64::MAX >> 1 });
    // The one of the first visit.
    let whom = Some(subject(0));
    let questions = [
        ("newest", all.clone(), None),
        ("in the middle", all.clone(), half),
        ("of a kind", EventFilter { kind: Some(EventKind::Unknown), ..all.clone() }, None),
        ("of a kind there is none of", EventFilter { kind: Some(EventKind::Ring), ..all.clone() }, None),
        ("of a subject", EventFilter { subject: whom, ..all.clone() }, None),
        (
            "of a subject, of a kind",
            EventFilter { subject: whom, kind: Some(EventKind::Ended), ..all.clone() },
            None,
        ),
        ("of a verdict", EventFilter { verdict: Some(EndVerdict::Undecided), ..all.clone() }, half),
        ("of a reason", EventFilter { reason: Some(Reason::TooFar), ..all.clone() }, half),
        (
            "of a reason and a verdict that do not meet",
            EventFilter {
                reason: Some(Reason::BelowThreshold),
                verdict: Some(EndVerdict::Undecided),
                ..all.clone()
            },
            None,
        ),
        (
            "of a day, of a kind",
            EventFilter {
                kind: Some(EventKind::Identified),
                from: Some(UnixMillis(now.0 - 100 * day)),
                to: Some(UnixMillis(now.0 - 99 * day)),
                ..all.clone()
            },
            None,
        ),
    ];
    let mut lists = Vec::new();
    for (what, filter, after) in questions {
        lists.push(timed(what, || store.list(&filter, after, PAGE).map(|page| page.events.len()))?);
    }
    let newest = store.list(&all, half, 1)?.events;
    if let Some(event) = newest.first() {
        lists.push(timed("one event", || store.event(event.id).map(|found| found.iter().count()))?);
    }
    for (what, from) in [("summed up, a week", 7 * day), ("summed up, a year", year)] {
        let from = UnixMillis(now.0 - from);
        lists.push(timed(what, || store.summary(from, now).map(|summary| summary.hours.len()))?);
    }
    let started = Instant::now();
    let (mut exported, mut after) = (0, None);
    while exported < 50_000 {
        let page = store.list(&all, after, 500)?;
        exported += page.events.len();
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    let exported_per_second = exported as f64 / started.elapsed().as_secs_f64();
    Ok(ListTimings { events: recorded, record_us, lists, exported_per_second })
}

fn timed(
    what: &'static str,
    mut ask: impl FnMut() -> Result<usize, EventStoreError>,
) -> Result<ListTiming, EventStoreError> {
    let (mut slowest_ms, mut found) = (0.0_f64, 0);
    for _ in 0..ROUNDS {
        let started = Instant::now();
        found = ask()?;
        slowest_ms = slowest_ms.max(started.elapsed().as_secs_f64() * 1e3);
    }
    Ok(ListTiming { what, slowest_ms, found })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_question_is_asked_of_as_many_events_as_wanted() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateFolder::open_or_create(&folder.path().join("state")).unwrap();
        let (key, _) = RootKey::load(&state, None).unwrap();
        let timings = bench_lists(&state, &key, 2_500).unwrap();
        assert_eq!((timings.events, timings.lists.len()), (2_500, 13));
        let found = |what: &str| timings.lists.iter().find(|list| list.what == what).unwrap().found;
        assert_eq!((found("newest"), found("of a kind"), found("one event")), (50, 50, 1));
        assert_eq!(
            (found("of a kind there is none of"), found("of a reason and a verdict that do not meet")),
            (0, 0)
        );
        assert!(found("summed up, a year") > 1_000);
    }
}
