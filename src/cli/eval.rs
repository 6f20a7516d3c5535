//! `limen eval`.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use limen::eval::distance::detection_over_distance;
use limen::eval::{EvalOptions, evaluate};
use limen::install;
use limen::models::ModelSet;

use super::{Answer, Context};

#[derive(Args)]
#[command(after_help = "\
FOLDER holds verification.csv (left,right,same,fold) and identification.csv
(role,subject,image), with pictures named relative to it. Every listed case counts; a picture
without a face is an error.

Examples:
  limen eval ../photographs
  limen eval ../photographs --distance")]
pub(super) struct EvalArguments {
    /// Folder of photographs with protocols
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
    /// Pictures worked on at a time
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=64))]
    threads: u8,
    /// Measure recall over distance instead: photographs shrunk and set into larger textured frames
    #[arg(long)]
    distance: bool,
    /// Folder of other networks, as models.folder in the configuration
    #[arg(long, value_name = "FOLDER")]
    models: Option<PathBuf>,
}

pub(super) fn eval(context: &Context, arguments: &EvalArguments) -> Result<Answer> {
    let models = match &arguments.models {
        Some(folder) => ModelSet::load(folder)?,
        None => context.models()?,
    };
    let runtime = models.runtime(&install::litert_library(&context.config))?;
    let bar = context.output.progress(0, "measuring");
    let progress = |done: usize, all: usize| {
        bar.set_length(all as u64);
        bar.set_position(done as u64);
    };
    if arguments.distance {
        let report =
            detection_over_distance(&arguments.folder, &models, &runtime, &context.config, &progress)?;
        bar.finish_and_clear();
        context.output.result(&report, || report.to_string())?;
        return Ok(Answer::Yes);
    }
    let options = EvalOptions { workers: arguments.threads.into(), ..EvalOptions::default() };
    let report = evaluate(&arguments.folder, &models, &runtime, &context.config, &options, &progress)?;
    bar.finish_and_clear();
    context.output.result(&report, || report.to_string())?;
    Ok(Answer::Yes)
}
