//! The gallery search against comparing every template in f32: equal to the bit, ties included.

#![allow(clippy::unwrap_used, reason = "a test says what failed by panicking")]

use limen::embedding::{Embedding, EmbeddingError, EmbeddingSpaceId};
use limen::gallery::{
    Candidate, GallerySnapshot, GallerySubject, SearchScratch, SnapshotBuilder, SubjectId, SubjectName,
    TemplateId,
};
use proptest::prelude::*;

type Entry = (TemplateId, SubjectId, Embedding);

fn space() -> EmbeddingSpaceId {
    EmbeddingSpaceId::new("test/1")
}

fn snapshot(entries: &[Entry]) -> GallerySnapshot {
    let mut builder = SnapshotBuilder::new(space());
    for (template, subject, embedding) in entries {
        builder
            .subject(GallerySubject { id: *subject, name: SubjectName::new("x").unwrap(), announced: false })
            .unwrap();
        builder.template(*template, *subject, embedding).unwrap();
    }
    builder.finish(None)
}

/// The definition: every template compared, best of each subject, best k subjects, ties by id.
fn by_definition(entries: &[Entry], probe: &Embedding, k: usize) -> Vec<Candidate> {
    let mut all: Vec<Candidate> = entries
        .iter()
        .map(|(template, subject, embedding)| Candidate {
            subject: *subject,
            template: *template,
            score: probe.compare(embedding).unwrap(),
        })
        .collect();
    all.sort_by(|l, r| r.score.get().total_cmp(&l.score.get()).then(l.template.cmp(&r.template)));
    let mut best: Vec<Candidate> = Vec::new();
    for candidate in all {
        if best.len() < k && best.iter().all(|b| b.subject != candidate.subject) {
            best.push(candidate);
        }
    }
    best
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1_u32 << 23) as f32 - 1.0
    }

    fn vector(&mut self, dimensions: usize) -> Vec<f32> {
        (0..dimensions).map(|_| self.unit() + self.unit() + self.unit()).collect()
    }
}

/// Random values in few dimensions can all be so small that they have no direction; such a draw stands
/// for the first axis.
fn embedding(mut values: Vec<f32>) -> Embedding {
    if values.iter().all(|v| v.abs() < 1e-5) {
        values[0] = 1.0;
    }
    Embedding::normalised(values, space()).unwrap()
}

/// How the templates of a case lie.
#[derive(Clone, Copy, Debug)]
enum Layout {
    /// Anywhere.
    Random,
    /// Around few centres, so close that 8 bits cannot tell them apart.
    Clustered { spread: f32 },
    /// Few different vectors, each many times, in several subjects.
    Duplicated,
    /// One value carries nearly the whole length: the coarsest quantisation.
    Spiky,
}

fn case(layout: Layout, templates: usize, dimensions: usize, seed: u64) -> (Vec<Entry>, Vec<Embedding>) {
    let mut random = Random(seed);
    let centres: Vec<Vec<f32>> = (0..5).map(|_| random.vector(dimensions)).collect();
    let draw = |random: &mut Random| match layout {
        Layout::Random => embedding(random.vector(dimensions)),
        Layout::Clustered { spread } => {
            let centre = &centres[random.below(centres.len())];
            embedding(centre.iter().map(|c| c + spread * random.unit()).collect())
        }
        Layout::Duplicated => embedding(centres[random.below(centres.len())].clone()),
        Layout::Spiky => {
            let mut values: Vec<f32> = random.vector(dimensions).iter().map(|v| v * 0.003).collect();
            values[random.below(dimensions.min(3))] = 1.0;
            embedding(values)
        }
    };
    let subjects = (templates / 3).max(1);
    let mut id = 0;
    let entries = (0..templates)
        .map(|_| {
            id += 1 + random.below(3) as i64;
            let subject = SubjectId::from_bytes((random.below(subjects) as u128 * 7919).to_be_bytes());
            (TemplateId(id), subject, draw(&mut random))
        })
        .collect();
    let probes = (0..4).map(|_| draw(&mut random)).collect();
    (entries, probes)
}

