//! Unknown faces: what is kept of visitors nobody knows, where the operator wants that, and for how
//! short a time.
//!
//! Off by default (`sightings.keep`), since it makes biometric data of passers-by. When on, each visit that
//! ends unknown leaves one [`Sighting`], its best. Sightings that look alike form a group with a number
//! that stays, so that an operator names somebody once and not once a picture. Groups are made here by
//! `grouping`; keeping them, and forgetting them again, is [`SightingStore`]'s, which lives on the thread
//! `store`. Switched off, what was kept is erased at the next start.

mod grouping;
mod store;

use std::time::Duration;

use crate::clock::UnixMillis;
use crate::config::Config;
use crate::embedding::Embedding;
use crate::frame::RgbImage;
use crate::gallery::SampleQuality;
use crate::models::Thresholds;

pub use grouping::{GroupingThresholds, Groups, MAX_EXEMPLARS, SightingGroupId, redundant};
pub(crate) use store::sightings_schema;
pub use store::{
    GroupCursor, GroupRecord, KeptSighting, SIGHTINGS_FILE, SightingError, SightingLimits, SightingStore,
    erase_files,
};

/// The best look at a visitor nobody knows. Biometric data: shown nowhere, wiped when dropped.
#[derive(Clone)]
pub struct Sighting {
    /// When the frame was captured.
    pub captured_at: UnixMillis,
    /// The face's embedding.
    pub embedding: Embedding,
    /// How usable the sample is.
    pub quality: SampleQuality,
    /// The face with what is around it, enough to make another embedding of it later.
    pub crop: RgbImage,
}

impl std::fmt::Debug for Sighting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sighting(..)")
    }
}

/// What is kept of unknown faces by the settings; `None`: nothing.
pub fn limits(config: &Config, in_force: &Thresholds) -> Option<SightingLimits> {
    let settings = &config.sightings;
    settings.keep.then(|| SightingLimits {
        keep: Duration::from_secs(3_600 * u64::from(settings.keep_hours)),
        most: settings.maximum,
        grouping: GroupingThresholds::from(in_force),
    })
}
