//! Long work: what is under way, its reports and files, and the uploads that begin imports.

use std::io::Read;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Json;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{Request, State};
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use hyper::body::Frame;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::{SemaphorePermit, mpsc, watch};
use zeroize::Zeroizing;

use super::access::{Access, AuditDetail, Caller, Role};
use super::incoming::{announced, next_part};
use super::operation::{Asked, Given, Named, Operation};
use super::problem::Problem;
use super::site::Site;
use crate::archive::{Archive, MAX_ENTRIES};
use crate::backup::{BackupLog, BackupPlan, BackupSource};
use crate::config::Config;
use crate::event_store::StoreHandle;
use crate::examiner::Examiner;
use crate::import::{ImportParts, import};
use crate::jobs::{Download, JobControl, JobKind, JobRefusal, JobView, Jobs, ReportEntry};
use crate::reembed::ReembedParts;
use crate::rekey::RekeyParts;
use crate::spool::{Spool, SpoolError, SpoolReader, SpoolWriter};
use crate::vault::StateFolder;

/// Entries of a report in one answer.
const LIMIT: usize = 50;
const MOST: usize = 200;
/// The largest upload that any setting allows.
const LARGEST_UPLOAD: usize = 4_000 << 20;
/// Of a large archive over a slow link; how slow is bounded besides.
const UPLOAD_WITHIN: Duration = Duration::from_secs(4 * 3_600);
/// Chunks of an upload or download that wait for the disk or the network.
const CHUNKS: usize = 4;
const CHUNK_BYTES: usize = 64 << 10;
/// How long what comes in after a refusal is read and forgotten.
const DRAINED_FOR: Duration = Duration::from_secs(20);

/// What jobs are started with.
#[derive(Clone)]
pub(crate) struct JobDesk {
    /// All of them.
    pub(crate) jobs: Jobs,
    /// Where uploads lie while they are worked off.
    pub(crate) state: StateFolder,
    /// Examines pictures.
    pub(crate) examiner: Examiner,
    /// Enrols.
    pub(crate) store: StoreHandle,
    /// The settings in force.
    pub(crate) config: watch::Receiver<Arc<Config>>,
    /// What a backup is made of.
    pub(crate) backup: Arc<BackupSource>,
    /// What the root key is changed with.
    pub(crate) rekey: RekeyParts,
    /// What templates are made with.
    pub(crate) reembed: ReembedParts,
}

