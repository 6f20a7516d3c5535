//! How the door's hardware is doing: several lines, one part of the status.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use crate::status::{Part, Status};

/// Problems by what has them. Cheap to clone.
#[derive(Clone, Debug)]
pub struct DoorCondition {
    problems: Arc<Mutex<BTreeMap<&'static str, String>>>,
    status: Status,
}

impl DoorCondition {
    /// Nothing known to be wrong.
    pub fn new(status: Status) -> Self {
        Self { problems: Arc::default(), status }
    }

    /// This one works.
    pub fn works(&self, what: &'static str) {
        self.change(|problems| drop(problems.remove(what)));
    }

    /// This one does not.
    pub fn fails(&self, what: &'static str, reason: String) {
        self.change(|problems| drop(problems.insert(what, reason)));
    }

    fn change(&self, change: impl FnOnce(&mut BTreeMap<&'static str, String>)) {
        let mut problems = self.problems.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        change(&mut problems);
        if problems.is_empty() {
            self.status.working(Part::Door);
        } else {
            let all: Vec<String> =
                problems.iter().map(|(what, reason)| format!("{what}: {reason}")).collect();
            self.status.degraded(Part::Door, all.join("; "));
        }
    }
}
