//! Writes the hand-made part of `corpus/`: small, valid and nearly valid inputs for every target,
//! from which the search starts. Run from this folder with `cargo run --example seeds`.

use std::fs;
use std::io::Cursor;
use std::path::Path;

use image::{DynamicImage, ImageFormat, RgbImage};
use jpeg_encoder::{ColorType, Encoder, SamplingFactor};

fn save(target: &str, name: &str, bytes: &[u8]) {
    let folder = Path::new("corpus").join(target);
    fs::create_dir_all(&folder).expect("corpus/ can be written");
    fs::write(folder.join(name), bytes).expect("corpus/ can be written");
}

/// `channels` ramps of different slopes.
fn ramps(width: u16, height: u16, channels: usize) -> Vec<u8> {
    let places = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
    let level = |x: u16, y: u16, channel: usize| 20 + (x * (channel as u16 + 2) + y * 5) as u8;
    places.flat_map(|(x, y)| (0..channels).map(move |channel| level(x, y, channel))).collect()
}

fn jpeg(width: u16, height: u16, colour: ColorType, set: impl Fn(&mut Encoder<&mut Vec<u8>>)) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(&mut bytes, 80);
    set(&mut encoder);
    let channels = match colour {
        ColorType::Luma => 1,
        ColorType::Cmyk => 4,
        _ => 3,
    };
    encoder.encode(&ramps(width, height, channels), width, height, colour).expect("sizes agree");
    bytes
}

/// Without the segments of one kind, as cameras leave the Huffman tables (0xc4) out.
fn without(bytes: &[u8], unwanted: u8) -> Vec<u8> {
    let (mut kept, mut at) = (bytes[..2].to_vec(), 2);
    while bytes[at + 1] != 0xda {
        let end = at + 2 + usize::from(u16::from_be_bytes([bytes[at + 2], bytes[at + 3]]));
        if bytes[at + 1] != unwanted {
            kept.extend_from_slice(&bytes[at..end]);
        }
        at = end;
    }
    kept.extend_from_slice(&bytes[at..]);
    kept
}

/// With an EXIF segment that asks for a turn.
fn turned(bytes: &[u8], orientation: u8) -> Vec<u8> {
    let mut exif = b"\xff\xe1\x00\x22Exif\0\0II*\0\x08\0\0\0\x01\0".to_vec();
    exif.extend_from_slice(&[0x12, 0x01, 3, 0, 1, 0, 0, 0, orientation, 0, 0, 0, 0, 0, 0, 0]);
    [&bytes[..2], &exif, &bytes[2..]].concat()
}

fn jpegs() -> Vec<(&'static str, Vec<u8>)> {
    let baseline = jpeg(24, 16, ColorType::Rgb, |e| e.set_sampling_factor(SamplingFactor::F_2_1));
    vec![
        ("camera_without_tables", without(&baseline, 0xc4)),
        ("without_quantisation", without(&baseline, 0xdb)),
        ("cut", baseline[..baseline.len() - 40].to_vec()),
        ("trailing_bytes", [&baseline[..], &[0; 64]].concat()),
        ("restarts", jpeg(33, 17, ColorType::Rgb, |e| e.set_restart_interval(1))),
        ("sampling_420", jpeg(35, 19, ColorType::Rgb, |e| e.set_sampling_factor(SamplingFactor::F_2_2))),
        ("sampling_411", jpeg(40, 9, ColorType::Rgb, |e| e.set_sampling_factor(SamplingFactor::F_4_1))),
        ("sampling_440", jpeg(16, 24, ColorType::Rgb, |e| e.set_sampling_factor(SamplingFactor::F_1_2))),
        ("grey", jpeg(17, 9, ColorType::Luma, |_| ())),
        ("cmyk", jpeg(8, 8, ColorType::Cmyk, |_| ())),
        ("one_pixel", jpeg(1, 1, ColorType::Rgb, |_| ())),
        ("progressive", jpeg(24, 24, ColorType::Rgb, |e| e.set_progressive(true))),
        ("progressive_restarts", {
            jpeg(24, 16, ColorType::Rgb, |e| {
                e.set_progressive_scans(8);
                e.set_restart_interval(2);
            })
        }),
        ("optimised", jpeg(24, 16, ColorType::Rgb, |e| e.set_optimized_huffman_tables(true))),
        ("baseline", baseline),
    ]
}

fn chunk(id: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut bytes = [id, &(payload.len() as u32).to_le_bytes(), payload].concat();
    bytes.resize(bytes.len().next_multiple_of(2), 0);
    bytes
}

