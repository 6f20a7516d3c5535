//! The gallery in memory: an immutable copy of all templates of one embedding space, laid out for
//! the search, and the handle through which it is read and replaced.
//!
//! Each template is held twice: as f32, and as 8-bit integers with a scale and an upper bound of
//! the rounding error. Memory per template of 128 dimensions: 512 + 128 + 20 bytes.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use serde::Serialize;
use thiserror::Error;
use zeroize::Zeroize;

use crate::clock::UnixMillis;
use crate::embedding::{Embedding, EmbeddingError, EmbeddingSpaceId};
use crate::score::ComparisonScore;

use super::counter::CounterExamples;
use super::records::{SubjectId, SubjectName, TemplateId};

/// Values per [`Line`]: one cache line of 64 bytes.
pub(super) const LINE: usize = 64;
/// Templates the search takes at a time; the arrays of a snapshot are padded to multiples of it.
pub(super) const BLOCK: usize = 64;

/// 64 quantised values, aligned so that no vector load crosses a cache line.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Line(pub(super) [i8; LINE]);

/// A subject as the recogniser needs it.
#[derive(Clone, Debug, PartialEq)]
pub struct GallerySubject {
    /// Its identifier.
    pub id: SubjectId,
    /// Its name, for the display and the events.
    pub name: SubjectName,
    /// Whether it asked for a sensor of its own in home automation.
    pub announced: bool,
}

/// What went into a snapshot and what did not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SnapshotReport {
    /// Templates that are searched.
    pub templates: usize,
    /// Subjects with at least one template that is searched.
    pub subjects: usize,
    /// Templates left out because they belong to another embedding space.
    pub other_space: usize,
    /// Templates left out because their subject has expired.
    pub expired: usize,
    /// How many subjects those were of.
    pub expired_subjects: usize,
    /// When the next subject expires: the snapshot should be loaded anew then.
    pub next_expiry: Option<UnixMillis>,
}

/// Why templates do not make a snapshot.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum SnapshotError {
    /// A template of another space, or of another length within the space.
    #[error("template {template}: {reason}")]
    Unfit {
        /// The template.
        template: TemplateId,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// More entries than the 32-bit positions of the search can name.
    #[error("a gallery holds at most {} templates", u32::MAX)]
    TooMany,
}

/// Templates of one subject that are not searched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Aside {
    pub(super) other_space: usize,
    pub(super) expired: usize,
}

/// What a snapshot is to hold of one subject.
#[derive(Debug, Default)]
pub(super) struct SubjectContent {
    /// The subject, unless it has expired or is gone.
    pub(super) subject: Option<GallerySubject>,
    /// Its templates of the snapshot's space, in ascending order of their ids.
    pub(super) templates: Vec<(TemplateId, Embedding)>,
    /// Faces that are not it.
    pub(super) counter_examples: Vec<Embedding>,
    pub(super) aside: Aside,
}

/// Builds a [`GallerySnapshot`] template by template.
#[derive(Debug)]
pub struct SnapshotBuilder {
    snapshot: GallerySnapshot,
    known: HashMap<SubjectId, u32>,
}

/// All templates of one embedding space, ready to be searched. Never changes. Its values are wiped
/// when the last reader lets go of it.
pub struct GallerySnapshot {
    space: EmbeddingSpaceId,
    pub(super) dimensions: usize,
    /// Lines of one quantised template; the last one is filled up with zeros.
    pub(super) lines_per_template: usize,
    pub(super) lines: Vec<Line>,
    /// The value of one quantisation step.
    pub(super) scales: Vec<f32>,
    /// Upper bound of the length of (template - quantised template).
    pub(super) residuals: Vec<f32>,
    pub(super) values: Vec<f32>,
    /// For each template the position of its subject.
    pub(super) owners: Vec<u32>,
    /// Ascending: equal scores are ranked by position, hence by id.
    pub(super) templates: Vec<TemplateId>,
    pub(super) subjects: Vec<GallerySubject>,
    /// By subject, where there is anything to count.
    aside: HashMap<SubjectId, Aside>,
    pub(super) counter_examples: CounterExamples,
    report: SnapshotReport,
}

