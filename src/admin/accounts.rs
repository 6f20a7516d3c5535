//! Accounts: who may use the admin interface, how they prove it, and what they did.
//!
//! Owned here: users, sessions, invitations, requests for access, API tokens, the audit log. Not here:
//! what a role may do, which every operation declares for itself and [`super::access`] checks.
//!
//! `Accounts` is asked from the thread `network`. Databases and passwords are worked on by blocking
//! tasks, one of each kind at a time: one connection, and 19 MiB for one hash.

mod joining;
mod live;
mod members;
mod password;
mod records;
mod secret;
mod sign_in;
mod slowdown;
mod store;
mod tokens;

use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::http::StatusCode;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Semaphore, broadcast};
use tokio_util::sync::CancellationToken;

use super::access::{Caller, Role, Who};
use super::operation::Operation;
use super::problem::Problem;
use crate::clock::{Clock, UnixMillis};
use crate::gallery::SubjectId;
use crate::metrics::Metrics;
use crate::retention::KeptClass;
use crate::vault::{KeyPurpose, RootKey};

pub(super) use live::{LiveSession, LiveToken, SessionTimes, Use};
pub use password::Password;
pub use records::{AccessRequest, AccountError, AuditEntry, Invitation, NewAuditEntry, User, UserName};
pub use secret::{Secret, SecretHash};
pub(super) use secret::{csrf, same};
pub(super) use sign_in::{Actor, session_token};
pub(crate) use store::accounts_schema;
pub use store::{ACCOUNTS_FILE, AccountStore, AuditFault, AuditHead, AuditReport, AuditRetention};

use live::Live;
use slowdown::{Claim, Slowdown, Try};

/// Passwords that may wait for being hashed: a second's worth on a slow board.
const WAITING: usize = 8;
/// How long a request waits for the database: longer than SQLite waits for a lock.
const PATIENCE: Duration = Duration::from_secs(8);
/// How often the database is looked at for what a command beside the daemon has changed.
const LOOK: Duration = Duration::from_secs(2);
/// Of these looks, every how manieth erases what has expired.
const ERASE_EVERY: u32 = 150;
/// Of these looks, every how manieth tells where the audit log ends: once a day.
const TELL_EVERY: u32 = 43_200;

/// Everything about accounts, for handlers and for the check in front of them.
pub(crate) struct Accounts {
    store: Arc<Mutex<AccountStore>>,
    /// Whose turn it is with the database.
    turn: Arc<Semaphore>,
    /// Whose turn it is to hash a password.
    hashing: Arc<Semaphore>,
    waiting: AtomicUsize,
    live: Arc<Mutex<Live>>,
    slowdown: Mutex<Slowdown>,
    times: SessionTimes,
    retention: AuditRetention,
    metrics: Arc<Metrics>,
    clock: Arc<dyn Clock>,
}

impl crate::config::Config {
    fn session_times(&self) -> SessionTimes {
        SessionTimes {
            idle: Duration::from_secs(60 * u64::from(self.http.session_idle_minutes)),
            absolute: Duration::from_secs(3_600 * u64::from(self.http.session_hours)),
        }
    }
}

