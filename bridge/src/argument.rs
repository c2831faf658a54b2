//! The arguments and results of calls.

use crate::CallError;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A call's argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Argument {
    /// A value, as JSON.
    Json(Vec<u8>),
    /// Bytes, unchanged.
    Bytes(Vec<u8>),
    /// An image: its bytes, unchanged, and its size in pixels. It is up to the caller and the
    /// function to agree on what the bytes mean.
    Image {
        /// The pixel data, or the contents of an image file.
        bytes: Vec<u8>,
        /// The number of pixels in each row.
        width: u32,
        /// The number of rows.
        height: u32,
    },
}

impl Argument {
    /// Serializes a value. Nested values use the caller's stack, because serde limits the nesting
    /// depth only when it deserializes.
    ///
    /// # Errors
    ///
    /// [`CallError::Argument`] if JSON cannot express the value, for example because it is a map
    /// whose keys are not strings.
    pub fn json<T: Serialize + ?Sized>(value: &T) -> Result<Argument, CallError> {
        serde_json::to_vec(value)
            .map(Argument::Json)
            .map_err(CallError::Argument)
    }

    /// Creates an image from its bytes and its size in pixels.
    pub(crate) fn image(bytes: &[u8], width: u32, height: u32) -> Argument {
        Argument::Image {
            bytes: bytes.to_vec(),
            width,
            height,
        }
    }

    /// Returns the bytes to write into the guest's memory.
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Argument::Json(bytes) | Argument::Bytes(bytes) | Argument::Image { bytes, .. } => bytes,
        }
    }

    /// Returns how many bytes of memory the guest may access. For an image, this depends on its
    /// dimensions, regardless of how many bytes were given.
    pub(crate) fn room(&self) -> u64 {
        let bytes = self.bytes().len() as u64;
        match self {
            // Common formats have at most four bytes per pixel.
            Argument::Image { width, height, .. } => {
                let pixels = u64::from(*width) * u64::from(*height);
                bytes.max(pixels.saturating_mul(4))
            }
            _ => bytes,
        }
    }
}

/// A call's result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A value, as JSON that has not been parsed yet.
    Json(Vec<u8>),
    /// Bytes, unchanged.
    Bytes(Vec<u8>),
}

impl Answer {
    /// Parses the value.
    ///
    /// # Errors
    ///
    /// [`CallError::Answer`] if the answer is raw bytes, is not valid JSON, does not deserialize to
    /// `T`, or is nested more than 128 levels deep.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, CallError> {
        match self {
            Answer::Json(bytes) => {
                serde_json::from_slice(bytes).map_err(|error| CallError::Answer(error.to_string()))
            }
            Answer::Bytes(bytes) => Err(CallError::Answer(format!(
                "it is {} raw bytes, not JSON",
                bytes.len()
            ))),
        }
    }

    /// Returns the raw bytes, or the JSON text.
    pub fn into_bytes(self) -> Vec<u8> {
        match self {
            Answer::Json(bytes) | Answer::Bytes(bytes) => bytes,
        }
    }
}
