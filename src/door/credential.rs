//! PINs and passes: ways in that need no face.
//!
//! A PIN is made here, never chosen, so that none is a birthday and two of one device are never the same. Kept is
//! Argon2id of it under a salt of this device, so that one computation tells whose it is.
//!
//! A pass is text for a QR code: `LIMEN:` and, in base 32, a version byte, the id of the pass, the half minute it
//! was shown in (zero for one on paper), and the first half of an HMAC-SHA256 over these under a key that never
//! leaves this device. Everything else about a pass, until when and how often, is looked up here: it can be
//! changed and taken back after the pass was handed out. A symmetric key suffices, for only this device has to
//! believe it, and makes a code small enough for a wall camera to read at arm's length.

use argon2::{Algorithm, Argon2, Params, Version};
use hmac::{Hmac, KeyInit, Mac};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::clock::UnixMillis;
use crate::gallery::SubjectId;

/// Digits of a new PIN.
pub const PIN_DIGITS: usize = 6;
/// Digits of any PIN.
const MOST_PIN_DIGITS: usize = 12;
/// How every pass begins. Letters, digits and the colon alone make a smaller code.
pub const PASS_PREFIX: &str = "LIMEN:";
/// For how long a rotating code is shown.
pub const ROTATION_S: i64 = 30;
const VERSION: u8 = 1;
const CODE_BYTES: usize = 8;
const TAG_BYTES: usize = 16;
const PASS_BYTES: usize = 1 + CODE_BYTES + 4 + TAG_BYTES;
/// What the tag of a pass is made under, and that of the link to a rotating one.
const PASS_LABEL: &str = "limen/1/pass";
const LINK_LABEL: &str = "limen/1/pass link";
const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// A PIN or pass, by its number on this device. Counted up and never given twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct CredentialId(pub i64);

/// Whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Holder {
    /// Somebody who is enrolled.
    Subject(SubjectId),
    /// Somebody who is not.
    Visitor(CredentialId),
}

impl Holder {
    /// The subject, if it is one.
    pub fn subject(self) -> Option<SubjectId> {
        match self {
            Self::Subject(subject) => Some(subject),
            Self::Visitor(_) => None,
        }
    }
}

/// Why a pass opens nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PassFault {
    /// It begins like a pass and is none.
    Malformed,
    /// It was not made by this device.
    Forged,
    /// It was, and has been taken back or erased.
    Revoked,
    /// It is not valid yet.
    NotYetValid,
    /// It is no longer valid.
    Expired,
    /// It was used as often as it may be.
    UsedUp,
    /// It is a picture of a code that has changed meanwhile.
    Stale,
    /// It is valid at certain times, and nobody knows what time it is.
    ClockNotTrusted,
}

impl PassFault {
    /// Its name in messages and the database.
    pub fn code(self) -> &'static str {
        match self {
            Self::Malformed => "pass_malformed",
            Self::Forged => "pass_forged",
            Self::Revoked => "pass_revoked",
            Self::NotYetValid => "pass_not_yet_valid",
            Self::Expired => "pass_expired",
            Self::UsedUp => "pass_used_up",
            Self::Stale => "pass_stale",
            Self::ClockNotTrusted => "pass_clock_not_trusted",
        }
    }
}

/// The public part of a pass: random, by which it is looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PassCode(pub [u8; CODE_BYTES]);

/// What is read from a code that this device has made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadPass {
    /// Which pass.
    pub code: PassCode,
    /// The half minute it was shown in; zero for one on paper.
    pub window: u32,
}

/// What PINs and passes of this device are made with. Wiped when dropped.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct DoorSecret([u8; 32]);

impl std::fmt::Debug for DoorSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DoorSecret")
    }
}

