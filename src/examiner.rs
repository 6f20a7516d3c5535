//! Examines still pictures apart from the stream: uploads, pictures from a browser's camera, imports.
//!
//! The threads `examiner-N` each own networks of their own, made from the verified model files when
//! work first comes and dropped after a minute without any, so that a device nobody administers pays
//! nothing for them. They run at a lower priority than the recogniser: under load the door comes first.
//!
//! Not here: what a face means. The threads know neither the gallery nor thresholds of comparison.
//!
//! A person who waits is served before long work: the interactive queue is always emptied first and
//! refuses when it is full; the batch queue is short and makes its caller wait.

mod budget;

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use thiserror::Error;
use tokio::sync::{Notify, oneshot};

use budget::{Budget, Share};

use crate::clock::{Clock, Monotonic};
use crate::config::Config;
use crate::decode::{DecodeError, PICTURE_MEMORY, claim, still};
use crate::detect::Detection;
use crate::embedding::{Embedding, EmbeddingSpaceId};
use crate::frame::RgbImage;
use crate::geometry::{PixelBox, Point, Similarity};
use crate::install;
use crate::models::ModelSet;
use crate::picture::{Picture, Resampler};
use crate::quality::{Quality, Unusable};
use crate::recognise::{Perception, PerceptionError};
use crate::supervisor::Heartbeat;

/// More threads than this would not find the memory bandwidth they need on the boards in question.
const MOST_THREADS: usize = 4;
/// Pictures somebody waits for that may wait themselves.
const INTERACTIVE_PLACES: usize = 8;
/// Pictures of long work that wait, for each thread: one is at hand when the last is done.
const BATCH_PLACES: usize = 2;
/// Without work for this long the networks are dropped.
const IDLE: Duration = Duration::from_secs(60);
/// A thread without work wakes this often, to beat and to see whether it is idle.
const TICK: Duration = Duration::from_secs(10);
/// Lower priority than everything else here. A share of one to nine against a recogniser that wants
/// the same core.
const NICENESS: i32 = 10;
/// Panics in a row after which a thread gives up, and the program with it.
const PANICS_IN_A_ROW: u32 = 3;

/// What [`Examined::crop`] gives when nothing else is needed: a square of this side, in pixels, ...
pub const CROP_SIDE: u32 = 320;
/// ... this much wider than the longer side of the face's box. Enough for the detector to find the face
/// again, since it is trained on faces with something around them.
pub const CROP_MARGIN: f32 = 2.0;

/// How long the silence of a thread may be: a picture of fifty megapixels on a busy board.
pub const SILENCE: Duration = Duration::from_secs(180);

/// Why a picture was not examined. None of these says anything about the faces in it.
#[derive(Debug, Error)]
pub enum ExamineError {
    /// It is no usable picture.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// Too many pictures wait already.
    #[error("too many pictures wait to be examined; try again in a moment")]
    Busy,
    /// The program is ending.
    #[error("the program is ending")]
    Ended,
    /// The models could not be loaded, or inference failed.
    #[error("the picture could not be examined: {0}")]
    Failed(String),
}

impl From<PerceptionError> for ExamineError {
    fn from(error: PerceptionError) -> Self {
        Self::Failed(error.to_string())
    }
}

/// Who waits for the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// A person.
    Interactive,
    /// Long work, which may wait.
    Batch,
}

/// A face of an examined picture.
#[derive(Clone, Debug)]
pub struct ExaminedFace {
    /// Where; pixels of the picture.
    pub detection: Detection,
    /// Measurements; `None` where no face shape was found.
    pub quality: Option<Quality>,
    /// Whether it keeps the limits of the configuration.
    pub verdict: Result<(), Unusable>,
    /// Of every usable face, and of the others where that was asked.
    pub embedding: Option<Embedding>,
}

/// A picture and the faces in it, left to right.
#[derive(Clone, Debug)]
pub struct Examined {
    /// The picture, upright.
    pub image: RgbImage,
    /// Its faces.
    pub faces: Vec<ExaminedFace>,
    /// Whoever keeps the picture keeps others waiting: it is not for keeping.
    memory: Option<Arc<Share>>,
}

impl Examined {
    /// The same picture with only one of its faces.
    pub fn of_one(&self, face: ExaminedFace) -> Self {
        Self { image: self.image.clone(), faces: vec![face], memory: self.memory.clone() }
    }