/// The routes.
pub(super) fn operations() -> Vec<Operation> {
    let operator = Access::Role(Role::Operator);
    vec![
        Operation::get("/api/jobs", operator, "list_jobs", list)
            .about("Long work, newest first: what waits, runs, and has ended lately.")
            .gives::<JobList>(StatusCode::OK),
        Operation::get("/api/jobs/{id}", operator, "get_job", get)
            .about("One job.")
            .gives::<JobView>(StatusCode::OK)
            .refuses(&[404]),
        Operation::post("/api/jobs/{id}/pause", Role::Operator, "pause_job", pause)
            .about("Holds a job after its present step.")
            .gives::<JobView>(StatusCode::OK)
            .refuses(&[404, 409]),
        Operation::post("/api/jobs/{id}/resume", Role::Operator, "resume_job", resume)
            .about("Lets a held job go on.")
            .gives::<JobView>(StatusCode::OK)
            .refuses(&[404, 409]),
        Operation::post("/api/jobs/{id}/cancel", Role::Operator, "cancel_job", cancel)
            .about("Ends a job after its present step. What was done by then stays.")
            .gives::<JobView>(StatusCode::OK)
            .refuses(&[404, 409]),
        Operation::get("/api/jobs/{id}/report", operator, "get_job_report", report)
            .about("What became of each file.")
            .query::<ReportQuery>()
            .gives::<ReportView>(StatusCode::OK)
            .refuses(&[404]),
        Operation::get("/api/jobs/{id}/download", Access::Role(Role::Owner), "download_job_file", download)
            .audited()
            .about("The file a job has made. It can be fetched wholly once, for a quarter of an hour.")
            .gives_bytes(&["application/octet-stream"])
            .refuses(&[404, 503])
            .within(UPLOAD_WITHIN),
        Operation::post("/api/jobs/reembed", Role::Admin, "reembed_gallery", start_reembedding)
            .about(
                "Makes templates of the present network from the pictures that are kept, for samples that \
                 have none.",
            )
            .gives::<JobView>(StatusCode::ACCEPTED)
            .refuses(&[409, 503]),
        Operation::post("/api/jobs/backup", Role::Owner, "make_backup", start_backup)
            .about("Copies gallery and accounts into one file under a passphrase, to be fetched once.")
            .takes::<BackupGiven>()
            .gives::<JobView>(StatusCode::ACCEPTED)
            .refuses(&[409, 422, 503]),
        Operation::get("/api/backups", Access::Role(Role::Admin), "show_backups", backups)
            .about("Where the device keeps backups by itself, and what came of the last one.")
            .gives::<BackupsView>(StatusCode::OK),
        Operation::post("/api/jobs/backup-now", Role::Owner, "make_scheduled_backup", start_plan)
            .about("Makes the backup that is due later now, where the configuration says.")
            .gives::<JobView>(StatusCode::ACCEPTED)
            .refuses(&[409, 503]),
        Operation::post("/api/backups/recovery-key", Role::Owner, "show_recovery_key", recovery_key)
            .about("The key that those backups are encrypted under, to be written down and kept elsewhere.")
            .gives::<RecoveryKeyView>(StatusCode::OK)
            .refuses(&[503]),
        Operation::post("/api/jobs/rekey", Role::Owner, "change_root_key", start_rekeying)
            .about(
                "Makes a new root key and encrypts everything that is kept under it, while recognition goes on. \
                 A key that is given from outside is changed there.",
            )
            .gives::<JobView>(StatusCode::ACCEPTED)
            .refuses(&[409, 503]),
        Operation::get("/api/imports/limits", operator, "show_import_limits", limits)
            .about("What an archive may have at most, for whoever makes one.")
            .gives::<ImportLimits>(StatusCode::OK),
        Operation::post("/api/imports", Role::Operator, "import_archive", upload)
            .about(
                "Enrols a zip of NAME/picture.jpg as a job. Each subject is enrolled wholly or not at all; the \
                 report says what became of each file. Two archives come in at a time; what is refused for its \
                 size or for want of a place is refused before it is read.",
            )
            .query::<ImportQuery>()
            .takes_bytes(&["application/zip"], LARGEST_UPLOAD)
            .gives::<JobView>(StatusCode::ACCEPTED)
            .refuses(&[409, 413, 422, 503, 507])
            .within(UPLOAD_WITHIN),
    ]
}

/// Jobs.
#[derive(Serialize, JsonSchema)]
struct JobList {
    /// Newest first.
    jobs: Vec<JobView>,
}

async fn list(State(site): State<Arc<Site>>) -> Json<JobList> {
    Json(JobList { jobs: site.work.jobs.list() })
}

async fn get(State(site): State<Arc<Site>>, Named(id): Named<u64>) -> Result<Json<JobView>, Problem> {
    site.work.jobs.get(id).map(Json).ok_or_else(|| Problem::missing("job"))
}

async fn pause(
    State(site): State<Arc<Site>>,
    caller: Caller,
    Named(id): Named<u64>,
) -> Result<Json<JobView>, Problem> {
    may_change(&site, &caller, id)?;
    Ok(Json(site.work.jobs.pause(id)?))
}

async fn resume(
    State(site): State<Arc<Site>>,
    caller: Caller,
    Named(id): Named<u64>,
) -> Result<Json<JobView>, Problem> {
    may_change(&site, &caller, id)?;
    Ok(Json(site.work.jobs.resume(id)?))
}

async fn cancel(
    State(site): State<Arc<Site>>,
    caller: Caller,
    Named(id): Named<u64>,
) -> Result<Json<JobView>, Problem> {
    may_change(&site, &caller, id)?;
    Ok(Json(site.work.jobs.cancel(id)?))
}

/// Who may start a kind of job may also hold and end it.
fn least_role(kind: JobKind) -> Role {
    match kind {
        JobKind::Import => Role::Operator,
        JobKind::Reembed => Role::Admin,
        JobKind::Backup | JobKind::Rekey => Role::Owner,
    }
}

fn may_change(site: &Site, caller: &Caller, id: u64) -> Result<(), Problem> {
    let job = site.work.jobs.get(id).ok_or_else(|| Problem::missing("job"))?;
    let least = least_role(job.kind);
    if caller.role.is_some_and(|role| role >= least) {
        return Ok(());
    }
    let text = format!("a job of this kind needs the role {}", least.name());
    Err(Problem::new(StatusCode::FORBIDDEN, "forbidden", text))
}