impl DoorSecret {
    /// As the database holds it.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    fn hmac(&self, label: &str, data: &[u8]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes keys of any length");
        mac.update(label.as_bytes());
        mac.update(&[0]);
        mac.update(data);
        mac
    }

    fn mac(&self, label: &str, data: &[u8]) -> [u8; 32] {
        self.hmac(label, data).finalize().into_bytes().into()
    }

    /// In constant time.
    fn is_tag(&self, label: &str, data: &[u8], tag: &[u8]) -> bool {
        self.hmac(label, data).verify_truncated_left(tag).is_ok()
    }

    /// What is kept of a PIN; none for text that cannot be one. Takes tens of milliseconds and 8 MiB.
    pub fn pin_hash(&self, pin: &str) -> Option<[u8; 32]> {
        let plausible =
            (PIN_DIGITS..=MOST_PIN_DIGITS).contains(&pin.len()) && pin.bytes().all(|b| b.is_ascii_digit());
        if !plausible {
            return None;
        }
        let (salt, mut pepper) = (self.mac("limen/1/pin salt", &[]), self.mac("limen/1/pin pepper", &[]));
        // A million PINs can be tried by whoever has the key of the database: this makes it days, not a second.
        let params =
            Params::new(8 * 1024, 3, 1, Some(32)).expect("these parameters are within Argon2's bounds");
        let mut hash = [0; 32];
        let made = Argon2::new_with_secret(&pepper, Algorithm::Argon2id, Version::V0x13, params)
            .and_then(|argon2| argon2.hash_password_into(pin.as_bytes(), &salt[..16], &mut hash));
        pepper.zeroize();
        made.ok().map(|()| hash)
    }

    fn tag(&self, label: &str, data: &[u8]) -> [u8; TAG_BYTES] {
        let whole = self.mac(label, data);
        std::array::from_fn(|at| whole[at])
    }

    /// The text of a pass, for a QR code.
    pub fn pass_text(&self, code: PassCode, window: u32) -> String {
        let mut bytes = [0; PASS_BYTES];
        bytes[0] = VERSION;
        bytes[1..9].copy_from_slice(&code.0);
        bytes[9..13].copy_from_slice(&window.to_be_bytes());
        let tag = self.tag(PASS_LABEL, &bytes[..13]);
        bytes[13..].copy_from_slice(&tag);
        format!("{PASS_PREFIX}{}", base32(&bytes))
    }

    /// Reads the text of a code; none where it does not begin like a pass.
    pub fn read_pass(&self, text: &str) -> Option<Result<ReadPass, PassFault>> {
        let rest = text.strip_prefix(PASS_PREFIX)?;
        let bytes: Option<[u8; PASS_BYTES]> = from_base32(rest).and_then(|bytes| bytes.try_into().ok());
        let Some(bytes) = bytes.filter(|bytes| bytes[0] == VERSION) else {
            return Some(Err(PassFault::Malformed));
        };
        if !self.is_tag(PASS_LABEL, &bytes[..13], &bytes[13..]) {
            return Some(Err(PassFault::Forged));
        }
        Some(Ok(ReadPass {
            code: PassCode(std::array::from_fn(|at| bytes[1 + at])),
            window: u32::from_be_bytes(std::array::from_fn(|at| bytes[9 + at])),
        }))
    }

    /// What opens the page that shows a rotating pass.
    pub fn link(&self, code: PassCode) -> String {
        let tag = self.tag(LINK_LABEL, &code.0);
        base32(&[code.0.as_slice(), &tag].concat())
    }

    /// The pass of such a link.
    pub fn read_link(&self, link: &str) -> Option<PassCode> {
        let bytes: [u8; CODE_BYTES + TAG_BYTES] = from_base32(link)?.try_into().ok()?;
        let code = PassCode(std::array::from_fn(|at| bytes[at]));
        self.is_tag(LINK_LABEL, &code.0, &bytes[CODE_BYTES..]).then_some(code)
    }
}

/// The half minute of a time.
pub fn window_of(now: UnixMillis) -> u32 {
    u32::try_from(now.0.div_euclid(1000 * ROTATION_S)).unwrap_or(0).max(1)
}

/// Whether a code that was shown in one half minute is fresh in another: that one, and the one before, for
/// whoever has just held the telephone up.
pub fn is_fresh(shown: u32, now: UnixMillis) -> bool {
    let window = window_of(now);
    shown == window || shown.checked_add(1) == Some(window)
}

