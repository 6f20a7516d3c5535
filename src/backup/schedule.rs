//! Backups that the device makes by itself: when one is due, where it goes, and what came of it.
//!
//! Each is under the recovery key, is opened and checked where it was written before it counts, and only then
//! older ones of this device beyond the number that is kept are thrown away. What came of the last one is kept
//! in `backups.json` of the state folder, which names no person, for the page, the doctor and the metrics.

use std::fs::File;
use std::io::BufWriter;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::container::manifest_of;
use super::{BackupError, BackupSource, RecoveryKey, SftpPlace, Temporary, Verified, verify};
use crate::clock::{Clock, UnixMillis, rfc3339};
use crate::config::Config;
use crate::jobs::{JobControl, JobKind, Jobs, Stopped};
use crate::metrics::Metrics;
use crate::mqtt::DeviceIdentity;
use crate::status::{Part, Status};
use crate::vault::StateFolder;

const LOG: &str = "backups.json";
const MAX_LOG_BYTES: usize = 64 << 10;
/// After one that failed, the next is tried this soon.
const RETRY: Duration = Duration::from_secs(3_600);
/// How long after its start a device makes its first: the clock may not be set yet, and there is enough to do.
const GRACE: Duration = Duration::from_secs(120);
const SUFFIX: &str = ".backup";
/// Of the time in a name: `20261127T031200Z`.
const STAMP: usize = 16;

/// Where backups go and how often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupPlan {
    /// How long after one the next is made.
    pub every: Duration,
    /// How many of this device are kept in each place.
    pub keep: usize,
    /// A folder of this machine, which may be a mounted one.
    pub folder: Option<PathBuf>,
    /// A folder of another machine.
    pub sftp: Option<SftpPlace>,
    /// Id of the device, by which its backups are told from those of others.
    pub device: String,
}

impl BackupPlan {
    /// As configured; none where no place is named.
    pub fn new(config: &Config) -> Option<Self> {
        let plan = Self {
            every: Duration::from_secs(u64::from(config.backup.every_hours) * 3_600),
            keep: config.backup.keep as usize,
            folder: config.backup.folder.clone(),
            sftp: SftpPlace::new(config),
            device: DeviceIdentity::new(config).id,
        };
        (plan.folder.is_some() || plan.sftp.is_some()).then_some(plan)
    }

    /// The places in words.
    pub fn places(&self) -> Vec<String> {
        let folder = self.folder.iter().map(|folder| folder.display().to_string());
        folder.chain(self.sftp.iter().map(SftpPlace::to_string)).collect()
    }

    fn name(&self, now: UnixMillis) -> String {
        let stamp: String = rfc3339(now).chars().filter(|letter| !"-:.".contains(*letter)).collect();
        // Without the milliseconds.
        format!("limen-{}-{}Z{SUFFIX}", self.device, &stamp[..STAMP - 1])
    }

    fn is_ours(&self, name: &str) -> bool {
        let stamp = name
            .strip_prefix("limen-")
            .and_then(|rest| rest.strip_prefix(&self.device))
            .and_then(|rest| rest.strip_prefix('-'))
            .and_then(|rest| rest.strip_suffix(SUFFIX));
        stamp.is_some_and(|stamp| {
            stamp.len() == STAMP && stamp.bytes().all(|byte| byte.is_ascii_digit() || b"TZ".contains(&byte))
        })
    }

    /// Those of this device beyond the number that is kept, of the names in a place.
    fn too_old(&self, names: Vec<String>) -> Vec<String> {
        let mut ours: Vec<String> = names.into_iter().filter(|name| self.is_ours(name)).collect();
        ours.sort_unstable_by(|a, b| b.cmp(a));
        ours.split_off(self.keep.min(ours.len()))
    }
}

/// One that was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BackupDone {
    /// When.
    #[schemars(with = "i64")]
    pub at: UnixMillis,
    /// Name of the file.
    pub file: String,
    /// Its bytes.
    pub bytes: u64,
    /// Subjects in it.
    pub subjects: u64,
    /// Pictures in it that were found whole when it was opened again.
    pub pictures: u64,
    /// Pictures that should be in it and are not.
    pub pictures_missing: u64,
    /// Where it is.
    pub places: Vec<String>,
    /// Id of the recovery key that it is under.
    pub recovery_key: String,
}

/// One that was not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BackupFailed {
    /// When.
    #[schemars(with = "i64")]
    pub at: UnixMillis,
    /// Why, and what to do.
    pub message: String,
}

/// What came of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BackupLog {
    /// The last one that was made and checked.
    pub last: Option<BackupDone>,
    /// The one that failed since then.
    pub failed: Option<BackupFailed>,
}

