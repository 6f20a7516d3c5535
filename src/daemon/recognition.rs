//! The thread `recogniser`: takes the newest frame, and hands out what came of it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result};
use tokio::sync::watch;

use super::{Report, TICK};
use crate::camera::capture::{CaptureShared, CaptureState, Waited};
use crate::door::thread::{DoorHandle, DoorInput};
use crate::event::{IdentityEvent, Outcome};
use crate::event_store::StoreHandle;
use crate::live::LookChannel;
use crate::models::Thresholds;
use crate::recogniser::{Recogniser, RecogniserSettings, RecogniserStats};
use crate::score::ComparisonScore;
use crate::selftest;
use crate::status::{Part, Status};
use crate::supervisor::Heartbeat;

/// Frames in a row that cannot be decoded after which the camera is not working: two seconds of them.
const BROKEN_FRAMES: u32 = 30;
/// Frames in a row that inference may fail on before the program gives up.
const FAILURES_IN_A_ROW: u32 = 10;

/// Reports to the caller; those that do not fit are dropped.
pub(super) struct Reports {
    pub(super) queue: SyncSender<Report>,
    pub(super) dropped: Arc<AtomicU64>,
}

impl Reports {
    fn send(&self, report: Report) {
        if self.queue.try_send(report).is_err() && self.dropped.fetch_add(1, Ordering::Relaxed) == 0 {
            tracing::warn!("events are not read as fast as they come; some are not printed, all are kept");
        }
    }
}

/// The thread `recogniser`.
pub(super) struct RecogniserThread {
    pub(super) recogniser: Recogniser,
    pub(super) frames: Arc<CaptureShared>,
    pub(super) store: StoreHandle,
    pub(super) door: DoorHandle,
    pub(super) reports: Reports,
    pub(super) looks: LookChannel,
    pub(super) status: Status,
    pub(super) stats: Arc<Mutex<RecogniserStats>>,
    /// The settings in force.
    pub(super) settings: watch::Receiver<RecogniserSettings>,
    /// The camera gives frames that cannot be decoded.
    pub(super) rubbish: bool,
    /// Faces in view, as the door was told last.
    pub(super) faces: u32,
}

impl RecogniserThread {
    pub(super) fn run(mut self, thresholds: &Thresholds, beat: &Heartbeat) -> Result<()> {
        selftest::run(self.recogniser.perception(), ComparisonScore::new(thresholds.verification))?;
        self.status.working(Part::Recognition);
        let mut events = Vec::new();
        let mut failures = 0;
        loop {
            beat.beat();
            // Without anybody left who could change them, they stay as they are.
            if self.settings.has_changed().unwrap_or(false) {
                let settings = self.settings.borrow_and_update().clone();
                self.recogniser.configure(settings);
            }
            let frame = match self.frames.slot().wait(TICK) {
                Waited::Frame(frame) => frame,
                Waited::TimedOut => {
                    if matches!(self.frames.stats().state, CaptureState::Lost { .. }) {
                        self.recogniser.end_all(&mut events);
                        self.tell_the_door(&events);
                        self.send(&mut events);
                    }
                    continue;
                }
                Waited::Closed => break,
            };
            self.recogniser.confirm(self.door.confirming_probes());
            let mut look = None;
            match self.recogniser.frame(&frame, &mut events, self.looks.is_watched().then_some(&mut look)) {
                Ok(()) => {
                    failures = 0;
                    self.tell_the_door(&events);
                    self.status.working(Part::Recognition);
                    self.note_broken_frames(&mut events);
                }
                Err(error) => {
                    failures += 1;
                    self.status.degraded(Part::Recognition, error.to_string());
                    if failures >= FAILURES_IN_A_ROW {
                        return Err(error).context("recognition keeps failing");
                    }
                }
            }
            self.frames.slot().recycle(frame.bytes);
            match look {
                Some(look) => self.looks.show(look),
                None => self.looks.forget(),
            }
            self.send(&mut events);
        }
        self.recogniser.end_all(&mut events);
        self.send(&mut events);
        Ok(())
    }

    /// Before anything is written down: whoever stands there waits for it.
    fn tell_the_door(&mut self, events: &[IdentityEvent]) {
        for sight in self.recogniser.take_sights() {
            self.door.tell(DoorInput::Face(sight));
        }
        for event in events {
            match event.outcome {
                Outcome::Unknown { .. } => {
                    self.door.tell(DoorInput::Stranger(event.track, event.captured, event.captured_at));
                }
                Outcome::Ended { .. } => self.door.tell(DoorInput::Left(event.track)),
                Outcome::Identified { .. } => {}
            }
        }
        let faces = self.recogniser.faces();
        if std::mem::replace(&mut self.faces, faces) != faces {
            self.door.tell(DoorInput::Presence(faces));
        }
    }

    /// A camera that gives nothing but rubbish is as good as none.
    fn note_broken_frames(&mut self, events: &mut Vec<IdentityEvent>) {
        let broken = self.recogniser.broken_in_a_row();
        if broken == BROKEN_FRAMES {
            let reason = "its frames cannot be decoded; check the cable, or ask for another camera.format";
            self.status.degraded(Part::Camera, reason);
            self.recogniser.end_all(events);
            self.rubbish = true;
        } else if broken == 0 && std::mem::replace(&mut self.rubbish, false) {
            self.status.working(Part::Camera);
        }
    }

    fn send(&mut self, events: &mut Vec<IdentityEvent>) {
        self.recogniser.stats().clone_into(&mut self.stats.lock().unwrap_or_else(|p| p.into_inner()));
        for event in events.drain(..) {
            // To the disk first, for the door and the broker wait for it.
            if !self.store.record(event.clone()) {
                tracing::error!("an event came after the store had ended");
            }
            self.reports.send(Report::Event(event));
        }
    }
}
