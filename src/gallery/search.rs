//! Exact search of one probe among all templates (1:N).
//!
//! The scan compares 8-bit integers and keeps every template that could belong to the answer; the
//! kept ones are compared again in f32, with the very function that compares two embeddings. The
//! answer equals that of comparing every template in f32, by proof and not by luck:
//!
//! With q the probe, x a template, q^ and x^ their quantised forms, Cauchy and Schwarz give
//! `|<q,x> - <q^,x^>| = |<q^,x-x^> + <q-q^,x>| <= |q^| |x-x^| + |q-q^| |x|`.
//! The integer sum is exact, the f32 comparison of n values is off by at most `n 2^-24 |q| |x|`
//! to first order, and the few f32 operations around the integer sum add less than that again
//! (Higham, Accuracy and Stability of Numerical Algorithms, 3.1). So each template has an upper and a
//! lower bound of its f32 score. If k different subjects have templates whose lower bounds reach t,
//! then the k-th best subject scores at least t, and a template whose upper bound is below t is
//! not the best of any of the k best subjects. All others are kept.
//!
//! Pure; runs on the thread of the caller, which lends the scratch memory.

use pulp::{Arch, Simd, WithSimd};
use zeroize::Zeroize;

use crate::embedding::{Embedding, EmbeddingError, LENGTH_TOLERANCE, dot};
use crate::score::ComparisonScore;

use super::records::{SubjectId, TemplateId};
use super::snapshot::{BLOCK, GallerySnapshot, LINE, Line, quantise};

/// A gallery entry ranked by its score, before any threshold.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// Whose template it is.
    pub subject: SubjectId,
    /// The subject's best template.
    pub template: TemplateId,
    /// Cosine of probe and template.
    pub score: ComparisonScore,
}

/// Memory that searches reuse. It grows with the first searches; after that a search allocates
/// nothing but its answer. One per thread.
pub struct SearchScratch {
    arch: Arch,
    /// The quantised probe.
    probe: Vec<Line>,
    /// Templates that may belong to the answer: position and upper bound.
    kept: Vec<(u32, f32)>,
    /// The best lower bounds of different subjects, descending: owner and bound.
    leaders: Vec<(u32, f32)>,
    /// Kept templates compared in f32: score, position, owner.
    ranked: Vec<(ComparisonScore, u32, u32)>,
}

impl SearchScratch {
    /// Empty, for the best instruction set of this processor.
    pub fn new() -> Self {
        Self {
            arch: Arch::new(),
            probe: Vec::new(),
            kept: Vec::new(),
            leaders: Vec::new(),
            ranked: Vec::new(),
        }
    }

    /// How many templates the last search compared in f32.
    pub fn compared_exactly(&self) -> usize {
        self.kept.len()
    }
}

impl Default for SearchScratch {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for SearchScratch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SearchScratch { .. }")
    }
}

impl Drop for SearchScratch {
    fn drop(&mut self) {
        for line in &mut self.probe {
            line.0.zeroize();
        }
    }
}

impl GallerySnapshot {
    /// The best template of each of the `k_subjects` best subjects, best first; fewer if fewer are
    /// known. Equal scores are ranked by template id. An error if the probe is of another space.
    pub fn search(
        &self,
        probe: &Embedding,
        k_subjects: usize,
        scratch: &mut SearchScratch,
    ) -> Result<Vec<Candidate>, EmbeddingError> {
        if probe.space() != self.space() {
            return Err(EmbeddingError::SpaceMismatch {
                left: probe.space().clone(),
                right: self.space().clone(),
            });
        }
        scratch.kept.clear();
        if self.templates.is_empty() || k_subjects == 0 {
            return Ok(Vec::new());
        }
        if probe.values().len() != self.dimensions {
            return Err(EmbeddingError::WrongDimensions {
                space: self.space().clone(),
                expected: self.dimensions,
                found: probe.values().len(),
            });
        }
        let probe = probe.values();
        match scratch.arch {
            #[cfg(target_arch = "x86_64")]
            Arch::V3(kernel) => {
                Simd::vectorize(kernel, Scan { kernel, snapshot: self, probe, k_subjects, scratch });
            }
            #[cfg(target_arch = "aarch64")]
            Arch::Neon(kernel) => {
                Simd::vectorize(kernel, Scan { kernel, snapshot: self, probe, k_subjects, scratch });
            }
            arch => arch.dispatch(Scan { kernel: Portable, snapshot: self, probe, k_subjects, scratch }),
        }
        let best = scratch.ranked.iter().take(k_subjects);
        Ok(best
            .map(|(score, at, owner)| Candidate {
                subject: self.subjects[*owner as usize].id,
                template: self.templates[*at as usize],
                score: *score,
            })
            .collect())
    }
}

