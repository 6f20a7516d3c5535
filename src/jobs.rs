//! Long work in the background: what is under way, how far it is, and what came of it.
//!
//! Each job has a thread of its own; of one kind one runs at a time, a few more wait. A job reaches
//! [`JobControl::checkpoint`] between two steps that are each whole, and there it is paused or
//! cancelled: it leaves nothing half done. One that panics has failed, and the program goes on. What has
//! ended is kept in memory for a while, bounded in number and size; nothing of it is on the disk, since
//! reports hold names.
//!
//! Not here: what the jobs do. The supervisor does not watch these threads:
//! a job may take hours, and standing still harms nobody but itself.

mod control;

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use thiserror::Error;

use crate::clock::{Clock, Monotonic, UnixMillis};
use crate::gallery::SubjectId;
use crate::spool::Spool;

pub use control::JobControl;
use control::run;

/// Ended jobs that are kept.
const KEPT: usize = 20;
/// Of these, the newest that keep their reports.
const KEPT_REPORTS: usize = 4;
/// Jobs of one kind that may wait behind the running one: each may hold an upload on the disk.
const WAITING: usize = 2;
/// A report's entries, and the bytes of text in them; what is beyond is counted.
const REPORT_ENTRIES: usize = 20_000;
const REPORT_BYTES: usize = 4 << 20;
/// How long a finished file can be fetched.
const DOWNLOAD: Duration = Duration::from_secs(900);

/// What a job is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum JobKind {
    /// Enrolling an archive of pictures.
    Import,
    /// Making templates anew with the present network.
    Reembed,
    /// A copy of what the device knows.
    Backup,
    /// Encrypting everything under another root key.
    Rekey,
}

impl JobKind {
    /// Its name in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Import => "import",
            Self::Reembed => "reembed",
            Self::Backup => "backup",
            Self::Rekey => "rekey",
        }
    }
}

/// How it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// Another one of its kind runs.
    Waiting,
    /// At work.
    Running,
    /// Held by somebody.
    Paused,
    /// Ended by somebody; what was done by then stays.
    Cancelled,
    /// Ended as it should.
    Done,
    /// Ended by something that went wrong; the message says what.
    Failed,
}

impl JobState {
    fn has_ended(self) -> bool {
        matches!(self, Self::Cancelled | Self::Done | Self::Failed)
    }
}

/// A job as it is shown.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct JobView {
    /// Number within one run of the program.
    pub id: u64,
    /// What it is about.
    pub kind: JobKind,
    /// How it stands.
    pub state: JobState,
    /// Steps done.
    pub done: u64,
    /// Steps in all, as far as known.
    pub total: u64,
    /// When it was asked for.
    #[schemars(with = "i64")]
    pub started_at: UnixMillis,
    /// When it ended.
    #[schemars(with = "Option<i64>")]
    pub ended_at: Option<UnixMillis>,
    /// Who asked for it.
    pub by: String,
    /// What there is to say about how it stands.
    pub message: Option<String>,
    /// What came of it so far; its form depends on the kind.
    pub result: Option<Value>,
    /// Where its file can be fetched, while it can.
    pub download: Option<String>,
}

/// What became of one file or subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReportOutcome {
    /// There is a template of it now.
    Enrolled,
    /// There is none, and the code says why.
    Refused,
    /// There was one already.
    Duplicate,
}

/// One line of a report. Holds a name.
#[derive(Clone, PartialEq, Serialize, JsonSchema)]
pub struct ReportEntry {
    /// Which file.
    pub path: String,
    /// What became of it.
    pub outcome: ReportOutcome,
    /// For programs.
    pub code: &'static str,
    /// For people.
    pub message: String,
}

impl fmt::Debug for ReportEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReportEntry {{ {:?}, {} }}", self.outcome, self.code)
    }
}

/// A part of a report.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct ReportPage {
    /// In the order in which they came up.
    pub entries: Vec<ReportEntry>,
    /// Asks for what follows.
    pub next: Option<String>,
    /// Entries that were dropped because the report was full, long ago, or because somebody was erased.
    pub dropped: u64,
}

/// A file that a job has made.
#[derive(Clone, Debug)]
pub struct Download {
    /// Its bytes.
    pub spool: Arc<Spool>,
    /// What it is called.
    pub name: String,
}

/// How a job ends that does not end as it should.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum Stopped {
    /// Somebody wants it to end.
    #[error("cancelled")]
    Cancelled,
    /// It cannot go on.
    #[error("{0}")]
    Failed(String),
}

