//! Sends messages and requests to nodes, for guests built with 0.10 to 0.12. There is only one
//! node.

use super::request;
use crate::guest::kinds::Millis;
use crate::guest::mail::take_message;
use crate::guest::{Call, Failure};
use crate::host::distributed::NO_SUCH_NODE;
use crate::machine::THIS_NODE;
use lunatic_process::Pid;

pub(super) async fn send_receive_skip_search(
    call: &mut Call<'_>,
    node: u64,
    process: Pid,
    timeout: Millis,
) -> Result<i32, Failure> {
    if node != THIS_NODE {
        take_message(call)?;
        return Ok(NO_SUCH_NODE);
    }
    request::send_receive_skip_search(call, process, timeout).await
}

pub(super) async fn send(call: &mut Call<'_>, node: u64, process: Pid) -> Result<(), Failure> {
    if node != THIS_NODE {
        take_message(call)?;
        return Ok(());
    }
    request::send(call, process).await
}
