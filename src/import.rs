//! Import: an archive of `NAME/picture.jpg` becomes subjects. Runs on the thread of its job, with a few
//! threads beside it that wait for the examiner.
//!
//! Each subject is one transaction with all pictures of it that are usable, or nothing: whoever pauses or
//! cancels finds whole subjects only. Pictures are read from the archive in order, as many of them under
//! way as keep the examiner busy, bounded besides in bytes; the examiner bounds what decoding them takes;
//! what is examined is a template and a small crop. So memory does not depend on the archive.

use std::collections::VecDeque;
use std::io::{Read, Seek};
use std::panic::AssertUnwindSafe;
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;

use crate::archive::{Archive, Entry, Group};
use crate::decode::claim;
use crate::enrol::{
    DuplicateOf, EnrolmentCandidate, EnrolmentError, EnrolmentOrder, EnrolmentRefused, RefusalReason,
    UnusableSamples,
};
use crate::event_store::{GalleryRefusal, StoreHandle, StoreRefusal};
use crate::examiner::{
    CROP_SIDE, ExamineError, Examined, ExaminedFace, Examiner, Urgency, pictures_under_way,
};
use crate::gallery::{MAX_SAMPLES, SampleOrigin, SamplePicture, SampleQuality, SubjectId};
use crate::jobs::{JobControl, ReportEntry, ReportOutcome, Stopped};
use crate::score::{ComparisonScore, QualityScore};
use crate::spool::{Spool, SpoolReader};

/// Bytes of pictures under way, not decoded, above which no further one is read from the archive. With
/// the largest one behind it this is part of the sum in pixels/src/decode/need.rs.
const READ_AHEAD: usize = 8 << 20;
/// Subjects that wait for one before them: each holds no more than crops.
const SUBJECTS_UNDER_WAY: usize = 64;
/// Likenesses to others that the result lists.
const MOST_LIKENESSES: usize = 200;
/// Between two attempts while the store is busy, and how many.
const STORE_PAUSE: Duration = Duration::from_millis(50);
const STORE_ATTEMPTS: u32 = 200;

/// What an import works with.
#[derive(Clone, Debug)]
pub struct ImportParts {
    /// Examines the pictures.
    pub examiner: Examiner,
    /// Enrols.
    pub store: StoreHandle,
    /// Least quality score of a sample.
    pub minimum_quality: QualityScore,
    /// Pictures taken of one subject.
    pub maximum_pictures: usize,
    /// Pictures under way at a time: two for each thread of the examiner.
    pub width: usize,
}

impl ImportParts {
    /// From the settings.
    pub fn new(config: &crate::config::Config, examiner: Examiner, store: StoreHandle) -> Self {
        Self {
            examiner,
            store,
            minimum_quality: QualityScore::new(config.enrolment.minimum_quality),
            maximum_pictures: (config.enrolment.maximum_pictures as usize).min(MAX_SAMPLES),
            width: pictures_under_way(),
        }
    }
}

/// What an import came to. Holds names.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ImportResult {
    /// Subjects that were not known before.
    pub subjects_created: u64,
    /// Subjects that were, and have more templates now.
    pub subjects_extended: u64,
    /// Templates made.
    pub templates: u64,
    /// Files that cannot be used.
    pub refused: u64,
    /// Files that add nothing.
    pub duplicates: u64,
    /// Enrolled subjects that look like others, at most two hundred.
    pub looks_like: Vec<ImportLikeness>,
}

/// Somebody enrolled who looks like somebody else.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ImportLikeness {
    /// Who was enrolled.
    pub subject: SubjectId,
    /// Under which name.
    pub name: String,
    /// Whom they look like.
    pub other: SubjectId,
    /// Their name.
    pub other_name: String,
    /// How much.
    pub score: ComparisonScore,
}

/// Why a file gives no sample.
struct Refused {
    code: &'static str,
    message: String,
}

impl Refused {
    fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    fn entry(self, path: String) -> ReportEntry {
        ReportEntry { path, outcome: ReportOutcome::Refused, code: self.code, message: self.message }
    }
}

type Taken = Result<EnrolmentCandidate, Refused>;

/// A picture on its way to the examiner.
struct Task {
    group: usize,
    place: usize,
    bytes: Vec<u8>,
}

/// A picture that comes back.
struct Answer {
    group: usize,
    place: usize,
    /// Of the picture, which are free again.
    bytes: usize,
    taken: Result<Taken, Stopped>,
}

/// A subject some of whose pictures are under way.
struct Pending {
    group: Group,
    taken: Vec<Option<Taken>>,
    /// Every picture has been read from the archive.
    read: bool,
}

