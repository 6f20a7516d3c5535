//! Error rates from comparison scores. Pure.
//!
//! A comparison that could not be made, because no face was found in an image, is `None`: it counts
//! in every denominator, never matches, and is an error wherever there is a right answer. Rates and
//! their names follow ISO/IEC 19795-1.

use serde::Serialize;

/// Cases of one kind among all cases.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Share {
    /// Cases of the kind.
    pub cases: usize,
    /// All cases.
    pub of: usize,
}

impl Share {
    /// Counts the cases for which `is` holds.
    pub fn count<T>(all: &[T], is: impl Fn(&T) -> bool) -> Self {
        Self { cases: all.iter().filter(|case| is(case)).count(), of: all.len() }
    }

    /// In percent; 0 of nothing is 0.
    pub fn percent(self) -> f64 {
        self.cases as f64 * 100.0 / self.of.max(1) as f64
    }
}

impl std::fmt::Display for Share {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.2} % ({} of {})", self.percent(), self.cases, self.of)
    }
}

/// Outcome of one comparison of a listed pair.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scored {
    /// `None` where no comparison could be made.
    pub score: Option<f32>,
    /// One person or two.
    pub same: bool,
    /// Part of the list.
    pub fold: u8,
}

impl Scored {
    fn right_at(&self, threshold: f32) -> bool {
        self.score.is_some_and(|score| (score >= threshold) == self.same)
    }
}

/// Accuracy over folds: each is decided with the threshold that suits the others best.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FoldAccuracy {
    /// Right decisions of each fold.
    pub folds: Vec<Share>,
    /// Mean of the folds, percent.
    pub mean_percent: f64,
    /// Standard deviation of the folds, percent.
    pub deviation_percent: f64,
    /// Mean of the folds' thresholds.
    pub threshold: f32,
}

/// Accuracy of the listed pairs, fold by fold.
pub fn fold_accuracy(pairs: &[Scored]) -> FoldAccuracy {
    let mut numbers: Vec<_> = pairs.iter().map(|pair| pair.fold).collect();
    numbers.sort_unstable();
    numbers.dedup();
    let (mut folds, mut thresholds) = (Vec::new(), Vec::new());
    for fold in numbers {
        let (tested, others): (Vec<Scored>, Vec<_>) = pairs.iter().partition(|pair| pair.fold == fold);
        let threshold = best_threshold(&others);
        folds.push(Share::count(&tested, |pair| pair.right_at(threshold)));
        thresholds.push(threshold);
    }
    let count = folds.len().max(1) as f64;
    let mean_percent = folds.iter().map(|fold| fold.percent()).sum::<f64>() / count;
    let variance = folds.iter().map(|fold| (fold.percent() - mean_percent).powi(2)).sum::<f64>() / count;
    FoldAccuracy {
        mean_percent,
        deviation_percent: variance.sqrt(),
        threshold: (thresholds.iter().map(|t| f64::from(*t)).sum::<f64>() / count) as f32,
        folds,
    }
}

/// The score at which deciding "one person" makes the fewest errors; the middle one of equally good
/// scores.
fn best_threshold(pairs: &[Scored]) -> f32 {
    let mut scores: Vec<(f32, bool)> = pairs.iter().filter_map(|p| Some((p.score?, p.same))).collect();
    scores.sort_unstable_by(|left, right| right.0.total_cmp(&left.0));
    // Going down from the best score, each genuine pair passed is gained, each impostor lost.
    let (mut balance, mut best) = (0i64, i64::MIN);
    let mut equally_good: Vec<f32> = Vec::new();
    for (at, (score, same)) in scores.iter().enumerate() {
        balance += if *same { 1 } else { -1 };
        if scores.get(at + 1).is_some_and(|next| next.0 == *score) {
            continue;
        }
        if balance > best {
            best = balance;
            equally_good.clear();
        }
        if balance == best {
            equally_good.push(*score);
        }
    }
    equally_good.get(equally_good.len() / 2).copied().unwrap_or(1.0)
}

/// The least threshold at which no more than the share `rate` of `wrong` reaches it. `None` for no
/// cases. Scores of failed comparisons reach nothing.
pub fn threshold_at(wrong: &[Option<f32>], rate: f64) -> Option<f32> {
    let allowed = (wrong.len() as f64 * rate).floor() as usize;
    let mut scores: Vec<_> = wrong.iter().flatten().copied().collect();
    if wrong.is_empty() {
        return None;
    }
    if allowed >= scores.len() {
        return Some(-1.0);
    }
    let (_, first_refused, _) = scores.select_nth_unstable_by(allowed, |l, r| r.total_cmp(l));
    Some(first_refused.next_up())
}

