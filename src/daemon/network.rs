//! The thread `network`: MQTT and the web server, as tasks of one runtime.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio_util::sync::CancellationToken;

use crate::camera::capture::CaptureShared;
use crate::clock::Clock;
use crate::config::Config;
use crate::event_store::StoreHandle;
use crate::recogniser::RecogniserStats;
use crate::status::{Part, Status};
use crate::supervisor::Supervisor;
use crate::vault::RootKey;

/// What the tasks are made of.
pub(super) struct NetworkParts<'a> {
    pub(super) config: &'a Config,
    pub(super) key: &'a RootKey,
    pub(super) store: StoreHandle,
    pub(super) status: Status,
    pub(super) frames: Arc<CaptureShared>,
    pub(super) stats: Arc<Mutex<RecogniserStats>>,
    pub(super) clock: Arc<dyn Clock>,
}

/// How often the runtime shows that it turns.
const BEAT: Duration = Duration::from_millis(500);

/// Starts the thread.
pub(super) fn spawn(
    supervisor: &mut Supervisor,
    silence: Duration,
    parts: NetworkParts<'_>,
    cancel: CancellationToken,
) -> Result<()> {
    parts.status.off(Part::Broker);
    parts.status.off(Part::Http);
    supervisor.spawn("network", silence, move |beat| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("starting the network runtime")?;
        runtime.block_on(async {
            loop {
                beat.beat();
                tokio::select! {
                    () = cancel.cancelled() => break Ok(()),
                    () = tokio::time::sleep(BEAT) => {}
                }
            }
        })
    })?;
    Ok(())
}
