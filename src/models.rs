//! The shipped networks: `models/manifest.toml` and the files it lists.
//!
//! Every file is read once, its sha256 compared with the manifest, and the networks are built from
//! those very bytes. All numbers that belong to a model (anchors, thresholds, alignment template)
//! are data of the manifest, not code.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::embedding::EmbeddingSpaceId;
use crate::litert::{
    ElementType, Interpreter, LitertError, PinnedLibrary, Quantisation, Runtime, TensorInfo, hex,
};

/// File name of the manifest inside the models folder.
pub const MANIFEST: &str = "manifest.toml";
const MAX_MANIFEST_BYTES: u64 = 256 << 10;
const MAX_MODEL_BYTES: u64 = 64 << 20;

/// Why the models cannot be used.
#[derive(Debug, Error)]
pub enum ModelError {
    /// A file could not be read.
    #[error("cannot read {path}: {reason}")]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// The system's own words.
        reason: String,
    },
    /// The manifest is not what it should be.
    #[error("{path}: {reason}")]
    Manifest {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A model file is not the one the manifest describes.
    #[error(
        "{path} has {found_bytes} bytes with sha256 {found}, but the manifest says {expected_bytes} bytes with \
         sha256 {expected}; put back the file that came with this manifest"
    )]
    WrongHash {
        /// Which file.
        path: PathBuf,
        /// Size of the file.
        found_bytes: u64,
        /// Its sha256.
        found: Box<str>,
        /// Size in the manifest.
        expected_bytes: u64,
        /// sha256 in the manifest.
        expected: Box<str>,
    },
    /// The runtime refused a model, or the model is not what the manifest says.
    #[error(transparent)]
    Litert(#[from] LitertError),
}

/// `models/manifest.toml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Version of the manifest's own layout; 1.
    pub format: u32,
    /// The runtime the models were verified with.
    pub runtime: RuntimePin,
    /// BlazeFace.
    pub detector: DetectorSpec,
    /// Face mesh.
    pub landmarks: LandmarksSpec,
    /// MobileFaceNet.
    pub embedder: EmbedderSpec,
}

/// The pinned runtime library, one build for each architecture.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuntimePin {
    /// "LiteRT".
    pub name: String,
    /// Its version.
    pub version: String,
    /// Builds.
    pub library: Vec<PinnedLibrary>,
}

/// Where weights come from.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the manifest documents these")]
pub struct Source {
    pub package: String,
    pub version: String,
    pub registry: String,
    pub package_sha256: String,
    pub path: String,
    pub sha256: String,
}

/// One input or output tensor as the manifest states it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TensorSpec {
    /// Name inside the file.
    #[serde(default)]
    pub name: String,
    /// What an output means, for example `boxes`; empty for inputs.
    #[serde(default)]
    pub role: String,
    /// Element type.
    #[serde(rename = "type")]
    pub element_type: ElementType,
    /// Dimensions, batch first.
    pub shape: Vec<i32>,
    /// Quantisation step; with `zero_point`, for quantised tensors.
    pub scale: Option<f32>,
    /// The stored value that means zero.
    pub zero_point: Option<i32>,
    /// Order of the channels, for inputs.
    #[serde(default)]
    pub colour: String,
    /// For float inputs: the real number is `level_scale * level + level_offset`. Quantised inputs
    /// always store `level - 128`.
    pub level_scale: Option<f32>,
    /// See `level_scale`.
    pub level_offset: Option<f32>,
    /// How pixel levels become real numbers, for inputs; documentation.
    #[serde(default)]
    pub range: String,
}

impl TensorSpec {
    fn info(&self) -> TensorInfo {
        let quantisation =
            self.scale.zip(self.zero_point).map(|(scale, zero_point)| Quantisation { scale, zero_point });
        TensorInfo {
            name: self.name.clone(),
            element_type: self.element_type,
            shape: self.shape.clone(),
            quantisation,
        }
    }
}

/// How pixel levels, 0 to 255, are written into an input tensor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum PixelInput {
    /// Signed bytes, `level - 128`.
    Signed,
    /// Single-precision numbers, `scale * level + offset`.
    Real { scale: f32, offset: f32 },
}

