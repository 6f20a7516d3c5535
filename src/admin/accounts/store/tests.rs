use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::admin::access::Scope;
use crate::admin::accounts::records::{MAX_REQUESTS_OF_ADDRESS, MAX_SESSIONS, NewAuditEntry};
use crate::clock::SimulatedClock;

struct Device {
    _folder: tempfile::TempDir,
    state: StateFolder,
    clock: Arc<SimulatedClock>,
    store: AccountStore,
}

const HOUR: Duration = Duration::from_secs(3_600);

fn open(state: &StateFolder, clock: &Arc<SimulatedClock>) -> AccountStore {
    AccountStore::open(state, &RootKey::from_bytes([1; 32]), clock.clone()).unwrap()
}

fn device() -> Device {
    let folder = tempfile::tempdir().unwrap();
    let state = StateFolder::open_or_create(&folder.path().join("state")).unwrap();
    let clock = Arc::new(SimulatedClock::new(UnixMillis(1_790_000_000_000)));
    let store = open(&state, &clock);
    Device { _folder: folder, state, clock, store }
}

fn password() -> PasswordHash {
    PasswordHash { salt: [1; 16], hash: [2; 32], cost: Cost { memory_kib: 64, passes: 1, lanes: 1 } }
}

fn name(text: &str) -> UserName {
    UserName::new(text).unwrap()
}

impl Device {
    fn owner(&mut self) -> User {
        let code = self.store.new_setup_code().unwrap();
        self.store.create_owner(&code.hash(), &name("Ada"), &password()).unwrap()
    }

    fn member(&mut self, text: &str, role: Role) -> User {
        let token = Secret::token("").unwrap().hash();
        let later = UnixMillis(self.clock.wall().0 + 1_000);
        self.store.invite(None, Role::Owner, role, None, &token, later).unwrap();
        self.store.accept(&token, &name(text), &password()).unwrap()
    }

    fn sign_in(&mut self, user: i64, n: u8) -> i64 {
        let new = NewSession {
            user,
            token_hash: [n; 32],
            address: "192.0.2.1".to_owned(),
            agent: "a browser".to_owned(),
            instead_of: None,
        };
        self.store.create_session(&new).unwrap()
    }
}

#[test]
fn setup_code_is_good_once_and_only_the_last_one() {
    let mut device = device();
    let first = device.store.new_setup_code().unwrap();
    let second = device.store.new_setup_code().unwrap();
    assert!(!device.store.is_setup_code(&first.hash()).unwrap());
    assert!(device.store.is_setup_code(&second.hash()).unwrap());
    let refused = device.store.create_owner(&first.hash(), &name("Eve"), &password());
    assert!(matches!(refused, Err(AccountError::Missing(_))), "{refused:?}");
    device.store.create_owner(&second.hash(), &name("Ada"), &password()).unwrap();
    let again = device.store.create_owner(&second.hash(), &name("Eve"), &password());
    assert!(matches!(again, Err(AccountError::HasOwner)), "{again:?}");
    assert!(matches!(device.store.new_setup_code(), Err(AccountError::HasOwner)));
    assert!(!device.store.is_setup_code(&second.hash()).unwrap());
}

#[test]
fn everything_outlasts_a_restart_and_no_secret_is_on_the_disk() {
    let mut device = device();
    let owner = device.owner();
    device.sign_in(owner.id, 7);
    device.store.make_token(owner.id, "grafana", &[Scope::Metrics], [9; 32], UnixMillis(i64::MAX)).unwrap();
    drop(device.store);
    device.store = open(&device.state, &device.clock);
    assert_eq!(device.store.sessions().unwrap()[0].token_hash, [7; 32]);
    assert_eq!(device.store.tokens().unwrap()[0].scopes, [Scope::Metrics]);
    assert_eq!(device.store.user_named(&name("  aDA ")).unwrap().id, owner.id);
    let file = std::fs::read(device.state.path().join(ACCOUNTS_FILE)).unwrap();
    assert!(!file.windows(3).any(|bytes| bytes == b"Ada"), "a name can be read in the file");
}

#[test]
fn names_are_one_whatever_their_case_and_tidy() {
    let mut device = device();
    device.owner();
    let token = [3; 32];
    let later = UnixMillis(i64::MAX);
    device.store.invite(None, Role::Owner, Role::Viewer, None, &token, later).unwrap();
    let taken = device.store.accept(&token, &name("ADA"), &password());
    assert!(matches!(taken, Err(AccountError::NameTaken)), "{taken:?}");
    // It is not used up by that.
    assert_eq!(device.store.invited_as(&token).unwrap(), Role::Viewer);
    assert_eq!(name(" Ada \t Lovelace ").as_str(), "Ada Lovelace");
    for wrong in ["", "  ", "a\u{7}b", "a\u{202e}b", "a\u{200b}b", &"x".repeat(61), &"x".repeat(100_000)] {
        assert!(UserName::new(wrong).is_err(), "{wrong:?}");
    }
}

