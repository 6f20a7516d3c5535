//! Re-embedding: templates of the present network for samples that have them of another one only, made
//! from the pictures that were kept. Runs on the thread of its job.
//!
//! After an update the networks of before go on working meanwhile, see [`crate::networks`].
//! Templates are added, a subject at a time; those of the other network stay, so that going back to it
//! costs nothing, and whoever has templates of the present one is recognised all the while. Samples
//! without a picture cannot be done: their subjects are named in the result, to be enrolled again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;

use crate::clock::Clock;
use crate::config::Config;
use crate::embedding::{Embedding, EmbeddingSpaceId};
use crate::event_store::{GalleryRefusal, StoreHandle, StoreRefusal};
use crate::examiner::{ExamineError, Examiner, Urgency, pictures_under_way};
use crate::gallery::{GalleryError, StaleSample, SubjectId};
use crate::jobs::{JobControl, Stopped};
use crate::models::ModelSet;
use crate::networks::{self, NextNetworks};
use crate::supervisor::Heartbeat;
use crate::vault::StateFolder;

/// Samples asked for at a time.
const PAGE: u32 = 64;
/// Subjects that each list of the result names.
const MOST_LISTED: usize = 500;

/// What re-embedding works with.
#[derive(Clone)]
pub struct ReembedParts {
    /// Examines the pictures.
    pub examiner: Examiner,
    /// Has the samples, and takes the templates.
    pub store: StoreHandle,
    /// The space that the templates are to be of.
    pub space: EmbeddingSpaceId,
    /// Where the networks are kept that the gallery's templates are of.
    pub state: StateFolder,
    /// Networks that take the place of those in use when all templates are made, and the settings they are used by.
    pub next: Option<(NextNetworks, Arc<Config>)>,
    /// Asks for a new start, with the next networks.
    pub restart: Arc<AtomicBool>,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for ReembedParts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ReembedParts({} {:?})", self.space, self.next.as_ref().map(|(next, _)| next))
    }
}

impl ReembedParts {
    /// Makes the missing templates: of the networks in use, or, with networks of its own, of those that are to follow
    /// them, which then do.
    pub fn run(&self, control: &JobControl) -> Result<(), Stopped> {
        let Some((next, config)) = &self.next else {
            return reembed(self, control);
        };
        let (examiner, threads) = Examiner::new(config, &next.space, &self.clock);
        let threads: Vec<_> = threads
            .into_iter()
            .map(|thread| {
                let beat = Heartbeat::unwatched(Arc::clone(&self.clock));
                std::thread::Builder::new().name("job-reembed".to_owned()).spawn(move || thread.run(&beat))
            })
            .collect();
        let parts = Self { examiner: examiner.clone(), space: next.space.clone(), ..self.clone() };
        let mut left = u64::MAX;
        let result = loop {
            // Whoever was enrolled meanwhile has none either.
            match reembed(&parts, control)
                .and_then(|()| parts.store.count_stale(&next.space).map_err(stopped))
            {
                Ok(stale) if stale < left && stale > 0 => left = stale,
                Ok(_) => break Ok(()),
                Err(stopped) => break Err(stopped),
            }
        };
        examiner.end();
        for thread in threads {
            if let Ok(thread) = thread
                && !matches!(thread.join(), Ok(Ok(())))
            {
                tracing::warn!("a thread that examined pictures did not end in order");
            }
        }
        result?;
        let models = ModelSet::load(&next.folder).map_err(|error| Stopped::Failed(error.to_string()))?;
        networks::keep(&self.state, &next.folder, &models)
            .map_err(|error| Stopped::Failed(error.to_string()))?;
        tracing::info!(space = %next.space, "all templates are made: starting again with the new networks");
        self.restart.store(true, Ordering::Relaxed);
        Ok(())
    }
}

/// What re-embedding came to. Holds names.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ReembedResult {
    /// Templates made.
    pub templates: u64,
    /// Subjects with samples whose pictures are not kept: enrol them again.
    pub without_picture: Vec<LeftOut>,
    /// Subjects with pictures in which the present networks find no face.
    pub failed: Vec<LeftOut>,
}

/// A subject some of whose samples have no template.
#[derive(Clone, Debug, Serialize)]
pub struct LeftOut {
    /// Who.
    pub subject: SubjectId,
    /// Their name, unless they have expired.
    pub name: Option<String>,
    /// How many samples.
    pub samples: u64,
}

