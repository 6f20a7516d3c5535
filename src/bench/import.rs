//! Import of an archive of pictures: how fast beside what the networks alone manage on all cores, how much
//! memory, and what it does to recognition in the meantime.
//!
//! The pictures are the built-in scene's portraits of people it does not enrol, moved, scaled, dimmed and
//! encoded anew: photographs of two people under hundreds of names, none of whom stands before the camera
//! meanwhile. It says nothing about accuracy. The import runs in the real daemon, asked over its web server
//! as the admin page asks it.

use std::io::{Cursor, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use serde::Serialize;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::client::{Client, Content, wall_ms};
use super::latency::Spread;
use super::memory::ResidentMemory;
use super::random::Random;
use super::site::Site;
use crate::camera::scene;
use crate::config::Config;
use crate::decode::still;
use crate::examiner::crop_around;
use crate::frame::RgbImage;
use crate::geometry::PixelBox;
use crate::litert::Runtime;
use crate::models::ModelSet;
use crate::picture::Picture;
use crate::recognise::Perception;

/// Pictures of each subject.
const EACH: usize = 4;
/// Side of a picture, in pixels: what messengers make of a photograph is about that.
const SIDE: u32 = 720;
const JPEG_QUALITY: u8 = 85;
/// Between two looks at how far an import is.
const GLANCE: Duration = Duration::from_millis(100);

/// Decisions of the live stream.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct LiveLatency {
    /// How many.
    pub decisions: usize,
    /// From capture to decision.
    pub captured_to_decision: Spread,
}

impl LiveLatency {
    fn of(values: Vec<f64>) -> Result<Self> {
        ensure!(!values.is_empty(), "nothing was decided about anybody in that time");
        Ok(Self { decisions: values.len(), captured_to_decision: Spread::of(values) })
    }
}

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub struct ImportTimings {
    /// Pictures imported, and bytes of the archive.
    pub pictures: usize,
    /// See there.
    pub archive_bytes: usize,
    /// Pictures a second of decoding, detection, landmarks and embedding alone, one thread a core.
    pub bare_per_s: f64,
    /// Pictures a second of the import while nobody is in view.
    pub import_per_s: f64,
    /// The same while people come and go.
    pub import_busy_per_s: f64,
    /// Memory of the daemon before the first import.
    pub memory_before: ResidentMemory,
    /// And after.
    pub memory_after: ResidentMemory,
    /// Recognition without an import.
    pub live_alone: LiveLatency,
    /// Recognition while one runs.
    pub live_meanwhile: LiveLatency,
}

impl std::fmt::Display for ImportTimings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let share = |rate: f64| rate / self.bare_per_s * 100.0;
        writeln!(f, "{} pictures of {SIDE}x{SIDE}, {} bytes", self.pictures, self.archive_bytes)?;
        writeln!(f, "networks alone, all cores       {:>7.1} pictures/s", self.bare_per_s)?;
        for (name, rate) in [
            ("import, nobody in view          ", self.import_per_s),
            ("import, people come and go      ", self.import_busy_per_s),
        ] {
            writeln!(f, "{name}{rate:>7.1} pictures/s, {:.0} %", share(rate))?;
        }
        writeln!(f, "before {}\nafter  {}", self.memory_before, self.memory_after)?;
        for (name, live) in [("without an import", self.live_alone), ("while one runs", self.live_meanwhile)]
        {
            let Spread { median_ms, p99_ms, greatest_ms } = live.captured_to_decision;
            writeln!(
                f,
                "live, {name:<18} {} decisions, median {median_ms:.1} ms, 99 % {p99_ms:.1} ms, most {greatest_ms:.1} ms",
                live.decisions
            )?;
        }
        let medians = [self.live_meanwhile, self.live_alone].map(|live| live.captured_to_decision.median_ms);
        write!(f, "median {:.2} times as long", medians[0] / medians[1])
    }
}

/// Paths in the archive and JPEGs.
pub fn pictures(count: usize) -> Result<Vec<(String, Vec<u8>)>> {
    let mut portraits = Vec::new();
    let strangers = scene::people().iter().filter(|person| !person.enrolled);
    for jpeg in strangers.flat_map(|person| person.pictures) {
        portraits.push(still(jpeg)?);
    }
    let mut random = Random::new(0x69_6d_70_6f_72_74);
    (0..count)
        .map(|number| {
            let subject = number / EACH;
            let image = &portraits[subject % portraits.len()];
            let jpeg = variant(image, &mut random).to_jpeg(JPEG_QUALITY).context("encoding a picture")?;
            Ok((format!("Subject {subject:04}/{}.jpg", number % EACH), jpeg))
        })
        .collect()
}