fn list(kind: &[u8], parts: &[Vec<u8>]) -> Vec<u8> {
    chunk(b"LIST", &[kind, &parts.concat()].concat())
}

fn avi(codec: &[u8; 4], movie: &[Vec<u8>]) -> Vec<u8> {
    let mut header = vec![0; 56];
    header[..4].copy_from_slice(b"vids");
    header[20] = 1;
    header[24] = 15;
    let mut format = vec![0; 40];
    format[16..20].copy_from_slice(codec);
    let sound = list(b"strl", &[chunk(b"strh", b"auds"), chunk(b"strf", &[1; 18])]);
    let video = list(b"strl", &[chunk(b"strh", &header), chunk(b"strf", &format)]);
    let headers = list(b"hdrl", &[chunk(b"avih", &66_667u32.to_le_bytes()), sound, video]);
    let body = [headers, chunk(b"JUNK", &[0; 5]), list(b"movi", movie), chunk(b"idx1", &[0; 16])].concat();
    chunk(b"RIFF", &[&b"AVI "[..], &body].concat())
}

fn containers() {
    let frame = jpeg(2, 2, ColorType::Luma, |_| ());
    let bare = without(&frame, 0xc4);
    // Enough of the syntax to be a frame, with an embedded picture, fill bytes and a restart marker.
    let tiny = b"\xff\xd8\xff\xe1\0\x06\xff\xd8\xff\xd9\xff\xff\xc0\0\x0b\x08\0\x04\0\x06\x01\x01\x11\0\
        \xff\xda\0\x02\x09\xff\0\xff\xd3\x07\xff\xd9";
    save("containers", "stream.mjpeg", &[&frame[..], b"--boundary\r\n\r\n", tiny, &bare].concat());
    save("containers", "stream_cut.mjpeg", &[&tiny[..20], tiny, &tiny[..30]].concat());
    let name = chunk(b"01dc", tiny);
    let nested = list(b"rec ", &[chunk(b"00wb", &[3; 7]), chunk(b"01db", tiny), chunk(b"01dc", &[])]);
    save("containers", "two_frames.avi", &avi(b"MJPG", &[name.clone(), nested.clone()]));
    let more = chunk(b"RIFF", &[&b"AVIX"[..], &list(b"movi", std::slice::from_ref(&name))].concat());
    save("containers", "open_dml.avi", &[avi(b"jpeg", std::slice::from_ref(&name)), more].concat());
    save("containers", "other_codec.avi", &avi(b"H264", &[nested]));
    let mut lying = avi(b"MJPG", &[name.clone(), name]);
    let last = lying.windows(4).rposition(|id| id == b"01dc").expect("it was put there");
    lying[last + 4..last + 8].fill(0xff);
    save("containers", "lying_size.avi", &lying);
    for (colour, bytes) in [("420jpeg", 5 * 3 + 2 * 3 * 2), ("422", 5 * 3 + 2 * 3 * 3), ("mono", 5 * 3)] {
        let planes = ramps(bytes, 1, 1);
        let head = format!("YUV4MPEG2 W5 H3 F25:1 Ip A1:1 C{colour} XCOMMENT\n");
        let file = [head.as_bytes(), b"FRAME\n", &planes, b"FRAME Ip\n", &planes].concat();
        save("containers", &format!("{colour}.y4m"), &file);
    }
    save("containers", "plain.y4m", b"YUV4MPEG2 W2 H2\nFRAME\n012345FRAME\n01");
}

fn settings() {
    let template = limen::config::template();
    let set: Vec<&str> = template.lines().map(|line| line.strip_prefix('#').unwrap_or(line)).collect();
    let set: Vec<&str> = set.into_iter().filter(|line| !line.starts_with(' ')).collect();
    save("config", "every_setting.toml", set.join("\n").as_bytes());
    let layers = "[camera]\nsource = \"replay:door.avi\"\nrate_hz = 30\nformat = \"yuyv\"\n=====\n\
        camera.width = 1280\ncamera.height = 720\n[quality]\nminimum_exposure = 60.5\n";
    save("config", "layers.toml", layers.as_bytes());
    let variables = "LIMEN_CAMERA__SOURCE=/dev/v4l/by-id/usb-0\nLIMEN_LOG__LEVEL=debug\n\
        LIMEN_TRACKING__IDLE_LOOK_HZ=2.5\nLIMEN_MODELS__FOLDER=\"\"\nLIMEN_CAMERA__LOOP=false\n";
    save("config", "environment", variables.as_bytes());
    save("config", "flags", b"log.format=json\ncamera.rate_hz=15\ndevice.name=\"a\\u0041\"\n");
    let wrong = "[camra]\nwidth = 1\n[camera]\nwidht = 640\nwidth = 1e9\nheight = [1, {a = 2}]\n\
        [log]\nlevel = 1979-05-27T07:32:00Z\n[identification]\nagreeing_probes = 10\n";
    save("config", "wrong.toml", wrong.as_bytes());
    save("config", "contradictions.toml", b"[camera]\nwidth = 161\nformat = \"nv12\"\nrate_hz = 1\n");
}