impl Accounts {
    /// Reads who there is.
    pub(crate) fn new(
        store: AccountStore,
        config: &crate::config::Config,
        metrics: Arc<Metrics>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, AccountError> {
        let live = Live::load(&store)?;
        Ok(Self {
            store: Arc::new(Mutex::new(store)),
            turn: Arc::new(Semaphore::new(1)),
            hashing: Arc::new(Semaphore::new(1)),
            waiting: AtomicUsize::new(0),
            live: Arc::new(Mutex::new(live)),
            slowdown: Mutex::default(),
            times: config.session_times(),
            retention: AuditRetention::new(config),
            metrics,
            clock,
        })
    }

    /// Entries of the audit log.
    pub(super) async fn audit_entries(&self) -> Result<u64, Problem> {
        self.blocking(|store, _| store.audit_entries()).await
    }

    /// Encrypts the accounts under the present root key. Blocking.
    pub(super) fn rekey(&self, key: &RootKey) -> Result<(), AccountError> {
        locked(&self.store).rekey(&key.subkeys(KeyPurpose::Accounts))
    }

    /// Whether there is an owner.
    pub(super) fn has_owner(&self) -> bool {
        locked(&self.live).has_owner
    }

    /// The session that a cookie's value belongs to, if it goes on; it is used with that where somebody
    /// is there to use it.
    pub(super) fn session(&self, token: &str, use_of_it: Use) -> Option<LiveSession> {
        locked(&self.live).session(&secret::hash(token), use_of_it, self.times, self.clock.wall())
    }

    /// Whether somebody who was let in may go on, on a connection that stays open.
    pub(super) fn may_go_on(&self, who: Who, least: Role) -> bool {
        locked(&self.live).may_go_on(who, least, self.times, self.clock.wall())
    }

    /// The API token, if it works.
    pub(super) fn token(&self, token: &str) -> Option<LiveToken> {
        locked(&self.live).token(&secret::hash(token), self.clock.wall())
    }

    /// The longest that a session lasts.
    pub(super) fn session_lasts(&self) -> Duration {
        self.times.absolute
    }

    /// Adds an entry to the audit log. What was done is done: that it could not be written down is
    /// told in the log.
    pub(super) async fn note(&self, entry: NewAuditEntry) {
        let operation = entry.what;
        if let Err(problem) = self.blocking(move |store, _| store.note(&entry)).await {
            tracing::error!(operation, code = problem.code, "the audit log could not be written");
        }
    }

    /// Asks the database.
    async fn read<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&AccountStore) -> Result<T, AccountError> + Send + 'static,
    ) -> Result<T, Problem> {
        self.blocking(move |store, _| ask(store)).await
    }

    /// Changes the database; what is checked against has changed too when this returns.
    async fn change<T: Send + 'static>(
        &self,
        change: impl FnOnce(&mut AccountStore) -> Result<T, AccountError> + Send + 'static,
    ) -> Result<T, Problem> {
        self.blocking(move |store, live| {
            let changed = change(store)?;
            reload(store, live)?;
            Ok(changed)
        })
        .await
    }

    /// The same on behalf of somebody who was let in with a role, unless they have it no longer: between
    /// that and their turn a slow body, a password and other changes may lie.
    async fn change_as<T: Send + 'static>(
        &self,
        caller: &Caller,
        change: impl FnOnce(&mut AccountStore, Role) -> Result<T, AccountError> + Send + 'static,
    ) -> Result<T, Problem> {
        let (who, acting) = (caller.who, caller.acting()?);
        let (times, clock) = (self.times, Arc::clone(&self.clock));
        self.blocking(move |store, live| {
            if !locked(live).may_go_on(who, acting, times, clock.wall()) {
                return Err(AccountError::NoLonger);
            }
            let changed = change(store, acting)?;
            reload(store, live)?;
            Ok(changed)
        })
        .await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        run: impl FnOnce(&mut AccountStore, &Mutex<Live>) -> Result<T, AccountError> + Send + 'static,
    ) -> Result<T, Problem> {
        let turn = tokio::time::timeout(PATIENCE, Arc::clone(&self.turn).acquire_owned()).await;
        let Ok(Ok(turn)) = turn else { return Err(Problem::busy("the accounts are busy; try again")) };
        let (store, live) = (Arc::clone(&self.store), Arc::clone(&self.live));
        // Goes on to its end when the asker does not wait for it.
        let done = tokio::task::spawn_blocking(move || {
            let result = run(&mut locked(&store), &live);
            drop(turn);
            result
        });
        done.await.map_err(|_| Problem::failed("asking the accounts", &"it panicked"))?.map_err(Into::into)
    }

    /// Works on a password where that holds nobody up.
    async fn hash<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, AccountError> + Send + 'static,
    ) -> Result<T, Problem> {
        struct Place<'a>(&'a AtomicUsize);
        impl Drop for Place<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::Relaxed);
            }
        }
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        let _place = Place(&self.waiting);
        if before >= WAITING {
            return Err(Problem::busy("many are signing in at once; try again"));
        }
        let turn = Arc::clone(&self.hashing).acquire_owned().await;
        let turn = turn.map_err(|_| Problem::busy("the program is ending"))?;
        let done = tokio::task::spawn_blocking(move || {
            let result = work();
            drop(turn);
            result
        });
        done.await.map_err(|_| Problem::failed("checking a password", &"it panicked"))?.map_err(Into::into)
    }

    fn now(&self) -> UnixMillis {
        self.clock.wall()
    }

    /// Keeps memory and disk current until `cancel`: what a command beside the daemon changes, what
    /// expires, when sessions were last used.
    pub(crate) async fn run(self: Arc<Self>, cancel: CancellationToken) {
        let mut looks = 0_u32;
        loop {
            if looks.is_multiple_of(TELL_EVERY) {
                self.tell_head().await;
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                () = cancel.cancelled() => break,
            }
            let erase = looks.is_multiple_of(ERASE_EVERY);
            looks = looks.wrapping_add(1);
            if let Err(problem) = self.look(erase).await {
                tracing::debug!(code = problem.code, "the accounts could not be looked after");
            }
        }
    }

    /// Notes who is erased for not having been seen.
    pub(crate) async fn note_retired(
        self: Arc<Self>,
        mut retired: broadcast::Receiver<SubjectId>,
        cancel: CancellationToken,
    ) {
        loop {
            let subject = tokio::select! {
                subject = retired.recv() => subject,
                () = cancel.cancelled() => return,
            };
            let target = match subject {
                Ok(subject) => format!("/api/subjects/{subject}"),
                Err(RecvError::Lagged(missed)) => format!("/api/subjects, {missed} of them"),
                Err(RecvError::Closed) => return,
            };
            self.note(NewAuditEntry::done_by("retention", "erase_subject", target)).await;
        }
    }

    /// Reads the whole audit log and checks it.
    pub(super) async fn verify_audit(&self) -> Result<AuditReport, Problem> {
        let retention = self.retention;
        self.read(move |store| store.verify_audit(None, retention)).await
    }

    /// Tells the log where the audit log's chain ends: whoever collects it has what a chain made anew would
    /// have to match.
    async fn tell_head(&self) {
        match self.read(AccountStore::audit_head).await {
            Ok(head) => tracing::info!(entry = head.entry, %head, "the audit log"),
            Err(problem) => tracing::warn!(code = problem.code, "the end of the audit log could not be read"),
        }
    }

    async fn look(&self, erase: bool) -> Result<(), Problem> {
        let uses = locked(&self.live).take_uses();
        let (began_before, idle_since) = self.times.limits(self.now());
        let retention = self.retention;
        let erased = self
            .blocking(move |store, live| {
                let mut erased_entries = 0;
                store.note_use(&uses.sessions, &uses.tokens)?;
                let mut changed = store.changed_by_others()?;
                if erase {
                    changed |= store.erase_expired(began_before, idle_since)?;
                    loop {
                        match store.retain_audit(retention)? {
                            0 => break,
                            erased => erased_entries += erased as u64,
                        }
                    }
                }
                if changed {
                    reload(store, live)?;
                }
                Ok(erased_entries)
            })
            .await?;
        if erase {
            self.metrics.retention.note(KeptClass::Audit, erased, self.clock.wall());
        }
        Ok(())
    }

    /// Whether somebody may try a password or a code now.
    fn may_try(&self, claim: Option<Claim>, address: IpAddr) -> Result<Try, Problem> {
        locked(&self.slowdown).begin(claim, address, self.clock.monotonic()).map_err(|wait| {
            // Rounded up: whoever waits this long may try.
            let seconds = u32::try_from(wait.as_millis().div_ceil(1000)).unwrap_or(u32::MAX);
            let text = format!("too many failures; wait {seconds} s and try again");
            Problem::new(StatusCode::TOO_MANY_REQUESTS, "slow_down", text).retry_after(seconds)
        })
    }

    fn succeeded(&self, tried: Try) {
        locked(&self.slowdown).succeeded(tried, self.clock.monotonic());
    }
}

