//! The live view: every viewer gets the newest frame with the faces that were found in that very frame.
//!
//! One JPEG is made of each look and shared by all viewers, off the recogniser's thread, and none while
//! nobody watches. Each viewer has one frame in flight: it says `next` when it has drawn one, and gets the
//! newest after that. A page that is hidden says nothing, and soon costs nothing.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::State;
use axum::extract::ws::{Message, WebSocketUpgrade};
use axum::response::Response;
use schemars::JsonSchema;
use serde::Serialize;
use tokio::sync::watch;
use tokio::time::timeout;

use super::access::{Access, Caller, Role, Scope};
use super::operation::Operation;
use super::problem::Problem;
use super::site::Site;
use super::socket::{self, Gone, Peer, Places};
use crate::clock::{Clock, Monotonic};
use crate::gallery::SubjectId;
use crate::geometry::PixelBox;
use crate::live::LookChannel;
use crate::recogniser::{Look, SeenFace, SeenLabel};
use crate::status::{Condition, Part};

/// Of the frames. 640x480 is about 45 kB, 0.7 MB/s a viewer.
const JPEG_QUALITY: u8 = 80;
/// Viewers at a time, a quarter of them of one user or token. Each costs what its frames take to send.
const VIEWERS: usize = 16;
/// A viewer that has not asked for the next frame for this long is not watching.
const HIDDEN: Duration = Duration::from_secs(2);
/// Without a frame for this long the viewer is told why. A watched camera gives several in a second.
const PATIENCE: Duration = Duration::from_secs(3);
/// Share of a new interval in the frame rate that is told.
const RATE_SHARE: f32 = 0.1;

/// The routes.
pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::get("/api/live", Access::Role(Role::Viewer), "watch", watch_live)
            .about(
                "The live view. Binary messages: length of the JSON (4 bytes, little-endian), JSON, JPEG. The \
                 first comes unasked; say `next` for the newest after it. Text messages tell errors.",
            )
            .scope(Scope::Watch)
            .gives_socket()
            .refuses(&[503]),
    ]
}

/// Box of a face, pixels of the frame.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, JsonSchema)]
pub(super) struct BoxView {
    x: f32,
    y: f32,
    width: f32,
    height: f32,
}

impl From<&PixelBox> for BoxView {
    fn from(bbox: &PixelBox) -> Self {
        Self { x: bbox.left, y: bbox.top, width: bbox.width(), height: bbox.height() }
    }
}

/// A reason, for programs and for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub(super) struct ReasonView {
    pub(super) code: &'static str,
    pub(super) message: String,
}

/// What is written beside a face.
#[derive(Serialize)]
struct FaceView {
    track: u64,
    bbox: BoxView,
    detection_score: f32,
    quality: Option<f32>,
    state: &'static str,
    subject: Option<SubjectId>,
    name: Option<String>,
    score: Option<f32>,
    reason: Option<ReasonView>,
}

impl From<&SeenFace> for FaceView {
    fn from(face: &SeenFace) -> Self {
        let (state, subject, name, measured) = match &face.label {
            SeenLabel::Subject(id, name) => ("identified", Some(*id), Some(name.as_str().to_owned()), None),
            SeenLabel::Unknown => ("unknown", None, None, None),
            // With what was measured, so that one sees how far off it is.
            SeenLabel::Undecided(newest) => {
                ("undecided", None, None, newest.map(|newest| newest.to_string()))
            }
        };
        let reason = face.reason.map(|reason| ReasonView {
            code: reason.code(),
            message: measured.unwrap_or_else(|| reason.to_string()),
        });
        Self {
            track: face.track.0,
            bbox: (&face.detection.bbox).into(),
            detection_score: face.detection.score.get(),
            quality: face.measured.map(|measured| measured.quality.get()),
            state,
            subject,
            name,
            score: face.measured.and_then(|measured| measured.score).map(|score| score.get()),
            reason,
        }
    }
}

/// What stands in front of a JPEG.
#[derive(Serialize)]
struct FrameView {
    frame: u64,
    captured_at: i64,
    width: u32,
    height: u32,
    age_ms: f32,
    rate_hz: Option<f32>,
    faces: Vec<FaceView>,
}

/// One look, ready to be sent.
#[derive(Clone, Debug)]
struct Encoded(Bytes);

impl Encoded {
    fn new(look: &Look, rate_hz: Option<f32>, clock: &dyn Clock) -> Option<Self> {
        let jpeg = look.picture.to_jpeg(JPEG_QUALITY)?;
        let view = FrameView {
            frame: look.frame.0,
            captured_at: look.captured_at.0,
            width: look.picture.width(),
            height: look.picture.height(),
            age_ms: clock.monotonic().since(look.captured).as_secs_f32() * 1e3,
            rate_hz,
            faces: look.faces.iter().map(FaceView::from).collect(),
        };
        let json = serde_json::to_vec(&view).ok()?;
        let mut bytes = Vec::with_capacity(4 + json.len() + jpeg.len());
        bytes.extend_from_slice(&u32::try_from(json.len()).ok()?.to_le_bytes());
        bytes.extend_from_slice(&json);
        bytes.extend_from_slice(&jpeg);
        Some(Self(bytes.into()))
    }
}

