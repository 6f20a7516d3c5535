//! How each kind of value is read from TOML, written back, and described.

use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use toml::de::DeValue;
use zeroize::Zeroizing;

use crate::camera::SourceSpec;
use crate::frame::PixelFormat;
use crate::view::Area;

/// Longest path taken: the limit of Linux.
const MAXIMUM_PATH_BYTES: usize = 4096;

/// The value is of the wrong type or out of range. What was found and what is allowed is said by
/// the caller, who knows the setting.
pub(super) struct Refused;

/// A value ready to be shown.
pub(super) struct Written {
    /// As TOML.
    pub(super) toml: String,
    /// As JSON; null when unset.
    pub(super) json: serde_json::Value,
}

/// What kind of value a setting takes, for whoever shows a field for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Any text.
    Text,
    /// A whole number.
    Integer,
    /// A number.
    Number,
    /// True or false.
    Switch,
    /// One of several words.
    Choice,
    /// A text that is never shown.
    Secret,
    /// A path in the file system of the device.
    Path,
    /// One rectangle: left, top, width, height as fractions of the picture.
    Area,
    /// Several of them.
    List,
}

/// How a value is narrowed down.
#[derive(Clone, Debug, PartialEq)]
pub struct Shape {
    /// What kind it is.
    pub kind: Kind,
    /// The words of a choice.
    pub choices: Vec<&'static str>,
    /// Least and greatest number.
    pub range: Option<(f64, f64)>,
    /// Whether it may be unset.
    pub optional: bool,
}

impl Shape {
    fn of(kind: Kind) -> Self {
        Self { kind, choices: Vec::new(), range: None, optional: false }
    }
}

/// A kind of value.
pub(super) trait Value: Sized {
    /// What narrows the kind down for one setting.
    type Allowed;
    /// Whether a string of the environment is this value without further quoting.
    const TEXT: bool = false;
    /// Whether the value must not be shown.
    const SECRET: bool = false;

    fn read(found: &DeValue<'_>, allowed: &Self::Allowed) -> Result<Self, Refused>;
    fn write(&self) -> Written;
    fn allowed(allowed: &Self::Allowed) -> String;
    fn shape(allowed: &Self::Allowed) -> Shape;
}

/// Length of a text, in bytes of UTF-8.
pub(super) struct Text {
    pub(super) bytes: RangeInclusive<usize>,
}

fn text<'v>(found: &'v DeValue<'_>) -> Result<&'v str, Refused> {
    // Control characters would garble logs and, as NUL, cut paths short.
    let text = found.as_str().ok_or(Refused)?;
    if text.chars().any(char::is_control) { Err(Refused) } else { Ok(text) }
}

fn path(text: &str) -> Result<PathBuf, Refused> {
    if text.is_empty() || text.len() > MAXIMUM_PATH_BYTES { Err(Refused) } else { Ok(text.into()) }
}

fn written_text(text: &str) -> Written {
    Written { toml: toml::Value::String(text.to_owned()).to_string(), json: text.into() }
}

impl Value for String {
    type Allowed = Text;
    const TEXT: bool = true;

    fn read(found: &DeValue<'_>, allowed: &Text) -> Result<Self, Refused> {
        let text = text(found)?;
        if allowed.bytes.contains(&text.len()) { Ok(text.to_owned()) } else { Err(Refused) }
    }

    fn write(&self) -> Written {
        written_text(self)
    }

    fn allowed(allowed: &Text) -> String {
        format!(
            "text of {} to {} bytes without control characters",
            allowed.bytes.start(),
            allowed.bytes.end()
        )
    }

    fn shape(_: &Text) -> Shape {
        Shape::of(Kind::Text)
    }
}

impl Value for PathBuf {
    type Allowed = ();
    const TEXT: bool = true;

    fn read(found: &DeValue<'_>, (): &()) -> Result<Self, Refused> {
        path(text(found)?)
    }

    fn write(&self) -> Written {
        // Read from TOML, which is UTF-8, so nothing is lost.
        written_text(&self.to_string_lossy())
    }

    fn allowed((): &()) -> String {
        "a path".to_owned()
    }

    fn shape((): &()) -> Shape {
        Shape::of(Kind::Path)
    }
}

impl Value for bool {
    type Allowed = ();

    fn read(found: &DeValue<'_>, (): &()) -> Result<Self, Refused> {
        found.as_bool().ok_or(Refused)
    }

    fn write(&self) -> Written {
        Written { toml: self.to_string(), json: (*self).into() }
    }

    fn allowed((): &()) -> String {
        "true or false".to_owned()
    }

    fn shape((): &()) -> Shape {
        Shape::of(Kind::Switch)
    }
}

impl Value for u32 {
    type Allowed = RangeInclusive<u32>;