/// The bounds of one probe: a template scores between `scaled - error` and `scaled + error`, where
/// `scaled` is the integer sum times both scales and `error = slope * residual + offset`.
#[derive(Clone, Copy)]
struct Bounds {
    scale: f32,
    slope: f32,
    offset: f32,
}

impl Bounds {
    /// Quantises the probe into `lines`.
    fn of(probe: &[f32], lines: &mut Vec<Line>) -> Self {
        lines.clear();
        let (scale, residual) = quantise(probe, |group| lines.push(Line(group)));
        let longest = 1.0 + LENGTH_TOLERANCE;
        // |q^| <= |q| + |q - q^|
        let slope = (longest + f64::from(residual)) * (1.0 + 1e-6);
        let unit = f64::from(f32::EPSILON) / 2.0;
        // n for the sum itself, 16 for the operations on `scaled` and `error`, both below 1.1.
        let rounding = (probe.len() as f64 + 16.0) * unit * 1.1;
        let offset = (f64::from(residual) * longest + rounding) * (1.0 + 1e-6);
        Self { scale, slope: slope as f32, offset: offset as f32 }
    }
}

struct Scan<'a, K> {
    kernel: K,
    snapshot: &'a GallerySnapshot,
    probe: &'a [f32],
    k_subjects: usize,
    scratch: &'a mut SearchScratch,
}

impl<K: Kernel> WithSimd for Scan<'_, K> {
    type Output = ();

    // Inlined as a whole into a function compiled for the instruction set that was found; the loops
    // over fixed-size arrays below then become vector code.
    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) {
        let Self { kernel, snapshot, probe, k_subjects, scratch } = self;
        let bounds = Bounds::of(probe, &mut scratch.probe);
        scratch.leaders.clear();
        match snapshot.lines_per_template {
            2 => scan::<2, K>(kernel, snapshot, bounds, k_subjects, scratch),
            3 => scan::<3, K>(kernel, snapshot, bounds, k_subjects, scratch),
            8 => scan::<8, K>(kernel, snapshot, bounds, k_subjects, scratch),
            _ => scan::<0, K>(kernel, snapshot, bounds, k_subjects, scratch),
        }
        rank(snapshot, probe, k_subjects, scratch);
    }
}

/// Fills `scratch.kept` with every template that could belong to the answer. `LINES` is the number
/// of lines of a template, or 0 where it is only known at run time.
#[inline(always)]
fn scan<const LINES: usize, K: Kernel>(
    kernel: K,
    snapshot: &GallerySnapshot,
    bounds: Bounds,
    k_subjects: usize,
    scratch: &mut SearchScratch,
) {
    let lines_per_template = if LINES == 0 { snapshot.lines_per_template } else { LINES };
    let blocks = snapshot.lines.chunks_exact(lines_per_template * BLOCK);
    let (scales, _) = snapshot.scales.as_chunks::<BLOCK>();
    let (residuals, _) = snapshot.residuals.as_chunks::<BLOCK>();
    let probe = &scratch.probe[..lines_per_template];
    let mut threshold = f32::NEG_INFINITY;
    for (number, ((block, scales), residuals)) in blocks.zip(scales).zip(residuals).enumerate() {
        let mut sums = [0_i32; BLOCK];
        for (sum, template) in sums.iter_mut().zip(block.chunks_exact(lines_per_template)) {
            *sum = kernel.integer_dot(template, probe);
        }
        let mut upper = [0.0_f32; BLOCK];
        for i in 0..BLOCK {
            let scaled = sums[i] as f32 * (scales[i] * bounds.scale);
            upper[i] = scaled + (bounds.slope * residuals[i] + bounds.offset);
        }
        if !upper.iter().fold(false, |any, u| any | (*u >= threshold)) {
            continue;
        }
        for (i, upper) in upper.iter().enumerate() {
            let at = number * BLOCK + i;
            // Scores are clamped to -1..=1, so bounds are too: equal scores must stay equal.
            let upper = upper.max(-1.0);
            if upper < threshold || at >= snapshot.owners.len() {
                continue;
            }
            scratch.kept.push((at as u32, upper));
            let error = bounds.slope * residuals[i] + bounds.offset;
            let lower = (sums[i] as f32 * (scales[i] * bounds.scale) - error).min(1.0);
            if lower > threshold {
                lead(&mut scratch.leaders, snapshot.owners[at], lower, k_subjects);
                if scratch.leaders.len() == k_subjects {
                    threshold = scratch.leaders[k_subjects - 1].1;
                }
            }
        }
    }
    scratch.kept.retain(|(_, upper)| *upper >= threshold);
}

