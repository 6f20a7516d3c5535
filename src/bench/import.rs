//! Import of an archive of pictures: how fast beside what the networks alone manage on all cores, how much
//! memory, and what it does to recognition in the meantime.
//!
//! The pictures are the built-in scene's portraits, moved, scaled, dimmed and encoded anew: photographs of
//! four people under hundreds of names. It says nothing about accuracy. The import runs in the real daemon,
//! asked over its web server as the admin page asks it.

use std::io::{BufRead, BufReader, Cursor, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use serde::Serialize;
use serde_json::{Value, json};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::memory::ResidentMemory;
use super::process::Ending;
use super::random::Random;
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
/// Anything the daemon is asked is answered within this time.
const PATIENCE: Duration = Duration::from_secs(60);
const GLANCE: Duration = Duration::from_millis(100);
const PASSWORD: &str = "only for this measurement";

/// Decisions of the live stream, milliseconds from capture.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct LiveLatency {
    /// How many.
    pub decisions: usize,
    /// Half of them took no longer.
    pub median_ms: f64,
    /// 95 of 100 took no longer.
    pub p95_ms: f64,
    /// The longest.
    pub greatest_ms: f64,
}

impl LiveLatency {
    fn of(mut values: Vec<f64>) -> Result<Self> {
        ensure!(!values.is_empty(), "nobody was recognised in that time");
        values.sort_by(f64::total_cmp);
        let at = |share: f64| values[((values.len() as f64 * share).ceil() as usize).max(1) - 1];
        Ok(Self { decisions: values.len(), median_ms: at(0.5), p95_ms: at(0.95), greatest_ms: at(1.0) })
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
            let LiveLatency { decisions, median_ms, p95_ms, greatest_ms } = live;
            writeln!(
                f,
                "live, {name:<18} {decisions} decisions, median {median_ms:.1} ms, 95 % {p95_ms:.1} ms, most {greatest_ms:.1} ms"
            )?;
        }
        let slower = self.live_meanwhile.median_ms / self.live_alone.median_ms;
        write!(f, "median {slower:.2} times as long")
    }
}

/// Paths in the archive and JPEGs.
pub fn pictures(count: usize) -> Result<Vec<(String, Vec<u8>)>> {
    let mut portraits = Vec::new();
    for jpeg in scene::people().iter().flat_map(|person| person.pictures) {
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

/// A daemon, what it prints, and an owner who is signed in.
pub struct Site {
    daemon: Ending,
    latencies: Receiver<f64>,
    port: u16,
    headers: String,
}

impl Site {
    /// Starts the daemon that `command` describes, with its web server on `port`. `setup_code` asks it for
    /// a code by which the owner is made.
    pub fn start(mut command: Command, port: u16, setup_code: impl Fn() -> Result<String>) -> Result<Self> {
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("starting the daemon")?;
        let out = child.stdout.take().context("reading what the daemon prints")?;
        let daemon = Ending(child);
        let (sender, latencies) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                let event: Value = serde_json::from_str(&line).unwrap_or_default();
                let identified = event["event"] == "identified";
                if let Some(latency) = event["latency_ms"].as_f64().filter(|_| identified)
                    && sender.send(latency).is_err()
                {
                    return;
                }
            }
        });
        let mut site = Self { daemon, latencies, port, headers: String::new() };
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            ensure!(Instant::now() < deadline, "the daemon's web server does not answer");
            std::thread::sleep(GLANCE);
        }
        let given = json!({ "code": setup_code()?, "name": "bench", "password": PASSWORD }).to_string();
        let (head, session) = site.ask("POST", "/api/setup", "application/json", given.as_bytes())?;
        let cookie = head
            .lines()
            .filter_map(|line| line.split_once(": "))
            .find(|(name, _)| name.eq_ignore_ascii_case("set-cookie"))
            .map(|(_, cookie)| cookie)
            .and_then(|cookie| cookie.split(';').next())
            .context("the daemon gave no session")?;
        let csrf = session["csrf"].as_str().context("the session has no CSRF token")?;
        site.headers = format!("Cookie: {cookie}\r\nX-CSRF-Token: {csrf}\r\n");
        Ok(site)
    }

    /// One request; head and JSON of an answer that says yes.
    fn ask(&self, method: &str, path: &str, media_type: &str, body: &[u8]) -> Result<(String, Value)> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nConnection: close\r\n{}Content-Type: {media_type}\r\n\
             Content-Length: {}\r\n\r\n",
            self.port,
            self.headers,
            body.len()
        )?;
        stream.write_all(body)?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        let answer = String::from_utf8_lossy(&answer);
        let (head, body) = answer.split_once("\r\n\r\n").context("the daemon gave no answer")?;
        ensure!(head.starts_with("HTTP/1.1 2"), "{method} {path}: {body}");
        Ok((head.to_owned(), serde_json::from_str(body)?))
    }

    /// Memory of the daemon.
    pub fn memory(&self) -> Result<ResidentMemory> {
        ResidentMemory::of_process(self.daemon.0.id()).context("the daemon has ended")
    }

    /// Latencies of all decisions within a time.
    pub fn watch(&self, time: Duration) -> Result<LiveLatency> {
        self.latencies.try_iter().for_each(drop);
        std::thread::sleep(time);
        LiveLatency::of(self.latencies.try_iter().collect())
    }

    /// Imports an archive; pictures a second, and the latencies of what was decided meanwhile.
    pub fn import(&self, archive: &[u8], pictures: usize) -> Result<(f64, Vec<f64>)> {
        self.latencies.try_iter().for_each(drop);
        let (_, job) = self.ask("POST", "/api/imports", "application/zip", archive)?;
        let id = job["id"].as_u64().context("the import has no number")?;
        let job = loop {
            std::thread::sleep(GLANCE);
            let (_, job) = self.ask("GET", &format!("/api/jobs/{id}"), "text/plain", b"")?;
            match job["state"].as_str() {
                Some("done") => break job,
                Some("failed" | "cancelled") => bail!("the import has ended: {}", job["message"]),
                _ => {}
            }
        };
        let at = |key: &str| job[key].as_i64().context("the import has no times");
        let seconds = (at("ended_at")? - at("started_at")?) as f64 / 1e3;
        ensure!(job["done"].as_u64() == Some(pictures as u64), "some pictures were not worked off: {job}");
        let templates = job["result"]["templates"].as_u64().unwrap_or(0)
            + job["result"]["duplicates"].as_u64().unwrap_or(0);
        // A refused picture costs less than an enrolled one.
        ensure!(
            templates as usize * 10 >= pictures * 9,
            "too few pictures gave a template: {}",
            job["result"]
        );
        Ok((pictures as f64 / seconds, self.latencies.try_iter().collect()))
    }
}

/// Spread of latencies; an error if there are none.
pub fn spread(latencies: Vec<f64>) -> Result<LiveLatency> {
    LiveLatency::of(latencies)
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

    #[test]
    fn latencies_are_spread_by_share() {
        let spread = spread((1..=100).map(f64::from).collect()).unwrap();
        assert_eq!((spread.median_ms, spread.p95_ms, spread.greatest_ms), (50.0, 95.0, 100.0));
        assert!(super::spread(Vec::new()).is_err());
    }
}
