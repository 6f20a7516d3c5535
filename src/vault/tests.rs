use std::os::unix::fs::{PermissionsExt, symlink};

use super::source::{CREDENTIAL_NAME, FORMER_CREDENTIAL_NAME, KEY_FILE};
use super::*;
use crate::gallery::DATABASE_FILE;

fn state() -> (tempfile::TempDir, StateFolder) {
    let temp = tempfile::tempdir().unwrap();
    let state = StateFolder::open_or_create(&temp.path().join("a/state")).unwrap();
    (temp, state)
}

fn write(path: &Path, text: &str, mode: u32) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o7777
}

#[test]
fn subkeys_follow_rfc_5869() {
    // Reference made with OpenSSL: HKDF, SHA256, no salt, key of 32 times 0x0b, this info.
    let key = RootKey::from_bytes([0x0b; 32]);
    for (purpose, expected) in [
        (KeyPurpose::Database, "e4daa75d1fcfecec894bc47b31b31bc1166ff7b6174ae64c657c2866fa2e8895"),
        (KeyPurpose::Links, "dab06b92c58c5409b3ed8d9fafe9a3c6d5dac0b9216f2892067d9551ad351fb1"),
    ] {
        let mut hex = String::new();
        push_hex(&mut hex, key.subkey(purpose).as_bytes());
        assert_eq!(hex, expected, "{purpose:?}");
    }
}

#[test]
fn first_start_makes_a_private_key_and_later_starts_find_it() {
    let (_temp, state) = state();
    let (first, source) = RootKey::load(&state, None).unwrap();
    assert_eq!(source, KeySource::File { path: state.path().join(KEY_FILE), created: true });
    assert!(source.warning().unwrap().contains("root.key"));
    let (second, source) = RootKey::load(&state, None).unwrap();
    assert!(matches!(source, KeySource::File { created: false, .. }));
    assert!(first.present == second.present);
    assert!(first.present.0 != [0; 32]);
    assert_eq!(mode(&state.path().join(KEY_FILE)), 0o600);
    assert_eq!(mode(state.path()), 0o700);
    assert!(!state.path().join("root.key.new").exists());
    let text = std::fs::read_to_string(state.path().join(KEY_FILE)).unwrap();
    assert!(text.len() == 65 && text.trim_end().bytes().all(|b| b.is_ascii_hexdigit()));
}

#[test]
fn starts_at_the_same_time_agree_on_one_key() {
    let (_temp, state) = state();
    let keys: Vec<[u8; 32]> = std::thread::scope(|scope| {
        let starts: Vec<_> =
            (0..8).map(|_| scope.spawn(|| RootKey::load(&state, None).unwrap().0.present.0)).collect();
        starts.into_iter().map(|s| s.join().unwrap()).collect()
    });
    assert!(keys.iter().all(|k| *k == keys[0]));
}

#[test]
fn rest_of_a_first_start_that_was_cut_off_is_replaced() {
    let (_temp, state) = state();
    write(&state.path().join("root.key.new"), "0123", 0o600);
    assert!(RootKey::load(&state, None).is_ok());
    assert!(!state.path().join("root.key.new").exists());
}

#[test]
fn credential_comes_before_the_file() {
    let (temp, state) = state();
    RootKey::load(&state, None).unwrap();
    let credentials = temp.path().join("credentials");
    std::fs::create_dir(&credentials).unwrap();
    // A credential folder without our credential is that of another unit's setting.
    let (_, source) = RootKey::load(&state, Some(&credentials)).unwrap();
    assert!(matches!(source, KeySource::File { .. }));
    write(&credentials.join(CREDENTIAL_NAME), &"aB".repeat(32), 0o400);
    let (key, source) = RootKey::load(&state, Some(&credentials)).unwrap();
    assert!(key.present.0 == [0xab; 32]);
    // The file is another key: what it was before the credential was given.
    assert_eq!((key.former.len(), source.warning()), (1, None));
    write(&state.path().join(KEY_FILE), &"ab".repeat(32), 0o600);
    let (key, source) = RootKey::load(&state, Some(&credentials)).unwrap();
    assert!(!key.is_changing());
    assert!(source.warning().unwrap().contains("erase that file"));
    std::fs::remove_file(state.path().join(KEY_FILE)).unwrap();
    let (_, source) = RootKey::load(&state, Some(&credentials)).unwrap();
    assert_eq!(source.warning(), None);
    write(&credentials.join(FORMER_CREDENTIAL_NAME), &"cd".repeat(32), 0o400);
    assert_eq!(RootKey::load(&state, Some(&credentials)).unwrap().0.former[0].0, [0xcd; 32]);
}

#[test]
fn bad_credential_is_an_error_and_not_a_reason_to_take_another_key() {
    let (temp, state) = state();
    write(&temp.path().join(CREDENTIAL_NAME), "short", 0o400);
    assert!(matches!(RootKey::load(&state, Some(temp.path())), Err(VaultError::NotAKey { .. })));
    assert!(!state.path().join(KEY_FILE).exists());
}