    fn read(found: &DeValue<'_>, allowed: &Self::Allowed) -> Result<Self, Refused> {
        let digits = found.as_integer().ok_or(Refused)?;
        let value = Self::from_str_radix(digits.as_str(), digits.radix()).map_err(|_| Refused)?;
        if allowed.contains(&value) { Ok(value) } else { Err(Refused) }
    }

    fn write(&self) -> Written {
        Written { toml: self.to_string(), json: (*self).into() }
    }

    fn allowed(allowed: &Self::Allowed) -> String {
        format!("a whole number from {} to {}", allowed.start(), allowed.end())
    }

    fn shape(allowed: &Self::Allowed) -> Shape {
        let range = Some((f64::from(*allowed.start()), f64::from(*allowed.end())));
        Shape { range, ..Shape::of(Kind::Integer) }
    }
}

impl Value for f32 {
    type Allowed = RangeInclusive<f32>;

    fn read(found: &DeValue<'_>, allowed: &Self::Allowed) -> Result<Self, Refused> {
        let value = match found {
            DeValue::Float(digits) => digits.as_str().parse().map_err(|_| Refused)?,
            DeValue::Integer(digits) if digits.radix() == 10 => {
                digits.as_str().parse().map_err(|_| Refused)?
            }
            _ => return Err(Refused),
        };
        // Neither NaN nor an infinity is inside a range.
        if allowed.contains(&value) { Ok(value) } else { Err(Refused) }
    }

    fn write(&self) -> Written {
        // The shortest digits that read back as the same f32, and no more of them in JSON.
        let toml = format!("{self:?}");
        let json = toml.parse::<f64>().map_or(serde_json::Value::Null, Into::into);
        Written { toml, json }
    }

    fn allowed(allowed: &Self::Allowed) -> String {
        format!("a number from {} to {}", allowed.start(), allowed.end())
    }

    fn shape(allowed: &Self::Allowed) -> Shape {
        // As it was declared: 0.1 and not the nearest f32 to it.
        let plain = |value: &Self| format!("{value:?}").parse().ok();
        let range = plain(allowed.start()).zip(plain(allowed.end()));
        Shape { range, ..Shape::of(Kind::Number) }
    }
}

/// Unset is written `""`, so that a later layer can take back what an earlier one set.
impl<V: Value> Value for Option<V> {
    type Allowed = V::Allowed;
    const TEXT: bool = V::TEXT;
    const SECRET: bool = V::SECRET;

    fn read(found: &DeValue<'_>, allowed: &Self::Allowed) -> Result<Self, Refused> {
        if found.as_str() == Some("") { Ok(None) } else { V::read(found, allowed).map(Some) }
    }

    fn write(&self) -> Written {
        self.as_ref()
            .map_or_else(|| Written { toml: "\"\"".to_owned(), json: serde_json::Value::Null }, V::write)
    }

    fn allowed(allowed: &Self::Allowed) -> String {
        format!("\"\" or {}", V::allowed(allowed))
    }

    fn shape(allowed: &Self::Allowed) -> Shape {
        Shape { optional: true, ..V::shape(allowed) }
    }
}

impl Value for SourceSpec {
    type Allowed = ();
    const TEXT: bool = true;

    fn read(found: &DeValue<'_>, (): &()) -> Result<Self, Refused> {
        text(found)?.parse().map_err(|_| Refused)
    }

    fn write(&self) -> Written {
        written_text(&self.to_string())
    }

    fn allowed((): &()) -> String {
        "\"auto\", \"scene\", \"replay:PATH\" or a device below /dev".to_owned()
    }

    fn shape((): &()) -> Shape {
        Shape::of(Kind::Text)
    }
}

/// Declares an enum whose variants are chosen by name.
macro_rules! choice {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$variant_doc])* $variant,)+ }

        impl $name {
            /// Every choice by its name in the configuration.
            pub const ALL: &'static [(&'static str, Self)] = &[$(($text, Self::$variant)),+];

            /// The name in the configuration.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl Value for $name {
            type Allowed = ();
            const TEXT: bool = true;

            fn read(found: &DeValue<'_>, (): &()) -> Result<Self, Refused> {
                // A choice that looks like a number may be written as one.
                let found = found.as_str().or_else(|| found.as_integer().map(|digits| digits.as_str()));
                let found = found.ok_or(Refused)?;
                Self::ALL.iter().find(|(name, _)| *name == found).map(|(_, choice)| *choice).ok_or(Refused)
            }

            fn write(&self) -> Written {
                written_text(self.as_str())
            }

            fn allowed((): &()) -> String {
                let quoted: Vec<_> = Self::ALL.iter().map(|(name, _)| format!("\"{name}\"")).collect();
                format!("one of {}", quoted.join(", "))
            }

            fn shape((): &()) -> Shape {
                let choices = Self::ALL.iter().map(|(name, _)| *name).collect();
                Shape { choices, ..Shape::of(Kind::Choice) }
            }
        }
    };
}

