//! Words for screens, in the languages of `texts.toml`, and what of a name a font can show.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use super::screen::{Hint, Refusal, Screen};
use crate::config::DisplayLanguage;
use crate::door::keeper::Factor;

type Texts = BTreeMap<String, BTreeMap<String, String>>;

static TEXTS: LazyLock<Texts> =
    LazyLock::new(|| toml::from_str(include_str!("texts.toml")).expect("a test reads the texts"));

/// What a screen says, apart from how it looks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Words {
    /// Large.
    pub headline: String,
    /// Below it.
    pub detail: Option<String>,
}

fn text(language: DisplayLanguage, key: &str) -> &'static str {
    let language = match language {
        DisplayLanguage::En => "en",
        DisplayLanguage::De => "de",
    };
    TEXTS.get(language).and_then(|texts| texts.get(key)).map_or("", String::as_str)
}

/// The words of a screen. `at` tells the time beside the door of an instant.
pub fn words(
    screen: &Screen,
    language: DisplayLanguage,
    door: &str,
    at: impl Fn(crate::clock::UnixMillis) -> Option<(u8, u8)>,
) -> Words {
    let say = |key: &str| text(language, key).to_owned();
    let (headline, detail) = match screen {
        Screen::Idle { time, offline } => {
            let clock = time.map(|(hour, minute)| format!("{hour:02}:{minute:02}"));
            let below =
                if *offline { Some(format!("{door} · {}", say("offline"))) } else { Some(door.to_owned()) };
            match clock {
                Some(clock) => (clock, below),
                None => (door.to_owned(), offline.then(|| say("offline"))),
            }
        }
        Screen::Looking { hint: None, .. } => (say("looking"), None),
        Screen::Looking { hint: Some(hint), .. } => {
            let key = match hint {
                Hint::ComeCloser => "come_closer",
                Hint::LookAtCamera => "look_at_camera",
                Hint::HoldStill => "hold_still",
                Hint::MoreLight => "more_light",
                Hint::LessLight => "less_light",
            };
            (say(key), None)
        }
        Screen::Welcome { name: Some(name) } => (say("welcome_name"), Some(name.clone())),
        Screen::Welcome { name: None } => (say("welcome"), None),
        Screen::Denied(refusal) => match refusal {
            Refusal::NotKnown => (say("not_known"), Some(say("use_pass"))),
            Refusal::NotAtThisHour(from) => {
                let from = from.and_then(at);
                let from = from.map(|(hour, minute)| format!("{} {hour:02}:{minute:02}", say("from")));
                (say("not_at_this_hour"), from)
            }
            Refusal::NotAdmitted => (say("not_admitted"), Some(say("ring_bell"))),
            Refusal::WrongPin => (say("wrong_pin"), Some(say("try_again"))),
            Refusal::PassInvalid => (say("denied"), Some(say("pass_invalid"))),
            Refusal::PassUsed => (say("denied"), Some(say("pass_used"))),
            Refusal::PassExpired => (say("denied"), Some(say("pass_expired"))),
            Refusal::TooOften => (say("too_often"), None),
            Refusal::TimeUnknown => (say("denied"), Some(say("time_unknown"))),
            Refusal::FaceUnlockOff => (say("use_pass"), Some(say("face_unlock_off"))),
            Refusal::TryAgain => (say("denied"), Some(say("try_again"))),
        },
        Screen::Prompt(Factor::Pin) => (say("enter_pin"), None),
        Screen::Prompt(Factor::Pass) => (say("show_pass"), None),
        Screen::Prompt(Factor::Face) => (say("show_face"), None),
        Screen::Enrolment(step) => {
            // The poses of the guide, by its names.
            let key = match *step {
                "left" => "turn_left",
                "right" => "turn_right",
                "up" => "look_up",
                "down" => "look_down",
                "front" => "look_straight",
                _ => "done",
            };
            (say(key), Some(say("enrolling")))
        }
        Screen::Rung => (say("rung"), Some(say("wait"))),
        Screen::NoCamera => (say("no_camera"), Some(say("ring_bell"))),
        Screen::LockedOut { minutes } => (say("locked_out"), Some(format!("{minutes} {}", say("minutes")))),
    };
    Words { headline: legible(&headline), detail: detail.map(|detail| legible(&detail)) }
}

/// Text as the fonts of the display can show it: Latin with diacritics, Greek and Cyrillic as they are, everything
/// else transliterated, and nothing as an empty box.
pub fn legible(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        // Marks without a shape of their own: some turn the direction of the text around.
        let shapeless = letter.is_control()
            || matches!(letter, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2064}' | '\u{feff}');
        if shapeless {
            continue;
        }
        if is_drawn(letter) {
            out.push(letter);
        } else if let Some(other) = deunicode::deunicode_char(letter) {
            out.push_str(other);
        }
    }
    let words: Vec<&str> = out.split_whitespace().collect();
    words.join(" ")
}

fn is_drawn(letter: char) -> bool {
    // Soft hyphens and the like have a code and no shape.
    matches!(letter, ' '..='~' | '\u{a1}'..='\u{ac}' | '\u{ae}'..='\u{17f}' | '\u{384}'..='\u{3ce}' | '\u{400}'..='\u{45f}' | '–' | '—' | '‘' | '’' | '“' | '”' | '„' | '…' | '€')
        && !matches!(letter, '\u{38b}' | '\u{38d}' | '\u{3a2}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_language_has_every_text_and_each_is_legible() {
        let languages: Vec<_> = TEXTS.keys().map(String::as_str).collect();
        assert_eq!(languages, ["de", "en"]);
        let keys = |language: &str| TEXTS[language].keys().cloned().collect::<Vec<_>>();
        assert_eq!(keys("de"), keys("en"));
        for (language, texts) in TEXTS.iter() {
            for (key, text) in texts {
                assert!(!text.trim().is_empty() && *text == legible(text), "{language} {key}");
                assert!(text.chars().count() <= 26, "{language} {key} is too long for the smallest display");
            }
        }
    }

    #[test]
    fn names_stay_as_they_are_or_are_transliterated() {
        for same in ["Ada Lovelace", "Jürgen Größe", "Đặng".split_at(0).0, "Αδάμ", "Žofie Čapková", "Хрущёв"]
        {
            assert_eq!(legible(same), same);
        }
        assert_eq!(legible("李小龙"), "Li Xiao Long");
        assert_eq!(legible("Đặng"), "Đang");
        assert!(legible("محمد").is_ascii() && !legible("محمد").is_empty());
        assert_eq!(legible("a\u{202e}b\u{0}c\u{200b}d"), "abcd");
        assert!(!legible(&"😀".repeat(3)).contains('\u{fffd}'));
    }
}