/// How one processor family multiplies. Every kernel gives the same, exact sum.
trait Kernel: Copy {
    /// Sum of products of a quantised template and probe, all values within -127..=127.
    fn integer_dot(self, template: &[Line], probe: &[Line]) -> i32;
}

/// For processors without a kernel of their own.
#[derive(Clone, Copy)]
struct Portable;

impl Kernel for Portable {
    #[inline(always)]
    fn integer_dot(self, template: &[Line], probe: &[Line]) -> i32 {
        let mut sum = 0;
        for (template, probe) in template.iter().zip(probe) {
            for i in 0..LINE {
                sum += i32::from(i16::from(template.0[i]) * i16::from(probe.0[i]));
            }
        }
        sum
    }
}

/// AVX2, where the loop above compiles to three times the instructions.
#[cfg(target_arch = "x86_64")]
impl Kernel for pulp::x86::V3 {
    #[inline(always)]
    fn integer_dot(self, template: &[Line], probe: &[Line]) -> i32 {
        use std::arch::x86_64::{__m128i, __m256i};
        let avx2 = self.avx2;
        let ones: __m256i = pulp::cast([1_i16; 16]);
        let mut sums: __m256i = pulp::cast([0_i32; 8]);
        for (template, probe) in template.iter().zip(probe) {
            let (template, _) = template.0.as_chunks::<32>();
            let (probe, _) = probe.0.as_chunks::<32>();
            for (template, probe) in template.iter().zip(probe) {
                let template: __m256i = pulp::cast(*template);
                let probe: __m256i = pulp::cast(*probe);
                // The multiplication takes one unsigned side: |t| times (p with the sign of t).
                // Two products are at most 2 * 127 * 127 = 32258, so the 16-bit sums never saturate.
                let pairs = avx2._mm256_maddubs_epi16(
                    avx2._mm256_abs_epi8(template),
                    avx2._mm256_sign_epi8(probe, template),
                );
                sums = avx2._mm256_add_epi32(sums, avx2._mm256_madd_epi16(pairs, ones));
            }
        }
        let [low, high]: [__m128i; 2] = pulp::cast(sums);
        let four: [i32; 4] = pulp::cast(self.sse2._mm_add_epi32(low, high));
        four[0] + four[1] + four[2] + four[3]
    }
}

/// NEON, which every 64-bit Arm has: `smull`, `smlal` and `sadalp` take 16 products, whatever the
/// compiler at hand makes of the loop above (some widen to 16 bits first, four times the work).
#[cfg(target_arch = "aarch64")]
impl Kernel for pulp::aarch64::Neon {
    #[inline(always)]
    fn integer_dot(self, template: &[Line], probe: &[Line]) -> i32 {
        use std::arch::aarch64::{int8x16_t, int32x4_t};
        let neon = self.neon;
        let mut sums: int32x4_t = pulp::cast([0_i32; 4]);
        for (template, probe) in template.iter().zip(probe) {
            let (template, _) = template.0.as_chunks::<16>();
            let (probe, _) = probe.0.as_chunks::<16>();
            for (template, probe) in template.iter().zip(probe) {
                let template: int8x16_t = pulp::cast(*template);
                let probe: int8x16_t = pulp::cast(*probe);
                // Two products are at most 2 * 127 * 127 = 32258: the 16-bit sums never overflow.
                let pairs = neon.vmull_s8(neon.vget_low_s8(template), neon.vget_low_s8(probe));
                let pairs = neon.vmlal_high_s8(pairs, template, probe);
                sums = neon.vpadalq_s16(sums, pairs);
            }
        }
        let four: [i32; 4] = pulp::cast(sums);
        four[0] + four[1] + four[2] + four[3]
    }
}

