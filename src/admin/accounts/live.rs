//! Who is signed in right now, in memory: what every request is checked against.
//!
//! Made from the database as a whole whenever that changes, so that the two cannot drift apart; there
//! are hundreds of rows at most. Only the times of last use are ahead of the disk.

use std::collections::HashMap;
use std::time::Duration;

use super::AccountStore;
use super::records::{AccountError, SessionRecord, TokenRecord, User};
use super::secret::SecretHash;
use crate::admin::access::{Role, Scope, Who};
use crate::clock::UnixMillis;

/// How long a session lasts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SessionTimes {
    /// Since it was last used.
    pub(crate) idle: Duration,
    /// Since it began.
    pub(crate) absolute: Duration,
}

/// Use is written to the disk when it is this much newer than what is there.
const NOTED_EVERY_MS: i64 = 60_000;
/// A session that begins this far in the future was made by a clock that was wrong.
const CLOCK_SLACK_MS: i64 = 300_000;

impl SessionTimes {
    fn expires_at(&self, session: &SessionRecord) -> UnixMillis {
        let end = |from: UnixMillis, after: Duration| from.0.saturating_add(millis(after));
        UnixMillis(end(session.created_at, self.absolute).min(end(session.last_seen_at, self.idle)))
    }

    /// The oldest beginning and the oldest last use of a session that goes on.
    pub(super) fn limits(&self, now: UnixMillis) -> (UnixMillis, UnixMillis) {
        (UnixMillis(now.0 - millis(self.absolute)), UnixMillis(now.0 - millis(self.idle)))
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// Whether a request is somebody's use of their session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// Somebody did something.
    Active,
    /// A page that lies open asked by itself: that keeps no session alive.
    Background,
}

/// A session that was found good.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct LiveSession {
    pub(crate) session: i64,
    pub(crate) user: User,
    pub(crate) expires_at: UnixMillis,
}

/// A token that was found good.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct LiveToken {
    pub(crate) token: i64,
    pub(crate) name: String,
    pub(crate) scopes: Vec<Scope>,
}

/// Times of last use that the disk does not have yet.
pub(super) struct Uses {
    pub(super) sessions: Vec<(i64, i64, UnixMillis)>,
    pub(super) tokens: Vec<(i64, UnixMillis)>,
}

/// What is checked against.
#[derive(Debug, Default)]
pub(super) struct Live {
    pub(super) has_owner: bool,
    users: HashMap<i64, User>,
    sessions: HashMap<SecretHash, (SessionRecord, UnixMillis)>,
    tokens: HashMap<SecretHash, (TokenRecord, Option<UnixMillis>)>,
}

impl Live {
    /// Reads everything.
    pub(super) fn load(store: &AccountStore) -> Result<Self, AccountError> {
        let noted = |session: SessionRecord| {
            let at = session.last_seen_at;
            (session.token_hash, (session, at))
        };
        let used = |token: TokenRecord| {
            let at = token.last_used_at;
            (token.token_hash, (token, at))
        };
        Ok(Self {
            has_owner: store.has_owner()?,
            users: store.users()?.into_iter().map(|user| (user.id, user)).collect(),
            sessions: store.sessions()?.into_iter().map(noted).collect(),
            tokens: store.tokens()?.into_iter().map(used).collect(),
        })
    }

    /// Takes the place of `before`, keeping what that knew better.
    pub(super) fn succeed(mut self, before: &Self) -> Self {
        for (hash, (session, _)) in &mut self.sessions {
            if let Some((known, _)) = before.sessions.get(hash) {
                session.last_seen_at = session.last_seen_at.max(known.last_seen_at);
            }
        }
        for (hash, (token, _)) in &mut self.tokens {
            if let Some((known, _)) = before.tokens.get(hash) {
                token.last_used_at = token.last_used_at.max(known.last_used_at);
            }
        }
        self
    }

    /// The session of a cookie.
    pub(super) fn session(
        &mut self,
        hash: &SecretHash,
        use_of_it: Use,
        times: SessionTimes,
        now: UnixMillis,
    ) -> Option<LiveSession> {
        let (session, _) = self.sessions.get_mut(hash)?;
        let user = self.users.get(&session.user).filter(|user| !user.disabled)?;
        if now >= times.expires_at(session) || session.created_at.0 > now.0.saturating_add(CLOCK_SLACK_MS) {
            return None;
        }
        if use_of_it == Use::Active {
            session.last_seen_at = session.last_seen_at.max(now);
        }
        Some(LiveSession { session: session.id, user: user.clone(), expires_at: times.expires_at(session) })
    }

