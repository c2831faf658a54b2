//! `lunatic::message`: compose, send, receive.

use super::socket::Kept;
use super::tcp::STREAMS;
use super::tls::TLS_STREAMS;
use super::udp::UDP_SOCKETS;
use crate::guest::Slot;
use crate::guest::call::{Answer, Out, Range, Rest, View};
use crate::guest::kinds::{
    Buffer, Bytes, Millis, ModuleId, OutHeader, StreamId, TlsStreamId, UdpSocketId, Words,
};
use crate::guest::{Call, Failure, Guest};
use crate::guest::{Held, MAX_ATTACHMENTS};
use crate::machine::{Process, SendError};
use crate::scheduler;
use crate::travel::{Attachment, Resource};
use async_io::Timer;
use futures_lite::FutureExt;
use lunatic_abi::{Errno, Limit, MessageHeader, NOBODY_LEFT, ResourceKind, TIMED_OUT};
use lunatic_process::{Mail, Message, Pid, Wanted};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

/// A receive that names more tags is a mistake or an attack: each is looked for.
const MAX_TAGS: usize = 1024;

/// What is said of a message that is larger than its author's environment allows.
pub(super) const TOO_LARGE: &str = "the message is larger than the environment lets messages be";

pub(super) fn create_data(call: &mut Call<'_>, tag: i64, _capacity: u64) -> Result<(), Failure> {
    // The capacity is the guest's wish; memory is taken as data comes.
    let guest = call.guest();
    let data = guest.take_spare();
    guest.fill_slot(Mail::Data(Message {
        tag,
        data,
        ..Message::default()
    }));
    Ok(())
}

pub(super) fn write_data(call: &mut Call<'_>, data: Bytes) -> Result<u32, Failure> {
    let (mut memory, guest) = call.parts()?;
    let range = memory.range(data)?;
    let bytes = memory.bytes(range);
    let most = guest.environment().limits().get(Limit::MessageBytes);
    let (message, _) = guest.message()?;
    if (message.data.len() + bytes.len()) as u64 > most {
        return Err(Failure::trap(format!("a message has at most {most} bytes")));
    }
    message.data.extend_from_slice(bytes);
    Ok(bytes.len() as u32)
}

pub(super) fn read_data(call: &mut Call<'_>, buffer: Buffer) -> Result<u32, Failure> {
    let (mut memory, guest) = call.parts()?;
    let range = memory.range(buffer)?;
    let slot = guest.slot().as_mut().ok_or_else(nothing_at_hand)?;
    slot.read(memory.bytes(range))
}

pub(super) fn seek_data(call: &mut Call<'_>, position: u64) -> Result<(), Failure> {
    let (_, head) = call.guest().message()?;
    *head = usize::try_from(position).unwrap_or(usize::MAX);
    Ok(())
}

pub(super) fn get_tag(call: &mut Call<'_>) -> Result<i64, Failure> {
    match at_hand(call)? {
        Mail::Data(message) => Ok(message.tag),
        Mail::LinkDied { tag, .. } | Mail::ProcessDied { tag, .. } => Ok(*tag),
    }
}

pub(super) fn get_process_id(call: &mut Call<'_>) -> Result<u64, Failure> {
    match at_hand(call)? {
        Mail::ProcessDied { pid, .. } => Ok(pid.number()),
        _ => Ok(0),
    }
}

pub(super) fn data_size(call: &mut Call<'_>) -> Result<u64, Failure> {
    let (message, _) = call.guest().message()?;
    Ok(message.data.len() as u64)
}

pub(super) fn at_hand<'a>(call: &'a mut Call<'_>) -> Result<&'a Mail, Failure> {
    Ok(&call
        .guest()
        .slot()
        .as_ref()
        .ok_or_else(nothing_at_hand)?
        .mail)
}

fn nothing_at_hand() -> Failure {
    Failure::trap("there is no message at hand: create or receive one first")
}

pub(super) fn push_module(call: &mut Call<'_>, module: ModuleId) -> Result<u64, Failure> {
    let module = super::process::module(call, module)?;
    let attachment = Attachment::uncounted(Resource::Module(module));
    call.guest().push_attachment(attachment)
}

pub(super) fn push_tcp_stream(call: &mut Call<'_>, stream: StreamId) -> Result<u64, Failure> {
    push_socket(call, &STREAMS, stream.0, Resource::TcpStream)
}

pub(super) fn push_tls_stream(call: &mut Call<'_>, stream: TlsStreamId) -> Result<u64, Failure> {
    push_socket(call, &TLS_STREAMS, stream.0, Resource::TlsStream)
}