/// Imports a whole archive. `accept_similar`: enrol also whom the gallery takes for somebody else.
pub fn import(
    spool: Arc<Spool>,
    parts: &ImportParts,
    accept_similar: bool,
    control: &JobControl,
) -> Result<(), Stopped> {
    let failed = |error: crate::archive::ArchiveError| Stopped::Failed(error.to_string());
    let mut archive = Archive::open(SpoolReader::new(spool)).map_err(failed)?;
    let contents = archive.contents().map_err(failed)?;
    let files = contents.files() as u64;
    if files == 0 {
        return Err(Stopped::Failed(
            "the archive holds no files; put the pictures of each person into a folder of their name"
                .to_owned(),
        ));
    }
    let mut run = Run {
        parts,
        control,
        accept_similar,
        result: ImportResult { refused: contents.refused.len() as u64, ..ImportResult::default() },
        done: contents.refused.len() as u64,
        files,
        window: VecDeque::new(),
        first: 0,
        under_way: 0,
        bytes: 0,
    };
    control.report(
        contents.refused.into_iter().map(|(path, why)| Refused::new(why.code(), why.to_string()).entry(path)),
    );
    run.tell();
    let (give, tasks) = sync_channel::<Task>(parts.width);
    let (tell, answers) = channel();
    let tasks = Mutex::new(tasks);
    std::thread::scope(|scope| {
        for _ in 0..parts.width {
            let (tasks, tell) = (&tasks, tell.clone());
            scope.spawn(move || {
                while let Some(task) = next_task(tasks) {
                    let answer = examine(parts, task);
                    if tell.send(answer).is_err() {
                        return;
                    }
                }
            });
        }
        drop(tell);
        // The sender goes with this call, and the threads with it.
        run.feed(&mut archive, contents.groups, give, &answers)
    })
}

fn next_task(tasks: &Mutex<Receiver<Task>>) -> Option<Task> {
    tasks.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
}

/// What an import knows while it runs.
struct Run<'a> {
    parts: &'a ImportParts,
    control: &'a JobControl,
    accept_similar: bool,
    result: ImportResult,
    done: u64,
    files: u64,
    /// Subjects in order, from the first one that is not decided on.
    window: VecDeque<Pending>,
    /// Number of the first of them.
    first: usize,
    under_way: usize,
    /// Of the pictures under way.
    bytes: usize,
}

