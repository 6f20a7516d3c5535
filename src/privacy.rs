//! What people are told: the notice at the door and the data sheet, made of the configuration that is in force,
//! so that neither says anything that the device does not do.
//!
//! Each is one HTML page without scripts or anything from elsewhere, to be printed. What only people know (who is
//! responsible, what for) stands in `privacy.*` of the configuration; where it does not, the page has a line to be
//! filled in by hand, and [`missing`] names the setting.

use std::fmt::Write;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::backup::BackupPlan;
use crate::clock::{UnixMillis, rfc3339};
use crate::config::Config;
use crate::vault::KeySource;

/// In which language.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Language {
    /// English.
    #[default]
    En,
    /// German.
    De,
}

/// What is known besides the configuration.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Where the root key comes from, in words of the program.
    pub key: String,
    /// Whether whoever takes the storage has the key too.
    pub key_beside_data: bool,
    /// The space that templates belong to.
    pub space: String,
    /// When the page is made.
    pub at: UnixMillis,
}

impl Facts {
    /// Of a device with this key and this network.
    pub fn new(key: &KeySource, space: String, at: UnixMillis) -> Self {
        Self { key: key.name(), key_beside_data: key.warning().is_some(), space, at }
    }
}

/// Settings that the pages need and that are not set.
pub fn missing(config: &Config) -> Vec<&'static str> {
    let privacy = &config.privacy;
    [
        ("privacy.responsible", privacy.responsible.is_none()),
        ("privacy.contact", privacy.contact.is_none()),
        ("privacy.purpose", privacy.purpose.is_none()),
        ("privacy.alternative", privacy.alternative.is_none()),
    ]
    .into_iter()
    .filter_map(|(setting, is_missing)| is_missing.then_some(setting))
    .collect()
}

/// A page being written in one language.
struct Page {
    language: Language,
    html: String,
}

const STYLE: &str = "\
@page{size:A4;margin:16mm}\
*{box-sizing:border-box}\
body{font:11.5pt/1.45 system-ui,sans-serif;color:#111;background:#fff;max-width:180mm;margin:10mm auto;padding:0 6mm}\
h1{font-size:26pt;line-height:1.15;margin:0 0 6mm}\
h2{font-size:13.5pt;margin:7mm 0 2mm}\
p,ul{margin:0 0 3mm}ul{padding-left:6mm}\
.head{display:flex;gap:8mm;align-items:center;border-bottom:1.2mm solid #111;padding-bottom:5mm;margin-bottom:6mm}\
.head h1{margin:0}.head svg{flex:none;width:34mm;height:34mm}\
.notice{font-size:13.5pt}.blank{display:inline-block;min-width:70mm;border-bottom:.3mm solid #111;height:1.2em}\
table{width:100%;border-collapse:collapse;font-size:10pt}\
th,td{border:.2mm solid #777;padding:1.6mm 2mm;text-align:left;vertical-align:top}th{background:#eee}\
thead{display:table-header-group}tr{break-inside:avoid}\
.foot{font-size:9pt;color:#444;border-top:.2mm solid #777;margin-top:8mm;padding-top:2mm}\
@media print{body{margin:0;padding:0;max-width:none}}";

/// A camera that looks at a face.
const SIGN: &str = "<svg viewBox='0 0 100 100' aria-hidden='true' fill='none' stroke='#111' stroke-width='5' \
stroke-linecap='round' stroke-linejoin='round'><path d='M5 28V8a3 3 0 0 1 3-3h20M72 5h20a3 3 0 0 1 3 3v20M95 72v20a3 \
3 0 0 1-3 3H72M28 95H8a3 3 0 0 1-3-3V72'/><circle cx='50' cy='38' r='15'/><path d='M23 80c3-17 13-24 27-24s24 7 27 \
24'/></svg>";

fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            '\n' => safe.push_str("<br>"),
            other => safe.push(other),
        }
    }
    safe
}