/// The manifest itself, one without what only people read, and what a careless edit makes of it.
fn manifests() {
    let whole = fs::read_to_string("../models/manifest.toml").expect("the manifest stands beside this");
    save("manifest", "shipped.toml", whole.as_bytes());
    let lines = whole.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    save("manifest", "bare.toml", lines.collect::<Vec<_>>().join("\n").as_bytes());
    for (name, from, to) in [
        ("next_format", "format = 1", "format = 2"),
        ("other_anchors", "strides = [", "strides = [7, "),
        ("other_role", "role = \"presence\"", "role = \"present\""),
        ("impossible_shape", "shape = [1, ", "shape = [-1, 2147483647, "),
    ] {
        assert!(whole.contains(from), "{from}");
        save("manifest", &format!("{name}.toml"), whole.replacen(from, to, 1).as_bytes());
    }
}

fn pictures() {
    let square = |side: u8, fill: u8| [side, fill];
    for (name, format, width, height, stride, filled) in [
        ("yuyv", 0u8, 64u32, 48u32, 128u32, 6144u32),
        ("yuyv_odd_stride", 0, 64, 48, 131, 6288),
        ("nv12", 1, 64, 48, 64, 4608),
        ("nv12_padded", 1, 62, 46, 80, 5520),
        ("grey", 2, 33, 21, 40, 840),
        ("rgb", 3, 31, 17, 93, 1581),
        ("grey_row", 2, 512, 1, 512, 512),
        ("short", 1, 64, 48, 64, 4000),
        ("absurd", 0, u32::MAX, u32::MAX, u32::MAX, 100),
    ] {
        let sizes = [width, height, stride, filled].map(u32::to_le_bytes).concat();
        let transform = [90i32, 20, 1400, 600].map(|hundredths| (hundredths << 12).to_le_bytes()).concat();
        let bytes = [&[format, 0][..], &sizes, &square(111, 255), &transform, &ramps(64, 1, 1)].concat();
        save("picture", name, &bytes);
        let coarse = [300i32, -250, -900, 40_000].map(|hundredths| (hundredths << 12).to_le_bytes()).concat();
        let bytes = [&[format, 2][..], &sizes, &square(15, 80), &coarse, &[200, 10, 90]].concat();
        save("picture", &format!("{name}_coarse"), &bytes);
        let wild = [f32::NAN, 1e30, f32::INFINITY, -0.0].map(f32::to_le_bytes).concat();
        save("picture", &format!("{name}_wild"), &[&[format, 1][..], &sizes, &square(40, 0), &wild].concat());
    }
}

fn main() {
    for (name, bytes) in jpegs() {
        save("jpeg", name, &bytes);
    }
    let upright = jpeg(9, 5, ColorType::Rgb, |_| ());
    for orientation in [3, 5, 6, 8] {
        save("still", &format!("orientation_{orientation}.jpg"), &turned(&upright, orientation));
    }
    let rgb = RgbImage::from_raw(13, 7, ramps(13, 7, 3)).expect("three bytes a pixel");
    let rgb = DynamicImage::from(rgb);
    for (name, picture) in [
        ("rgb", rgb.clone()),
        ("rgba", rgb.to_rgba8().into()),
        ("grey", rgb.to_luma8().into()),
        ("grey_16", rgb.to_luma16().into()),
    ] {
        let mut bytes = Vec::new();
        picture.write_to(&mut Cursor::new(&mut bytes), ImageFormat::Png).expect("PNG takes all of these");
        save("still", &format!("{name}.png"), &bytes);
    }
    for (name, picture) in [("rgb", rgb.clone()), ("rgba", rgb.to_rgba8().into())] {
        let mut bytes = Vec::new();
        picture.write_to(&mut Cursor::new(&mut bytes), ImageFormat::WebP).expect("WebP takes both");
        save("still", &format!("{name}.webp"), &bytes);
    }
    containers();
    settings();
    manifests();
    pictures();
}
