//! The only door to `libLiteRt.so`: function table, handles, and the memory they point into.
//!
//! This file owns every raw pointer of the runtime. What leaves it are byte slices, numbers and
//! [`TensorInfo`] values. It knows nothing of what a model is for; [`super`] checks that.
//!
//! Signatures and struct layouts are those of the LiteRT C API 2.3.0 on 64-bit Linux. The caller
//! vouches for the library's version by its sha256 before [`Library::load`] is called: the API has
//! no call that reports a version, and the text form of the XNNPACK options is internal to it.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::ptr::{NonNull, null, null_mut};
use std::sync::{Arc, Mutex};

use super::{ElementType, LitertError, Quantisation, TensorInfo};

type Status = c_int;
type Handle = *mut c_void;

/// LiteRT's tensors have at most this many dimensions.
const MAX_RANK: usize = 8;
/// XNNPACK wants its operands aligned to a cache line.
const ALIGNMENT: usize = 64;
/// XNNPACK kernels may read this far past an operand's end.
const READ_AHEAD: usize = 128;

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Layout {
    /// Bits 0 to 6: rank. Bit 7: strides are given.
    rank_and_flags: u32,
    dimensions: [i32; MAX_RANK],
    strides: [u32; MAX_RANK],
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct RankedTensorType {
    element_type: i32,
    layout: Layout,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct PerTensorQuantisation {
    scale: f32,
    zero_point: i64,
}

const _: () = assert!(size_of::<Layout>() == 68);
const _: () = assert!(size_of::<RankedTensorType>() == 72);
const _: () = assert!(size_of::<PerTensorQuantisation>() == 16);

/// `LiteRtAny` holding an integer.
#[repr(C)]
struct AnyInteger {
    kind: c_int,
    value: i64,
}

#[repr(C)]
struct EnvironmentOption {
    tag: c_int,
    value: AnyInteger,
}

const _: () = assert!(size_of::<EnvironmentOption>() == 24);

const ANY_INTEGER: c_int = 2;
/// Which accelerators register themselves. Left alone, the runtime asks the dynamic linker for GPU
/// and NPU plug-ins by bare name, and whoever can put a file on its path runs code in this process.
const OPTION_ACCELERATORS: c_int = 24;
/// Left alone, the runtime writes a dozen lines to standard error.
const OPTION_LEAST_SEVERITY: c_int = 25;
const SEVERITY_ERROR: i64 = 3;

const QUANTISATION_PER_TENSOR: c_int = 1;
const ACCELERATOR_CPU: c_int = 1;

macro_rules! functions {
    ($($field:ident = $symbol:literal ( $($argument:ty),* ) $(-> $result:ty)?;)*) => {
        struct Functions { $($field: unsafe extern "C" fn($($argument),*) $(-> $result)?,)* }

        impl Functions {
            /// # Safety
            /// `library` must be LiteRT 2.3.0 and must never be unloaded.
            unsafe fn resolve(library: &libloading::Library) -> Result<Self, LitertError> {
                $(
                    // SAFETY: the caller vouches for the library, so the symbol has this type.
                    let $field = unsafe { library.get::<unsafe extern "C" fn($($argument),*) $(-> $result)?>($symbol) }
                        .map_err(|_| LitertError::MissingSymbol { symbol: $symbol })?;
                )*
                Ok(Self { $($field: *$field,)* })
            }
        }
    };
}

functions! {
    create_environment = "LiteRtCreateEnvironment"(c_int, *const EnvironmentOption, *mut Handle) -> Status;
    create_model = "LiteRtCreateModelFromBuffer"(Handle, *const c_void, usize, *mut Handle) -> Status;
    destroy_model = "LiteRtDestroyModel"(Handle);
    signature_count = "LiteRtGetNumModelSignatures"(Handle, *mut usize) -> Status;
    signature = "LiteRtGetModelSignature"(Handle, usize, *mut Handle) -> Status;
    input_count = "LiteRtGetNumSignatureInputs"(Handle, *mut usize) -> Status;
    output_count = "LiteRtGetNumSignatureOutputs"(Handle, *mut usize) -> Status;
    input_tensor = "LiteRtGetSignatureInputTensorByIndex"(Handle, usize, *mut Handle) -> Status;
    output_tensor = "LiteRtGetSignatureOutputTensorByIndex"(Handle, usize, *mut Handle) -> Status;
    tensor_type = "LiteRtGetRankedTensorType"(Handle, *mut RankedTensorType) -> Status;
    tensor_name = "LiteRtGetTensorName"(Handle, *mut *const c_char) -> Status;
    quantisation_type = "LiteRtGetQuantizationTypeId"(Handle, *mut c_int) -> Status;
    per_tensor_quantisation =
        "LiteRtGetPerTensorQuantization"(Handle, *mut PerTensorQuantisation) -> Status;
    create_options = "LiteRtCreateOptions"(*mut Handle) -> Status;
    destroy_options = "LiteRtDestroyOptions"(Handle);
    set_accelerators = "LiteRtSetOptionsHardwareAccelerators"(Handle, c_int) -> Status;
    create_opaque_options = "LiteRtCreateOpaqueOptions"(
        *const c_char, *mut c_void, Option<unsafe extern "C" fn(*mut c_void)>, *mut Handle
    ) -> Status;
    add_opaque_options = "LiteRtAddOpaqueOptions"(Handle, Handle) -> Status;
    create_compiled_model = "LiteRtCreateCompiledModel"(Handle, Handle, Handle, *mut Handle) -> Status;
    destroy_compiled_model = "LiteRtDestroyCompiledModel"(Handle);
    fully_accelerated = "LiteRtCompiledModelIsFullyAccelerated"(Handle, *mut bool) -> Status;
    input_requirements =
        "LiteRtGetCompiledModelInputBufferRequirements"(Handle, usize, usize, *mut Handle) -> Status;
    output_requirements =
        "LiteRtGetCompiledModelOutputBufferRequirements"(Handle, usize, usize, *mut Handle) -> Status;
    required_size = "LiteRtGetTensorBufferRequirementsBufferSize"(Handle, *mut usize) -> Status;
    wrap_host_memory = "LiteRtCreateTensorBufferFromHostMemory"(
        *const RankedTensorType, *mut c_void, usize, Option<unsafe extern "C" fn(*mut c_void)>, *mut Handle
    ) -> Status;
    destroy_tensor_buffer = "LiteRtDestroyTensorBuffer"(Handle);
    run = "LiteRtRunCompiledModel"(Handle, usize, usize, *mut Handle, usize, *mut Handle) -> Status;
}

fn check(call: &'static str, status: Status) -> Result<(), LitertError> {
    if status == 0 { Ok(()) } else { Err(LitertError::Call { call, status }) }
}

/// The loaded library and its one environment. Lives until the process ends.
pub(super) struct Library {
    functions: Functions,
    environment: NonNull<c_void>,
    /// Compiling two models at once in one environment is not promised to work.
    compiling: Mutex<()>,
}

// SAFETY: the function table is immutable, and the environment is used only by calls made while
// `compiling` is held.
unsafe impl Send for Library {}
// SAFETY: as above.
unsafe impl Sync for Library {}

impl Library {
    /// Maps the very file behind `file` into the process. Its bytes must have been compared with a
    /// pinned sha256 through the same descriptor.
    pub(super) fn load(file: &File) -> Result<Arc<Self>, LitertError> {
        // Loading through the open descriptor makes sure that what was hashed is what is mapped,
        // even when the path has been pointed elsewhere meanwhile.
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        // SAFETY: the caller has verified that this file is LiteRT 2.3.0, whose initialisers only
        // register its own delegates.
        let library = unsafe { libloading::Library::new(&path) }
            .map_err(|error| LitertError::Load { reason: error.to_string() })?;
        // SAFETY: as above; `library` is leaked below.
        let functions = unsafe { Functions::resolve(&library) }?;
        // Closing the library crashed in ten of ten tries: its threads and exit handlers outlive
        // the handle. It stays mapped until the process ends.
        std::mem::forget(library);
        let option = |tag, value| EnvironmentOption { tag, value: AnyInteger { kind: ANY_INTEGER, value } };
        let options = [
            option(OPTION_ACCELERATORS, ACCELERATOR_CPU.into()),
            option(OPTION_LEAST_SEVERITY, SEVERITY_ERROR),
        ];
        let mut environment = null_mut();
        // SAFETY: the options are laid out as the API declares them and are copied by the call; the
        // result is checked.
        let status = unsafe {
            (functions.create_environment)(options.len() as c_int, options.as_ptr(), &mut environment)
        };
        check("LiteRtCreateEnvironment", status)?;
        let environment =
            NonNull::new(environment).ok_or(LitertError::Call { call: "LiteRtCreateEnvironment", status })?;
        Ok(Arc::new(Self { functions, environment, compiling: Mutex::new(()) }))
    }
}

/// Zeroed memory, aligned to a cache line, with room to read past its end.
struct TensorMemory {
    lines: Vec<CacheLine>,
    length: usize,
}

#[repr(C, align(64))]
#[derive(Clone, Copy)]
struct CacheLine([u8; ALIGNMENT]);

const _: () = assert!(align_of::<CacheLine>() == ALIGNMENT && size_of::<CacheLine>() == ALIGNMENT);

impl TensorMemory {
    fn zeroed(length: usize) -> Self {
        let lines = (length + READ_AHEAD).div_ceil(ALIGNMENT);
        Self { lines: vec![CacheLine([0; ALIGNMENT]); lines], length }
    }

    fn as_bytes(&self) -> &[u8] {
        assert!(self.length <= self.lines.len() * ALIGNMENT);
        // SAFETY: the assertion shows that `lines` owns at least `length` initialised bytes.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.length) }
    }

    fn as_bytes_mut(&mut self) -> &mut [u8] {
        assert!(self.length <= self.lines.len() * ALIGNMENT);
        // SAFETY: as in `as_bytes`, and `self` is borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.length) }
    }
}

/// One tensor at the edge of the model: what it is, our memory, and LiteRT's view of that memory.
struct Edge {
    info: TensorInfo,
    memory: TensorMemory,
    buffer: Handle,
}

/// A compiled model with its inputs and outputs. Fields are released in [`Drop`], users before what
/// they use.
pub(super) struct Session {
    library: Arc<Library>,
    /// LiteRT reads weights straight from these bytes for as long as the model lives.
    _model_bytes: Arc<[u8]>,
    model: Handle,
    options: Handle,
    compiled: Handle,
    inputs: Vec<Edge>,
    outputs: Vec<Edge>,
    fully_accelerated: bool,
}

// SAFETY: a compiled model is bound to no thread; every call that touches it takes `&mut self`, or
// `&self` for plain memory of ours.
unsafe impl Send for Session {}

impl Session {
    /// Compiles the model in `bytes` for `threads` CPU threads. The model must have one signature.
    pub(super) fn compile(
        library: &Arc<Library>,
        bytes: Arc<[u8]>,
        threads: u8,
    ) -> Result<Self, LitertError> {
        let _compiling = library.compiling.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let f = &library.functions;
        // Weights are used in place and are aligned to 16 bytes within the file. The allocator
        // aligns to 16, and the counters in front of an `Arc`'s bytes are 16 long.
        assert_eq!(bytes.as_ptr().align_offset(16), 0, "model bytes must be 16-byte aligned");
        // From here on `Drop` releases whatever has been made when a later step fails.
        let mut session = Self {
            library: Arc::clone(library),
            _model_bytes: Arc::clone(&bytes),
            model: null_mut(),
            options: null_mut(),
            compiled: null_mut(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            fully_accelerated: false,
        };
        // SAFETY: `bytes` is kept alive by the session for longer than the model; handles are
        // written only by LiteRT; every status is checked before a handle is used.
        unsafe {
            check(
                "LiteRtCreateModelFromBuffer",
                (f.create_model)(
                    library.environment.as_ptr(),
                    bytes.as_ptr().cast(),
                    bytes.len(),
                    &mut session.model,
                ),
            )?;
            check("LiteRtCreateOptions", (f.create_options)(&mut session.options))?;
            check(
                "LiteRtSetOptionsHardwareAccelerators",
                (f.set_accelerators)(session.options, ACCELERATOR_CPU),
            )?;
        }
        session.set_threads(threads)?;
        // SAFETY: environment, model and options are live handles made above.
        unsafe {
            check(
                "LiteRtCreateCompiledModel",
                (f.create_compiled_model)(
                    library.environment.as_ptr(),
                    session.model,
                    session.options,
                    &mut session.compiled,
                ),
            )?;
            check(
                "LiteRtCompiledModelIsFullyAccelerated",
                (f.fully_accelerated)(session.compiled, &mut session.fully_accelerated),
            )?;
        }
        session.make_edges()?;
        Ok(session)
    }

    fn set_threads(&mut self, threads: u8) -> Result<(), LitertError> {
        unsafe extern "C" fn release(payload: *mut c_void) {
            if !payload.is_null() {
                // SAFETY: LiteRT hands back, once, the pointer that `into_raw` gave below.
                drop(unsafe { CString::from_raw(payload.cast()) });
            }
        }
        let f = &self.library.functions;
        let text = CString::new(format!("num_threads = {threads}\n")).expect("digits hold no NUL");
        let payload = text.into_raw();
        let mut opaque = null_mut();
        // SAFETY: the identifier is a C string, `payload` is owned by LiteRT from a successful call
        // on and released by `release`.
        let status = unsafe {
            (f.create_opaque_options)(c"xnnpack".as_ptr(), payload.cast(), Some(release), &mut opaque)
        };
        if status != 0 {
            // SAFETY: the call failed, so LiteRT did not take the text.
            unsafe { release(payload.cast()) };
        }
        check("LiteRtCreateOpaqueOptions", status)?;
        // SAFETY: both handles are live; the options own `opaque` afterwards.
        check("LiteRtAddOpaqueOptions", unsafe { (f.add_opaque_options)(self.options, opaque) })
    }

    fn make_edges(&mut self) -> Result<(), LitertError> {
        let library = Arc::clone(&self.library);
        let f = &library.functions;
        let (mut signatures, mut inputs, mut outputs) = (0, 0, 0);
        let mut signature = null_mut();
        // SAFETY: the model handle is live; results are plain numbers or handles owned by the model.
        unsafe {
            check("LiteRtGetNumModelSignatures", (f.signature_count)(self.model, &mut signatures))?;
            if signatures != 1 {
                return Err(LitertError::Signatures { found: signatures });
            }
            check("LiteRtGetModelSignature", (f.signature)(self.model, 0, &mut signature))?;
            check("LiteRtGetNumSignatureInputs", (f.input_count)(signature, &mut inputs))?;
            check("LiteRtGetNumSignatureOutputs", (f.output_count)(signature, &mut outputs))?;
        }
        for index in 0..inputs {
            let (mut tensor, mut requirements) = (null_mut(), null_mut());
            // SAFETY: `index` is below the count LiteRT gave; the handles are owned by it.
            unsafe {
                check(
                    "LiteRtGetSignatureInputTensorByIndex",
                    (f.input_tensor)(signature, index, &mut tensor),
                )?;
                check(
                    "LiteRtGetCompiledModelInputBufferRequirements",
                    (f.input_requirements)(self.compiled, 0, index, &mut requirements),
                )?;
            }
            self.inputs.push(make_edge(f, tensor, requirements)?);
        }
        for index in 0..outputs {
            let (mut tensor, mut requirements) = (null_mut(), null_mut());
            // SAFETY: as for the inputs.
            unsafe {
                check(
                    "LiteRtGetSignatureOutputTensorByIndex",
                    (f.output_tensor)(signature, index, &mut tensor),
                )?;
                check(
                    "LiteRtGetCompiledModelOutputBufferRequirements",
                    (f.output_requirements)(self.compiled, 0, index, &mut requirements),
                )?;
            }
            self.outputs.push(make_edge(f, tensor, requirements)?);
        }
        Ok(())
    }

    pub(super) fn fully_accelerated(&self) -> bool {
        self.fully_accelerated
    }

    pub(super) fn inputs(&self) -> impl ExactSizeIterator<Item = &TensorInfo> {
        self.inputs.iter().map(|edge| &edge.info)
    }

    pub(super) fn outputs(&self) -> impl ExactSizeIterator<Item = &TensorInfo> {
        self.outputs.iter().map(|edge| &edge.info)
    }

    /// The bytes that the next run reads.
    pub(super) fn input_mut(&mut self, index: usize) -> &mut [u8] {
        self.inputs[index].memory.as_bytes_mut()
    }

    /// The bytes that the last run wrote.
    pub(super) fn output(&self, index: usize) -> &[u8] {
        self.outputs[index].memory.as_bytes()
    }

    /// One inference.
    pub(super) fn run(&mut self) -> Result<(), LitertError> {
        // At most a handful of handles; a stack array would need a fixed bound.
        let mut inputs: Vec<Handle> = self.inputs.iter().map(|edge| edge.buffer).collect();
        let mut outputs: Vec<Handle> = self.outputs.iter().map(|edge| edge.buffer).collect();
        assert!(!self.compiled.is_null() && inputs.iter().chain(&outputs).all(|b| !b.is_null()));
        // SAFETY: all handles are live (asserted above), and the memory behind the buffers is owned
        // by `self`, which is borrowed exclusively for the call.
        let status = unsafe {
            (self.library.functions.run)(
                self.compiled,
                0,
                inputs.len(),
                inputs.as_mut_ptr(),
                outputs.len(),
                outputs.as_mut_ptr(),
            )
        };
        check("LiteRtRunCompiledModel", status)
    }
}

fn make_edge(f: &Functions, tensor: Handle, requirements: Handle) -> Result<Edge, LitertError> {
    let mut kind = RankedTensorType::default();
    let mut name = null();
    let mut quantisation_type = 0;
    let mut required = 0;
    // SAFETY: both handles come from a successful call; out-parameters are ours and typed as the
    // API declares them.
    unsafe {
        check("LiteRtGetRankedTensorType", (f.tensor_type)(tensor, &mut kind))?;
        check("LiteRtGetTensorName", (f.tensor_name)(tensor, &mut name))?;
        check("LiteRtGetQuantizationTypeId", (f.quantisation_type)(tensor, &mut quantisation_type))?;
        check("LiteRtGetTensorBufferRequirementsBufferSize", (f.required_size)(requirements, &mut required))?;
    }
    let name = if name.is_null() {
        String::new()
    } else {
        // SAFETY: LiteRT returns a NUL-terminated string owned by the model; it is copied here.
        unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned()
    };
    let quantisation = if quantisation_type == QUANTISATION_PER_TENSOR {
        let mut found = PerTensorQuantisation::default();
        // SAFETY: the tensor is live and per-tensor quantised.
        check("LiteRtGetPerTensorQuantization", unsafe { (f.per_tensor_quantisation)(tensor, &mut found) })?;
        Some(Quantisation { scale: found.scale, zero_point: i32::try_from(found.zero_point).unwrap_or(0) })
    } else {
        None
    };
    let rank = (kind.layout.rank_and_flags & 0x7f) as usize;
    let shape = kind.layout.dimensions.get(..rank).unwrap_or_default().to_vec();
    let info =
        TensorInfo { name, element_type: ElementType::from_code(kind.element_type), shape, quantisation };
    let Some(size) = info.byte_size().filter(|size| *size <= required) else {
        return Err(LitertError::TensorSize { tensor: info, required });
    };
    let mut memory = TensorMemory::zeroed(required);
    let mut buffer = null_mut();
    // SAFETY: `memory` holds `required` bytes at an address that does not move when the edge does
    // (it is on the heap), and outlives the buffer (see `Drop`); no deallocator is given.
    check("LiteRtCreateTensorBufferFromHostMemory", unsafe {
        (f.wrap_host_memory)(&kind, memory.as_bytes_mut().as_mut_ptr().cast(), required, None, &mut buffer)
    })?;
    memory.length = size;
    Ok(Edge { info, memory, buffer })
}

impl Drop for Session {
    fn drop(&mut self) {
        let f = &self.library.functions;
        // SAFETY: each handle was made by this session, is released once, and users go before what
        // they use: buffers, compiled model, options, model, and last (as fields) the bytes.
        unsafe {
            for edge in self.inputs.iter().chain(&self.outputs) {
                (f.destroy_tensor_buffer)(edge.buffer);
            }
            if !self.compiled.is_null() {
                (f.destroy_compiled_model)(self.compiled);
            }
            if !self.options.is_null() {
                (f.destroy_options)(self.options);
            }
            if !self.model.is_null() {
                (f.destroy_model)(self.model);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensor_memory_is_aligned_zeroed_and_as_long_as_asked() {
        let mut memory = TensorMemory::zeroed(1_000);
        assert_eq!(memory.as_bytes().len(), 1_000);
        assert_eq!(memory.as_bytes().as_ptr().align_offset(ALIGNMENT), 0);
        assert!(memory.as_bytes().iter().all(|byte| *byte == 0));
        memory.as_bytes_mut()[999] = 7;
        assert_eq!(memory.as_bytes()[999], 7);
        assert!(memory.lines.len() * ALIGNMENT >= 1_000 + READ_AHEAD);
    }
}
