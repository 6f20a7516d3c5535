//! Passwords: how long they must be, and the Argon2id hash by which they are known.
//!
//! One hash takes 19 MiB for some tens of milliseconds, so that the caller decides how many are made
//! at a time; never on the runtime's thread.

use std::fmt;

use argon2::{Algorithm, Argon2, Params, Version};
use serde::Deserialize;
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::AccountError;

/// Characters of a password. Length is what counts (NIST SP 800-63B); the most is there so that no
/// request makes work without bound.
pub(super) const PASSWORD_CHARS: std::ops::RangeInclusive<usize> = 10..=200;

/// How a hash is made. Kept beside each, so that it can be checked when new ones are made otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cost {
    pub(super) memory_kib: u32,
    pub(super) passes: u32,
    pub(super) lanes: u32,
}

impl Cost {
    /// The second choice of RFC 9106 scaled down to what OWASP names as the least (19 MiB, two passes),
    /// since a board has 512 MiB for everything.
    pub(super) const PRESENT: Self = Self { memory_kib: 19_456, passes: 2, lanes: 1 };
}

/// What is kept of a password.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash {
    pub(super) salt: [u8; 16],
    pub(super) hash: [u8; 32],
    pub(super) cost: Cost,
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash(..)")
    }
}

/// A password as somebody typed it. Not shown by `Debug`; wiped when dropped.
#[derive(Clone, Deserialize, Zeroize, ZeroizeOnDrop)]
#[serde(transparent)]
pub struct Password(String);

impl schemars::JsonSchema for Password {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Password".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "format": "password", "maxLength": PASSWORD_CHARS.end() })
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(..)")
    }
}

impl Password {
    /// Takes what was typed.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// Hashes it for the first time.
    pub fn protect(&self) -> Result<PasswordHash, AccountError> {
        self.fits()?;
        let mut salt = [0; 16];
        getrandom::fill(&mut salt).map_err(AccountError::NoRandomness)?;
        self.hashed(salt, Cost::PRESENT)
    }

    /// Whether the password has a length that is taken.
    pub(super) fn fits(&self) -> Result<(), AccountError> {
        // Four bytes is the longest character: nothing longer is counted.
        let found = if self.0.len() > 4 * PASSWORD_CHARS.end() { usize::MAX } else { self.0.chars().count() };
        if PASSWORD_CHARS.contains(&found) { Ok(()) } else { Err(AccountError::PasswordLength) }
    }

    /// Whether this is the password that `kept` was made from. Without one, it takes as long and is not.
    pub fn is(&self, kept: Option<&PasswordHash>) -> Result<bool, AccountError> {
        // Nothing longer was ever taken.
        if self.0.len() > 4 * PASSWORD_CHARS.end() {
            return Ok(false);
        }
        let (salt, cost) = kept.map_or(([0; 16], Cost::PRESENT), |kept| (kept.salt, kept.cost));
        let made = self.hashed(salt, cost)?;
        let expected = kept.map_or([0; 32], |kept| kept.hash);
        let differs = made.hash.iter().zip(expected).fold(0, |found, (a, b)| found | (a ^ b)) != 0;
        Ok(kept.is_some() && !differs)
    }

    fn hashed(&self, salt: [u8; 16], cost: Cost) -> Result<PasswordHash, AccountError> {
        let mut hash = [0; 32];
        Params::new(cost.memory_kib, cost.passes, cost.lanes, Some(hash.len()))
            .map(|params| Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
            .and_then(|argon2| argon2.hash_password_into(self.0.as_bytes(), &salt, &mut hash))
            .map_err(|error| AccountError::Hashing(error.to_string()))?;
        Ok(PasswordHash { salt, hash, cost })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn password(text: &str) -> Password {
        Password::new(text.to_owned())
    }

    #[test]
    fn password_is_known_again_and_no_other_is() {
        let kept = password("correct horse").protect().unwrap();
        assert!(password("correct horse").is(Some(&kept)).unwrap());
        for wrong in ["correct hors", "Correct horse", "", &"x".repeat(10_000)] {
            assert!(!password(wrong).is(Some(&kept)).unwrap(), "{wrong}");
        }
        assert!(!password("correct horse").is(None).unwrap());
        assert_ne!(kept, password("correct horse").protect().unwrap(), "each has a salt of its own");
    }

    #[test]
    fn hash_of_other_parameters_is_still_checked() {
        let cost = Cost { memory_kib: 64, passes: 1, lanes: 1 };
        let old = password("correct horse").hashed([7; 16], cost).unwrap();
        assert!(password("correct horse").is(Some(&old)).unwrap());
        assert!(!password("correct mouse").is(Some(&old)).unwrap());
    }

    #[test]
    fn length_counts_characters_and_not_bytes() {
        for (text, fits) in
            [("123456789", false), ("1234567890", true), ("ääääääääää", true), (&"ä".repeat(201), false)]
        {
            assert_eq!(password(text).fits().is_ok(), fits, "{text}");
        }
    }

    #[test]
    fn password_is_in_no_debug_output() {
        let kept = password("correct horse").protect().unwrap();
        assert_eq!(format!("{:?} {kept:?}", password("correct horse")), "Password(..) PasswordHash(..)");
    }
}
