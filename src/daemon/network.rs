//! The thread `network`: MQTT and the web server, as tasks of one runtime.
//!
//! The runtime has one thread: nothing on it computes, and blocking work goes to the pool. Each task
//! that must move has a heartbeat; a task that ends before it is told to ends the thread, and with it
//! the program.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::broker::BrokerKeeper;
use crate::admin;
use crate::admin::accounts::{AccountStore, Accounts};
use crate::admin::faces::Faces;
use crate::admin::jobs::JobDesk;
use crate::admin::live::LiveView;
use crate::admin::overview::ModelsView;
use crate::admin::settings::SettingsDesk;
use crate::admin::site::{EVENT_WATCHERS, EXPORTS, IMPORTS, Site};
use crate::admin::socket::Places;
use crate::clock::Clock;
use crate::config::Config;
use crate::door::thread::DoorHandle;
use crate::event_store::StoreHandle;
use crate::http::{self, Signer, SnapshotShelf, Tls};
use crate::live::{LiveChannel, LookChannel};
use crate::metrics::{Dashboard, Metrics};
use crate::mqtt::{Beat, MqttStats};
use crate::status::{Part, Status};
use crate::supervisor::{Heartbeat, Supervisor};
use crate::vault::{KeyPurpose, RootKey, StateFolder};

/// How often the runtime shows that it turns.
const BEAT: Duration = Duration::from_millis(500);

/// Threads for blocking work. What may hold one for long is bounded far below this where it begins; the
/// unit allows the whole program 64 threads (`TasksMax`).
const BLOCKING_THREADS: usize = 16;

/// What the tasks are made of.
pub(super) struct NetworkParts {
    pub(super) dashboard: Arc<Dashboard>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) mqtt_stats: Arc<MqttStats>,
    pub(super) store: StoreHandle,
    pub(super) live: LiveChannel,
    pub(super) looks: LookChannel,
    pub(super) faces: Arc<Faces>,
    pub(super) door: DoorHandle,
    pub(super) status: Status,
    pub(super) clock: Arc<dyn Clock>,
    /// The settings in force.
    pub(super) config: watch::Receiver<Arc<Config>>,
    /// Where they are changed.
    pub(super) settings: Arc<SettingsDesk>,
    pub(super) models: ModelsView,
    /// What long work is started with.
    pub(super) work: JobDesk,
}

impl NetworkParts {
    /// Starts the thread.
    pub(super) fn spawn(
        self,
        supervisor: &mut Supervisor,
        silence: Duration,
        config: &Config,
        state: &StateFolder,
        key: &RootKey,
        cancel: CancellationToken,
    ) -> Result<()> {
        let listen = config.http.address();
        let public_url = listen.and(config.http.public_url.as_deref());
        let links = Arc::new(Signer::new(key.subkey(KeyPurpose::Links), public_url));
        let shelf = Arc::new(SnapshotShelf::new(Arc::clone(&self.clock)));

        let mut beat = |name| -> Beat {
            let beat = supervisor.watch(name, silence);
            Arc::new(move || beat.beat())
        };
        let broker = BrokerKeeper {
            config: self.config.clone(),
            poll_beat: beat("mqtt-poll"),
            publish_beat: beat("mqtt-publish"),
            dashboard: Arc::clone(&self.dashboard),
            metrics: Arc::clone(&self.metrics),
            stats: Arc::clone(&self.mqtt_stats),
            store: self.store.clone(),
            live: self.live.clone(),
            looks: self.looks.clone(),
            door: self.door.clone(),
            status: self.status.clone(),
            clock: Arc::clone(&self.clock),
            links: Arc::clone(&links),
            shelf: Arc::clone(&shelf),
            public_url: public_url.map(str::to_owned),
        };
        let mut server = None;
        if let Some(listen) = listen {
            match self.accounts(config, state, key) {
                Ok(accounts) => {
                    let tls = Arc::new(Tls::new(&config.http, state, Arc::clone(&self.clock)));
                    let site = self.site(config, accounts, tls, links, shelf);
                    server = Some((listen, config.http.plain, site));
                }
                // Recognition goes on without: a damaged file of accounts must keep nobody out of the door.
                Err(error) => self.status.degraded(Part::Http, format!("{error:#}")),
            }
        } else {
            self.status.off(Part::Http);
        }
        supervisor.spawn("network", silence, move |beat| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .max_blocking_threads(BLOCKING_THREADS)
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

impl NetworkParts {
    /// Who may use the admin interface. Says how the first owner is made while there is none.
    fn accounts(&self, config: &Config, state: &StateFolder, key: &RootKey) -> Result<Arc<Accounts>> {
        let mut store = AccountStore::open(state, key, Arc::clone(&self.clock))?;
        if !store.has_owner()? {
            let code = store.new_setup_code()?;
            // The one secret that stands in the log: it works once, and only while nobody owns the device.
            tracing::warn!(
                "nobody owns this device yet: open {}/setup and enter the code {}",
                http::page_address(&config.http).unwrap_or_default(),
                code.expose()
            );
        }
        Ok(Arc::new(Accounts::new(store, config, Arc::clone(&self.metrics), Arc::clone(&self.clock))?))
    }

    fn site(
        &self,
        config: &Config,
        accounts: Arc<Accounts>,
        tls: Arc<Tls>,
        links: Arc<Signer>,
        shelf: Arc<SnapshotShelf>,
    ) -> Arc<Site> {
        Arc::new(Site {
            device_name: config.device.name.clone(),
            accounts,
            dashboard: Arc::clone(&self.dashboard),
            metrics: Arc::clone(&self.metrics),
            status: self.status.clone(),
            store: self.store.clone(),
            live: self.live.clone(),
            looks: self.looks.clone(),
            view: Arc::new(LiveView::new(self.looks.clone(), Arc::clone(&self.clock))),
            faces: Arc::clone(&self.faces),
            door: self.door.clone(),
            event_watchers: Places::new(EVENT_WATCHERS),
            exports: Arc::new(Semaphore::new(EXPORTS)),
            imports: Semaphore::new(IMPORTS),
            settings: Arc::clone(&self.settings),
            models: self.models.clone(),
            work: self.work.clone(),
            asking_cameras: Semaphore::new(1),
            tls,
            links,
            shelf,
            readings: Semaphore::new(1),
            clock: Arc::clone(&self.clock),
        })
    }
}

async fn serve(
    broker: BrokerKeeper,
    server: Option<(SocketAddr, bool, Arc<Site>)>,
    beat: &Heartbeat,
    cancel: CancellationToken,
) -> Result<()> {
    let mut tasks = JoinSet::new();
    tasks.spawn(broker.run(cancel.clone()));
    if let Some((listen, plain, site)) = server {
        let parts = http::Parts {
            metrics: Arc::clone(&site.metrics),
            status: site.status.clone(),
            sweep: site.sweep(),
            tls: Arc::clone(&site.tls),
            plain,
            local: http::is_local,
            clock: Arc::clone(&site.clock),
            router: admin::router(Arc::clone(&site)),
        };
        let ending = cancel.clone();
        tasks.spawn(async move {
            http::run(listen, parts, ending).await;
            Ok("http")
        });
        let ending = cancel.clone();
        tasks.spawn(async move {
            let retired = site.store.retired();
            tokio::join!(
                Arc::clone(&site.accounts).run(ending.clone()),
                Arc::clone(&site.accounts).note_retired(retired, ending)
            );
            Ok("accounts")
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