/// Enters a lower bound among the best `k` of different owners.
fn lead(leaders: &mut Vec<(u32, f32)>, owner: u32, lower: f32, k: usize) {
    match leaders.iter().position(|(o, _)| *o == owner) {
        Some(at) if leaders[at].1 >= lower => return,
        Some(at) => {
            leaders.remove(at);
        }
        None if leaders.len() == k => {
            leaders.pop();
        }
        None => {}
    }
    let at = leaders.partition_point(|(_, l)| *l >= lower);
    leaders.insert(at, (owner, lower));
}

/// Compares the kept templates in f32 and leaves the best one of each subject in `scratch.ranked`,
/// best first.
#[inline(always)]
fn rank(snapshot: &GallerySnapshot, probe: &[f32], k_subjects: usize, scratch: &mut SearchScratch) {
    let ranked = &mut scratch.ranked;
    ranked.clear();
    for (at, _) in &scratch.kept {
        let score = ComparisonScore::new(dot(probe, snapshot.template_values(*at as usize)));
        ranked.push((score, *at, snapshot.owners[*at as usize]));
    }
    let better = |l: &(ComparisonScore, u32, u32), r: &(ComparisonScore, u32, u32)| {
        r.0.get().total_cmp(&l.0.get()).then(l.1.cmp(&r.1))
    };
    ranked.sort_unstable_by(|l, r| l.2.cmp(&r.2).then_with(|| better(l, r)));
    ranked.dedup_by_key(|entry| entry.2);
    ranked.sort_unstable_by(better);
    ranked.truncate(k_subjects);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_give_the_same_exact_sum() {
        let mut state = 1_u32;
        let mut random = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            ((state >> 24) as i32 - 128).max(-127) as i8
        };
        let mut pairs: Vec<[Line; 4]> = vec![
            [Line([127; LINE]); 4],
            [Line([-127; LINE]), Line([127; LINE]), Line([-127; LINE]), Line([127; LINE])],
            [Line([-127; LINE]), Line([0; LINE]), Line([-127; LINE]), Line([-127; LINE])],
        ];
        pairs.extend((0..200).map(|_| std::array::from_fn(|_| Line(std::array::from_fn(|_| random())))));
        for lines in &pairs {
            let (template, probe) = lines.split_at(2);
            let wide = |line: &Line| line.0.map(i64::from);
            let expected: i64 = template
                .iter()
                .zip(probe)
                .map(|(t, p)| wide(t).iter().zip(wide(p)).map(|(t, p)| t * p).sum::<i64>())
                .sum();
            assert_eq!(i64::from(Portable.integer_dot(template, probe)), expected);
            #[cfg(target_arch = "x86_64")]
            if let Some(kernel) = pulp::x86::V3::try_new() {
                assert_eq!(i64::from(kernel.integer_dot(template, probe)), expected);
            }
            #[cfg(target_arch = "aarch64")]
            if let Some(kernel) = pulp::aarch64::Neon::try_new() {
                assert_eq!(i64::from(kernel.integer_dot(template, probe)), expected);
            }
        }
        assert_eq!(pairs.len(), 203);
    }

    #[test]
    fn kernels_give_the_same_candidates() {
        use crate::gallery::{GallerySubject, SnapshotBuilder, SubjectName};
        let space = crate::embedding::EmbeddingSpaceId::new("test/1");
        let face = |seed: usize| {
            let values = (0..128).map(|d| ((seed * 131 + d * 17) as f32).sin()).collect();
            Embedding::normalised(values, space.clone()).unwrap()
        };
        let mut builder = SnapshotBuilder::new(space.clone());
        for at in 0..500 {
            let id = SubjectId::from_bytes(((at / 3) as u128).to_be_bytes());
            builder
                .subject(GallerySubject { id, name: SubjectName::new("x").unwrap(), announced: false })
                .unwrap();
            builder.template(TemplateId(at as i64), id, &face(at)).unwrap();
        }
        let snapshot = builder.finish(None);
        let mut best = SearchScratch::new();
        let mut plain = SearchScratch::new();
        plain.arch = Arch::Scalar;
        for probe in [face(77), face(1000)] {
            assert_eq!(snapshot.search(&probe, 5, &mut best), snapshot.search(&probe, 5, &mut plain));
            assert_eq!(best.kept, plain.kept);
        }
    }
}
