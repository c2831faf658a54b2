//! `lunatic::version`: the version of the older interface.

use crate::guest::{Call, Failure};

pub(super) fn major(_: &mut Call<'_>) -> Result<u32, Failure> {
    Ok(0)
}

pub(super) fn minor(_: &mut Call<'_>) -> Result<u32, Failure> {
    Ok(7)
}

pub(super) fn patch(_: &mut Call<'_>) -> Result<u32, Failure> {
    Ok(5)
}
