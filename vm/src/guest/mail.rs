//! Code shared by functions that send or receive: the current message, and waiting for mail.

use super::call::{Answer, Call, Range, Rest, View};
use super::failure::Failure;
use super::kinds::{Bytes, Millis, StreamId, TlsStreamId, UdpSocketId, Words};
use super::socket::copy_to_send;
use super::state::{Guest, MAX_ATTACHMENTS, MailCursor, SMALL_MESSAGE};
use crate::machine::{Process, SendError};
use crate::scheduler;
use crate::timer;
use crate::travel::Attachment;
use futures_lite::FutureExt;
use lunatic_abi::{Errno, Limit, NOBODY_LEFT, ResourceKind, TIMED_OUT};
use lunatic_process::{LimitReached, Mail, Message, Pid, Wanted};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

/// The maximum number of tags in a receive. A receive searches for each tag; a longer list is a
/// mistake or an attack.
const MAX_TAGS: usize = 1024;

/// The error for a message that is larger than its sender's environment allows.
pub(crate) const TOO_LARGE: &str = "the message is larger than the environment allows";

pub(crate) fn at_hand<'a>(call: &'a mut Call<'_>) -> Result<&'a Mail, Failure> {
    Ok(&call
        .guest()
        .slot()
        .as_ref()
        .ok_or_else(nothing_at_hand)?
        .mail)
}

pub(crate) fn nothing_at_hand() -> Failure {
    Failure::trap("there is no current message: create or receive one first")
}

/// Takes the outgoing message out of the slot.
pub(crate) fn take_message(call: &mut Call<'_>) -> Result<Message, Failure> {
    call.guest().message()?;
    match call.guest().slot().take() {
        Some(MailCursor {
            mail: Mail::Data(message),
            ..
        }) => {
            let _ = call.guest().charge_slot(0);
            Ok(message)
        }
        _ => unreachable!("`message` found data in the slot"),
    }
}

/// Delivers a message, or returns it with the reason for the failure.
pub(crate) fn deliver(
    guest: &Guest,
    to: Pid,
    message: Message,
) -> Result<(), (Message, SendError)> {
    match guest.machine().process(to) {
        Some(receiver) => receiver.deliver(message),
        None => Ok(()),
    }
}

/// Delivers a message. If the mailbox is full, the answer waits for room.
pub(crate) fn deliver_soon(
    guest: &Guest,
    to: Pid,
    message: Message,
) -> Result<Answer<Undelivered>, Failure> {
    match deliver(guest, to, message) {
        Ok(()) => Ok(Answer::Now(0)),
        Err((message, SendError::MailboxFull(..))) => {
            Ok(Answer::Later(Undelivered { to, message }))
        }
        Err((_, error)) => Err(error.errno().into()),
    }
}

/// A message for a process whose mailbox was full.
pub(crate) struct Undelivered {
    to: Pid,
    message: Message,
}

impl Undelivered {
    /// Retries after one slice. In the meantime, a large message counts toward the sender's limits.
    async fn deliver(self, call: &mut Call<'_>) -> Result<(), SendError> {
        let size = match self.message.size() {
            0..=SMALL_MESSAGE => 0,
            size => size as u64,
        };
        let quota = call.guest().domain().quota();
        let _held = quota
            .permit(Limit::TotalHostMemory, size)
            .map_err(|reached| SendError::MailboxFull(self.to, reached))?;
        scheduler::spent().await;
        deliver(call.guest(), self.to, self.message).map_err(|(_, error)| error)
    }
}

impl Rest for Undelivered {
    type Result = i32;

    async fn finish(self, call: &mut Call<'_>) -> Result<i32, Failure> {
        self.deliver(call).await.map_err(|error| error.errno())?;
        Ok(0)
    }
}

/// Sends the current message and waits for the reply.
pub(crate) async fn request(
    call: &mut Call<'_>,
    process: Pid,
    wanted: &Wanted,
    timeout: Millis,
) -> Result<i32, Failure> {
    let message = take_message(call)?;
    let this = call.guest().process().clone();
    let since = this.cell().next_sequence();
    // Before it sends the message, the process registers what it will wait for, because the reply
    // may arrive before the wait begins and must fit even into a full mailbox.
    let arrival = Arrival::expect(this, wanted, since, timeout);
    let sent = match deliver(call.guest(), process, message) {
        Err((message, SendError::MailboxFull(..))) => {
            let to = process;
            Undelivered { to, message }.deliver(call).await
        }
        done => done.map_err(|(_, error)| error),
    };
    // There is no error code for a request that was not sent, and the sender must not get 0.
    sent.map_err(Failure::trap)?;
    Ok(match wait(call, arrival).await {
        Ok(()) => 0,
        Err(code) => code,
    })
}

/// A message whose data is still in the guest's memory.
pub(crate) struct Draft {
    tag: i64,
    data: Range,
    attachments: Vec<Option<lunatic_process::Attachment>>,
}

impl Draft {
    /// Copies the data, unless that takes so long that other processes must be allowed to run
    /// partway through.
    pub(crate) fn copy_small(self, call: &mut Call<'_>) -> Result<Message, Draft> {
        match call.parts() {
            Ok((mut memory, guest)) if !self.data.is_large() => Ok(Message {
                tag: self.tag,
                data: guest.data_of(memory.bytes(self.data)),
                attachments: self.attachments,
            }),
            _ => Err(self),
        }
    }