impl Page {
    fn new(language: Language, title: &str, class: &str, sign: bool) -> Self {
        let code = match language {
            Language::En => "en",
            Language::De => "de",
        };
        let title = escaped(title);
        let sign = if sign { SIGN } else { "" };
        let html = format!(
            "<!doctype html>\n<html lang='{code}'><head><meta charset='utf-8'><meta name='viewport' \
             content='width=device-width'><title>{title}</title><style>{STYLE}</style></head><body class='{class}'>\
             <div class='head'>{sign}<h1>{title}</h1></div>\n"
        );
        Self { language, html }
    }

    /// One of two texts.
    fn say<'a>(&self, en: &'a str, de: &'a str) -> &'a str {
        match self.language {
            Language::En => en,
            Language::De => de,
        }
    }

    fn heading(&mut self, en: &str, de: &str) {
        let text = escaped(self.say(en, de));
        // Writing to a string cannot fail; so below.
        let _ = writeln!(self.html, "<h2>{text}</h2>");
    }

    /// A paragraph.
    fn text(&mut self, text: &str) {
        let text = escaped(text);
        let _ = writeln!(self.html, "<p>{text}</p>");
    }

    /// What only people know, or a line to be filled in.
    fn known(&mut self, text: Option<&str>) {
        match text {
            Some(text) => self.text(text),
            None => self.html.push_str("<p><span class='blank'></span></p>\n"),
        }
    }

    fn list(&mut self, lines: &[String]) {
        let items: String = lines.iter().map(|line| format!("<li>{}</li>", escaped(line))).collect();
        let _ = writeln!(self.html, "<ul>{items}</ul>");
    }

    fn table(&mut self, head: &[&str], rows: &[[String; 4]]) {
        let head: String = head.iter().map(|cell| format!("<th>{}</th>", escaped(cell))).collect();
        let row = |row: &[String; 4]| {
            let cells: String = row.iter().map(|cell| format!("<td>{}</td>", escaped(cell))).collect();
            format!("<tr>{cells}</tr>")
        };
        let rows: String = rows.iter().map(row).collect();
        let _ = writeln!(self.html, "<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>");
    }

    fn end(mut self, config: &Config, at: UnixMillis) -> String {
        let made =
            self.say("Made by the device from its settings", "Vom Gerät aus seinen Einstellungen erzeugt");
        let foot = format!(
            "{made}: {}, limen {}, {}, {}",
            config.device.name,
            env!("CARGO_PKG_VERSION"),
            &rfc3339(at)[..10],
            match self.language {
                Language::En => format!("text of consent: version {}", config.privacy.consent_text_version),
                Language::De => format!("Einwilligungstext: Fassung {}", config.privacy.consent_text_version),
            }
        );
        let _ = writeln!(self.html, "<p class='foot'>{}</p></body></html>", escaped(&foot));
        self.html
    }

    /// So long, and no more than so many.
    fn at_most(&self, time: String, most: u32) -> String {
        format!("{time}, {} {most}", self.say("at most", "höchstens"))
    }

    fn days(&self, days: u32) -> String {
        match (self.language, days) {
            (Language::En, 1) => "1 day".to_owned(),
            (Language::En, days) => format!("{days} days"),
            (Language::De, 1) => "1 Tag".to_owned(),
            (Language::De, days) => format!("{days} Tage"),
        }
    }

    fn hours(&self, hours: u32) -> String {
        match (self.language, hours) {
            (Language::En, 1) => "1 hour".to_owned(),
            (Language::En, hours) => format!("{hours} hours"),
            (Language::De, 1) => "1 Stunde".to_owned(),
            (Language::De, hours) => format!("{hours} Stunden"),
        }
    }
}

