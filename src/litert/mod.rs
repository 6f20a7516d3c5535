//! LiteRT (the successor of TensorFlow Lite): a safe model-and-interpreter pair.
//!
//! Owns the runtime library, its version check and the memory of every input and output. It does
//! not know what a network means; [`crate::models`] states what each one must look like, and
//! [`Interpreter::new`] refuses a model that differs. An interpreter belongs to one thread at a time.

mod ffi;

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;

/// Largest runtime library that is read for hashing; the real one has 6 to 8 MB.
const MAX_LIBRARY_BYTES: u64 = 64 << 20;

/// What went wrong between us and the runtime.
#[derive(Debug, Error)]
pub enum LitertError {
    /// The library file could not be read.
    #[error(
        "cannot read the LiteRT library {path}: {reason}; `make setup` fetches it, or set litert.library"
    )]
    Unreadable {
        /// Where it was looked for.
        path: PathBuf,
        /// The system's own words.
        reason: String,
    },
    /// The library is not the one this build was verified with.
    #[error(
        "{path} is not LiteRT {version} for {arch}: its sha256 is {found}, pinned is {expected}; \
         `make setup` fetches the right one"
    )]
    WrongLibrary {
        /// Which file.
        path: PathBuf,
        /// The pinned version.
        version: Box<str>,
        /// The machine's architecture.
        arch: &'static str,
        /// sha256 of the file, hexadecimal.
        found: Box<str>,
        /// sha256 that the manifest pins, hexadecimal.
        expected: Box<str>,
    },
    /// The manifest pins no library for this machine.
    #[error("no LiteRT library is pinned for {arch}; supported are {supported}")]
    UnsupportedArchitecture {
        /// This machine.
        arch: String,
        /// What the manifest lists.
        supported: String,
    },
    /// The dynamic linker refused.
    #[error("cannot load the LiteRT library: {reason}")]
    Load {
        /// The linker's own words.
        reason: String,
    },
    /// The library lacks a function of the C API.
    #[error("the LiteRT library has no function {symbol}; it is not version 2.3.0")]
    MissingSymbol {
        /// The function's name.
        symbol: &'static str,
    },
    /// A call of the C API failed.
    #[error("{call} failed: {} (status {status})", status_text(*status))]
    Call {
        /// The function.
        call: &'static str,
        /// Its `LiteRtStatus`.
        status: i32,
    },
    /// Not exactly one signature.
    #[error("the model has {found} signatures where exactly one was expected")]
    Signatures {
        /// How many there are.
        found: usize,
    },
    /// The compiled model wants less memory than the tensor has.
    #[error("tensor {tensor} does not fit the {required} bytes that the compiled model reserves for it")]
    TensorSize {
        /// The tensor.
        tensor: Box<TensorInfo>,
        /// Bytes the compiled model asks for.
        required: usize,
    },
    /// An input or output is not what the manifest says.
    #[error("{model}: {edge} {index} should be {expected}, but the file has {found}")]
    Mismatch {
        /// Name of the model.
        model: String,
        /// "input" or "output".
        edge: &'static str,
        /// Its position.
        index: usize,
        /// What the manifest says.
        expected: Box<TensorInfo>,
        /// What the model file says.
        found: Box<TensorInfo>,
    },
    /// Too many or too few inputs or outputs.
    #[error("{model}: {expected} {edge}s were expected, the file has {found}")]
    EdgeCount {
        /// Name of the model.
        model: String,
        /// "input" or "output".
        edge: &'static str,
        /// What the manifest lists.
        expected: usize,
        /// What the model file has.
        found: usize,
    },
    /// Any of the above, with the model it happened to.
    #[error("{model}: {source}")]
    Model {
        /// Name of the model.
        model: String,
        /// What happened.
        source: Box<LitertError>,
    },
}

