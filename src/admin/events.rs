//! Events of the past and of this moment: lists, pictures, exports, sums for charts, and live.

use std::fmt::Write as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::extract::ws::WebSocketUpgrade;
use axum::http::StatusCode;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use hyper::body::Frame;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;

use super::access::{Access, Caller, Role, Scope};
use super::live::{BoxView, ReasonView};
use super::operation::{Asked, Named, Operation};
use super::problem::Problem;
use super::site::Site;
use super::socket::{self, Gone, Peer};
use crate::clock::UnixMillis;
use crate::door::record::DoorRecord;
use crate::event::EndVerdict;
use crate::event_store::{
    EventCursor, EventFilter, EventId, EventKind, EventPage, EventSummary, HOUR_MS, Hour, LATENCY_BOUNDS_MS,
    RecordedEvent, StoreHandle, StoreRefusal,
};
use crate::gallery::{SubjectId, SubjectName};
use crate::live::{Attempt, AttemptOutcome, Live};
use crate::reason::Reason;

/// Events of one answer.
const LIMIT: u32 = 50;
const MOST: u32 = 200;
/// Events of an export that are read together: a few milliseconds of the store's time.
const BATCH: usize = 500;
/// Batches that wait for a slow receiver.
const BATCHES: usize = 2;
/// A million events over a slow link.
const EXPORT_WITHIN: Duration = Duration::from_secs(900);
/// Summed up without saying from when.
const WEEK_MS: i64 = 7 * 24 * HOUR_MS;
/// The longest time that is summed up in one answer: a leap year.
const LONGEST_MS: i64 = 366 * 24 * HOUR_MS;

/// The routes.
pub(super) fn operations() -> Vec<Operation> {
    let viewer = Access::Role(Role::Viewer);
    vec![
        Operation::get("/api/events", viewer, "list_events", list)
            .about(
                "Events, newest first. A page may hold fewer than asked for, or none, and still have a `next`: \
                 what a request looks through is bounded.",
            )
            .scope(Scope::ReadEvents)
            .query::<ListQuery>()
            .gives::<EventList>(StatusCode::OK)
            .refuses(&[503])
            .revalidated(),
        Operation::get("/api/events/summary", viewer, "summarise_events", summary)
            .about("Visits, rings and decision latency by hour, of the last week if no time is given.")
            .scope(Scope::ReadEvents)
            .query::<SummaryQuery>()
            .gives::<SummaryView>(StatusCode::OK)
            .refuses(&[503]),
        Operation::get("/api/events/export", Access::Role(Role::Operator), "export_events", export)
            .audited()
            .about(
                "All events that the filters let through, newest first, as CSV or JSON. Two go at a time; it \
                 breaks off when the session or token ends.",
            )
            .scope(Scope::ReadEvents)
            .query::<ExportQuery>()
            .gives_bytes(&["text/csv", "application/json"])
            .refuses(&[503])
            .within(EXPORT_WITHIN),
        Operation::get("/api/events/live", viewer, "watch_events", watch)
            .about(
                "Text messages: {event}, {presence: {faces}}, {attempt}, and {missed: n} for whoever is too \
                 slow.",
            )
            .scope(Scope::ReadEvents)
            .gives_socket()
            .refuses(&[503]),
        Operation::get("/api/events/{id}", viewer, "show_event", one)
            .about("One event.")
            .scope(Scope::ReadEvents)
            .gives::<EventView>(StatusCode::OK)
            .refuses(&[404, 503]),
        Operation::get("/api/events/{id}/picture", viewer, "show_event_picture", picture)
            .about("The picture of the face that an event is about, where pictures are kept.")
            .scope(Scope::ReadEvents)
            .gives_bytes(&["image/jpeg"])
            .refuses(&[404, 503])
            .revalidated(),
    ]
}

/// Which events, and where to go on.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    /// `next` of the page before.
    after: Option<String>,
    /// At most this many, 1 to 200.
    #[schemars(range(min = 1, max = 200))]
    limit: Option<u32>,
    kind: Option<EventKind>,
    /// Id of a subject.
    subject: Option<String>,
    verdict: Option<EndVerdict>,
    /// Code of a reason.
    reason: Option<String>,
    /// Captured then or later, milliseconds since 1970.
    from: Option<i64>,
    /// Captured before.
    to: Option<i64>,
}