impl BackupLog {
    /// As the state folder has it; empty where it has none, or one that nobody can read.
    pub fn of(state: &Path) -> Self {
        let text = std::fs::read(state.join(LOG)).unwrap_or_default();
        let fits = text.len() <= MAX_LOG_BYTES;
        fits.then(|| serde_json::from_slice(&text).ok()).flatten().unwrap_or_default()
    }

    fn write(&self, state: &StateFolder) {
        // Numbers and words always have a JSON form.
        let text = serde_json::to_vec(self).unwrap_or_default();
        if let Err(error) = state.replace(LOG, &text) {
            tracing::warn!(%error, "what came of the backup could not be noted");
        }
    }

    /// When the next one is to be made.
    pub fn due(&self, plan: &BackupPlan, now: UnixMillis) -> bool {
        let since = |at: UnixMillis| u64::try_from(now.0 - at.0).ok().map(Duration::from_millis);
        // A time to come is one of a clock that went wrong, and says nothing.
        let wait = |at: UnixMillis, time: Duration| since(at).is_some_and(|past| past < time);
        let made = self.last.as_ref().is_some_and(|last| wait(last.at, plan.every));
        let failed = self.failed.as_ref().is_some_and(|failed| wait(failed.at, RETRY.min(plan.every)));
        !made && !failed
    }
}

impl BackupSource {
    /// What came of the last ones.
    pub fn log(&self) -> BackupLog {
        BackupLog::of(self.state.path())
    }

    /// The recovery key of the device, or a new one in its place: backups made until then stay under the old one.
    pub fn recovery_key(&self, renew: bool) -> Result<RecoveryKey, BackupError> {
        RecoveryKey::of(&self.state, &self.key.now(), renew)
    }

    /// Makes one under the recovery key, checks it, and keeps it in every place of the plan.
    pub fn run_plan(&self, plan: &BackupPlan, now: UnixMillis, control: &JobControl) -> Result<(), Stopped> {
        let mut log = BackupLog::of(self.state.path());
        let result = self.make(plan, now, control);
        match &result {
            Ok(done) => log = BackupLog { last: Some(done.clone()), failed: None },
            Err(Stopped::Cancelled) => {}
            Err(Stopped::Failed(message)) => {
                log.failed = Some(BackupFailed { at: now, message: message.clone() });
            }
        }
        log.write(&self.state);
        control.result(serde_json::json!(result?));
        Ok(())
    }

    fn make(&self, plan: &BackupPlan, now: UnixMillis, control: &JobControl) -> Result<BackupDone, Stopped> {
        let failed = |error: BackupError| Stopped::Failed(error.to_string());
        let key = self.recovery_key(false).map_err(failed)?;
        let name = plan.name(now);
        // Where there is no folder of its own, it lies in the state folder until it is sent.
        let _sent;
        let part = match &plan.folder {
            Some(folder) => {
                sweep(plan, folder).map_err(failed)?;
                folder.join(format!("{name}.part"))
            }
            None => {
                let file = Temporary::new(&self.state, "outgoing.backup").map_err(failed)?;
                let path = file.path().to_owned();
                _sent = file;
                path
            }
        };
        let io = |what| {
            let path = part.clone();
            move |source| failed(BackupError::Io { what, path, source })
        };
        let file = File::options().create(true).write(true).truncate(true).mode(0o600).open(&part);
        let to = BufWriter::new(file.map_err(io("make"))?);
        let (to, missing) = self.write(to, &key.text(), Some(key.id()), now, control)?;
        let file = to.into_inner().map_err(|error| io("write")(error.into_error()))?;
        file.sync_all().map_err(io("write"))?;
        drop(file);
        let Verified { bytes, subjects, pictures, pictures_missing, .. } =
            verify(&part, &key.text(), &self.state).map_err(failed)?;
        debug_assert!(pictures_missing >= missing);
        control.checkpoint()?;
        if let Some(sftp) = &plan.sftp {
            let fetched = Temporary::new(&self.state, "fetched.backup").map_err(failed)?;
            let cancelled = || control.is_cancelled();
            sftp.keep(&part, &name, fetched.path(), |names| plan.too_old(names), &cancelled)
                .map_err(|error| if cancelled() { Stopped::Cancelled } else { failed(error.into()) })?;
        }
        if let Some(folder) = &plan.folder {
            let path = folder.join(&name);
            std::fs::rename(&part, &path).map_err(io("keep"))?;
            File::open(folder).and_then(|folder| folder.sync_all()).map_err(io("keep"))?;
            for name in plan.too_old(names_in(folder).map_err(failed)?) {
                let path = folder.join(name);
                super::remove(&path).map_err(failed)?;
            }
        }
        tracing::info!(bytes, subjects, pictures, "a backup was made and checked");
        Ok(BackupDone {
            at: now,
            file: name,
            bytes,
            subjects,
            pictures,
            pictures_missing,
            places: plan.places(),
            recovery_key: key.id(),
        })
    }
}