impl Run<'_> {
    fn feed<R: Read + Seek>(
        &mut self,
        archive: &mut Archive<R>,
        groups: Vec<Group>,
        give: SyncSender<Task>,
        answers: &Receiver<Answer>,
    ) -> Result<(), Stopped> {
        for (number, group) in groups.into_iter().enumerate() {
            let entries: Vec<Entry> = group.entries.clone();
            let taken = entries.iter().map(|_| None).collect();
            self.window.push_back(Pending { group, taken, read: false });
            for (place, entry) in entries.iter().enumerate() {
                self.control.checkpoint()?;
                while self.under_way >= self.parts.width
                    || self.bytes > READ_AHEAD
                    || self.window.len() > SUBJECTS_UNDER_WAY
                {
                    self.take_in(answers)?;
                }
                match self.read(archive, place, entry) {
                    Err(refused) => self.pending(number).taken[place] = Some(Err(refused)),
                    Ok(bytes) => {
                        self.under_way += 1;
                        self.bytes += bytes.len();
                        let task = Task { group: number, place, bytes };
                        give.send(task).map_err(|_| fault())?;
                    }
                }
            }
            self.pending(number).read = true;
            self.settle()?;
        }
        while self.under_way > 0 {
            self.control.checkpoint()?;
            self.take_in(answers)?;
        }
        self.settle()
    }

    /// The bytes of one entry, if its picture would be decoded.
    fn read<R: Read + Seek>(
        &self,
        archive: &mut Archive<R>,
        place: usize,
        entry: &Entry,
    ) -> Result<Vec<u8>, Refused> {
        let most = self.parts.maximum_pictures;
        if place >= most {
            let message = format!("only the first {most} pictures of a subject are taken");
            return Err(Refused::new("too_many", message));
        }
        let bytes = archive.read(entry.index).map_err(|why| Refused::new(why.code(), why.to_string()))?;
        claim(&bytes).map_err(|why| Refused::new(why.code(), why.to_string()))?;
        Ok(bytes)
    }

    fn pending(&mut self, number: usize) -> &mut Pending {
        // Subjects leave the window in order, and only when all their pictures are there.
        &mut self.window[number - self.first]
    }

    /// Waits for one answer.
    fn take_in(&mut self, answers: &Receiver<Answer>) -> Result<(), Stopped> {
        let Answer { group, place, bytes, taken } = answers.recv().map_err(|_| fault())?;
        self.under_way -= 1;
        self.bytes -= bytes;
        self.pending(group).taken[place] = Some(taken?);
        self.settle()
    }

    /// Enrols every subject at the front whose pictures are all there.
    fn settle(&mut self) -> Result<(), Stopped> {
        while self.window.front().is_some_and(|next| next.read && next.taken.iter().all(Option::is_some)) {
            if let Some(Pending { group, taken, .. }) = self.window.pop_front() {
                self.first += 1;
                self.enrol(group, taken)?;
            }
        }
        Ok(())
    }

    fn enrol(&mut self, group: Group, taken: Vec<Option<Taken>>) -> Result<(), Stopped> {
        let paths: Vec<_> = group.entries.iter().map(|entry| entry.path.clone()).collect();
        let mut entries: Vec<Option<ReportEntry>> = paths.iter().map(|_| None).collect();
        let mut candidates = Vec::new();
        for (place, taken) in taken.into_iter().enumerate() {
            match taken {
                Some(Ok(candidate)) => candidates.push(EnrolmentCandidate { index: place, ..candidate }),
                Some(Err(refused)) => entries[place] = Some(refused.entry(paths[place].clone())),
                None => {}
            }
        }
        let mut report = |place: usize, outcome, code, message: String| {
            entries[place] = Some(ReportEntry { path: paths[place].clone(), outcome, code, message });
        };
        if !candidates.is_empty() {
            let places: Vec<_> = candidates.iter().map(|candidate| candidate.index).collect();
            let mut order = EnrolmentOrder::named(group.name.clone(), candidates, UnusableSamples::Skip);
            order.accept_similar = self.accept_similar;
            match self.ask(order)? {
                Ok(done) => {
                    self.result.subjects_created += u64::from(done.receipt.created);
                    self.result.subjects_extended += u64::from(!done.receipt.created);
                    for place in done.accepted {
                        let alike = done.looks_like.iter().find(|alike| alike.likeness.index == place);
                        let message = alike.map_or_else(String::new, |alike| {
                            let (name, score) = (alike.name.as_str(), alike.likeness.score);
                            format!("looks like {name}, who is enrolled already (score {score})")
                        });
                        let code = if alike.is_some() { "looks_like" } else { "enrolled" };
                        report(place, ReportOutcome::Enrolled, code, message);
                    }
                    for alike in done.looks_like {
                        if self.result.looks_like.len() < MOST_LIKENESSES {
                            self.result.looks_like.push(ImportLikeness {
                                subject: done.receipt.subject,
                                name: group.name.as_str().to_owned(),
                                other: alike.likeness.subject,
                                other_name: alike.name.as_str().to_owned(),
                                score: alike.likeness.score,
                            });
                        }
                    }
                    for sample in done.refused {
                        let message = in_words(&sample.reason, &paths);
                        report(sample.index, ReportOutcome::Refused, reason_code(&sample.reason), message);
                    }
                    for sample in done.duplicates {
                        report(
                            sample.index,
                            ReportOutcome::Duplicate,
                            "duplicate",
                            repeats(sample.of, &paths),
                        );
                    }
                }
                Err(EnrolmentError::LooksLike(others)) => {
                    let best = others.first();
                    let message = best.map_or_else(String::new, |alike| {
                        let (name, score) = (alike.name.as_str(), alike.likeness.score);
                        format!("looks like {name}, who is enrolled already (score {score})")
                    });
                    for place in places {
                        report(place, ReportOutcome::Refused, "looks_like", message.clone());
                    }
                }
                Err(EnrolmentError::Refused(EnrolmentRefused::OnlyDuplicates(duplicates))) => {
                    for sample in duplicates {
                        report(
                            sample.index,
                            ReportOutcome::Duplicate,
                            "duplicate",
                            repeats(sample.of, &paths),
                        );
                    }
                }
                Err(EnrolmentError::Refused(EnrolmentRefused::Unusable(refused))) => {
                    for sample in refused {
                        let message = in_words(&sample.reason, &paths);
                        report(sample.index, ReportOutcome::Refused, reason_code(&sample.reason), message);
                    }
                }
                Err(EnrolmentError::Refused(EnrolmentRefused::Ambiguous(_))) => {
                    for place in places {
                        let message =
                            "the pictures of this folder show different people, and none of them in most";
                        report(place, ReportOutcome::Refused, "different_people", message.to_owned());
                    }
                }
                Err(EnrolmentError::Refused(other)) => {
                    for place in places {
                        report(place, ReportOutcome::Refused, "not_enrolled", other.to_string());
                    }
                }
                // The disk or the database: the next subject would find the same.
                Err(EnrolmentError::Gallery(error)) => return Err(Stopped::Failed(error.to_string())),
            }
        }
        let entries: Vec<_> = entries
            .into_iter()
            .zip(&paths)
            .map(|(entry, path)| {
                entry.unwrap_or_else(|| {
                    Refused::new("not_enrolled", "nothing became of it").entry(path.clone())
                })
            })
            .collect();
        for entry in &entries {
            match entry.outcome {
                ReportOutcome::Enrolled => self.result.templates += 1,
                ReportOutcome::Refused => self.result.refused += 1,
                ReportOutcome::Duplicate => self.result.duplicates += 1,
            }
        }
        self.done += entries.len() as u64;
        self.control.report(entries);
        self.tell();
        Ok(())
    }

    /// Asks the store to enrol. A busy one is asked again: the recogniser's events come first.
    fn ask(&self, order: EnrolmentOrder) -> Result<Result<crate::enrol::Enrolled, EnrolmentError>, Stopped> {
        for _ in 0..STORE_ATTEMPTS {
            match self.parts.store.enrol_blocking(order.clone()) {
                Ok(done) => return Ok(Ok(done)),
                Err(GalleryRefusal::Store(StoreRefusal::Busy)) => {
                    std::thread::sleep(STORE_PAUSE);
                    self.control.checkpoint()?;
                }
                Err(GalleryRefusal::Store(StoreRefusal::Ended)) => return Err(Stopped::Cancelled),
                Err(GalleryRefusal::Store(StoreRefusal::Failed(why))) => return Err(Stopped::Failed(why)),
                Err(GalleryRefusal::Enrolment(error)) => return Ok(Err(error)),
                Err(GalleryRefusal::Gallery(error)) => return Err(Stopped::Failed(error.to_string())),
            }
        }
        Err(Stopped::Failed("the database was busy for too long; import the archive again".to_owned()))
    }

    fn tell(&self) {
        self.control.progress(self.done, self.files);
        // Numbers, words and lists always have a JSON form.
        self.control.result(serde_json::to_value(&self.result).unwrap_or_default());
    }
}