/// The notice at the door, before anybody is in view of the camera.
pub fn notice(config: &Config, at: UnixMillis, language: Language) -> String {
    let privacy = &config.privacy;
    let title = match language {
        Language::En => "Faces are recognised here",
        Language::De => "Hier werden Gesichter erkannt",
    };
    let mut page = Page::new(language, title, "notice", true);
    page.heading("What happens", "Was geschieht");
    let mut lines = vec![
        page.say(
            "A camera looks for faces and compares them, on this device, with people who are enrolled.",
            "Eine Kamera sucht Gesichter und vergleicht sie auf diesem Gerät mit eingetragenen Personen.",
        )
        .to_owned(),
        page.say(
            "Pictures of the camera are not recorded, and none leaves the device.",
            "Bilder der Kamera werden nicht aufgezeichnet, und keines verlässt das Gerät.",
        )
        .to_owned(),
    ];
    if config.events.keep_crops {
        let days = page.days(config.events.keep_crops_days);
        lines.push(match language {
            Language::En => format!(
                "Of everybody who comes into view, also of those who are not enrolled, a picture of the face is \
                 kept for up to {days}, encrypted."
            ),
            Language::De => format!(
                "Von allen, die ins Bild kommen, auch von nicht eingetragenen Personen, wird ein Bild des \
                 Gesichts bis zu {days} verschlüsselt aufbewahrt."
            ),
        });
        // That sentence would not be true of all pictures then.
        lines[1] = page.say("Video is not recorded.", "Ein Video wird nicht aufgezeichnet.").to_owned();
    }
    let days = page.days(config.events.keep_days);
    lines.push(match language {
        Language::En => format!("When somebody came, and who of those enrolled it was, is kept for {days}."),
        Language::De => {
            format!(
                "Wann jemand kam, und welche der eingetragenen Personen es war, bleibt {days} gespeichert."
            )
        }
    });
    if config.sightings.keep {
        let hours = page.hours(config.sightings.keep_hours);
        lines.push(match language {
            Language::En => format!(
                "Faces of people who are not enrolled are kept for up to {hours}, encrypted, so that they can be \
                 named later."
            ),
            Language::De => format!(
                "Gesichter nicht eingetragener Personen werden bis zu {hours} verschlüsselt aufbewahrt, um sie \
                 später benennen zu können."
            ),
        });
    } else {
        lines.push(
            page.say(
                "Of people who are not enrolled nothing is kept by which they could be recognised again.",
                "Von nicht eingetragenen Personen bleibt nichts, woran sie wiedererkannt werden könnten.",
            )
            .to_owned(),
        );
    }
    if let Some(host) = &config.mqtt.host {
        lines.push(match language {
            Language::En => format!("Who came and when is told to the home automation at {host}."),
            Language::De => format!("Wer wann kam, wird der Haussteuerung unter {host} mitgeteilt."),
        });
    }
    page.list(&lines);
    page.heading("What for", "Wofür");
    page.known(privacy.purpose.as_deref());
    page.heading("You do not want that?", "Sie möchten das nicht?");
    page.known(privacy.alternative.as_deref());
    page.heading("Who is responsible", "Wer verantwortlich ist");
    page.known(privacy.responsible.as_deref());
    page.known(privacy.contact.as_deref());
    page.heading("Your rights", "Ihre Rechte");
    page.text(match language {
        Language::En => {
            "You may ask what is kept about you, have it corrected or erased, take a consent back at any time, and \
             complain to the data protection authority. Ask for the data sheet: it has the details."
        }
        Language::De => {
            "Sie können Auskunft über Ihre Daten verlangen, sie berichtigen oder löschen lassen, eine Einwilligung \
             jederzeit widerrufen und sich bei der Datenschutzaufsicht beschweren. Einzelheiten stehen im \
             Datenblatt, fragen Sie danach."
        }
    });
    page.end(config, at)
}

