//! `limen identify` and `limen verify`.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use limen::decode::still;
use limen::draw::{Annotation, Tone, annotate};
use limen::frame::RgbImage;
use limen::gallery::{GallerySnapshot, SearchScratch, SubjectName};
use limen::identify::{Decision, IdentificationThresholds, Inconclusive, identify_ranked as decide};
use limen::picture::Picture;
use limen::recognise::{FaceSample, Perception};
use limen::sample::{FaceChoice, Sample};
use limen::score::{ComparisonScore, QualityScore};
use serde_json::{Value, json};

use super::enrol::{in_flags, read_picture};
use super::output::Colour;
use super::{Answer, Context, Usage};

#[derive(Args)]
#[command(after_help = "\
Examples:
  limen identify door.jpg
  limen identify --draw marked.png group.jpg
  limen identify --json *.jpg | jq -r '.faces[].name'")]
pub(super) struct IdentifyArguments {
    /// Pictures (JPEG, PNG, WebP)
    #[arg(required = true, value_name = "PICTURE")]
    pictures: Vec<PathBuf>,
    /// Write the picture with boxes, landmarks, names and reasons to this PNG
    #[arg(long, value_name = "FILE.png")]
    draw: Option<PathBuf>,
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  limen verify passport.jpg door.jpg
  limen verify --subject \"Ada Lovelace\" door.jpg")]
pub(super) struct VerifyArguments {
    /// Two pictures, or one with --subject
    #[arg(required = true, num_args = 1..=2, value_name = "PICTURE")]
    pictures: Vec<PathBuf>,
    /// Compare with this enrolled subject
    #[arg(long, value_name = "NAME")]
    subject: Option<String>,
    /// Of several faces in a picture take the largest
    #[arg(long)]
    largest_face: bool,
}

pub(super) fn identify(context: &Context, arguments: &IdentifyArguments) -> Result<Answer> {
    let given = arguments.pictures.len();
    let drawable = arguments.draw.is_none() || given == 1;
    ensure!(drawable, Usage(format!("--draw takes one picture, {given} were given")));
    let models = context.models()?;
    let in_force = context.thresholds(&models)?;
    let thresholds = IdentificationThresholds::from(&in_force);
    let mut perception = context.perception(&models)?;
    drop(models);
    let gallery = context.store()?.load_snapshot(perception.embedding_space())?;
    let mut scratch = SearchScratch::new();
    let mut answer = Answer::No;
    for path in &arguments.pictures {
        let image = read_picture(path)
            .and_then(|bytes| Ok(still(&bytes)?))
            .with_context(|| format!("{}", path.display()))?;
        let faces = faces(&mut perception, &image, &gallery, &thresholds, &mut scratch)?;
        if faces.iter().any(|face| matches!(face.decision, Decision::Match { .. })) {
            answer = Answer::Yes;
        }
        print(context, path, &faces, &gallery)?;
        if let Some(target) = &arguments.draw {
            draw(image, &faces, &gallery, target)?;
            context.output.note(&format!("drawn to {}", target.display()));
        }
    }
    Ok(answer)
}

struct Face {
    sample: FaceSample,
    decision: Decision,
}

fn faces(
    perception: &mut Perception,
    image: &RgbImage,
    gallery: &GallerySnapshot,
    thresholds: &IdentificationThresholds,
    scratch: &mut SearchScratch,
) -> Result<Vec<Face>> {
    let mut faces = Vec::new();
    for sample in perception.examine_all(&Picture::from(image))? {
        let decision = match (&sample.verdict, &sample.shape) {
            (Ok(()), Some(shape)) => {
                let embedding = perception.embed(&shape.aligned)?;
                decide(&gallery.rank(&embedding, 2, scratch)?, thresholds)
            }
            (Err(reason), _) => Decision::Inconclusive(Inconclusive::Sample(*reason)),
            (Ok(()), None) => unreachable!("a usable sample has a shape"),
        };
        faces.push(Face { sample, decision });
    }
    // As one reads a picture.
    faces.sort_by(|left, right| left.sample.detection.bbox.left.total_cmp(&right.sample.detection.bbox.left));
    Ok(faces)
}

impl Face {
    fn name<'g>(&self, gallery: &'g GallerySnapshot) -> Option<&'g str> {
        match &self.decision {
            Decision::Match { candidate, .. } => gallery.subject(candidate.subject).map(|s| s.name.as_str()),
            _ => None,
        }
    }

    fn why(&self) -> String {
        match &self.decision {
            Decision::Match { candidate, margin: Some(margin) } => {
                format!("score {}, lead {margin:.2}", candidate.score)
            }
            Decision::Match { candidate, margin: None } => format!("score {}", candidate.score),
            Decision::NoMatch { ruled_out: Some(_), .. } => "said to be somebody else".to_owned(),
            Decision::NoMatch { best: Some(best), .. } => {
                format!("best score {}, below the threshold", best.score)
            }
            Decision::NoMatch { best: None, .. } => "nobody is enrolled".to_owned(),
            Decision::Inconclusive(reason) => reason.to_string(),
        }
    }

    fn json(&self, gallery: &GallerySnapshot) -> Value {
        let (kind, score) = match &self.decision {
            Decision::Match { candidate, .. } => ("match", Some(candidate.score)),
            Decision::NoMatch { best, .. } => ("no_match", best.map(|best| best.score)),
            Decision::Inconclusive(_) => ("inconclusive", None),
        };
        let (margin, reason) = match &self.decision {
            Decision::Match { margin, .. } => (*margin, None),
            Decision::Inconclusive(reason) => (None, Some(reason)),
            Decision::NoMatch { .. } => (None, None),
        };
        json!({
            "decision": kind,
            "name": self.name(gallery),
            "score": score,
            "margin": margin,
            "why": reason,
            "box": self.sample.detection.bbox,
            "detection_score": self.sample.detection.score,
            "quality": self.sample.shape.as_ref().map(|shape| shape.quality),
        })
    }
}