/// Why something cannot be done with a job.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum JobRefusal {
    /// Too many wait.
    #[error("{WAITING} jobs of this kind wait already; wait for one to end, or cancel one")]
    TooMany,
    /// There is none of this number.
    #[error("there is no such job, or no longer")]
    Unknown,
    /// It has ended.
    #[error("the job has ended")]
    Ended,
    /// The program is ending, or has no thread for it.
    #[error("no job can be started now; try again")]
    NoThread,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    Run,
    Pause,
    Cancel,
}

struct Job {
    view: JobView,
    wanted: Wanted,
    report: Vec<ReportEntry>,
    report_bytes: usize,
    dropped: u64,
    download: Option<(Download, Monotonic)>,
}

#[derive(Default)]
struct State {
    next: u64,
    /// Who was erased while an import was open, which may still name them in its result.
    erased: Vec<SubjectId>,
    /// In the order of their numbers.
    jobs: VecDeque<Job>,
    ending: bool,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    clock: Arc<dyn Clock>,
}

/// All jobs. Cheap to clone.
#[derive(Clone)]
pub struct Jobs(Arc<Shared>);

impl fmt::Debug for Jobs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Jobs {{ {} }}", self.0.lock().jobs.len())
    }
}

impl Shared {
    // A job that panics holds no lock; a poisoned one would hold nothing half changed.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed.wait(state).unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl State {
    fn job(&mut self, id: u64) -> Option<&mut Job> {
        self.jobs.iter_mut().find(|job| job.view.id == id)
    }

    /// The first of its kind that has not ended is the one that may run.
    fn is_next(&self, id: u64, kind: JobKind) -> bool {
        let mut open = self.jobs.iter().filter(|job| job.view.kind == kind && !job.view.state.has_ended());
        open.next().is_some_and(|job| job.view.id == id)
    }

    fn open(&self, kind: JobKind) -> usize {
        self.jobs.iter().filter(|job| job.view.kind == kind && !job.view.state.has_ended()).count()
    }

    /// Whether one more of a kind may be started.
    fn room(&self, kind: JobKind) -> Result<(), JobRefusal> {
        if self.ending {
            return Err(JobRefusal::NoThread);
        }
        if self.open(kind) > WAITING { Err(JobRefusal::TooMany) } else { Ok(()) }
    }

    /// Forgets what is too much.
    fn tidy(&mut self, now: Monotonic) {
        let mut ended = 0;
        for job in self.jobs.iter_mut().rev().filter(|job| job.view.state.has_ended()) {
            ended += 1;
            if ended > KEPT_REPORTS {
                job.dropped += job.report.len() as u64;
                job.report = Vec::new();
            }
            if job.download.as_ref().is_some_and(|(_, until)| now >= *until) {
                job.download = None;
                job.view.download = None;
            }
        }
        while ended > KEPT {
            let oldest = self.jobs.iter().position(|job| job.view.state.has_ended());
            self.jobs.remove(oldest.expect("some have ended"));
            ended -= 1;
        }
    }
}