/// The data sheet: what is kept, where, for how long, and who gets it.
pub fn sheet(config: &Config, facts: &Facts, language: Language) -> String {
    let privacy = &config.privacy;
    let title = match language {
        Language::En => format!("Data sheet: face recognition by {}", config.device.name),
        Language::De => format!("Datenblatt: Gesichtserkennung durch {}", config.device.name),
    };
    let mut page = Page::new(language, &title, "sheet", false);
    page.heading("Responsible", "Verantwortlich");
    page.known(privacy.responsible.as_deref());
    page.known(privacy.contact.as_deref());
    page.heading("Purpose and legal basis", "Zweck und Rechtsgrundlage");
    page.known(privacy.purpose.as_deref());
    let consent = page.say(
        "Explicit consent of the people enrolled (GDPR, article 9(2)(a)).",
        "Ausdrückliche Einwilligung der eingetragenen Personen (DSGVO, Artikel 9 Absatz 2 Buchstabe a).",
    );
    page.text(privacy.legal_basis.as_deref().unwrap_or(consent));
    page.heading("What is kept, and how long", "Was gespeichert wird, und wie lange");
    let head = match language {
        Language::En => ["Data", "Of whom", "How long", "Where"],
        Language::De => ["Daten", "Von wem", "Wie lange", "Wo"],
    };
    let rows = rows(config, facts, &page);
    page.table(&head, &rows);
    page.heading("Who gets it", "Wer es erhält");
    let mut receivers = Vec::new();
    if let Some(host) = &config.mqtt.host {
        let encrypted = match (config.mqtt.tls, language) {
            (true, Language::En) => "encrypted on the way",
            (false, Language::En) => "not encrypted on the way",
            (true, Language::De) => "auf dem Weg verschlüsselt",
            (false, Language::De) => "auf dem Weg nicht verschlüsselt",
        };
        receivers.push(match language {
            Language::En => format!("The home automation at {host}: who came and when, {encrypted}."),
            Language::De => format!("Die Haussteuerung unter {host}: wer wann kam, {encrypted}."),
        });
    }
    if let Some(plan) = BackupPlan::new(config) {
        let places = plan.places().join(", ");
        receivers.push(match language {
            Language::En => {
                format!("Backups, encrypted, the newest {} in: {places}.", plan.keep)
            }
            Language::De => format!("Sicherungen, verschlüsselt, die neuesten {} in: {places}.", plan.keep),
        });
    }
    receivers.push(
        page.say(
            "Those who administer the device, by accounts of their own; what they do is recorded.",
            "Wer das Gerät verwaltet, mit eigenem Konto; was dabei geschieht, wird aufgezeichnet.",
        )
        .to_owned(),
    );
    receivers
        .push(page.say("Nobody else: there is no cloud.", "Niemand sonst: Es gibt keine Cloud.").to_owned());
    page.list(&receivers);
    page.heading("How it is protected", "Wie es geschützt ist");
    let key = match (facts.key_beside_data, language) {
        (true, Language::En) => {
            "The key lies on the same storage: whoever takes the device has both.".to_owned()
        }
        (true, Language::De) => {
            "Der Schlüssel liegt auf demselben Speicher: Wer das Gerät mitnimmt, hat beides.".to_owned()
        }
        (false, Language::En) => format!("The key is {}, not on the same storage.", facts.key),
        (false, Language::De) => format!("Der Schlüssel ist {}, nicht auf demselben Speicher.", facts.key),
    };
    page.list(&[
        page.say(
            "Databases (SQLCipher, AES-256) and pictures (AES-256-GCM, a key of each person) are encrypted.",
            "Datenbanken (SQLCipher, AES-256) und Bilder (AES-256-GCM, ein Schlüssel je Person) sind verschlüsselt.",
        )
        .to_owned(),
        key,
        page.say(
            "Erasing a person erases the key of the pictures, and a search of everything that is kept shows that \
             nothing is left.",
            "Mit einer Person wird der Schlüssel ihrer Bilder gelöscht, und eine Suche in allem Gespeicherten \
             belegt, dass nichts bleibt.",
        )
        .to_owned(),
    ]);
    page.heading("Decisions", "Entscheidungen");
    page.text(match language {
        Language::En => {
            "The device says who somebody is when two looks at least agree and reach a threshold, and \
             otherwise that nobody is known. It can be wrong both ways: whoever is not recognised gets in as before."
        }
        Language::De => {
            "Das Gerät nennt eine Person, wenn der Vergleich mehrerer Bilder einen Schwellwert erreicht, sonst gilt \
             sie als unbekannt. Es kann sich in beide Richtungen irren: Wer nicht erkannt wird, kommt auf dem \
             bisherigen Weg hinein."
        }
    });
    if let Some(alternative) = &privacy.alternative {
        page.text(alternative);
    }
    page.heading("Rights, and how they are met", "Rechte, und wie sie erfüllt werden");
    let rights = match language {
        Language::En => [
            "Access and portability: a file with everything kept about the person (page of the person, or limen subjects export).",
            "Correction: name and notes on the page of the person; pictures are removed or added there.",
            "Erasure, and taking consent back: on the page of the person, with a receipt (or limen subjects remove). Backups made before keep their data until they are replaced; a restore erases the person again.",
            "Complaint: to the data protection authority.",
        ],
        Language::De => [
            "Auskunft und Übertragbarkeit: eine Datei mit allem, was über die Person gespeichert ist (Seite der Person oder limen subjects export).",
            "Berichtigung: Name und Notizen auf der Seite der Person; Bilder werden dort entfernt oder ergänzt.",
            "Löschung und Widerruf: auf der Seite der Person, mit Beleg (oder limen subjects remove). Ältere Sicherungen behalten die Daten, bis sie ersetzt sind; eine Wiederherstellung löscht die Person erneut.",
            "Beschwerde: bei der Datenschutzaufsicht.",
        ],
    };
    page.list(&rights.map(str::to_owned));
    page.end(config, facts.at)
}