/// Which part of a report.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ReportQuery {
    /// The `next` of the part before.
    after: Option<u32>,
    /// Entries, 1 to 200; 50 if not said.
    #[schemars(range(min = 1, max = 200))]
    limit: Option<u32>,
}

/// A part of a report.
#[derive(Serialize, JsonSchema)]
struct ReportView {
    /// In the order in which they came up.
    entries: Vec<ReportEntry>,
    /// Asks for what follows.
    next: Option<String>,
    /// Entries that are not kept, because there were too many, because newer jobs have ended, or because
    /// somebody was erased.
    dropped: u64,
}

async fn report(
    State(site): State<Arc<Site>>,
    Named(id): Named<u64>,
    Asked(query): Asked<ReportQuery>,
) -> Result<Json<ReportView>, Problem> {
    let limit = query.limit.map_or(LIMIT, |limit| limit as usize);
    if !(1..=MOST).contains(&limit) {
        return Err(Problem::invalid(format!("limit: a number from 1 to {MOST}")));
    }
    let after = query.after.unwrap_or(0) as usize;
    let page = site.work.jobs.report(id, after, limit).ok_or_else(|| Problem::missing("job"))?;
    Ok(Json(ReportView { entries: page.entries, next: page.next, dropped: page.dropped }))
}

async fn start_reembedding(
    State(site): State<Arc<Site>>,
    caller: Caller,
) -> Result<(StatusCode, AuditDetail, Json<JobView>), Problem> {
    let parts = site.work.reembed.clone();
    let job = site.work.jobs.start(JobKind::Reembed, caller.name, move |control| parts.run(control))?;
    Ok((StatusCode::ACCEPTED, AuditDetail::new(format!("job {}", job.id)), Json(job)))
}

/// How to protect a backup.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct BackupGiven {
    /// All that protects the file: twelve characters at least.
    passphrase: String,
}

async fn start_backup(
    State(site): State<Arc<Site>>,
    caller: Caller,
    Given(given): Given<BackupGiven>,
) -> Result<(StatusCode, AuditDetail, Json<JobView>), Problem> {
    let passphrase = Zeroizing::new(given.passphrase);
    let (source, now) = (Arc::clone(&site.work.backup), site.clock.wall());
    source
        .check_passphrase(&passphrase)
        .map_err(|error| Problem::unusable("passphrase", error.to_string()))?;
    let job = site
        .work
        .jobs
        .start(JobKind::Backup, caller.name, move |control| source.run(&passphrase, now, control))?;
    Ok((StatusCode::ACCEPTED, AuditDetail::new(format!("job {}", job.id)), Json(job)))
}

/// Backups that the device makes by itself.
#[derive(Serialize, JsonSchema)]
struct BackupsView {
    /// Where they are kept; none: none is made by itself.
    places: Vec<String>,
    /// Hours from one to the next.
    every_hours: u32,
    /// How many are kept in each place.
    keep: u32,
    /// What came of them.
    #[serde(flatten)]
    log: BackupLog,
}

async fn backups(State(site): State<Arc<Site>>) -> Json<BackupsView> {
    let config = Arc::clone(&site.work.config.borrow());
    Json(BackupsView {
        places: BackupPlan::new(&config).map(|plan| plan.places()).unwrap_or_default(),
        every_hours: config.backup.every_hours,
        keep: config.backup.keep,
        log: site.work.backup.log(),
    })
}

async fn start_plan(
    State(site): State<Arc<Site>>,
    caller: Caller,
) -> Result<(StatusCode, AuditDetail, Json<JobView>), Problem> {
    let Some(plan) = BackupPlan::new(&site.work.config.borrow()) else {
        let text = "no place for backups is configured: set backup.folder or backup.sftp on the device";
        return Err(Problem::new(StatusCode::CONFLICT, "no_place", text));
    };
    let (source, now) = (Arc::clone(&site.work.backup), site.clock.wall());
    let work = move |control: &JobControl| source.run_plan(&plan, now, control);
    let job = site.work.jobs.start(JobKind::Backup, caller.name, work)?;
    Ok((StatusCode::ACCEPTED, AuditDetail::new(format!("job {}", job.id)), Json(job)))
}