impl PixelInput {
    fn of(spec: &TensorSpec) -> Result<Self, String> {
        match (spec.element_type, spec.level_scale, spec.level_offset) {
            (ElementType::Int8, None, None) => Ok(Self::Signed),
            (ElementType::Float32, Some(scale), Some(offset)) if scale.is_finite() && offset.is_finite() => {
                Ok(Self::Real { scale, offset })
            }
            _ => Err("a float32 input needs level_scale and level_offset, an int8 input has neither".into()),
        }
    }

    /// Fills `tensor`, which has one element for each level.
    pub(crate) fn fill(self, levels: &[u8], tensor: &mut [u8]) {
        match self {
            Self::Signed => {
                for (signed, level) in tensor.iter_mut().zip(levels) {
                    *signed = level ^ 0x80;
                }
            }
            Self::Real { scale, offset } => {
                for (real, level) in tensor.as_chunks_mut::<4>().0.iter_mut().zip(levels) {
                    *real = (scale * f32::from(*level) + offset).to_ne_bytes();
                }
            }
        }
    }
}

macro_rules! model_spec {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct $name {
            /// What to call the network in messages.
            pub name: String,
            /// File name inside the models folder.
            pub file: String,
            /// Lower-case hexadecimal.
            pub sha256: String,
            /// Size of the file.
            pub bytes: u64,
            /// Licence of the weights.
            pub licence: String,
            /// Who trained them.
            pub publisher: String,
            /// Its model card, inside the models folder.
            pub card: String,
            /// The package the weights come from.
            pub source: Source,
            /// The one input.
            pub input: TensorSpec,
            /// The outputs, in the file's order.
            pub output: Vec<TensorSpec>,
            $($(#[$field_doc])* pub $field: $type,)*
        }

        impl $name {
            /// Side of the square input, pixels.
            pub fn input_side(&self) -> u32 {
                self.input.shape[1].unsigned_abs()
            }

            pub(crate) fn pixel_input(&self) -> PixelInput {
                PixelInput::of(&self.input).expect("the manifest was checked")
            }

            /// Position of the output with the given role, which the manifest's check has found.
            pub(crate) fn output_index(&self, role: &str) -> usize {
                output(&self.output, role).expect("the manifest was checked").0
            }

            fn model_file(&self) -> ModelFile<'_> {
                let Self { name, file, sha256, bytes, input, output, .. } = self;
                ModelFile { name, file, sha256, bytes: *bytes, input, output }
            }
        }
    };
}

model_spec! {
    /// The face detector.
    DetectorSpec {
        /// Where its boxes are measured from.
        anchors: Anchors,
        /// How its raw numbers become detections.
        decode: DetectionDecode,
    }
}

model_spec! {
    /// The landmark network.
    LandmarksSpec {
        /// Which part of the picture it looks at.
        region: LandmarkRegion,
        /// Below this probability the region is not taken for a face.
        minimum_presence: f32,
    }
}

model_spec! {
    /// The embedding network.
    EmbedderSpec {
        /// Identifier of its embedding space; changes whenever weights or preprocessing do.
        embedding_space: EmbeddingSpaceId,
        /// Values in an embedding.
        dimensions: usize,
        /// How faces are brought into position.
        alignment: Alignment,
        /// Decision thresholds, with how they were set written beside them in the manifest.
        thresholds: Thresholds,
    }
}

/// SSD anchors with a fixed size of one: `per_cell` of them at the centre of each cell, for each
/// stride in turn.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Anchors {
    /// Input pixels a cell.
    pub strides: Vec<u32>,
    /// Anchors a cell, for each stride.
    pub per_cell: Vec<u32>,
}

/// Decoding of raw detector outputs.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DetectionDecode {
    /// Raw scores are clipped to plus and minus this before the sigmoid.
    pub score_clip: f32,
    /// Least detection score.
    pub minimum_score: f32,
    /// Boxes that overlap more than this are one face.
    pub nms_iou: f32,
    /// Share of the input square that a still picture fills at the second try, when nobody was found
    /// at the first: a face that fills the whole picture is larger than what the network was made
    /// for.
    pub retry_fill: f32,
}

/// The square the landmark network looks at.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LandmarkRegion {
    /// Side of the square in longer box sides.
    pub scale: f32,
}

/// Where the five points go in the aligned crop.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Alignment {
    /// x and y of: eye on the image's left, eye on its right, nose tip, mouth corner on the left,
    /// mouth corner on the right; crop pixels.
    pub template: [[f32; 2]; 5],
}