    /// The token that a program shows, which is used with that.
    pub(super) fn token(&mut self, hash: &SecretHash, now: UnixMillis) -> Option<LiveToken> {
        let (token, _) = self.tokens.get_mut(hash)?;
        let maker = self.users.get(&token.made_by)?;
        if now >= token.expires_at || maker.disabled || maker.role < Role::Admin {
            return None;
        }
        token.last_used_at = token.last_used_at.max(Some(now));
        Some(LiveToken { token: token.id, name: token.name.clone(), scopes: token.scopes.clone() })
    }

    /// Whether somebody who was let in before may go on: their session or token works still, and their role
    /// is at least this. Counts as no use of it.
    pub(super) fn may_go_on(&self, who: Who, least: Role, times: SessionTimes, now: UnixMillis) -> bool {
        match who {
            Who::Local => true,
            Who::Nobody => false,
            Who::User { session: id, .. } => self.sessions.values().any(|(session, _)| {
                let user = self.users.get(&session.user);
                session.id == id
                    && now < times.expires_at(session)
                    && user.is_some_and(|user| !user.disabled && user.role >= least)
            }),
            Who::Token { token: id } => self.tokens.values().any(|(token, _)| {
                let maker = self.users.get(&token.made_by);
                token.id == id
                    && now < token.expires_at
                    && maker.is_some_and(|maker| !maker.disabled && maker.role >= Role::Admin)
            }),
        }
    }

    /// Sessions of a user that go on.
    pub(super) fn sessions_of(&self, user: i64, times: SessionTimes, now: UnixMillis) -> Vec<SessionRecord> {
        let theirs = self.sessions.values().map(|(session, _)| session).filter(|s| s.user == user);
        let mut found: Vec<_> = theirs.filter(|s| now < times.expires_at(s)).cloned().collect();
        found.sort_by_key(|session| std::cmp::Reverse((session.last_seen_at, session.id)));
        found
    }

    /// The users as they are known here, with when they were last seen.
    pub(super) fn users(&self) -> Vec<User> {
        let mut users: HashMap<i64, User> = self.users.clone();
        for (session, _) in self.sessions.values() {
            if let Some(user) = users.get_mut(&session.user) {
                user.last_seen_at = user.last_seen_at.max(Some(session.last_seen_at));
            }
        }
        let mut users: Vec<_> = users.into_values().collect();
        users.sort_by_cached_key(|user| user.name.to_lowercase());
        users
    }

    /// The name of a user.
    pub(super) fn name_of(&self, user: i64) -> Option<&str> {
        self.users.get(&user).map(|user| user.name.as_str())
    }

    /// Tokens, with when they were last used.
    pub(super) fn tokens(&self) -> Vec<TokenRecord> {
        let mut tokens: Vec<_> = self.tokens.values().map(|(token, _)| token.clone()).collect();
        tokens.sort_by_key(|token| token.id);
        tokens
    }