fn fault() -> Stopped {
    Stopped::Failed("a thread of the import has ended; the log says why".to_owned())
}

fn examine(parts: &ImportParts, task: Task) -> Answer {
    let Task { group, place, bytes } = task;
    let length = bytes.len();
    let examined = std::panic::catch_unwind(AssertUnwindSafe(|| {
        let examined = parts.examiner.examine_blocking(bytes, Urgency::Batch);
        match examined {
            Ok(examined) => Ok(candidate(&examined, parts.minimum_quality)),
            Err(ExamineError::Ended) => Err(Stopped::Cancelled),
            Err(ExamineError::Decode(why)) => Ok(Err(Refused::new(why.code(), why.to_string()))),
            Err(why) => Ok(Err(Refused::new("not_examined", why.to_string()))),
        }
    }));
    Answer { group, place, bytes: length, taken: examined.unwrap_or_else(|_| Err(fault())) }
}

/// The one face of a picture, if it is fit to be enrolled.
fn candidate(examined: &Examined, minimum: QualityScore) -> Taken {
    let face = match examined.faces.as_slice() {
        [] => {
            return Err(Refused::new(
                "no_face",
                "no face was found; it must be upright and at least a tenth as wide as the picture",
            ));
        }
        [face] => face,
        several => {
            let count = several.len();
            let message = format!("{count} faces were found; crop the picture to one");
            return Err(Refused::new("several_faces", message));
        }
    };
    face.verdict.map_err(|why| Refused::new(why.code(), format!("the face is {why}")))?;
    let ExaminedFace { quality: Some(quality), embedding: Some(embedding), .. } = face else {
        return Err(Refused::new("no_face", "no face shape was found"));
    };
    if quality.score < minimum {
        let found = quality.score;
        let message = format!("the face's quality score is {found}, below {minimum}");
        return Err(Refused::new("poor_quality", message));
    }
    let picture = SamplePicture::encode(&examined.crop(face, CROP_SIDE));
    let (quality, embedding) = (SampleQuality::from(quality), embedding.clone());
    Ok(EnrolmentCandidate { index: 0, origin: SampleOrigin::File, quality, embedding, picture })
}

fn reason_code(reason: &RefusalReason) -> &'static str {
    match reason {
        RefusalReason::DisagreesWithSamples { .. } => "disagrees_with_samples",
        RefusalReason::DisagreesWithSubject { .. } => "disagrees_with_subject",
    }
}

fn in_words(reason: &RefusalReason, paths: &[String]) -> String {
    match reason {
        RefusalReason::DisagreesWithSamples { samples, score } => {
            let others: Vec<_> = samples.iter().take(3).map(|place| paths[*place].as_str()).collect();
            format!("looks like somebody else than {} (score {score})", others.join(", "))
        }
        RefusalReason::DisagreesWithSubject { .. } => reason.to_string(),
    }
}

fn repeats(of: DuplicateOf, paths: &[String]) -> String {
    match of {
        DuplicateOf::Sample(place) => format!("the same face picture as {}", paths[place]),
        DuplicateOf::Template(_) => "enrolled already".to_owned(),
    }
}