fn layouts() -> impl Strategy<Value = Layout> {
    prop_oneof![
        Just(Layout::Random),
        prop_oneof![Just(1e-1_f32), Just(1e-2), Just(1e-3), Just(1e-5), Just(1e-7)]
            .prop_map(|spread| Layout::Clustered { spread }),
        Just(Layout::Duplicated),
        Just(Layout::Spiky),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn search_equals_comparing_every_template(
        layout in layouts(),
        templates in 1_usize..400,
        dimensions in prop_oneof![Just(1_usize), Just(2), Just(63), Just(64), Just(65), Just(128), Just(192), Just(512)],
        k in 1_usize..12,
        seed in any::<u64>(),
    ) {
        let (entries, probes) = case(layout, templates, dimensions, seed);
        let snapshot = snapshot(&entries);
        let mut scratch = SearchScratch::new();
        for probe in &probes {
            let found = snapshot.search(probe, k, &mut scratch).unwrap();
            prop_assert_eq!(found, by_definition(&entries, probe, k));
        }
    }
}

/// Without the second comparison in f32 the same cases come out wrong, so the test above can fail.
#[test]
fn ranking_by_eight_bits_alone_is_not_exact() {
    let eight_bits = |values: &[f32]| -> (f32, Vec<i32>) {
        let scale = values.iter().fold(0.0_f32, |m, v| m.max(v.abs())) / 127.0;
        (scale, values.iter().map(|v| (v / scale).round() as i32).collect())
    };
    let (mut wrong, mut cases) = (0, 0);
    for seed in 0..50 {
        let (entries, probes) = case(Layout::Clustered { spread: 1e-2 }, 200, 128, seed);
        let snapshot = snapshot(&entries);
        let mut scratch = SearchScratch::new();
        for probe in &probes {
            let (scale, probe_bits) = eight_bits(probe.values());
            let score = |entry: &Entry| {
                let (s, bits) = eight_bits(entry.2.values());
                scale * s * bits.iter().zip(&probe_bits).map(|(l, r)| l * r).sum::<i32>() as f32
            };
            let best = entries.iter().max_by(|l, r| score(l).total_cmp(&score(r))).unwrap();
            let exact = snapshot.search(probe, 1, &mut scratch).unwrap();
            cases += 1;
            wrong += usize::from(exact[0].template != best.0);
        }
    }
    assert_eq!(cases, 200);
    assert!(wrong >= 20, "8 bits alone were wrong in {wrong} of {cases} cases");
}

#[test]
fn scan_rules_out_nearly_all_of_a_large_gallery() {
    let (entries, probes) = case(Layout::Random, 20_000, 128, 7);
    let snapshot = snapshot(&entries);
    let mut scratch = SearchScratch::new();
    for probe in &probes {
        assert_eq!(snapshot.search(probe, 2, &mut scratch).unwrap(), by_definition(&entries, probe, 2));
        assert!(scratch.compared_exactly() <= 200, "{} compared in f32", scratch.compared_exactly());
    }
}

#[test]
fn best_template_stands_for_its_subject_and_equal_scores_rank_by_template() {
    let subject = |n: u8| SubjectId::from_bytes([n; 16]);
    let axis = |n: usize| {
        let mut values = vec![0.0; 4];
        values[n] = 1.0;
        embedding(values)
    };
    let entries = [
        (TemplateId(1), subject(1), axis(1)),
        (TemplateId(2), subject(2), axis(0)),
        (TemplateId(3), subject(1), axis(0)),
        (TemplateId(4), subject(1), axis(0)),
        (TemplateId(5), subject(3), axis(2)),
    ];
    let found = snapshot(&entries).search(&axis(0), 9, &mut SearchScratch::new()).unwrap();
    let order: Vec<_> = found.iter().map(|c| (c.template.0, c.score.get())).collect();
    assert_eq!(order, [(2, 1.0), (3, 1.0), (5, 0.0)]);
}

#[test]
fn empty_gallery_and_no_subjects_wanted_give_nothing() {
    let probe = embedding(vec![1.0, 0.0]);
    let mut scratch = SearchScratch::new();
    assert_eq!(GallerySnapshot::empty(space()).search(&probe, 3, &mut scratch), Ok(vec![]));
    let one = snapshot(&[(TemplateId(1), SubjectId::from_bytes([1; 16]), probe.clone())]);
    assert_eq!(one.search(&probe, 0, &mut scratch), Ok(vec![]));
}

#[test]
fn probe_of_another_space_or_length_is_refused() {
    let one = snapshot(&[(TemplateId(1), SubjectId::from_bytes([1; 16]), embedding(vec![1.0, 0.0]))]);
    let mut scratch = SearchScratch::new();
    let other = Embedding::normalised(vec![1.0, 0.0], EmbeddingSpaceId::new("test/2")).unwrap();
    assert!(matches!(one.search(&other, 1, &mut scratch), Err(EmbeddingError::SpaceMismatch { .. })));
    let longer = embedding(vec![1.0, 0.0, 0.0]);
    assert!(matches!(
        one.search(&longer, 1, &mut scratch),
        Err(EmbeddingError::WrongDimensions { expected: 2, found: 3, .. })
    ));
}