#[test]
fn keys_that_others_could_use_are_refused() {
    let (temp, state) = state();
    let path = state.path().join(KEY_FILE);
    for bad in [0o640, 0o604, 0o660, 0o610] {
        write(&path, &"ab".repeat(32), bad);
        let error = RootKey::load(&state, None).unwrap_err();
        assert!(matches!(error, VaultError::Unsafe { .. }), "{bad:o}");
        assert!(error.to_string().contains(&format!("{bad:04o}")), "{error}");
    }
    std::fs::remove_file(&path).unwrap();
    let elsewhere = temp.path().join("elsewhere");
    write(&elsewhere, &"ab".repeat(32), 0o600);
    symlink(&elsewhere, &path).unwrap();
    let error = RootKey::load(&state, None).unwrap_err();
    assert!(error.to_string().contains("symbolic link"), "{error}");
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
    assert!(matches!(RootKey::load(&state, None), Err(VaultError::Unsafe { .. })));
}

#[test]
fn texts_that_are_no_key_are_refused_without_repeating_them() {
    let (_temp, state) = state();
    let path = state.path().join(KEY_FILE);
    let digits = "0123456789abcdef".repeat(4);
    for text in [
        String::new(),
        digits[..63].into(),
        format!("{digits}0"),
        format!("{digits}\n\n"),
        digits.replace('f', "g"),
        digits.replace("01", "é"),
        "x".repeat(1 << 20),
    ] {
        write(&path, &text, 0o600);
        let error = RootKey::load(&state, None).unwrap_err();
        assert!(matches!(error, VaultError::NotAKey { .. }), "{error}");
        assert!(!format!("{error:?} {error}").contains("0123"), "{error:?}");
    }
    write(&path, &format!("{digits}\r\n"), 0o600);
    assert!(RootKey::load(&state, None).is_ok());
}

#[test]
fn no_new_key_is_made_beside_a_database_that_needs_the_old_one() {
    let (_temp, state) = state();
    write(&state.path().join(DATABASE_FILE), "encrypted", 0o600);
    assert!(matches!(RootKey::load(&state, None), Err(VaultError::Missing { .. })));
    assert!(!state.path().join(KEY_FILE).exists());
}

#[test]
fn folder_that_others_can_write_to_is_refused() {
    let temp = tempfile::tempdir().unwrap();
    std::fs::set_permissions(temp.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    assert!(matches!(StateFolder::open_or_create(temp.path()), Err(VaultError::Unsafe { .. })));
}

#[test]
fn debug_output_shows_no_key() {
    let key = RootKey::from_bytes([0xab; 32]);
    assert_eq!(format!("{key:?} {:?}", key.subkey(KeyPurpose::Database)), "RootKey(..) Subkey(..)");
}

#[test]
fn key_file_is_changed_by_a_second_one_that_takes_its_place_in_the_end() {
    let (_temp, state) = state();
    let (first, source) = RootKey::load(&state, None).unwrap();
    let begun = RootKey::begin_change(&state).unwrap();
    assert!(begun.present != first.present && begun.former[0] == first.present);
    // Cut off here, the next start knows both; a change that is begun again is the same one.
    let (loaded, _) = RootKey::load(&state, None).unwrap();
    let again = RootKey::begin_change(&state).unwrap();
    assert!(loaded.present == begun.present && again.present == begun.present && loaded.is_changing());
    assert_eq!(RootKey::end_change(&state, &source).unwrap(), [KEY_FILE]);
    let (last, _) = RootKey::load(&state, None).unwrap();
    assert!(last.present == begun.present && !last.is_changing());
    assert_eq!(RootKey::end_change(&state, &source).unwrap(), [""; 0]);
    assert_eq!(std::fs::read_dir(state.path()).unwrap().count(), 1);
}

#[test]
fn program_gives_the_key_or_says_why_not() {
    let (temp, state) = state();
    let program = temp.path().join("otp-key");
    let load = || RootKey::load_from(&state, KeySources { credentials: None, command: Some(&program) });
    let found = || match load() {
        Err(VaultError::Command { found, .. }) => found,
        Err(other) => other.to_string(),
        Ok(_) => panic!("it gave a key"),
    };
    assert!(found().contains("cannot be found"));
    write(&program, "#!/bin/sh\necho ", 0o777);
    assert!(found().contains("others than root"));
    for (script, expected) in [
        ("exit 3", "ended with exit status: 3"),
        ("echo abc", "fewer than that"),
        ("printf %080d 0", "more than that"),
        ("printf '%064d' 0; exit 1", "ended with exit status: 1"),
    ] {
        write(&program, &format!("#!/bin/sh\n{script}\n"), 0o755);
        assert!(found().contains(expected), "{script}: {}", found());
    }
    assert!(!state.path().join(KEY_FILE).exists());
    write(&program, &format!("#!/bin/sh\necho {}\n", "5a".repeat(32)), 0o755);
    let (key, source) = load().unwrap();
    assert!(key.present.0 == [0x5a; 32]);
    assert_eq!((source.warning(), key.is_changing()), (None, false));
}