/// A secret.
#[derive(Serialize, JsonSchema)]
struct RecoveryKeyView {
    /// 28 letters and digits in groups of four.
    recovery_key: String,
    /// Tells keys apart; each backup names it.
    id: String,
}

async fn recovery_key(State(site): State<Arc<Site>>) -> Result<Json<RecoveryKeyView>, Problem> {
    let source = Arc::clone(&site.work.backup);
    let key = tokio::task::spawn_blocking(move || source.recovery_key(false))
        .await
        .map_err(|error| Problem::failed("reading the recovery key", &error))?
        .map_err(|error| Problem::failed("reading the recovery key", &error))?;
    Ok(Json(RecoveryKeyView { recovery_key: key.text().to_string(), id: key.id() }))
}

/// How to import.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ImportQuery {
    /// Also enrol whoever looks like somebody else who is enrolled; true if not said. The report names
    /// them either way.
    accept_similar: Option<bool>,
}

/// What is taken.
#[derive(Serialize, JsonSchema)]
struct ImportLimits {
    /// Bytes of the whole archive.
    archive_bytes: u64,
    /// Its entries, folders included.
    entries: usize,
}

fn largest_archive(config: &Config) -> u64 {
    u64::from(config.enrolment.maximum_import_mb) << 20
}

async fn limits(State(site): State<Arc<Site>>) -> Json<ImportLimits> {
    let archive_bytes = largest_archive(&site.work.config.borrow());
    Json(ImportLimits { archive_bytes, entries: MAX_ENTRIES })
}

async fn upload(
    State(site): State<Arc<Site>>,
    caller: Caller,
    Asked(query): Asked<ImportQuery>,
    request: Request,
) -> Result<(StatusCode, AuditDetail, Json<JobView>), Problem> {
    let desk = site.work.clone();
    let config = Arc::clone(&desk.config.borrow());
    let limit = largest_archive(&config);
    let announced = announced(request.headers());
    let body = request.into_body();
    let _place = match place(&site, limit, announced) {
        Ok(place) => place,
        Err(problem) => {
            // The answer goes out at once. A browser reads it only while nobody closes the connection
            // that it still sends on.
            tokio::spawn(tokio::time::timeout(DRAINED_FOR, drain(body)));
            return Err(problem);
        }
    };
    let spool = spool(body, desk.state.clone(), limit, announced).await?;
    // What is no zip is told now and not by a job that fails.
    let spool = tokio::task::spawn_blocking(move || {
        Archive::open(SpoolReader::new(Arc::clone(&spool)))
            .map(|_| spool)
            .map_err(|error| Problem::unusable("not_an_archive", error.to_string()))
    })
    .await
    .map_err(|error| Problem::failed("reading the archive", &error))??;
    let parts = ImportParts::new(&config, desk.examiner, desk.store);
    let accept_similar = query.accept_similar.unwrap_or(true);
    let job = desk
        .jobs
        .start(JobKind::Import, caller.name, move |control| import(spool, &parts, accept_similar, control))?;
    Ok((StatusCode::ACCEPTED, AuditDetail::new(format!("job {}", job.id)), Json(job)))
}

/// A place for an archive that comes in, unless it is known by now that nothing can become of it.
fn place(site: &Site, limit: u64, announced: Option<u64>) -> Result<SemaphorePermit<'_>, Problem> {
    if announced.is_some_and(|bytes| bytes > limit) {
        return Err(SpoolError::TooLarge { limit }.into());
    }
    site.work.jobs.room(JobKind::Import)?;
    site.import_place()
}

/// Reads a body to its end and forgets it.
async fn drain(mut body: Body) {
    while let Some(Ok(_)) = next_part(&mut body).await {}
}

