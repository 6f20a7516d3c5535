//! A folder of pictures, by name. JPEGs are passed on as they are; PNG and WebP are decoded.

use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};

use image::{ImageFormat, ImageReader, Limits};

use super::{ContainerError, FrameReader, FrameShape, MAX_ENCODED_BYTES, jpeg};
use crate::camera::MAX_SIDE_PX;
use crate::frame::{FrameSize, PixelFormat};

/// More than this many pictures in one folder is taken for a mistake.
const MAX_PICTURES: usize = 100_000;

/// Memory one decoded picture may take: the largest accepted side squared, four bytes a pixel.
const MAX_DECODED_BYTES: u64 = (MAX_SIDE_PX as u64) * (MAX_SIDE_PX as u64) * 4;

/// Reads the pictures of a folder in the order of their names. Unreadable ones are skipped.
#[derive(Debug)]
pub struct FolderReader {
    pictures: Vec<PathBuf>,
    next: usize,
    discarded: u64,
}

impl FolderReader {
    /// Lists the folder; later changes to it go unseen.
    pub fn open(folder: &Path) -> Result<Self, ContainerError> {
        let mut pictures = Vec::new();
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if format_of(&path).is_some() {
                pictures.push(path);
            }
            if pictures.len() > MAX_PICTURES {
                return Err(ContainerError::Unsupported(format!("has more than {MAX_PICTURES} pictures")));
            }
        }
        if pictures.is_empty() {
            return Err(ContainerError::Empty("no .jpg, .jpeg, .png or .webp in this folder".into()));
        }
        pictures.sort();
        Ok(Self { pictures, next: 0, discarded: 0 })
    }
}

fn format_of(path: &Path) -> Option<ImageFormat> {
    let extension = path.extension()?.to_str()?.to_ascii_lowercase();
    match extension.as_str() {
        "jpg" | "jpeg" => Some(ImageFormat::Jpeg),
        "png" => Some(ImageFormat::Png),
        "webp" => Some(ImageFormat::WebP),
        _ => None,
    }
}

impl FrameReader for FolderReader {
    fn read_frame(&mut self, buffer: &mut Vec<u8>) -> Result<Option<FrameShape>, ContainerError> {
        while let Some(path) = self.pictures.get(self.next) {
            self.next += 1;
            match read_picture(path, buffer) {
                Ok(shape) => return Ok(Some(shape)),
                Err(error) => {
                    self.discarded += 1;
                    tracing::warn!(picture = %path.display(), %error, "picture skipped");
                }
            }
        }
        Ok(None)
    }

    fn rewind(&mut self) -> Result<(), ContainerError> {
        self.next = 0;
        Ok(())
    }

    fn rate_hz(&self) -> Option<f32> {
        None
    }

    fn discarded(&self) -> u64 {
        self.discarded
    }
}

fn read_picture(path: &Path, buffer: &mut Vec<u8>) -> Result<FrameShape, ContainerError> {
    buffer.clear();
    std::fs::File::open(path)?.take(MAX_ENCODED_BYTES as u64 + 1).read_to_end(buffer)?;
    if buffer.len() > MAX_ENCODED_BYTES {
        return Err(ContainerError::Unsupported(format!("is larger than {MAX_ENCODED_BYTES} bytes")));
    }
    match format_of(path) {
        Some(ImageFormat::Jpeg) | None => {
            let size = jpeg::jpeg_size(buffer).ok_or_else(|| ContainerError::Broken {
                at: 0,
                what: "no JPEG with a size of its own".into(),
            })?;
            Ok(FrameShape { format: PixelFormat::Mjpg, size, stride: 0 })
        }
        Some(format) => decode_picture(buffer, format),
    }
}

/// Replaces an encoded picture by its RGB pixels.
pub fn decode_picture(buffer: &mut Vec<u8>, format: ImageFormat) -> Result<FrameShape, ContainerError> {
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE_PX);
    limits.max_image_height = Some(MAX_SIDE_PX);
    limits.max_alloc = Some(MAX_DECODED_BYTES);
    let mut reader = ImageReader::with_format(Cursor::new(&buffer[..]), format);
    reader.limits(limits);
    let picture = reader
        .decode()
        .map_err(|error| ContainerError::Broken { at: 0, what: error.to_string() })?
        .into_rgb8();
    let (width, height) = picture.dimensions();
    *buffer = picture.into_raw();
    Ok(FrameShape { format: PixelFormat::Rgb3, size: FrameSize { width, height }, stride: width * 3 })
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLLINS: &[u8] = include_bytes!("../../../tests/fixtures/portraits/eileen_collins_1.jpg");

    fn png(width: u32, height: u32, colour: [u8; 3]) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        image::RgbImage::from_pixel(width, height, image::Rgb(colour))
            .write_to(&mut bytes, ImageFormat::Png)
            .unwrap();
        bytes.into_inner()
    }

    #[test]
    fn pictures_come_in_the_order_of_their_names_and_broken_ones_are_skipped() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).unwrap();
        write("3.png", &png(4, 2, [10, 20, 30]));
        write("1.JPG", COLLINS);
        write("2.jpg", b"not a picture");
        write("4.png", &COLLINS[..200]);
        write("notes.txt", b"no picture, not counted");
        let mut reader = FolderReader::open(folder.path()).unwrap();
        let mut buffer = Vec::new();
        let first = reader.read_frame(&mut buffer).unwrap().unwrap();
        assert_eq!((first.format, first.size.width), (PixelFormat::Mjpg, 310));
        assert_eq!(buffer, COLLINS);
        let second = reader.read_frame(&mut buffer).unwrap().unwrap();
        assert_eq!((second.format, second.stride), (PixelFormat::Rgb3, 12));
        assert_eq!(buffer, [10, 20, 30].repeat(8));
        assert_eq!(reader.read_frame(&mut buffer).unwrap(), None);
        assert_eq!(reader.discarded(), 2);
    }

    #[test]
    fn a_folder_without_pictures_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let error = FolderReader::open(folder.path()).unwrap_err();
        assert!(error.to_string().contains(".webp"), "{error}");
    }

    #[test]
    fn a_png_that_claims_a_giant_size_is_refused_before_its_memory_is_taken() {
        let mut bytes = png(1, 1, [0; 3]);
        // Width and height of the header, then its checksum.
        bytes[16..24].copy_from_slice(&[0, 0, 0xFF, 0xFF, 0, 0, 0xFF, 0xFF]);
        let crc = crc32(&bytes[12..29]);
        bytes[29..33].copy_from_slice(&crc.to_be_bytes());
        let error = decode_picture(&mut bytes, ImageFormat::Png).unwrap_err().to_string();
        assert!(error.to_lowercase().contains("limit"), "{error}");
    }

    fn crc32(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(!0u32, |crc, &byte| {
            (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg()))
        })
    }
}
