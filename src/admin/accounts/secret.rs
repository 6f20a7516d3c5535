//! Secrets that the device makes up: session and API tokens, invitations, the setup code. Only their
//! SHA-256 is kept; they are random and long, so that a slow hash would protect nothing more.

use std::fmt;

use sha2::{Digest, Sha256};
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::vault::{hex, push_hex};

/// Characters of the setup code that cannot be taken for one another, on paper or spoken.
const ALPHABET: &[u8; 31] = b"23456789ABCDEFGHJKMNPQRSTUVWXYZ";
const CODE_CHARS: usize = 12;
const GROUP: usize = 4;

/// SHA-256 of a secret: what is kept, and looked up by.
pub type SecretHash = [u8; 32];

/// A secret as it is given out, once. Not shown by `Debug`; wiped when dropped.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct Secret(String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl Secret {
    /// 256 random bits as hexadecimal digits, behind `prefix`.
    pub fn token(prefix: &str) -> Result<Self, getrandom::Error> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes)?;
        let mut text = String::with_capacity(prefix.len() + 64);
        text.push_str(prefix);
        push_hex(&mut text, &bytes);
        bytes.zeroize();
        Ok(Self(text))
    }

    /// A code that a person types in: 59 random bits in groups of four characters.
    pub fn code() -> Result<Self, getrandom::Error> {
        let mut text = String::with_capacity(CODE_CHARS + CODE_CHARS / GROUP);
        let mut taken = 0;
        while taken < CODE_CHARS {
            let mut byte = [0];
            getrandom::fill(&mut byte)?;
            // Of 32 values the last is thrown away, so that every character is as likely.
            let Some(character) = ALPHABET.get(usize::from(byte[0] & 31)) else { continue };
            if taken > 0 && taken % GROUP == 0 {
                text.push('-');
            }
            text.push(char::from(*character));
            taken += 1;
        }
        Ok(Self(text))
    }

    /// The secret itself.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// What is kept of it.
    pub fn hash(&self) -> SecretHash {
        hash(&self.0)
    }
}

/// What would be kept of this text if it were a secret.
pub(crate) fn hash(text: &str) -> SecretHash {
    Sha256::digest(text.as_bytes()).into()
}

/// The hash of a code as somebody typed it: small letters, spaces and other grouping do not matter.
pub(crate) fn code_hash(typed: &str) -> SecretHash {
    let mut code = String::with_capacity(CODE_CHARS + CODE_CHARS / GROUP);
    let typed = typed.chars().filter(char::is_ascii_alphanumeric).take(CODE_CHARS + 1);
    for (at, character) in typed.enumerate() {
        if at > 0 && at % GROUP == 0 {
            code.push('-');
        }
        code.push(character.to_ascii_uppercase());
    }
    hash(&code)
}

/// What a page shows to prove that it is ours: made of the session's secret, and telling nothing about
/// it. A page of another origin can neither read it nor make it.
pub(crate) fn csrf(session_token: &str) -> String {
    let mut digest = Sha256::new();
    digest.update(b"limen/1/csrf\0");
    digest.update(session_token.as_bytes());
    hex(&digest.finalize())
}

/// Whether two texts are equal, in a time that does not tell how much of them is.
pub(crate) fn same(left: &str, right: &str) -> bool {
    let (left, right) = (hash(left), hash(right));
    left.iter().zip(right).fold(0, |found, (a, b)| found | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn setup_code_is_three_groups_of_four_unambiguous_characters() {
        let code = Secret::code().unwrap();
        let groups: Vec<_> = code.expose().split('-').collect();
        assert_eq!(groups.len(), 3);
        assert!(groups.iter().all(|group| group.len() == 4), "{groups:?}");
        assert!(code.expose().bytes().all(|byte| byte == b'-' || ALPHABET.contains(&byte)));
        assert!(!code.expose().contains(['0', 'O', '1', 'I']));
        assert_ne!(code.expose(), Secret::code().unwrap().expose());
    }

    #[test]
    fn code_is_the_same_however_it_is_typed() {
        let kept = hash("ABCD-EFGH-JK23");
        for typed in ["ABCD-EFGH-JK23", "abcdefghjk23", " ABCD EFGH JK23 ", "ab cd-ef gh-jk 23"] {
            assert_eq!(code_hash(typed), kept, "{typed}");
        }
        for wrong in ["ABCD-EFGH-JK24", "ABCD-EFGH-JK2", "ABCD-EFGH-JK233", ""] {
            assert_ne!(code_hash(wrong), kept, "{wrong}");
        }
    }

    #[test]
    fn secrets_are_compared_whole_and_never_shown() {
        let token = Secret::token("limen_").unwrap();
        assert_eq!((token.expose().len(), format!("{token:?}").as_str()), (70, "Secret(..)"));
        assert!(same(token.expose(), token.expose()));
        assert!(!same(token.expose(), &token.expose()[..69]));
        assert_ne!(csrf(token.expose()), csrf("limen_"));
    }
}