#[test]
fn last_owner_who_can_sign_in_stays() {
    let mut device = device();
    let owner = device.owner();
    let other = device.member("Grace", Role::Owner);
    device.store.change_user(Role::Owner, other.id, None, Some(true)).unwrap();
    // The other one cannot sign in, so that the first is the last.
    for refused in [
        device.store.change_user(Role::Owner, owner.id, Some(Role::Admin), None),
        device.store.change_user(Role::Owner, owner.id, None, Some(true)),
        device.store.remove_user(Role::Owner, owner.id),
    ] {
        assert!(matches!(refused, Err(AccountError::LastOwner)), "{refused:?}");
    }
    assert_eq!(device.store.users().unwrap().len(), 2, "nothing of it was kept");
    device.store.change_user(Role::Owner, other.id, None, Some(false)).unwrap();
    device.store.remove_user(Role::Owner, owner.id).unwrap();
}

#[test]
fn nobody_gives_or_takes_more_than_they_have() {
    let mut device = device();
    let owner = device.owner();
    let viewer = device.member("Grace", Role::Viewer);
    let above =
        |result: Result<(), AccountError>| assert!(matches!(result, Err(AccountError::AboveOwnRole(_))));
    above(device.store.change_user(Role::Admin, viewer.id, Some(Role::Owner), None).map(drop));
    above(device.store.change_user(Role::Admin, owner.id, Some(Role::Viewer), None).map(drop));
    above(device.store.remove_user(Role::Admin, owner.id).map(drop));
    above(device.store.invite(None, Role::Admin, Role::Owner, None, &[1; 32], UnixMillis(0)).map(drop));
    above(device.store.approve(Role::Admin, 1, Role::Owner).map(drop));
    device.store.change_user(Role::Admin, viewer.id, Some(Role::Admin), None).unwrap();
}

#[test]
fn removing_a_user_takes_all_that_is_theirs_along() {
    let mut device = device();
    device.owner();
    let admin = device.member("Grace", Role::Admin);
    device.sign_in(admin.id, 7);
    device.store.make_token(admin.id, "t", &[Scope::Metrics], [9; 32], UnixMillis(i64::MAX)).unwrap();
    let later = UnixMillis(i64::MAX);
    device.store.invite(Some(admin.id), Role::Admin, Role::Viewer, None, &[5; 32], later).unwrap();
    device.store.remove_user(Role::Owner, admin.id).unwrap();
    assert_eq!(device.store.sessions().unwrap().len(), 0);
    assert_eq!(device.store.tokens().unwrap().len(), 0);
    assert_eq!(device.store.invitations().unwrap().len(), 0);
}

#[test]
fn invitation_gives_no_more_than_its_maker_still_has_and_expires() {
    let mut device = device();
    device.owner();
    let admin = device.member("Grace", Role::Admin);
    let soon = UnixMillis(device.clock.wall().0 + 1_000);
    device.store.invite(Some(admin.id), Role::Admin, Role::Admin, None, &[5; 32], soon).unwrap();
    assert_eq!(device.store.invited_as(&[5; 32]).unwrap(), Role::Admin);
    device.store.change_user(Role::Owner, admin.id, Some(Role::Operator), None).unwrap();
    assert!(device.store.invited_as(&[5; 32]).is_err());
    device.store.change_user(Role::Owner, admin.id, Some(Role::Admin), None).unwrap();
    device.clock.advance(Duration::from_secs(1));
    assert!(device.store.invited_as(&[5; 32]).is_err());
    assert!(device.store.erase_expired(UnixMillis(0), UnixMillis(0)).unwrap());
}

#[test]
fn oldest_session_ends_when_there_are_too_many_and_a_new_one_takes_the_place_of_its_own() {
    let mut device = device();
    let owner = device.owner();
    for n in 0..=MAX_SESSIONS as u8 {
        device.sign_in(owner.id, n);
        device.clock.advance(Duration::from_secs(1));
    }
    let sessions = device.store.sessions().unwrap();
    assert_eq!(sessions.len(), MAX_SESSIONS as usize);
    assert!(sessions.iter().all(|session| session.token_hash != [0; 32]));
    let new = NewSession {
        user: owner.id,
        token_hash: [99; 32],
        address: String::new(),
        agent: String::new(),
        instead_of: Some([20; 32]),
    };
    device.store.create_session(&new).unwrap();
    let sessions = device.store.sessions().unwrap();
    assert!(sessions.iter().all(|session| session.token_hash != [20; 32]));
}

