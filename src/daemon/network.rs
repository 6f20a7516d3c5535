//! The thread `network`: MQTT and the web server, as tasks of one runtime.
//!
//! The runtime has one thread: nothing on it computes, and blocking work goes to the pool. Each task
//! that must move has a heartbeat; a task that ends before it is told to ends the thread, and with it
//! the program.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::commands::Commands;
use crate::clock::Clock;
use crate::config::Config;
use crate::event_store::StoreHandle;
use crate::http::{self, Signer, SnapshotShelf};
use crate::live::{LiveChannel, LookChannel};
use crate::metrics::{Dashboard, Metrics};
use crate::mqtt::{self, Beat, Hooks, MqttParts, MqttSettings, MqttStats, Timing};
use crate::status::{Part, Status};
use crate::supervisor::{Heartbeat, Supervisor};
use crate::vault::{KeyPurpose, RootKey};

/// How often the runtime shows that it turns.
const BEAT: Duration = Duration::from_millis(500);
/// Commands that need the camera and wait for it.
const COMMANDS: usize = 8;

/// What the tasks are made of.
pub(super) struct NetworkParts {
    pub(super) dashboard: Arc<Dashboard>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) mqtt_stats: Arc<MqttStats>,
    pub(super) store: StoreHandle,
    pub(super) live: LiveChannel,
    pub(super) looks: LookChannel,
    pub(super) status: Status,
    pub(super) clock: Arc<dyn Clock>,
}

impl NetworkParts {
    /// Starts the thread.
    pub(super) fn spawn(
        self,
        supervisor: &mut Supervisor,
        silence: Duration,
        config: &Config,
        key: &RootKey,
        cancel: CancellationToken,
    ) -> Result<()> {
        let listen = config.http.address();
        let public_url = listen.and(config.http.public_url.as_deref());
        let links = Arc::new(Signer::new(key.subkey(KeyPurpose::Links), public_url));
        let shelf = Arc::new(SnapshotShelf::new(Arc::clone(&self.clock)));

        let broker = MqttSettings::new(config).map(|settings| {
            let mut beat = |name| -> Beat {
                let beat = supervisor.watch(name, silence);
                Arc::new(move || beat.beat())
            };
            let (commands, inbox) = mpsc::channel(COMMANDS);
            let commands_task = Commands {
                inbox,
                looks: self.looks.clone(),
                shelf: Arc::clone(&shelf),
                public_url: public_url.map(str::to_owned),
            };
            let parts = MqttParts {
                settings,
                store: self.store.clone(),
                live: self.live.clone(),
                status: self.status.clone(),
                clock: Arc::clone(&self.clock),
                stats: Arc::clone(&self.mqtt_stats),
                hooks: Hooks {
                    poll_beat: beat("mqtt-poll"),
                    publish_beat: beat("mqtt-publish"),
                    health: {
                        let dashboard = Arc::clone(&self.dashboard);
                        // Numbers, words and lists always have a JSON form.
                        Arc::new(move || serde_json::to_value(dashboard.health()).unwrap_or_default())
                    },
                    picture_url: {
                        let (links, clock) = (Arc::clone(&links), Arc::clone(&self.clock));
                        Arc::new(move |event| links.image_url(event, clock.wall()))
                    },
                    published: {
                        let metrics = Arc::clone(&self.metrics);
                        Arc::new(move |since_capture| metrics.observe_publish(since_capture))
                    },
                    commands: Some(commands),
                },
                timing: Timing::default(),
            };
            (parts, commands_task)
        });
        let server = listen.map(|listen| {
            let parts = http::Parts {
                dashboard: self.dashboard,
                metrics: self.metrics,
                status: self.status.clone(),
                crops: http::crops_of(self.store),
                links,
                shelf,
                clock: self.clock,
            };
            (listen, parts)
        });
        if broker.is_none() {
            self.status.off(Part::Broker);
        }
        if server.is_none() {
            self.status.off(Part::Http);
        }
        supervisor.spawn("network", silence, move |beat| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .context("starting the network runtime")?;
            let result = runtime.block_on(serve(broker, server, beat, cancel));
            // A name server that does not answer holds a thread of the pool, which is not waited for.
            runtime.shutdown_background();
            result
        })?;
        Ok(())
    }
}

async fn serve(
    broker: Option<(MqttParts, Commands)>,
    server: Option<(std::net::SocketAddr, http::Parts)>,
    beat: &Heartbeat,
    cancel: CancellationToken,
) -> Result<()> {
    let mut tasks = JoinSet::new();
    if let Some((parts, commands)) = broker {
        let ending = cancel.clone();
        tasks.spawn(async move {
            mqtt::run(parts, ending).await.context("the task `mqtt-publish`")?;
            Ok("mqtt")
        });
        tasks.spawn(commands.run(cancel.clone()));
    }
    if let Some((listen, parts)) = server {
        let ending = cancel.clone();
        tasks.spawn(async move {
            http::run(listen, parts, ending).await;
            Ok("http")
        });
    }
    loop {
        beat.beat();
        tokio::select! {
            () = tokio::time::sleep(BEAT) => {
                if cancel.is_cancelled() && tasks.is_empty() {
                    return Ok(());
                }
            }
            Some(ended) = tasks.join_next() => {
                let name: &str = ended.map_err(|error| anyhow!("a network task panicked: {error}"))??;
                if !cancel.is_cancelled() {
                    return Err(anyhow!("the task `{name}` ended although nobody told it to"));
                }
                if tasks.is_empty() {
                    return Ok(());
                }
            }
        }
    }
}
