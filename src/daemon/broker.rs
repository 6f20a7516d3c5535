//! The task `mqtt`: keeps the tasks of the broker running by the settings in force, and starts them anew
//! when those have changed.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::commands::Commands;
use crate::clock::Clock;
use crate::config::Config;
use crate::door::thread::DoorHandle;
use crate::event_store::StoreHandle;
use crate::http::{Signer, SnapshotShelf};
use crate::live::{LiveChannel, LookChannel};
use crate::metrics::{Dashboard, Metrics};
use crate::mqtt::{self, Beat, Hooks, MqttParts, MqttSettings, MqttStats, Timing};
use crate::status::{Part, Status};

/// Commands that need the camera and wait for it.
const COMMANDS: usize = 8;
/// Without a broker the task shows that often that it is alive.
const BEAT: Duration = Duration::from_millis(500);

/// The task, not yet running.
pub(super) struct BrokerKeeper {
    /// The settings in force.
    pub(super) config: watch::Receiver<Arc<Config>>,
    pub(super) poll_beat: Beat,
    pub(super) publish_beat: Beat,
    pub(super) dashboard: Arc<Dashboard>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) stats: Arc<MqttStats>,
    pub(super) store: StoreHandle,
    pub(super) live: LiveChannel,
    pub(super) looks: LookChannel,
    pub(super) door: DoorHandle,
    pub(super) status: Status,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) links: Arc<Signer>,
    pub(super) shelf: Arc<SnapshotShelf>,
    /// How others reach the web server, where they do.
    pub(super) public_url: Option<String>,
}

impl BrokerKeeper {
    /// Keeps the tasks running until cancelled.
    pub(super) async fn run(mut self, cancel: CancellationToken) -> anyhow::Result<&'static str> {
        while !cancel.is_cancelled() {
            let settings = MqttSettings::new(&self.config.borrow_and_update());
            match settings {
                Some(settings) => self.run_with(settings, &cancel).await?,
                None => {
                    self.status.off(Part::Broker);
                    self.wait(&cancel).await;
                }
            }
        }
        Ok("mqtt")
    }

    /// Waits for other settings.
    async fn wait(&mut self, cancel: &CancellationToken) {
        loop {
            (self.poll_beat)();
            (self.publish_beat)();
            tokio::select! {
                () = cancel.cancelled() => return,
                changed = self.config.changed() => match changed {
                    Ok(()) => return,
                    // Nobody is left who could change them.
                    Err(_) => tokio::time::sleep(BEAT).await,
                },
                () = tokio::time::sleep(BEAT) => {}
            }
        }
    }

    /// Runs the tasks until cancelled, or until the settings are other ones and they have ended in order.
    async fn run_with(&mut self, settings: MqttSettings, cancel: &CancellationToken) -> anyhow::Result<()> {
        let ending = cancel.child_token();
        let (commands, inbox) = mpsc::channel(COMMANDS);
        let commands_task = Commands {
            inbox,
            looks: self.looks.clone(),
            shelf: Arc::clone(&self.shelf),
            public_url: self.public_url.clone(),
        };
        let parts = self.parts(settings.clone(), commands);
        let both = async {
            let (mqtt, commands) =
                tokio::join!(mqtt::run(parts, ending.clone()), commands_task.run(ending.clone()));
            mqtt.context("the task `mqtt-publish`")?;
            commands.map(|_| ())
        };
        tokio::pin!(both);
        loop {
            tokio::select! {
                ended = &mut both => return ended,
                changed = self.config.changed(), if !ending.is_cancelled() => {
                    let other = changed.is_ok()
                        && MqttSettings::new(&self.config.borrow_and_update()).as_ref() != Some(&settings);
                    if other {
                        tracing::info!("the broker's settings have changed; connecting anew");
                        ending.cancel();
                    } else if changed.is_err() {
                        return both.await;
                    }
                }
            }
        }
    }

    fn parts(&self, settings: MqttSettings, commands: mpsc::Sender<mqtt::CommandRequest>) -> MqttParts {
        MqttParts {
            settings,
            store: self.store.clone(),
            live: self.live.clone(),
            status: self.status.clone(),
            clock: Arc::clone(&self.clock),
            stats: Arc::clone(&self.stats),
            hooks: Hooks {
                poll_beat: Arc::clone(&self.poll_beat),
                publish_beat: Arc::clone(&self.publish_beat),
                health: {
                    let dashboard = Arc::clone(&self.dashboard);
                    // Numbers, words and lists always have a JSON form.
                    Arc::new(move || serde_json::to_value(dashboard.health()).unwrap_or_default())
                },
                picture_url: {
                    let (links, clock) = (Arc::clone(&self.links), Arc::clone(&self.clock));
                    Arc::new(move |event| links.image_url(event, clock.wall()))
                },
                published: {
                    let metrics = Arc::clone(&self.metrics);
                    Arc::new(move |since_capture| metrics.observe_publish(since_capture))
                },
                commands: Some(commands),
                door: Some(self.door.clone()),
            },
            timing: Timing::default(),
        }
    }
}