choice!(
    /// Pixel format asked of a camera.
    CameraFormat {
        /// The best of those the camera offers.
        Auto = "auto",
        /// One JPEG a frame.
        Mjpg = "mjpg",
        /// 4:2:2, packed.
        Yuyv = "yuyv",
        /// 4:2:0, two planes.
        Nv12 = "nv12",
        /// Luminance only.
        Grey = "grey",
    }
);
impl CameraFormat {
    /// The format asked for; `None` leaves the choice to the camera's side.
    pub fn wanted(self) -> Option<PixelFormat> {
        match self {
            Self::Auto => None,
            Self::Mjpg => Some(PixelFormat::Mjpg),
            Self::Yuyv => Some(PixelFormat::Yuyv),
            Self::Nv12 => Some(PixelFormat::Nv12),
            Self::Grey => Some(PixelFormat::Grey),
        }
    }
}

choice!(
    /// By how much the picture is turned, clockwise.
    Rotation {
        /// As the camera gives it.
        None = "0",
        /// The camera hangs on its left side.
        Quarter = "90",
        /// Upside down.
        Half = "180",
        /// The camera hangs on its right side.
        ThreeQuarters = "270",
    }
);
#[expect(clippy::derivable_impls, reason = "the macro that declares choices knows no default")]
impl Default for Rotation {
    fn default() -> Self {
        Self::None
    }
}

choice!(
    /// What a display is.
    DisplayDriver {
        /// There is none.
        None = "none",
        /// Whatever the kernel drives: HDMI, DSI, or a small display with a driver of its own.
        Framebuffer = "framebuffer",
        /// An OLED of 128x64 over I2C.
        Ssd1306 = "ssd1306",
        /// A TFT over SPI.
        St7789 = "st7789",
        /// A TFT over SPI.
        Ili9341 = "ili9341",
    }
);

choice!(
    /// Language of the display.
    DisplayLanguage {
        /// English.
        En = "en",
        /// German.
        De = "de",
    }
);

choice!(
    /// The least urgent messages written.
    LogLevel {
        /// What stops something from working.
        Error = "error",
        /// What deserves a look.
        Warn = "warn",
        /// What happens in normal operation.
        Info = "info",
        /// What helps to find a fault.
        Debug = "debug",
        /// Every step.
        Trace = "trace",
    }
);
choice!(
    /// How messages are written.
    LogFormat {
        /// Text on a terminal, JSON elsewhere.
        Auto = "auto",
        /// A line for people.
        Text = "text",
        /// A line of JSON.
        Json = "json",
    }
);

choice!(
    /// Version of the MQTT protocol.
    MqttProtocol {
        /// MQTT 5.0.
        V5 = "5",
        /// MQTT 3.1.1.
        V311 = "3.1.1",
    }
);

/// Most rectangles in a list.
const MAXIMUM_AREAS: usize = 16;

fn area(found: &DeValue<'_>) -> Result<Area, Refused> {
    let numbers = found.as_array().ok_or(Refused)?;
    let mut fractions = [0.0; 4];
    if numbers.len() != fractions.len() {
        return Err(Refused);
    }
    for (fraction, number) in fractions.iter_mut().zip(numbers) {
        *fraction = f32::read(number.get_ref(), &(0.0..=1.0))?;
    }
    Area::new(fractions).ok_or(Refused)
}

impl Value for Area {
    type Allowed = ();

    fn read(found: &DeValue<'_>, (): &()) -> Result<Self, Refused> {
        area(found)
    }

    fn write(&self) -> Written {
        let numbers = self.fractions().map(|fraction| fraction.write());
        let toml = format!("[{}]", numbers.each_ref().map(|number| number.toml.as_str()).join(", "));
        Written { toml, json: numbers.map(|number| number.json).to_vec().into() }
    }

    fn allowed((): &()) -> String {
        "[left, top, width, height] as fractions of the picture, inside it".to_owned()
    }

    fn shape((): &()) -> Shape {
        Shape::of(Kind::Area)
    }
}

impl Value for Vec<Area> {
    type Allowed = ();

    fn read(found: &DeValue<'_>, (): &()) -> Result<Self, Refused> {
        let areas = found.as_array().ok_or(Refused)?;
        if areas.len() > MAXIMUM_AREAS {
            return Err(Refused);
        }
        areas.iter().map(|found| area(found.get_ref())).collect()
    }

    fn write(&self) -> Written {
        let areas: Vec<_> = self.iter().map(Area::write).collect();
        let toml = areas.iter().map(|area| area.toml.as_str()).collect::<Vec<_>>().join(", ");
        Written { toml: format!("[{toml}]"), json: areas.into_iter().map(|area| area.json).collect() }
    }