impl SnapshotBuilder {
    /// An empty snapshot of one space.
    pub fn new(space: EmbeddingSpaceId) -> Self {
        Self { snapshot: GallerySnapshot::empty(space), known: HashMap::new() }
    }

    /// Makes a subject known. Of a subject given twice the first entry counts.
    pub fn subject(&mut self, subject: GallerySubject) -> Result<(), SnapshotError> {
        let next = u32::try_from(self.snapshot.subjects.len()).map_err(|_| SnapshotError::TooMany)?;
        if let std::collections::hash_map::Entry::Vacant(entry) = self.known.entry(subject.id) {
            entry.insert(next);
            self.snapshot.subjects.push(subject);
        }
        Ok(())
    }

    /// Whether a subject was made known.
    pub fn knows(&self, subject: SubjectId) -> bool {
        self.known.contains_key(&subject)
    }

    /// Adds one template of a subject made known before. Templates come in ascending order of their
    /// ids, all of the snapshot's space and of equal length.
    pub fn template(
        &mut self,
        id: TemplateId,
        subject: SubjectId,
        embedding: &Embedding,
    ) -> Result<(), SnapshotError> {
        let snapshot = &mut self.snapshot;
        let unfit = |reason| SnapshotError::Unfit { template: id, reason };
        if embedding.space() != &snapshot.space {
            return Err(unfit("it belongs to another embedding space"));
        }
        if snapshot.templates.last().is_some_and(|last| *last >= id) {
            return Err(unfit("templates must come in ascending order of their ids"));
        }
        let values = embedding.values();
        if snapshot.templates.is_empty() {
            snapshot.dimensions = values.len();
            snapshot.lines_per_template = values.len().div_ceil(LINE);
        } else if values.len() != snapshot.dimensions {
            return Err(unfit("its length differs from the other templates of its embedding space"));
        }
        let owner = *self.known.get(&subject).ok_or_else(|| unfit("its subject is not known"))?;
        // One below the maximum leaves room for the padding of the last block.
        if snapshot.templates.len() >= u32::MAX as usize - BLOCK {
            return Err(SnapshotError::TooMany);
        }
        let (scale, residual) = quantise(values, |group| snapshot.lines.push(Line(group)));
        snapshot.scales.push(scale);
        snapshot.residuals.push(residual);
        snapshot.values.extend_from_slice(values);
        snapshot.owners.push(owner);
        snapshot.templates.push(id);
        Ok(())
    }

    /// Makes room for all templates of `from` and `more`.
    fn reserve(&mut self, from: &GallerySnapshot, more: usize) {
        let snapshot = &mut self.snapshot;
        let templates = from.templates.len() + more;
        let padded = templates.next_multiple_of(BLOCK);
        snapshot.lines.reserve_exact(padded * from.lines_per_template);
        snapshot.scales.reserve_exact(padded);
        snapshot.residuals.reserve_exact(padded);
        snapshot.values.reserve_exact(templates * from.dimensions);
        snapshot.owners.reserve_exact(templates);
        snapshot.templates.reserve_exact(templates);
    }

    /// Takes a template over as it stands in another snapshot of the same space.
    fn copy(&mut self, from: &GallerySnapshot, at: usize, owner: u32) {
        let snapshot = &mut self.snapshot;
        snapshot.dimensions = from.dimensions;
        snapshot.lines_per_template = from.lines_per_template;
        let lines = at * from.lines_per_template..(at + 1) * from.lines_per_template;
        snapshot.lines.extend_from_slice(&from.lines[lines]);
        snapshot.scales.push(from.scales[at]);
        snapshot.residuals.push(from.residuals[at]);
        snapshot.values.extend_from_slice(from.template_values(at));
        snapshot.owners.push(owner);
        snapshot.templates.push(from.templates[at]);
    }

    /// Adds a face that is not a subject.
    pub fn counter_example(&mut self, subject: SubjectId, embedding: Embedding) {
        self.snapshot.counter_examples.add(subject, embedding);
    }

