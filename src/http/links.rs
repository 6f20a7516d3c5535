//! Addresses of pictures that work for a short time: whoever holds one may fetch the picture, and
//! nobody can make one up.
//!
//! The address carries the event, the second it expires, and an HMAC-SHA256 over both under a subkey of
//! this device. Nothing is remembered: a link survives a restart, and needs no entry anywhere.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use thiserror::Error;

use crate::clock::UnixMillis;
use crate::event_store::EventId;
use crate::vault::{Subkey, push_hex};

/// A link works for this long: Home Assistant fetches the picture as soon as it gets the address.
pub const LIFETIME_S: i64 = 300;
/// HMAC-SHA256.
const SIGNATURE_BYTES: usize = 32;

/// Why a link is not followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum LinkError {
    /// This device did not sign it, or something of it was changed.
    #[error(
        "this address was not made by this device, or was changed; take a fresh one from the image entity"
    )]
    Forged,
    /// Its time is over. Also when it lies further ahead than any that is made: then it was made by a
    /// clock that was wrong.
    #[error("this address has expired: one works for five minutes; take a fresh one from the image entity")]
    Expired,
}

/// Makes and checks links.
#[derive(Debug)]
pub struct Signer {
    key: Subkey,
    public_url: Option<String>,
}

impl Signer {
    /// `public_url` is how others reach the web server, such as `http://door.local:8480`; without it
    /// no links are made.
    pub fn new(key: Subkey, public_url: Option<&str>) -> Self {
        Self { key, public_url: public_url.map(|url| url.trim_end_matches('/').to_owned()) }
    }

    /// Where others reach the web server, if that is known.
    pub fn public_url(&self) -> Option<&str> {
        self.public_url.as_deref()
    }

    /// An address of the picture of an event that works from now on for [`LIFETIME_S`].
    pub fn image_url(&self, event: EventId, now: UnixMillis) -> Option<String> {
        let path = self.image_path(event, now);
        self.public_url.as_ref().map(|url| format!("{url}{path}"))
    }

    pub(crate) fn image_path(&self, event: EventId, now: UnixMillis) -> String {
        let expires = now.0.div_euclid(1000).saturating_add(LIFETIME_S);
        let mut path = format!("/image/{event}?expires={expires}&signature=");
        push_hex(&mut path, &self.mac(event, expires).finalize().into_bytes());
        path
    }

    /// The comparison takes as long for a nearly right signature as for any other.
    pub(crate) fn check(
        &self,
        event: EventId,
        expires: i64,
        signature: &str,
        now: UnixMillis,
    ) -> Result<(), LinkError> {
        let signature = unhex(signature).ok_or(LinkError::Forged)?;
        self.mac(event, expires).verify_slice(&signature).map_err(|_| LinkError::Forged)?;
        let left = expires.saturating_sub(now.0.div_euclid(1000));
        if (1..=LIFETIME_S).contains(&left) { Ok(()) } else { Err(LinkError::Expired) }
    }

    fn mac(&self, event: EventId, expires: i64) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.key.as_bytes()).expect("HMAC takes any key");
        // Of fixed lengths, so that no two links sign the same bytes.
        mac.update(event.as_bytes());
        mac.update(&expires.to_be_bytes());
        mac
    }
}

fn unhex(text: &str) -> Option<[u8; SIGNATURE_BYTES]> {
    let mut bytes = [0; SIGNATURE_BYTES];
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if pairs.len() != SIGNATURE_BYTES || !rest.is_empty() {
        return None;
    }
    let digit = |character: u8| match character {
        b'0'..=b'9' => Some(character - b'0'),
        b'a'..=b'f' => Some(character - b'a' + 10),
        _ => None,
    };
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(bytes)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::vault::{KeyPurpose, RootKey};

    pub(crate) fn signer(key: u8, public_url: Option<&str>) -> Signer {
        Signer::new(RootKey::from_bytes([key; 32]).subkey(KeyPurpose::Links), public_url)
    }

    const NOW: UnixMillis = UnixMillis(1_790_000_000_500);

    fn parts(url: &str) -> (EventId, i64, String) {
        let (event, query) = url.rsplit_once('/').unwrap().1.split_once("?expires=").unwrap();
        let (expires, signature) = query.split_once("&signature=").unwrap();
        (EventId::parse(event).unwrap(), expires.parse().unwrap(), signature.to_owned())
    }

    #[test]
    fn link_works_for_five_minutes_and_not_before_or_after() {
        let signer = signer(1, Some("http://door.local:8480/"));
        let event = EventId::from_bytes([7; 16]);
        let url = signer.image_url(event, NOW).unwrap();
        assert!(
            url.starts_with("http://door.local:8480/image/07070707-0707-0707-0707-070707070707?"),
            "{url}"
        );
        let (found, expires, signature) = parts(&url);
        assert_eq!(found, event);
        for (later_ms, expected) in [
            (0, Ok(())),
            (299_000, Ok(())),
            (300_000, Err(LinkError::Expired)),
            (86_400_000, Err(LinkError::Expired)),
            // The clock was set back after the link was made.
            (-1_000, Err(LinkError::Expired)),
        ] {
            let now = UnixMillis(NOW.0 + later_ms);
            assert_eq!(signer.check(event, expires, &signature, now), expected, "{later_ms}");
        }
    }

    #[test]
    fn whatever_is_changed_is_noticed() {
        let signer = signer(1, Some("http://door"));
        let event = EventId::from_bytes([7; 16]);
        let (_, expires, signature) = parts(&signer.image_url(event, NOW).unwrap());
        let check =
            |signer: &Signer, event, expires, signature: &str| signer.check(event, expires, signature, NOW);
        assert_eq!(check(&signer, event, expires, &signature), Ok(()));
        let mut forged = 0;
        for place in 0..signature.len() {
            let mut changed = signature.clone().into_bytes();
            changed[place] = if changed[place] == b'0' { b'1' } else { b'0' };
            let changed = String::from_utf8(changed).unwrap();
            assert_eq!(check(&signer, event, expires, &changed), Err(LinkError::Forged));
            forged += 1;
        }
        assert_eq!(forged, 64);
        assert_eq!(check(&signer, EventId::from_bytes([8; 16]), expires, &signature), Err(LinkError::Forged));
        assert_eq!(check(&signer, event, expires + 1, &signature), Err(LinkError::Forged));
        for nonsense in ["", "00", &signature[1..], &format!("{signature}0"), &signature.to_uppercase(), "ä"]
        {
            assert_eq!(check(&signer, event, expires, nonsense), Err(LinkError::Forged), "{nonsense}");
        }
        let other = super::tests::signer(2, None);
        assert_eq!(check(&other, event, expires, &signature), Err(LinkError::Forged));
    }

    #[test]
    fn without_a_public_address_there_are_no_links() {
        assert_eq!(signer(1, None).image_url(EventId::from_bytes([7; 16]), NOW), None);
    }
}
