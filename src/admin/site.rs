//! What handlers work with.

use std::sync::Arc;

use tokio::sync::Semaphore;

use super::live::LiveView;
use crate::clock::Clock;
use crate::event_store::StoreHandle;
use crate::http::{Signer, SnapshotShelf};
use crate::live::{LiveChannel, LookChannel};
use crate::metrics::{Dashboard, Metrics};
use crate::status::Status;

/// Handles to everything a page may show or change. Each is cheap to clone.
pub(crate) struct Site {
    /// What the device tells about itself.
    pub(crate) dashboard: Arc<Dashboard>,
    /// Where answers are counted.
    pub(crate) metrics: Arc<Metrics>,
    /// How the parts are doing.
    pub(crate) status: Status,
    /// The databases.
    pub(crate) store: StoreHandle,
    /// What goes on right now.
    pub(crate) live: LiveChannel,
    /// The newest look with its picture.
    pub(crate) looks: LookChannel,
    /// The same as viewers get it.
    pub(crate) view: Arc<LiveView>,
    /// Places of those who watch events.
    pub(crate) event_watchers: Arc<Semaphore>,
    /// Signed addresses of pictures.
    pub(crate) links: Arc<Signer>,
    /// Pictures made on command.
    pub(crate) shelf: Arc<SnapshotShelf>,
    /// The time.
    pub(crate) clock: Arc<dyn Clock>,
}