    /// Copies the data, in portions if it is large. In the meantime, a large message counts toward
    /// the sender's limits.
    pub(crate) async fn copy(self, call: &mut Call<'_>) -> Result<Message, LimitReached> {
        let draft = match self.copy_small(call) {
            Ok(message) => return Ok(message),
            Err(draft) => draft,
        };
        let quota = call.guest().domain().quota().clone();
        let _held = quota.permit(Limit::TotalHostMemory, draft.data.len() as u64)?;
        Ok(Message {
            tag: draft.tag,
            data: call.copied(draft.data).await,
            attachments: draft.attachments,
        })
    }
}

/// Checks the parts of a message: bytes, and copies of sockets. Each socket is identified by a
/// 64-bit word.
pub(crate) fn draft(
    call: &mut Call<'_>,
    tag: i64,
    data: Bytes,
    sockets: Words,
) -> Result<Draft, Failure> {
    let (mut memory, guest) = call.parts()?;
    let words = memory.words(sockets, MAX_ATTACHMENTS)?;
    let mut attachments = Vec::with_capacity(words.len());
    for word in words {
        attachments.push(Some(copy_of_socket(guest, word)?.into()));
    }
    let data = memory.range(data)?;
    if data.len() as u64 > guest.environment().limits().get(Limit::MessageBytes) {
        return Err(Failure::Errno(Errno::MessageTooLarge));
    }
    Ok(Draft {
        tag,
        data,
        attachments,
    })
}

/// Creates a copy of the socket that a word identifies.
fn copy_of_socket(guest: &mut Guest, word: u64) -> Result<Attachment, Failure> {
    let (kind, id) = ResourceKind::of_word(word);
    match kind {
        // An id without a kind refers to a TCP stream.
        Some(ResourceKind::None | ResourceKind::TcpStream) => copy_to_send::<StreamId>(guest, id),
        Some(ResourceKind::TlsStream) => copy_to_send::<TlsStreamId>(guest, id),
        Some(ResourceKind::UdpSocket) => copy_to_send::<UdpSocketId>(guest, id),
        _ => Err(Failure::trap(format!(
            "there is no socket {word:#x}: its first byte does not name a kind of socket"
        ))),
    }
}

pub(crate) fn wanted(memory: &mut View<'_>, tags: Words) -> Result<Wanted, Failure> {
    Ok(memory
        .words(tags, MAX_TAGS)?
        .map(u64::cast_signed)
        .collect())
}

/// Waits until matching mail is in the slot. `Err` contains the result code of a receive that got
/// nothing.
pub(crate) async fn wait(call: &mut Call<'_>, arrival: Arrival) -> Result<(), i32> {
    let found = match arrival.timeout {
        None => arrival.await,
        Some(time) => {
            let time_is_over = async {
                timer::after(time).await;
                Err(TIMED_OUT)
            };
            arrival.or(time_is_over).await
        }
    };
    let guest = call.guest();
    guest.meter().forget_refusal();
    guest.fill_slot(found?);
    Ok(())
}

/// A future that is ready when matching mail has arrived. The sender wakes the process. The process
/// stops waiting when the future completes or is dropped.
pub(crate) struct Arrival {
    process: Process,
    /// How long the process waits; `None` means forever.
    timeout: Option<Duration>,
    /// Set until the first poll if the mailbox was checked when the wait began. Mail that arrives
    /// after that check wakes the process again, so the first poll does not have to check the
    /// mailbox.
    was_looked: bool,
    /// Set once the mail is taken. The process is then no longer marked as waiting.
    is_over: bool,
}

impl Arrival {
    /// Begins to wait for matching mail with at least this sequence number.
    pub(crate) fn expect(
        process: Process,
        wanted: &Wanted,
        since: u64,
        timeout: Millis,
    ) -> Arrival {
        let timeout = timeout.duration();
        process.cell().expect(wanted, since, timeout.is_none());
        Arrival {
            process,
            timeout,
            was_looked: false,
            is_over: false,
        }
    }

    /// Takes matching mail, or begins to wait for it.
    pub(crate) fn take_or_expect(
        process: &Process,
        wanted: &Wanted,
        timeout: Millis,
    ) -> Result<Mail, Arrival> {
        let timeout = timeout.duration();
        let mail = process.cell().receive(wanted, 0, timeout.is_none());
        mail.ok_or_else(|| Arrival {
            process: process.clone(),
            timeout,
            was_looked: true,
            is_over: false,
        })
    }

    fn look(&mut self) -> Poll<Result<Mail, i32>> {
        let Some(mail) = self.process.cell().receive_awaited() else {
            return Poll::Pending;
        };
        self.is_over = true;
        Poll::Ready(Ok(mail))
    }
}

impl Future for Arrival {
    type Output = Result<Mail, i32>;

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<Mail, i32>> {
        if !std::mem::take(&mut self.was_looked)
            && let found @ Poll::Ready(_) = self.look()
        {
            return found;
        }
        if self.timeout.is_some() || !self.process.domain().program().is_alone() {
            return Poll::Pending;
        }
        // The last other process wakes this process when it ends. But that may have happened before
        // this process began to wait, and this process may have spawned others since, so only this
        // check is conclusive. Everything that the other processes sent before they ended has
        // arrived by now.
        match self.look() {
            Poll::Pending => Poll::Ready(Err(NOBODY_LEFT)),
            found => found,
        }
    }
}

impl Drop for Arrival {
    fn drop(&mut self) {
        if !self.is_over {
            self.process.cell().stop_waiting();
        }
    }
}
