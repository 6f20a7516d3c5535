//! Still pictures on the threads that examine them, with the real networks.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test; its figures are its output")]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use limen::clock::{Clock, SystemClock};
use limen::config::Config;
use limen::examiner::{CROP_SIDE, ExamineError, Examined, Examiner, Urgency};
use limen::models::ModelSet;
use limen::quality::Unusable;
use limen::supervisor::Supervisor;

const PORTRAITS: [&str; 6] = [
    "barack_obama_1",
    "barack_obama_2",
    "barack_obama_3",
    "eileen_collins_1",
    "grace_hopper_1",
    "joe_biden_1",
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn portrait(name: &str) -> Vec<u8> {
    std::fs::read(root().join("tests/fixtures/portraits").join(name).with_extension("jpg")).unwrap()
}

/// Running threads, ended with it.
struct Running {
    examiner: Examiner,
    supervisor: Supervisor,
    names: Vec<String>,
}

impl Running {
    fn new() -> Self {
        let mut config = Config::load(None).unwrap();
        config.models.folder = Some(root().join("models"));
        config.litert.library = config.litert.library.map(|library| root().join(library));
        let models = ModelSet::load(&root().join("models")).unwrap();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let space = models.manifest.embedder.embedding_space.clone();
        let (examiner, threads) = Examiner::new(&config, &space, &clock);
        let mut supervisor = Supervisor::new(clock);
        let mut names = Vec::new();
        for thread in threads {
            let name = thread.name().to_owned();
            supervisor.spawn(&name, Duration::from_secs(60), move |beat| thread.run(beat)).unwrap();
            names.push(name);
        }
        Self { examiner, supervisor, names }
    }

    fn examine(&self, bytes: Vec<u8>) -> Result<Examined, ExamineError> {
        self.examiner.examine_blocking(bytes, Urgency::Interactive)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.examiner.end();
        for name in &self.names {
            self.supervisor.join(name, Duration::from_secs(60)).unwrap();
        }
    }
}

#[test]
fn kept_crop_gives_the_embedding_of_the_picture_again() {
    let running = Running::new();
    let (mut lowest, mut compared) = (1.0_f32, 0);
    for name in PORTRAITS {
        let examined = running.examine(portrait(name)).unwrap();
        assert_eq!(examined.faces.len(), 1, "{name}");
        let face = &examined.faces[0];
        assert_eq!(face.verdict, Ok(()), "{name}");
        let crop = examined.crop(face, CROP_SIDE).to_jpeg(90).unwrap();
        let again = running.examine(crop).unwrap();
        assert_eq!(again.faces.len(), 1, "{name}");
        let score = face
            .embedding
            .as_ref()
            .unwrap()
            .compare(again.faces[0].embedding.as_ref().unwrap())
            .unwrap()
            .get();
        println!("{name}: {score:.4}");
        lowest = lowest.min(score);
        compared += 1;
    }
    assert_eq!(compared, PORTRAITS.len());
    assert!(lowest > 0.9, "{lowest}");
    let obama = running.examine(portrait("barack_obama_1")).unwrap();
    let biden = running.examine(portrait("joe_biden_1")).unwrap();
    let of = |examined: &Examined| examined.faces[0].embedding.clone().unwrap();
    let strangers = of(&obama).compare(&of(&biden)).unwrap().get();
    assert!(strangers < 0.4, "two people must not pass the same test: {strangers}");
}

#[test]
fn unusable_faces_have_an_embedding_only_where_it_is_asked() {
    let running = Running::new();
    let examined = running.examine(portrait("grace_hopper_1")).unwrap();
    let mut dark = examined.image.clone();
    for value in dark.pixels_mut() {
        *value /= 12;
    }
    let plain =
        running.examiner.examine_image_blocking(dark.clone(), Urgency::Interactive).unwrap().faces.remove(0);
    assert!(matches!(plain.verdict, Err(Unusable::TooDark { .. })), "{:?}", plain.verdict);
    assert!(plain.embedding.is_none());
    let every = running.examiner.of_every_face();
    let asked = every.examine_image_blocking(dark, Urgency::Batch).unwrap().faces.remove(0);
    assert!(asked.verdict.is_err() && asked.embedding.is_some());
}

#[test]
fn what_is_no_picture_is_refused_with_its_code() {
    let running = Running::new();
    let whole = portrait("joe_biden_1");
    // A PNG header that claims 60,000 pixels a side.
    let mut bomb = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR".to_vec();
    bomb.extend_from_slice(&60_000_u32.to_be_bytes());
    bomb.extend_from_slice(&60_000_u32.to_be_bytes());
    bomb.extend_from_slice(&[8, 2, 0, 0, 0]);
    let checksum = {
        let mut crc = flate2::Crc::new();
        crc.update(&bomb[12..]);
        crc.sum()
    };
    bomb.extend_from_slice(&checksum.to_be_bytes());
    // The IDAT header, so that the header is complete.
    bomb.extend_from_slice(b"\0\0\0\0IDAT\x35\xaf\x06\x1e");
    // A JPEG whose frame header claims 65,500 pixels a side.
    let mut huge = whole.clone();
    let at = huge.windows(2).position(|pair| pair == [0xff, 0xc0] || pair == [0xff, 0xc2]).unwrap();
    huge[at + 5..at + 9].copy_from_slice(&[0xff, 0xdc, 0xff, 0xdc]);
    let cases = [
        ("not_a_picture", b"name,age\nAda,36\n".to_vec()),
        ("not_a_picture", Vec::new()),
        ("cut_off", whole[..whole.len() / 2].to_vec()),
        ("picture_bomb", bomb),
        ("picture_bomb", huge),
        ("too_large", vec![0xff; 33 << 20]),
    ];
    let mut refused = 0;
    for (code, bytes) in cases {
        match running.examine(bytes) {
            Err(ExamineError::Decode(error)) => assert_eq!(error.code(), code, "{error}"),
            other => panic!("{code}: {other:?}"),
        }
        refused += 1;
    }
    assert_eq!(refused, 6);
    assert!(running.examine(whole).is_ok(), "the threads are still there");
}