    /// An upright square of `side` pixels around a face of this picture, black outside it.
    pub fn crop(&self, face: &ExaminedFace, side: u32) -> RgbImage {
        crop_around(&self.image, &face.detection.bbox, side)
    }

    /// Of a picture that was cut around a face: that face, if it is found again.
    pub fn in_the_middle(self) -> Option<ExaminedFace> {
        let middle = Point::new(self.image.width() as f32 / 2.0, self.image.height() as f32 / 2.0);
        let distance = |face: &ExaminedFace| face.detection.bbox.centre().distance(middle);
        let faces = self.faces.into_iter();
        faces.min_by(|one, other| distance(one).total_cmp(&distance(other)))
    }
}

/// An upright square of `side` pixels, [`CROP_MARGIN`] times as wide as `bbox`, with it in the middle;
/// black outside the picture.
pub fn crop_around(image: &RgbImage, bbox: &PixelBox, side: u32) -> RgbImage {
    let centre = bbox.centre();
    let scale = (bbox.width().max(bbox.height()) * CROP_MARGIN / side.max(1) as f32).max(1e-3);
    let half = scale * side as f32 / 2.0;
    let to_source = Similarity { a: scale, b: 0.0, tx: centre.x - half, ty: centre.y - half };
    let mut crop = RgbImage::black(side, side);
    match Resampler::default().cut(&Picture::from(image), &to_source, side, &mut crop) {
        Ok(()) => crop,
        // Only pictures without pixels cannot be cut, and nothing was found in those.
        Err(_) => RgbImage::black(side, side),
    }
}

enum Given {
    Bytes(Vec<u8>),
    Image(RgbImage),
}

struct Job {
    given: Given,
    every_face: bool,
    reply: oneshot::Sender<Result<Examined, ExamineError>>,
}

#[derive(Default)]
struct Queues {
    interactive: VecDeque<Job>,
    batch: VecDeque<Job>,
    ended: bool,
}

struct Shared {
    queues: Mutex<Queues>,
    config: ArcSwap<Config>,
    batch_places: usize,
    /// There is work, or an end.
    work: Condvar,
    /// There is room in the batch queue, or an end.
    room: Condvar,
    /// The same, for those who wait in a task.
    room_for_tasks: Notify,
    /// What decoded pictures may take together.
    memory: Arc<Budget>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queues> {
        // No panic can happen while it is held, and if it did the queues would still be queues.
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push_interactive(&self, job: Job) -> Result<(), ExamineError> {
        let mut queues = self.lock();
        if queues.ended {
            return Err(ExamineError::Ended);
        }
        if queues.interactive.len() >= INTERACTIVE_PLACES {
            return Err(ExamineError::Busy);
        }
        queues.interactive.push_back(job);
        self.work.notify_one();
        Ok(())
    }

    /// Hands the job back when there is no room.
    fn push_batch(&self, queues: &mut Queues, job: Job) -> Result<Option<Job>, ExamineError> {
        if queues.ended {
            return Err(ExamineError::Ended);
        }
        if queues.batch.len() >= self.batch_places {
            return Ok(Some(job));
        }
        queues.batch.push_back(job);
        self.work.notify_one();
        Ok(None)
    }

    /// The next job; `None` after `patience`, or at the end.
    fn next(&self, patience: Duration) -> Next {
        let mut queues = self.lock();
        if queues.interactive.is_empty() && queues.batch.is_empty() && !queues.ended {
            queues = self.work.wait_timeout(queues, patience).unwrap_or_else(PoisonError::into_inner).0;
        }
        if queues.ended {
            return Next::Ended;
        }
        if let Some(job) = queues.interactive.pop_front() {
            return Next::Job(job);
        }
        match queues.batch.pop_front() {
            Some(job) => {
                self.room.notify_one();
                self.room_for_tasks.notify_one();
                Next::Job(job)
            }
            None => Next::Nothing,
        }
    }
}

enum Next {
    Job(Job),
    Nothing,
    Ended,
}

/// Reaches the threads `examiner-N`. Cheap to clone.
#[derive(Clone)]
pub struct Examiner {
    shared: Arc<Shared>,
    every_face: bool,
}

impl std::fmt::Debug for Examiner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let queues = self.shared.lock();
        write!(f, "Examiner {{ {} + {} waiting }}", queues.interactive.len(), queues.batch.len())
    }
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(MOST_THREADS)
}

/// Pictures of long work that are worth having under way at a time: those that have a place here.
pub fn pictures_under_way() -> usize {
    threads() * BATCH_PLACES
}

