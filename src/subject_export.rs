//! Everything that is kept of one subject, in one zip, for whoever asks what that is (GDPR, article 15).
//!
//! `data.json` holds what the databases say, `pictures/` the picture of each sample, `events/` the faces kept
//! with events, `README.txt` what all of it means. Nothing of anybody else is in it: events of the subject
//! name no other candidate. The form of `data.json` is described in `docs/data-protection.md`.
//!
//! Blocking; works on connections of its own, beside a running service.

use std::io::{Seek, Write};

use serde::Serialize;
use serde_json::{Value, json};
use thiserror::Error;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use crate::clock::{UnixMillis, rfc3339};
use crate::door::credential::CredentialKind;
use crate::event_store::{EventFilter, EventStore, EventStoreError, RecordedEvent};
use crate::gallery::{Consent, GalleryError, GalleryStore, ListedCredential, SampleRecord, SubjectId};

/// Version of the form of `data.json`.
const FORMAT: u32 = 1;
/// Events read at a time.
const PAGE: usize = 200;

const README: &str = "\
This is everything that this device keeps of one person, as of the time in data.json.

data.json
  subject         name, notes, groups, dates. Times are in UTC.
  consent         who agreed to the recognition, when, how, and to which version of the text.
  samples         each picture that was given or taken for recognition, with its measurements.
  templates       the numbers that a network made of each sample, by which the person is recognised; numbers of
                  different networks cannot be compared.
  counter_examples  how many faces of others are noted as not this person. They are data of those others, and
                  not in here.
  events          when the person was recognised, and how sure that was.
pictures/         the picture kept of a sample, by its number.
events/           the face kept with an event, by the event's id, where that is switched on.

Unknown faces that nobody has named are nobody's as far as the device knows, and are not in here.
";

