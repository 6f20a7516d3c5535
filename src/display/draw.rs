//! Screens as pixels: one layout for every size, from 128x64 in black and white up. Pure.

use embedded_graphics::mono_font::{MonoFont, MonoTextStyle};
use embedded_graphics::pixelcolor::{BinaryColor, Rgb888};
use embedded_graphics::prelude::*;
use embedded_graphics::primitives::{
    Arc, Circle, Line, PrimitiveStyle, Rectangle, RoundedRectangle, Triangle,
};
use embedded_graphics::text::{Baseline, Text};
use embedded_graphics_unicodefonts::{mono_6x13_atlas, mono_7x13_atlas, mono_9x18_atlas, mono_10x20_atlas};
use std::sync::LazyLock;

use super::canvas::Canvas;
use super::screen::Screen;
use super::texts::Words;
use crate::door::keeper::Factor;

/// Fonts from the smallest. The X Window System's fixed fonts, which know Latin, Greek and Cyrillic.
static FONTS: LazyLock<[MonoFont<'static>; 4]> =
    LazyLock::new(|| [mono_6x13_atlas(), mono_7x13_atlas(), mono_9x18_atlas(), mono_10x20_atlas()]);
/// Letters are enlarged at most so many times.
const LARGEST_SCALE: u32 = 8;

/// Colours of a screen.
#[derive(Clone, Copy)]
struct Palette {
    back: Rgb888,
    text: Rgb888,
    quiet: Rgb888,
    accent: Rgb888,
}

const fn rgb(r: u8, g: u8, b: u8) -> Rgb888 {
    Rgb888::new(r, g, b)
}

/// Contrast of text and background is at least 7:1.
fn palette(screen: &Screen, mono: bool) -> Palette {
    if mono {
        return Palette {
            back: Rgb888::BLACK,
            text: Rgb888::WHITE,
            quiet: Rgb888::WHITE,
            accent: Rgb888::WHITE,
        };
    }
    let (back, accent) = match screen {
        Screen::Idle { .. } => (rgb(13, 20, 33), rgb(92, 124, 168)),
        Screen::Looking { .. } | Screen::Enrolment(_) => (rgb(13, 27, 51), rgb(98, 160, 234)),
        Screen::Welcome { .. } => (rgb(6, 61, 37), rgb(87, 213, 138)),
        Screen::Denied(_) => (rgb(74, 30, 10), rgb(255, 163, 72)),
        Screen::Prompt(_) | Screen::Rung => (rgb(43, 24, 74), rgb(192, 160, 245)),
        Screen::NoCamera | Screen::LockedOut { .. } => (rgb(64, 14, 20), rgb(246, 97, 81)),
    };
    Palette { back, text: Rgb888::WHITE, quiet: rgb(205, 214, 226), accent }
}

/// Letters drawn larger: each pixel of the font becomes a square.
struct Enlarged<'c> {
    canvas: &'c mut Canvas,
    origin: Point,
    scale: u32,
    color: Rgb888,
}

impl Dimensions for Enlarged<'_> {
    fn bounding_box(&self) -> Rectangle {
        Rectangle::new(Point::zero(), self.canvas.size())
    }
}

impl DrawTarget for Enlarged<'_> {
    type Color = BinaryColor;
    type Error = core::convert::Infallible;

    fn draw_iter<I: IntoIterator<Item = Pixel<BinaryColor>>>(
        &mut self,
        pixels: I,
    ) -> Result<(), Self::Error> {
        for Pixel(at, color) in pixels {
            if color.is_on() {
                let corner = self.origin + at * self.scale as i32;
                let square = Rectangle::new(corner, Size::new_equal(self.scale));
                square.into_styled(PrimitiveStyle::with_fill(self.color)).draw(self.canvas)?;
            }
        }
        Ok(())
    }
}

/// A text broken into lines that fit, in the largest letters that do.
struct Fitted {
    font: usize,
    scale: u32,
    lines: Vec<String>,
}

