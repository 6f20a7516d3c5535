//! The Rust stages against the Python pipeline, on four portraits stored without loss: detections,
//! landmarks, alignment and embedding. tests/parity/README.md says where the values come from.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test; its figures are its output")]

use std::path::{Path, PathBuf};

use limen::align::AlignmentTemplate;
use limen::config::Config;
use limen::decode::still;
use limen::detect::Detection;
use limen::frame::RgbImage;
use limen::geometry::{PixelBox, Point};
use limen::install;
use limen::landmarks::FivePoints;
use limen::models::ModelSet;
use limen::picture::{Picture, Resampler};
use limen::recognise::Perception;
use limen::score::DetectionScore;
use serde::Deserialize;

const PORTRAITS: [&str; 4] = ["barack_obama_1", "eileen_collins_1", "grace_hopper_1", "joe_biden_1"];

/// Each lies between the largest difference measured over the four portraits and what must fail.
/// Points are compared in shares of the distance between the eyes.
mod tolerance {
    /// The int8 detector answers a difference of one grey level in its input, which is what two
    /// implementations of one filter differ by, with up to 0.045 in its points.
    pub(crate) const DETECTION_SCORE: f32 = 0.03;
    pub(crate) const DETECTION_POINTS: f32 = 0.06;
    /// On the reference's own detection. Measured: 0.0002.
    pub(crate) const MESH_POINTS: f32 = 0.001;
    /// On the reference's own five points. Measured: 0.9978; skewed by 2 px: 0.9884 at most.
    pub(crate) const COSINE_OF_STAGE: f64 = 0.995;
    /// From picture to embedding, each stage on what the one before it made. Measured: 0.992.
    pub(crate) const COSINE_OF_CHAIN: f64 = 0.985;
}

#[derive(Deserialize)]
struct Reference {
    sha256_of_rgb: String,
    embedding_space: String,
    detections: Vec<ReferenceDetection>,
    face_presence: f32,
    mesh: std::collections::BTreeMap<usize, [f32; 2]>,
    five_points: [[f32; 2]; 5],
    to_crop: [[f32; 3]; 2],
    embedding: Vec<f64>,
    skew_px: [f32; 2],
    cosine_to_skewed: f64,
}