/// What is kept of a PIN or pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    /// Its number.
    pub id: CredentialId,
    /// PIN or pass, and by what it is looked up.
    pub kind: CredentialKind,
    /// The subject it belongs to.
    pub subject: Option<SubjectId>,
    /// The group whose rules hold for a visitor.
    pub group: Option<crate::gallery::GroupId>,
    /// From when on it is valid.
    pub valid_from: Option<UnixMillis>,
    /// From then on it is not.
    pub valid_until: Option<UnixMillis>,
    /// How often it may still be used; none: as often as one likes.
    pub uses_left: Option<u32>,
}

/// PIN or pass.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum CredentialKind {
    /// A PIN, by its hash.
    Pin([u8; 32]),
    /// A pass.
    Pass {
        /// By which it is looked up.
        code: PassCode,
        /// Whether its code changes every half minute.
        rotating: bool,
    },
}

impl std::fmt::Debug for CredentialKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Pin(_) => "Pin",
            Self::Pass { .. } => "Pass",
        })
    }
}

impl Credential {
    /// Whose it is.
    pub fn holder(&self) -> Holder {
        self.subject.map_or(Holder::Visitor(self.id), Holder::Subject)
    }

    /// Whether it is valid at a time.
    pub fn check(&self, now: UnixMillis, clock_trusted: bool) -> Result<(), PassFault> {
        if self.uses_left == Some(0) {
            return Err(PassFault::UsedUp);
        }
        if (self.valid_from.is_some() || self.valid_until.is_some()) && !clock_trusted {
            return Err(PassFault::ClockNotTrusted);
        }
        if self.valid_from.is_some_and(|from| now < from) {
            return Err(PassFault::NotYetValid);
        }
        if self.valid_until.is_some_and(|until| now >= until) {
            return Err(PassFault::Expired);
        }
        Ok(())
    }
}

/// A new PIN: each of the million as likely as the others.
pub fn new_pin() -> Result<String, getrandom::Error> {
    // Below this every remainder is as likely as the others.
    const LIMIT: u32 = u32::MAX - u32::MAX % 1_000_000;
    loop {
        let number = getrandom::u32()?;
        if number < LIMIT {
            return Ok(format!("{:0width$}", number % 1_000_000, width = PIN_DIGITS));
        }
    }
}

/// A new pass.
pub fn new_code() -> Result<PassCode, getrandom::Error> {
    let mut code = [0; CODE_BYTES];
    getrandom::fill(&mut code)?;
    Ok(PassCode(code))
}

/// RFC 4648, without padding.
fn base32(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(5) * 8);
    let (mut held, mut bits) = (0u32, 0);
    for byte in bytes {
        held = held << 8 | u32::from(*byte);
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            text.push(ALPHABET[(held >> bits & 31) as usize].into());
        }
    }
    if bits > 0 {
        text.push(ALPHABET[(held << (5 - bits) & 31) as usize].into());
    }
    text
}