/// The portrait moved by up to a tenth of its size, a little larger or smaller, brighter or darker.
fn variant(image: &RgbImage, random: &mut Random) -> RgbImage {
    let (width, height) = (image.width() as f32, image.height() as f32);
    let mut off = || (random.unit() - 0.5) * 0.2;
    let (x, y, scale, light) = (off() * width, off() * height, 1.0 + off(), 1.0 + off());
    let side = width.max(height) * scale / crate::examiner::CROP_MARGIN;
    let (left, top) = (width / 2.0 + x - side / 2.0, height / 2.0 + y - side / 2.0);
    let mut picture = crop_around(image, &PixelBox::new(left, top, left + side, top + side), SIDE);
    for value in picture.pixels_mut() {
        *value = (f32::from(*value) * light).min(255.0) as u8;
    }
    picture
}

/// Pictures a second that the networks alone manage, one thread a core.
pub fn bare(
    models: &ModelSet,
    runtime: &Runtime,
    config: &Config,
    pictures: &[(String, Vec<u8>)],
) -> Result<f64> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut perceptions = Vec::new();
    for _ in 0..cores {
        perceptions.push(Perception::new(models, runtime, config)?);
    }
    let next = AtomicUsize::new(0);
    let start = Instant::now();
    std::thread::scope(|scope| {
        let threads: Vec<_> = perceptions
            .iter_mut()
            .map(|perception| {
                let next = &next;
                scope.spawn(move || -> Result<usize> {
                    let mut embeddings = 0;
                    while let Some((_, jpeg)) = pictures.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let image = still(jpeg)?;
                        let faces = perception.examine_all(&Picture::from(&image))?;
                        for shape in faces.iter().filter_map(|face| face.shape.as_ref()) {
                            perception.embed(&shape.aligned)?;
                            embeddings += 1;
                        }
                    }
                    Ok(embeddings)
                })
            })
            .collect();
        for thread in threads {
            let made = thread.join().map_err(|_| anyhow!("a thread of the measurement panicked"))??;
            ensure!(made > 0, "no face was found in the pictures");
        }
        Ok(pictures.len() as f64 / start.elapsed().as_secs_f64())
    })
}

/// All pictures as one archive, stored as the admin page makes it.
pub fn archive(pictures: &[(String, Vec<u8>)]) -> Result<Vec<u8>> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    for (path, jpeg) in pictures {
        zip.start_file(path.as_str(), options)?;
        zip.write_all(jpeg)?;
    }
    Ok(zip.finish()?.into_inner())
}

/// Latencies of what the daemon decides within a time.
pub fn watch(site: &Site, time: Duration) -> Result<LiveLatency> {
    let from = wall_ms();
    std::thread::sleep(time);
    LiveLatency::of(site.client.decision_latencies(from, wall_ms())?)
}

/// One import.
pub struct Import {
    /// Pictures a second.
    pub per_s: f64,
    /// When it began and ended, wall time in milliseconds.
    between: (f64, f64),
}

impl Import {
    /// Hands `archive` over and waits until all its `pictures` are worked off.
    pub fn run(client: &Client, archive: &[u8], pictures: usize) -> Result<Self> {
        let job = client.ask("POST", "/api/imports", Content::Bytes("application/zip", archive))?.json();
        let id = job["id"].as_u64().context("the import has no number")?;
        let job = loop {
            std::thread::sleep(GLANCE);
            let job = client.get(&format!("/api/jobs/{id}"))?;
            match job["state"].as_str() {
                Some("done") => break job,
                Some("failed" | "cancelled") => bail!("the import has ended: {}", job["message"]),
                _ => {}
            }
        };
        let at = |key: &str| job[key].as_f64().context("the import has no times");
        let between = (at("started_at")?, at("ended_at")?);
        ensure!(job["done"].as_u64() == Some(pictures as u64), "some pictures were not worked off: {job}");
        let made = |key: &str| job["result"][key].as_u64().unwrap_or(0) as usize;
        // A refused picture costs less than an enrolled one.
        ensure!(
            (made("templates") + made("duplicates")) * 10 >= pictures * 9,
            "too few pictures gave a template: {}",
            job["result"]
        );
        Ok(Self { per_s: pictures as f64 / (between.1 - between.0) * 1e3, between })
    }

    /// Latencies of what was decided meanwhile.
    pub fn live(&self, client: &Client) -> Result<LiveLatency> {
        LiveLatency::of(client.decision_latencies(self.between.0, self.between.1)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_differ_and_are_four_to_a_subject() {
        let pictures = pictures(8).unwrap();
        let paths: Vec<_> = pictures.iter().map(|(path, _)| path.as_str()).collect();
        assert_eq!(
            (paths[0], paths[3], paths[4]),
            ("Subject 0000/0.jpg", "Subject 0000/3.jpg", "Subject 0001/0.jpg")
        );
        for (at, (_, jpeg)) in pictures.iter().enumerate() {
            assert!(pictures[..at].iter().all(|(_, other)| other != jpeg));
            assert_eq!(still(jpeg).unwrap().width(), SIDE);
        }
    }
}