    /// Counts templates of a subject that are left out.
    pub(super) fn leave_out(&mut self, subject: SubjectId, templates: Aside) {
        if templates != Aside::default() {
            let aside = self.snapshot.aside.entry(subject).or_default();
            aside.other_space += templates.other_space;
            aside.expired += templates.expired;
        }
    }

    /// The finished snapshot. When the next subject expires is the caller's knowledge.
    pub fn finish(mut self, next_expiry: Option<UnixMillis>) -> GallerySnapshot {
        let snapshot = &mut self.snapshot;
        let mut searched = vec![false; snapshot.subjects.len()];
        for owner in &snapshot.owners {
            searched[*owner as usize] = true;
        }
        snapshot.report = SnapshotReport {
            templates: snapshot.templates.len(),
            subjects: searched.iter().filter(|s| **s).count(),
            other_space: snapshot.aside.values().map(|aside| aside.other_space).sum(),
            expired: snapshot.aside.values().map(|aside| aside.expired).sum(),
            expired_subjects: snapshot.aside.values().filter(|aside| aside.expired > 0).count(),
            next_expiry,
        };
        // Padding that can never be a candidate: its upper bound is minus infinity.
        let padded = snapshot.templates.len().next_multiple_of(BLOCK);
        snapshot.lines.resize(padded * snapshot.lines_per_template, Line([0; LINE]));
        snapshot.scales.resize(padded, 0.0);
        snapshot.residuals.resize(padded, f32::NEG_INFINITY);
        snapshot.lines.shrink_to_fit();
        snapshot.scales.shrink_to_fit();
        snapshot.residuals.shrink_to_fit();
        snapshot.values.shrink_to_fit();
        snapshot.owners.shrink_to_fit();
        snapshot.templates.shrink_to_fit();
        self.snapshot
    }
}

impl GallerySnapshot {
    /// A gallery in which nobody is known.
    pub fn empty(space: EmbeddingSpaceId) -> Self {
        Self {
            space,
            dimensions: 0,
            lines_per_template: 0,
            lines: Vec::new(),
            scales: Vec::new(),
            residuals: Vec::new(),
            values: Vec::new(),
            owners: Vec::new(),
            templates: Vec::new(),
            subjects: Vec::new(),
            aside: HashMap::new(),
            counter_examples: CounterExamples::default(),
            report: SnapshotReport::default(),
        }
    }

    /// The same gallery after a change of one subject. Copies what did not change, which takes a tenth
    /// of the time of reading it from the database.
    pub(super) fn with_changed(
        &self,
        id: SubjectId,
        content: SubjectContent,
        next_expiry: Option<UnixMillis>,
    ) -> Result<Self, SnapshotError> {
        let mut builder = SnapshotBuilder::new(self.space.clone());
        let SubjectContent { subject, templates, counter_examples, aside } = content;
        let mut moved = Vec::with_capacity(self.subjects.len());
        for subject in &self.subjects {
            // Its own place is never asked for.
            moved.push(builder.snapshot.subjects.len() as u32);
            if subject.id != id {
                builder.subject(subject.clone())?;
            }
        }
        if let Some(subject) = subject {
            builder.subject(subject)?;
        }
        builder.snapshot.aside =
            self.aside.iter().filter(|(of, _)| **of != id).map(|(of, a)| (*of, *a)).collect();
        builder.leave_out(id, aside);
        builder.snapshot.counter_examples = self.counter_examples.clone();
        builder.snapshot.counter_examples.remove(id);
        counter_examples.into_iter().for_each(|face| builder.counter_example(id, face));
        builder.reserve(self, templates.len());
        let own = self.subjects.iter().position(|subject| subject.id == id);
        let mut new = templates.into_iter().peekable();
        for (at, template) in self.templates.iter().enumerate() {
            if Some(self.owners[at] as usize) == own {
                continue;
            }
            while let Some((template, embedding)) = new.next_if(|(new, _)| new < template) {
                builder.template(template, id, &embedding)?;
            }
            builder.copy(self, at, moved[self.owners[at] as usize]);
        }
        for (template, embedding) in new {
            builder.template(template, id, &embedding)?;
        }
        Ok(builder.finish(next_expiry))
    }

