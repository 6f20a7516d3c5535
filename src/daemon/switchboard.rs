//! Settings that take effect while the daemon runs: each goes to the thread or task that it is about.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::{camera_settings, retention};
use crate::admin::faces::Faces;
use crate::camera::capture::CaptureControl;
use crate::config::{Config, LogLevel};
use crate::enrol::EnrolmentRules;
use crate::event_store::StoreHandle;
use crate::models::Thresholds;
use crate::recogniser::RecogniserSettings;
use crate::sightings;

/// Where changed settings go.
pub(super) struct Switchboard {
    /// The networks' own thresholds.
    pub(super) model: Thresholds,
    pub(super) recogniser: watch::Sender<RecogniserSettings>,
    pub(super) capture: CaptureControl,
    pub(super) store: StoreHandle,
    /// Still pictures.
    pub(super) faces: Arc<Faces>,
    /// The broker's tasks.
    pub(super) network: watch::Sender<Arc<Config>>,
    pub(super) log_level: Box<dyn Fn(LogLevel) + Send + Sync>,
}

impl Switchboard {
    /// Applies a configuration that has been checked.
    pub(super) fn apply(&self, config: &Config) {
        match config.thresholds(&self.model) {
            Ok(thresholds) => {
                if let Err(refusal) = self.store.keep_sightings(sightings::limits(config, &thresholds)) {
                    tracing::warn!(
                        "what is kept of unknown faces changes with the next start only: {refusal}"
                    );
                }
                self.faces.configure(config, thresholds);
                if let Err(refusal) = self.store.enrol_by(EnrolmentRules::new(config, &thresholds)) {
                    tracing::warn!("the rules of enrolment change with the next start only: {refusal}");
                }
                let settings = RecogniserSettings::new(config, &thresholds);
                self.recogniser.send_if_modified(|now| {
                    *now != settings && {
                        *now = settings;
                        true
                    }
                });
            }
            Err(error) => tracing::error!("settings that were checked contradict each other: {error}"),
        }
        if let Err(error) = self.capture.reopen(camera_settings(config)) {
            tracing::error!("settings that were checked are refused by the camera: {error}");
        }
        let lifetime = Duration::from_millis(config.events.expire_after_ms.into());
        if let Err(refusal) = self.store.keep(retention(config), lifetime, config.mqtt.host.is_some()) {
            tracing::warn!("how long events are kept changes with the next start only: {refusal}");
        }
        if let Err(refusal) = self.store.keep_unseen(config.privacy.erase_unseen_days) {
            tracing::warn!("how long subjects are kept unseen changes with the next start only: {refusal}");
        }
        self.network.send_replace(Arc::new(config.clone()));
        (self.log_level)(config.log.level);
    }
}
