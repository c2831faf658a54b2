//! Sends messages and requests by pid, for guests built with 0.10 to 0.12. Requests take no tag,
//! and in 0.10 and 0.11, sends return nothing.

use super::mail::{self, tagged};
use crate::guest::kinds::Millis;
use crate::guest::mail::{request, take_message};
use crate::guest::{Call, Failure};
use lunatic_process::Pid;

pub(super) async fn send_receive_skip_search(
    call: &mut Call<'_>,
    process: Pid,
    timeout: Millis,
) -> Result<i32, Failure> {
    let (message, _) = call.guest().message()?;
    let wanted = tagged(message.tag);
    request(call, process, &wanted, timeout).await
}

pub(super) async fn send(call: &mut Call<'_>, process: Pid) -> Result<(), Failure> {
    let message = take_message(call)?;
    mail::deliver(call, process, message).await
}
