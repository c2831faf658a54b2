//! Receives by a single tag, for guests built with 0.6.

use super::mail::{receive_wanted, tagged};
use crate::guest::kinds::ShortMillis;
use crate::guest::{Call, Failure};
use lunatic_abi::{MessageKind, TIMED_OUT};

pub(super) async fn receive(
    call: &mut Call<'_>,
    tag: i64,
    timeout: ShortMillis,
) -> Result<i32, Failure> {
    let result = receive_wanted(call, tagged(tag), timeout).await?;
    if result == TIMED_OUT && timeout.0 == 0 {
        // There are no other processes left. Version 0.6 does not have timeouts, so the guest gets
        // an empty message.
        return Ok(MessageKind::Data as i32);
    }
    Ok(result)
}