#[derive(Deserialize)]
struct ReferenceDetection {
    score: f32,
    #[serde(rename = "box")]
    bbox: [f32; 4],
    keypoints: [[f32; 2]; 6],
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn perception() -> (ModelSet, Perception) {
    let config = Config::load(None).expect("the configuration of the environment is usable");
    let models = ModelSet::load(&root().join("models")).expect("the committed models are intact");
    let runtime = models
        .runtime(&install::litert_library(&config))
        .expect("the runtime library is set up; `make test` does it");
    let perception = Perception::new(&models, &runtime, &config).expect("the networks compile");
    (models, perception)
}

fn load(name: &str) -> (RgbImage, Reference) {
    let folder = root().join("tests/parity");
    let read = |extension: &str| {
        let path: &Path = &folder.join(name).with_extension(extension);
        std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    let reference: Reference = serde_json::from_slice(&read("json")).unwrap();
    (still(&read("png")).unwrap(), reference)
}

fn point([x, y]: [f32; 2]) -> Point {
    Point::new(x, y)
}

fn cosine(left: &[f32], right: &[f64]) -> f64 {
    assert_eq!(left.len(), right.len());
    let left: Vec<f64> = left.iter().map(|v| f64::from(*v)).collect();
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    dot(&left, right) / (dot(&left, &left) * dot(right, right)).sqrt()
}

#[test]
fn rust_stages_equal_the_reference_and_a_skewed_face_does_not() {
    let (models, mut perception) = perception();
    let embedder = &models.manifest.embedder;
    let template = AlignmentTemplate::new(&embedder.alignment, embedder.input_side());
    let mut resampler = Resampler::default();
    let mut checked = 0;
    for name in PORTRAITS {
        let (image, reference) = load(name);
        let digest = <sha2::Sha256 as sha2::Digest>::digest(image.pixels());
        let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(digest, reference.sha256_of_rgb, "{name}: the decoded pixels differ");
        assert_eq!(embedder.embedding_space.as_str(), reference.embedding_space);
        let picture = Picture::from(&image);
        let five = reference.five_points.map(point);
        let eyes = five[0].distance(five[1]);
        let apart = |found: Point, expected: [f32; 2]| found.distance(point(expected)) / eyes;

        let detections = perception.detect(&picture).unwrap();
        assert_eq!(detections.len(), reference.detections.len(), "{name}: number of detections");
        let (mut score, mut points) = (0.0f32, 0.0f32);
        for (found, expected) in detections.iter().zip(&reference.detections) {
            score = score.max((found.score.get() - expected.score).abs());
            let [left, top, right, bottom] = expected.bbox;
            points = points.max(apart(Point::new(found.bbox.left, found.bbox.top), [left, top]));
            points = points.max(apart(Point::new(found.bbox.right, found.bbox.bottom), [right, bottom]));
            for (found, expected) in found.keypoints.iter().zip(expected.keypoints) {
                points = points.max(apart(*found, expected));
            }
        }

        // From here on each stage works on what the reference's stage before it made, so that it is
        // judged alone.
        let expected = &reference.detections[0];
        let [left, top, right, bottom] = expected.bbox;
        let detection = Detection {
            bbox: PixelBox::new(left, top, right, bottom),
            keypoints: expected.keypoints.map(point),
            score: DetectionScore::new(expected.score),
        };
        let shape = perception.examine(&picture, &detection).unwrap().shape.expect("a portrait has a face");
        let mesh =
            reference.mesh.iter().map(|(index, expected)| apart(shape.landmarks.point(*index), *expected));
        let mesh = mesh.fold(0.0, f32::max);
        let presence = (shape.landmarks.face_presence - reference.face_presence).abs();

        let points_of = |points: [Point; 5]| FivePoints {
            eye_image_left: points[0],
            eye_image_right: points[1],
            nose_tip: points[2],
            mouth_image_left: points[3],
            mouth_image_right: points[4],
        };
        let transform = template.transform(&points_of(five)).unwrap();
        let [[a, minus_b, tx], [b, a_again, ty]] = reference.to_crop;
        let expected = [a, -minus_b, tx, b, a_again, ty];
        let found = [transform.a, transform.b, transform.tx, transform.b, transform.a, transform.ty];
        let transform = found.iter().zip(expected).map(|(f, e)| (f - e).abs()).fold(0.0, f32::max);

        let mut embed_at = |points: [Point; 5]| {
            let aligned = template.align(&picture, &points_of(points), &mut resampler).unwrap().unwrap();
            cosine(perception.embed(&aligned).unwrap().values(), &reference.embedding)
        };
        let stage = embed_at(five);
        let skewed =
            embed_at(five.map(|p| Point::new(p.x + reference.skew_px[0], p.y + reference.skew_px[1])));
        let chain = perception.examine(&picture, &detections[0]).unwrap().shape.expect("a face");
        let chain = cosine(perception.embed(&chain.aligned).unwrap().values(), &reference.embedding);
        println!(
            "{name}: score {score:.4}, detection points {points:.4}, mesh {mesh:.4}, presence {presence:.4}, \
             transform {transform:.5}, cosine of the stage {stage:.5}, of the chain {chain:.5}, skewed {skewed:.5} (reference {:.5})",
            reference.cosine_to_skewed
        );
        assert!(score <= tolerance::DETECTION_SCORE, "{name}: detection score");
        assert!(points <= tolerance::DETECTION_POINTS, "{name}: detection points");
        assert!(mesh <= tolerance::MESH_POINTS, "{name}: mesh points");
        assert!(presence <= 0.01, "{name}: face presence");
        assert!(transform <= 1e-3, "{name}: alignment transform");
        assert!(stage >= tolerance::COSINE_OF_STAGE, "{name}: embedding, cosine {stage}");
        assert!(chain >= tolerance::COSINE_OF_CHAIN, "{name}: whole chain, cosine {chain}");
        assert!(
            skewed < tolerance::COSINE_OF_STAGE,
            "{name}: a face skewed by 2 px must fail, cosine {skewed}"
        );
        checked += 1;
    }
    assert_eq!(checked, PORTRAITS.len());
}