fn rows(config: &Config, facts: &Facts, page: &Page) -> Vec<[String; 4]> {
    let language = page.language;
    let own = |en: &'static str, de: &'static str| page.say(en, de).to_owned();
    let device = own("On the device", "Auf dem Gerät");
    let enrolled = own("People enrolled", "Eingetragene Personen");
    let everybody = own("Everybody in view", "Alle im Bild");
    let until = match (config.privacy.erase_unseen_days, language) {
        (0, Language::En) => "Until erased by hand or at an expiry that was set".to_owned(),
        (0, Language::De) => "Bis zur Löschung von Hand oder bis zum gesetzten Ablauf".to_owned(),
        (days, Language::En) => {
            format!("Until erased, or {} after the person was last recognised", page.days(days))
        }
        (days, Language::De) => {
            format!("Bis zur Löschung, oder {} nach der letzten Erkennung", page.days(days))
        }
    };
    let mut rows = vec![[
        match language {
            Language::En => format!(
                "Name, notes, groups, consent, and templates: numbers made of each picture (network {})",
                facts.space
            ),
            Language::De => format!(
                "Name, Notizen, Gruppen, Einwilligung und Vorlagen: aus jedem Bild gebildete Zahlen (Netz {})",
                facts.space
            ),
        },
        enrolled.clone(),
        until.clone(),
        device.clone(),
    ]];
    rows.push([
        own("Pictures of the face given at enrolment", "Bilder des Gesichts aus der Eintragung"),
        enrolled.clone(),
        if config.enrolment.keep_pictures {
            until
        } else {
            own("Not kept: templates only", "Nicht gespeichert: nur Vorlagen")
        },
        device.clone(),
    ]);
    rows.push([
        own("When somebody was last recognised", "Wann jemand zuletzt erkannt wurde"),
        enrolled,
        own("With the person, to within 6 hours", "Mit der Person, auf 6 Stunden genau"),
        device.clone(),
    ]);
    rows.push([
        own(
            "Events: when somebody came, who it was, how sure that was",
            "Ereignisse: wann jemand kam, wer es war, wie sicher das war",
        ),
        everybody.clone(),
        page.at_most(page.days(config.events.keep_days), config.events.keep_count),
        device.clone(),
    ]);
    if config.events.keep_crops {
        rows.push([
            own("A picture of the face with each event", "Ein Bild des Gesichts zu jedem Ereignis"),
            everybody,
            page.at_most(page.days(config.events.keep_crops_days), config.events.keep_crops_count),
            device.clone(),
        ]);
    }
    if config.sightings.keep {
        rows.push([
            own(
                "Faces and templates, to be named later",
                "Gesichter und Vorlagen, um sie später zu benennen",
            ),
            own("People not enrolled", "Nicht eingetragene Personen"),
            page.at_most(page.hours(config.sightings.keep_hours), config.sightings.maximum),
            device.clone(),
        ]);
    }
    rows.push([
        own(
            "Audit log: who changed, exported or erased what, and from which address",
            "Protokoll: wer was geändert, ausgeführt oder gelöscht hat, und von welcher Adresse",
        ),
        own("People who administer", "Verwaltende Personen"),
        page.at_most(page.days(config.audit.keep_days), config.audit.keep_count),
        device,
    ]);
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        let (key, space) = ("the systemd credential".to_owned(), "mobilefacenet/1".to_owned());
        Facts { key, key_beside_data: false, space, at: UnixMillis(1_795_000_000_000) }
    }

    #[test]
    fn notice_says_what_the_configuration_does_and_nothing_else() {
        let mut config = Config::default();
        for (language, plain, unknown, crops, broker) in [
            (
                Language::En,
                "none leaves the device",
                "so that they can be named",
                "a picture of the face is",
                "broker.local",
            ),
            (
                Language::De,
                "keines verlässt das Gerät",
                "später benennen",
                "ein Bild des Gesichts",
                "broker.local",
            ),
        ] {
            config.sightings.keep = false;
            config.events.keep_crops = false;
            config.mqtt.host = None;
            let page = notice(&config, facts().at, language);
            assert!(page.contains(plain) && ![unknown, crops, broker].iter().any(|text| page.contains(text)));
            config.sightings.keep = true;
            config.events.keep_crops = true;
            config.mqtt.host = Some("broker.local".to_owned());
            let page = notice(&config, facts().at, language);
            assert!(!page.contains(plain), "pictures of faces are kept");
            assert!([unknown, crops, broker].iter().all(|text| page.contains(text)), "{page}");
        }
    }

    #[test]
    fn what_nobody_has_said_is_a_line_to_fill_in_and_named() {
        let mut config = Config::default();
        assert_eq!(missing(&config).len(), 4);
        assert!(notice(&config, facts().at, Language::En).contains("class='blank'"));
        let privacy = &mut config.privacy;
        privacy.responsible = Some("House <Association> & Co\n1 Road".to_owned());
        privacy.contact = Some("privacy@example.org".to_owned());
        privacy.purpose = Some("opening the door".to_owned());
        privacy.alternative = Some("ring the bell".to_owned());
        assert_eq!(missing(&config), Vec::<&str>::new());
        for page in [notice(&config, facts().at, Language::De), sheet(&config, &facts(), Language::En)] {
            assert!(
                !page.contains("class='blank'")
                    && page.contains("House &lt;Association&gt; &amp; Co<br>1 Road")
            );
            assert!(!page.contains("<script") && !page.contains("http"), "nothing from elsewhere");
        }
    }

    #[test]
    fn sheet_has_the_limits_in_force() {
        let mut config = Config::default();
        config.events.keep_days = 17;
        config.privacy.erase_unseen_days = 0;
        config.enrolment.keep_pictures = false;
        let page = sheet(&config, &facts(), Language::En);
        for text in ["17 days", "by hand", "templates only", "the systemd credential", "mobilefacenet/1"] {
            assert!(page.contains(text), "{text}");
        }
        assert!(!page.contains("to be named later"));
        let beside = Facts { key_beside_data: true, ..facts() };
        assert!(sheet(&config, &beside, Language::De).contains("hat beides"));
    }
}