/// True match rate where the false match rate is held.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct OperatingPoint {
    /// The false match rate asked for.
    pub fmr: f64,
    /// The least threshold that keeps it.
    pub threshold: f32,
    /// Impostor comparisons that match at it.
    pub false_matches: Share,
    /// Genuine comparisons that match at it.
    pub true_matches: Share,
}

/// Genuine comparisons that match at the threshold which keeps the false match rate. `None` when
/// there are no impostor comparisons.
pub fn operating_point(
    genuine: &[Option<f32>],
    impostor: &[Option<f32>],
    fmr: f64,
) -> Option<OperatingPoint> {
    let threshold = threshold_at(impostor, fmr)?;
    let matches = |score: &Option<f32>| score.is_some_and(|score| score >= threshold);
    Some(OperatingPoint {
        fmr,
        threshold,
        false_matches: Share::count(impostor, matches),
        true_matches: Share::count(genuine, matches),
    })
}

/// Where false match rate and false non-match rate meet.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct EqualErrorRate {
    /// Mean of the two rates at the threshold where they are closest, percent.
    pub percent: f64,
    /// That threshold.
    pub threshold: f32,
}

/// The equal error rate. `None` when either kind is missing or nothing was compared.
pub fn equal_error_rate(genuine: &[Option<f32>], impostor: &[Option<f32>]) -> Option<EqualErrorRate> {
    if genuine.is_empty() || impostor.is_empty() {
        return None;
    }
    let kind = |scores: &[Option<f32>], same: bool| -> Vec<(f32, bool)> {
        scores.iter().flatten().map(|score| (*score, same)).collect()
    };
    let mut scores = kind(genuine, true);
    scores.extend(kind(impostor, false));
    scores.sort_unstable_by(|left, right| right.0.total_cmp(&left.0));
    let (mut matched, mut falsely) = (0usize, 0usize);
    let mut closest: Option<(f64, EqualErrorRate)> = None;
    for (at, (threshold, same)) in scores.iter().enumerate() {
        *(if *same { &mut matched } else { &mut falsely }) += 1;
        if scores.get(at + 1).is_some_and(|next| next.0 == *threshold) {
            continue;
        }
        let false_matches = falsely as f64 / impostor.len() as f64;
        let false_non_matches = 1.0 - matched as f64 / genuine.len() as f64;
        let apart = (false_matches - false_non_matches).abs();
        if closest.is_none_or(|(least, _)| apart < least) {
            let percent = (false_matches + false_non_matches) * 50.0;
            closest = Some((apart, EqualErrorRate { percent, threshold: *threshold }));
        }
    }
    closest.map(|(_, rate)| rate)
}

/// The best candidate of one search for somebody who is enrolled.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MatedSearch {
    /// Whether it is the right subject.
    pub right: bool,
    /// Its score; `None` for a probe without a face and for an empty gallery.
    pub score: Option<f32>,
}

/// Open-set identification where the false positive identification rate is held.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct OpenSetPoint {
    /// The false positive identification rate asked for.
    pub fpir: f64,
    /// The least threshold that keeps it.
    pub threshold: f32,
    /// Non-mated probes with a candidate at or above it.
    pub false_positives: Share,
    /// Mated probes whose own subject is not the best candidate at or above it.
    pub false_negatives: Share,
}

