//! Prints what a large gallery costs on disk: `cargo bench --bench gallery`.
//!
//! 10,000 subjects with three synthetic templates of 128 values each, in a temporary folder, with
//! the page cache warm. The same rows in an unencrypted database beside it show what encryption costs.

#![allow(clippy::print_stdout)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use limen::clock::SystemClock;
use limen::embedding::{Embedding, EmbeddingSpaceId};
use limen::gallery::{
    Enrolment, EnrolmentTarget, GalleryStore, NewSample, SampleOrigin, SampleQuality, SubjectName,
};
use limen::score::QualityScore;
use limen::vault::{KeyPurpose, RootKey, StateFolder};
use rusqlite::Connection;

const SUBJECTS: u64 = 10_000;
const TEMPLATES: u64 = 3;
const ROUNDS: usize = 7;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let temp = tempfile::tempdir()?;
    let state = StateFolder::open_or_create(&temp.path().join("state"))?;
    let (key, _) = RootKey::load(&state, None)?;
    let space = EmbeddingSpaceId::new("synthetic/1");

    let mut store = GalleryStore::open(&state, &key, Arc::new(SystemClock))?;
    let mut times = Vec::new();
    for at in 0..SUBJECTS {
        let samples = (0..TEMPLATES).map(|n| sample(at * TEMPLATES + n, &space)).collect::<Result<_, _>>()?;
        let subject = EnrolmentTarget::New(SubjectName::new(&format!("subject {at}"))?);
        let start = Instant::now();
        store.enrol(&Enrolment { subject, samples })?;
        times.push(start.elapsed());
    }
    println!("one enrolment of {TEMPLATES} samples, synced        {}", summary(&mut times));
    drop(store);

    let (mut open, mut load, mut check) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let start = Instant::now();
        let store = GalleryStore::open(&state, &key, Arc::new(SystemClock))?;
        open.push(start.elapsed());
        let start = Instant::now();
        let snapshot = store.load_snapshot(&space)?;
        load.push(start.elapsed());
        assert_eq!(snapshot.report().templates as u64, SUBJECTS * TEMPLATES);
        let start = Instant::now();
        assert!(store.integrity_check()?.is_empty());
        check.push(start.elapsed());
    }
    println!("open                                      {}", summary(&mut open));
    println!("load {} templates for the search       {}", SUBJECTS * TEMPLATES, summary(&mut load));
    println!("integrity check                           {}", summary(&mut check));

    let plain = temp.path().join("plain.db");
    let digits: String =
        key.subkey(KeyPurpose::Database).as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    let encrypted = Connection::open(state.path().join(limen::gallery::DATABASE_FILE))?;
    encrypted.execute_batch(&format!("pragma key = \"x'{digits}'\""))?;
    let path = plain.to_str().ok_or("the temporary folder has a strange name")?;
    encrypted
        .execute_batch(&format!("attach '{path}' as plain key ''; select sqlcipher_export('plain');"))?;
    drop(encrypted);
    for (what, path, key) in [
        (
            "rows read from the encrypted file",
            state.path().join(limen::gallery::DATABASE_FILE),
            Some(&digits),
        ),
        ("the same rows from an unencrypted file", plain, None),
    ] {
        let mut times = Vec::new();
        for _ in 0..ROUNDS {
            let start = Instant::now();
            let connection = Connection::open(&path)?;
            if let Some(digits) = key {
                connection.execute_batch(&format!("pragma key = \"x'{digits}'\""))?;
            }
            let mut query = connection.prepare("select id, subject, embedding from template order by id")?;
            let mut rows = query.query([])?;
            let mut bytes = 0;
            while let Some(row) = rows.next()? {
                bytes += row.get_ref(2)?.as_blob()?.len();
            }
            times.push(start.elapsed());
            assert_eq!(bytes as u64, SUBJECTS * TEMPLATES * 512);
        }
        println!("{what:41} {}", summary(&mut times));
    }
    Ok(())
}

fn summary(times: &mut [Duration]) -> String {
    times.sort_unstable();
    let ms = |at: usize| times[at].as_secs_f64() * 1e3;
    format!("median {:8.3} ms, fastest {:8.3} ms", ms(times.len() / 2), ms(0))
}

fn sample(seed: u64, space: &EmbeddingSpaceId) -> Result<NewSample, limen::embedding::EmbeddingError> {
    let values = (0..128).map(|d| ((seed * 128 + d) as f32 * 0.618).sin()).collect();
    let quality = SampleQuality {
        score: QualityScore::new(0.9),
        eye_distance_px: 60.0,
        sharpness: 10.0,
        yaw_deg: 0.0,
        pitch_deg: 0.0,
        roll_deg: 0.0,
    };
    Ok(NewSample {
        origin: SampleOrigin::File,
        quality,
        embedding: Embedding::normalised(values, space.clone())?,
        picture: None,
    })
}
