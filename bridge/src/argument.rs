//! What crosses in a call, on its way in and out.

use crate::CallError;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The argument of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Argument {
    /// A value, as JSON.
    Json(Vec<u8>),
    /// Bytes, as they are.
    Bytes(Vec<u8>),
    /// An image: its bytes, as they are, and its size in pixels. What the bytes mean is between caller and function.
    Image {
        /// The bytes, of pixels or of a file.
        bytes: Vec<u8>,
        /// Pixels in a row.
        width: u32,
        /// Rows.
        height: u32,
    },
}

impl Argument {
    /// Makes the argument of a value. Values inside of values take the caller's stack, which serde, unlike where it reads,
    /// does not bound.
    ///
    /// # Errors
    ///
    /// [`CallError::Argument`] where it cannot be JSON, such as a map whose keys are no texts.
    pub fn json<T: Serialize + ?Sized>(value: &T) -> Result<Argument, CallError> {
        serde_json::to_vec(value)
            .map(Argument::Json)
            .map_err(CallError::Argument)
    }

    /// Returns the bytes that are written into the guest's memory.
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Argument::Json(bytes) | Argument::Bytes(bytes) | Argument::Image { bytes, .. } => bytes,
        }
    }

    /// Returns how many bytes of memory the guest may look at. Of an image that is decided by its size, whatever was given.
    pub(crate) fn room(&self) -> u64 {
        let bytes = self.bytes().len() as u64;
        match self {
            // Four bytes are the most that a pixel has in the formats of the field.
            Argument::Image { width, height, .. } => {
                let pixels = u64::from(*width) * u64::from(*height);
                bytes.max(pixels.saturating_mul(4))
            }
            _ => bytes,
        }
    }
}

/// The result of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A value, as JSON that was not looked at yet.
    Json(Vec<u8>),
    /// Bytes, as they are.
    Bytes(Vec<u8>),
}

impl Answer {
    /// Reads the value.
    ///
    /// # Errors
    ///
    /// [`CallError::Answer`] where it is no JSON, no value of this type, nested deeper than 128, or bytes.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, CallError> {
        match self {
            Answer::Json(bytes) => {
                serde_json::from_slice(bytes).map_err(|error| CallError::Answer(error.to_string()))
            }
            Answer::Bytes(bytes) => Err(CallError::Answer(format!(
                "it is {} bytes and no JSON",
                bytes.len()
            ))),
        }
    }

    /// Returns the bytes: of JSON the text.
    pub fn into_bytes(self) -> Vec<u8> {
        match self {
            Answer::Json(bytes) | Answer::Bytes(bytes) => bytes,
        }
    }
}
