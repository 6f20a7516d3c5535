//! `limen enrol`.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use limen::decode::MAX_STILL_BYTES;
use limen::enrol::{DuplicateOf, EnrolmentCandidate, EnrolmentThresholds, UnusableSamples, plan};
use limen::gallery::{Enrolment, EnrolmentTarget, GalleryStore, SampleOrigin, SampleQuality, SubjectName};
use limen::models::Thresholds;
use limen::recognise::Perception;
use limen::sample::{FaceChoice, Sample};
use limen::score::{ComparisonScore, QualityScore};
use serde_json::json;

use super::output::{Colour, Output};
use super::{Answer, Context};

/// Two pictures above this are one picture twice; even two frames of one second differ more.
const DUPLICATE_SCORE: f32 = 0.995;

#[derive(Args)]
#[command(after_help = "\
Examples:
  limen enrol \"Ada Lovelace\" ada-1.jpg ada-2.jpg
  limen enrol \"Ada Lovelace\" pictures/ada/          add every picture of a folder
  limen enrol --skip-unusable Ada holiday/*.jpg     enrol what is usable of many

All or nothing: without --skip-unusable one unusable picture stops the enrolment. A name that is
enrolled already gets further templates. Pictures themselves are not kept.")]
pub(super) struct EnrolArguments {
    /// The subject's name
    name: String,
    /// Pictures (JPEG, PNG, WebP) or folders of them
    #[arg(required = true, value_name = "PICTURE|FOLDER")]
    pictures: Vec<PathBuf>,
    /// Enrol the usable pictures and leave out the others
    #[arg(long)]
    skip_unusable: bool,
    /// Of several faces in a picture take the largest
    #[arg(long)]
    largest_face: bool,
}

pub(super) fn enrol(context: &Context, arguments: &EnrolArguments) -> Result<Answer> {
    let output = &context.output;
    let name = SubjectName::new(&arguments.name)?;
    let files = pictures(&arguments.pictures)?;
    let most = context.config.enrolment.maximum_pictures as usize;
    ensure!(files.len() <= most, "{} pictures were given, enrolment.maximum_pictures is {most}", files.len());
    let models = context.models()?;
    let thresholds = context.thresholds(&models)?;
    let mut perception = context.perception(&models)?;
    let mut store = context.store()?;

    let choice = if arguments.largest_face { FaceChoice::Largest } else { FaceChoice::Only };
    let minimum = QualityScore::new(context.config.enrolment.minimum_quality);
    let (mut candidates, mut refused) = (Vec::new(), Vec::new());
    let progress = output.progress(files.len(), "looking at pictures");
    for (index, file) in files.iter().enumerate() {
        progress.inc(1);
        let sample =
            read_picture(file).and_then(|bytes| Ok(Sample::take(&mut perception, &bytes, choice, minimum)?));
        match sample {
            Ok(sample) => candidates.push(candidate(index, sample)),
            Err(error) => refused.push((file, format!("{error:#}"))),
        }
    }
    progress.finish_and_clear();
    for (file, reason) in &refused {
        output.warning(&format!("{}: {reason}", file.display()));
    }
    if !refused.is_empty() && (candidates.is_empty() || !arguments.skip_unusable) {
        let hint = if candidates.is_empty() { "" } else { "; --skip-unusable enrols the others" };
        bail!("nothing was enrolled: {} of {} pictures cannot be used{hint}", refused.len(), files.len());
    }

    let skip = if arguments.skip_unusable { UnusableSamples::Skip } else { UnusableSamples::RefuseAll };
    let done = carry_out(&mut store, &perception, name, candidates, &thresholds, skip)
        .context("nothing was enrolled")?;
    for (index, reason) in &done.refused {
        output.warning(&format!("{}: {reason}", files[*index].display()));
    }
    for (index, of) in &done.duplicates {
        let what = match of {
            DuplicateOf::Sample(other) => format!("the same face picture as {}", files[*other].display()),
            DuplicateOf::Template(_) => "enrolled already".to_owned(),
        };
        output.note(&format!("{}: left out, {what}", files[*index].display()));
    }
    for (other, score) in &done.looks_like {
        output.warning(&format!("looks like {other}, who is enrolled already (score {score}); one of the two may be mistaken for the other"));
    }
    let looks_like: Vec<_> =
        done.looks_like.iter().map(|(name, score)| json!({ "name": name, "score": score })).collect();
    output.result(
        &json!({
            "subject": done.subject,
            "name": arguments.name.trim(),
            "created": done.created,
            "templates": done.templates,
            "refused": refused.iter().map(|(file, reason)| json!({ "picture": file, "reason": reason }))
                .chain(done.refused.iter().map(|(i, reason)| json!({ "picture": files[*i], "reason": reason })))
                .collect::<Vec<_>>(),
            "duplicates": done.duplicates.len(),
            "looks_like": looks_like,
        }),
        || {
            let what = if done.created { "enrolled" } else { "added to" };
            let plural = if done.templates == 1 { "" } else { "s" };
            output.coloured(Colour::Green, &format!("{what} {}: {} template{plural}", arguments.name.trim(), done.templates))
        },
    )?;
    Ok(Answer::Yes)
}

/// What an enrolment came to.
pub(super) struct Enrolled {
    subject: String,
    created: bool,
    templates: usize,
    refused: Vec<(usize, String)>,
    duplicates: Vec<(usize, DuplicateOf)>,
    looks_like: Vec<(String, ComparisonScore)>,
}

/// Decides about the candidates and enrols the accepted ones in one transaction.
pub(super) fn carry_out(
    store: &mut GalleryStore,
    perception: &Perception,
    name: SubjectName,
    candidates: Vec<EnrolmentCandidate>,
    in_force: &Thresholds,
    unusable: UnusableSamples,
) -> Result<Enrolled> {
    let snapshot = store.load_snapshot(perception.embedding_space())?;
    let known = store.subject_named(&name)?;
    let thresholds = EnrolmentThresholds {
        // Half the way to a match: pictures of one person taken years apart still reach it, those
        // of two people hardly ever do.
        agreement: ComparisonScore::new(in_force.identification / 2.0),
        conflict: ComparisonScore::new(in_force.conflict),
        duplicate: ComparisonScore::new(DUPLICATE_SCORE),
    };
    let subject = known.as_ref().map(|known| known.id);
    let plan = plan(candidates, subject, &snapshot, &thresholds, unusable)?;
    let target = subject.map_or(EnrolmentTarget::New(name), EnrolmentTarget::Existing);
    let receipt = store.enrol(&Enrolment { subject: target, samples: plan.samples })?;
    let name_of = |id| snapshot.subject(id).map_or_else(String::new, |s| s.name.as_str().to_owned());
    Ok(Enrolled {
        subject: receipt.subject.to_string(),
        created: receipt.created,
        templates: receipt.templates.len(),
        refused: plan.refused.iter().map(|sample| (sample.index, sample.reason.to_string())).collect(),
        duplicates: plan.duplicates.iter().map(|sample| (sample.index, sample.of)).collect(),
        looks_like: plan.looks_like.iter().map(|like| (name_of(like.subject), like.score)).collect(),
    })
}

pub(super) fn candidate(index: usize, sample: Sample) -> EnrolmentCandidate {
    let quality = SampleQuality::from(&sample.shape.quality);
    EnrolmentCandidate { index, origin: SampleOrigin::File, quality, embedding: sample.embedding }
}

/// Folders are replaced by the pictures directly inside them, in the order of their names.
fn pictures(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let entries = std::fs::read_dir(path).with_context(|| format!("reading {}", path.display()))?;
        let mut inside = Vec::new();
        for entry in entries {
            let file = entry.with_context(|| format!("reading {}", path.display()))?.path();
            let extension = file.extension().unwrap_or_default().to_ascii_lowercase();
            if file.is_file() && ["jpg", "jpeg", "png", "webp"].iter().any(|known| extension == *known) {
                inside.push(file);
            }
        }
        ensure!(!inside.is_empty(), "{} holds no .jpg, .jpeg, .png or .webp picture", path.display());
        inside.sort();
        files.extend(inside);
    }
    Ok(files)
}

/// Reads a file that may be anything, but not more of it than a picture may have.
pub(super) fn read_picture(path: &Path) -> Result<Vec<u8>> {
    use std::io::Read;
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    ensure!(file.metadata().is_ok_and(|data| data.is_file()), "{} is not a file", path.display());
    file.take(MAX_STILL_BYTES as u64 + 1)
        .read_to_end(&mut bytes)
        .with_context(|| format!("cannot read {}", path.display()))?;
    Ok(bytes)
}

/// Enrols the people of the built-in scene that its demonstration knows.
pub(super) fn enrol_scene(
    store: &mut GalleryStore,
    perception: &mut Perception,
    thresholds: &Thresholds,
    output: &Output,
) -> Result<()> {
    for person in limen::camera::scene::people().iter().filter(|person| person.enrolled) {
        let mut candidates = Vec::new();
        for (index, picture) in person.pictures.iter().enumerate() {
            candidates.push(candidate(
                index,
                Sample::take(perception, picture, FaceChoice::Only, QualityScore::MIN)?,
            ));
        }
        let name = SubjectName::new(person.name)?;
        let done = carry_out(store, perception, name, candidates, thresholds, UnusableSamples::RefuseAll)?;
        output.note(&format!("enrolled {} from {} of the built-in portraits", person.name, done.templates));
    }
    Ok(())
}