    fn allowed((): &()) -> String {
        format!("a list of at most {MAXIMUM_AREAS} times {}", Area::allowed(&()))
    }

    fn shape((): &()) -> Shape {
        Shape::of(Kind::List)
    }
}

/// A text that is never shown: not by `Debug`, not by `limen config show`, not in an error; wiped
/// when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// The text itself, for the one place that needs it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(not shown)")
    }
}

impl Value for Secret {
    type Allowed = Text;
    const TEXT: bool = true;
    const SECRET: bool = true;

    fn read(found: &DeValue<'_>, allowed: &Text) -> Result<Self, Refused> {
        String::read(found, allowed).map(|text| Self(Zeroizing::new(text)))
    }

    fn write(&self) -> Written {
        written_text("(not shown)")
    }

    fn allowed(allowed: &Text) -> String {
        String::allowed(allowed)
    }

    fn shape(_: &Text) -> Shape {
        Shape::of(Kind::Secret)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<V: Value>(toml: &str, allowed: V::Allowed) -> Option<V> {
        let value = DeValue::parse(toml).unwrap().into_inner();
        V::read(&value, &allowed).ok()
    }

    #[test]
    fn whole_numbers_are_read_in_every_notation_and_bounded() {
        assert_eq!(read::<u32>("1_000", 0..=2000), Some(1000));
        assert_eq!(read::<u32>("0x10", 0..=2000), Some(16));
        for refused in ["-1", "2001", "1.0", "99999999999999999999999", "\"1\"", "true"] {
            assert_eq!(read::<u32>(refused, 0..=2000), None, "{refused}");
        }
    }

    #[test]
    fn numbers_take_integers_but_neither_nan_nor_infinity() {
        assert_eq!(read::<f32>("15", 0.5..=120.0), Some(15.0));
        assert_eq!(read::<f32>("1e1", 0.5..=120.0), Some(10.0));
        for refused in ["nan", "inf", "-inf", "1e99", "120.1", "0x10", "\"15\""] {
            assert_eq!(read::<f32>(refused, 0.5..=120.0), None, "{refused}");
        }
    }

    #[test]
    fn numbers_are_written_as_they_were_meant() {
        assert_eq!(0.1f32.write().toml, "0.1");
        assert_eq!(0.1f32.write().json.to_string(), "0.1");
        assert_eq!(15.0f32.write().toml, "15.0");
    }

    #[test]
    fn optional_values_are_unset_by_an_empty_text() {
        assert_eq!(read::<Option<f32>>("\"\"", 0.0..=0.95), Some(None));
        assert_eq!(read::<Option<f32>>("0.4", 0.0..=0.95), Some(Some(0.4)));
        assert_eq!(read::<Option<f32>>("0.96", 0.0..=0.95), None);
    }

    #[test]
    fn texts_with_control_characters_are_refused() {
        assert_eq!(read::<String>("\"a\\nb\"", Text { bytes: 1..=64 }), None);
        assert_eq!(read::<PathBuf>("\"a\\u0000b\"", ()), None);
    }

    #[test]
    fn areas_are_read_as_four_fractions_and_written_back() {
        let areas: Vec<Area> = read("[[0, 0, 0.5, 1], [0.25, 0.1, 0.1, 0.2]]", ()).unwrap();
        assert_eq!(areas.write().toml, "[[0.0, 0.0, 0.5, 1.0], [0.25, 0.1, 0.1, 0.2]]");
        assert_eq!(areas.write().json[1][1].to_string(), "0.1");
        assert_eq!(read::<Option<Area>>("\"\"", ()), Some(None));
        for refused in
            ["[0, 0, 1]", "[0, 0, 1, 1, 1]", "[0, 0, 2, 1]", "[0.5, 0, 0.6, 1]", "[0, 0, nan, 1]", "7"]
        {
            assert_eq!(read::<Area>(refused, ()), None, "{refused}");
        }
        let many = format!("[{}]", "[0, 0, 1, 1],".repeat(MAXIMUM_AREAS + 1));
        assert_eq!(read::<Vec<Area>>(&many, ()), None);
    }

    #[test]
    fn choice_that_looks_like_a_number_may_be_written_as_one() {
        assert_eq!(read::<Rotation>("90", ()), Some(Rotation::Quarter));
        assert_eq!(read::<Rotation>("\"270\"", ()), Some(Rotation::ThreeQuarters));
        assert_eq!(read::<Rotation>("45", ()), None);
    }

    #[test]
    fn secrets_show_nowhere() {
        let secret = read::<Secret>("\"hunter2\"", Text { bytes: 1..=64 }).unwrap();
        assert_eq!(secret.reveal(), "hunter2");
        assert_eq!(format!("{secret:?}"), "Secret(not shown)");
        assert_eq!(secret.write().toml, "\"(not shown)\"");
        assert_eq!(secret.write().json, "(not shown)");
    }
}