impl Examiner {
    /// The handle and the threads behind it, not yet running: one for each core, at most four. `space` is
    /// what their embeddings are compared with; models of another one are refused.
    pub fn new(
        config: &Config,
        space: &EmbeddingSpaceId,
        clock: &Arc<dyn Clock>,
    ) -> (Self, Vec<ExaminerThread>) {
        let threads = threads();
        let shared = Arc::new(Shared {
            queues: Mutex::default(),
            config: ArcSwap::from_pointee(config.clone()),
            batch_places: pictures_under_way(),
            work: Condvar::new(),
            room: Condvar::new(),
            room_for_tasks: Notify::new(),
            memory: Budget::new(PICTURE_MEMORY),
        });
        let thread = |number| ExaminerThread {
            name: format!("examiner-{number}"),
            shared: Arc::clone(&shared),
            space: space.clone(),
            clock: Arc::clone(clock),
        };
        let threads = (1..=threads).map(thread).collect();
        (Self { shared, every_face: false }, threads)
    }

    /// The same threads, asked for embeddings of unusable faces too: for pictures whose faces were found
    /// usable before.
    pub fn of_every_face(&self) -> Self {
        Self { every_face: true, ..self.clone() }
    }

    /// Decodes and examines a JPEG, PNG or WebP picture.
    pub async fn examine(&self, bytes: Vec<u8>, urgency: Urgency) -> Result<Examined, ExamineError> {
        self.ask(Given::Bytes(bytes), urgency).await
    }

    /// Examines a picture that is decoded already.
    pub async fn examine_image(&self, image: RgbImage, urgency: Urgency) -> Result<Examined, ExamineError> {
        self.ask(Given::Image(image), urgency).await
    }

    /// As [`examine`](Self::examine), for threads of their own. Panics in a task.
    pub fn examine_blocking(&self, bytes: Vec<u8>, urgency: Urgency) -> Result<Examined, ExamineError> {
        self.ask_blocking(Given::Bytes(bytes), urgency)
    }

    /// As [`examine_image`](Self::examine_image), for threads of their own. Panics in a task.
    pub fn examine_image_blocking(
        &self,
        image: RgbImage,
        urgency: Urgency,
    ) -> Result<Examined, ExamineError> {
        self.ask_blocking(Given::Image(image), urgency)
    }

    /// Goes on with other settings of detection and quality, from the next picture on.
    pub fn configure(&self, config: &Config) {
        self.shared.config.store(Arc::new(config.clone()));
    }

    /// Lets the threads finish what they are at; everything that waits is told that it ended.
    pub fn end(&self) {
        let mut queues = self.shared.lock();
        queues.ended = true;
        // Their replies go with them.
        queues.interactive.clear();
        queues.batch.clear();
        drop(queues);
        self.shared.work.notify_all();
        self.shared.room.notify_all();
        self.shared.room_for_tasks.notify_waiters();
    }

    fn job(&self, given: Given) -> (Job, oneshot::Receiver<Result<Examined, ExamineError>>) {
        let (reply, answer) = oneshot::channel();
        (Job { given, every_face: self.every_face, reply }, answer)
    }

    async fn ask(&self, given: Given, urgency: Urgency) -> Result<Examined, ExamineError> {
        let (mut job, answer) = self.job(given);
        match urgency {
            Urgency::Interactive => self.shared.push_interactive(job)?,
            Urgency::Batch => loop {
                // Listening before looking, so that room made in between is not missed.
                let room = self.shared.room_for_tasks.notified();
                tokio::pin!(room);
                room.as_mut().enable();
                let pushed = {
                    let mut queues = self.shared.lock();
                    self.shared.push_batch(&mut queues, job)?
                };
                match pushed {
                    None => break,
                    Some(back) => job = back,
                }
                room.await;
            },
        }
        answer.await.unwrap_or(Err(ExamineError::Ended))
    }

