//! What handlers work with.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

use super::accounts::Accounts;
use super::faces::Faces;
use super::jobs::JobDesk;
use super::live::LiveView;
use super::overview::ModelsView;
use super::problem::Problem;
use super::settings::SettingsDesk;
use super::socket::Places;
use crate::clock::Clock;
use crate::door::thread::DoorHandle;
use crate::event_store::StoreHandle;
use crate::http::{Signer, SnapshotShelf, Tls};
use crate::live::{LiveChannel, LookChannel};
use crate::metrics::{Dashboard, Metrics};
use crate::status::Status;

/// Browsers and programs that watch events at a time.
pub(crate) const EVENT_WATCHERS: usize = 16;

/// Lists and files that are sent at a time while they are made or read: each holds a thread or the store.
pub(crate) const EXPORTS: usize = 2;
/// Archives that come in at a time: each holds a thread and room on the disk.
pub(crate) const IMPORTS: usize = 2;

/// Handles to everything a page may show or change. Each is cheap to clone.
pub(crate) struct Site {
    /// What the device is called.
    pub(crate) device_name: String,
    /// Who may use it.
    pub(crate) accounts: Arc<Accounts>,
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
    /// Still pictures, and what is done with the faces in them.
    pub(crate) faces: Arc<Faces>,
    /// The door.
    pub(crate) door: DoorHandle,
    /// Places of those who watch events.
    pub(crate) event_watchers: Places,
    /// Places of those who fetch events or a job's file.
    pub(crate) exports: Arc<Semaphore>,
    /// Places of those who send an archive.
    pub(crate) imports: Semaphore,
    /// The settings, and where they are changed.
    pub(crate) settings: Arc<SettingsDesk>,
    /// What the device recognises with.
    pub(crate) models: ModelsView,
    /// One asker at a time waits for the cameras' drivers.
    pub(crate) asking_cameras: Semaphore,
    /// Long work.
    pub(crate) work: JobDesk,
    /// The certificate of the web server, for its fingerprint.
    pub(crate) tls: Arc<Tls>,
    /// Signed addresses of pictures.
    pub(crate) links: Arc<Signer>,
    /// Pictures made on command.
    pub(crate) shelf: Arc<SnapshotShelf>,
    /// One reading of `/proc` and `/sys` at a time, so that many askers need no more than one thread.
    pub(crate) readings: Semaphore,
    /// The time.
    pub(crate) clock: Arc<dyn Clock>,
}

impl Site {
    /// A place for whoever fetches what takes long to send.
    pub(super) fn export_place(&self) -> Result<OwnedSemaphorePermit, Problem> {
        Arc::clone(&self.exports).try_acquire_owned().map_err(|_| {
            Problem::busy(format!(
                "{EXPORTS} exports or files are being fetched already; try again when one is done"
            ))
            .retry_after(10)
        })
    }