/// Which events, and how they are written.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ExportQuery {
    format: Format,
    kind: Option<EventKind>,
    /// Id of a subject.
    subject: Option<String>,
    verdict: Option<EndVerdict>,
    /// Code of a reason.
    reason: Option<String>,
    /// Captured then or later, milliseconds since 1970.
    from: Option<i64>,
    /// Captured before.
    to: Option<i64>,
}

/// How an export is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Format {
    /// A line for each event, the first with the names of the columns.
    #[default]
    Csv,
    /// One list.
    Json,
}

fn filter(
    (kind, verdict): (Option<EventKind>, Option<EndVerdict>),
    subject: Option<&str>,
    reason: Option<&str>,
    (from, to): (Option<i64>, Option<i64>),
) -> Result<EventFilter, Problem> {
    let subject = subject
        .map(|text| text.parse::<SubjectId>().map_err(|error| Problem::invalid(format!("subject: {error}"))))
        .transpose()?;
    let reason = reason
        .map(|code| {
            Reason::from_code(code).ok_or_else(|| Problem::invalid("reason: no reason has this code"))
        })
        .transpose()?;
    let (from, to) = (from.map(UnixMillis), to.map(UnixMillis));
    Ok(EventFilter { kind, subject, verdict, reason, from, to })
}

fn cursor_text(cursor: EventCursor) -> String {
    format!("{}.{}", cursor.captured_at.0, cursor.sequence)
}

fn cursor_of(text: &str) -> Result<EventCursor, Problem> {
    let parts = text.split_once('.').and_then(|(captured_at, sequence)| {
        let captured_at = UnixMillis(captured_at.parse().ok()?);
        Some(EventCursor { captured_at, sequence: sequence.parse().ok()? })
    });
    parts.ok_or_else(|| Problem::invalid("after: take it from `next` of the page before"))
}

/// One event.
#[derive(Debug, Serialize, JsonSchema)]
struct EventView {
    id: String,
    kind: EventKind,
    /// When the decisive frame was captured, milliseconds since 1970.
    captured_at: i64,
    decided_at: i64,
    /// From capture to decision.
    latency_ms: f32,
    /// Who, where somebody was identified and is still enrolled.
    subject: Option<String>,
    name: Option<String>,
    /// Comparison score of the decisive probe, or the best one below the threshold.
    score: Option<f32>,
    /// Lead over the next subject.
    margin: Option<f32>,
    /// Quality score of the decisive probe.
    quality: Option<f32>,
    looks: u32,
    probes: u32,
    /// How long the face was in view, for a visit that has ended.
    seen_ms: Option<u64>,
    /// How a visit ended: identified, unknown or undecided.
    verdict: Option<String>,
    /// The main reason for there being no match.
    reason: Option<CodeView>,
    /// What kept single looks from being conclusive.
    reasons: Vec<CountedReason>,
    /// What the door made of it, for granted, denied and alarm.
    door: Option<DoorRecord>,
    /// Where its picture is, if there is one.
    picture: Option<String>,
}

/// A reason as it is kept: one that a later version of the program wrote has no message here.
#[derive(Debug, Serialize, JsonSchema)]
struct CodeView {
    code: String,
    message: String,
}

/// A reason and how often it came up.
#[derive(Debug, Serialize, JsonSchema)]
struct CountedReason {
    code: String,
    message: String,
    looks: u32,
}

fn message(code: &str) -> String {
    Reason::from_code(code).map_or_else(|| code.replace('_', " "), |reason| reason.to_string())
}

impl EventView {
    fn new(event: &RecordedEvent, name: Option<&SubjectName>) -> Self {
        let reasons = event.reasons.iter().map(|(code, looks)| CountedReason {
            code: code.clone(),
            message: message(code),
            looks: *looks,
        });
        Self {
            id: event.id.to_string(),
            kind: event.kind,
            captured_at: event.captured_at.0,
            decided_at: event.decided_at.0,
            latency_ms: event.latency_ms,
            subject: event.subject.map(|subject| subject.to_string()),
            name: name.map(|name| name.as_str().to_owned()),
            score: event.score,
            margin: event.margin,
            quality: event.quality,
            looks: event.looks,
            probes: event.probes,
            seen_ms: event.seen_ms,
            verdict: event.verdict.clone(),
            reason: event.reason.as_ref().map(|code| CodeView { code: code.clone(), message: message(code) }),
            reasons: reasons.collect(),
            door: event.door.clone(),
            picture: event.has_crop.then(|| format!("/api/events/{}/picture", event.id)),
        }
    }