/// Takes a body into a spool, as it comes.
async fn spool(
    mut body: Body,
    state: StateFolder,
    limit: u64,
    announced: Option<u64>,
) -> Result<Arc<Spool>, Problem> {
    let (give, mut chunks) = mpsc::channel::<Bytes>(CHUNKS);
    let writer = tokio::task::spawn_blocking(move || {
        let mut writer = SpoolWriter::create(&state, limit)?;
        if let Some(bytes) = announced {
            writer.expect(bytes)?;
        }
        while let Some(chunk) = chunks.blocking_recv() {
            writer.write(&chunk)?;
        }
        writer.finish().map(Arc::new)
    });
    let mut broken = None;
    loop {
        match next_part(&mut body).await {
            None => break,
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data()
                    && give.send(data).await.is_err()
                {
                    // The writer has given up, and says why.
                    break;
                }
            }
            Some(Err(error)) => {
                broken = Some(Problem::invalid(format!("the upload broke off: {error}")));
                break;
            }
        }
    }
    drop(give);
    let written = writer.await.map_err(|error| Problem::failed("keeping the upload", &error))?;
    match (broken, written) {
        (Some(problem), _) => Err(problem),
        (None, Err(error)) => {
            tokio::spawn(tokio::time::timeout(DRAINED_FOR, drain(body)));
            Err(error.into())
        }
        (None, Ok(spool)) => Ok(spool),
    }
}

async fn start_rekeying(
    State(site): State<Arc<Site>>,
    caller: Caller,
) -> Result<(StatusCode, AuditDetail, Json<JobView>), Problem> {
    let parts = site.work.rekey.clone();
    parts.may_begin().map_err(|error| Problem::conflict("key_from_outside", error.to_string()))?;
    let accounts = Arc::clone(&site.accounts);
    let job = site
        .work
        .jobs
        .start(JobKind::Rekey, caller.name, move |control| parts.run(control, |key| accounts.rekey(key)))?;
    Ok((StatusCode::ACCEPTED, AuditDetail::new(format!("job {}", job.id)), Json(job)))
}

async fn download(
    State(site): State<Arc<Site>>,
    caller: Caller,
    Named(id): Named<u64>,
) -> Result<Response, Problem> {
    let jobs = site.work.jobs.clone();
    let Download { spool, name } = jobs.download(id).ok_or_else(|| Problem::missing("file"))?;
    let place = site.export_place()?;
    let length = spool.len();
    let (give, chunks) = mpsc::channel(CHUNKS);
    let accounts = Arc::clone(&site.accounts);
    tokio::task::spawn_blocking(move || {
        let _place = place;
        let mut reader = SpoolReader::new(spool);
        loop {
            if !accounts.may_go_on(caller.who, Role::Owner) {
                let _ = give.blocking_send(Err(std::io::Error::other("whoever asked was signed out")));
                return;
            }
            let mut chunk = vec![0; CHUNK_BYTES];
            match reader.read(&mut chunk) {
                Ok(0) => {
                    jobs.fetched(id);
                    return;
                }
                Ok(read) => {
                    chunk.truncate(read);
                    // Whoever asked has gone: the file stays for another attempt.
                    if give.blocking_send(Ok(Bytes::from(chunk))).is_err() {
                        return;
                    }
                }
                Err(error) => {
                    let _ = give.blocking_send(Err(error));
                    return;
                }
            }
        }
    });
    let mut response = Body::new(Chunks(chunks)).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    if let Ok(disposition) = HeaderValue::from_str(&format!("attachment; filename=\"{name}\"")) {
        headers.insert(CONTENT_DISPOSITION, disposition);
    }
    Ok(response)
}

/// A body that comes through a channel.
struct Chunks(mpsc::Receiver<std::io::Result<Bytes>>);

impl HttpBody for Chunks {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        self.0.poll_recv(context).map(|chunk| chunk.map(|chunk| chunk.map(Frame::data)))
    }
}

impl From<JobRefusal> for Problem {
    fn from(refusal: JobRefusal) -> Self {
        let text = refusal.to_string();
        match refusal {
            JobRefusal::TooMany => Self::conflict("too_many_jobs", text),
            JobRefusal::Unknown => Self::missing("job"),
            JobRefusal::Ended => Self::conflict("job_has_ended", text),
            JobRefusal::NoThread => Self::busy(text),
        }
    }
}

impl From<SpoolError> for Problem {
    fn from(error: SpoolError) -> Self {
        let text = error.to_string();
        match error {
            SpoolError::TooLarge { .. } => Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", text),
            SpoolError::NoRoom { .. } => Self::new(StatusCode::INSUFFICIENT_STORAGE, "no_room", text),
            SpoolError::Io(error) => Self::failed("keeping the upload", &error),
            SpoolError::NoRandomness(error) => Self::failed("keeping the upload", &error),
        }
    }
}