/// Comparison-score thresholds of the embedder.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Thresholds {
    /// 1:N, open set: the best candidate must reach this.
    pub identification: f32,
    /// 1:1.
    pub verification: f32,
    /// The best subject must lead the second by this.
    pub margin: f32,
    /// At enrolment, another subject this close is worth a warning.
    pub conflict: f32,
}

struct ModelFile<'a> {
    name: &'a str,
    file: &'a str,
    sha256: &'a str,
    bytes: u64,
    input: &'a TensorSpec,
    output: &'a [TensorSpec],
}

impl Manifest {
    /// Reads the text of a manifest and checks it as a whole. `path` is for messages.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ModelError> {
        let wrong = |reason: String| ModelError::Manifest { path: path.into(), reason };
        let manifest: Self = toml::from_str(text).map_err(|error| wrong(error.to_string()))?;
        manifest.check().map_err(wrong)?;
        Ok(manifest)
    }

    fn check(&self) -> Result<(), String> {
        if self.format != 1 {
            return Err(format!("format {} is not known; this program reads format 1", self.format));
        }
        for model in self.files() {
            model.check()?;
        }
        self.check_detector()?;
        self.check_outputs()?;
        let region = self.landmarks.region.scale;
        in_range("landmarks.region.scale", region, 1.0, 4.0)?;
        in_range("landmarks.minimum_presence", self.landmarks.minimum_presence, 0.0, 1.0)?;
        let thresholds = &self.embedder.thresholds;
        in_range("embedder.thresholds.identification", thresholds.identification, -1.0, 1.0)?;
        in_range("embedder.thresholds.verification", thresholds.verification, -1.0, 1.0)?;
        in_range("embedder.thresholds.margin", thresholds.margin, 0.0, 1.0)?;
        in_range("embedder.thresholds.conflict", thresholds.conflict, -1.0, 1.0)?;
        let side = self.embedder.input_side() as f32;
        for coordinate in self.embedder.alignment.template.as_flattened() {
            in_range("embedder.alignment.template", *coordinate, 0.0, side)?;
        }
        let [eye_image_left, eye_image_right, ..] = self.embedder.alignment.template;
        if eye_image_left[0] >= eye_image_right[0] {
            return Err("embedder.alignment.template: the eye on the image's left comes first".into());
        }
        Ok(())
    }

    fn check_detector(&self) -> Result<(), String> {
        let decode = &self.detector.decode;
        in_range("detector.decode.score_clip", decode.score_clip, 1.0, 1_000.0)?;
        in_range("detector.decode.minimum_score", decode.minimum_score, 0.01, 0.99)?;
        in_range("detector.decode.nms_iou", decode.nms_iou, 0.01, 0.99)?;
        in_range("detector.decode.retry_fill", decode.retry_fill, 0.1, 1.0)?;
        let Anchors { strides, per_cell } = &self.detector.anchors;
        if strides.is_empty() || strides.len() > 8 || strides.len() != per_cell.len() {
            return Err("detector.anchors needs one to eight strides and as many per_cell".into());
        }
        if strides.iter().any(|s| !(1..=256).contains(s)) || per_cell.iter().any(|n| !(1..=16).contains(n)) {
            return Err("detector.anchors: strides lie between 1 and 256, per_cell between 1 and 16".into());
        }
        let side = self.detector.input_side();
        let anchors: u32 =
            strides.iter().zip(per_cell).map(|(stride, count)| side.div_ceil(*stride).pow(2) * count).sum();
        let expected =
            [("boxes", 16), ("scores", 1)].map(|(role, width)| (role, vec![1, anchors as i32, width]));
        for (role, shape) in expected {
            let found = output(&self.detector.output, role).map_err(|e| format!("detector: {e}"))?;
            if found.1.shape != shape {
                return Err(format!("detector: output {role} should be {shape:?} for these anchors"));
            }
        }
        Ok(())
    }

    fn check_outputs(&self) -> Result<(), String> {
        let points = output(&self.landmarks.output, "points").map_err(|e| format!("landmarks: {e}"))?;
        output(&self.landmarks.output, "presence").map_err(|e| format!("landmarks: {e}"))?;
        if points.1.info().elements() != Some(468 * 3) {
            return Err("landmarks: output points should hold 468 times x, y, z".into());
        }
        let embedding = output(&self.embedder.output, "embedding").map_err(|e| format!("embedder: {e}"))?;
        if embedding.1.info().elements() != Some(self.embedder.dimensions) {
            return Err(format!(
                "embedder: output embedding should hold {} values",
                self.embedder.dimensions
            ));
        }
        Ok(())
    }

    fn files(&self) -> [ModelFile<'_>; 3] {
        [self.detector.model_file(), self.landmarks.model_file(), self.embedder.model_file()]
    }
}