    fn all(page: &EventPage) -> Vec<Self> {
        let name = |event: &RecordedEvent| event.subject.and_then(|subject| page.names.get(&subject));
        page.events.iter().map(|event| Self::new(event, name(event))).collect()
    }
}

/// Part of the list.
#[derive(Serialize, JsonSchema)]
struct EventList {
    events: Vec<EventView>,
    /// Pass it as `after` for what follows.
    next: Option<String>,
}

async fn list(
    State(site): State<Arc<Site>>,
    Asked(query): Asked<ListQuery>,
) -> Result<Json<EventList>, Problem> {
    let limit = query.limit.unwrap_or(LIMIT);
    if !(1..=MOST).contains(&limit) {
        return Err(Problem::invalid(format!("limit: 1 to {MOST} events are given at a time")));
    }
    let ListQuery { kind, verdict, from, to, .. } = query;
    let filter = filter((kind, verdict), query.subject.as_deref(), query.reason.as_deref(), (from, to))?;
    let after = query.after.as_deref().map(cursor_of).transpose()?;
    let page = site.store.list_events(filter, after, limit as usize).await?;
    Ok(Json(EventList { events: EventView::all(&page), next: page.next.map(cursor_text) }))
}

pub(super) fn parse_id(id: &str) -> Result<EventId, Problem> {
    EventId::parse(id).ok_or_else(|| Problem::missing("event"))
}

async fn one(State(site): State<Arc<Site>>, Named(id): Named<String>) -> Result<Json<EventView>, Problem> {
    let page = site.store.event(parse_id(&id)?).await?;
    EventView::all(&page).pop().map(Json).ok_or_else(|| Problem::missing("event"))
}

async fn picture(State(site): State<Arc<Site>>, Named(id): Named<String>) -> Result<Response, Problem> {
    let jpeg = site.store.crop(parse_id(&id)?).await?.ok_or_else(|| Problem::missing("picture"))?;
    Ok(([(CONTENT_TYPE, "image/jpeg")], jpeg).into_response())
}

/// Of which time.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct SummaryQuery {
    /// Milliseconds since 1970; the hour that it falls into counts.
    from: Option<i64>,
    /// Up to then.
    to: Option<i64>,
}

/// Events summed up.
#[derive(Serialize, JsonSchema)]
struct SummaryView {
    /// Hours in which something happened, in order.
    hours: Vec<Hour>,
    latency: LatencyView,
}

/// From capture to decision.
#[derive(Serialize, JsonSchema)]
struct LatencyView {
    /// Decisions.
    count: u64,
    median_ms: Option<f64>,
    p95_ms: Option<f64>,
    p99_ms: Option<f64>,
    buckets: Vec<Bucket>,
}

/// Decisions that took longer than the bucket before says, and no longer than this one.
#[derive(Serialize, JsonSchema)]
struct Bucket {
    /// None for the last: whatever took longer.
    up_to_ms: Option<u32>,
    count: u64,
}

impl From<EventSummary> for SummaryView {
    fn from(summary: EventSummary) -> Self {
        let bounds = LATENCY_BOUNDS_MS.into_iter().map(Some).chain([None]);
        let bucket = |(up_to_ms, count): (Option<u32>, &u64)| Bucket { up_to_ms, count: *count };
        let latency = LatencyView {
            count: summary.decisions(),
            median_ms: summary.latency_ms(0.5),
            p95_ms: summary.latency_ms(0.95),
            p99_ms: summary.latency_ms(0.99),
            buckets: bounds.zip(&summary.latency).map(bucket).collect(),
        };
        Self { hours: summary.hours, latency }
    }
}

async fn summary(
    State(site): State<Arc<Site>>,
    Asked(query): Asked<SummaryQuery>,
) -> Result<Json<SummaryView>, Problem> {
    let to = query.to.unwrap_or_else(|| site.clock.wall().0);
    let from = query.from.unwrap_or_else(|| to.saturating_sub(WEEK_MS));
    if from >= to || to.saturating_sub(from) > LONGEST_MS {
        let days = LONGEST_MS / (24 * HOUR_MS);
        return Err(Problem::invalid(format!("from must lie before to, and by {days} days at most")));
    }
    let from = UnixMillis(from.saturating_sub(from.rem_euclid(HOUR_MS)));
    Ok(Json(site.store.summary(from, UnixMillis(to)).await?.into()))
}

