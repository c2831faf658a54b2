//! `lunatic::message`: compose, send, receive.

use super::socket::Kept;
use super::tcp::STREAMS;
use super::tls::TLS_STREAMS;
use super::udp::UDP_SOCKETS;
use crate::guest::Slot;
use crate::guest::call::View;
use crate::guest::call::kinds::{
    Buffer, Bytes, Length, Millis, ModuleId, OutHeader, StreamId, TlsStreamId, UdpSocketId, Words,
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

pub(super) fn write_data(call: &mut Call<'_>, data: Bytes, length: Length) -> Result<u32, Failure> {
    let (mut memory, guest) = call.parts()?;
    let bytes = memory.bytes(data.0, length.0)?;
    let most = guest.environment().limits().get(Limit::MessageBytes);
    let (message, _) = guest.message()?;
    if (message.data.len() + bytes.len()) as u64 > most {
        return Err(Failure::trap(format!("a message has at most {most} bytes")));
    }
    message.data.extend_from_slice(bytes);
    Ok(length.0)
}

pub(super) fn read_data(
    call: &mut Call<'_>,
    buffer: Buffer,
    length: Length,
) -> Result<u32, Failure> {
    let (mut memory, guest) = call.parts()?;
    let bytes = memory.bytes(buffer.0, length.0)?;
    guest
        .slot()
        .as_mut()
        .ok_or_else(nothing_at_hand)?
        .read(bytes)
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

/// Delivers a message, or gives it back and says why not.
fn deliver(guest: &Guest, to: Pid, message: Message) -> Result<(), (Message, SendError)> {
    match guest.machine().process(to) {
        Some(receiver) => receiver.deliver(message),
        None => Ok(()),
    }
}

/// Delivers a message to who had no room for it: waits for one slice and tries again.
async fn deliver_again(call: &mut Call<'_>, to: Pid, message: Message) -> Result<(), SendError> {
    scheduler::spent().await;
    deliver(call.guest(), to, message).map_err(|(_, error)| error)
}

/// Sends as `send_bytes` does, or says at once that there is no room.
pub(super) fn offer_bytes(
    call: &mut Call<'_>,
    process: Pid,
    tag: i64,
    data: Bytes,
    length: Length,
    sockets: Words,
    count: Length,
) -> Result<i32, Failure> {
    let message = compose(call, tag, data, length, sockets, count)?;
    deliver(call.guest(), process, message).map_err(|(_, error)| error.errno())?;
    Ok(0)
}

/// What is answered without waiting; `None` where it cannot be.
pub(super) mod at_once {
    use super::*;

    pub(in crate::host) fn send(call: &mut Call<'_>, process: Pid) -> Result<Option<i32>, Failure> {
        let message = take_message(call)?;
        match deliver(call.guest(), process, message) {
            Ok(()) => Ok(Some(0)),
            Err((message, SendError::MailboxFull(..))) => {
                call.guest().fill_slot(Mail::Data(message));
                Ok(None)
            }
            Err((_, error)) => Err(error.errno().into()),
        }
    }

    pub(in crate::host) fn send_bytes(
        call: &mut Call<'_>,
        process: Pid,
        tag: i64,
        data: Bytes,
        length: Length,
        sockets: Words,
        count: Length,
    ) -> Result<Option<i32>, Failure> {
        let message = compose(call, tag, data, length, sockets, count)?;
        match deliver(call.guest(), process, message) {
            Ok(()) => Ok(Some(0)),
            Err((_, SendError::MailboxFull(..))) => Ok(None),
            Err((_, error)) => Err(error.errno().into()),
        }
    }

    pub(in crate::host) fn receive(
        call: &mut Call<'_>,
        tags: Words,
        count: Length,
        timeout: Millis,
    ) -> Result<Option<i32>, Failure> {
        let (mut memory, guest) = call.parts()?;
        let wanted = wanted(&mut memory, tags, count)?;
        Ok(look(guest, &wanted, timeout).map(|slot| slot.mail.kind() as i32))
    }

    pub(in crate::host) fn receive_bytes(
        call: &mut Call<'_>,
        tags: Words,
        count: Length,
        timeout: Millis,
        buffer: Buffer,
        length: Length,
        header: OutHeader,
    ) -> Result<Option<i32>, Failure> {
        let (mut memory, guest) = call.parts()?;
        let wanted = wanted(&mut memory, tags, count)?;
        // Before anything is taken: a bad pointer is told also where no message comes.
        memory.bytes(buffer.0, length.0)?;
        memory.bytes(header.0, MessageHeader::SIZE as u32)?;
        let Some(slot) = look(guest, &wanted, timeout) else {
            return Ok(None);
        };
        hand_over(&mut memory, slot, buffer, length, header).map(Some)
    }

    /// Takes what is wanted into the slot if it is there; otherwise the process remembers that it waits.
    fn look<'a>(guest: &'a mut Guest, wanted: &Wanted, timeout: Millis) -> Option<&'a mut Slot> {
        let mail = guest
            .cell()
            .receive(wanted, 0, timeout.duration().is_none())?;
        guest.meter().forget_refusal();
        Some(guest.fill_slot(mail))
    }
}