    /// What the disk should know by now, and is going to.
    pub(super) fn take_uses(&mut self) -> Uses {
        let late = |used: UnixMillis, noted: i64| used.0 - noted >= NOTED_EVERY_MS;
        let mut uses = Uses { sessions: Vec::new(), tokens: Vec::new() };
        for (session, noted) in self.sessions.values_mut() {
            if late(session.last_seen_at, noted.0) {
                *noted = session.last_seen_at;
                uses.sessions.push((session.id, session.user, session.last_seen_at));
            }
        }
        for (token, noted) in self.tokens.values_mut() {
            if let Some(used) = token.last_used_at
                && late(used, noted.map_or(0, |noted| noted.0))
            {
                *noted = Some(used);
                uses.tokens.push((token.id, used));
            }
        }
        uses
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMES: SessionTimes =
        SessionTimes { idle: Duration::from_secs(3_600), absolute: Duration::from_secs(43_200) };
    const HOUR: i64 = 3_600_000;
    const HASH: SecretHash = [1; 32];

    fn user(disabled: bool, role: Role) -> User {
        User { id: 7, name: "Ada".to_owned(), role, disabled, created_at: UnixMillis(0), last_seen_at: None }
    }

    fn live(user: User) -> Live {
        let session = SessionRecord {
            id: 3,
            user: 7,
            token_hash: HASH,
            created_at: UnixMillis(0),
            last_seen_at: UnixMillis(0),
            address: String::new(),
            agent: String::new(),
        };
        let token = TokenRecord {
            id: 4,
            token_hash: HASH,
            name: "prometheus".to_owned(),
            scopes: vec![Scope::Metrics],
            made_by: 7,
            made_at: UnixMillis(0),
            expires_at: UnixMillis(2 * HOUR),
            last_used_at: None,
        };
        Live {
            has_owner: true,
            users: HashMap::from([(7, user)]),
            sessions: HashMap::from([(HASH, (session, UnixMillis(0)))]),
            tokens: HashMap::from([(HASH, (token, None))]),
        }
    }

    #[test]
    fn session_ends_when_idle_and_at_the_latest_after_its_absolute_time() {
        let mut idle = live(user(false, Role::Viewer));
        assert!(idle.session(&HASH, Use::Active, TIMES, UnixMillis(HOUR - 1)).is_some());
        assert!(idle.session(&HASH, Use::Active, TIMES, UnixMillis(2 * HOUR - 1)).is_none());
        let mut busy = live(user(false, Role::Viewer));
        for minutes in (0..720).step_by(30) {
            let found = busy.session(&HASH, Use::Active, TIMES, UnixMillis(minutes * 60_000));
            assert!(found.is_some_and(|found| found.expires_at.0 <= 12 * HOUR), "{minutes}");
        }
        assert!(busy.session(&HASH, Use::Active, TIMES, UnixMillis(12 * HOUR)).is_none());
    }

    #[test]
    fn page_that_asks_by_itself_keeps_no_session_alive() {
        let mut open = live(user(false, Role::Viewer));
        for seconds in (0..3_600).step_by(15) {
            let found = open.session(&HASH, Use::Background, TIMES, UnixMillis(seconds * 1_000)).unwrap();
            assert_eq!(found.expires_at, UnixMillis(HOUR));
        }
        assert!(open.session(&HASH, Use::Background, TIMES, UnixMillis(HOUR)).is_none());
        assert!(open.session(&HASH, Use::Active, TIMES, UnixMillis(HOUR)).is_none());
    }

    #[test]
    fn session_of_a_disabled_user_or_of_the_future_is_none() {
        assert!(live(user(true, Role::Owner)).session(&HASH, Use::Active, TIMES, UnixMillis(0)).is_none());
        assert!(
            live(user(false, Role::Owner)).session(&[2; 32], Use::Active, TIMES, UnixMillis(0)).is_none()
        );
        assert!(
            live(user(false, Role::Owner)).session(&HASH, Use::Active, TIMES, UnixMillis(-HOUR)).is_none()
        );
    }

    #[test]
    fn token_works_until_it_expires_and_while_its_maker_may_make_tokens() {
        let mut good = live(user(false, Role::Admin));
        assert!(good.token(&HASH, UnixMillis(2 * HOUR - 1)).is_some());
        assert!(good.token(&HASH, UnixMillis(2 * HOUR)).is_none());
        assert!(live(user(true, Role::Owner)).token(&HASH, UnixMillis(0)).is_none());
        assert!(live(user(false, Role::Operator)).token(&HASH, UnixMillis(0)).is_none());
    }

    #[test]
    fn use_is_written_at_most_once_a_minute_and_survives_a_reload() {
        let mut now = live(user(false, Role::Admin));
        now.session(&HASH, Use::Active, TIMES, UnixMillis(59_999));
        assert!(now.take_uses().sessions.is_empty());
        now.session(&HASH, Use::Active, TIMES, UnixMillis(60_000));
        assert_eq!(now.take_uses().sessions, [(3, 7, UnixMillis(60_000))]);
        assert!(now.take_uses().sessions.is_empty());
        now.session(&HASH, Use::Active, TIMES, UnixMillis(100_000));
        let mut reloaded = live(user(false, Role::Admin)).succeed(&now);
        assert_eq!(reloaded.take_uses().sessions, [(3, 7, UnixMillis(100_000))]);
    }
}
