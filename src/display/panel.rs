//! Where screens are shown: the framebuffer of Linux, an SSD1306 over I2C, an ST7789 or ILI9341 over SPI.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use embedded_graphics::pixelcolor::{BinaryColor, Rgb565, Rgb888};
use embedded_graphics::prelude::*;
use embedded_graphics::primitives::Rectangle;
use embedded_hal::digital::{ErrorType, OutputPin};
use linux_embedded_hal::spidev::{SpiModeFlags, SpidevOptions};
use linux_embedded_hal::{Delay, I2cdev, SpidevDevice};
use mipidsi::interface::SpiInterface;
use mipidsi::models::{ILI9341Rgb565, ST7789};
use mipidsi::options::{ColorInversion, Orientation, Rotation as PanelRotation};
use ssd1306::mode::{BufferedGraphicsMode, DisplayConfig};
use ssd1306::prelude::*;
use ssd1306::{I2CDisplayInterface, Ssd1306};

use super::canvas::Canvas;
use crate::config::{Config, DisplayDriver, Rotation};
use crate::door::gpio::{LineSpec, Output};

/// Largest framebuffer that is drawn whole; a larger one gets a picture of this size in its corner.
const LARGEST: (u32, u32) = (1920, 1080);
/// What the wires of a small display stand.
const SPI_HZ: u32 = 32_000_000;
/// A reset is held for at least 10 microseconds, by the controllers' data sheets.
const RESET: Duration = Duration::from_millis(10);

/// A line of GPIO as the drivers of displays want it.
struct Pin(Output);

/// What a GPIO line said.
#[derive(Debug)]
struct PinError;

impl embedded_hal::digital::Error for PinError {
    fn kind(&self) -> embedded_hal::digital::ErrorKind {
        embedded_hal::digital::ErrorKind::Other
    }
}

impl ErrorType for Pin {
    type Error = PinError;
}

impl OutputPin for Pin {
    fn set_low(&mut self) -> Result<(), PinError> {
        self.0.set(false).map_err(|_| PinError)
    }

    fn set_high(&mut self) -> Result<(), PinError> {
        self.0.set(true).map_err(|_| PinError)
    }
}

type Oled = Ssd1306<I2CInterface<I2cdev>, DisplaySize128x64, BufferedGraphicsMode<DisplaySize128x64>>;
type Spi = SpiInterface<'static, SpidevDevice, Pin>;
type Tft<MODEL> = mipidsi::Display<Spi, MODEL, Pin>;

enum Device {
    Framebuffer(Framebuffer),
    Oled(Box<Oled>),
    St7789(Box<Tft<ST7789>>),
    Ili9341(Box<Tft<ILI9341Rgb565>>),
}

/// A display that is there.
pub struct Panel {
    device: Device,
    size: (u32, u32),
}

impl std::fmt::Debug for Panel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Panel {{ {}x{} }}", self.size.0, self.size.1)
    }
}

fn device_path(config: &Config, usual: &str) -> PathBuf {
    config.display.device.clone().unwrap_or_else(|| usual.into())
}

fn line(spec: Option<&str>, key: &str) -> Result<Pin> {
    let spec = spec.ok_or_else(|| anyhow!("{key} is empty: this display needs it"))?;
    let spec = LineSpec::parse(spec).map_err(|error| anyhow!("{key}: {error}"))?;
    Ok(Pin(Output::open(&spec)?))
}

impl Panel {
    /// Opens the display of the configuration; none where none is configured.
    pub fn open(config: &Config) -> Result<Option<Self>> {
        let display = &config.display;
        let (device, size) = match display.driver {
            DisplayDriver::None => return Ok(None),
            DisplayDriver::Framebuffer => {
                let framebuffer =
                    Framebuffer::open(&device_path(config, "/dev/fb0"), Path::new("/sys/class/graphics"))?;
                let size = framebuffer.shown();
                (Device::Framebuffer(framebuffer), size)
            }
            DisplayDriver::Ssd1306 => {
                let path = device_path(config, "/dev/i2c-1");
                let address = u8::try_from(display.address).context("display.address")?;
                let bus = I2cdev::new(&path).with_context(|| format!("opening {}", path.display()))?;
                let interface = I2CDisplayInterface::new_custom_address(bus, address);
                let rotation = match display.rotate {
                    Rotation::Half => DisplayRotation::Rotate180,
                    _ => DisplayRotation::Rotate0,
                };
                let mut oled =
                    Ssd1306::new(interface, DisplaySize128x64, rotation).into_buffered_graphics_mode();
                oled.init().map_err(|error| {
                    anyhow!("no SSD1306 answers at address {address:#04x} on {}: {error:?}", path.display())
                })?;
                (Device::Oled(Box::new(oled)), (128, 64))
            }
            DisplayDriver::St7789 | DisplayDriver::Ili9341 => return Self::tft(config).map(Some),
        };
        Ok(Some(Self { device, size }))
    }

