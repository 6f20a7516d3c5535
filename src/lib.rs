//! limen: local face recognition for a mounted door or kiosk camera.
//!
//! One frame travels one way, from the lens to the decision. The stages, in that order, are:
//!
//! | module | takes | gives |
//! | --- | --- | --- |
//! | [`camera`] | a V4L2 device or a replayed recording | [`frame::RawFrame`] |
//! | `decode` | the camera's bytes | RGB pixels: a small overview, and full-size regions on demand |
//! | `detect` | the overview | `detect::Detection` in source-image pixels |
//! | [`track`] | detections of successive frames | which face is which, and which of them needs a look |
//! | [`landmarks`] | the region around one detection | [`landmarks::Landmarks`] in source-image pixels |
//! | [`quality`], [`align`] | landmarks and pixels | [`quality::Quality`] and a 112x112 crop |
//! | [`embed`] | the aligned crop | [`embedding::Embedding`] |
//! | [`gallery`] | an embedding | candidates, best subject first |
//! | [`identify`] | candidates | [`identify::Decision`] |
//! | [`visitors`] | probes with their decisions | which visit they belong to, and its [`visit::Verdict`] |
//!
//! What becomes of a verdict:
//!
//! | module | takes | gives |
//! | --- | --- | --- |
//! | [`event`] | verdicts and ended visits | [`event::IdentityEvent`] |
//! | [`event_store`] | events | the same on the disk, and the outbox to the broker |
//! | [`mqtt`] | the outbox, and what is [`live`] | messages; commands in return |
//! | [`http`] | connections | requests to [`admin`], [`metrics`] |
//! | [`admin`] | requests of people and programs, each checked in one place | answers; orders to the store and the settings |
//!
//! What serves the admin page beside the stream:
//!
//! | module | takes | gives |
//! | --- | --- | --- |
//! | [`examiner`] | still pictures, at a lower priority than the stream | their faces, with measurements and embeddings |
//! | [`guide`] | examined frames of somebody who enrols | what to do next, and which frames are kept |
//! | [`enrol`], [`assessment`] | samples | templates of a subject; what each is worth |
//! | [`sightings`] | visits that ended unknown, where they are kept | groups of unknown faces |
//! | [`jobs`] | long work: [`import`] ([`archive`], [`spool`]), [`backup`], [`reembed`], [`rekey`] | progress and a report |
//!
//! What keeps personal data safe, and shows that it is gone: [`vault`] (keys), [`database`] and [`media`] (what is
//! encrypted with them), [`erasure`] (the search afterwards), [`subject_export`] (everything kept of one subject).
//!
//! [`change`] and [`cadence`] say which frames are worth that way at all, and [`view`] turns and masks
//! each of them right behind decoding.
//!
//! [`recognise`] strings the perception stages together for one frame, [`daemon`] builds the running
//! appliance around them, and [`models`] and [`litert`] carry the networks. [`supervisor`] watches its
//! threads, [`status`] tells what is degraded, and [`watchdog`] tells systemd.

pub use limen_pixels::{change, clock, decode, frame, geometry, picture};

pub mod admin;
pub mod align;
pub mod appearance;
pub mod archive;
pub mod assessment;
mod backoff;
pub mod backup;
pub mod bench;
pub mod cadence;
pub mod camera;
pub mod config;
pub mod daemon;
pub mod database;
pub mod detect;
pub mod display;
pub mod doctor;
pub mod door;
pub mod draw;
pub mod embed;
pub mod embedding;
pub mod enrol;
pub mod erasure;
pub mod eval;
pub mod event;
pub mod event_store;
pub mod examiner;
pub mod gallery;
pub mod guide;
pub mod http;
pub mod identify;
pub mod import;
pub mod install;
pub mod jobs;
pub mod landmarks;
pub mod litert;
pub mod live;
pub mod machine;
pub mod media;
pub mod metrics;
pub mod models;
pub mod mqtt;
pub mod networks;
pub mod privacy;
pub mod quality;
pub mod reason;
pub mod recognise;
pub mod recogniser;
pub mod reembed;
pub mod rekey;
pub mod retention;
pub mod sample;
pub mod score;
pub mod selftest;
pub mod sightings;
pub mod spool;
pub mod status;
pub mod subject_export;
pub mod supervisor;
pub mod track;
pub mod vault;
pub mod view;
pub mod visit;
pub mod visitors;
pub mod watchdog;