/// The newest look as it is sent, for all viewers together.
pub(crate) struct LiveView {
    looks: LookChannel,
    clock: Arc<dyn Clock>,
    newest: watch::Sender<Option<Encoded>>,
    /// Whether the task that encodes runs.
    encoding: Mutex<bool>,
    places: Places,
}

impl LiveView {
    pub(crate) fn new(looks: LookChannel, clock: Arc<dyn Clock>) -> Self {
        let newest = watch::Sender::new(None);
        Self { looks, clock, newest, encoding: Mutex::new(false), places: Places::new(VIEWERS) }
    }

    /// Watches from the next look on; makes sure that somebody encodes.
    fn watch(self: &Arc<Self>) -> watch::Receiver<Option<Encoded>> {
        let mut running = self.encoding.lock().unwrap_or_else(PoisonError::into_inner);
        let mut newest = self.newest.subscribe();
        newest.mark_unchanged();
        if !std::mem::replace(&mut *running, true) {
            tokio::spawn(Arc::clone(self).encode());
        }
        newest
    }

    /// Whether the task may end, now that nobody watches: decided under the lock, so that whoever comes
    /// at that moment starts another.
    fn may_end(&self) -> bool {
        let mut running = self.encoding.lock().unwrap_or_else(PoisonError::into_inner);
        if self.newest.receiver_count() > 0 {
            return false;
        }
        *running = false;
        // No picture stays in memory.
        self.newest.send_replace(None);
        true
    }

    async fn encode(self: Arc<Self>) {
        let mut looks = self.looks.watch();
        let mut rate: Option<f32> = None;
        let mut last: Option<Monotonic> = None;
        while !self.may_end() {
            // Without a camera nothing comes: then look from time to time whether anybody still waits.
            match timeout(HIDDEN, looks.changed()).await {
                Err(_) => continue,
                // The channel lives in this struct too.
                Ok(Err(_)) => break,
                Ok(Ok(())) => {}
            }
            let Some(look) = looks.borrow_and_update().clone() else { continue };
            let interval = last.map(|last| look.captured.since(last).as_secs_f32());
            last = Some(look.captured);
            rate = interval.filter(|interval| *interval > 0.0).map_or(rate, |interval| {
                let now = 1.0 / interval;
                Some(rate.map_or(now, |rate| rate + (now - rate) * RATE_SHARE))
            });
            let clock = Arc::clone(&self.clock);
            // Milliseconds of work, which would keep every connection waiting.
            let encoded =
                tokio::task::spawn_blocking(move || Encoded::new(&look, rate, clock.as_ref())).await;
            match encoded {
                Ok(Some(encoded)) => drop(self.newest.send_replace(Some(encoded))),
                Ok(None) => tracing::warn!("a frame is too large for a JPEG and cannot be shown"),
                Err(error) => tracing::warn!(%error, "encoding a frame failed"),
            }
        }
    }
}

async fn watch_live(
    State(site): State<Arc<Site>>,
    caller: Caller,
    upgrade: WebSocketUpgrade,
) -> Result<Response, Problem> {
    let here = Arc::clone(&site);
    socket::open(upgrade, &here.view.places, &here, (&caller, Role::Viewer), move |peer| async move {
        let mut peer = peer;
        // Whoever is gone is not taken leave of.
        if serve(&site, &mut peer).await == Ok(()) {
            peer.close().await;
        }
    })
}

async fn serve(site: &Site, peer: &mut Peer) -> Result<(), Gone> {
    let mut newest = site.view.watch();
    let mut told = false;
    loop {
        // One frame.
        let sent = tokio::select! {
            changed = timeout(PATIENCE, newest.changed()) => match changed {
                Ok(Ok(())) => {
                    let encoded = newest.borrow_and_update().clone();
                    match encoded {
                        Some(Encoded(bytes)) => {
                            peer.send(Message::Binary(bytes)).await?;
                            true
                        }
                        None => false,
                    }
                }
                Ok(Err(_)) => return Ok(()),
                Err(_) => {
                    if !std::mem::replace(&mut told, true) {
                        let (code, message) = why_nothing_comes(site);
                        peer.say_problem(code, &message).await?;
                    }
                    false
                }
            },
            // Said too early; one is on its way anyway.
            word = peer.next() => {
                word?;
                false
            }
        };
        if !sent {
            continue;
        }
        told = false;
        // Its word for the next.
        if let Ok(word) = timeout(HIDDEN, peer.next()).await {
            word?;
        } else {
            // Not watched any more: nothing is decoded, drawn or encoded for this one until it asks.
            drop(newest);
            peer.next().await?;
            newest = site.view.watch();
        }
    }
}

fn why_nothing_comes(site: &Site) -> (&'static str, String) {
    match site.status.condition(Part::Camera) {
        Condition::Degraded { reason, .. } => ("no_camera", reason),
        _ => match site.status.condition(Part::Recognition) {
            Condition::Degraded { reason, .. } => ("no_recognition", reason),
            _ => ("no_camera", "no frame has come for some seconds".to_owned()),
        },
    }
}