/// Makes the missing templates of the whole gallery.
fn reembed(parts: &ReembedParts, control: &JobControl) -> Result<(), Stopped> {
    let total = parts.store.count_stale(&parts.space).map_err(stopped)?;
    let mut run = Run {
        parts,
        control,
        total,
        done: 0,
        templates: 0,
        no_picture: BTreeMap::new(),
        failed: BTreeMap::new(),
    };
    run.tell();
    let mut after = None;
    loop {
        control.checkpoint()?;
        let page = parts.store.stale_samples(&parts.space, after, PAGE).map_err(stopped)?;
        let Some(last) = page.last() else { break };
        after = Some(last.id);
        // A subject's samples mostly follow each other.
        for samples in page.chunk_by(|one, other| one.subject == other.subject) {
            run.subject(samples)?;
        }
    }
    run.tell();
    Ok(())
}

struct Run<'a> {
    parts: &'a ReembedParts,
    control: &'a JobControl,
    total: u64,
    done: u64,
    templates: u64,
    no_picture: BTreeMap<SubjectId, u64>,
    failed: BTreeMap<SubjectId, u64>,
}

impl Run<'_> {
    fn subject(&mut self, samples: &[StaleSample]) -> Result<(), Stopped> {
        let mut templates = Vec::new();
        for some in samples.chunks(pictures_under_way()) {
            self.control.checkpoint()?;
            for (sample, made) in some.iter().zip(self.make(some)?) {
                match made {
                    Made::Template(embedding) => templates.push((sample.id, embedding)),
                    Made::NoPicture => *self.no_picture.entry(sample.subject).or_default() += 1,
                    Made::NoFace => *self.failed.entry(sample.subject).or_default() += 1,
                }
            }
        }
        if !templates.is_empty() {
            let made = templates.len() as u64;
            self.parts.store.add_templates(templates).map_err(stopped)?;
            self.templates += made;
        }
        self.done += samples.len() as u64;
        self.tell();
        Ok(())
    }

    /// One for each sample.
    fn make(&self, samples: &[StaleSample]) -> Result<Vec<Made>, Stopped> {
        let parts = self.parts;
        std::thread::scope(|scope| {
            let threads: Vec<_> =
                samples.iter().map(|sample| scope.spawn(|| template(parts, sample))).collect();
            threads
                .into_iter()
                .map(|thread| {
                    let fault = "a picture could not be examined; the log says why";
                    thread.join().unwrap_or_else(|_| Err(Stopped::Failed(fault.to_owned())))
                })
                .collect()
        })
    }

    fn tell(&self) {
        let listed = |subjects: &BTreeMap<SubjectId, u64>| {
            let gallery = self.parts.store.gallery().current();
            let entry = |(subject, samples): (&SubjectId, &u64)| LeftOut {
                subject: *subject,
                name: gallery.subject(*subject).map(|known| known.name.as_str().to_owned()),
                samples: *samples,
            };
            subjects.iter().take(MOST_LISTED).map(entry).collect()
        };
        let result = ReembedResult {
            templates: self.templates,
            without_picture: listed(&self.no_picture),
            failed: listed(&self.failed),
        };
        self.control.progress(self.done, self.total.max(self.done));
        // Numbers, words and lists always have a JSON form.
        self.control.result(serde_json::to_value(result).unwrap_or_default());
    }
}

enum Made {
    Template(Embedding),
    NoPicture,
    NoFace,
}

fn template(parts: &ReembedParts, sample: &StaleSample) -> Result<Made, Stopped> {
    if !sample.picture {
        return Ok(Made::NoPicture);
    }
    let jpeg = match parts.store.picture_of(sample.id) {
        Ok(Some(jpeg)) => jpeg,
        Ok(None) => return Ok(Made::NoPicture),
        Err(GalleryRefusal::Gallery(GalleryError::Media(error))) => {
            tracing::warn!(%error, "a sample is left out");
            return Ok(Made::NoPicture);
        }
        Err(other) => return Err(stopped(other)),
    };
    // It was usable when it was enrolled, by the limits of then.
    match parts.examiner.of_every_face().examine_blocking(jpeg, Urgency::Batch) {
        Ok(examined) => {
            Ok(examined.in_the_middle().and_then(|face| face.embedding).map_or(Made::NoFace, Made::Template))
        }
        Err(ExamineError::Ended) => Err(Stopped::Cancelled),
        Err(ExamineError::Decode(_)) => Ok(Made::NoFace),
        Err(error @ (ExamineError::Busy | ExamineError::Failed(_))) => {
            Err(Stopped::Failed(error.to_string()))
        }
    }
}

fn stopped(refusal: GalleryRefusal) -> Stopped {
    match refusal {
        GalleryRefusal::Store(StoreRefusal::Ended) => Stopped::Cancelled,
        other => Stopped::Failed(format!("{other}; start it again, what was done stays")),
    }
}