impl Fitted {
    fn letter(&self) -> Size {
        FONTS[self.font].character_size * self.scale
    }

    fn height(&self) -> u32 {
        self.letter().height * self.lines.len() as u32
    }
}

/// Breaks between words, and within one that is longer than a line.
fn wrap(text: &str, columns: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        let mut word: Vec<char> = word.chars().collect();
        let used = line.chars().count();
        let fits = used + usize::from(used > 0) + word.len() <= columns;
        if fits {
            if used > 0 {
                line.push(' ');
            }
        } else if used > 0 {
            lines.push(std::mem::take(&mut line));
        }
        while word.len() > columns {
            let rest = word.split_off(columns);
            lines.push(word.into_iter().collect());
            word = rest;
        }
        line.extend(word);
    }
    lines.push(line);
    lines
}

/// The largest letters, up to a height, in which a text fits. One that fits in none is cut, and the cut shown.
fn fit(text: &str, space: Size, tallest: u32) -> Fitted {
    let sizes =
        (1..=LARGEST_SCALE).rev().flat_map(|scale| (0..FONTS.len()).rev().map(move |font| (font, scale)));
    let mut sizes: Vec<_> = sizes.collect();
    sizes.sort_by_key(|(font, scale)| std::cmp::Reverse(FONTS[*font].character_size.height * scale));
    for (font, scale) in &sizes {
        let letter = FONTS[*font].character_size * *scale;
        let (columns, rows) =
            ((space.width / letter.width) as usize, (space.height / letter.height) as usize);
        if columns == 0 || rows == 0 || (letter.height > tallest && (*font, *scale) != (0, 1)) {
            continue;
        }
        let lines = wrap(text, columns);
        // A word that is broken for the sake of larger letters is harder to read than smaller letters.
        let whole = text.split_whitespace().all(|word| word.chars().count() <= columns);
        let smallest = (*font, *scale) == (0, 1);
        if lines.len() <= rows && (whole || smallest) {
            return Fitted { font: *font, scale: *scale, lines };
        }
    }
    let letter = FONTS[0].character_size;
    let columns = (space.width / letter.width).max(1) as usize;
    let rows = (space.height / letter.height).max(1) as usize;
    let mut lines = wrap(text, columns);
    if lines.len() > rows {
        lines.truncate(rows);
        if let Some(last) = lines.last_mut() {
            *last = last.chars().take(columns.saturating_sub(1)).chain(['…']).collect();
        }
    }
    Fitted { font: 0, scale: 1, lines }
}

fn draw_lines(canvas: &mut Canvas, fitted: &Fitted, area: Rectangle, color: Rgb888) {
    let (font, letter) = (&FONTS[fitted.font], fitted.letter());
    let style = MonoTextStyle::new(font, BinaryColor::On);
    let mut top = area.top_left.y + (area.size.height.saturating_sub(fitted.height()) / 2) as i32;
    for line in &fitted.lines {
        let width = line.chars().count() as u32 * letter.width;
        let left = area.top_left.x + (area.size.width.saturating_sub(width) / 2) as i32;
        let mut large = Enlarged { canvas, origin: Point::new(left, top), scale: fitted.scale, color };
        let Ok(_) = Text::with_baseline(line, Point::zero(), style, Baseline::Top).draw(&mut large);
        top += letter.height as i32;
    }
}