    /// The embedding space of every template here.
    pub fn space(&self) -> &EmbeddingSpaceId {
        &self.space
    }

    /// What went into this snapshot and what did not.
    pub fn report(&self) -> SnapshotReport {
        self.report
    }

    /// The subjects, those without a searched template included.
    pub fn subjects(&self) -> &[GallerySubject] {
        &self.subjects
    }

    /// The entry of one subject. Looks at one after the other: meant for decisions, of which there are
    /// a few a second.
    pub fn subject(&self, id: SubjectId) -> Option<&GallerySubject> {
        self.subjects.iter().find(|s| s.id == id)
    }

    /// The templates of one subject with their values, of unit length.
    pub fn templates_of(&self, id: SubjectId) -> impl Iterator<Item = (TemplateId, &[f32])> {
        let position = self.subjects.iter().position(|s| s.id == id);
        self.owners
            .iter()
            .enumerate()
            .filter(move |(_, owner)| Some(**owner as usize) == position)
            .map(|(at, _)| (self.templates[at], self.template_values(at)))
    }

    /// 1:1: the best score of `probe` with a template of one subject; `None` when the subject has none
    /// in this space.
    pub fn compare_with(
        &self,
        id: SubjectId,
        probe: &Embedding,
    ) -> Result<Option<ComparisonScore>, EmbeddingError> {
        let mut best: Option<ComparisonScore> = None;
        for (_, values) in self.templates_of(id) {
            let template = Embedding::from_unit(values.to_vec(), self.space.clone())?;
            let score = template.compare(probe)?;
            best = Some(best.map_or(score, |best| if score > best { score } else { best }));
        }
        Ok(best)
    }

    /// Bytes this snapshot keeps allocated, without the names.
    pub fn memory_bytes(&self) -> usize {
        self.lines.capacity() * size_of::<Line>()
            + (self.scales.capacity() + self.residuals.capacity() + self.values.capacity()) * size_of::<f32>()
            + self.owners.capacity() * size_of::<u32>()
            + self.templates.capacity() * size_of::<TemplateId>()
            + self.subjects.capacity() * size_of::<GallerySubject>()
    }

    #[inline(always)]
    pub(super) fn template_values(&self, at: usize) -> &[f32] {
        &self.values[at * self.dimensions..(at + 1) * self.dimensions]
    }
}

impl fmt::Debug for GallerySnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GallerySnapshot {{ {} templates of {} }}", self.templates.len(), self.space)
    }
}

impl Drop for GallerySnapshot {
    fn drop(&mut self) {
        self.values.zeroize();
        for line in &mut self.lines {
            line.0.zeroize();
        }
    }
}

/// Rounds `values` to multiples of one step so that the largest becomes 127, hands them over line
/// by line, and returns the step and an upper bound of the length of what was rounded away.
pub(super) fn quantise(values: &[f32], mut line: impl FnMut([i8; LINE])) -> (f32, f32) {
    let largest = values.iter().fold(0.0_f32, |m, v| m.max(v.abs()));
    // A vector of unit length has a largest value; the bound only keeps the division defined.
    let scale = (largest / 127.0).max(f32::MIN_POSITIVE);
    let per_value = 1.0 / scale;
    let mut squares = 0.0_f64;
    for part in values.chunks(LINE) {
        let mut group = [0_i8; LINE];
        for (slot, value) in group.iter_mut().zip(part) {
            // Away from zero and cut off is rounding without the library call; the search relies on
            // -128 never appearing.
            let steps = value * per_value;
            *slot = (steps + 0.5_f32.copysign(steps)).clamp(-127.0, 127.0) as i8;
            // The product of two f32 is exact in f64, and so is their difference to 2^-53.
            squares += (f64::from(*value) - f64::from(scale) * f64::from(*slot)).powi(2);
        }
        line(group);
    }
    // The factor covers the rounding of the f64 sum and of the conversion to f32 below.
    (scale, (squares.sqrt() * (1.0 + 1e-6)) as f32)
}