pub(super) fn push_udp_socket(call: &mut Call<'_>, socket: UdpSocketId) -> Result<u64, Failure> {
    push_socket(call, &UDP_SOCKETS, socket.0, Resource::UdpSocket)
}

/// Moves a socket into the message at hand and returns its place there.
fn push_socket<T: Clone>(
    call: &mut Call<'_>,
    kept: &Kept<T>,
    id: u64,
    resource: fn(T) -> Resource,
) -> Result<u64, Failure> {
    call.guest().message()?;
    let held = kept.remove(call, id)?;
    call.guest().push_attachment(Attachment {
        resource: resource(held.socket),
        permit: Some(held.permit),
    })
}

pub(super) fn take_module(call: &mut Call<'_>, index: u64) -> Result<u64, Failure> {
    let modules = call.guest().handles().modules.len();
    call.guest().room_for(modules, "modules")?;
    let (message, _) = call.guest().message()?;
    let module = take(message, index, "module", |attachment| {
        match attachment.resource {
            Resource::Module(module) => Ok(module),
            _ => Err(attachment),
        }
    })?;
    Ok(call.guest().handles().modules.insert(module))
}

pub(super) fn take_tcp_stream(call: &mut Call<'_>, index: u64) -> Result<u64, Failure> {
    take_socket(call, &STREAMS, index, |resource| match resource {
        Resource::TcpStream(socket) => Some(socket),
        _ => None,
    })
}

pub(super) fn take_tls_stream(call: &mut Call<'_>, index: u64) -> Result<u64, Failure> {
    take_socket(call, &TLS_STREAMS, index, |resource| match resource {
        Resource::TlsStream(socket) => Some(socket),
        _ => None,
    })
}

pub(super) fn take_udp_socket(call: &mut Call<'_>, index: u64) -> Result<u64, Failure> {
    take_socket(call, &UDP_SOCKETS, index, |resource| match resource {
        Resource::UdpSocket(socket) => Some(socket),
        _ => None,
    })
}

/// Moves a socket out of the message at hand and returns its id. `open` finds out whether a resource is of this kind.
fn take_socket<T: Clone>(
    call: &mut Call<'_>,
    kept: &Kept<T>,
    index: u64,
    open: fn(&Resource) -> Option<&T>,
) -> Result<u64, Failure> {
    let (message, _) = call.guest().message()?;
    let held = take(message, index, kept.name, |attachment| {
        let Some(socket) = open(&attachment.resource).cloned() else {
            return Err(attachment);
        };
        let permit = attachment
            .permit
            .expect("a socket is counted once it is in a message");
        Ok(Held { socket, permit })
    })?;
    Ok(kept.insert(call, held))
}

pub(super) fn resource_kind(call: &mut Call<'_>, index: u64) -> Result<u32, Failure> {
    let (message, _) = call.guest().message()?;
    let attachment = usize::try_from(index)
        .ok()
        .and_then(|index| message.attachments.get(index)?.as_ref());
    let kind = attachment.map_or(ResourceKind::None, |attachment| {
        Attachment::of(attachment).resource.kind()
    });
    Ok(kind as u32)
}

/// Takes a resource of a kind, which `open` looks for, out of a message.
pub(super) fn take<T>(
    message: &mut Message,
    index: u64,
    kind: &str,
    open: impl FnOnce(Attachment) -> Result<T, Attachment>,
) -> Result<T, Failure> {
    let position = usize::try_from(index).unwrap_or(usize::MAX);
    let attachment = message
        .attachments
        .get_mut(position)
        .ok_or_else(|| Failure::trap(format!("the message has no resource {index}")))?;
    Attachment::take(attachment, open).ok_or_else(|| {
        Failure::trap(format!(
            "resource {index} of the message is no {kind} or was taken out already"
        ))
    })
}

/// Takes the message out of the slot to send it.
pub(super) fn take_message(call: &mut Call<'_>) -> Result<Message, Failure> {
    call.guest().message()?;
    match call.guest().slot().take() {
        Some(Slot {
            mail: Mail::Data(message),
            ..
        }) => Ok(message),
        _ => unreachable!("the slot was just seen to hold data"),
    }
}

/// Delivers a message, or returns it with the reason.
fn deliver(guest: &Guest, to: Pid, message: Message) -> Result<(), (Message, SendError)> {
    match guest.machine().process(to) {
        Some(receiver) => receiver.deliver(message),
        None => Ok(()),
    }
}

/// Delivers a message; the answer has to wait if the mailbox is full.
fn deliver_soon(guest: &Guest, to: Pid, message: Message) -> Result<Answer<Undelivered>, Failure> {
    match deliver(guest, to, message) {
        Ok(()) => Ok(Answer::Now(0)),
        Err((message, SendError::MailboxFull(..))) => {
            Ok(Answer::Later(Undelivered { to, message }))
        }
        Err((_, error)) => Err(error.errno().into()),
    }
}