/// Draws a screen. `mono`: in black and white.
pub fn draw(canvas: &mut Canvas, screen: &Screen, words: &Words, mono: bool) {
    let colors = palette(screen, mono);
    let Ok(()) = canvas.clear(colors.back);
    let size = canvas.size();
    let small = size.height < 120;
    let margin = if small { 1 } else { size.height / 16 };
    let inner = Size::new(size.width.saturating_sub(2 * margin), size.height.saturating_sub(2 * margin));
    // Top to bottom: a symbol where there is room, the headline, the detail, the bar.
    let symbol = if small { 0 } else { inner.height * 2 / 5 };
    let bar = if matches!(screen, Screen::Looking { .. }) { (size.height / 12).max(6) } else { 0 };
    let has_detail = words.detail.is_some();
    let rest = inner.height.saturating_sub(symbol + bar + u32::from(bar > 0) * margin);
    let headline = if has_detail { rest * 11 / 20 } else { rest };
    let mut top = margin;
    if symbol > 0 {
        let centre = Point::new((size.width / 2) as i32, (top + symbol / 2) as i32);
        draw_symbol(canvas, screen, centre, symbol * 4 / 5, &colors);
        top += symbol;
    }
    let area = |top: u32, height: u32| {
        Rectangle::new(Point::new(margin as i32, top as i32), Size::new(inner.width, height))
    };
    let place = area(top, headline);
    let large = fit(&words.headline, place.size, place.size.height);
    draw_lines(canvas, &large, place, colors.text);
    top += headline;
    if let Some(detail) = &words.detail {
        let place = area(top, rest - headline);
        // Never larger than the headline, so that it is seen to be less.
        let tallest = if small { large.letter().height } else { large.letter().height * 3 / 4 };
        draw_lines(canvas, &fit(detail, place.size, tallest), place, colors.quiet);
    }
    if let Screen::Looking { progress, .. } = screen {
        let place = area(size.height - margin - bar, bar);
        let radius = Size::new_equal(bar / 2);
        let outline = PrimitiveStyle::with_stroke(colors.accent, if small { 1 } else { 2 });
        let Ok(()) = RoundedRectangle::with_equal_corners(place, radius).into_styled(outline).draw(canvas);
        let width = place.size.width * u32::from(*progress).min(100) / 100;
        if width > bar {
            let filled = Rectangle::new(place.top_left, Size::new(width, bar));
            let style = PrimitiveStyle::with_fill(colors.accent);
            let Ok(()) = RoundedRectangle::with_equal_corners(filled, radius).into_styled(style).draw(canvas);
        }
    }
}