fn status_text(status: i32) -> &'static str {
    match status {
        1 => "invalid argument",
        2 => "out of memory",
        3 => "runtime failure",
        4 => "missing input tensor",
        5 => "unsupported",
        6 => "not found",
        7 => "timed out",
        8 => "wrong version",
        10 => "already exists",
        500 => "file error",
        501 => "not a valid model flatbuffer",
        502 => "a shared library could not be loaded",
        503 => "serialisation failed",
        504 => "compilation failed",
        _ => "unknown error",
    }
}

/// Element types that limen's networks use at their edges.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ElementType {
    /// IEEE 754 single precision.
    Float32,
    /// Signed 8 bits, quantised.
    Int8,
    /// Anything else; never accepted.
    #[serde(skip)]
    Other(i32),
}

impl ElementType {
    fn from_code(code: i32) -> Self {
        match code {
            1 => Self::Float32,
            9 => Self::Int8,
            other => Self::Other(other),
        }
    }

    fn bytes(self) -> Option<usize> {
        match self {
            Self::Float32 => Some(4),
            Self::Int8 => Some(1),
            Self::Other(_) => None,
        }
    }
}

/// Affine quantisation: `real = scale * (stored - zero_point)`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Quantisation {
    /// Real units a step.
    pub scale: f32,
    /// The stored value that means zero.
    pub zero_point: i32,
}

/// What one tensor at the edge of a model is.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorInfo {
    /// Its name inside the file.
    pub name: String,
    /// Element type.
    pub element_type: ElementType,
    /// Dimensions, batch first.
    pub shape: Vec<i32>,
    /// Present for quantised tensors.
    pub quantisation: Option<Quantisation>,
}

impl TensorInfo {
    /// Elements in the tensor; `None` for an impossible shape.
    pub fn elements(&self) -> Option<usize> {
        self.shape.iter().try_fold(1usize, |product, dimension| {
            product.checked_mul(usize::try_from(*dimension).ok().filter(|d| *d > 0)?)
        })
    }

    fn byte_size(&self) -> Option<usize> {
        self.elements()?.checked_mul(self.element_type.bytes()?)
    }

    /// Same type, shape and quantisation; names are labels only. Scales are compared to a relative
    /// 1e-5, since the manifest writes them in decimal.
    fn agrees_with(&self, other: &Self) -> bool {
        let close = |left: f32, right: f32| (left - right).abs() <= 1e-5 * right.abs();
        let quantisation = match (self.quantisation, other.quantisation) {
            (None, None) => true,
            (Some(l), Some(r)) => l.zero_point == r.zero_point && close(l.scale, r.scale),
            _ => false,
        };
        quantisation && self.element_type == other.element_type && self.shape == other.shape
    }
}

impl std::fmt::Display for TensorInfo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} {:?}", self.element_type, self.shape)?;
        if let Some(Quantisation { scale, zero_point }) = self.quantisation {
            write!(f, " (scale {scale}, zero point {zero_point})")?;
        }
        if !self.name.is_empty() {
            write!(f, " \"{}\"", self.name)?;
        }
        Ok(())
    }
}

/// One build of the runtime library that this project was verified with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PinnedLibrary {
    /// `x86_64` or `aarch64`.
    pub arch: String,
    /// File name, for messages and for the set-up.
    pub file: String,
    /// Lower-case hexadecimal.
    pub sha256: String,
    /// Size of the file.
    pub bytes: u64,
    /// The package it comes from.
    pub package: String,
    /// Version of that package.
    pub package_version: String,
    /// sha256 of the package file.
    pub wheel_sha256: String,
}

/// The runtime library, verified and loaded. Cheap to clone; never unloaded.
#[derive(Clone)]
pub struct Runtime(Arc<ffi::Library>);