fn print(context: &Context, path: &Path, faces: &[Face], gallery: &GallerySnapshot) -> Result<()> {
    let output = &context.output;
    let value = json!({
        "picture": path,
        "faces": faces.iter().map(|face| face.json(gallery)).collect::<Vec<_>>(),
    });
    output.result(&value, || {
        let mut lines = Vec::new();
        for face in faces {
            let bbox = &face.sample.detection.bbox;
            let (what, colour) = match (&face.decision, face.name(gallery)) {
                (Decision::Match { .. }, name) => (name.unwrap_or("a subject").to_owned(), Colour::Green),
                (Decision::NoMatch { .. }, _) => ("unknown".to_owned(), Colour::Yellow),
                (Decision::Inconclusive(_), _) => ("not recognised".to_owned(), Colour::Grey),
            };
            lines.push(format!(
                "{}: {} ({}) at {:.0},{:.0} {:.0}x{:.0}",
                path.display(),
                output.coloured(colour, &what),
                face.why(),
                bbox.left,
                bbox.top,
                bbox.width(),
                bbox.height()
            ));
        }
        if lines.is_empty() {
            lines.push(format!("{}: no face", path.display()));
        }
        lines.join("\n")
    })
}

fn draw(mut image: RgbImage, faces: &[Face], gallery: &GallerySnapshot, target: &Path) -> Result<()> {
    let annotations: Vec<_> = faces
        .iter()
        .map(|face| {
            let (title, tone) = match &face.decision {
                Decision::Match { .. } => (face.name(gallery).unwrap_or("a subject").to_owned(), Tone::Match),
                Decision::NoMatch { .. } => ("unknown".to_owned(), Tone::NoMatch),
                Decision::Inconclusive(_) => ("not recognised".to_owned(), Tone::Inconclusive),
            };
            let shape = face.sample.shape.as_ref();
            let points = shape.map(|shape| shape.landmarks.points().collect()).unwrap_or_default();
            Annotation { bbox: face.sample.detection.bbox, points, title, detail: face.why(), tone }
        })
        .collect();
    annotate(&mut image, &annotations);
    write_png(&image, target)
}

/// Writes a PNG so that no reader ever sees half of it.
pub(super) fn write_png(image: &RgbImage, target: &Path) -> Result<()> {
    let folder = match target.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let cannot = || format!("cannot write {}", target.display());
    // As any other file the operator asks for: the umask decides who may read it.
    let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o666);
    let mut file =
        tempfile::Builder::new().permissions(permissions).tempfile_in(folder).with_context(cannot)?;
    let encoder = image::codecs::png::PngEncoder::new(std::io::BufWriter::new(&mut file));
    let (width, height) = (image.width(), image.height());
    image::ImageEncoder::write_image(encoder, image.pixels(), width, height, image::ExtendedColorType::Rgb8)
        .with_context(cannot)?;
    file.persist(target).with_context(cannot)?;
    Ok(())
}

/// What a picture is compared with.
enum Reference<'a> {
    Picture(&'a Path),
    Subject(SubjectName),
}

pub(super) fn verify(context: &Context, arguments: &VerifyArguments) -> Result<Answer> {
    let (probe, reference) = match (arguments.pictures.as_slice(), &arguments.subject) {
        ([left, right], None) => (left, Reference::Picture(right)),
        ([picture], Some(name)) => (picture, Reference::Subject(SubjectName::new(name)?)),
        ([_], None) => return Err(Usage::error("one picture was given; give two, or --subject NAME")),
        _ => return Err(Usage::error("--subject takes one picture, two were given")),
    };
    let models = context.models()?;
    let threshold = ComparisonScore::new(context.thresholds(&models)?.verification);
    let mut perception = context.perception(&models)?;
    drop(models);
    let choice = if arguments.largest_face { FaceChoice::Largest } else { FaceChoice::Only };
    let mut take = |path: &Path| -> Result<Sample> {
        read_picture(path)
            .and_then(|bytes| {
                Sample::take(&mut perception, &bytes, choice, QualityScore::MIN).map_err(in_flags)
            })
            .with_context(|| format!("{}", path.display()))
    };
    let sample = take(probe)?;
    let (score, against) = match reference {
        Reference::Picture(path) => {
            (sample.embedding.compare(&take(path)?.embedding)?, path.display().to_string())
        }
        Reference::Subject(name) => {
            let store = context.store()?;
            let Some(subject) = store.subject_named(&name)? else {
                bail!("nobody is enrolled as {}; `limen subjects list` shows who is", name.as_str());
            };
            let gallery = store.load_snapshot(sample.embedding.space())?;
            let Some(score) = gallery.compare_with(subject.id, &sample.embedding)? else {
                bail!("{} has no template of the present embedding space; enrol again", name.as_str());
            };
            (score, subject.name.as_str().to_owned())
        }
    };
    let same = score >= threshold;
    context.output.result(
        &json!({ "match": same, "score": score, "threshold": threshold, "against": against }),
        || {
            let (word, colour, sign) = if same {
                ("match", Colour::Green, "reaches")
            } else {
                ("no match", Colour::Yellow, "is below")
            };
            format!(
                "{}: score {score} {sign} the threshold {threshold}",
                context.output.coloured(colour, word)
            )
        },
    )?;
    Ok(if same { Answer::Yes } else { Answer::No })
}