    fn tft(config: &Config) -> Result<Self> {
        let display = &config.display;
        let path = device_path(config, "/dev/spidev0.0");
        let mut spi = SpidevDevice::open(&path).with_context(|| format!("opening {}", path.display()))?;
        let options =
            SpidevOptions::new().bits_per_word(8).max_speed_hz(SPI_HZ).mode(SpiModeFlags::SPI_MODE_0).build();
        spi.configure(&options).with_context(|| format!("setting up {}", path.display()))?;
        let data = line(display.data_line.as_deref(), "display.data_line")?;
        let mut reset = line(display.reset_line.as_deref(), "display.reset_line")?;
        for high in [false, true] {
            let set = if high { reset.set_high() } else { reset.set_low() };
            set.map_err(|_| anyhow!("display.reset_line cannot be switched"))?;
            std::thread::sleep(RESET);
        }
        // One for the whole run of the program.
        let buffer: &'static mut [u8] = Box::leak(vec![0; 4096].into_boxed_slice());
        let interface = SpiInterface::new(spi, data, buffer);
        let (rotation, turned) = match display.rotate {
            Rotation::None => (PanelRotation::Deg0, false),
            Rotation::Quarter => (PanelRotation::Deg90, true),
            Rotation::Half => (PanelRotation::Deg180, false),
            Rotation::ThreeQuarters => (PanelRotation::Deg270, true),
        };
        let orientation = Orientation::new().rotate(rotation);
        let (width, height) = (display.width, display.height);
        let native = (
            u16::try_from(width).context("display.width")?,
            u16::try_from(height).context("display.height")?,
        );
        let failed = || anyhow!("the display on {} does not answer as it should", path.display());
        let device = if display.driver == DisplayDriver::St7789 {
            let builder = mipidsi::Builder::new(ST7789, interface)
                .display_size(native.0, native.1)
                .invert_colors(ColorInversion::Inverted)
                .orientation(orientation)
                .reset_pin(reset);
            Device::St7789(Box::new(builder.init(&mut Delay).map_err(|_| failed())?))
        } else {
            let builder = mipidsi::Builder::new(ILI9341Rgb565, interface)
                .display_size(native.0, native.1)
                .orientation(orientation)
                .reset_pin(reset);
            Device::Ili9341(Box::new(builder.init(&mut Delay).map_err(|_| failed())?))
        };
        Ok(Self { device, size: if turned { (height, width) } else { (width, height) } })
    }

    /// Width and height, pixels.
    pub fn size(&self) -> (u32, u32) {
        self.size
    }

    /// Whether it knows black and white only.
    pub fn is_mono(&self) -> bool {
        matches!(self.device, Device::Oled(_))
    }

    /// Shows what has changed.
    pub fn show(&mut self, canvas: &Canvas, changed: &Rectangle) -> Result<()> {
        match &mut self.device {
            Device::Framebuffer(framebuffer) => framebuffer.show(canvas, changed),
            Device::Oled(oled) => {
                let pixels = changed.points().map(|at| {
                    let bright = canvas.pixel(at.x as u32, at.y as u32).luma() > 127;
                    Pixel(at, BinaryColor::from(bright))
                });
                oled.draw_iter(pixels).map_err(|error| anyhow!("drawing on the SSD1306: {error:?}"))?;
                oled.flush().map_err(|error| anyhow!("the SSD1306 does not answer: {error:?}"))
            }
            Device::St7789(display) => show_tft(display.as_mut(), canvas, changed),
            Device::Ili9341(display) => show_tft(display.as_mut(), canvas, changed),
        }
    }
}

fn show_tft<D: DrawTarget<Color = Rgb565>>(
    display: &mut D,
    canvas: &Canvas,
    changed: &Rectangle,
) -> Result<()> {
    let pixels = changed.points().map(|at| Rgb565::from(canvas.pixel(at.x as u32, at.y as u32)));
    display.fill_contiguous(changed, pixels).map_err(|_| anyhow!("the display does not answer"))
}

/// The framebuffer of Linux, by its file and what `/sys` says about it.
struct Framebuffer {
    file: File,
    path: PathBuf,
    size: (u32, u32),
    stride: u64,
    bytes: u64,
}