/// A body that is made while it is sent. One that breaks off ends the connection, so that nobody takes
/// half of it for the whole.
struct Chunks(mpsc::Receiver<Result<Bytes, StoreRefusal>>);

impl hyper::body::Body for Chunks {
    type Data = Bytes;
    type Error = StoreRefusal;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StoreRefusal>>> {
        self.0.poll_recv(context).map(|chunk| chunk.map(|chunk| chunk.map(Frame::data)))
    }
}

async fn export(
    State(site): State<Arc<Site>>,
    caller: Caller,
    Asked(query): Asked<ExportQuery>,
) -> Result<Response, Problem> {
    let ExportQuery { format, kind, verdict, from, to, .. } = query;
    let filter = filter((kind, verdict), query.subject.as_deref(), query.reason.as_deref(), (from, to))?;
    let place = site.export_place()?;
    // The first batch before the answer begins, so that a store that cannot be read is an error and no
    // empty file.
    let first = site.store.list_events(filter.clone(), None, BATCH).await?;
    let (sender, receiver) = mpsc::channel(BATCHES);
    let here = Arc::clone(&site);
    tokio::spawn(async move {
        let may_go_on = || here.accounts.may_go_on(caller.who, Role::Operator);
        let written = write_export(&here.store, filter, format, first, may_go_on, &sender);
        // Whoever reads too slowly finds it broken off, and leaves the place to others.
        if tokio::time::timeout(EXPORT_WITHIN, written).await.is_err() {
            let _ = sender.try_send(Err(StoreRefusal::Failed("the export took too long".to_owned())));
        }
        drop(place);
    });
    let (media_type, name) = match format {
        Format::Csv => ("text/csv; charset=utf-8", "attachment; filename=\"events.csv\""),
        Format::Json => ("application/json", "attachment; filename=\"events.json\""),
    };
    let headers = [(CONTENT_TYPE, media_type), (CONTENT_DISPOSITION, name)];
    Ok((headers, Body::new(Chunks(receiver))).into_response())
}

async fn write_export(
    store: &StoreHandle,
    filter: EventFilter,
    format: Format,
    first: EventPage,
    may_go_on: impl Fn() -> bool,
    chunks: &mpsc::Sender<Result<Bytes, StoreRefusal>>,
) {
    let mut page = first;
    let mut is_first = true;
    loop {
        // A filter that lets little through gives many pages with nothing to send.
        if chunks.is_closed() {
            return;
        }
        if !may_go_on() {
            let _ = chunks.send(Err(StoreRefusal::Failed("whoever asked was signed out".to_owned()))).await;
            return;
        }
        let mut text = String::with_capacity(page.events.len() * 256 + 256);
        for event in EventView::all(&page) {
            match format {
                Format::Csv if is_first => text.push_str(CSV_HEADER),
                Format::Json if is_first => text.push('['),
                Format::Json => text.push_str(",\n"),
                Format::Csv => {}
            }
            is_first = false;
            match format {
                Format::Csv => csv_line(&event, &mut text),
                // Numbers and texts always have a JSON form.
                Format::Json => text.push_str(&serde_json::to_string(&event).unwrap_or_default()),
            }
        }
        let next = page.next;
        if next.is_none() {
            match format {
                Format::Csv if is_first => text.push_str(CSV_HEADER),
                Format::Json if is_first => text.push_str("[]\n"),
                Format::Json => text.push_str("]\n"),
                Format::Csv => {}
            }
        }
        if !text.is_empty() && chunks.send(Ok(text.into())).await.is_err() {
            return;
        }
        if next.is_none() {
            return;
        }
        page = match store.list_events(filter.clone(), next, BATCH).await {
            Ok(page) => page,
            // The store has other work for a moment; an export is not worth giving up for that.
            Err(StoreRefusal::Busy) => {
                tokio::time::sleep(Duration::from_millis(500)).await;
                EventPage { next, ..EventPage::default() }
            }
            Err(refusal) => {
                // Whoever is gone needs no reason.
                let _ = chunks.send(Err(refusal)).await;
                return;
            }
        };
    }
}