/// FNIR at a given FPIR. `None` when there are no non-mated probes.
pub fn open_set(mated: &[MatedSearch], non_mated: &[Option<f32>], fpir: f64) -> Option<OpenSetPoint> {
    let threshold = threshold_at(non_mated, fpir)?;
    let reaches = |score: Option<f32>| score.is_some_and(|score| score >= threshold);
    Some(OpenSetPoint {
        fpir,
        threshold,
        false_positives: Share::count(non_mated, |best| reaches(*best)),
        false_negatives: Share::count(mated, |search| !(search.right && reaches(search.score))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(score: impl Into<Option<f32>>, same: bool, fold: u8) -> Scored {
        Scored { score: score.into(), same, fold }
    }

    #[test]
    fn separable_folds_are_decided_without_error() {
        let pairs: Vec<_> =
            [0, 1].into_iter().flat_map(|f| [pair(0.8, true, f), pair(0.1, false, f)]).collect();
        let accuracy = fold_accuracy(&pairs);
        assert_eq!(accuracy.folds, [Share { cases: 2, of: 2 }; 2]);
        assert_eq!((accuracy.mean_percent, accuracy.deviation_percent), (100.0, 0.0));
        assert_eq!(accuracy.threshold, 0.8);
    }

    #[test]
    fn threshold_of_a_fold_comes_from_the_others() {
        // Fold 1 would want 0.3; fold 0 sets 0.8, at which fold 1's genuine pair is refused.
        let pairs = [pair(0.8, true, 0), pair(0.4, false, 0), pair(0.3, true, 1), pair(0.1, false, 1)];
        let accuracy = fold_accuracy(&pairs);
        assert_eq!(accuracy.folds, [Share { cases: 1, of: 2 }, Share { cases: 1, of: 2 }]);
        assert_eq!(accuracy.mean_percent, 50.0);
    }

    #[test]
    fn failed_comparison_is_an_error_of_either_kind() {
        let mut pairs: Vec<_> =
            [0, 1].into_iter().flat_map(|f| [pair(0.8, true, f), pair(0.1, false, f)]).collect();
        pairs.extend([pair(None, true, 0), pair(None, false, 1)]);
        assert_eq!(fold_accuracy(&pairs).folds, [Share { cases: 2, of: 3 }; 2]);
    }

    #[test]
    fn nothing_but_failures_is_no_accuracy_at_all() {
        let pairs = [pair(None, true, 0), pair(None, false, 0), pair(None, true, 1)];
        assert_eq!(fold_accuracy(&pairs).mean_percent, 0.0);
    }

    #[test]
    fn pairs_of_equal_score_fall_on_one_side_together() {
        let train = [pair(0.5, true, 0), pair(0.5, false, 0), pair(0.5, false, 0), pair(0.9, true, 0)];
        assert_eq!(best_threshold(&train), 0.9);
    }

    #[test]
    fn threshold_keeps_the_rate_even_when_scores_tie() {
        let scores = [0.9, 0.5, 0.5, 0.5, 0.1].map(Some);
        // Two of five are allowed, but three share the second place: only one passes.
        let threshold = threshold_at(&scores, 0.4).unwrap();
        assert_eq!(threshold, 0.5f32.next_up());
        assert_eq!(threshold_at(&scores, 0.0), Some(0.9f32.next_up()));
        assert_eq!(threshold_at(&scores, 1.0), Some(-1.0));
        assert_eq!(threshold_at(&[], 0.1), None);
        assert_eq!(threshold_at(&[None, None], 0.0), Some(-1.0));
    }

    #[test]
    fn failed_comparisons_stay_in_the_denominators() {
        let impostor = [Some(0.6), Some(0.2), None, None];
        let genuine = [Some(0.7), Some(0.3), None];
        let point = operating_point(&genuine, &impostor, 0.25).unwrap();
        assert_eq!(point.false_matches, Share { cases: 1, of: 4 });
        assert_eq!(point.threshold, 0.2f32.next_up());
        assert_eq!(point.true_matches, Share { cases: 2, of: 3 });
    }

    #[test]
    fn equal_error_rate_of_one_swap_in_four_is_a_quarter() {
        let genuine = [0.9, 0.8, 0.7, 0.2].map(Some);
        let impostor = [0.75, 0.15, 0.1, 0.05].map(Some);
        let rate = equal_error_rate(&genuine, &impostor).unwrap();
        assert_eq!((rate.percent, rate.threshold), (25.0, 0.7));
        assert_eq!(equal_error_rate(&genuine, &[]), None);
        assert_eq!(equal_error_rate(&[None], &[None]), None);
    }

    #[test]
    fn open_set_counts_wrong_low_and_missing_searches_as_misses() {
        let search = |right, score: Option<f32>| MatedSearch { right, score };
        let mated =
            [search(true, Some(0.9)), search(false, Some(0.9)), search(true, Some(0.3)), search(false, None)];
        let point = open_set(&mated, &[Some(0.5), Some(0.3), None, Some(0.1)], 0.25).unwrap();
        assert_eq!(point.threshold, 0.3f32.next_up());
        assert_eq!(point.false_positives, Share { cases: 1, of: 4 });
        assert_eq!(point.false_negatives, Share { cases: 3, of: 4 });
    }
}
