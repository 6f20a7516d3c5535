//! A job as its own thread sees it: it waits for its turn, tells how far it is, and hears that it is to stop.

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use serde_json::Value;

use super::{
    DOWNLOAD, Download, Job, JobKind, JobState, REPORT_BYTES, REPORT_ENTRIES, ReportEntry, Shared, Stopped,
    Wanted, leave_out,
};
use crate::clock::{Monotonic, UnixMillis};

/// What a job's thread does.
pub(super) fn run(control: &JobControl, work: impl FnOnce(&JobControl) -> Result<(), Stopped>) {
    let result = match control.begin() {
        Ok(()) => {
            // Whatever the panic broke belongs to this job, and is dropped with it.
            std::panic::catch_unwind(AssertUnwindSafe(|| work(control))).unwrap_or_else(|_| {
                Err(Stopped::Failed("a fault of the program ended it; the log says where".to_owned()))
            })
        }
        Err(stopped) => Err(stopped),
    };
    let (name, id) = (control.kind.name(), control.id);
    let (state, message) = match result {
        Ok(()) => (JobState::Done, None),
        Err(Stopped::Cancelled) => (JobState::Cancelled, None),
        Err(Stopped::Failed(why)) => (JobState::Failed, Some(why)),
    };
    tracing::info!(job = id, kind = name, ?state, "a job has ended");
    control.change(|job, now, wall| {
        job.view.state = state;
        job.view.ended_at = Some(wall);
        job.view.message = message.or(job.view.message.take());
        if let Some((_, until)) = &mut job.download {
            *until = now + DOWNLOAD;
        }
    });
}

/// A job's own view of itself.
pub struct JobControl {
    pub(super) shared: Arc<Shared>,
    pub(super) id: u64,
    pub(super) kind: JobKind,
}

impl fmt::Debug for JobControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JobControl({})", self.id)
    }
}

impl JobControl {
    /// Waits for its turn.
    fn begin(&self) -> Result<(), Stopped> {
        let mut state = self.shared.lock();
        loop {
            let next = state.is_next(self.id, self.kind);
            let Some(job) = state.job(self.id) else { return Err(Stopped::Cancelled) };
            match job.wanted {
                Wanted::Cancel => return Err(Stopped::Cancelled),
                Wanted::Run if next => {
                    job.view.state = JobState::Running;
                    self.shared.changed.notify_all();
                    return Ok(());
                }
                Wanted::Pause if next => job.view.state = JobState::Paused,
                Wanted::Run | Wanted::Pause => {}
            }
            state = self.shared.wait(state);
        }
    }

    /// Between two whole steps: waits while the job is held; an error when it is to end.
    pub fn checkpoint(&self) -> Result<(), Stopped> {
        let mut state = self.shared.lock();
        loop {
            match state.job(self.id).map(|job| job.wanted) {
                Some(Wanted::Run) => return Ok(()),
                Some(Wanted::Pause) => state = self.shared.wait(state),
                Some(Wanted::Cancel) | None => return Err(Stopped::Cancelled),
            }
        }
    }

    /// Whether it is to end. For steps that can stop in the middle and leave nothing behind.
    pub fn is_cancelled(&self) -> bool {
        self.shared.lock().job(self.id).is_none_or(|job| job.wanted == Wanted::Cancel)
    }

    /// How far it is.
    pub fn progress(&self, done: u64, total: u64) {
        self.change(|job, _, _| (job.view.done, job.view.total) = (done, total));
    }

    /// Adds to the report.
    pub fn report(&self, entries: impl IntoIterator<Item = ReportEntry>) {
        self.change(|job, _, _| {
            for entry in entries {
                let bytes = entry.path.len() + entry.message.len();
                if job.report.len() >= REPORT_ENTRIES || job.report_bytes + bytes > REPORT_BYTES {
                    job.dropped += 1;
                } else {
                    job.report_bytes += bytes;
                    job.report.push(entry);
                }
            }
        });
    }

    /// What came of it so far.
    pub fn result(&self, result: Value) {
        let (mut result, mut state) = (result, self.shared.lock());
        leave_out(&mut result, &state.erased);
        if let Some(job) = state.job(self.id) {
            job.view.result = Some(result);
        }
        self.shared.changed.notify_all();
    }

    /// What there is to say about how it stands.
    pub fn message(&self, message: impl Into<String>) {
        let message = message.into();
        self.change(|job, _, _| job.view.message = Some(message));
    }

    /// Offers a file, to be fetched once the job is done.
    pub fn offer(&self, download: Download) {
        self.change(|job, now, _| {
            job.view.download = Some(format!("/api/jobs/{}/download", job.view.id));
            job.download = Some((download, now + DOWNLOAD));
        });
    }

    fn change(&self, change: impl FnOnce(&mut Job, Monotonic, UnixMillis)) {
        let (now, wall) = (self.shared.clock.monotonic(), self.shared.clock.wall());
        let mut state = self.shared.lock();
        if let Some(job) = state.job(self.id) {
            change(job, now, wall);
        }
        state.tidy(now);
        self.shared.changed.notify_all();
    }
}