impl Jobs {
    /// None yet.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self(Arc::new(Shared { state: Mutex::default(), changed: Condvar::new(), clock }))
    }

    /// Starts `work` on a thread of its own, or lets it wait for the one of its kind that runs.
    pub fn start(
        &self,
        kind: JobKind,
        by: String,
        work: impl FnOnce(&JobControl) -> Result<(), Stopped> + Send + 'static,
    ) -> Result<JobView, JobRefusal> {
        let now = self.0.clock.wall();
        let mut state = self.0.lock();
        state.room(kind)?;
        state.next += 1;
        let id = state.next;
        let view = JobView {
            id,
            kind,
            state: JobState::Waiting,
            done: 0,
            total: 0,
            started_at: now,
            ended_at: None,
            by,
            message: None,
            result: None,
            download: None,
        };
        let control = JobControl { shared: Arc::clone(&self.0), id, kind };
        // It waits for the lock that is held here, so that it finds itself among the jobs.
        let thread = std::thread::Builder::new()
            .name(format!("job-{}", kind.name()))
            .spawn(move || run(&control, work));
        if let Err(error) = thread {
            tracing::warn!(%error, "a job has no thread");
            return Err(JobRefusal::NoThread);
        }
        state.jobs.push_back(Job {
            view: view.clone(),
            wanted: Wanted::Run,
            report: Vec::new(),
            report_bytes: 0,
            dropped: 0,
            download: None,
        });
        state.tidy(self.0.clock.monotonic());
        Ok(view)
    }

    /// Whether one more of a kind could be started now; for whoever has much to do before that.
    pub fn room(&self, kind: JobKind) -> Result<(), JobRefusal> {
        self.0.lock().room(kind)
    }

    /// Somebody was erased: what imports have said so far goes, since it may name them, and in their results
    /// nobody looks like them any more.
    pub fn forget(&self, subject: SubjectId) {
        let mut state = self.0.lock();
        if state.open(JobKind::Import) > 0 {
            state.erased.push(subject);
        } else {
            state.erased.clear();
        }
        for job in state.jobs.iter_mut().filter(|job| job.view.kind == JobKind::Import) {
            job.dropped += job.report.len() as u64;
            job.report = Vec::new();
            job.report_bytes = 0;
            if let Some(result) = &mut job.view.result {
                leave_out(result, &[subject]);
            }
        }
    }

    /// All that are known, newest first.
    pub fn list(&self) -> Vec<JobView> {
        let mut state = self.0.lock();
        state.tidy(self.0.clock.monotonic());
        state.jobs.iter().rev().map(|job| job.view.clone()).collect()
    }

    /// One of them.
    pub fn get(&self, id: u64) -> Option<JobView> {
        let mut state = self.0.lock();
        state.tidy(self.0.clock.monotonic());
        state.job(id).map(|job| job.view.clone())
    }

    /// Waits until one has ended.
    pub fn wait(&self, id: u64) -> Option<JobView> {
        let mut state = self.0.lock();
        loop {
            let job = state.job(id)?;
            if job.view.state.has_ended() {
                return Some(job.view.clone());
            }
            state = self.0.wait(state);
        }
    }

    /// Holds one after its present step.
    pub fn pause(&self, id: u64) -> Result<JobView, JobRefusal> {
        self.want(id, Wanted::Pause)
    }

    /// Lets a held one go on.
    pub fn resume(&self, id: u64) -> Result<JobView, JobRefusal> {
        self.want(id, Wanted::Run)
    }

    /// Ends one after its present step.
    pub fn cancel(&self, id: u64) -> Result<JobView, JobRefusal> {
        self.want(id, Wanted::Cancel)
    }

    fn want(&self, id: u64, wanted: Wanted) -> Result<JobView, JobRefusal> {
        let mut state = self.0.lock();
        let job = state.job(id).ok_or(JobRefusal::Unknown)?;
        if job.view.state.has_ended() {
            return Err(JobRefusal::Ended);
        }
        // Whoever is cancelled stays so.
        if job.wanted != Wanted::Cancel {
            job.wanted = wanted;
            job.view.state = match (wanted, job.view.state) {
                (Wanted::Pause, JobState::Running) => JobState::Paused,
                (Wanted::Run, JobState::Paused) => JobState::Running,
                (_, as_it_is) => as_it_is,
            };
        }
        let view = job.view.clone();
        self.0.changed.notify_all();
        Ok(view)
    }

    /// A part of a report: at most `limit` entries from the one numbered `after` on.
    pub fn report(&self, id: u64, after: usize, limit: usize) -> Option<ReportPage> {
        let mut state = self.0.lock();
        let job = state.job(id)?;
        let end = after.saturating_add(limit).min(job.report.len());
        let entries = job.report.get(after..end).unwrap_or_default().to_vec();
        let next = (end < job.report.len() && end > after).then(|| end.to_string());
        Some(ReportPage { entries, next, dropped: job.dropped })
    }

    /// The file a job has made, while it can be fetched.
    pub fn download(&self, id: u64) -> Option<Download> {
        let mut state = self.0.lock();
        state.tidy(self.0.clock.monotonic());
        state.job(id)?.download.as_ref().map(|(download, _)| download.clone())
    }

    /// The file was fetched wholly: it is there for one.
    pub fn fetched(&self, id: u64) {
        if let Some(job) = self.0.lock().job(id) {
            job.download = None;
            job.view.download = None;
        }
    }

    /// Cancels all, and starts nothing more.
    pub fn cancel_all(&self) {
        let mut state = self.0.lock();
        state.ending = true;
        for job in state.jobs.iter_mut().filter(|job| !job.view.state.has_ended()) {
            job.wanted = Wanted::Cancel;
        }
        self.0.changed.notify_all();
    }

    /// Cancels all and waits for them, at most `patience`; false if some go on.
    pub fn end(&self, patience: Duration) -> bool {
        self.cancel_all();
        let deadline = Instant::now() + patience;
        let mut state = self.0.lock();
        while state.jobs.iter().any(|job| !job.view.state.has_ended()) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let waited = self.0.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(|poisoned| poisoned.into_inner()).0;
        }
        true
    }
}