impl ModelFile<'_> {
    fn check(&self) -> Result<(), String> {
        let Self { name, file, sha256, bytes, input, .. } = self;
        let plain = !file.is_empty() && !file.contains(['/', '\0']) && ![".", ".."].contains(file);
        if !plain {
            return Err(format!("{name}: file must be a plain file name inside the models folder"));
        }
        if sha256.len() != 64 || !sha256.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(format!("{name}: sha256 must be 64 lower-case hexadecimal digits"));
        }
        if !(1..=MAX_MODEL_BYTES).contains(bytes) {
            return Err(format!("{name}: bytes must lie between 1 and {MAX_MODEL_BYTES}"));
        }
        let [1, height, width, 3] = *input.shape.as_slice() else {
            return Err(format!("{name}: the input must be one RGB picture, [1, side, side, 3]"));
        };
        if height != width || !(16..=1024).contains(&width) {
            return Err(format!("{name}: the input must be a square of 16 to 1024 pixels"));
        }
        PixelInput::of(input).map_err(|reason| format!("{name}: {reason}"))?;
        Ok(())
    }
}

fn in_range(key: &str, value: f32, low: f32, high: f32) -> Result<(), String> {
    if (low..=high).contains(&value) {
        Ok(())
    } else {
        Err(format!("{key} is {value}; it must lie between {low} and {high}"))
    }
}

/// Position and specification of the output with the given role.
fn output<'a>(outputs: &'a [TensorSpec], role: &str) -> Result<(usize, &'a TensorSpec), String> {
    outputs
        .iter()
        .enumerate()
        .find(|(_, spec)| spec.role == role)
        .ok_or_else(|| format!("no output has the role {role}"))
}

/// The manifest with the verified bytes of every model it lists.
pub struct ModelSet {
    /// What the models are.
    pub manifest: Manifest,
    files: [Arc<[u8]>; 3],
}

/// Which of the networks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Detector,
    Landmarks,
    Embedder,
}

impl ModelSet {
    /// Reads and verifies everything in `folder`.
    pub fn load(folder: &Path) -> Result<Self, ModelError> {
        let path = folder.join(MANIFEST);
        let bytes = read_bounded(&path, MAX_MANIFEST_BYTES)?;
        let text = String::from_utf8(bytes).map_err(|_| ModelError::Manifest {
            path: path.clone(),
            reason: "it is not UTF-8 text".into(),
        })?;
        let manifest = Manifest::parse(&text, &path)?;
        let [detector, landmarks, embedder] = manifest.files().map(|model| read_verified(folder, &model));
        let files = [detector?, landmarks?, embedder?];
        Ok(Self { manifest, files })
    }

    /// The files by name.
    pub(crate) fn contents(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.manifest
            .files()
            .map(|model| model.file)
            .into_iter()
            .zip(self.files.iter().map(|bytes| &bytes[..]))
    }

    /// Loads the pinned runtime library.
    pub fn runtime(&self, library: &Path) -> Result<Runtime, LitertError> {
        let pin = &self.manifest.runtime;
        Runtime::load(library, &pin.version, &pin.library)
    }

    /// Compiles one network from its verified bytes.
    pub(crate) fn interpreter(
        &self,
        runtime: &Runtime,
        role: Role,
        threads: u8,
    ) -> Result<Interpreter, LitertError> {
        let model = &self.manifest.files()[role as usize];
        let outputs: Vec<_> = model.output.iter().map(TensorSpec::info).collect();
        let bytes = Arc::clone(&self.files[role as usize]);
        Interpreter::new(runtime, model.name, bytes, threads, &[model.input.info()], &outputs)
    }
}