impl Runtime {
    /// Loads the library at `path` after comparing its sha256 with the one that `pinned` gives for
    /// this machine. `version` is for messages.
    pub fn load(path: &Path, version: &str, pinned: &[PinnedLibrary]) -> Result<Self, LitertError> {
        let arch = std::env::consts::ARCH;
        let expected = pinned.iter().find(|library| library.arch == arch).ok_or_else(|| {
            LitertError::UnsupportedArchitecture {
                arch: arch.into(),
                supported: pinned.iter().map(|l| l.arch.as_str()).collect::<Vec<_>>().join(", "),
            }
        })?;
        let unreadable =
            |error: std::io::Error| LitertError::Unreadable { path: path.into(), reason: error.to_string() };
        let mut file = File::open(path).map_err(unreadable)?;
        let found = hash_reader(&mut file).map_err(unreadable)?;
        if found != expected.sha256 {
            return Err(LitertError::WrongLibrary {
                path: path.into(),
                version: version.into(),
                arch,
                found: found.into(),
                expected: expected.sha256.as_str().into(),
            });
        }
        Ok(Self(ffi::Library::load(&file)?))
    }
}

fn hash_reader(file: &mut File) -> std::io::Result<String> {
    let mut hasher = Sha256::new();
    let mut chunk = vec![0; 1 << 16];
    let mut total = 0u64;
    loop {
        let read = file.read(&mut chunk)?;
        if read == 0 {
            break;
        }
        total += read as u64;
        if total > MAX_LIBRARY_BYTES {
            return Err(std::io::Error::other("the file is far larger than any LiteRT library"));
        }
        hasher.update(&chunk[..read]);
    }
    Ok(hex(&hasher.finalize()))
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        use std::fmt::Write;
        write!(text, "{byte:02x}").expect("writing to a String cannot fail");
        text
    })
}

/// A compiled model with its inputs and outputs in our memory.
pub struct Interpreter {
    model: String,
    session: ffi::Session,
    outputs: Vec<TensorInfo>,
    scratch: Vec<f32>,
}

impl Interpreter {
    /// Compiles `bytes` for `threads` CPU threads and checks that it has exactly the given inputs
    /// and outputs. `model` names it in errors.
    pub fn new(
        runtime: &Runtime,
        model: &str,
        bytes: Arc<[u8]>,
        threads: u8,
        inputs: &[TensorInfo],
        outputs: &[TensorInfo],
    ) -> Result<Self, LitertError> {
        let named = |source: LitertError| LitertError::Model { model: model.into(), source: source.into() };
        let session = ffi::Session::compile(&runtime.0, bytes, threads).map_err(named)?;
        check_edges(model, "input", inputs, session.inputs())?;
        check_edges(model, "output", outputs, session.outputs())?;
        if !session.fully_accelerated() {
            tracing::warn!(model, "XNNPACK does not run the whole model; expect it to be slow");
        }
        let outputs = session.outputs().cloned().collect();
        Ok(Self { model: model.into(), session, outputs, scratch: Vec::new() })
    }

    /// The quantised bytes of input `index`, to be filled before [`run`](Self::run).
    pub fn input_mut(&mut self, index: usize) -> &mut [u8] {
        self.session.input_mut(index)
    }

    /// One inference on the calling thread.
    pub fn run(&mut self) -> Result<(), LitertError> {
        self.session
            .run()
            .map_err(|source| LitertError::Model { model: self.model.clone(), source: source.into() })
    }

    /// Writes all of output `index` as real numbers into an internal buffer and returns it.
    pub fn output_f32(&mut self, index: usize) -> &[f32] {
        let view = OutputView { bytes: self.session.output(index), info: &self.outputs[index] };
        self.scratch.clear();
        self.scratch.extend((0..view.len()).map(|at| view.get(at)));
        &self.scratch
    }

    /// Output `index` for reading single elements, dequantised one at a time.
    pub fn output(&self, index: usize) -> OutputView<'_> {
        OutputView { bytes: self.session.output(index), info: &self.outputs[index] }
    }
}

/// An output tensor, read element by element.
#[derive(Clone, Copy)]
pub struct OutputView<'a> {
    bytes: &'a [u8],
    info: &'a TensorInfo,
}

