//! `limen enrol`.

use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use clap::Args;
use limen::decode::MAX_STILL_BYTES;
use limen::enrol::{
    self, DuplicateOf, DuplicateSample, Enrolled, EnrolmentCandidate, EnrolmentError, EnrolmentOrder,
    EnrolmentRefused, EnrolmentRules, NamedLikeness, RefusalReason, RefusedSample, UnusableSamples,
};
use limen::gallery::{GalleryStore, SampleOrigin, SamplePicture, SampleQuality, SubjectName};
use limen::recognise::Perception;
use limen::sample::{FaceChoice, Sample, SampleError};
use limen::score::QualityScore;
use serde_json::json;

use super::output::{Colour, Output};
use super::{Answer, Context, Usage};

#[derive(Args)]
#[command(after_help = "\
Examples:
  limen enrol \"Ada Lovelace\" ada-1.jpg ada-2.jpg
  limen enrol \"Ada Lovelace\" pictures/ada/          add every picture of a folder
  limen enrol --skip-unusable Ada holiday/*.jpg     enrol what is usable of many

All or nothing: without --skip-unusable one unusable picture stops the enrolment. A name that is
enrolled already gets further templates. Of each picture the face is kept, encrypted, unless
enrolment.keep_pictures is off.")]
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
    let given = files.len();
    ensure!(
        given <= most,
        Usage(format!("{given} pictures were given, and enrolment.maximum_pictures is {most}"))
    );
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
        let sample = read_picture(file)
            .and_then(|bytes| Sample::take(&mut perception, &bytes, choice, minimum).map_err(in_flags));
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
    let rules = EnrolmentRules::new(&context.config, &thresholds);
    let order = EnrolmentOrder::named(name, candidates, skip);
    let done =
        carry_out(&mut store, &perception, order, &rules).map_err(|error| by_file(error, &files, output))?;
    for sample in &done.refused {
        output.warning(&refusal(sample, &files));
    }
    for DuplicateSample { index, of } in &done.duplicates {
        let what = match of {
            DuplicateOf::Sample(other) => format!("the same face picture as {}", files[*other].display()),
            DuplicateOf::Template(_) => "enrolled already".to_owned(),
        };
        output.note(&format!("{}: left out, {what}", files[*index].display()));
    }
    context.audited("enrol", format!("/api/subjects/{}", done.receipt.subject));
    for NamedLikeness { likeness, name } in &done.looks_like {
        let (other, score) = (name.as_str(), likeness.score);
        output.warning(&format!("looks like {other}, who is enrolled already (score {score}); one of the two may be mistaken for the other"));
    }
    let looks_like: Vec<_> = done
        .looks_like
        .iter()
        .map(|like| json!({ "name": like.name.as_str(), "score": like.likeness.score }))
        .collect();
    output.result(
        &json!({
            "subject": done.receipt.subject,
            "name": arguments.name.trim(),
            "created": done.receipt.created,
            "templates": done.receipt.templates.len(),
            "refused": refused.iter().map(|(file, reason)| json!({ "picture": file, "reason": reason }))
                .chain(done.refused.iter().map(|RefusedSample { index, reason }| {
                    json!({ "picture": files[*index], "reason": reason_by_file(reason, &files) })
                }))
                .collect::<Vec<_>>(),
            "duplicates": done.duplicates.len(),
            "looks_like": looks_like,
        }),
        || {
            let what = if done.receipt.created { "enrolled" } else { "added to" };
            let templates = done.receipt.templates.len();
            let plural = if templates == 1 { "" } else { "s" };
            output.coloured(
                Colour::Green,
                &format!("{what} {}: {templates} template{plural}", arguments.name.trim()),
            )
        },
    )?;
    Ok(Answer::Yes)
}

/// Decides about the candidates and enrols the accepted ones in one transaction.
pub(super) fn carry_out(
    store: &mut GalleryStore,
    perception: &Perception,
    order: EnrolmentOrder,
    rules: &EnrolmentRules,
) -> Result<Enrolled> {
    let snapshot = store.load_snapshot(perception.embedding_space())?;
    enrol::carry_out(store, &snapshot, order, rules).map_err(|error| match error {
        EnrolmentError::Refused(refused) => refused.into(),
        error => error.into(),
    })
}

pub(super) fn candidate(index: usize, sample: Sample) -> EnrolmentCandidate {
    let quality = SampleQuality::from(&sample.shape.quality);
    let picture = SamplePicture::encode(&sample.crop);
    EnrolmentCandidate { index, origin: SampleOrigin::File, quality, embedding: sample.embedding, picture }
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

/// Reads a file that may be anything, but not more of it than a picture may have. The caller says
/// which file it was.
pub(super) fn read_picture(path: &Path) -> Result<Vec<u8>> {
    // Opening a pipe would otherwise wait for somebody who writes to it.
    let flags = rustix::fs::OFlags::NONBLOCK.bits() as i32;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).context("cannot be opened")?;
    let data = file.metadata().context("cannot be examined")?;
    ensure!(data.is_file(), "this is no file but a folder, pipe or device");
    let limit = MAX_STILL_BYTES as u64;
    ensure!(data.len() <= limit, "the file has {} bytes; at most {limit} are accepted", data.len());
    let mut bytes = Vec::new();
    // Bounded again, since a file can grow.
    file.take(limit + 1).read_to_end(&mut bytes).context("cannot be read")?;
    Ok(bytes)
}

/// Why there is no sample, in the words of the command line.
pub(super) fn in_flags(error: SampleError) -> anyhow::Error {
    match error {
        SampleError::SeveralFaces { count } => {
            anyhow!(
                "{count} faces were found; crop the picture to one, or take the largest with --largest-face"
            )
        }
        error => error.into(),
    }
}

/// Why nothing was enrolled, with each refused picture told by its file and not by its number.
fn by_file(error: anyhow::Error, files: &[PathBuf], output: &Output) -> anyhow::Error {
    let (refused, why) = match error.downcast::<EnrolmentRefused>() {
        Ok(EnrolmentRefused::Unusable(refused)) => {
            let hint = if refused.len() < files.len() { "; --skip-unusable enrols the others" } else { "" };
            let why = format!("{} of {} pictures cannot be used{hint}", refused.len(), files.len());
            (refused, why)
        }
        Ok(EnrolmentRefused::Ambiguous(refused)) => {
            (refused, "the pictures show different people, and none of them in most".to_owned())
        }
        Ok(EnrolmentRefused::OnlyDuplicates(_)) => {
            (Vec::new(), "every picture is enrolled already under this name".to_owned())
        }
        Ok(error) => return anyhow::Error::new(error).context("nothing was enrolled"),
        Err(error) => return error.context("nothing was enrolled"),
    };
    for sample in &refused {
        output.warning(&refusal(sample, files));
    }
    anyhow!("nothing was enrolled: {why}")
}

fn refusal(sample: &RefusedSample, files: &[PathBuf]) -> String {
    format!("{}: {}", files[sample.index].display(), reason_by_file(&sample.reason, files))
}

fn reason_by_file(reason: &RefusalReason, files: &[PathBuf]) -> String {
    match reason {
        RefusalReason::DisagreesWithSamples { samples, score } => {
            let others: Vec<_> = samples.iter().map(|index| files[*index].display().to_string()).collect();
            format!("looks like somebody else than {} (score {score})", others.join(", "))
        }
        RefusalReason::DisagreesWithSubject { .. } => reason.to_string(),
    }
}

/// Enrols the people of the built-in scene that its demonstration knows.
pub(super) fn enrol_scene(
    store: &mut GalleryStore,
    perception: &mut Perception,
    rules: &EnrolmentRules,
    output: &Output,
) -> Result<()> {
    let people = limen::camera::scene::people();
    let mut enrolled = 0;
    for person in people.iter().filter(|person| person.enrolled) {
        let mut candidates = Vec::new();
        for (index, picture) in person.pictures.iter().enumerate() {
            candidates.push(candidate(
                index,
                Sample::take(perception, picture, FaceChoice::Only, QualityScore::MIN)?,
            ));
        }
        let name = SubjectName::new(person.name)?;
        let order = EnrolmentOrder::named(name, candidates, UnusableSamples::RefuseAll);
        carry_out(store, perception, order, rules)?;
        enrolled += 1;
    }
    // No names: standard error ends in logs.
    output.note(&format!(
        "{enrolled} of the {} people in the built-in scene are enrolled; the others are to stay unknown",
        people.len()
    ));
    Ok(())
}