#[test]
fn requests_for_access_are_bounded_and_a_second_one_takes_nothing_from_the_first() {
    let mut device = device();
    device.owner();
    let other = PasswordHash { hash: [9; 32], ..password() };
    device.store.request_access(&name("Grace"), &password(), None, "192.0.2.1").unwrap();
    device.store.request_access(&name("grace"), &other, Some("me too"), "192.0.2.2").unwrap();
    let requests = device.store.access_requests().unwrap();
    let user = device.store.approve(Role::Admin, requests[0].id, Role::Viewer).unwrap();
    assert_eq!(device.store.password_of(user.id).unwrap(), password());
    let second = device.store.approve(Role::Admin, requests[1].id, Role::Viewer);
    assert!(matches!(second, Err(AccountError::NameTaken)), "{second:?}");
    for n in 0..MAX_REQUESTS_OF_ADDRESS {
        device.store.request_access(&name(&format!("N{n}")), &password(), None, "192.0.2.9").unwrap();
    }
    let refused = device.store.request_access(&name("M"), &password(), None, "192.0.2.9");
    assert!(matches!(refused, Err(AccountError::TooMany { .. })), "{refused:?}");
}

#[test]
fn command_beside_the_daemon_is_noticed() {
    let mut device = device();
    device.owner();
    assert!(!device.store.changed_by_others().unwrap());
    let mut other = open(&device.state, &device.clock);
    other.new_setup_code().unwrap_err();
    other.set_password(1, &password(), None).unwrap();
    assert!(device.store.changed_by_others().unwrap());
    assert!(!device.store.changed_by_others().unwrap());
}

#[test]
fn audit_log_keeps_what_is_young_and_not_too_much() {
    let mut device = device();
    let entry = |n: u16| NewAuditEntry {
        who: Some("Ada".to_owned()),
        what: "sign_in",
        target: "/api/sign-in".to_owned(),
        outcome: 200 + n,
        address: "192.0.2.1".to_owned(),
    };
    for n in 0..5 {
        device.store.note(&entry(n)).unwrap();
        device.clock.advance(HOUR);
    }
    let outcomes = |store: &AccountStore| -> Vec<u16> {
        store.audit(None, 10).unwrap().iter().map(|entry| entry.outcome - 200).collect()
    };
    assert_eq!(outcomes(&device.store), [4, 3, 2, 1, 0]);
    let hours = |hours| i64::try_from(hours * HOUR.as_millis()).unwrap();
    device.store.retain_audit(AuditRetention { keep_ms: hours(4), count: 1_000 }).unwrap();
    assert_eq!(outcomes(&device.store), [4, 3, 2, 1]);
    device.store.retain_audit(AuditRetention { keep_ms: hours(100), count: 2 }).unwrap();
    assert_eq!(outcomes(&device.store), [4, 3]);
    assert_eq!(device.store.retain_audit(AuditRetention { keep_ms: hours(100), count: 2 }).unwrap(), 0);
}

#[test]
fn no_query_walks_through_the_audit_log_or_the_requests() {
    let device = device();
    for statement in [
        "select id, at from audit where id < 9 order by id desc limit 50",
        "delete from audit where id in (select id from audit where at < 9 limit 1000)",
        "delete from audit where id in (select id from audit where id <= 9 limit 1000)",
        "select salt from access_request where name_key = 'a' order by id desc limit 1",
        "select id from session where user = 1 order by created_at desc, id desc limit -1 offset 20",
        "select role from invitation where token_hash = x'00'",
    ] {
        let plan: Vec<String> = device
            .store
            .read("explain", |db| {
                let mut query = db.prepare(&format!("explain query plan {statement}"))?;
                query.query_map([], |row| row.get(3))?.collect()
            })
            .unwrap();
        assert!(plan.iter().all(|step| !step.starts_with("SCAN")), "{statement}: {plan:?}");
    }
    let scanned: String = device
        .store
        .read("explain", |db| {
            db.query_row("explain query plan select * from audit where outcome = 1", [], |row| row.get(3))
        })
        .unwrap();
    assert!(scanned.starts_with("SCAN"), "the test tells a scan when there is one: {scanned}");
}
