//! The certificate that this device makes for itself: which names stand in it, how long it is good, and
//! the file it is kept in.
//!
//! Nobody has signed it, so that browsers warn; what it is known by is its fingerprint, which the log
//! and `limen doctor` show. Blocking: reads and writes files.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use rcgen::{
    CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose, SanType, date_time_ymd,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::tls::TlsError;
use crate::clock::UnixMillis;
use crate::mqtt::secrets::{SecretError, read_private};
use crate::vault::StateFolder;

/// Name of the file in the state folder: what it is good for, the certificate, and its key.
pub(crate) const CERTIFICATE_FILE: &str = "certificate.pem";
const NEW_FILE: &str = "certificate.pem.new";

/// The longest that all browsers take, also from those who trust the certificate by hand: Apple's ends
/// at 825 days. A longer one would save nothing, since it is renewed without anybody's doing.
const VALID_DAYS: u64 = 820;
/// It is renewed this long before its end.
const RENEWED_DAYS: i64 = 60;
const DAY_MS: i64 = 86_400_000;
/// Names in one certificate; with more the ones that are no longer this machine's go.
const MAX_NAMES: usize = 24;

/// A certificate with its key, and what is known about it.
pub(super) struct Certificate {
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: PrivateKeyDer<'static>,
    names: BTreeSet<String>,
    not_before: UnixMillis,
    not_after: UnixMillis,
    key_pem: Zeroizing<String>,
}

impl Certificate {
    /// The one in the state folder while it is good for `names`, otherwise a new one. The key stays
    /// the same over renewals: whoever has noted it knows the device again.
    pub(super) fn load_or_make(
        state: &StateFolder,
        names: &BTreeSet<String>,
        now: UnixMillis,
    ) -> Result<Self, TlsError> {
        // One that cannot be read as what was written is replaced: it is nobody's but this program's.
        let kept = Self::read(state)?;
        match kept {
            Some(kept) if kept.is_good(names, now) => Ok(kept),
            kept => {
                // Old names stay: a machine that moves between two networks has both.
                let mut wanted = names.clone();
                let old = kept.as_ref().map(|kept| kept.names.clone()).unwrap_or_default();
                for name in old.difference(names) {
                    if wanted.len() < MAX_NAMES {
                        wanted.insert(name.clone());
                    }
                }
                let made = Self::make(&wanted, kept.map(|kept| kept.key_pem), now)?;
                made.write(state)?;
                Ok(made)
            }
        }
    }

    fn is_good(&self, names: &BTreeSet<String>, now: UnixMillis) -> bool {
        let renewal = self.not_after.0 - RENEWED_DAYS * DAY_MS;
        // One from before its time was made by a clock that was wrong.
        (self.not_before.0..renewal).contains(&now.0) && names.is_subset(&self.names)
    }

