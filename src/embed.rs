//! The embedding network: one aligned face in, one unit-norm [`Embedding`] out.

use crate::align::AlignedFace;
use crate::embedding::{Embedding, EmbeddingError, EmbeddingSpaceId};
use crate::litert::{Interpreter, LitertError, Runtime};
use crate::models::{ModelError, ModelSet, PixelInput, Role};

/// Why no embedding came out.
#[derive(Debug, thiserror::Error)]
pub enum EmbedError {
    /// Inference failed.
    #[error(transparent)]
    Litert(#[from] LitertError),
    /// The network's answer is no vector.
    #[error(transparent)]
    Embedding(#[from] EmbeddingError),
}

/// The embedding network. Belongs to one thread.
pub struct Embedder {
    interpreter: Interpreter,
    space: EmbeddingSpaceId,
    input: PixelInput,
    output: usize,
}

impl Embedder {
    /// Compiles the embedder of `models`.
    pub fn new(models: &ModelSet, runtime: &Runtime, threads: u8) -> Result<Self, ModelError> {
        let spec = &models.manifest.embedder;
        Ok(Self {
            interpreter: models.interpreter(runtime, Role::Embedder, threads)?,
            space: spec.embedding_space.clone(),
            input: spec.pixel_input(),
            output: spec.output_index("embedding"),
        })
    }

    /// The space its embeddings belong to.
    pub fn space(&self) -> &EmbeddingSpaceId {
        &self.space
    }

    /// Embeds one face.
    pub fn embed(&mut self, face: &AlignedFace) -> Result<Embedding, EmbedError> {
        self.input.fill(face.pixels.pixels(), self.interpreter.input_mut(0));
        self.interpreter.run()?;
        let values = self.interpreter.output_f32(self.output).to_vec();
        Ok(Embedding::normalised(values, self.space.clone())?)
    }

    /// One inference on whatever the input holds, for benchmarks.
    pub fn invoke(&mut self) -> Result<(), LitertError> {
        self.interpreter.run()
    }
}
