//! Times the gallery search on synthetic templates: random directions, not faces. The scan does the
//! same work for either; how many templates are compared again in f32 is reported, since that part
//! depends on how the templates lie.

use std::time::{Duration, Instant};

use serde::Serialize;

use super::random::Random;
use crate::embedding::{Embedding, EmbeddingError, EmbeddingSpaceId};
use crate::gallery::{
    GallerySnapshot, GallerySubject, SearchScratch, SnapshotBuilder, SnapshotError, SubjectId, SubjectName,
    TemplateId,
};

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub struct SearchTimings {
    /// Templates in the synthetic gallery, three of each subject.
    pub templates: usize,
    /// Values of each embedding.
    pub dimensions: usize,
    /// Searches timed.
    pub rounds: usize,
    /// Fastest search.
    pub fastest: Duration,
    /// Median search.
    pub median: Duration,
    /// 99th of 100 searches.
    pub p99: Duration,
    /// Templates compared in f32 by the median search.
    pub compared_exactly: usize,
    /// Bytes of memory per template.
    pub bytes_per_template: usize,
}

/// Searches `rounds` random probes among `templates` random ones of 128 values, for the two best
/// subjects, on the calling thread.
pub fn bench_search(templates: usize, dimensions: usize, rounds: usize) -> Result<SearchTimings, BenchError> {
    let mut random = Random::new(0x9e37_79b9_7f4a_7c15);
    let space = EmbeddingSpaceId::new("synthetic/1");
    let snapshot = synthetic_gallery(templates, dimensions, &space, &mut random)?;
    let mut scratch = SearchScratch::new();
    let mut times = Vec::with_capacity(rounds);
    let mut compared = Vec::with_capacity(rounds);
    // Two searches before the timed ones: the scratch memory grows, the caches fill.
    for round in 0..rounds + 2 {
        let probe = direction(&mut random, dimensions, &space)?;
        let start = Instant::now();
        let best = snapshot.search(&probe, 2, &mut scratch)?;
        let elapsed = start.elapsed();
        std::hint::black_box(best);
        if round >= 2 {
            times.push(elapsed);
            compared.push(scratch.compared_exactly());
        }
    }
    times.sort_unstable();
    compared.sort_unstable();
    let at =
        |share: f64| times.get(((times.len() as f64 * share) as usize).min(times.len().saturating_sub(1)));
    Ok(SearchTimings {
        templates,
        dimensions,
        rounds,
        fastest: at(0.0).copied().unwrap_or_default(),
        median: at(0.5).copied().unwrap_or_default(),
        p99: at(0.99).copied().unwrap_or_default(),
        compared_exactly: compared.get(compared.len() / 2).copied().unwrap_or_default(),
        bytes_per_template: snapshot.memory_bytes().checked_div(templates).unwrap_or_default(),
    })
}

/// Why the measurement could not be made.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The synthetic embeddings could not be made or compared.
    #[error(transparent)]
    Embedding(#[from] EmbeddingError),
    /// The synthetic gallery could not be built.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
}

/// Three templates of each subject, pointing anywhere.
pub(super) fn synthetic_gallery(
    templates: usize,
    dimensions: usize,
    space: &EmbeddingSpaceId,
    random: &mut Random,
) -> Result<GallerySnapshot, BenchError> {
    let mut builder = SnapshotBuilder::new(space.clone());
    let name = SubjectName::new("synthetic").expect("a plain word is a name");
    for at in 0..templates {
        let subject = SubjectId::from_bytes(((at / 3) as u128).to_be_bytes());
        if at % 3 == 0 {
            builder.subject(GallerySubject { id: subject, name: name.clone(), announced: false })?;
        }
        builder.template(TemplateId(at as i64), subject, &direction(random, dimensions, space)?)?;
    }
    Ok(builder.finish(None))
}

/// Sums of four uniform numbers are near enough to normal to point anywhere alike.
pub(super) fn direction(
    random: &mut Random,
    dimensions: usize,
    space: &EmbeddingSpaceId,
) -> Result<Embedding, EmbeddingError> {
    let values = (0..dimensions).map(|_| (0..4).map(|_| random.unit()).sum::<f32>() - 2.0).collect();
    Embedding::normalised(values, space.clone())
}

impl std::fmt::Display for SearchTimings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "search among {} synthetic templates of {} values, {} rounds: median {:.3} ms, fastest {:.3} ms",
            self.templates,
            self.dimensions,
            self.rounds,
            self.median.as_secs_f64() * 1e3,
            self.fastest.as_secs_f64() * 1e3
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measurement_counts_its_rounds_and_templates() {
        let timings = bench_search(300, 128, 5).unwrap();
        assert_eq!((timings.templates, timings.rounds), (300, 5));
        assert!(timings.fastest <= timings.median && timings.median <= timings.p99);
        assert!(timings.compared_exactly >= 2, "the two best are always compared in f32");
    }
}