/// The bytes of such text; none where anything else stands in it. One text for each bytes.
fn from_base32(text: &str) -> Option<Vec<u8>> {
    if text.len() > 128 {
        return None;
    }
    let (mut bytes, mut held, mut bits) = (Vec::with_capacity(text.len() * 5 / 8), 0u32, 0);
    for letter in text.bytes() {
        let value = ALPHABET.iter().position(|known| *known == letter)? as u32;
        held = held << 5 | value;
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            bytes.push((held >> bits & 255) as u8);
        }
    }
    let rest = held & ((1 << bits) - 1);
    (bits < 5 && rest == 0).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(byte: u8) -> DoorSecret {
        DoorSecret::from_bytes([byte; 32])
    }

    const CODE: PassCode = PassCode([1, 2, 3, 4, 5, 6, 7, 8]);

    #[test]
    fn pass_is_read_by_the_device_that_made_it_and_no_other() {
        let text = secret(1).pass_text(CODE, 7);
        assert_eq!(text.len(), PASS_PREFIX.len() + 47);
        assert_eq!(secret(1).read_pass(&text), Some(Ok(ReadPass { code: CODE, window: 7 })));
        assert_eq!(secret(2).read_pass(&text), Some(Err(PassFault::Forged)));
    }

    #[test]
    fn every_changed_letter_of_a_pass_is_noticed() {
        let text = secret(1).pass_text(CODE, 0);
        for at in PASS_PREFIX.len()..text.len() {
            for letter in ['A', 'B', '7', 'a', '0'] {
                let mut changed: Vec<char> = text.chars().collect();
                changed[at] = letter;
                let changed: String = changed.into_iter().collect();
                let read = secret(1).read_pass(&changed);
                assert!(changed == text || matches!(read, Some(Err(_))), "{at} {letter}");
            }
        }
    }

    #[test]
    fn what_is_no_pass_is_told_from_one_that_is_broken() {
        let text = secret(1).pass_text(CODE, 0);
        for other in ["", "https://example.org/", "limen:AAAA", "WIFI:S:door;;"] {
            assert_eq!(secret(1).read_pass(other), None, "{other}");
        }
        for broken in ["LIMEN:", "LIMEN:AAAA", &text[..text.len() - 1], &format!("{text}A"), "LIMEN:ä"] {
            assert_eq!(secret(1).read_pass(broken), Some(Err(PassFault::Malformed)), "{broken}");
        }
        assert_eq!(
            secret(1).read_pass(&format!("LIMEN:{}", "A".repeat(100_000))),
            Some(Err(PassFault::Malformed))
        );
    }

    #[test]
    fn link_leads_to_its_pass_only_with_its_signature() {
        let link = secret(1).link(CODE);
        assert_eq!(secret(1).read_link(&link), Some(CODE));
        assert_eq!(secret(2).read_link(&link), None);
        let (code, text) = (base32(&CODE.0), secret(1).pass_text(CODE, 0));
        for other in ["", &code, &text] {
            assert_eq!(secret(1).read_link(other), None);
        }
    }

    #[test]
    fn same_pin_has_the_same_hash_on_one_device_only() {
        let hash = secret(1).pin_hash("123456").unwrap();
        assert_eq!(secret(1).pin_hash("123456"), Some(hash));
        assert_ne!(secret(1).pin_hash("123457"), Some(hash));
        assert_ne!(secret(2).pin_hash("123456"), Some(hash));
        for text in ["", "12345", "1234567890123", "12345a", "１２３４５６"] {
            assert_eq!(secret(1).pin_hash(text), None, "{text}");
        }
    }

    #[test]
    fn new_pins_are_plausible_and_differ() {
        let pins: std::collections::BTreeSet<String> = (0..20).map(|_| new_pin().unwrap()).collect();
        assert!(pins.len() > 15 && pins.iter().all(|pin| pin.len() == PIN_DIGITS));
    }

    #[test]
    fn rotating_code_is_fresh_for_at_most_a_minute() {
        let shown = window_of(UnixMillis(1_800_000_000_000));
        for (seconds, fresh) in [(0, true), (29, true), (30, true), (59, true), (60, false), (-1, false)] {
            let now = UnixMillis(1_800_000_000_000 + seconds * 1000);
            assert_eq!(is_fresh(shown, now), fresh, "{seconds}");
        }
        assert!(!is_fresh(0, UnixMillis(1_800_000_000_000)));
        assert!(!is_fresh(u32::MAX, UnixMillis(1_800_000_000_000)));
    }

    #[test]
    fn base_32_is_that_of_the_standard() {
        for (bytes, text) in [
            ("", ""),
            ("f", "MY"),
            ("fo", "MZXQ"),
            ("foo", "MZXW6"),
            ("foob", "MZXW6YQ"),
            ("fooba", "MZXW6YTB"),
        ] {
            assert_eq!(base32(bytes.as_bytes()), text);
            assert_eq!(from_base32(text).as_deref(), Some(bytes.as_bytes()));
        }
        for text in ["M", "MZ======", "MZXW6YQ1", "MZ Z", "MR"] {
            assert!(from_base32(text).is_none_or(|bytes| base32(&bytes) == text), "{text}");
        }
    }
}
