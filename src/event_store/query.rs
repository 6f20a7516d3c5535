//! Looking through the events: listed by filters, and summed up for charts. On the thread `store`.
//!
//! A list reads one index from its newest end, and no more than [`EXAMINED`] entries of it: what takes a
//! time that does not grow with the number of events, whatever is asked. Where the rest of a filter
//! leaves fewer than were asked for, the answer is short and says where to go on.

use std::collections::BTreeMap;

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, params, params_from_iter};
use serde::Serialize;

use super::records::{EventId, EventKind, RecordedEvent};
use super::rows::{SELECT_EVENT, read};
use crate::clock::UnixMillis;
use crate::event::EndVerdict;
use crate::gallery::{SubjectId, SubjectName};
use crate::reason::Reason;

/// Entries of an index that one list reads at most.
const EXAMINED: usize = 2_000;
/// Milliseconds of an hour.
pub const HOUR_MS: i64 = 3_600_000;
/// Upper bounds of the buckets that latencies are counted in, milliseconds; a last bucket has none. The
/// schema's triggers name them too.
pub const LATENCY_BOUNDS_MS: [u32; 13] = [20, 30, 50, 75, 100, 150, 200, 300, 500, 750, 1_000, 2_000, 5_000];

/// Which events are wanted; all of what is given must hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EventFilter {
    /// What they are about.
    pub kind: Option<EventKind>,
    /// Who.
    pub subject: Option<SubjectId>,
    /// How the visit ended.
    pub verdict: Option<EndVerdict>,
    /// The main reason for there being no match.
    pub reason: Option<Reason>,
    /// Captured then or later.
    pub from: Option<UnixMillis>,
    /// Captured before.
    pub to: Option<UnixMillis>,
}

/// A place in a list, newest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventCursor {
    /// When the last event before it was captured.
    pub captured_at: UnixMillis,
    /// Its sequence number.
    pub sequence: u64,
}

/// Part of a list.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EventPage {
    /// Newest first.
    pub events: Vec<RecordedEvent>,
    /// What the subjects in it are called, those that are still enrolled.
    pub names: BTreeMap<SubjectId, SubjectName>,
    /// Where to go on; `None` at the end.
    pub next: Option<EventCursor>,
}

/// What happened in one hour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct Hour {
    /// Its beginning, milliseconds since 1970.
    pub at: i64,
    /// Visits that ended with a name.
    pub identified: u64,
    /// Visits of nobody enrolled.
    pub unknown: u64,
    /// Visits that stayed undecided.
    pub undecided: u64,
    /// How often somebody rang.
    pub ring: u64,
}

/// Events summed up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventSummary {
    /// Hours in which something happened, in order.
    pub hours: Vec<Hour>,
    /// Decisions by the time they took, in the order of [`LATENCY_BOUNDS_MS`], one more at the end.
    pub latency: [u64; LATENCY_BOUNDS_MS.len() + 1],
}

impl EventFilter {
    /// Whether no event can be like that, by what events are.
    fn is_impossible(&self) -> bool {
        use EventKind::{Ended, Identified, Ring, Unknown};
        let without_a_name =
            [Reason::BelowThreshold, Reason::NobodyEnrolled, Reason::ProbesDisagree, Reason::RuledOut];
        let of_unknown = |reason: Reason| without_a_name.contains(&reason);
        let empty_range = self.from.zip(self.to).is_some_and(|(from, to)| from >= to);
        empty_range
            || match (self.kind, self.reason) {
                (Some(Identified | Ring), Some(_)) => true,
                (Some(Unknown), Some(reason)) => !of_unknown(reason),
                _ => false,
            }
            || self.verdict.is_some_and(|verdict| match (verdict, self.reason) {
                _ if self.kind.is_some_and(|kind| kind != Ended) => true,
                (EndVerdict::Identified, Some(_)) => true,
                (EndVerdict::Unknown, Some(reason)) => !of_unknown(reason),
                _ => false,
            })
            || self.subject.is_some()
                && (matches!(self.kind, Some(Unknown | Ring))
                    || self.reason.is_some()
                    || self.verdict.is_some_and(|verdict| verdict != EndVerdict::Identified))
    }

    fn fits(&self, event: &RecordedEvent) -> bool {
        self.kind.is_none_or(|kind| event.kind == kind)
            && self.subject.is_none_or(|subject| event.subject == Some(subject))
            && self.verdict.is_none_or(|verdict| event.verdict.as_deref() == Some(verdict.code()))
            && self.reason.is_none_or(|reason| event.reason.as_deref() == Some(reason.code()))
    }

