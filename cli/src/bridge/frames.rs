//! Reads requests and their arguments from a caller's frames.

use lunatic_bridge::Argument;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use std::io::{self, ErrorKind, Read};

/// The maximum size of an accepted frame, in bytes.
const MAX_FRAME: usize = 64 << 20;

/// A request.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Request {
    /// The id to return in the reply.
    #[serde(default)]
    pub(crate) id: Value,
    pub(crate) function: String,
    /// The argument, if it is a value.
    data: Option<Box<RawValue>>,
    /// If set, the argument is an image of this size, in the next frame.
    image: Option<Size>,
    /// If true, the argument is the bytes in the next frame.
    #[serde(default)]
    bytes: bool,
    /// The time limit in milliseconds.
    pub(crate) timeout: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Size {
    width: u32,
    height: u32,
}

/// Why a request could not be read.
pub(crate) enum Broken {
    /// The request is invalid, but the next request may be valid.
    Request(Value, String),
    /// The input is broken: there is no way to tell where the next request starts.
    Frame(io::Error),
}

/// Reads a request and its argument. Returns `None` at the end of the input.
pub(crate) fn next(input: &mut impl Read) -> Result<Option<(Request, Argument)>, Broken> {
    let Some(frame) = read_frame(input).map_err(Broken::Frame)? else {
        return Ok(None);
    };
    let mut attached = || match read_frame(input) {
        Ok(Some(bytes)) => Ok(bytes),
        Ok(None) => Err(Broken::Frame(ErrorKind::UnexpectedEof.into())),
        Err(error) => Err(Broken::Frame(error)),
    };
    let request = match serde_json::from_slice::<Request>(&frame) {
        Ok(request) => request,
        Err(error) => {
            // Recover the id, if possible, and skip the request's attached frame.
            let request: Value = serde_json::from_slice(&frame).unwrap_or_default();
            if request["image"].is_object() || request["bytes"] == Value::Bool(true) {
                attached()?;
            }
            return Err(Broken::Request(
                request["id"].clone(),
                format!("the request is invalid: {error}"),
            ));
        }
    };
    let argument = match (&request.data, &request.image, request.bytes) {
        (Some(data), None, false) => Argument::Json(data.get().as_bytes().to_vec()),
        (None, None, false) => Argument::Json(b"null".to_vec()),
        (None, Some(Size { width, height }), false) => Argument::Image {
            bytes: attached()?,
            width: *width,
            height: *height,
        },
        (None, None, true) => Argument::Bytes(attached()?),
        _ => {
            if request.image.is_some() || request.bytes {
                attached()?;
            }
            let message =
                "the request has more than one of `data`, `image` and `bytes`".to_string();
            return Err(Broken::Request(request.id, message));
        }
    };
    Ok(Some((request, argument)))
}

fn read_frame(input: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    match input.read(&mut length[..1])? {
        0 => return Ok(None),
        _ => input.read_exact(&mut length[1..])?,
    }
    let length = u32::from_be_bytes(length) as usize;
    if length > MAX_FRAME {
        let text = format!("the frame is {length} bytes long, but the maximum is {MAX_FRAME}");
        return Err(io::Error::new(ErrorKind::InvalidData, text));
    }
    // Memory is allocated as bytes arrive, not up front for the declared length.
    let mut frame = Vec::new();
    input.take(length as u64).read_to_end(&mut frame)?;
    if frame.len() < length {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    Ok(Some(frame))
}