/// Whether the folder is there, and without what a crash left in it. It is not made: one that is missing may be
/// a disk that is not mounted, and a backup beside the gallery would help nobody.
fn sweep(plan: &BackupPlan, folder: &Path) -> Result<(), BackupError> {
    for name in names_in(folder)? {
        if name.strip_suffix(".part").is_some_and(|name| plan.is_ours(name)) {
            super::remove(&folder.join(name))?;
        }
    }
    Ok(())
}

fn names_in(folder: &Path) -> Result<Vec<String>, BackupError> {
    let entries = std::fs::read_dir(folder).map_err(|error| {
        let what = match error.kind() {
            std::io::ErrorKind::NotFound => "is not there: make it, or mount what it is on".to_owned(),
            std::io::ErrorKind::PermissionDenied => {
                "may not be used by this account: give it to the account of the service, and name it in ReadWritePaths= of the unit".to_owned()
            }
            _ => format!("cannot be read: {error}"),
        };
        BackupError::Place(format!("the folder for backups, {}, {what}", folder.display()))
    })?;
    Ok(entries.filter_map(Result::ok).filter_map(|entry| entry.file_name().into_string().ok()).collect())
}

/// A backup in a folder, by what it says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FoundBackup {
    /// The file.
    pub path: PathBuf,
    /// When it was made.
    pub made_at: UnixMillis,
    /// Its bytes.
    pub bytes: u64,
    /// Id of the recovery key that it is under; none where somebody chose a passphrase.
    pub recovery_key: Option<String>,
}

/// The backups in a folder, newest first.
pub fn backups_in(folder: &Path) -> Result<Vec<FoundBackup>, BackupError> {
    let mut found = Vec::new();
    for name in names_in(folder)?.into_iter().filter(|name| name.ends_with(SUFFIX)) {
        let path = folder.join(name);
        // What is no backup is not one of them.
        if let Ok((manifest, _, bytes)) = manifest_of(&path) {
            let (made_at, recovery_key) = (manifest.made_at, manifest.recovery_key);
            found.push(FoundBackup { path, made_at, bytes, recovery_key });
        }
    }
    found.sort_by_key(|backup| std::cmp::Reverse(backup.made_at));
    Ok(found)
}

/// Starts what is due.
pub struct BackupSchedule {
    source: Arc<BackupSource>,
    jobs: Jobs,
    config: watch::Receiver<Arc<Config>>,
    status: Status,
    metrics: Arc<Metrics>,
    clock: Arc<dyn Clock>,
    told: Mutex<Option<BackupLog>>,
}

impl std::fmt::Debug for BackupSchedule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BackupSchedule(..)")
    }
}

impl BackupSchedule {
    /// Of these parts.
    pub fn new(
        source: Arc<BackupSource>,
        jobs: Jobs,
        config: watch::Receiver<Arc<Config>>,
        status: Status,
        metrics: Arc<Metrics>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { source, jobs, config, status, metrics, clock, told: Mutex::default() }
    }

    /// Starts one if it is due and none is under way, and tells how the last one went. `uptime` is how long the
    /// program runs.
    pub fn look(&self, uptime: Duration) {
        let Some(plan) = BackupPlan::new(&self.config.borrow()) else {
            self.status.off(Part::Backup);
            return;
        };
        let log = self.source.log();
        self.tell(&log);
        let now = self.clock.wall();
        let open = |kind| self.jobs.list().iter().any(|job| job.kind == kind && job.ended_at.is_none());
        if uptime < GRACE || !log.due(&plan, now) || open(JobKind::Backup) {
            return;
        }
        let source = Arc::clone(&self.source);
        let started = self.jobs.start(JobKind::Backup, "the schedule".to_owned(), move |control| {
            source.run_plan(&plan, now, control)
        });
        if let Err(error) = started {
            tracing::warn!(%error, "the backup is made later");
        }
    }

    fn tell(&self, log: &BackupLog) {
        let mut told = self.told.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if told.as_ref() == Some(log) {
            return;
        }
        match &log.failed {
            Some(failed) => self.status.degraded(Part::Backup, failed.message.clone()),
            None => self.status.working(Part::Backup),
        }
        self.metrics.set_backups(log.clone());
        *told = Some(log.clone());
    }
}