/// A message for a process whose mailbox was full.
pub(super) struct Undelivered {
    to: Pid,
    message: Message,
}

impl Undelivered {
    /// Tries again, one slice later.
    async fn deliver(self, call: &mut Call<'_>) -> Result<(), SendError> {
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

pub(super) fn send(call: &mut Call<'_>, process: Pid) -> Result<Answer<Undelivered>, Failure> {
    let message = take_message(call)?;
    deliver_soon(call.guest(), process, message)
}

pub(super) fn send_bytes(
    call: &mut Call<'_>,
    process: Pid,
    tag: i64,
    data: Bytes,
    sockets: Words,
) -> Result<Answer<Undelivered>, Failure> {
    let message = compose(call, tag, data, sockets)?;
    deliver_soon(call.guest(), process, message)
}

pub(super) fn offer_bytes(
    call: &mut Call<'_>,
    process: Pid,
    tag: i64,
    data: Bytes,
    sockets: Words,
) -> Result<i32, Failure> {
    let message = compose(call, tag, data, sockets)?;
    deliver(call.guest(), process, message).map_err(|(_, error)| error.errno())?;
    Ok(0)
}

pub(super) async fn send_receive_skip_search(
    call: &mut Call<'_>,
    process: Pid,
    tag: i64,
    timeout: Millis,
) -> Result<i32, Failure> {
    let message = take_message(call)?;
    let this = call.guest().process().clone();
    let since = this.cell().next_sequence();
    // Before the question is sent: its answer may be here sooner than this process waits, and has to find room.
    let arrival = Arrival::expect(this, &Wanted::Tag(tag), since, timeout);
    let sent = match deliver(call.guest(), process, message) {
        Err((message, SendError::MailboxFull(..))) => {
            let to = process;
            Undelivered { to, message }.deliver(call).await
        }
        done => done.map_err(|(_, error)| error),
    };
    // Whoever waits for an answer must not be told 0 for a request that was not sent; there is no code for it.
    sent.map_err(Failure::trap)?;
    Ok(match wait(call, arrival).await {
        Ok(()) => 0,
        Err(code) => code,
    })
}

/// A receive that found nothing yet.
pub(super) struct Receive(Arrival);

impl Rest for Receive {
    type Result = i32;

    async fn finish(self, call: &mut Call<'_>) -> Result<i32, Failure> {
        Ok(match wait(call, self.0).await {
            Ok(()) => at_hand(call)?.kind() as i32,
            Err(code) => code,
        })
    }
}

pub(super) fn receive(
    call: &mut Call<'_>,
    tags: Words,
    timeout: Millis,
) -> Result<Answer<Receive>, Failure> {
    let (mut memory, guest) = call.parts()?;
    let wanted = wanted(&mut memory, tags)?;
    Ok(match receive_or_wait(guest, &wanted, timeout) {
        Ok(slot) => Answer::Now(slot.mail.kind() as i32),
        Err(arrival) => Answer::Later(Receive(arrival)),
    })
}

/// Receives what is wanted into the slot, or begins to wait for it.
fn receive_or_wait<'a>(
    guest: &'a mut Guest,
    wanted: &Wanted,
    timeout: Millis,
) -> Result<&'a mut Slot, Arrival> {
    let mail = Arrival::take_or_expect(guest.process(), wanted, timeout)?;
    guest.meter().forget_refusal();
    Ok(guest.fill_slot(mail))
}

/// Makes a message from bytes and from copies of sockets, of which each is named by a word.
pub(super) fn compose(
    call: &mut Call<'_>,
    tag: i64,
    data: Bytes,
    sockets: Words,
) -> Result<Message, Failure> {
    let (mut memory, guest) = call.parts()?;
    let words = memory.words(sockets, MAX_ATTACHMENTS)?;
    let mut attachments = Vec::with_capacity(words.len());
    for word in words {
        attachments.push(Some(copy_of_socket(guest, word)?.into()));
    }
    let range = memory.range(data)?;
    let bytes = memory.bytes(range);
    if bytes.len() as u64 > guest.environment().limits().get(Limit::MessageBytes) {
        return Err(Failure::Errno(Errno::MessageTooLarge));
    }
    Ok(Message {
        tag,
        data: guest.data_of(bytes),
        attachments,
    })
}