fn reload(store: &AccountStore, live: &Mutex<Live>) -> Result<(), AccountError> {
    let fresh = Live::load(store)?;
    let mut live = locked(live);
    *live = fresh.succeed(&live);
    Ok(())
}

/// Whoever panicked with the lock in hand left nothing half-done: databases roll back, and the rest is
/// replaced as a whole.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl From<AccountError> for Problem {
    fn from(error: AccountError) -> Self {
        let text = error.to_string();
        match error {
            AccountError::Database(_) => Self::failed("reading or writing the accounts", &text),
            AccountError::NoRandomness(_) | AccountError::Hashing(_) => {
                Self::failed("protecting a secret", &text)
            }
            AccountError::PasswordLength => Self::unusable("password_length", text),
            AccountError::Name => Self::unusable("name", text),
            AccountError::NameTaken => Self::conflict("name_taken", text),
            AccountError::Missing(what) => Self::missing(what),
            AccountError::NotAUser | AccountError::NoLonger => {
                Self::new(StatusCode::FORBIDDEN, "forbidden", text)
            }
            AccountError::NoOwner => Self::conflict("no_owner", text),
            AccountError::HasOwner => Self::conflict("has_owner", text),
            AccountError::LastOwner => Self::conflict("last_owner", text),
            AccountError::AboveOwnRole(_) => Self::new(StatusCode::FORBIDDEN, "forbidden", text),
            AccountError::TooMany { .. } => Self::conflict("too_many", text),
        }
    }
}

