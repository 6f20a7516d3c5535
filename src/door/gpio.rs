//! Lines of a GPIO chip, through the character device of the kernel (`/dev/gpiochipN`, ABI version 2).
//!
//! Edges come as events of the kernel, which debounces them too; nothing is polled for its level.

use std::path::PathBuf;
use std::time::Duration;

use gpiocdev::Request;
use gpiocdev::line::{Bias, EdgeDetection, EdgeKind, Value};
use gpiocdev::request::Builder;
use thiserror::Error;

/// As the kernel tells whoever else asks for the line.
const CONSUMER: &str = "limen";

/// Why a line cannot be used.
#[derive(Debug, Error)]
pub enum GpioError {
    /// There is no such line.
    #[error(
        "there is no GPIO line {line}: `limen door lines` lists those there are, by chip and number and by name"
    )]
    NoLine {
        /// As configured.
        line: String,
    },
    /// The chip or the driver refused.
    #[error("cannot {what} the GPIO line {line}: {source}")]
    Refused {
        /// What was tried.
        what: &'static str,
        /// As configured.
        line: String,
        /// What the system said.
        source: gpiocdev::Error,
    },
}

/// Which line.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Numbered(PathBuf, u32),
    Named(String),
}

/// A line as it is configured: `gpiochip0:17` or the name of a line, and after it any of `active-low`, `pull-up`,
/// `pull-down`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineSpec {
    place: Place,
    active_low: bool,
    bias: Option<Bias>,
}

impl LineSpec {
    /// Reads a line as it is configured.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut words = text.split_whitespace();
        let first = words.next().ok_or("a line is named by chip and number, gpiochip0:17, or by its name")?;
        let place = match first.split_once(':') {
            Some((chip, number)) => {
                let plain = chip.strip_prefix("/dev/").unwrap_or(chip);
                let is_chip = plain.strip_prefix("gpiochip").is_some_and(|n| n.parse::<u16>().is_ok());
                let number = number.parse::<u32>().ok().filter(|number| *number < 4096);
                match number.filter(|_| is_chip) {
                    Some(number) => Place::Numbered(PathBuf::from("/dev").join(plain), number),
                    None => return Err(format!("`{first}` is not like gpiochip0:17")),
                }
            }
            None => Place::Named(first.to_owned()),
        };
        let (mut active_low, mut bias) = (false, None);
        for word in words {
            match (word, bias) {
                ("active-low", _) if !active_low => active_low = true,
                ("pull-up", None) => bias = Some(Bias::PullUp),
                ("pull-down", None) => bias = Some(Bias::PullDown),
                _ => {
                    return Err(format!(
                        "`{word}`: behind a line stand active-low, and one of pull-up and pull-down"
                    ));
                }
            }
        }
        Ok(Self { place, active_low, bias })
    }

    /// Whether it is this line of the machine.
    pub fn is(&self, line: &FoundLine) -> bool {
        match &self.place {
            Place::Numbered(chip, number) => chip.ends_with(&line.chip) && *number == line.number,
            Place::Named(name) => *name == line.name,
        }
    }

    /// Whether both are one line, as far as can be told without the chip.
    pub fn is_same_line(&self, other: &Self) -> bool {
        self.place == other.place
    }

    fn name(&self) -> String {
        match &self.place {
            Place::Numbered(chip, number) => format!("{}:{number}", chip.display()),
            Place::Named(name) => name.clone(),
        }
    }

    fn find(&self) -> Result<(PathBuf, u32), GpioError> {
        match &self.place {
            Place::Numbered(chip, number) => Ok((chip.clone(), *number)),
            Place::Named(name) => {
                let found = gpiocdev::find_named_line(name);
                found
                    .map(|found| (found.chip, found.info.offset))
                    .ok_or_else(|| GpioError::NoLine { line: name.clone() })
            }
        }
    }

    /// A request of the line, without its direction yet; and its number on the chip.
    fn builder(&self) -> Result<(Builder, u32), GpioError> {
        let (chip, offset) = self.find()?;
        let mut builder = Request::builder();
        builder.on_chip(chip).with_consumer(CONSUMER).with_line(offset);
        if self.active_low {
            builder.as_active_low();
        }
        if self.bias.is_some() {
            builder.with_bias(self.bias);
        }
        Ok((builder, offset))
    }

    fn refused(&self, what: &'static str) -> impl Fn(gpiocdev::Error) -> GpioError + '_ {
        move |source| GpioError::Refused { what, line: self.name(), source }
    }
}

/// A line that is driven. Released when dropped.
#[derive(Debug)]
pub struct Output {
    spec: LineSpec,
    request: Request,
    offset: u32,
}

