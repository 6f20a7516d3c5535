//! Prints what a large gallery costs on disk: `cargo bench --bench gallery`.
//!
//! 10,000 subjects with three synthetic templates of 128 values each, in a temporary folder, with
//! the page cache warm. The same rows in an unencrypted database, and the same pictures in plain files, show
//! what encryption costs: both are written and read in turns, so that a busy machine is busy for both.

#![allow(clippy::print_stdout)]

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use limen::clock::SystemClock;
use limen::embedding::{Embedding, EmbeddingSpaceId};
use limen::frame::RgbImage;
use limen::gallery::{
    Enrolment, EnrolmentTarget, GalleryStore, NewSample, SampleOrigin, SamplePicture, SampleQuality,
    SubjectName,
};
use limen::score::QualityScore;
use limen::vault::{KeyPurpose, RootKey, StateFolder};
use rusqlite::Connection;

const SUBJECTS: u64 = 10_000;
const TEMPLATES: u64 = 3;
/// Enrolments with pictures, of each kind.
const PICTURED: u64 = 300;
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

    enrolments_with_pictures(&temp.path().join("pictures"))?;

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

/// One enrolment with pictures as the gallery makes it, and what it would be without encryption.
fn enrolments_with_pictures(folder: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let state = StateFolder::open_or_create(folder)?;
    let (key, _) = RootKey::load(&state, None)?;
    let space = EmbeddingSpaceId::new("synthetic/1");
    let mut store = GalleryStore::open(&state, &key, Arc::new(SystemClock))?;
    // The size of a kept face: noise does not shrink.
    let noise = (0..160_u32 * 160 * 3).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let picture = RgbImage::from_pixels(160, 160, noise).as_ref().and_then(SamplePicture::encode);
    let picture = picture.ok_or("the picture cannot be encoded")?;
    let plain_folder = folder.join("plain");
    std::fs::create_dir(&plain_folder)?;
    let mut plain = Connection::open(plain_folder.join("plain.db"))?;
    plain.execute_batch(concat!(
        "pragma journal_mode = wal; pragma synchronous = full; pragma secure_delete = on; pragma foreign_keys = on;",
        include_str!("../src/gallery/schema.sql")
    ))?;
    plain.execute("insert into embedding_space values ('synthetic/1', 128)", [])?;
    let (mut encrypted_times, mut plain_times) = (Vec::new(), Vec::new());
    for at in 0..PICTURED {
        let samples: Vec<NewSample> = (0..TEMPLATES)
            .map(|n| {
                let sample = sample(at * TEMPLATES + n, &space)?;
                Ok(NewSample { picture: Some(picture.clone()), ..sample })
            })
            .collect::<Result<_, limen::embedding::EmbeddingError>>()?;
        let start = Instant::now();
        plain_enrolment(&mut plain, &plain_folder, at, &samples)?;
        plain_times.push(start.elapsed());
        let subject = EnrolmentTarget::New(SubjectName::new(&format!("subject {at}"))?);
        let start = Instant::now();
        store.enrol(&Enrolment { subject, samples })?;
        encrypted_times.push(start.elapsed());
    }
    println!("one enrolment with {TEMPLATES} pictures of {} bytes", picture.jpeg().len());
    println!("  as it is, encrypted                     {}", summary(&mut encrypted_times));
    println!("  unencrypted                             {}", summary(&mut plain_times));
    let share = |times: &[Duration]| times[times.len() / 2].as_secs_f64();
    println!(
        "  encrypted takes so many times as long   {:.2}",
        share(&encrypted_times) / share(&plain_times)
    );
    Ok(())
}

fn plain_enrolment(
    plain: &mut Connection,
    folder: &Path,
    at: u64,
    samples: &[NewSample],
) -> Result<(), Box<dyn std::error::Error>> {
    let transaction = plain.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    let id = u128::from(at).to_be_bytes();
    let name = format!("subject {at}");
    transaction.execute(
        "insert into subject (id, name, name_key, created_at, updated_at) values (?1, ?2, ?2, 1, 1)",
        (id, &name),
    )?;
    for word in name.split(' ') {
        transaction.execute("insert into subject_word values (?1, ?2)", (word, id))?;
    }
    for (n, sample) in samples.iter().enumerate() {
        transaction.execute("insert into sample values (null, ?1, 'file', 0.9, 60, 10, 0, 0, 0, 1)", [id])?;
        let sample_id = transaction.last_insert_rowid();
        let new = folder.join("new");
        let mut file = File::create(&new)?;
        file.write_all(sample.picture.as_ref().map_or(&[], |picture| picture.jpeg()))?;
        file.sync_all()?;
        std::fs::rename(&new, folder.join(format!("{at}-{n}")))?;
        let mut name = [0; 32];
        name[..8].copy_from_slice(&sample_id.to_le_bytes());
        transaction.execute("insert into picture (sample, file) values (?1, ?2)", (sample_id, name))?;
        let values: Vec<u8> = sample.embedding.values().iter().flat_map(|v| v.to_le_bytes()).collect();
        transaction.execute(
            "insert into template values (null, ?1, ?2, 'synthetic/1', 128, ?3, 1)",
            (sample_id, id, values),
        )?;
    }
    File::open(folder)?.sync_all()?;
    transaction.commit()?;
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