impl OutputView<'_> {
    /// Elements in the tensor.
    pub fn len(&self) -> usize {
        self.bytes.len() / self.info.element_type.bytes().expect("types were checked at load")
    }

    /// True for a tensor without elements, which no accepted model has.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Element `at` as a real number.
    pub fn get(&self, at: usize) -> f32 {
        match self.info.element_type {
            ElementType::Int8 => self.real(self.bytes[at].cast_signed()),
            _ => {
                let four = self.bytes[at * 4..at * 4 + 4].try_into().expect("a slice of four bytes");
                f32::from_ne_bytes(four)
            }
        }
    }

    fn real(&self, stored: i8) -> f32 {
        let Quantisation { scale, zero_point } =
            self.info.quantisation.unwrap_or(Quantisation { scale: 1.0, zero_point: 0 });
        scale * (i32::from(stored) - zero_point) as f32
    }
}

fn check_edges<'a>(
    model: &str,
    edge: &'static str,
    expected: &[TensorInfo],
    found: impl ExactSizeIterator<Item = &'a TensorInfo>,
) -> Result<(), LitertError> {
    if expected.len() != found.len() {
        let (expected, found) = (expected.len(), found.len());
        return Err(LitertError::EdgeCount { model: model.into(), edge, expected, found });
    }
    for (index, (expected, found)) in expected.iter().zip(found).enumerate() {
        if !found.agrees_with(expected) {
            let (expected, found) = (Box::new(expected.clone()), Box::new(found.clone()));
            return Err(LitertError::Mismatch { model: model.into(), edge, index, expected, found });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn int8(shape: &[i32], scale: f32, zero_point: i32) -> TensorInfo {
        TensorInfo {
            name: String::new(),
            element_type: ElementType::Int8,
            shape: shape.to_vec(),
            quantisation: Some(Quantisation { scale, zero_point }),
        }
    }

    #[test]
    fn impossible_shapes_have_no_size() {
        assert_eq!(int8(&[1, 2, 3], 1.0, 0).elements(), Some(6));
        assert_eq!(int8(&[1, 0, 3], 1.0, 0).elements(), None);
        assert_eq!(int8(&[1, -1], 1.0, 0).elements(), None);
        assert_eq!(int8(&[i32::MAX; 8], 1.0, 0).elements(), None);
    }

    #[test]
    fn mismatch_names_model_edge_expected_and_found() {
        let expected = [int8(&[1, 192, 192, 3], 1.0, 0)];
        let found = int8(&[1, 128, 128, 3], 1.0, 0);
        let error = check_edges("detector", "input", &expected, [&found].into_iter()).unwrap_err();
        let text = error.to_string();
        for part in ["detector", "input 0", "[1, 192, 192, 3]", "[1, 128, 128, 3]"] {
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn another_zero_point_is_a_mismatch() {
        let expected = [int8(&[1, 4], 0.5, 0)];
        assert!(check_edges("m", "input", &expected, [&int8(&[1, 4], 0.5, 1)].into_iter()).is_err());
        assert!(check_edges("m", "input", &expected, [&int8(&[1, 4], 0.500001, 0)].into_iter()).is_ok());
    }

    #[test]
    fn int8_outputs_are_dequantised_around_the_zero_point() {
        let info = int8(&[1, 3], 0.25, -2);
        let bytes = [-2i8, 2, -6].map(i8::cast_unsigned);
        let view = OutputView { bytes: &bytes, info: &info };
        assert_eq!([view.get(0), view.get(1), view.get(2)], [0.0, 1.0, -1.0]);
    }

    #[test]
    fn a_library_with_another_hash_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("libLiteRt.so");
        std::fs::write(&path, b"not a library").unwrap();
        let pinned = PinnedLibrary {
            arch: std::env::consts::ARCH.into(),
            file: "libLiteRt.so".into(),
            sha256: "00".repeat(32),
            bytes: 13,
            package: "p".into(),
            package_version: "1".into(),
            wheel_sha256: String::new(),
        };
        let Err(error) = Runtime::load(&path, "2.3.0", &[pinned]) else { panic!("it was loaded") };
        assert!(matches!(error, LitertError::WrongLibrary { .. }), "{error}");
    }
}