pub(super) async fn send(call: &mut Call<'_>, process: Pid) -> Result<i32, Failure> {
    let message = take_message(call)?;
    deliver_again(call, process, message)
        .await
        .map_err(|error| error.errno())?;
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
        Err((message, SendError::MailboxFull(..))) => deliver_again(call, process, message).await,
        done => done.map_err(|(_, error)| error),
    };
    // Whoever waits for an answer must not be told 0 for a request that was not sent; there is no code for it.
    sent.map_err(Failure::trap)?;
    Ok(match wait(call, arrival, timeout).await {
        Ok(()) => 0,
        Err(code) => code,
    })
}

pub(super) async fn receive(
    call: &mut Call<'_>,
    _: Words,
    _: Length,
    timeout: Millis,
) -> Result<i32, Failure> {
    let arrival = Arrival::go_on(call.guest().process().clone(), timeout);
    Ok(match wait(call, arrival, timeout).await {
        Ok(()) => at_hand(call)?.kind() as i32,
        Err(code) => code,
    })
}

pub(super) async fn send_bytes(
    call: &mut Call<'_>,
    process: Pid,
    tag: i64,
    data: Bytes,
    length: Length,
    sockets: Words,
    count: Length,
) -> Result<i32, Failure> {
    let message = compose(call, tag, data, length, sockets, count)?;
    deliver_again(call, process, message)
        .await
        .map_err(|error| error.errno())?;
    Ok(0)
}

/// Makes a message from bytes and from copies of sockets, of which each is named by a word.
pub(super) fn compose(
    call: &mut Call<'_>,
    tag: i64,
    data: Bytes,
    length: Length,
    sockets: Words,
    count: Length,
) -> Result<Message, Failure> {
    let (mut memory, guest) = call.parts()?;
    let words = memory.words(sockets, count, MAX_ATTACHMENTS)?;
    let mut attachments = Vec::with_capacity(words.len());
    for word in words {
        attachments.push(Some(copy_of_socket(guest, word)?.into()));
    }
    let bytes = memory.bytes(data.0, length.0)?;
    if u64::from(length.0) > guest.environment().limits().get(Limit::MessageBytes) {
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

pub(super) async fn receive_bytes(
    call: &mut Call<'_>,
    _: Words,
    _: Length,
    timeout: Millis,
    buffer: Buffer,
    length: Length,
    header: OutHeader,
) -> Result<i32, Failure> {
    let arrival = Arrival::go_on(call.guest().process().clone(), timeout);
    if let Err(code) = wait(call, arrival, timeout).await {
        return Ok(code);
    }
    let (mut memory, guest) = call.parts()?;
    let slot = guest
        .slot()
        .as_mut()
        .expect("what was waited for is in the slot");
    hand_over(&mut memory, slot, buffer, length, header)
}

/// Writes out what is in the slot: the header, and as much of the data as fits.
fn hand_over(
    memory: &mut View<'_>,
    slot: &mut Slot,
    buffer: Buffer,
    length: Length,
    header: OutHeader,
) -> Result<i32, Failure> {
    let kind = slot.mail.kind();
    let mut described = MessageHeader {
        kind: kind as u32,
        ..MessageHeader::default()
    };
    match &slot.mail {
        Mail::Data(message) => {
            described.length = message.data.len() as u32;
            described.resources = message.attachments.len() as u32;
            described.tag = message.tag;
        }
        Mail::LinkDied { tag, pid, exit } | Mail::ProcessDied { tag, pid, exit } => {
            described.length = exit.to_string().len() as u32;
            described.exit = exit.kind() as u32;
            described.pid = pid.number();
            described.detail = exit.detail();
            described.tag = *tag;
        }
    }
    memory
        .bytes(header.0, MessageHeader::SIZE as u32)?
        .copy_from_slice(&described.to_bytes());
    slot.read(memory.bytes(buffer.0, length.0)?)?;
    Ok(kind as i32)
}

pub(super) fn wanted(memory: &mut View<'_>, tags: Words, count: Length) -> Result<Wanted, Failure> {
    Ok(memory
        .words(tags, count, MAX_TAGS)?
        .map(u64::cast_signed)
        .collect())
}

/// Waits until what is wanted is in the slot. `Err` is the code of a receive that got nothing.
pub(super) async fn wait(
    call: &mut Call<'_>,
    arrival: Arrival,
    timeout: Millis,
) -> Result<(), i32> {
    let found = match timeout.duration() {
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

/// Ready when what is wanted has arrived; the process is woken by whoever sends it. However the wait ends, also where it is
/// dropped, the process does not go on waiting.
pub(super) struct Arrival {
    process: Process,
    forever: bool,
    /// Set until the first poll where the mailbox was looked into when the wait began: what came since then wakes the process
    /// once more, and need not be looked for before.
    was_looked: bool,
    /// Set when the mail was taken: the process is not remembered as waiting then.
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
        let forever = timeout.duration().is_none();
        process.cell().expect(wanted, since, forever);
        Arrival {
            process,
            forever,
            was_looked: false,
            is_over: false,
        }
    }

    /// Goes on with the wait that began with a look into the mailbox, on this turn.
    fn go_on(process: Process, timeout: Millis) -> Arrival {
        Arrival {
            process,
            forever: timeout.duration().is_none(),
            was_looked: true,
            is_over: false,
        }
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
        if !self.forever || !self.process.domain().program().is_alone() {
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
pub(super) fn timer(time: std::time::Duration) -> Timer {
    std::time::Instant::now()
        .checked_add(time)
        .map_or_else(Timer::never, Timer::at)
}
