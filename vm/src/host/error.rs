//! `lunatic::error`: error messages and kinds.

use crate::guest::HostError;
use crate::guest::kinds::{ErrorId, OutText};
use crate::guest::{Call, Failure};

fn error<'a>(call: &'a mut Call<'_>, id: ErrorId) -> Result<&'a HostError, Failure> {
    call.guest().handles().errors.get(id.0)
}

pub(super) fn string_size(call: &mut Call<'_>, id: ErrorId) -> Result<u32, Failure> {
    let length = error(call, id)?.text.len();
    u32::try_from(length)
        .map_err(|_| Failure::trap("the error message does not fit into a 32-bit memory"))
}

pub(super) fn to_string(call: &mut Call<'_>, id: ErrorId, text: OutText) -> Result<(), Failure> {
    let sentence = error(call, id)?.text.clone();
    call.write(text.0, sentence.as_bytes())
}

pub(super) fn drop(call: &mut Call<'_>, id: ErrorId) -> Result<(), Failure> {
    let removed = call.guest().handles().errors.remove(id.0);
    removed.map(std::mem::drop)
}

pub(super) fn kind(call: &mut Call<'_>, id: ErrorId) -> Result<u32, Failure> {
    Ok(error(call, id)?.errno as u32)
}