/// Makes a copy of the socket that a word names.
fn copy_of_socket(guest: &mut Guest, word: u64) -> Result<Attachment, Failure> {
    let (kind, id) = ResourceKind::of_word(word);
    match kind {
        // A bare id is a stream's.
        Some(ResourceKind::None | ResourceKind::TcpStream) => {
            STREAMS.attach(guest, id, Resource::TcpStream)
        }
        Some(ResourceKind::TlsStream) => TLS_STREAMS.attach(guest, id, Resource::TlsStream),
        Some(ResourceKind::UdpSocket) => UDP_SOCKETS.attach(guest, id, Resource::UdpSocket),
        _ => Err(Failure::trap(format!(
            "there is no socket {word:#x}: its first byte is no kind of socket"
        ))),
    }
}

/// A receive that found nothing yet, and where it writes what comes.
pub(super) struct ReceiveBytes(Arrival, Target);

impl Rest for ReceiveBytes {
    type Result = i32;

    async fn finish(self, call: &mut Call<'_>) -> Result<i32, Failure> {
        let ReceiveBytes(arrival, target) = self;
        if let Err(code) = wait(call, arrival).await {
            return Ok(code);
        }
        let (mut memory, guest) = call.parts()?;
        let slot = guest.slot().as_mut().ok_or_else(nothing_at_hand)?;
        target.write(&mut memory, slot)
    }
}

pub(super) fn receive_bytes(
    call: &mut Call<'_>,
    tags: Words,
    timeout: Millis,
    buffer: Buffer,
    header: OutHeader,
) -> Result<Answer<ReceiveBytes>, Failure> {
    let (mut memory, guest) = call.parts()?;
    let wanted = wanted(&mut memory, tags)?;
    // Checked before anything is received: a bad pointer traps even if no message comes.
    let target = Target {
        buffer: memory.range(buffer)?,
        header: memory.out(header)?,
    };
    match receive_or_wait(guest, &wanted, timeout) {
        Ok(slot) => target.write(&mut memory, slot).map(Answer::Now),
        Err(arrival) => Ok(Answer::Later(ReceiveBytes(arrival, target))),
    }
}

/// Where a message is written.
struct Target {
    buffer: Range,
    header: Out<{ MessageHeader::SIZE }>,
}

impl Target {
    /// Writes the header of the message in the slot, and as much of the data as fits; returns its kind.
    fn write(&self, memory: &mut View<'_>, slot: &mut Slot) -> Result<i32, Failure> {
        let kind = slot.mail.kind();
        let mut header = MessageHeader {
            kind: kind as u32,
            ..MessageHeader::default()
        };
        match &slot.mail {
            Mail::Data(message) => {
                header.length = message.data.len() as u32;
                header.resources = message.attachments.len() as u32;
                header.tag = message.tag;
            }
            Mail::LinkDied { tag, pid, exit } | Mail::ProcessDied { tag, pid, exit } => {
                header.length = exit.to_string().len() as u32;
                header.exit = exit.kind() as u32;
                header.pid = pid.number();
                header.detail = exit.detail();
                header.tag = *tag;
            }
        }
        memory.put(self.header, header.to_bytes());
        slot.read(memory.bytes(self.buffer))?;
        Ok(kind as i32)
    }
}

pub(super) fn wanted(memory: &mut View<'_>, tags: Words) -> Result<Wanted, Failure> {
    Ok(memory
        .words(tags, MAX_TAGS)?
        .map(u64::cast_signed)
        .collect())
}

/// Waits until what is wanted is in the slot. `Err` is the code of a receive that got nothing.
pub(super) async fn wait(call: &mut Call<'_>, arrival: Arrival) -> Result<(), i32> {
    let found = match arrival.timeout {
        None => arrival.await,
        Some(time) => {
            let time_is_over = async {
                timer(time).await;
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

/// Ready when what is wanted has arrived; the sender wakes the process. However the wait ends, even if it is dropped, the
/// process stops waiting.
pub(super) struct Arrival {
    process: Process,
    /// How long the process waits; `None` is forever.
    timeout: Option<Duration>,
    /// Set until the first poll if the wait began with a look into the mailbox: whatever has come since then wakes the
    /// process once more, so there is no need to look again before.
    was_looked: bool,
    /// Set once the mail is taken: the process is not marked as waiting then.
    is_over: bool,
}

impl Arrival {
    /// Begins to wait for what has at least this sequence number.
    pub(super) fn expect(
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

    /// Takes what is wanted, or begins to wait for it.
    fn take_or_expect(
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
        // Whoever leaves last wakes the process, but it may have left before this one waited, and this one may have spawned
        // others since: only this look decides. What the others sent before they left is here by now.
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

/// Returns a timer; a time beyond what the clock can tell never comes.
pub(super) fn timer(time: Duration) -> Timer {
    std::time::Instant::now()
        .checked_add(time)
        .map_or_else(Timer::never, Timer::at)
}