/// The gallery as the stages share it: cheap to clone, read without waiting, replaced as a whole.
#[derive(Clone, Debug)]
pub struct Gallery(Arc<ArcSwap<GallerySnapshot>>);

impl Gallery {
    /// Shares a first snapshot.
    pub fn new(snapshot: GallerySnapshot) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(snapshot)))
    }

    /// The present snapshot, for the length of one search.
    pub fn current(&self) -> Guard<Arc<GallerySnapshot>> {
        self.0.load()
    }

    /// Puts `snapshot` in the place of the present one. Searches under way finish with theirs.
    pub fn replace(&self, snapshot: GallerySnapshot) {
        self.0.store(Arc::new(snapshot));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space() -> EmbeddingSpaceId {
        EmbeddingSpaceId::new("test/1")
    }

    fn subject(byte: u8) -> GallerySubject {
        GallerySubject {
            id: SubjectId::from_bytes([byte; 16]),
            name: SubjectName::new("Ada").unwrap(),
            announced: false,
        }
    }

    fn embedding(values: &[f32]) -> Embedding {
        Embedding::normalised(values.to_vec(), space()).unwrap()
    }

    #[test]
    fn residual_bounds_what_quantisation_rounded_away() {
        let values = embedding(&(0..128).map(|i| (i as f32 * 0.7).sin()).collect::<Vec<_>>());
        let mut back = Vec::new();
        let mut lines = Vec::new();
        let (scale, residual) = quantise(values.values(), |l| lines.push(l));
        for q in lines.iter().flatten().take(128) {
            back.push(f64::from(scale) * f64::from(*q));
        }
        let length =
            values.values().iter().zip(&back).map(|(v, b)| (f64::from(*v) - b).powi(2)).sum::<f64>().sqrt();
        assert!(length <= f64::from(residual), "{length} > {residual}");
        assert!(residual < 0.01, "8 bits should do better than {residual}");
    }

    #[test]
    fn builder_refuses_what_does_not_belong_together() {
        let mut builder = SnapshotBuilder::new(space());
        builder.subject(subject(1)).unwrap();
        let id = subject(1).id;
        builder.template(TemplateId(5), id, &embedding(&[1.0, 0.0])).unwrap();
        let refused = |r: Result<(), SnapshotError>| matches!(r, Err(SnapshotError::Unfit { .. }));
        assert!(refused(builder.template(TemplateId(6), id, &embedding(&[1.0, 0.0, 0.0]))), "length");
        assert!(refused(builder.template(TemplateId(5), id, &embedding(&[1.0, 0.0]))), "order");
        assert!(refused(builder.template(TemplateId(6), subject(2).id, &embedding(&[1.0, 0.0]))), "owner");
        let other = Embedding::normalised(vec![1.0, 0.0], EmbeddingSpaceId::new("test/2")).unwrap();
        assert!(refused(builder.template(TemplateId(6), id, &other)), "space");
        assert_eq!(builder.finish(None).report().templates, 1);
    }

    #[test]
    fn memory_per_template_stays_within_its_budget() {
        const TEMPLATES: usize = 10_000;
        let mut builder = SnapshotBuilder::new(space());
        builder.subject(subject(1)).unwrap();
        for i in 0..TEMPLATES {
            let values: Vec<f32> = (0..128).map(|d| ((i * 128 + d) as f32).sin()).collect();
            builder.template(TemplateId(i as i64), subject(1).id, &embedding(&values)).unwrap();
        }
        let bytes = builder.finish(None).memory_bytes() / TEMPLATES;
        assert!(bytes <= 128 * 5 + 32, "{bytes} bytes per template");
    }

    #[test]
    fn readers_keep_their_snapshot_while_it_is_replaced() {
        let gallery = Gallery::new(GallerySnapshot::empty(space()));
        let before = gallery.current();
        let mut builder = SnapshotBuilder::new(space());
        builder.subject(subject(1)).unwrap();
        builder.template(TemplateId(1), subject(1).id, &embedding(&[1.0, 0.0])).unwrap();
        gallery.clone().replace(builder.finish(None));
        assert_eq!(before.report().templates, 0);
        assert_eq!(gallery.current().report().templates, 1);
    }
}
