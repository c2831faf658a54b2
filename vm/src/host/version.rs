//! `lunatic::version`: the interface version.

use crate::guest::{Call, Failure};

pub(super) fn major(_: &mut Call<'_>) -> Result<u32, Failure> {
    Ok(0)
}

pub(super) fn minor(_: &mut Call<'_>) -> Result<u32, Failure> {
    Ok(13)
}

pub(super) fn patch(_: &mut Call<'_>) -> Result<u32, Failure> {
    Ok(2)
}
