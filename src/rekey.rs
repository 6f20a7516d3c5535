//! Changing the root key: everything that is kept is encrypted anew while recognition goes on.
//!
//! A change begins with a key beside the present one: a second key file, or a credential or program that is
//! given where a key file was. From then on [`RootKey`] holds both, each database is opened with whichever
//! fits, and everything new is written under the new one. Then database after database is encrypted anew
//! (one transaction each), the pictures of each subject get a new key, and when nothing needs the former key
//! any longer, its file goes. Cut off at any moment, the next start finds both keys and goes on.
//!
//! Runs on the thread of its job; the databases are worked on by the threads that own them.

use std::path::PathBuf;
use std::sync::Arc;

use thiserror::Error;

use crate::admin::accounts::{AccountError, AccountStore, accounts_schema};
use crate::clock::{Clock, SystemClock};
use crate::database::{self, DatabaseError, Schema};
use crate::event_store::{EventStore, EventStoreError, StoreHandle, events_schema};
use crate::gallery::{GalleryError, GalleryStore, gallery_schema};
use crate::jobs::{JobControl, Stopped};
use crate::sightings::sightings_schema;
use crate::vault::{KeyPurpose, KeyRing, KeySource, RootKey, StateFolder, VaultError};

/// Subjects whose pictures are encrypted anew in one go, so that others get their turn at the database.
const SUBJECTS: u32 = 8;

/// Why the root key was not changed. What was encrypted anew stays so, and both keys work.
#[derive(Debug, Error)]
pub enum RekeyError {
    /// The key is not this program's to make.
    #[error(
        "the root key is {0}, which this program cannot change: give the new key there, and the one of now as the credential limen.root-key.former, and start the service again"
    )]
    GivenFromOutside(String),
    /// Something is still encrypted under the former key.
    #[error(
        "{0} is still encrypted under the former key, since another program has it open; end that one, and change the key again"
    )]
    Unfinished(PathBuf),
    /// The state folder or the key cannot be used.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// A database cannot be used.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The gallery cannot be used.
    #[error(transparent)]
    Gallery(#[from] GalleryError),
    /// The events cannot be used.
    #[error(transparent)]
    Events(#[from] EventStoreError),
    /// The accounts cannot be used.
    #[error(transparent)]
    Accounts(#[from] AccountError),
}

/// What a change of the key works with in a running service.
#[derive(Clone, Debug)]
pub struct RekeyParts {
    /// Where the keys and databases are.
    pub state: StateFolder,
    /// The key of the running service.
    pub ring: KeyRing,
    /// Where that came from.
    pub source: KeySource,
    /// Owns the databases of gallery, events and unknown faces.
    pub store: StoreHandle,
}

impl RekeyParts {
    /// Whether this program may make a new key.
    pub fn may_begin(&self) -> Result<(), RekeyError> {
        may_begin(&self.source)
    }

    /// Makes a new key, unless a change is under way already, and brings everything under it. `accounts` does
    /// so with the database of the accounts, for whoever has it open.
    pub fn run(
        &self,
        control: &JobControl,
        accounts: impl FnOnce(&RootKey) -> Result<(), AccountError>,
    ) -> Result<(), Stopped> {
        let failed = |error: RekeyError| Stopped::Failed(error.to_string());
        if !self.ring.now().is_changing() {
            self.may_begin().map_err(failed)?;
            let key = RootKey::begin_change(&self.state).map_err(|error| failed(error.into()))?;
            // Before the first database: whoever opens one from now on has both keys.
            self.ring.replace(key);
        }
        let key = self.ring.now();
        control.checkpoint()?;
        self.store.rekey(&key).map_err(|error| Stopped::Failed(error.to_string()))?;
        control.checkpoint()?;
        accounts(&key).map_err(|error| failed(error.into()))?;
        let total = self.store.gallery().current().subjects().len() as u64;
        let (mut done, mut after) = (0, None);
        loop {
            control.checkpoint()?;
            control.progress(done, total.max(done));
            let (count, last) = self
                .store
                .renew_pictures(after, SUBJECTS)
                .map_err(|error| Stopped::Failed(error.to_string()))?;
            if count == 0 {
                break;
            }
            done += u64::from(count);
            after = last;
        }
        finish(&self.state, &key, &self.source).map_err(failed)?;
        self.ring.replace(key.present_only());
        control.progress(done, done);
        tracing::info!("the root key was changed");
        Ok(())
    }
}

fn may_begin(source: &KeySource) -> Result<(), RekeyError> {
    match source {
        KeySource::File { .. } => Ok(()),
        outside => Err(RekeyError::GivenFromOutside(outside.name())),
    }
}

/// Changes the key, or ends a change that was begun, of a state folder that no service works with.
pub fn rekey_offline(state: &StateFolder, key: RootKey, source: &KeySource) -> Result<(), RekeyError> {
    let there = |file: &str| state.path().join(file).symlink_metadata().is_ok();
    // The service has this lock for as long as it runs.
    let _claim = there(events_schema().file).then(|| state.claim(events_schema().file)).transpose()?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let key = if key.is_changing() {
        key
    } else {
        may_begin(source)?;
        RootKey::begin_change(state)?
    };
    // Opening one is enough.
    if there(events_schema().file) {
        EventStore::open(state, &key, Arc::clone(&clock), std::time::Duration::ZERO)?;
    }
    if there(accounts_schema().file) {
        AccountStore::open(state, &key, Arc::clone(&clock))?;
    }
    if there(sightings_schema().file) {
        database::open_or_create(state, &key.subkeys(KeyPurpose::Sightings), sightings_schema())?;
    }
    if there(gallery_schema().file) {
        GalleryStore::open(state, &key, clock)?.renew_media_keys(None, u32::MAX)?;
    }
    finish(state, &key, source)
}

/// Brings the accounts under a key while nobody has them open.
pub(crate) fn rekey_accounts(state: &StateFolder, key: &RootKey) -> Result<(), AccountError> {
    let schema = accounts_schema();
    if !database::is_under(state, &key.subkey(KeyPurpose::Accounts), schema)? {
        drop(database::open_or_create(state, &key.subkeys(KeyPurpose::Accounts), schema)?);
    }
    Ok(())
}

/// Every database of a device, and what its key is for.
pub(crate) fn every_database() -> [(&'static Schema, KeyPurpose); 4] {
    [
        (gallery_schema(), KeyPurpose::Database),
        (events_schema(), KeyPurpose::Events),
        (accounts_schema(), KeyPurpose::Accounts),
        (sightings_schema(), KeyPurpose::Sightings),
    ]
}

/// Makes sure that nothing needs a former key, and lets it go.
fn finish(state: &StateFolder, key: &RootKey, source: &KeySource) -> Result<(), RekeyError> {
    for (schema, purpose) in every_database() {
        if !database::is_under(state, &key.subkey(purpose), schema)? {
            return Err(RekeyError::Unfinished(state.path().join(schema.file)));
        }
    }
    // Copies from before an upgrade are under the former key still.
    database::forget_former(state.path(), true)?;
    RootKey::end_change(state, source)?;
    Ok(())
}
