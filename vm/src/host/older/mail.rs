//! Sends messages to processes by handle, and receives messages. In this generation, `send` returns
//! nothing, and a timeout of 0 means no timeout.

use super::handles;
use crate::guest::kinds::{ProcessId, ShortMillis, Words};
use crate::guest::mail::{Arrival, at_hand, take_message, wait, wanted};
use crate::guest::{Call, Failure};
use crate::machine::SendError;
use crate::scheduler;
use crate::timer;
use lunatic_abi::TIMED_OUT;
use lunatic_process::{Mail, Message, Pid, Wanted};
use std::time::Duration;

/// How long a sender to a full mailbox waits between attempts. The first retry comes sooner, after
/// the receiver has had a chance to run.
const RETRY_DELAY: Duration = Duration::from_millis(1);

/// Delivers a message. The interface cannot report a full mailbox, so the sender waits until the
/// mailbox has space.
pub(super) async fn deliver(call: &mut Call<'_>, to: Pid, message: Message) -> Result<(), Failure> {
    let Some(receiver) = call.guest().machine().process(to) else {
        return Ok(());
    };
    let is_own = call.guest().process().pid() == to;
    let mut message = message;
    let mut tries = 0;
    loop {
        message = match receiver.deliver(message) {
            Ok(()) => return Ok(()),
            // A process does not wait for space in its own mailbox, because other processes cannot
            // free any.
            Err((message, SendError::MailboxFull(..))) if !is_own => message,
            Err((_, error)) => return Err(Failure::trap(error)),
        };
        match tries {
            0 => scheduler::spent().await,
            _ => drop(timer::after(RETRY_DELAY).await),
        }
        tries += 1;
    }
}

pub(super) async fn send(call: &mut Call<'_>, id: ProcessId) -> Result<(), Failure> {
    let to = handles::process(call, id)?;
    let message = take_message(call)?;
    deliver(call, to, message).await
}

pub(super) async fn send_receive_skip_search(
    call: &mut Call<'_>,
    id: ProcessId,
    timeout: ShortMillis,
) -> Result<i32, Failure> {
    let to = handles::process(call, id)?;
    let message = take_message(call)?;
    let this = call.guest().process().clone();
    let since = this.cell().next_sequence();
    // Before the message is sent, the process registers what it will wait for, because the reply
    // may arrive before the wait begins, and must be accepted even if the mailbox is full.
    let arrival = Arrival::expect(this, &tagged(message.tag), since, timeout.millis());
    deliver(call, to, message).await?;
    let found = wait(call, arrival).await;
    Ok(found.map_or_else(|_| timed_out(call), |()| 0))
}

pub(super) async fn receive(
    call: &mut Call<'_>,
    tags: Words,
    timeout: ShortMillis,
) -> Result<i32, Failure> {
    let wanted = wanted(&mut call.parts()?.0, tags)?;
    receive_wanted(call, wanted, timeout).await
}

pub(super) async fn receive_wanted(
    call: &mut Call<'_>,
    wanted: Wanted,
    timeout: ShortMillis,
) -> Result<i32, Failure> {
    let arrival = Arrival::expect(call.guest().process().clone(), &wanted, 0, timeout.millis());
    match wait(call, arrival).await {
        Ok(()) => Ok(at_hand(call)?.kind() as i32),
        Err(_) => Ok(timed_out(call)),
    }
}

/// Returns what a receive with a single tag accepts. Tag 0 accepts any mail.
pub(super) fn tagged(tag: i64) -> Wanted {
    if tag == 0 {
        Wanted::Any
    } else {
        Wanted::from_tags(&[tag])
    }
}

/// Completes a receive that timed out or that cannot succeed because there are no other processes
/// left to send anything.
///
/// Guests that make a request read the slot without checking the result. They find an empty message
/// there, which they can handle as an error.
fn timed_out(call: &mut Call<'_>) -> i32 {
    call.guest().fill_slot(Mail::Data(Message::default()));
    TIMED_OUT
}