    /// The statement that reads the most telling index, and what it takes: the rest is for
    /// [`fits`](Self::fits).
    fn statement(&self, after: Option<EventCursor>) -> (String, Vec<Value>) {
        let text = |text: &str| Value::Text(text.to_owned());
        let (index, equals) = if let Some(subject) = self.subject {
            ("event_of_subject", Some(("subject", Value::Blob(subject.as_bytes().to_vec()))))
        } else if let Some(reason) = self.reason {
            ("event_by_reason", Some(("reason", text(reason.code()))))
        } else if let Some(verdict) = self.verdict {
            ("event_by_verdict", Some(("verdict", text(verdict.code()))))
        } else if let Some(kind) = self.kind {
            ("event_by_kind", Some(("kind", text(kind.name()))))
        } else {
            ("event_by_time", None)
        };
        let mut parameters = vec![
            Value::Integer(self.from.map_or(i64::MIN, |from| from.0)),
            Value::Integer(self.to.map_or(i64::MAX, |to| to.0.saturating_sub(1))),
        ];
        let mut sql = format!("{SELECT_EVENT} indexed by {index} where e.captured_at between ?1 and ?2");
        if let Some(EventCursor { captured_at, sequence }) = after {
            // As its own upper bound, so that the index is entered there.
            if let Value::Integer(to) = &mut parameters[1] {
                *to = (*to).min(captured_at.0);
            }
            parameters.push(Value::Integer(captured_at.0));
            parameters.push(Value::Integer(i64::try_from(sequence).unwrap_or(i64::MAX)));
            sql.push_str(" and (e.captured_at < ?3 or e.sequence < ?4)");
        }
        if let Some((column, value)) = equals {
            parameters.push(value);
            sql.push_str(&format!(" and e.{column} = ?{}", parameters.len()));
        }
        sql.push_str(" order by e.captured_at desc, e.sequence desc");
        (sql, parameters)
    }
}

/// The events that a filter lets through, newest first, at most `limit`, after a place if one is given.
pub(super) fn list(
    db: &Connection,
    boot: &[u8; 16],
    filter: &EventFilter,
    after: Option<EventCursor>,
    limit: usize,
) -> rusqlite::Result<EventPage> {
    let mut page = EventPage::default();
    if filter.is_impossible() {
        return Ok(page);
    }
    let (sql, parameters) = filter.statement(after);
    let mut query = db.prepare_cached(&sql)?;
    let mut rows = query.query(params_from_iter(parameters))?;
    let (mut examined, mut last) = (0, None);
    while let Some(row) = rows.next()? {
        if page.events.len() == limit || examined == EXAMINED {
            page.next = last;
            break;
        }
        examined += 1;
        let event = read(row, boot)?;
        last = Some(EventCursor { captured_at: event.captured_at, sequence: event.sequence });
        if filter.fits(&event) {
            page.events.push(event);
        }
    }
    Ok(page)
}

/// One event.
pub(super) fn one(db: &Connection, boot: &[u8; 16], id: EventId) -> rusqlite::Result<Option<RecordedEvent>> {
    db.prepare_cached(&format!("{SELECT_EVENT} where e.id = ?1"))?
        .query_row([id.as_bytes()], |row| read(row, boot))
        .optional()
}

const HOURS: &str =
    "select at, identified, unknown, undecided, ring from hour where at >= ?1 and at < ?2 order by at";
const LATENCIES: &str = "select
        sum(up_to_20), sum(up_to_30), sum(up_to_50), sum(up_to_75), sum(up_to_100), sum(up_to_150),
        sum(up_to_200), sum(up_to_300), sum(up_to_500), sum(up_to_750), sum(up_to_1000),
        sum(up_to_2000), sum(up_to_5000), sum(longer)
    from hour_latency where at >= ?1 and at < ?2";

/// What happened in the hours that begin from `from` on and before `to`.
pub(super) fn summary(db: &Connection, from: UnixMillis, to: UnixMillis) -> rusqlite::Result<EventSummary> {
    let hour = |row: &rusqlite::Row<'_>| {
        Ok(Hour {
            at: row.get(0)?,
            identified: row.get(1)?,
            unknown: row.get(2)?,
            undecided: row.get(3)?,
            ring: row.get(4)?,
        })
    };
    let hours =
        db.prepare_cached(HOURS)?.query_map(params![from.0, to.0], hour)?.collect::<Result<_, _>>()?;
    let latency = db.prepare_cached(LATENCIES)?.query_row(params![from.0, to.0], |row| {
        let mut latency = [0; LATENCY_BOUNDS_MS.len() + 1];
        for (bucket, count) in latency.iter_mut().enumerate() {
            // Null where there is no hour.
            *count = row.get::<_, Option<u64>>(bucket)?.unwrap_or(0);
        }
        Ok(latency)
    })?;
    Ok(EventSummary { hours, latency })
}

impl EventSummary {
    /// Decisions.
    pub fn decisions(&self) -> u64 {
        self.latency.iter().sum()
    }