/// A sign that is understood without reading. Everything is given in parts of its size.
fn draw_symbol(canvas: &mut Canvas, screen: &Screen, centre: Point, size: u32, colors: &Palette) {
    let unit = |parts: i32| parts * size as i32 / 100;
    let stroke = PrimitiveStyle::with_stroke(colors.accent, (size / 14).max(2));
    let fill = PrimitiveStyle::with_fill(colors.accent);
    let at = |x: i32, y: i32| centre + Point::new(unit(x), unit(y));
    let round = |x: i32, y: i32, diameter: i32| Circle::with_center(at(x, y), unit(diameter).unsigned_abs());
    let mut line = |from: (i32, i32), to: (i32, i32)| {
        let Ok(()) = Line::new(at(from.0, from.1), at(to.0, to.1)).into_styled(stroke).draw(canvas);
    };
    match screen {
        Screen::Welcome { .. } => {
            line((-22, 2), (-6, 18));
            line((-6, 18), (24, -16));
        }
        Screen::Denied(_) => {
            line((-20, -20), (20, 20));
            line((20, -20), (-20, 20));
        }
        Screen::NoCamera => {
            line((-50, 36), (50, 36));
            line((-50, 36), (0, -44));
            line((0, -44), (50, 36));
            line((0, -16), (0, 12));
        }
        Screen::Prompt(Factor::Pin) => {
            for row in -1..=1 {
                for column in -1..=1 {
                    let Ok(()) = round(column * 26, row * 26, 16).into_styled(fill).draw(canvas);
                }
            }
        }
        Screen::Prompt(Factor::Pass) => {
            for (x, y) in [(-30, -30), (14, -30), (-30, 14)] {
                let square = |inset: i32, side: i32| {
                    Rectangle::new(at(x + inset, y + inset), Size::new_equal(unit(side).unsigned_abs()))
                };
                let Ok(()) = square(0, 30).into_styled(stroke).draw(canvas);
                let Ok(()) = square(10, 10).into_styled(fill).draw(canvas);
            }
            for (x, y) in [(16, 16), (34, 16), (25, 25), (16, 34), (34, 34)] {
                let dot = Rectangle::new(at(x, y), Size::new_equal(unit(9).unsigned_abs()));
                let Ok(()) = dot.into_styled(fill).draw(canvas);
            }
        }
        Screen::Looking { .. } | Screen::Enrolment(_) | Screen::Prompt(Factor::Face) => {
            for (x, y) in [(-1, -1), (1, -1), (-1, 1), (1, 1)] {
                line((x * 46, y * 46), (x * 46, y * 26));
                line((x * 46, y * 46), (x * 26, y * 46));
            }
            let Ok(()) = round(-12, -10, 8).into_styled(fill).draw(canvas);
            let Ok(()) = round(12, -10, 8).into_styled(fill).draw(canvas);
            let mouth = Arc::with_center(at(0, 4), unit(40).unsigned_abs(), 30.0.deg(), 120.0.deg());
            let Ok(()) = mouth.into_styled(stroke).draw(canvas);
        }
        Screen::Rung => {
            let body = Triangle::new(at(0, -44), at(-34, 26), at(34, 26));
            let Ok(()) = body.into_styled(stroke).draw(canvas);
            let Ok(()) = round(0, 38, 16).into_styled(fill).draw(canvas);
        }
        Screen::LockedOut { .. } => {
            let body =
                Rectangle::new(at(-30, -4), Size::new(unit(60).unsigned_abs(), unit(46).unsigned_abs()));
            let Ok(()) = body.into_styled(fill).draw(canvas);
            let shackle = Arc::with_center(at(0, -8), unit(42).unsigned_abs(), 180.0.deg(), 180.0.deg());
            let Ok(()) = shackle.into_styled(stroke).draw(canvas);
        }
        Screen::Idle { .. } => {
            let leaf =
                Rectangle::new(at(-24, -46), Size::new(unit(48).unsigned_abs(), unit(92).unsigned_abs()));
            let Ok(()) = leaf.into_styled(stroke).draw(canvas);
            let Ok(()) = round(12, 2, 8).into_styled(fill).draw(canvas);
        }
    }
    if matches!(screen, Screen::Welcome { .. } | Screen::Denied(_)) {
        let Ok(()) = round(0, 0, 92).into_styled(stroke).draw(canvas);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::DisplayLanguage;
    use crate::display::screen::{Hint, Refusal};
    use crate::display::texts::words;

    /// Every kind of screen there is.
    pub(crate) fn screens() -> Vec<(&'static str, Screen)> {
        vec![
            ("idle", Screen::Idle { time: Some((14, 5)), offline: false }),
            ("looking", Screen::Looking { progress: 40, hint: None }),
            ("come-closer", Screen::Looking { progress: 25, hint: Some(Hint::ComeCloser) }),
            ("welcome", Screen::Welcome { name: None }),
            ("welcome-name", Screen::Welcome { name: Some("Γεώργιος Παπαδόπουλος".to_owned()) }),
            ("not-known", Screen::Denied(Refusal::NotKnown)),
            ("not-at-this-hour", Screen::Denied(Refusal::NotAtThisHour(Some(crate::clock::UnixMillis(0))))),
            ("pass-used", Screen::Denied(Refusal::PassUsed)),
            ("enter-pin", Screen::Prompt(Factor::Pin)),
            ("show-pass", Screen::Prompt(Factor::Pass)),
            ("enrolment", Screen::Enrolment("left")),
            ("rung", Screen::Rung),
            ("no-camera", Screen::NoCamera),
            ("offline", Screen::Idle { time: Some((14, 5)), offline: true }),
            ("locked-out", Screen::LockedOut { minutes: 5 }),
        ]
    }

    #[test]
    fn every_screen_is_drawn_within_every_panel_and_differs_from_the_others() {
        for (width, height, mono) in [
            (128, 64, true),
            (128, 32, true),
            (240, 240, false),
            (320, 240, false),
            (480, 320, false),
            (1920, 1080, false),
        ] {
            for language in [DisplayLanguage::En, DisplayLanguage::De] {
                let mut drawn: Vec<Canvas> = Vec::new();
                for (name, screen) in screens() {
                    let words = words(&screen, language, "Haupteingang", |_| Some((8, 0)));
                    let mut canvas = Canvas::new(width, height);
                    draw(&mut canvas, &screen, &words, mono);
                    assert!(canvas != Canvas::new(width, height), "{name} is empty at {width}x{height}");
                    assert!(
                        height == 32 || !drawn.contains(&canvas),
                        "{name} {language:?} looks like another at {width}x{height}"
                    );
                    drawn.push(canvas);
                }
            }
        }
    }

    #[test]
    fn words_are_whole_in_the_smallest_display() {
        for (name, screen) in screens() {
            for language in [DisplayLanguage::En, DisplayLanguage::De] {
                let words = words(&screen, language, "Haupteingang", |_| Some((8, 0)));
                let area = Size::new(126, if words.detail.is_some() { 34 } else { 52 });
                let fitted = fit(&words.headline, area, 64);
                assert_eq!(fitted.lines.join(" "), words.headline, "{name}");
                if let Some(detail) = words.detail {
                    let fitted = fit(&detail, Size::new(126, 28), 64);
                    assert_eq!(fitted.lines.join(" "), detail, "{name}");
                }
            }
        }
    }

    #[test]
    fn longest_names_are_cut_and_nothing_is_drawn_outside() {
        let name = "Wolfeschlegelsteinhausenbergerdorff ".repeat(4);
        let fitted = fit(name.trim(), Size::new(126, 30), 64);
        assert!(fitted.lines.len() <= 2 && fitted.lines.last().unwrap().ends_with('…'), "{:?}", fitted.lines);
        for text in ["", " ", "a", "ää öö"] {
            assert!(fit(text, Size::new(6, 13), 64).height() >= 13);
        }
    }

    /// Every letter that is said to be drawn has a glyph in every font.
    #[test]
    fn fonts_know_every_letter_that_is_not_transliterated() {
        use crate::display::texts::legible;
        let mut letters = 0;
        for letter in (' '..='\u{4ff}').chain(['–', '—', '‘', '’', '“', '”', '„', '…', '€'])
        {
            if letter == ' ' || legible(&letter.to_string()) != letter.to_string() {
                continue;
            }
            letters += 1;
            for font in FONTS.iter() {
                assert_ne!(font.glyph_mapping.index(letter), 0, "{letter} ({:x})", letter as u32);
            }
        }
        assert!(letters > 400, "{letters}");
    }

    /// The pictures in the documentation. Written with `LIMEN_WRITE_DOCS=1`.
    #[test]
    fn reference_pictures_are_current() {
        let folder = std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/images/display"));
        let mut count = 0;
        for (name, screen) in screens() {
            for (width, height, mono, language) in
                [(128, 64, true, DisplayLanguage::De), (480, 320, false, DisplayLanguage::En)]
            {
                let words = words(&screen, language, "Main entrance", |_| Some((8, 0)));
                let mut canvas = Canvas::new(width, height);
                draw(&mut canvas, &screen, &words, mono);
                let picture = crate::frame::RgbImage::from_pixels(width, height, canvas.to_rgb())
                    .unwrap()
                    .to_png()
                    .unwrap();
                let path = folder.join(format!("{name}-{width}x{height}.png"));
                count += 1;
                if std::env::var_os("LIMEN_WRITE_DOCS").is_some() {
                    std::fs::create_dir_all(folder).unwrap();
                    std::fs::write(&path, &picture).unwrap();
                } else {
                    let kept = std::fs::read(&path).unwrap_or_default();
                    assert!(kept == picture, "{} is not current: run `make docs`", path.display());
                }
            }
        }
        assert_eq!(count, 30);
    }
}