impl Framebuffer {
    fn open(path: &Path, classes: &Path) -> Result<Self> {
        let file = OpenOptions::new()
            .write(true)
            .open(path)
            .with_context(|| format!("opening {}", path.display()))?;
        let name = path.file_name().ok_or_else(|| anyhow!("{} names no device", path.display()))?;
        let about = classes.join(name);
        let read = |what: &str| -> Result<String> {
            let file = about.join(what);
            std::fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))
        };
        let size = read("virtual_size")?;
        let numbers = size.trim().split_once(',');
        let (width, height) = numbers.ok_or_else(|| anyhow!("{} tells no size", about.display()))?;
        let bits: u64 = read("bits_per_pixel")?.trim().parse().context("bits_per_pixel")?;
        if bits != 16 && bits != 32 {
            bail!("{} has {bits} bits a pixel: 16 and 32 can be drawn", path.display());
        }
        let stride: u64 = read("stride")?.trim().parse().context("stride")?;
        let size = (width.parse().context("its width")?, height.parse().context("its height")?);
        ensure!(stride >= u64::from(size.0) * bits / 8, "{} tells a stride below its width", path.display());
        Ok(Self { file, path: path.to_owned(), size, stride, bytes: bits / 8 })
    }

    fn shown(&self) -> (u32, u32) {
        (self.size.0.min(LARGEST.0), self.size.1.min(LARGEST.1))
    }

    fn show(&self, canvas: &Canvas, changed: &Rectangle) -> Result<()> {
        let (left, top) = (changed.top_left.x as u32, changed.top_left.y as u32);
        for y in top..top + changed.size.height {
            let row = (left..left + changed.size.width).map(|x| canvas.pixel(x, y));
            let bytes: Vec<u8> = if self.bytes == 2 {
                row.flat_map(|pixel| Rgb565::from(pixel).into_storage().to_le_bytes()).collect()
            } else {
                row.flat_map(|pixel: Rgb888| [pixel.b(), pixel.g(), pixel.r(), 0xff]).collect()
            };
            let at = u64::from(y) * self.stride + u64::from(left) * self.bytes;
            self.file
                .write_all_at(&bytes, at)
                .with_context(|| format!("drawing on {}", self.path.display()))?;
        }
        Ok(())
    }
}

/// How bright a colour is to the eye, 0 to 255.
trait Luma {
    fn luma(&self) -> u32;
}

impl Luma for Rgb888 {
    fn luma(&self) -> u32 {
        (77 * u32::from(self.r()) + 150 * u32::from(self.g()) + 29 * u32::from(self.b())) >> 8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framebuffer(bits: u32) -> (tempfile::TempDir, Result<Framebuffer>) {
        let folder = tempfile::tempdir().unwrap();
        let device = folder.path().join("fb7");
        std::fs::write(&device, vec![0; 64]).unwrap();
        std::fs::create_dir(folder.path().join("class")).unwrap();
        let about = folder.path().join("class/fb7");
        std::fs::create_dir(&about).unwrap();
        for (what, value) in [
            ("virtual_size", "3,2\n".to_owned()),
            ("bits_per_pixel", format!("{bits}\n")),
            ("stride", "16\n".to_owned()),
        ] {
            std::fs::write(about.join(what), value).unwrap();
        }
        let opened = Framebuffer::open(&device, &folder.path().join("class"));
        (folder, opened)
    }

    #[test]
    fn pixels_lie_in_the_framebuffer_where_its_rows_begin() {
        let (folder, opened) = framebuffer(32);
        let framebuffer = opened.unwrap();
        assert_eq!(framebuffer.shown(), (3, 2));
        let mut canvas = Canvas::new(3, 2);
        Pixel(Point::new(1, 1), Rgb888::new(1, 2, 3)).draw(&mut canvas).unwrap();
        framebuffer.show(&canvas, &Rectangle::new(Point::new(1, 1), Size::new(1, 1))).unwrap();
        let bytes = std::fs::read(folder.path().join("fb7")).unwrap();
        assert_eq!(bytes[20..24], [3, 2, 1, 255]);
        assert!(bytes[..20].iter().chain(&bytes[24..]).all(|byte| *byte == 0), "and nowhere else");
    }

    #[test]
    fn framebuffers_of_other_depths_are_refused_by_name() {
        let (_folder, opened) = framebuffer(8);
        assert!(opened.err().unwrap().to_string().contains("8 bits"));
        assert!(framebuffer(16).1.is_ok());
    }
}