    fn make(
        names: &BTreeSet<String>,
        key_pem: Option<Zeroizing<String>>,
        now: UnixMillis,
    ) -> Result<Self, TlsError> {
        let failed = |error: rcgen::Error| TlsError::Make(error.to_string());
        let key = match key_pem.as_deref().and_then(|pem| KeyPair::from_pem(pem).ok()) {
            Some(key) => key,
            None => KeyPair::generate().map_err(failed)?,
        };
        // From yesterday on: clocks of those who look may be behind.
        let not_before = UnixMillis(now.0.div_euclid(DAY_MS).saturating_sub(1).max(0) * DAY_MS);
        let not_after = UnixMillis(not_before.0 + (VALID_DAYS as i64) * DAY_MS);
        let date = |at: UnixMillis| date_time_ymd(1970, 1, 1) + Duration::from_millis(at.0.unsigned_abs());
        let mut params = CertificateParams::default();
        (params.not_before, params.not_after) = (date(not_before), date(not_after));
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "limen");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        for name in names {
            params.subject_alt_names.push(match name.parse::<IpAddr>() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName(name.as_str().try_into().map_err(failed)?),
            });
        }
        let certificate = params.self_signed(&key).map_err(failed)?;
        let key_pem = Zeroizing::new(key.serialize_pem());
        let private = PrivateKeyDer::from_pem_slice(key_pem.as_bytes())
            .map_err(|error| TlsError::Make(error.to_string()))?;
        Ok(Self {
            chain: vec![certificate.der().clone()],
            key: private,
            names: names.clone(),
            not_before,
            not_after,
            key_pem,
        })
    }

    /// Notes, certificate and key in one file, so that they always belong together.
    fn write(&self, state: &StateFolder) -> Result<(), TlsError> {
        use std::io::Write;
        let mut text = Zeroizing::new(String::new());
        text.push_str(&format!("not_before: {}\nnot_after: {}\n", self.not_before.0, self.not_after.0));
        self.names.iter().for_each(|name| text.push_str(&format!("name: {name}\n")));
        for certificate in &self.chain {
            text.push_str(&pem("CERTIFICATE", certificate));
        }
        text.push_str(&self.key_pem);
        // The rest of a start that was cut off.
        let new = state.path().join(NEW_FILE);
        if let Err(source) = std::fs::remove_file(&new)
            && source.kind() != std::io::ErrorKind::NotFound
        {
            return Err(TlsError::Io { path: new, source });
        }
        let mut file = state.create_file(NEW_FILE)?;
        let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
        written.map_err(|source| TlsError::Io { path: new, source })?;
        state.rename(NEW_FILE, CERTIFICATE_FILE)?;
        Ok(())
    }

    fn read(state: &StateFolder) -> Result<Option<Self>, TlsError> {
        let path = state.path().join(CERTIFICATE_FILE);
        match read_private(&path, "give it to the account of limen, or remove it: a new one is made") {
            Ok(text) => Ok(Self::parse(&text)),
            Err(SecretError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn parse(text: &[u8]) -> Option<Self> {
        let chain: Vec<_> = CertificateDer::pem_slice_iter(text).collect::<Result<_, _>>().ok()?;
        let key = PrivateKeyDer::from_pem_slice(text).ok()?;
        let text = std::str::from_utf8(text).ok()?;
        let noted = |what: &'static str| {
            text.lines().filter_map(move |line| line.split_once(": ").filter(|(k, _)| *k == what))
        };
        let time = |what: &'static str| Some(UnixMillis(noted(what).next()?.1.parse().ok()?));
        let (not_before, not_after) = (time("not_before")?, time("not_after")?);
        let names = noted("name").map(|(_, name)| name.to_owned()).collect();
        let key_pem = Zeroizing::new(text[text.find("-----BEGIN PRIVATE KEY")?..].to_owned());
        (!chain.is_empty()).then_some(Self { chain, key, names, not_before, not_after, key_pem })
    }
}

/// RFC 7468: lines of 64 characters.
fn pem(label: &str, der: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = format!("-----BEGIN {label}-----\n");
    for line in der.chunks(48) {
        for group in line.chunks(3) {
            let bits = group.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte))
                << (8 * (3 - group.len()));
            for place in 0..4 {
                text.push(match place <= group.len() {
                    true => char::from(DIGITS[(bits >> (18 - 6 * place) & 63) as usize]),
                    false => '=',
                });
            }
        }
        text.push('\n');
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}

/// SHA-256 of a certificate, as browsers show it.
pub(super) fn fingerprint(certificate: &CertificateDer<'_>) -> String {
    let digest = Sha256::digest(certificate.as_ref());
    digest.iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":")
}

/// Names and addresses by which others reach this machine now.
pub(super) fn names(host: &str, public_host: Option<&str>) -> BTreeSet<String> {
    let mut names: BTreeSet<String> = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).into();
    names.insert(host.to_owned());
    names.insert(format!("{host}.local"));
    names.extend(public_host.map(str::to_owned));
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let v4 = local_v4(&read("/proc/net/fib_trie")).into_iter().map(IpAddr::V4);
    let v6 = local_v6(&read("/proc/net/if_inet6")).into_iter().map(IpAddr::V6);
    for address in v4.chain(v6) {
        if names.len() < MAX_NAMES {
            names.insert(address.to_string());
        }
    }
    names
}

/// Addresses of this machine among the routes that the kernel lists.
fn local_v4(fib_trie: &str) -> BTreeSet<Ipv4Addr> {
    let mut found = BTreeSet::new();
    let mut last = None;
    for line in fib_trie.lines().map(str::trim) {
        if let Some(address) = line.strip_prefix("|-- ") {
            last = address.parse().ok();
        } else if line == "/32 host LOCAL" {
            found.extend(last.filter(|address: &Ipv4Addr| !address.is_loopback()));
        }
    }
    found
}