const CSV_HEADER: &str = "id,kind,captured_at,decided_at,latency_ms,subject,name,score,margin,quality,looks,\
                          probes,seen_ms,verdict,reason,reasons\r\n";

fn csv_line(event: &EventView, line: &mut String) {
    let number = |value: Option<f32>| value.map(|value| value.to_string()).unwrap_or_default();
    let reasons: Vec<_> =
        event.reasons.iter().map(|reason| format!("{}={}", reason.code, reason.looks)).collect();
    let cells = [
        event.id.clone(),
        event.kind.name().to_owned(),
        event.captured_at.to_string(),
        event.decided_at.to_string(),
        event.latency_ms.to_string(),
        event.subject.clone().unwrap_or_default(),
        csv_text(event.name.as_deref().unwrap_or_default()),
        number(event.score),
        number(event.margin),
        number(event.quality),
        event.looks.to_string(),
        event.probes.to_string(),
        event.seen_ms.map(|ms| ms.to_string()).unwrap_or_default(),
        event.verdict.clone().unwrap_or_default(),
        csv_text(event.reason.as_ref().map_or("", |reason| &reason.code)),
        csv_text(&reasons.join(" ")),
    ];
    // Writing to a text cannot fail.
    let _ = write!(line, "{}\r\n", cells.join(","));
}

/// A text as a cell: quoted where needed (RFC 4180), and with an apostrophe wherever a spreadsheet would
/// take what follows for a formula. One that splits cells at `;` or tabs, as some do whatever is quoted,
/// begins a cell there too.
fn csv_text(text: &str) -> String {
    const FORMULA: [char; 8] = ['=', '+', '-', '@', '＝', '＋', '－', '＠'];
    let mut cell = String::with_capacity(text.len() + 2);
    if text.starts_with(['\t', '\r', '\n']) {
        cell.push('\'');
    }
    let mut begins = true;
    for c in text.chars() {
        if begins && FORMULA.contains(&c) {
            cell.push('\'');
        }
        match c {
            '"' => cell.push_str("\"\""),
            c => cell.push(c),
        }
        // Blanks and quotes before a formula do not keep it from being one.
        begins = matches!(c, ';' | '\t' | '\r' | '\n') || (begins && matches!(c, ' ' | '"'));
    }
    if text.contains([',', '"', '\r', '\n', '\t', ';'])
        || text.len() + text.matches('"').count() != cell.len()
    {
        format!("\"{cell}\"")
    } else {
        cell
    }
}

async fn watch(
    State(site): State<Arc<Site>>,
    caller: Caller,
    upgrade: WebSocketUpgrade,
) -> Result<Response, Problem> {
    let here = Arc::clone(&site);
    socket::open(upgrade, &here.event_watchers, &here, (&caller, Role::Viewer), move |peer| async move {
        let mut peer = peer;
        // Whoever is gone is not taken leave of.
        if tell(&site, &mut peer).await == Ok(()) {
            peer.close().await;
        }
    })
}

async fn tell(site: &Site, peer: &mut Peer) -> Result<(), Gone> {
    let (mut news, mut live) = (site.store.news(), site.live.listen());
    peer.say(json!({ "presence": { "faces": site.live.faces() } }).to_string()).await?;
    loop {
        let message = tokio::select! {
            event = news.recv() => match event {
                Ok(event) => {
                    let gallery = site.store.gallery().current();
                    let name = event.subject.and_then(|subject| gallery.subject(subject));
                    json!({ "event": EventView::new(&event, name.map(|subject| &subject.name)) })
                }
                Err(RecvError::Lagged(missed)) => json!({ "missed": missed }),
                Err(RecvError::Closed) => return Ok(()),
            },
            report = live.recv() => match report {
                Ok(Live::Presence { faces }) => json!({ "presence": { "faces": faces } }),
                Ok(Live::Attempt(attempt)) => json!({ "attempt": attempt_view(&attempt, site) }),
                Err(RecvError::Lagged(missed)) => json!({ "missed": missed }),
                Err(RecvError::Closed) => return Ok(()),
            },
            // Nothing is to be said here; that something is keeps the connection.
            word = peer.next() => {
                word?;
                continue;
            }
        };
        peer.say(message.to_string()).await?;
    }
}

