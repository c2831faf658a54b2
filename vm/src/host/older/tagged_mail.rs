//! Receiving by a single tag, as guests of 0.6 do.

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
        // No other process is left. Guests of 0.6 do not have timeouts, so they get a message
        // without data.
        return Ok(MessageKind::Data as i32);
    }
    Ok(result)
}