/// Why there is no export.
#[derive(Debug, Error)]
pub enum SubjectExportError {
    /// The gallery cannot be read, or the subject is not in it.
    #[error(transparent)]
    Gallery(#[from] GalleryError),
    /// The events cannot be read.
    #[error(transparent)]
    Events(#[from] EventStoreError),
    /// The file cannot be written.
    #[error("cannot write the export: {0}")]
    Zip(#[from] zip::result::ZipError),
    /// The file cannot be written.
    #[error("cannot write the export: {0}")]
    Io(#[from] std::io::Error),
}

/// What an export holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SubjectExport {
    /// Samples.
    pub samples: u64,
    /// Pictures of samples.
    pub pictures: u64,
    /// Pictures that should be there and cannot be read.
    pub pictures_missing: u64,
    /// Events.
    pub events: u64,
    /// Faces kept with events.
    pub faces: u64,
}

/// Writes the export. What could not be finished is no zip, so that nobody takes it for whole.
pub fn export_subject(
    id: SubjectId,
    gallery: &GalleryStore,
    events: &EventStore,
    now: UnixMillis,
    to: impl Write + Seek,
) -> Result<SubjectExport, SubjectExportError> {
    let subject = gallery.subject(id)?.ok_or(GalleryError::SubjectUnknown)?;
    let mut zip = ZipWriter::new(to);
    let text = SimpleFileOptions::default();
    // Pictures are compressed as they are.
    let picture = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    let mut done = SubjectExport::default();
    zip.start_file("README.txt", text)?;
    zip.write_all(README.as_bytes())?;

    let records = gallery.samples_of(id)?;
    let mut samples = records.clone();
    samples.sort_by_key(|sample| sample.id);
    samples.dedup_by_key(|sample| sample.id);
    for sample in samples.iter().filter(|sample| sample.picture) {
        match gallery.picture(sample.id) {
            Ok(Some(jpeg)) => {
                zip.start_file(format!("pictures/sample-{}.jpg", sample.id.0), picture)?;
                zip.write_all(&jpeg)?;
                done.pictures += 1;
            }
            Ok(None) | Err(GalleryError::Media(_)) => done.pictures_missing += 1,
            Err(error) => return Err(error.into()),
        }
    }
    let templates: Vec<Value> = gallery
        .template_values_of(id)?
        .into_iter()
        .map(|(template, space, values)| json!({ "template": template, "embedding_space": space, "values": values }))
        .collect();

    let filter = EventFilter { subject: Some(id), ..EventFilter::default() };
    let (mut listed, mut after) = (Vec::new(), None);
    loop {
        let page = events.list(&filter, after, PAGE)?;
        for event in &page.events {
            if let Some(jpeg) = events.crop(event.id)? {
                zip.start_file(format!("events/{}.jpg", event.id), picture)?;
                zip.write_all(&jpeg)?;
                done.faces += 1;
            }
            listed.push(as_event(event));
        }
        match page.next {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    done.samples = samples.len() as u64;
    done.events = listed.len() as u64;
    let data = json!({
        "format": FORMAT,
        "exported_at": rfc3339(now),
        "subject": {
            "id": subject.id.to_string(),
            "name": subject.name.as_str(),
            "notes": subject.notes,
            "groups": subject.groups.iter().map(|(_, name)| name.as_str()).collect::<Vec<_>>(),
            "created_at": rfc3339(subject.created_at),
            "updated_at": rfc3339(subject.updated_at),
            "last_seen_at": rfc3339(subject.last_seen_at),
            "recognised_until": subject.expires_at.map(rfc3339),
            "keep_unseen_days": subject.keep_unseen_days,
            "sensor_in_home_automation": subject.announced,
        },
        "consent": gallery.consent_of(id)?.as_ref().map(as_consent),
        "samples": samples.iter().map(as_sample).collect::<Vec<_>>(),
        "templates": templates,
        "counter_examples": gallery.all_counter_examples_of(id)?,
        "pins_and_passes": gallery.credentials()?.iter().filter_map(|listed| as_credential(listed, id)).collect::<Vec<_>>(),
        "events": listed,
    });
    zip.start_file("data.json", text)?;
    serde_json::to_writer_pretty(&mut zip, &data).map_err(std::io::Error::from)?;
    // Erased while this ran: half of it would look whole.
    if gallery.subject(id)?.is_none() {
        return Err(GalleryError::SubjectUnknown.into());
    }
    zip.finish()?.flush()?;
    Ok(done)
}

/// Without what would open the door: a PIN is not known here, and the code of a pass is nobody else's business.
fn as_credential(listed: &ListedCredential, id: SubjectId) -> Option<Value> {
    let credential = &listed.credential;
    let kind = match credential.kind {
        CredentialKind::Pin(_) => "pin",
        CredentialKind::Pass { .. } => "pass",
    };
    (credential.subject == Some(id)).then(|| {
        json!({
            "number": credential.id,
            "kind": kind,
            "created_at": rfc3339(listed.created_at),
            "last_used_at": listed.last_used_at.map(rfc3339),
            "valid_from": credential.valid_from.map(rfc3339),
            "valid_until": credential.valid_until.map(rfc3339),
            "uses_left": credential.uses_left,
        })
    })
}

fn as_consent(consent: &Consent) -> Value {
    json!({
        "given_at": rfc3339(consent.given_at),
        "given_by": consent.given_by,
        "way": consent.way,
        "text_version": consent.text_version,
        "recorded_at": rfc3339(consent.recorded_at),
        "recorded_by": consent.recorded_by,
    })
}

fn as_sample(sample: &SampleRecord) -> Value {
    let quality = sample.quality;
    json!({
        "sample": sample.id.0,
        "origin": sample.origin.as_str(),
        "enrolled_at": rfc3339(sample.enrolled_at),
        "quality": quality.score,
        "eye_distance_px": quality.eye_distance_px,
        "sharpness": quality.sharpness,
        "yaw_deg": quality.yaw_deg,
        "pitch_deg": quality.pitch_deg,
        "roll_deg": quality.roll_deg,
        "picture": sample.picture,
    })
}

fn as_event(event: &RecordedEvent) -> Value {
    json!({
        "id": event.id.to_string(),
        "kind": event.kind,
        "captured_at": rfc3339(event.captured_at),
        "decided_at": rfc3339(event.decided_at),
        "score": event.score,
        "margin": event.margin,
        "quality": event.quality,
        "looks": event.looks,
        "probes": event.probes,
        "seen_ms": event.seen_ms,
        "verdict": event.verdict,
        "reason": event.reason,
        "door": event.door,
        "published_at": event.published_at.map(rfc3339),
        "picture": event.has_crop,
    })
}