/// The routes.
pub(super) fn operations() -> Vec<Operation> {
    let mut all = Vec::new();
    all.extend(sign_in::operations());
    all.extend(joining::operations());
    all.extend(members::operations());
    all.extend(tokens::operations());
    all
}

#[cfg(test)]
pub(crate) mod tests {
    use super::password::{Cost, PasswordHash};
    use super::store::NewSession;
    use super::*;
    use crate::admin::access::{Role, Scope};

    fn in_store<T>(accounts: &Accounts, run: impl FnOnce(&mut AccountStore) -> T) -> T {
        let done = run(&mut locked(&accounts.store));
        reload(&locked(&accounts.store), &accounts.live).unwrap();
        done
    }

    /// Somebody of this role, whom no password lets in.
    fn user(store: &mut AccountStore, role: Role) -> User {
        let name = UserName::new(&format!("The {}", role.name())).unwrap();
        if let Ok(user) = store.user_named(&name) {
            return user;
        }
        let cost = Cost { memory_kib: 8, passes: 1, lanes: 1 };
        let password = PasswordHash { salt: [0; 16], hash: [0; 32], cost };
        let token = Secret::token("").unwrap();
        let later = UnixMillis(i64::MAX);
        store.invite(None, Role::Owner, role, None, &token.hash(), later).unwrap();
        store.accept(&token.hash(), &name, &password).unwrap()
    }

    /// A new session of somebody of this role: what the cookie holds, and the token against forgery.
    pub(crate) fn session(accounts: &Accounts, role: Role) -> (String, String) {
        let token = Secret::token("").unwrap();
        in_store(accounts, |store| {
            let user = user(store, role).id;
            let (address, agent) = ("127.0.0.1".to_owned(), String::new());
            let new = NewSession { user, token_hash: token.hash(), address, agent, instead_of: None };
            store.create_session(&new).unwrap();
        });
        (token.expose().to_owned(), csrf(token.expose()))
    }

    /// A new API token with these scopes.
    pub(crate) fn token(accounts: &Accounts, scopes: &[Scope]) -> String {
        let token = Secret::token("limen_").unwrap();
        in_store(accounts, |store| {
            let admin = user(store, Role::Admin).id;
            store.make_token(admin, "a program", scopes, token.hash(), UnixMillis(i64::MAX)).unwrap();
        });
        token.expose().to_owned()
    }
}