    /// The time that a share of the decisions did not exceed, as well as the buckets tell: within the one
    /// that it falls into, times are taken to be spread evenly. Beyond the last bound, that bound.
    pub fn latency_ms(&self, share: f64) -> Option<f64> {
        let total = self.decisions();
        if total == 0 {
            return None;
        }
        let wanted = share * total as f64;
        let (mut below, mut lower) = (0.0, 0.0);
        for (bucket, count) in self.latency.iter().enumerate() {
            let Some(bound) = LATENCY_BOUNDS_MS.get(bucket) else { break };
            let (count, upper) = (*count as f64, f64::from(*bound));
            if count > 0.0 && below + count >= wanted {
                return Some(lower + (upper - lower) * ((wanted - below) / count).clamp(0.0, 1.0));
            }
            (below, lower) = (below + count, upper);
        }
        Some(lower)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn database() -> Connection {
        let db = Connection::open_in_memory().unwrap();
        db.execute_batch(include_str!("schema.sql")).unwrap();
        db
    }

    /// Every combination of filters, with and without a place to go on from.
    fn filters() -> Vec<EventFilter> {
        let mut all = Vec::new();
        for kind in EventKind::ALL.map(Some).into_iter().chain([None]) {
            for subject in [None, Some(SubjectId::from_bytes([1; 16]))] {
                for verdict in [None, Some(EndVerdict::Identified), Some(EndVerdict::Undecided)] {
                    for reason in [None, Some(Reason::TooFar), Some(Reason::BelowThreshold)] {
                        for from in [None, Some(UnixMillis(5))] {
                            all.push(EventFilter { kind, subject, verdict, reason, from, to: None });
                        }
                    }
                }
            }
        }
        all
    }

    fn plan(db: &Connection, sql: &str, parameters: Vec<Value>) -> String {
        let mut query = db.prepare(&format!("explain query plan {sql}")).unwrap();
        let rows = query.query_map(params_from_iter(parameters), |row| row.get::<_, String>(3)).unwrap();
        rows.collect::<Result<Vec<_>, _>>().unwrap().join("\n")
    }

    #[test]
    fn no_list_scans_the_events_or_sorts_them() {
        let db = database();
        let (mut plans, cursor) = (0, EventCursor { captured_at: UnixMillis(9), sequence: 9 });
        for filter in filters() {
            for after in [None, Some(cursor)] {
                let (sql, parameters) = filter.statement(after);
                let plan = plan(&db, &sql, parameters);
                assert!(plan.contains("SEARCH e USING INDEX event_"), "{plan}");
                assert!(!plan.contains("SCAN") && !plan.contains("TEMP B-TREE"), "{sql}: {plan}");
                plans += 1;
            }
        }
        assert_eq!(plans, 576);
        let range = || vec![Value::Integer(0), Value::Integer(9)];
        for sql in [HOURS, LATENCIES] {
            let plan = plan(&db, sql, range());
            assert!(plan.contains("SEARCH hour") && !plan.contains("SCAN"), "{plan}");
        }
        let one = plan(&db, &format!("{SELECT_EVENT} where e.id = ?1"), vec![Value::Blob(vec![0; 16])]);
        assert!(one.contains("SEARCH e USING INDEX sqlite_autoindex_event"), "{one}");
        // What a plan without an index looks like.
        let scan = plan(&db, &format!("{SELECT_EVENT} where e.looks = 3"), vec![]);
        assert!(scan.contains("SCAN e"), "{scan}");
    }

    #[test]
    fn latencies_are_counted_in_the_buckets_that_are_named_here() {
        let db = database();
        let mut expected = EventSummary::default();
        let mut sequence = 0;
        let bounds = LATENCY_BOUNDS_MS.iter().enumerate();
        for (latency, bucket) in
            bounds.flat_map(|(at, bound)| [(f64::from(*bound), at), (f64::from(*bound) + 0.5, at + 1)])
        {
            sequence += 1;
            db.execute(
                "insert into event (sequence, id, kind, captured_at, decided_at, expires_at, boot,
                    captured_monotonic_us, latency_ms, looks, probes)
                 values (?1, randomblob(16), 'unknown', 7200001, 1, 1, zeroblob(16), 0, ?2, 1, 1)",
                params![sequence, latency],
            )
            .unwrap();
            expected.latency[bucket] += 1;
        }
        let found = |from, to| summary(&db, UnixMillis(from), UnixMillis(to)).unwrap();
        assert_eq!(found(7_200_000, 7_200_001), expected);
        assert_eq!(found(0, 7_200_000), EventSummary::default());
        assert_eq!(found(7_200_001, i64::MAX), EventSummary::default());
        db.execute("delete from event", []).unwrap();
        assert_eq!(found(0, i64::MAX), EventSummary::default());
        let left: u64 = db
            .query_row("select (select count(*) from hour) + (select count(*) from hour_latency)", [], |r| {
                r.get(0)
            })
            .unwrap();
        assert_eq!(left, 0);
    }

    #[test]
    fn percentiles_lie_in_the_bucket_of_their_share() {
        let mut summary = EventSummary::default();
        assert_eq!(summary.latency_ms(0.5), None);
        // 90 of up to 20 ms, 10 of more than 75 and up to 100.
        (summary.latency[0], summary.latency[4]) = (90, 10);
        assert_eq!(summary.latency_ms(0.45), Some(10.0));
        assert_eq!(summary.latency_ms(0.95), Some(87.5));
        assert_eq!(summary.latency_ms(1.0), Some(100.0));
        summary.latency[13] = 900;
        assert_eq!(summary.latency_ms(0.99), Some(5_000.0));
    }
}
