use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::admin::access::Scope;
use crate::admin::accounts::records::{MAX_REQUESTS_OF_NETWORK, MAX_SESSIONS, NewAuditEntry};
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
    for n in 0..MAX_REQUESTS_OF_NETWORK {
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
    other.set_password(1, &password(), None, false).unwrap();
    assert!(device.store.changed_by_others().unwrap());
    assert!(!device.store.changed_by_others().unwrap());
}

fn audit(who: &str, outcome: u16) -> NewAuditEntry {
    NewAuditEntry {
        who: (!who.is_empty()).then(|| who.to_owned()),
        what: "sign_in",
        target: "/api/sign-in".to_owned(),
        outcome,
        address: "192.0.2.1".to_owned(),
        detail: None,
    }
}

#[test]
fn audit_log_keeps_what_is_young_and_not_too_much() {
    let mut device = device();
    let entry = |n: u16| audit("Ada", 200 + n);
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
fn repeated_refusals_are_one_entry_a_minute() {
    let mut device = device();
    for n in 0..10_000_u32 {
        device.store.note(&audit("Eve", 403)).unwrap();
        if n % 100 == 0 {
            device.store.note(&audit("Ada", 200)).unwrap();
        }
        device.clock.advance(Duration::from_millis(12));
    }
    device.store.note(&audit("", 403)).unwrap();
    let elsewhere = NewAuditEntry { address: "192.0.2.2".to_owned(), ..audit("Eve", 403) };
    device.store.note(&elsewhere).unwrap();
    let entries = device.store.audit(None, 1_000).unwrap();
    let of = |who: Option<&str>, address: &str| -> Vec<u32> {
        let theirs = entries.iter().filter(|e| e.who.as_deref() == who && e.address == address);
        theirs.map(|entry| entry.times).collect()
    };
    assert_eq!(of(Some("Eve"), "192.0.2.1"), [5_000, 5_000]);
    assert_eq!(of(Some("Ada"), "192.0.2.1"), [1; 100], "what was done is never folded");
    assert_eq!((of(None, "192.0.2.1"), of(Some("Eve"), "192.0.2.2")), (vec![1], vec![1]));
}

#[test]
fn whoever_fills_the_audit_log_pushes_out_their_own_entries_refusals_first() {
    let mut device = device();
    for _ in 0..3 {
        device.store.note(&audit("Ada", 200)).unwrap();
    }
    for n in 0..40_u16 {
        device.store.note(&audit("Eve", 200 + n)).unwrap();
        device.store.note(&audit("Eve", 410 + n)).unwrap();
    }
    let keep = AuditRetention { keep_ms: i64::MAX, count: 20 };
    while device.store.retain_audit(keep).unwrap() > 0 {}
    let entries = device.store.audit(None, 100).unwrap();
    let of = |who: &str| -> Vec<u16> {
        entries.iter().filter(|e| e.who.as_deref() == Some(who)).map(|e| e.outcome).collect()
    };
    assert_eq!(of("Ada"), [200; 3]);
    assert_eq!(of("Eve"), (223..240).rev().collect::<Vec<_>>());
    // Down to nothing, in turns.
    device.store.retain_audit(AuditRetention { keep_ms: i64::MAX, count: 0 }).unwrap();
    assert_eq!(device.store.audit(None, 100).unwrap(), []);
}

#[test]
fn audit_log_of_an_older_version_is_brought_up_with_its_entries() {
    let Device { _folder, state, clock, store } = device();
    let shape = |db: &Connection| -> (Vec<String>, Vec<(String, String)>) {
        let mut objects = db.prepare("select type || ' ' || name from sqlite_schema order by 1").unwrap();
        let objects = objects.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap();
        let mut columns = db.prepare("select name, type from pragma_table_xinfo('audit')").unwrap();
        let columns = columns.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        (objects, columns.collect::<Result<_, _>>().unwrap())
    };
    let present = shape(&store.connection);
    // As version 1 made it.
    store
        .connection
        .execute_batch(
            "drop table audit; drop table audit_share; drop table audit_link; drop table audit_anchor; drop table setup; drop table token;
             drop table access_request; drop table invitation; drop table session; drop table user;",
        )
        .unwrap();
    store
        .connection
        .execute_batch(include_str!("../../../../tests/fixtures/schemas/accounts-1.sql"))
        .unwrap();
    store
        .connection
        .execute_batch(
            "insert into audit (at, who, operation, target, outcome, address) values
                 (1790000000000, 'Ada', 'sign_in', '/api/sign-in', 200, '192.0.2.1'),
                 (1790000000000, 'Ada', 'sign_in', '/api/sign-in', 200, '192.0.2.1'),
                 (1790000000000, null, 'edit_subject',
                  '/api/subjects/5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a', 401, '192.0.2.1');
             pragma user_version = 1;",
        )
        .unwrap();
    drop(store);

    let mut store = open(&state, &clock);
    assert_eq!(shape(&store.connection), present);
    let entries = store.audit(None, 9).unwrap();
    assert_eq!(entries.len(), 3);
    assert!(entries.iter().all(|entry| entry.times == 1 && entry.detail.is_none()));
    let alias = crate::gallery::SubjectId::from_bytes([0x5a; 16]).alias();
    assert_eq!(entries[0].target, format!("/api/subjects/{alias}"), "ids of subjects are taken out");
    let report = store.verify_audit(None, ALL).unwrap();
    assert_eq!((report.entries, report.fault), (3, None), "they are linked");
    store.retain_audit(AuditRetention { keep_ms: i64::MAX, count: 2 }).unwrap();
    let whose: Vec<_> = store.audit(None, 9).unwrap().into_iter().map(|entry| entry.who).collect();
    assert_eq!(whose, [None, Some("Ada".to_owned())], "whose entries are how many is known");
}

#[test]
fn new_password_ends_what_was_made_with_the_old_one() {
    let mut device = device();
    let ada = device.owner().id;
    let later = UnixMillis(i64::MAX);
    for (tokens, left) in [(false, 1), (true, 0)] {
        device.store.invite(Some(ada), Role::Owner, Role::Viewer, None, &[7; 32], later).unwrap();
        if device.store.tokens().unwrap().is_empty() {
            device.store.make_token(ada, "a program", &[Scope::Metrics], [8; 32], later).unwrap();
        }
        device.store.set_password(ada, &password(), None, tokens).unwrap();
        assert!(device.store.invitations().unwrap().is_empty());
        assert_eq!(device.store.tokens().unwrap().len(), left);
    }
}

#[test]
fn neighbours_in_one_network_ask_for_access_as_one() {
    let mut device = device();
    for n in 0..MAX_REQUESTS_OF_NETWORK {
        let address = format!("2001:db8::{n:x}");
        device.store.request_access(&name(&format!("N{n}")), &password(), None, &address).unwrap();
    }
    assert!(device.store.takes_requests("2001:db8::ffff:1").is_err());
    assert!(device.store.takes_requests("2001:db8:0:1::1").is_ok());
}

#[test]
fn no_query_walks_through_the_audit_log_or_the_requests() {
    let device = device();
    for statement in [
        "select id, at from audit where id < 9 order by id desc limit 50",
        "delete from audit where id in (select id from audit where at < 9 limit 1000)",
        super::audit::REPEATED,
        super::audit::LARGEST_SHARES,
        super::audit::ERASE_OF,
        "select salt from access_request where name_key = 'a' order by id desc limit 1",
        "select id from session where user = 1 order by created_at desc, id desc limit -1 offset 20",
        "select role from invitation where token_hash = x'00'",
    ] {
        let statement = (1..=5).fold(statement.to_owned(), |text, n| text.replace(&format!("?{n}"), "9"));
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

/// Keeps everything.
const ALL: AuditRetention = AuditRetention { keep_ms: i64::MAX, count: u32::MAX };

fn fault(store: &AccountStore, expected: Option<&str>) -> Option<AuditFault> {
    store.verify_audit(expected, ALL).unwrap().fault
}

#[test]
fn chain_of_the_audit_log_shows_what_was_done_past_the_program() {
    let written = || {
        let mut device = device();
        for n in 0..1_200 {
            device.store.note(&audit(["Ada", "Eve", ""][n % 3], 200 + n as u16 % 100)).unwrap();
        }
        device
    };
    let device = written();
    let report = device.store.verify_audit(None, ALL).unwrap();
    assert_eq!((report.entries, report.erased, report.before, report.fault), (1_200, 0, 0, None));
    assert_eq!(report.head, device.store.audit_head().unwrap().to_string());
    // Neither is changed by accident.
    for statement in
        ["update audit set who = 'Bob' where id = 7", "update audit_link set at = 1 where id = 7"]
    {
        let refused = device.store.connection.execute(statement, []).unwrap_err().to_string();
        assert!(refused.contains("are not changed"), "{refused}");
    }
    let past_the_triggers = "drop trigger audit_unchanged; drop trigger audit_link_unchanged;";
    for (tampering, expected) in [
        ("update audit set outcome = 403 where id = 7", AuditFault::Changed { entry: 7 }),
        ("update audit set who = null where id = 700", AuditFault::Changed { entry: 700 }),
        ("update audit set at = at + 1 where id = 1200", AuditFault::Changed { entry: 1200 }),
        ("delete from audit where id = 600", AuditFault::Gone { entry: 600 }),
        (
            "delete from audit where id = 600; delete from audit_link where id = 600",
            AuditFault::Broken { entry: 601 },
        ),
        (
            "insert into audit (id, at, operation, target, outcome, address) values (1201, 1, 'x', 'y', 200, '-')",
            AuditFault::Unlinked { entry: 1201 },
        ),
        ("update audit_link set link = randomblob(32) where id = 5", AuditFault::Broken { entry: 5 }),
        (
            "update audit set id = -1 where id = 8; update audit set id = 8 where id = 9;
             update audit set id = 9 where id = -1",
            AuditFault::Changed { entry: 8 },
        ),
    ] {
        let device = written();
        device.store.connection.execute_batch(&format!("{past_the_triggers} {tampering}")).unwrap();
        assert_eq!(fault(&device.store, None), Some(expected), "{tampering}");
    }
    // A cut-off end is whole in itself; whoever noted the head finds it.
    let device = written();
    let head = device.store.audit_head().unwrap().to_string();
    let cut = "delete from audit where id > 1000; delete from audit_link where id > 1000";
    device.store.connection.execute_batch(cut).unwrap();
    assert_eq!(fault(&device.store, None), None);
    assert_eq!(fault(&device.store, Some(&head)), Some(AuditFault::HeadMissing));
    let earlier = device.store.audit_head().unwrap().to_string();
    assert_eq!(fault(&device.store, Some(&earlier.to_uppercase())), None);
}

#[test]
fn chain_outlasts_that_entries_are_erased_and_stays_bounded() {
    let mut device = device();
    let keep = AuditRetention { keep_ms: i64::MAX, count: 10 };
    let links = |store: &AccountStore| -> i64 {
        store.connection.query_row("select count(*) from audit_link", [], |row| row.get(0)).unwrap()
    };
    device.store.note(&audit("Ada", 200)).unwrap();
    let first = device.store.audit_head().unwrap().to_string();
    for n in 0..200_u16 {
        device.store.note(&audit("Eve", 200 + n)).unwrap();
        device.store.retain_audit(keep).unwrap();
        let report = device.store.verify_audit(None, keep).unwrap();
        assert_eq!(report.fault, None, "after {n}");
        assert_eq!(report.entries + report.before, u64::from(n + 2).min(10));
        assert!(links(&device.store) <= 40, "after {n}");
    }
    // Ada's entry is still there, and older than the chain by now.
    let report = device.store.verify_audit(None, keep).unwrap();
    assert_eq!(report.before, 1);
    let long_gone = device.store.verify_audit(Some(&first), keep).unwrap().fault;
    assert_eq!(long_gone, Some(AuditFault::HeadMissing));
    device.store.retain_audit(AuditRetention { keep_ms: i64::MAX, count: 0 }).unwrap();
    assert_eq!((links(&device.store), fault(&device.store, None)), (0, None));
    device.store.note(&audit("Ada", 200)).unwrap();
    assert_eq!((links(&device.store), fault(&device.store, None)), (1, None));
}

#[test]
fn audit_log_names_no_subject_by_its_id() {
    let mut device = device();
    let id = crate::gallery::SubjectId::from_bytes([0x5a; 16]);
    let entry = NewAuditEntry {
        target: format!("/api/subjects/{id}/samples"),
        detail: Some(format!("subject {id}, 32 hex digits more: {id}")),
        ..audit("Ada", 200)
    };
    device.store.note(&entry).unwrap();
    let kept = device.store.audit(None, 1).unwrap().remove(0);
    let alias = id.alias();
    assert_eq!(kept.target, format!("/api/subjects/{alias}/samples"));
    assert_eq!(kept.detail.unwrap(), format!("subject {alias}, 32 hex digits more: {alias}"));
    assert_eq!(fault(&device.store, None), None);
}
