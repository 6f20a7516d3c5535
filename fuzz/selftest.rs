//! The self-test, with the real runtime library and the real networks. Built with AddressSanitizer,
//! it watches the unsafe half of `litert` at work; README.md says how.

use limen::config::Config;
use limen::install;
use limen::models::ModelSet;
use limen::recognise::Perception;
use limen::score::ComparisonScore;
use limen::selftest;

fn main() {
    let config = Config::load(None).expect("the configuration is sound");
    let models = ModelSet::load(&install::models_folder(&config)).expect("the models are intact");
    let runtime = models.runtime(&install::litert_library(&config)).expect("the runtime library loads");
    let mut perception = Perception::new(&models, &runtime, &config).expect("the networks compile");
    let threshold = ComparisonScore::new(models.manifest.embedder.thresholds.verification);
    let report = selftest::run(&mut perception, threshold).expect("faces are recognised");
    println!("ok: {} and {}", report.same_person, report.different_people);
}