/// Takes those who were erased out of the likenesses of an import's result.
fn leave_out(result: &mut Value, erased: &[SubjectId]) {
    let likenesses = result.get_mut("looks_like").and_then(Value::as_array_mut);
    if let (Some(likenesses), false) = (likenesses, erased.is_empty()) {
        let ids: Vec<_> = erased.iter().map(|subject| Value::from(subject.to_string())).collect();
        likenesses.retain(|one| !ids.contains(&one["subject"]) && !ids.contains(&one["other"]));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;
    use crate::clock::SimulatedClock;

    const PATIENCE: Duration = Duration::from_secs(20);

    fn jobs() -> (Arc<SimulatedClock>, Jobs) {
        let clock = Arc::new(SimulatedClock::new(UnixMillis(1_000)));
        (clock.clone(), Jobs::new(clock))
    }

    /// Waits until a job is as it should be.
    #[track_caller]
    fn until(jobs: &Jobs, id: u64, is: impl Fn(&JobView) -> bool) -> JobView {
        let deadline = Instant::now() + PATIENCE;
        let mut state = jobs.0.lock();
        loop {
            let view = state.job(id).unwrap().view.clone();
            if is(&view) {
                return view;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "{view:?}");
            state = jobs.0.changed.wait_timeout(state, left).unwrap().0;
        }
    }

    /// A job that takes a step whenever it is told to.
    fn stepping(jobs: &Jobs, kind: JobKind) -> (u64, Sender<()>, Receiver<u64>) {
        let (step, steps) = channel::<()>();
        let (tell, told) = channel();
        let job = jobs.start(kind, "ada".to_owned(), move |control| {
            let mut done = 0;
            while steps.recv().is_ok() {
                control.checkpoint()?;
                done += 1;
                control.progress(done, 3);
                tell.send(done).map_err(|_| Stopped::Failed("nobody listens".to_owned()))?;
            }
            Ok(())
        });
        (job.unwrap().id, step, told)
    }

    #[test]
    fn job_runs_to_its_end_with_progress_result_and_report() {
        let (_, jobs) = jobs();
        let job = jobs.start(JobKind::Import, "ada".to_owned(), |control| {
            control.progress(2, 2);
            control.report((0..5).map(|number| ReportEntry {
                path: format!("a/{number}"),
                outcome: ReportOutcome::Enrolled,
                code: "enrolled",
                message: String::new(),
            }));
            control.result(serde_json::json!({ "templates": 5 }));
            Ok(())
        });
        let id = job.unwrap().id;
        let view = until(&jobs, id, |view| view.state == JobState::Done);
        assert_eq!((view.done, view.total, view.ended_at), (2, 2, Some(UnixMillis(1_000))));
        assert_eq!(view.result.unwrap()["templates"], 5);
        let page = jobs.report(id, 0, 3).unwrap();
        assert_eq!((page.entries.len(), page.next.as_deref()), (3, Some("3")));
        let page = jobs.report(id, 3, 3).unwrap();
        assert_eq!((page.entries.len(), page.next, page.dropped), (2, None, 0));
        assert_eq!(jobs.report(id, 999, 3).unwrap().entries.len(), 0);
    }

    #[test]
    fn paused_job_takes_no_step_until_it_is_resumed() {
        let (_, jobs) = jobs();
        let (id, step, told) = stepping(&jobs, JobKind::Import);
        step.send(()).unwrap();
        assert_eq!(told.recv_timeout(PATIENCE), Ok(1));
        assert_eq!(jobs.pause(id).unwrap().state, JobState::Paused);
        step.send(()).unwrap();
        assert!(told.recv_timeout(Duration::from_millis(50)).is_err());
        assert_eq!(jobs.resume(id).unwrap().state, JobState::Running);
        assert_eq!(told.recv_timeout(PATIENCE), Ok(2));
        drop(step);
        until(&jobs, id, |view| view.state == JobState::Done);
        assert_eq!(jobs.pause(id), Err(JobRefusal::Ended));
    }

    #[test]
    fn cancelled_job_ends_at_its_next_checkpoint_even_while_it_is_paused() {
        let (_, jobs) = jobs();
        let (id, step, told) = stepping(&jobs, JobKind::Import);
        step.send(()).unwrap();
        told.recv_timeout(PATIENCE).unwrap();
        jobs.pause(id).unwrap();
        step.send(()).unwrap();
        jobs.cancel(id).unwrap();
        let view = until(&jobs, id, |view| view.state == JobState::Cancelled);
        assert_eq!((view.done, view.ended_at.is_some()), (1, true));
        assert_eq!(jobs.resume(id), Err(JobRefusal::Ended));
    }

    #[test]
    fn cancelled_job_that_is_resumed_before_its_next_checkpoint_stays_cancelled() {
        let (_, jobs) = jobs();
        let (id, step, told) = stepping(&jobs, JobKind::Import);
        step.send(()).unwrap();
        told.recv_timeout(PATIENCE).unwrap();
        jobs.cancel(id).unwrap();
        jobs.resume(id).unwrap();
        step.send(()).unwrap();
        let view = until(&jobs, id, |view| view.state == JobState::Cancelled);
        assert_eq!(view.done, 1);
    }

    #[test]
    fn one_of_a_kind_runs_and_a_few_wait() {
        let (_, jobs) = jobs();
        let (first, step, told) = stepping(&jobs, JobKind::Import);
        until(&jobs, first, |view| view.state == JobState::Running);
        let (second, second_step, _second_told) = stepping(&jobs, JobKind::Import);
        let (third, _third_step, _third_told) = stepping(&jobs, JobKind::Import);
        let refused = jobs.start(JobKind::Import, String::new(), |_| Ok(()));
        assert_eq!(refused.unwrap_err(), JobRefusal::TooMany);
        let (other, other_step, _told) = stepping(&jobs, JobKind::Backup);
        until(&jobs, other, |view| view.state == JobState::Running);
        assert_eq!(jobs.get(second).unwrap().state, JobState::Waiting);
        // One that waits can be cancelled.
        jobs.cancel(third).unwrap();
        until(&jobs, third, |view| view.state == JobState::Cancelled);
        drop((step, told));
        until(&jobs, first, |view| view.state == JobState::Done);
        until(&jobs, second, |view| view.state == JobState::Running);
        drop(second_step);
        until(&jobs, second, |view| view.state == JobState::Done);
        assert!(!jobs.end(Duration::ZERO), "one still waits for its step");
        drop(other_step);
        assert!(jobs.end(PATIENCE));
    }

    #[test]
    fn whoever_was_erased_is_named_by_no_import_any_more_even_by_one_that_runs() {
        let (_, jobs) = jobs();
        let [ada, grace, mary] = [1, 2, 3].map(|byte| SubjectId::from_bytes([byte; 16]));
        let alike = |subject: SubjectId, other: SubjectId| {
            let (subject, other) = (subject.to_string(), other.to_string());
            serde_json::json!({ "subject": subject, "name": "n", "other": other, "other_name": "o" })
        };
        let result = serde_json::json!({
            "templates": 3,
            "looks_like": [alike(ada, grace), alike(grace, mary), alike(mary, ada)],
        });
        let (step, steps) = channel::<()>();
        let (tell, told) = channel();
        let job = jobs.start(JobKind::Import, String::new(), move |control| {
            for round in 0..2 {
                control.report([ReportEntry {
                    path: format!("Ada/{round}.jpg"),
                    outcome: ReportOutcome::Enrolled,
                    code: "enrolled",
                    message: String::new(),
                }]);
                // The import does not know who was erased meanwhile.
                control.result(result.clone());
                tell.send(()).map_err(|_| Stopped::Cancelled)?;
                steps.recv().map_err(|_| Stopped::Cancelled)?;
            }
            Ok(())
        });
        let id = job.unwrap().id;
        let state = |jobs: &Jobs| {
            let likenesses = jobs.get(id).unwrap().result.unwrap()["looks_like"].as_array().unwrap().clone();
            let page = jobs.report(id, 0, 9).unwrap();
            (likenesses, page.entries.len(), page.dropped)
        };
        told.recv_timeout(PATIENCE).unwrap();
        assert_eq!((state(&jobs).0.len(), state(&jobs).1), (3, 1));
        jobs.forget(ada);
        assert_eq!(state(&jobs), (vec![alike(grace, mary)], 0, 1));
        step.send(()).unwrap();
        told.recv_timeout(PATIENCE).unwrap();
        assert_eq!(state(&jobs), (vec![alike(grace, mary)], 1, 1), "what came later is kept");
        step.send(()).unwrap();
        until(&jobs, id, |view| view.state == JobState::Done);
        jobs.forget(mary);
        assert_eq!(state(&jobs), (Vec::new(), 0, 2), "and one that has ended");
    }

    #[test]
    fn panic_is_a_failed_job_and_the_next_one_runs() {
        let (_, jobs) = jobs();
        let id = jobs.start(JobKind::Reembed, String::new(), |_| panic!("on purpose")).unwrap().id;
        let view = until(&jobs, id, |view| view.state == JobState::Failed);
        assert!(view.message.unwrap().contains("the log says where"));
        let id = jobs.start(JobKind::Reembed, String::new(), |_| Ok(())).unwrap().id;
        until(&jobs, id, |view| view.state == JobState::Done);
    }

    #[test]
    fn ending_cancels_what_runs_waits_or_is_paused_and_starts_nothing_more() {
        let (_, jobs) = jobs();
        let (running, step, told) = stepping(&jobs, JobKind::Import);
        step.send(()).unwrap();
        told.recv_timeout(PATIENCE).unwrap();
        let (_, _waiting_step, _waiting_told) = stepping(&jobs, JobKind::Import);
        let (paused, paused_step, paused_told) = stepping(&jobs, JobKind::Backup);
        paused_step.send(()).unwrap();
        paused_told.recv_timeout(PATIENCE).unwrap();
        jobs.pause(paused).unwrap();
        paused_step.send(()).unwrap();
        step.send(()).unwrap();
        let ends = std::thread::spawn({
            let jobs = jobs.clone();
            move || jobs.end(PATIENCE)
        });
        until(&jobs, paused, |view| view.state == JobState::Cancelled);
        drop((step, paused_step));
        assert!(ends.join().unwrap());
        assert!(jobs.get(running).unwrap().state.has_ended());
        assert_eq!(jobs.start(JobKind::Import, String::new(), |_| Ok(())), Err(JobRefusal::NoThread));
    }

    #[test]
    fn what_has_ended_is_kept_within_bounds() {
        let (_, jobs) = jobs();
        for number in 0..30 {
            let id = jobs.start(JobKind::Import, String::new(), |control| {
                control.report((0..REPORT_ENTRIES + 3).map(|_| ReportEntry {
                    path: String::new(),
                    outcome: ReportOutcome::Refused,
                    code: "no_face",
                    message: String::new(),
                }));
                Ok(())
            });
            let id = id.unwrap().id;
            assert_eq!(id, number + 1);
            until(&jobs, id, |view| view.state == JobState::Done);
        }
        let kept = jobs.list();
        assert_eq!((kept.len(), kept[0].id), (KEPT, 30));
        let entries = |id: u64| {
            let page = jobs.report(id, 0, usize::MAX).unwrap();
            (page.entries.len(), page.dropped)
        };
        assert_eq!(entries(30), (REPORT_ENTRIES, 3));
        assert_eq!(entries(20), (0, REPORT_ENTRIES as u64 + 3));
    }

    #[test]
    fn file_can_be_fetched_once_and_for_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let state = crate::vault::StateFolder::open_or_create(&folder.path().join("s")).unwrap();
        let (clock, jobs) = jobs();
        let make = |jobs: &Jobs| {
            let spool = crate::spool::SpoolWriter::create(&state, 1).unwrap().finish().unwrap();
            let download = Download { spool: Arc::new(spool), name: "limen.backup".to_owned() };
            let id = jobs.start(JobKind::Backup, String::new(), move |control| {
                control.offer(download);
                Ok(())
            });
            let id = id.unwrap().id;
            let view = until(jobs, id, |view| view.state == JobState::Done);
            assert_eq!(view.download, Some(format!("/api/jobs/{id}/download")));
            id
        };
        let once = make(&jobs);
        assert!(jobs.download(once).is_some());
        jobs.fetched(once);
        assert!(jobs.download(once).is_none() && jobs.get(once).unwrap().download.is_none());
        let late = make(&jobs);
        clock.advance(DOWNLOAD);
        assert!(jobs.download(late).is_none() && jobs.get(late).unwrap().download.is_none());
    }
}