    /// A place for an archive that comes in.
    pub(super) fn import_place(&self) -> Result<SemaphorePermit<'_>, Problem> {
        self.imports.try_acquire().map_err(|_| {
            Problem::busy(format!("{IMPORTS} archives come in already; try again when one of them has"))
                .retry_after(10)
        })
    }

    /// What drops pictures whose time in memory is over, whether or not anybody asks for them.
    pub(crate) fn sweep(&self) -> Arc<dyn Fn() + Send + Sync> {
        let (shelf, faces) = (Arc::clone(&self.shelf), Arc::clone(&self.faces));
        Arc::new(move || {
            shelf.sweep();
            faces.tray.sweep();
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::path::Path;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread::JoinHandle;
    use std::time::Duration;

    use super::*;
    use crate::admin::accounts::AccountStore;
    use crate::admin::settings::tests::desk;
    use crate::backup::BackupSource;
    use crate::config::Config;
    use crate::door::condition::DoorCondition;
    use crate::door::thread::{DoorParts, DoorThread};
    use crate::embedding::EmbeddingSpaceId;
    use crate::enrol::EnrolmentRules;
    use crate::event_store::{EventStore, Retention, StoreParts, StoreThread};
    use crate::examiner::Examiner;
    use crate::gallery::{Gallery, GalleryStore};
    use crate::http::tests::signer;
    use crate::jobs::Jobs;
    use crate::metrics::tests::{Started, started};
    use crate::models::Manifest;
    use crate::reembed::ReembedParts;

    use crate::rekey::RekeyParts;
    use crate::supervisor::Supervisor;
    use crate::vault::{KEY_FILE, KeyRing, KeySource, RootKey, StateFolder};

    /// A site on real databases in a folder of its own, with the thread `store` behind it.
    pub(crate) struct Fixture {
        pub(crate) started: Started,
        pub(crate) site: Arc<Site>,
        pub(crate) state: StateFolder,
        pub(crate) _folder: tempfile::TempDir,
        ending: Arc<AtomicBool>,
        threads: Vec<JoinHandle<()>>,
    }

    impl Fixture {
        pub(crate) fn new() -> Self {
            Self::with(&Config::default())
        }

        pub(crate) fn key() -> RootKey {
            RootKey::from_bytes([1; 32])
        }

        pub(crate) fn with(config: &Config) -> Self {
            let started = started();
            let folder = tempfile::tempdir().unwrap();
            let state = StateFolder::open_or_create(&folder.path().join("state")).unwrap();
            let clock: Arc<dyn Clock> = started.clock.clone();
            let key = Self::key();
            let gallery_store = GalleryStore::open(&state, &key, Arc::clone(&clock)).unwrap();
            let space = EmbeddingSpaceId::new("test");
            let gallery = Arc::new(Gallery::new(gallery_store.load_snapshot(&space).unwrap()));
            let events = EventStore::open(&state, &key, Arc::clone(&clock), Duration::from_secs(10)).unwrap();
            let day = Duration::from_secs(86_400);
            let text = include_str!("../../models/manifest.toml");
            let manifest = Manifest::parse(text, Path::new("manifest.toml")).unwrap();
            let (thread, store) = StoreThread::new(StoreParts {
                gallery_store,
                events,
                gallery,
                space: space.clone(),
                rules: EnrolmentRules::new(config, &manifest.embedder.thresholds),
                retention: Retention {
                    keep: day,
                    count: 1_000,
                    keep_crops: day,
                    crops: 1_000,
                    keep_pictures: true,
                },
                status: started.status.clone(),
                metrics: Arc::clone(&started.metrics),
                clock: Arc::clone(&clock),
            })
            .unwrap();
            let ending = Arc::new(AtomicBool::new(false));
            let beat = Supervisor::new(Arc::clone(&clock)).watch("store", day);
            let thread = std::thread::spawn({
                let ending = Arc::clone(&ending);
                move || thread.run(&beat, &ending).unwrap()
            });
            let accounts = AccountStore::open(&state, &key, Arc::clone(&clock)).unwrap();
            let (examiner, _) = Examiner::new(config, &space, &clock);
            let ring = KeyRing::new(key);
            let parts = DoorParts {
                pulse: Duration::from_millis(100),
                held_open_after: day,
                clock_file: None,
                buzzer: None,
                status_led: None,
                infrared: None,
                has_contact: false,
            };
            let condition = DoorCondition::new(started.status.clone());
            let (keeper, door) = DoorThread::new(
                parts,
                None,
                condition,
                store.clone(),
                Arc::clone(&started.metrics),
                Arc::clone(&clock),
            );
            let beat = Supervisor::new(Arc::clone(&clock)).watch("door", day);
            let keeper = std::thread::spawn({
                let ending = Arc::clone(&ending);
                move || keeper.run(&beat, &ending).unwrap()
            });
            let site = Arc::new(Site {
                door,
                device_name: config.device.name.clone(),
                accounts: Arc::new(
                    Accounts::new(accounts, config, Arc::clone(&started.metrics), Arc::clone(&clock))
                        .unwrap(),
                ),
                dashboard: Arc::clone(&started.dashboard),
                metrics: Arc::clone(&started.metrics),
                status: started.status.clone(),
                store: store.clone(),
                live: LiveChannel::new(),
                looks: LookChannel::new(),
                view: Arc::new(LiveView::new(LookChannel::new(), Arc::clone(&clock))),
                event_watchers: Places::new(EVENT_WATCHERS),
                exports: Arc::new(Semaphore::new(EXPORTS)),
                imports: Semaphore::new(IMPORTS),
                settings: Arc::new(desk(folder.path(), "").0),
                work: JobDesk {
                    jobs: Jobs::new(Arc::clone(&clock)),
                    state: state.clone(),
                    examiner: examiner.clone(),
                    store: store.clone(),
                    config: tokio::sync::watch::channel(Arc::new(config.clone())).1,
                    backup: Arc::new(BackupSource::new(state.clone(), ring.clone())),
                    rekey: RekeyParts {
                        state: state.clone(),
                        ring,
                        source: KeySource::File { path: state.path().join(KEY_FILE), created: false },
                        store: store.clone(),
                    },
                    reembed: ReembedParts {
                        examiner: examiner.clone(),
                        store: store.clone(),
                        space: space.clone(),
                        state: state.clone(),
                        next: None,
                        restart: Arc::default(),
                        clock: Arc::clone(&clock),
                    },
                },
                models: (&manifest).into(),
                asking_cameras: Semaphore::new(1),
                faces: Arc::new(Faces::new(
                    examiner.clone(),
                    config,
                    manifest.embedder.thresholds,
                    Arc::clone(&clock),
                )),
                tls: Arc::new(Tls::new(&config.http, &state, Arc::clone(&clock))),
                links: Arc::new(signer(1, Some("http://door.local:8480"))),
                shelf: Arc::new(SnapshotShelf::new(Arc::clone(&clock))),
                readings: Semaphore::new(1),
                clock,
            });
            Self { started, site, state, _folder: folder, ending, threads: vec![keeper, thread] }
        }
    }

    impl Drop for Fixture {
        fn drop(&mut self) {
            self.ending.store(true, Ordering::Relaxed);
            let ended: Vec<_> = self.threads.drain(..).map(JoinHandle::join).collect();
            assert!(ended.iter().all(Result::is_ok) || std::thread::panicking());
        }
    }
}