fn read_verified(folder: &Path, model: &ModelFile<'_>) -> Result<Arc<[u8]>, ModelError> {
    let path = folder.join(model.file);
    let bytes = read_bounded(&path, MAX_MODEL_BYTES)?;
    let found = hex(&Sha256::digest(&bytes));
    if found != model.sha256 || bytes.len() as u64 != model.bytes {
        return Err(ModelError::WrongHash {
            path,
            found_bytes: bytes.len() as u64,
            found: found.into(),
            expected_bytes: model.bytes,
            expected: model.sha256.into(),
        });
    }
    Ok(bytes.into())
}

fn read_bounded(path: &Path, limit: u64) -> Result<Vec<u8>, ModelError> {
    let unreadable = |reason: String| ModelError::Unreadable { path: path.into(), reason };
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(limit + 1).read_to_end(&mut bytes))
        .map_err(|error| unreadable(error.to_string()))?;
    if bytes.len() as u64 > limit {
        return Err(unreadable(format!("it has more than {limit} bytes")));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHIPPED: &str = include_str!("../models/manifest.toml");

    fn parse(text: &str) -> Result<Manifest, String> {
        Manifest::parse(text, Path::new("manifest.toml")).map_err(|error| error.to_string())
    }

    /// The shipped manifest with one place changed, which must be there exactly once.
    fn with(from: &str, to: &str) -> String {
        assert_eq!(SHIPPED.matches(from).count(), 1, "{from}");
        SHIPPED.replace(from, to)
    }

    fn refusal(from: &str, to: &str) -> String {
        let refused = parse(&with(from, to)).map(|_| ()).expect_err(to);
        assert!(refused.starts_with("manifest.toml: "), "{refused}");
        refused
    }

    #[test]
    fn shipped_manifest_is_accepted_with_its_own_numbers() {
        let manifest = parse(SHIPPED).unwrap();
        assert_eq!(manifest.detector.input_side(), 192);
        assert_eq!(manifest.embedder.input_side(), 112);
        assert_eq!(manifest.detector.output_index("scores"), 1);
        assert_eq!(manifest.detector.pixel_input(), PixelInput::Signed);
        let level = PixelInput::Real { scale: 1.0 / 255.0, offset: 0.0 };
        assert_eq!(manifest.landmarks.pixel_input(), level);
    }

    #[test]
    fn unknown_fields_are_refused_at_every_level() {
        assert!(refusal("format = 1", "format = 1\nformta = 1").contains("formta"));
        assert!(refusal("per_cell = [1]", "per_cell = [1]\nsizes = [1]").contains("sizes"));
        assert!(refusal("margin = 0.05", "margin = 0.05\nmargins = 0.05").contains("margins"));
    }

    #[test]
    fn another_format_number_is_refused_and_the_known_one_named() {
        let refused = refusal("format = 1", "format = 2");
        assert!(refused.contains("format 2") && refused.contains("format 1"), "{refused}");
    }

    #[test]
    fn file_outside_of_the_models_folder_is_refused() {
        for file in ["../sface.tflite", "/etc/shadow", "sub/sface.tflite", "", ".", "..", "a\\u0000b"] {
            let refused = refusal("\"sface-int8.tflite\"", &format!("\"{file}\""));
            assert!(refused.contains("sface: file must be a plain file name"), "{file:?}: {refused}");
        }
    }

    #[test]
    fn checksum_that_is_no_sha256_is_refused() {
        let shipped = "df0531f06f0f711fd1ad2c88f642253e762b68c4742d3aaa481c09a81dc60898";
        let upper = shipped.to_uppercase();
        let foreign = shipped.replace('d', "g");
        for bad in ["", &shipped[1..], &upper, &foreign] {
            assert!(refusal(shipped, bad).contains("64 lower-case hexadecimal digits"), "{bad:?}");
        }
    }

    #[test]
    fn file_sizes_without_bound_are_refused() {
        assert!(refusal("bytes = 9950816", "bytes = 0").contains("sface: bytes"));
        assert!(refusal("bytes = 9950816", "bytes = 67108865").contains("sface: bytes"));
        assert!(parse(&with("bytes = 9950816", "bytes = 67108864")).is_ok());
    }

    #[test]
    fn anchors_that_do_not_fit_the_outputs_are_refused() {
        assert!(refusal("strides = [4]", "strides = [8]").contains("[1, 576, 16]"));
        assert!(refusal("per_cell = [1]", "per_cell = [2]").contains("[1, 4608, 16]"));
        assert!(refusal("strides = [4]", "strides = [4, 8]").contains("as many per_cell"));
        assert!(refusal("strides = [4]", "strides = [0]").contains("between 1 and 256"));
        assert!(refusal("per_cell = [1]", "per_cell = [4294967295]").contains("between 1 and 16"));
    }

    #[test]
    fn thresholds_outside_of_their_range_are_refused_by_name() {
        for (shipped, key, bad) in [
            ("identification = 0.48", "identification", "1.5"),
            ("verification = 0.43", "verification", "-2.0"),
            ("margin = 0.05", "margin", "-0.01"),
            ("conflict = 0.43", "conflict", "nan"),
        ] {
            let refused = refusal(shipped, &format!("{key} = {bad}"));
            assert!(refused.contains(&format!("embedder.thresholds.{key}")), "{refused}");
        }
        assert!(refusal("minimum_score = 0.4", "minimum_score = 1.0").contains("detector.decode"));
        assert!(refusal("minimum_presence = 0.5", "minimum_presence = inf").contains("minimum_presence"));
        assert!(refusal("scale = 1.5", "scale = 0.5").contains("landmarks.region.scale"));
    }

    #[test]
    fn input_whose_levels_have_no_meaning_is_refused() {
        let needed = "face-mesh: a float32 input needs level_scale and level_offset";
        assert!(refusal("level_scale = 0.00392156862745098", "").contains(needed));
        assert!(refusal("level_offset = 0.0", "").contains(needed));
        assert!(refusal("level_offset = 0.0", "level_offset = nan").contains(needed));
        assert!(
            refusal(
                "zero_point = 0\ncolour = \"RGB\"\nrange = \"(level",
                "level_scale = 1.0\nrange = \"(level"
            )
            .contains("sface: ")
        );
    }

    #[test]
    fn input_that_is_no_square_picture_is_refused() {
        for shape in [
            "[1, 112, 96, 3]",
            "[1, 112, 112, 1]",
            "[2, 112, 112, 3]",
            "[1, 8, 8, 3]",
            "[1, -112, -112, 3]",
            "[]",
        ] {
            assert!(refusal("[1, 112, 112, 3]", shape).contains("sface: the input must be"), "{shape}");
        }
    }

    #[test]
    fn output_that_nothing_stands_for_is_refused() {
        assert!(
            refusal("role = \"presence\"", "role = \"absence\"")
                .contains("landmarks: no output has the role presence")
        );
        assert!(refusal("[1, 1, 1, 1404]", "[1, 1, 1, 1407]").contains("468"));
        assert!(refusal("dimensions = 128", "dimensions = 512").contains("512 values"));
    }

    #[test]
    fn alignment_outside_of_the_crop_or_upside_down_is_refused() {
        assert!(refusal("[38.2946, 51.6963]", "[138.2946, 51.6963]").contains("alignment.template"));
        assert!(refusal("[38.2946, 51.6963]", "[73.5318, 51.5014]").contains("alignment.template"));
    }

    #[test]
    fn damaged_toml_is_refused_with_its_place() {
        let refused = refusal("format = 1", "format = ");
        assert!(refused.contains("line"), "{refused}");
    }

    #[test]
    fn levels_are_written_as_the_input_wants_them() {
        let mut signed = [0; 3];
        PixelInput::Signed.fill(&[0, 128, 255], &mut signed);
        assert_eq!(signed.map(|byte| byte as i8), [-128, 0, 127]);
        let mut real = [0; 8];
        PixelInput::Real { scale: 2.0, offset: -1.0 }.fill(&[0, 3], &mut real);
        let values = real.as_chunks::<4>().0.iter().map(|bytes| f32::from_ne_bytes(*bytes));
        assert_eq!(values.collect::<Vec<_>>(), [-1.0, 5.0]);
    }

    #[test]
    fn file_larger_than_its_limit_is_not_read_to_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("huge");
        File::create(&path).unwrap().set_len(1 << 40).unwrap();
        let refused = read_bounded(&path, 1 << 10).unwrap_err().to_string();
        assert!(refused.contains("huge") && refused.contains("1024"), "{refused}");
    }
}
