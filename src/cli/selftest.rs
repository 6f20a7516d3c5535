//! `limen selftest`.

use anyhow::Result;
use limen::score::ComparisonScore;
use limen::selftest;

use super::output::Colour;
use super::{Answer, Context};

pub(super) fn selftest(context: &Context) -> Result<Answer> {
    let models = context.models()?;
    let threshold = ComparisonScore::new(models.manifest.embedder.thresholds.verification);
    let mut perception = context.perception(&models)?;
    let report = selftest::run(&mut perception, threshold)?;
    context.output.result(&report, || {
        format!(
            "{}: models verified, LiteRT {} loaded\n  \
             two pictures of one person score {}, two people {}; the threshold is {}\n  \
             one recognition from JPEG to embedding took {:.1} ms",
            context.output.coloured(Colour::Green, "ok"),
            models.manifest.runtime.version,
            report.same_person,
            report.different_people,
            report.threshold,
            report.recognition.as_secs_f64() * 1e3
        )
    })?;
    Ok(Answer::Yes)
}
