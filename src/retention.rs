//! What was kept for long enough and erased: per class of data, when it was looked last, and what went. Written by
//! whoever erases, read by the page and the metrics. Counts since the start of the program; it names nobody.

use std::sync::Mutex;

use schemars::JsonSchema;
use serde::Serialize;

use crate::clock::UnixMillis;

/// A class of data with an end of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum KeptClass {
    /// People who are enrolled, with everything about them.
    Subjects,
    /// Pictures of their samples.
    Pictures,
    /// Who came when.
    Events,
    /// Faces kept with events.
    EventPictures,
    /// Faces of visitors nobody knows.
    UnknownFaces,
    /// Who changed what.
    Audit,
}

impl KeptClass {
    /// Every class.
    pub const ALL: [Self; 6] =
        [Self::Subjects, Self::Pictures, Self::Events, Self::EventPictures, Self::UnknownFaces, Self::Audit];

    /// Its name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Subjects => "subjects",
            Self::Pictures => "pictures",
            Self::Events => "events",
            Self::EventPictures => "event_pictures",
            Self::UnknownFaces => "unknown_faces",
            Self::Audit => "audit",
        }
    }
}

/// What became of one class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Retained {
    /// When it was looked last whether something is to go.
    #[schemars(with = "Option<i64>")]
    pub looked_at: Option<UnixMillis>,
    /// When something went last, since the program started.
    #[schemars(with = "Option<i64>")]
    pub erased_at: Option<UnixMillis>,
    /// How much went since the program started.
    pub erased: u64,
}

/// What became of all of them.
#[derive(Debug, Default)]
pub struct RetentionLog(Mutex<[Retained; KeptClass::ALL.len()]>);

impl RetentionLog {
    /// It was looked, and so much went.
    pub fn note(&self, class: KeptClass, erased: u64, now: UnixMillis) {
        // Numbers are never half written.
        let mut all = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let retained = &mut all[class as usize];
        retained.looked_at = Some(now);
        if erased > 0 {
            retained.erased_at = Some(now);
            retained.erased += erased;
        }
    }

    /// What became of one.
    pub fn of(&self, class: KeptClass) -> Retained {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())[class as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looking_and_erasing_are_told_apart() {
        let log = RetentionLog::default();
        log.note(KeptClass::Events, 3, UnixMillis(1));
        log.note(KeptClass::Events, 0, UnixMillis(2));
        let (looked_at, erased_at) = (Some(UnixMillis(2)), Some(UnixMillis(1)));
        assert_eq!(log.of(KeptClass::Events), Retained { looked_at, erased_at, erased: 3 });
        assert_eq!(log.of(KeptClass::Audit), Retained::default());
    }
}