fn attempt_view(attempt: &Attempt, site: &Site) -> serde_json::Value {
    let (outcome, subject, score, code) = match attempt.outcome {
        AttemptOutcome::Match { subject, score } => ("match", Some(subject), Some(score.get()), None),
        AttemptOutcome::NoMatch { best } => ("no_match", None, best.map(|best| best.get()), None),
        AttemptOutcome::Inconclusive(code) => ("inconclusive", None, None, Some(code)),
    };
    let gallery = site.store.gallery().current();
    let name = subject.and_then(|subject| gallery.subject(subject)).map(|subject| subject.name.as_str());
    json!({
        "track": attempt.track.0,
        "captured_at": attempt.captured_at.0,
        "first_seen_at": attempt.first_seen_at.0,
        "latency_ms": attempt.latency_ms,
        "attempts": attempt.attempts,
        "outcome": outcome,
        "subject": subject.map(|subject| subject.to_string()),
        "name": name,
        "score": score,
        "reason": code.map(|code| ReasonView { code, message: message(code) }),
        "bbox": BoxView::from(&attempt.bbox),
        "width": attempt.frame.width,
        "height": attempt.frame.height,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An export whose store answers nothing; it has more to read.
    fn exported(may_go_on: bool, received: bool) -> Option<Result<Bytes, StoreRefusal>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let (store, requests) = StoreHandle::unserved();
        let (sender, mut receiver) = mpsc::channel(BATCHES);
        if !received {
            receiver.close();
        }
        let next = Some(EventCursor { captured_at: UnixMillis(1), sequence: 1 });
        let first = EventPage { next, ..EventPage::default() };
        runtime.block_on(async {
            let written =
                write_export(&store, EventFilter::default(), Format::Csv, first, || may_go_on, &sender);
            tokio::time::timeout(Duration::from_secs(60), written).await.unwrap();
        });
        assert!(requests.try_recv().is_err(), "nothing more is asked of the store");
        receiver.try_recv().ok()
    }

    #[test]
    fn export_ends_when_its_receiver_is_gone_though_it_has_nothing_to_send() {
        assert!(exported(true, false).is_none());
    }

    #[test]
    fn export_breaks_off_when_whoever_asked_is_signed_out() {
        assert!(matches!(exported(false, true), Some(Err(StoreRefusal::Failed(_)))));
    }

    #[test]
    fn cursor_is_read_as_it_is_written() {
        let cursor = EventCursor { captured_at: UnixMillis(-7), sequence: 9 };
        assert_eq!(cursor_of(&cursor_text(cursor)).unwrap(), cursor);
        for bad in ["", "1", "1.", "a.1", "1.1.1", "1.-1", "99999999999999999999.1"] {
            assert_eq!(cursor_of(bad).unwrap_err().status, StatusCode::BAD_REQUEST, "{bad}");
        }
    }

    #[test]
    fn csv_holds_no_formula_and_no_broken_line() {
        for (text, cell) in [
            ("Ada", "Ada"),
            ("Lovelace, Ada", "\"Lovelace, Ada\""),
            ("=cmd|' /C calc'!A0", "\"'=cmd|' /C calc'!A0\""),
            ("+1", "\"'+1\""),
            ("-1", "\"'-1\""),
            ("@x", "\"'@x\""),
            ("\tx", "\"'\tx\""),
            ("a\"b\r\nc", "\"a\"\"b\r\nc\""),
            ("", ""),
            ("Ada;=1+1", "\"Ada;'=1+1\""),
            ("Ada; \"=1", "\"Ada; \"\"'=1\""),
            ("Ada\t@x", "\"Ada\t'@x\""),
            ("Ada\n-1", "\"Ada\n'-1\""),
            ("Ada-Marie;Byron", "\"Ada-Marie;Byron\""),
        ] {
            assert_eq!(csv_text(text), cell);
        }
        assert_eq!(CSV_HEADER.split(',').count(), 16);
    }

    #[test]
    fn filters_that_name_nothing_are_refused() {
        let none = (None, None);
        assert!(filter(none, Some("0123"), None, (None, None)).is_err());
        assert!(filter(none, None, Some("too far"), (None, None)).is_err());
        let found = filter(none, Some(&"0a".repeat(16)), Some("too_far"), (Some(1), None)).unwrap();
        assert_eq!(found.reason, Some(Reason::TooFar));
        assert_eq!(found.subject, Some(SubjectId::from_bytes([10; 16])));
    }
}
