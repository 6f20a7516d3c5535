//! The accuracy gate: the shipped networks on photographs that are not part of the project.
//!
//! Needs `LIMEN_EVAL_DATA`, a folder as `limen eval` takes it, and the runtime library, from
//! `LIMEN_LITERT__LIBRARY` or where `make setup` puts it. With `LIMEN_EVAL_F32_MODELS`, the folder
//! of float models that `make models` leaves, the loss by quantisation is checked too.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test; its figures are its output")]

use std::path::{Path, PathBuf};

use limen::config::Config;
use limen::eval::{EvalOptions, EvalReport, evaluate};
use limen::models::ModelSet;

/// The floors stand for this protocol and no other.
const PAIRS: usize = 3_000;
const SUBJECTS: usize = 363;
const MATED: usize = 689;
const NON_MATED: usize = 443;

fn folder(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable).map(PathBuf::from)
}

fn measure(data: &Path, models: &Path, displaced_px: f32) -> EvalReport {
    let models = ModelSet::load(models).unwrap();
    let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join(".setup/lib/libLiteRt.so");
    let runtime = models.runtime(&folder("LIMEN_LITERT__LIBRARY").unwrap_or(installed)).unwrap();
    let options = EvalOptions { displaced_px, ..EvalOptions::default() };
    let report = evaluate(data, &models, &runtime, &Config::default(), &options, &|_, _| ()).unwrap();
    println!("{report}");
    let verification = &report.verification;
    assert_eq!(verification.genuine_pairs + verification.impostor_pairs, PAIRS);
    assert_eq!(verification.accuracy.folds.iter().map(|fold| fold.of).sum::<usize>(), PAIRS);
    let identification = &report.identification;
    assert_eq!(identification.subjects, SUBJECTS);
    assert_eq!(identification.rank_1.of, MATED);
    assert_eq!(identification.shipped.false_positives.of, NON_MATED);
    report
}

fn accuracy(report: &EvalReport) -> f64 {
    report.verification.accuracy.mean_percent
}

fn rank_1(report: &EvalReport) -> f64 {
    report.identification.rank_1.percent()
}

fn fnir(report: &EvalReport) -> f64 {
    report.identification.open_set.unwrap().false_negatives.percent()
}

fn reaches_the_floors(report: &EvalReport) -> bool {
    accuracy(report) >= 99.5 && rank_1(report) >= 99.3 && fnir(report) <= 3.2
}

#[test]
fn shipped_networks_reach_the_floors_and_displaced_points_do_not() {
    let Some(data) = folder("LIMEN_EVAL_DATA") else {
        println!("skipped: LIMEN_EVAL_DATA is not set");
        return;
    };
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
    let report = measure(&data, &shipped, 0.0);
    assert!(reaches_the_floors(&report));

    // The negative control: the same photographs, the crops off by a twelfth of their width.
    assert!(!reaches_the_floors(&measure(&data, &shipped, 9.0)));

    let Some(float) = folder("LIMEN_EVAL_F32_MODELS") else {
        println!("skipped: loss by quantisation, LIMEN_EVAL_F32_MODELS is not set");
        return;
    };
    let float = measure(&data, &float, 0.0);
    assert!(accuracy(&float) - accuracy(&report) <= 0.6);
    assert!(rank_1(&float) - rank_1(&report) <= 0.6);
    assert!(fnir(&report) - fnir(&float) <= 0.6);
}