    fn ask_blocking(&self, given: Given, urgency: Urgency) -> Result<Examined, ExamineError> {
        let (mut job, answer) = self.job(given);
        match urgency {
            Urgency::Interactive => self.shared.push_interactive(job)?,
            Urgency::Batch => {
                let mut queues = self.shared.lock();
                while let Some(back) = self.shared.push_batch(&mut queues, job)? {
                    job = back;
                    queues = self.shared.room.wait(queues).unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
        answer.blocking_recv().unwrap_or(Err(ExamineError::Ended))
    }
}

/// Loaded networks, and the settings they were loaded with.
struct Networks {
    perception: Perception,
    config: Arc<Config>,
}

/// One of the threads, not yet running.
pub struct ExaminerThread {
    name: String,
    shared: Arc<Shared>,
    space: EmbeddingSpaceId,
    clock: Arc<dyn Clock>,
}

impl ExaminerThread {
    /// What the thread is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Examines until [`Examiner::end`]. A panic over a picture costs that picture and the networks;
    /// three in a row are an error.
    pub fn run(self, beat: &Heartbeat) -> anyhow::Result<()> {
        lower_priority();
        let mut networks: Option<Networks> = None;
        let (mut worked, mut panics) = (Monotonic::default(), 0);
        loop {
            beat.beat();
            let job = match self.shared.next(TICK) {
                Next::Job(job) => job,
                Next::Ended => return Ok(()),
                Next::Nothing => {
                    if networks.is_some() && self.clock.monotonic().since(worked) >= IDLE {
                        networks = None;
                    }
                    continue;
                }
            };
            // Whoever asked has given up waiting.
            if job.reply.is_closed() {
                continue;
            }
            let Job { given, every_face, reply } = job;
            let work = AssertUnwindSafe(|| self.work(&mut networks, given, every_face));
            let result = match std::panic::catch_unwind(work) {
                Ok(result) => {
                    panics = 0;
                    result
                }
                Err(_) => {
                    panics += 1;
                    // Whatever the panic broke is not used again.
                    networks = None;
                    tracing::error!(thread = self.name, "examining a picture panicked");
                    Err(ExamineError::Failed("the program has a fault; its log says where".to_owned()))
                }
            };
            // An error means that nobody waits any more.
            let _ = reply.send(result);
            anyhow::ensure!(panics < PANICS_IN_A_ROW, "{PANICS_IN_A_ROW} pictures in a row panicked");
            worked = self.clock.monotonic();
        }
    }

    fn work(
        &self,
        networks: &mut Option<Networks>,
        given: Given,
        every_face: bool,
    ) -> Result<Examined, ExamineError> {
        let (image, memory) = match given {
            Given::Bytes(bytes) => {
                let mut memory = self.shared.memory.take(claim(&bytes)?.need);
                let image = still(&bytes)?;
                memory.shrink(image.pixels().len() as u64);
                (image, Some(Arc::new(memory)))
            }
            Given::Image(image) => (image, None),
        };
        let config = self.shared.config.load_full();
        if networks.as_ref().is_some_and(|networks| !Arc::ptr_eq(&networks.config, &config)) {
            *networks = None;
        }
        let networks = match networks {
            Some(networks) => networks,
            None => networks.insert(self.load(config)?),
        };
        let faces = examine(&mut networks.perception, &image, every_face)?;
        Ok(Examined { image, faces, memory })
    }

    fn load(&self, config: Arc<Config>) -> Result<Networks, ExamineError> {
        let failed = |error: &dyn std::fmt::Display| {
            tracing::warn!("the models cannot be loaded for still pictures: {error}");
            ExamineError::Failed(format!("the models cannot be loaded: {error}"))
        };
        let models = ModelSet::load(&install::models_folder(&config)).map_err(|error| failed(&error))?;
        let runtime = models.runtime(&install::litert_library(&config)).map_err(|error| failed(&error))?;
        let perception = Perception::new(&models, &runtime, &config).map_err(|error| failed(&error))?;
        // An update may have put other files there while the program runs.
        if perception.embedding_space() != &self.space {
            return Err(failed(&format_args!(
                "the files are of the embedding space {}, the running program works with {}; restart it",
                perception.embedding_space(),
                self.space
            )));
        }
        Ok(Networks { perception, config })
    }
}

/// Everything that is to be known about the faces of one picture, left to right.
pub fn examine(
    networks: &mut Perception,
    image: &RgbImage,
    every_face: bool,
) -> Result<Vec<ExaminedFace>, PerceptionError> {
    let found = networks.examine_all(&Picture::from(image))?;
    let mut faces = Vec::with_capacity(found.len());
    for face in found {
        let embedding = match &face.shape {
            Some(shape) if every_face || face.verdict.is_ok() => Some(networks.embed(&shape.aligned)?),
            _ => None,
        };
        faces.push(ExaminedFace {
            detection: face.detection,
            quality: face.shape.map(|shape| shape.quality),
            verdict: face.verdict,
            embedding,
        });
    }
    faces.sort_by(|left, right| left.detection.bbox.left.total_cmp(&right.detection.bbox.left));
    Ok(faces)
}

/// Of the calling thread only: Linux keeps a niceness for each thread.
fn lower_priority() {
    if let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
        tracing::debug!(%error, "the priority of the examiner cannot be lowered");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;

    fn examiner() -> Examiner {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        Examiner::new(&Config::default(), &EmbeddingSpaceId::new("test/1"), &clock).0
    }

    type Answer = oneshot::Receiver<Result<Examined, ExamineError>>;

    /// A job told apart by the width of its picture.
    fn marked(examiner: &Examiner, width: u32) -> (Job, Answer) {
        examiner.job(Given::Image(RgbImage::black(width, 1)))
    }

    fn next(examiner: &Examiner) -> Option<u32> {
        match examiner.shared.next(Duration::ZERO) {
            Next::Job(Job { given: Given::Image(image), .. }) => Some(image.width()),
            _ => None,
        }
    }

    #[test]
    fn whoever_waits_is_served_before_long_work() {
        let examiner = examiner();
        let (batch, _first) = marked(&examiner, 1);
        let full = examiner.shared.push_batch(&mut examiner.shared.lock(), batch).unwrap();
        assert!(full.is_none());
        let mut waiting = Vec::new();
        for width in [2, 3] {
            let (job, answer) = marked(&examiner, width);
            examiner.shared.push_interactive(job).unwrap();
            waiting.push(answer);
        }
        let order: Vec<_> = std::iter::from_fn(|| next(&examiner)).collect();
        assert_eq!(order, [2, 3, 1]);
    }

    #[test]
    fn interactive_work_beyond_its_places_is_refused() {
        let examiner = examiner();
        let mut accepted = 0;
        let refused = loop {
            let (job, _) = marked(&examiner, 1);
            match examiner.shared.push_interactive(job) {
                Ok(()) => accepted += 1,
                Err(error) => break error,
            }
        };
        assert!(matches!(refused, ExamineError::Busy));
        assert_eq!(accepted, INTERACTIVE_PLACES);
    }

    #[test]
    fn long_work_waits_for_room_and_goes_on_when_there_is_some() {
        let examiner = examiner();
        let places = examiner.shared.batch_places;
        let mut answers = Vec::new();
        for _ in 0..places {
            let (job, answer) = marked(&examiner, 1);
            assert!(examiner.shared.push_batch(&mut examiner.shared.lock(), job).unwrap().is_none());
            answers.push(answer);
        }
        let caller = {
            let examiner = examiner.clone();
            std::thread::spawn(move || examiner.examine_image_blocking(RgbImage::black(7, 1), Urgency::Batch))
        };
        // Whether the caller came before or after room was made, its job comes last.
        let mut taken = Vec::new();
        while taken.last() != Some(&7) {
            taken.extend(next(&examiner));
        }
        assert_eq!(taken.len(), places + 1);
        let result = caller.join().unwrap();
        assert!(matches!(result, Err(ExamineError::Ended)), "its reply was dropped: {result:?}");
    }

    #[test]
    fn everybody_is_told_of_the_end() {
        let examiner = examiner();
        let (job, mut answer) = marked(&examiner, 1);
        examiner.shared.push_interactive(job).unwrap();
        examiner.end();
        assert!(matches!(answer.try_recv(), Err(oneshot::error::TryRecvError::Closed)));
        let late = examiner.examine_image_blocking(RgbImage::black(1, 1), Urgency::Batch);
        assert!(matches!(late, Err(ExamineError::Ended)));
        assert!(matches!(examiner.shared.next(Duration::ZERO), Next::Ended));
    }

    #[test]
    fn crop_has_the_face_in_its_middle_and_is_black_outside_the_picture() {
        let mut image = RgbImage::black(100, 100);
        image.pixels_mut().fill(200);
        let crop = crop_around(&image, &PixelBox::new(0.0, 30.0, 40.0, 70.0), 80);
        assert_eq!(crop.size(), crate::frame::FrameSize { width: 80, height: 80 });
        assert_eq!(crop.pixel(40, 40), [200; 3]);
        assert_eq!(crop.pixel(5, 40), [0; 3], "20 pixels of margin lie left of the picture");
        for nonsense in [f32::NAN, f32::INFINITY, -1e9] {
            crop_around(&image, &PixelBox::new(nonsense, nonsense, 1.0, 1.0), 8);
        }
    }
}