impl Output {
    /// Takes the line, inactive.
    pub fn open(spec: &LineSpec) -> Result<Self, GpioError> {
        let (mut builder, offset) = spec.builder()?;
        builder.as_output(Value::Inactive);
        let request = builder.request().map_err(spec.refused("take"))?;
        Ok(Self { spec: spec.clone(), request, offset })
    }

    /// Drives it active or inactive.
    pub fn set(&self, active: bool) -> Result<(), GpioError> {
        let value = if active { Value::Active } else { Value::Inactive };
        self.request.set_value(self.offset, value).map(drop).map_err(self.spec.refused("switch"))
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        // A chip that is gone drives nothing; and the kernel leaves a line as it is when it is closed.
        if let Err(error) = self.set(false) {
            tracing::warn!(%error, "a line may have stayed active");
        }
    }
}

/// A line that is read.
#[derive(Debug)]
pub struct Input {
    spec: LineSpec,
    request: Request,
    offset: u32,
}

impl Input {
    /// Takes the line, and has the kernel tell its edges once they have been steady for `debounce`.
    pub fn open(spec: &LineSpec, debounce: Duration) -> Result<Self, GpioError> {
        let (mut builder, offset) = spec.builder()?;
        builder.as_input().with_edge_detection(EdgeDetection::BothEdges).with_debounce_period(debounce);
        let request = builder.request().map_err(spec.refused("watch"))?;
        Ok(Self { spec: spec.clone(), request, offset })
    }

    /// Whether it is active now.
    pub fn is_active(&self) -> Result<bool, GpioError> {
        let value = self.request.value(self.offset).map_err(self.spec.refused("read"))?;
        Ok(value == Value::Active)
    }

    /// For waiting on several lines together.
    pub fn request(&self) -> &Request {
        &self.request
    }

    /// The next edge, where there is one: whether it made the line active.
    pub fn edge(&self) -> Result<Option<bool>, GpioError> {
        if !self.request.has_edge_event().map_err(self.spec.refused("watch"))? {
            return Ok(None);
        }
        let edge = self.request.read_edge_event().map_err(self.spec.refused("watch"))?;
        Ok(Some(edge.kind == EdgeKind::Rising))
    }
}

/// A line of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundLine {
    /// Such as `gpiochip0`.
    pub chip: String,
    /// Its number on the chip.
    pub number: u32,
    /// Its name; empty where it has none.
    pub name: String,
    /// Whether somebody has it.
    pub used: bool,
    /// Who.
    pub consumer: String,
}

/// The lines of this machine, as far as they may be looked at.
pub fn list_lines() -> Vec<FoundLine> {
    let mut found = Vec::new();
    for path in gpiocdev::chip::chips().unwrap_or_default() {
        let Ok(chip) = gpiocdev::chip::Chip::from_path(&path) else { continue };
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        for line in chip.line_info_iter().into_iter().flatten().flatten() {
            found.push(FoundLine {
                chip: name.clone(),
                number: line.offset,
                name: line.name,
                used: line.used,
                consumer: line.consumer,
            });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_they_are_configured() {
        let spec = LineSpec::parse("gpiochip0:17 active-low pull-up").unwrap();
        assert_eq!(spec.place, Place::Numbered("/dev/gpiochip0".into(), 17));
        assert!(spec.active_low && spec.bias == Some(Bias::PullUp));
        assert_eq!(LineSpec::parse("/dev/gpiochip12:0").unwrap().name(), "/dev/gpiochip12:0");
        assert_eq!(LineSpec::parse(" GPIO17 ").unwrap().place, Place::Named("GPIO17".to_owned()));
    }

    #[test]
    fn what_is_no_line_is_refused_with_what_one_looks_like() {
        for (text, says) in [
            ("", "gpiochip0:17"),
            ("gpiochip0:", "is not like"),
            ("gpiochip0:-1", "is not like"),
            ("/etc/passwd:1", "is not like"),
            ("gpiochip0:99999", "is not like"),
            ("GPIO17 low", "active-low"),
            ("GPIO17 pull-up pull-down", "one of"),
            ("GPIO17 active-low active-low", "active-low"),
        ] {
            let error = LineSpec::parse(text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn line_that_is_not_there_is_named() {
        let spec = LineSpec::parse("gpiochip999:3").unwrap();
        let error = Output::open(&spec).unwrap_err().to_string();
        assert!(error.contains("gpiochip999:3"), "{error}");
        let error = Input::open(&LineSpec::parse("no-such-line").unwrap(), Duration::ZERO).unwrap_err();
        assert!(error.to_string().contains("limen door lines"), "{error}");
    }
}
