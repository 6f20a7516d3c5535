//! What goes on right now, for whoever listens: presence and every attempt at a face. Nothing of it is
//! kept, nobody is waited for, and a listener that is too slow misses some and is told how many.
//!
//! What must not be missed is an event: [`crate::event`] and [`crate::event_store`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::{broadcast, watch};

use crate::clock::UnixMillis;
use crate::frame::FrameSize;
use crate::gallery::SubjectId;
use crate::geometry::PixelBox;
use crate::recogniser::Look;
use crate::score::ComparisonScore;
use crate::track::TrackId;

/// Reports that a listener may lag behind.
const LAG: usize = 64;

/// One report.
#[derive(Clone, Debug, PartialEq)]
pub enum Live {
    /// How many confirmed faces are in view has changed.
    Presence {
        /// Faces.
        faces: u32,
    },
    /// A face was looked at closely.
    Attempt(Attempt),
}

/// One look at one face.
#[derive(Clone, Debug, PartialEq)]
pub struct Attempt {
    /// Which face.
    pub track: TrackId,
    /// When the frame was captured.
    pub captured_at: UnixMillis,
    /// When the face was seen first.
    pub first_seen_at: UnixMillis,
    /// From capture to this report, milliseconds.
    pub latency_ms: f32,
    /// What the look gave.
    pub outcome: AttemptOutcome,
    /// The face, pixels of the frame.
    pub bbox: PixelBox,
    /// The frame.
    pub frame: FrameSize,
    /// Looks at this face so far, this one included.
    pub attempts: u32,
}

/// What one look gave.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum AttemptOutcome {
    /// A candidate above the threshold and ahead of the next.
    Match {
        /// Who.
        subject: SubjectId,
        /// How alike.
        score: ComparisonScore,
    },
    /// Nobody above the threshold.
    NoMatch {
        /// The best candidate's score; none in an empty gallery.
        best: Option<ComparisonScore>,
    },
    /// No answer, with the code of the reason.
    Inconclusive(&'static str),
}

/// Both ends of the reports. Sending without a listener costs nothing.
#[derive(Clone, Debug)]
pub struct LiveChannel {
    reports: broadcast::Sender<Live>,
    /// As told last, for a listener that missed a report.
    faces: Arc<AtomicU32>,
    /// What whoever is being enrolled in front of the device is to do.
    guide: watch::Sender<Option<&'static str>>,
}

impl LiveChannel {
    /// No listener yet.
    pub fn new() -> Self {
        Self { reports: broadcast::Sender::new(LAG), faces: Arc::default(), guide: watch::Sender::new(None) }
    }

    /// Tells everybody who listens.
    pub fn send(&self, live: Live) {
        if let Live::Presence { faces } = live {
            self.faces.store(faces, Ordering::Relaxed);
        }
        // An error means that nobody listens.
        let _ = self.reports.send(live);
    }

    /// Listens from now on.
    pub fn listen(&self) -> broadcast::Receiver<Live> {
        self.reports.subscribe()
    }

    /// Tells whoever is being enrolled in front of the device what to do; none when that is over.
    pub fn set_guide(&self, step: Option<&'static str>) {
        self.guide.send_if_modified(|now| std::mem::replace(now, step) != step);
    }

    /// What they are to do; changes when that does.
    pub fn guide(&self) -> watch::Receiver<Option<&'static str>> {
        self.guide.subscribe()
    }

    /// Confirmed faces in view now.
    pub fn faces(&self) -> u32 {
        self.faces.load(Ordering::Relaxed)
    }
}

impl Default for LiveChannel {
    fn default() -> Self {
        Self::new()
    }
}

/// The newest look with its picture, one deep. Made only while somebody watches, since turning a
/// frame into a picture costs more than looking at it.
#[derive(Clone, Debug)]
pub struct LookChannel(watch::Sender<Option<Arc<Look>>>);

impl LookChannel {
    /// Nobody watches yet.
    pub fn new() -> Self {
        Self(watch::Sender::new(None))
    }

    /// Whether anybody watches.
    pub fn is_watched(&self) -> bool {
        self.0.receiver_count() > 0
    }

    /// Shows a look to everybody who watches.
    pub fn show(&self, look: Look) {
        self.0.send_replace(Some(Arc::new(look)));
    }

    /// Forgets the last look once nobody watches, so that no picture stays in memory.
    pub fn forget(&self) {
        if !self.is_watched() {
            self.0.send_if_modified(|look| look.take().is_some());
        }
    }

    /// Watches from the next look on.
    pub fn watch(&self) -> watch::Receiver<Option<Arc<Look>>> {
        let mut watch = self.0.subscribe();
        watch.mark_unchanged();
        watch
    }
}

impl Default for LookChannel {
    fn default() -> Self {
        Self::new()
    }
}