/// Addresses of this machine that others can write down: none that needs the name of an interface, and
/// none that is for a day only (RFC 8981), for each would make another certificate.
fn local_v6(if_inet6: &str) -> BTreeSet<Ipv6Addr> {
    // `IFA_F_TEMPORARY` and `IFA_F_DEPRECATED` of linux/if_addr.h.
    const PASSING: u8 = 0x01 | 0x20;
    let address = |line: &str| {
        let mut fields = line.split_whitespace();
        let bits = u128::from_str_radix(fields.next()?, 16).ok()?;
        let flags = u8::from_str_radix(fields.nth(3)?, 16).ok()?;
        (flags & PASSING == 0).then(|| Ipv6Addr::from_bits(bits))
    };
    let usable = |address: &Ipv6Addr| !address.is_loopback() && !address.is_unicast_link_local();
    if_inet6.lines().filter_map(address).filter(usable).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const NOW: UnixMillis = UnixMillis(1_790_000_000_000);

    fn state() -> (tempfile::TempDir, StateFolder) {
        let folder = tempfile::tempdir().unwrap();
        let state = StateFolder::open_or_create(&folder.path().join("state")).unwrap();
        (folder, state)
    }

    fn some(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn load(state: &StateFolder, names: &[&str], days: i64) -> Certificate {
        Certificate::load_or_make(state, &some(names), UnixMillis(NOW.0 + days * DAY_MS)).unwrap()
    }

    #[test]
    fn certificate_is_made_once_and_kept_private() {
        let (_folder, state) = state();
        let made = load(&state, &["door", "192.0.2.7"], 0);
        let mode = std::fs::metadata(state.path().join(CERTIFICATE_FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let again = load(&state, &["door"], 500);
        assert_eq!((&made.chain, &made.key), (&again.chain, &again.key));
        assert_eq!(fingerprint(&made.chain[0]).len(), 32 * 3 - 1);
    }

    #[test]
    fn certificate_is_renewed_near_its_end_and_when_the_clock_was_wrong_and_keeps_its_key() {
        let (_folder, state) = state();
        let made = load(&state, &["door"], 0);
        assert_eq!(load(&state, &["door"], 758).chain, made.chain);
        let renewed = load(&state, &["door"], 760);
        assert_ne!(renewed.chain, made.chain);
        assert_eq!(renewed.key, made.key);
        let earlier = load(&state, &["door"], -30);
        assert_ne!(earlier.chain, renewed.chain);
        assert_eq!(earlier.key, made.key);
    }

    #[test]
    fn new_name_makes_a_new_certificate_that_has_the_old_ones_too() {
        let (_folder, state) = state();
        let made = load(&state, &["door", "192.0.2.7"], 0);
        let moved = load(&state, &["door", "192.0.2.8"], 0);
        assert_ne!(made.chain, moved.chain);
        assert_eq!(moved.names, some(&["door", "192.0.2.7", "192.0.2.8"]));
        assert_eq!(load(&state, &["door", "192.0.2.7"], 0).chain, moved.chain);
    }

    #[test]
    fn file_that_is_damaged_is_replaced_and_one_that_others_read_is_refused() {
        let (_folder, state) = state();
        let made = load(&state, &["door"], 0);
        let path = state.path().join(CERTIFICATE_FILE);
        let text = std::fs::read_to_string(&path).unwrap();
        for damaged in ["", "rubbish", &text[..text.len() / 2], &text.replace("not_after", "not_aft")] {
            std::fs::write(&path, damaged).unwrap();
            assert_ne!(load(&state, &["door"], 0).chain, made.chain, "{damaged}");
        }
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
        let refused = Certificate::load_or_make(&state, &some(&["door"]), NOW).err().unwrap().to_string();
        assert!(refused.contains("0644"), "{refused}");
    }

    #[test]
    fn addresses_are_found_in_what_the_kernel_lists() {
        let fib = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\n     |-- 192.0.2.0\n        /24 link UNICAST\nLocal:\n     |-- 127.0.0.1\n        /32 host LOCAL\n     |-- 192.0.2.7\n        /32 host LOCAL\n     |-- 192.0.2.255\n        /32 link BROADCAST\n";
        assert_eq!(local_v4(fib), BTreeSet::from([Ipv4Addr::new(192, 0, 2, 7)]));
        let inet6 = "fe80000000000000021122fffe334455 02 40 20 80     eth0\n20010db8000000000000000000000007 02 40 00 80     eth0\n20010db8000000005a5a5a5a5a5a5a5a 02 40 00 01     eth0\n20010db8000000000000000000000008 02 40 00 20     eth0\n00000000000000000000000000000001 01 80 10 80       lo\nrubbish\n";
        assert_eq!(local_v6(inet6), BTreeSet::from(["2001:db8::7".parse().unwrap()]));
        for rubbish in ["", "|-- \n/32 host LOCAL", "\0\0"] {
            assert!(local_v4(rubbish).is_empty() && local_v6(rubbish).is_empty());
        }
        let all = names("door", Some("door.example"));
        assert!(
            ["door", "door.local", "door.example", "localhost", "::1"].iter().all(|n| all.contains(*n)),
            "{all:?}"
        );
    }
}
