//! `lunatic::message`: composing, sending and receiving messages.

use crate::guest::call::{Answer, Out, Range, Rest, View};
use crate::guest::kinds::{
    Buffer, Bytes, Millis, ModuleId, OutHeader, StreamId, TlsStreamId, UdpSocketId, Words,
};
use crate::guest::mail::{
    Arrival, Draft, Undelivered, at_hand, deliver, deliver_soon, draft, nothing_at_hand, request,
    take_message, wait, wanted,
};
use crate::guest::socket::take_socket;
pub(super) use crate::guest::socket::{
    push_socket as push_tcp_stream, push_socket as push_tls_stream, push_socket as push_udp_socket,
};
use crate::guest::{Call, Failure, Guest, MailCursor};
use crate::scheduler;
use crate::travel::{Attachment, Resource};
use lunatic_abi::{Errno, Limit, MessageHeader, ResourceKind};
use lunatic_process::{Mail, Message, Pid, Wanted};

pub(super) fn create_data(call: &mut Call<'_>, tag: i64, _capacity: u64) -> Result<(), Failure> {
    // The capacity is only a hint. Memory is allocated as data is written.
    let guest = call.guest();
    let data = guest.take_spare();
    guest.fill_slot(Mail::Data(Message {
        tag,
        data,
        ..Message::default()
    }));
    Ok(())
}

pub(super) fn write_data(call: &mut Call<'_>, data: Bytes) -> Result<Answer<Write>, Failure> {
    let (mut memory, guest) = call.parts()?;
    let range = memory.range(data)?;
    let most = guest.environment().limits().get(Limit::MessageBytes);
    let length = guest.message()?.0.data.len() + range.len();
    if length as u64 > most {
        return Err(Failure::trap(format!(
            "a message can have at most {most} bytes"
        )));
    }
    guest.charge_slot(length).map_err(Failure::limit)?;
    if range.is_large() {
        return Ok(Answer::Later(Write(range)));
    }
    let (message, _) = guest.message()?;
    message.data.extend_from_slice(memory.bytes(range));
    Ok(Answer::Now(range.len() as u32))
}

/// A write that is large enough to be made in portions.
pub(super) struct Write(Range);

impl Rest for Write {
    type Result = u32;

    async fn finish(self, call: &mut Call<'_>) -> Result<u32, Failure> {
        let Write(range) = self;
        call.guest().message()?.0.data.reserve(range.len());
        for portion in range.portions() {
            scheduler::spent().await;
            let (mut memory, guest) = call.parts()?;
            let (message, _) = guest.message()?;
            message.data.extend_from_slice(memory.bytes(portion));
        }
        Ok(range.len() as u32)
    }
}

pub(super) fn read_data(call: &mut Call<'_>, buffer: Buffer) -> Result<Answer<Read>, Failure> {
    let (mut memory, guest) = call.parts()?;
    let range = memory.range(buffer)?;
    let slot = guest.slot().as_mut().ok_or_else(nothing_at_hand)?;
    if range.is_large() && slot.is_large() {
        return Ok(Answer::Later(Read(range)));
    }
    slot.read(memory.bytes(range)).map(Answer::Now)
}

/// A read that is large enough to be made in portions.
pub(super) struct Read(Range);

impl Rest for Read {
    type Result = u32;

    async fn finish(self, call: &mut Call<'_>) -> Result<u32, Failure> {
        let mut count = 0;
        for portion in self.0.portions() {
            scheduler::spent().await;
            let (mut memory, guest) = call.parts()?;
            let slot = guest.slot().as_mut().ok_or_else(nothing_at_hand)?;
            count += slot.read(memory.bytes(portion))?;
        }
        Ok(count)
    }
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

pub(super) fn push_module(call: &mut Call<'_>, module: ModuleId) -> Result<u64, Failure> {
    let module = call.module(module)?;
    let attachment = Attachment::uncounted(Resource::Module(module));
    call.guest().push_attachment(attachment)
}

pub(super) fn take_module(call: &mut Call<'_>, index: u64) -> Result<u64, Failure> {
    let modules = call.guest().handles().modules.len();
    call.guest().room_for(modules, "modules")?;
    let open = |attachment: Attachment| match attachment.resource {
        Resource::Module(module) => Ok(module),
        _ => Err(attachment),
    };
    let module = call.guest().take_attachment(index, "module", open)?;
    Ok(call.guest().handles().modules.insert(module))
}

pub(super) fn take_tcp_stream(call: &mut Call<'_>, index: u64) -> Result<u64, Failure> {
    take_socket::<StreamId>(call, index)
}

pub(super) fn take_tls_stream(call: &mut Call<'_>, index: u64) -> Result<u64, Failure> {
    take_socket::<TlsStreamId>(call, index)
}

pub(super) fn take_udp_socket(call: &mut Call<'_>, index: u64) -> Result<u64, Failure> {
    take_socket::<UdpSocketId>(call, index)
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
) -> Result<Answer<SendBytes>, Failure> {
    let draft = draft(call, tag, data, sockets)?;
    let message = match draft.copy_small(call) {
        Ok(message) => message,
        Err(draft) => return Ok(Answer::Later(SendBytes::Large(process, draft))),
    };
    Ok(match deliver_soon(call.guest(), process, message)? {
        Answer::Now(code) => Answer::Now(code),
        Answer::Later(undelivered) => Answer::Later(SendBytes::Full(undelivered)),
    })
}

/// A message that cannot be sent immediately, because its data is copied in portions or the mailbox
/// is full.
pub(super) enum SendBytes {
    Large(Pid, Draft),
    Full(Undelivered),
}

impl Rest for SendBytes {
    type Result = i32;

    async fn finish(self, call: &mut Call<'_>) -> Result<i32, Failure> {
        match self {
            SendBytes::Large(process, draft) => {
                let message = draft.copy(call).await.map_err(|_| Errno::MailboxFull)?;
                let sent = deliver_soon(call.guest(), process, message)?;
                sent.result(call).await
            }
            SendBytes::Full(undelivered) => undelivered.finish(call).await,
        }
    }
}

pub(super) fn offer_bytes(
    call: &mut Call<'_>,
    process: Pid,
    tag: i64,
    data: Bytes,
    sockets: Words,
) -> Result<i32, Failure> {
    let draft = draft(call, tag, data, sockets)?;
    // A function that never waits copies a limited number of bytes. The caller, which has to be
    // prepared for a full mailbox, then calls `send_bytes`.
    let message = draft
        .copy_small(call)
        .map_err(|_| Failure::Errno(Errno::MailboxFull))?;
    deliver(call.guest(), process, message).map_err(|(_, error)| error.errno())?;
    Ok(0)
}

pub(super) async fn send_receive_skip_search(
    call: &mut Call<'_>,
    process: Pid,
    tag: i64,
    timeout: Millis,
) -> Result<i32, Failure> {
    request(call, process, &Wanted::Tag(tag), timeout).await
}

/// A pending receive.
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

/// Receives matching mail into the slot, or begins to wait for it.
fn receive_or_wait<'a>(
    guest: &'a mut Guest,
    wanted: &Wanted,
    timeout: Millis,
) -> Result<&'a mut MailCursor, Arrival> {
    let mail = Arrival::take_or_expect(guest.process(), wanted, timeout)?;
    guest.meter().forget_refusal();
    Ok(guest.fill_slot(mail))
}

/// A receive that is pending, or that copies a large message, and where to write the message.
pub(super) struct ReceiveBytes(Option<Arrival>, Target);

impl Rest for ReceiveBytes {
    type Result = i32;

    async fn finish(self, call: &mut Call<'_>) -> Result<i32, Failure> {
        let ReceiveBytes(arrival, target) = self;
        if let Some(arrival) = arrival
            && let Err(code) = wait(call, arrival).await
        {
            return Ok(code);
        }
        let (mut memory, guest) = call.parts()?;
        let slot = guest.slot().as_mut().ok_or_else(nothing_at_hand)?;
        let kind = target.write_header(&mut memory, slot);
        if target.is_large(slot) {
            Read(target.buffer).finish(call).await?;
        } else {
            slot.read(memory.bytes(target.buffer))?;
        }
        Ok(kind)
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
    // The target is checked before anything is received, so a bad pointer traps even if a message
    // never arrives.
    let target = Target {
        buffer: memory.range(buffer)?,
        header: memory.out(header)?,
    };
    Ok(match receive_or_wait(guest, &wanted, timeout) {
        Ok(slot) if target.is_large(slot) => Answer::Later(ReceiveBytes(None, target)),
        Ok(slot) => {
            let kind = target.write_header(&mut memory, slot);
            slot.read(memory.bytes(target.buffer))?;
            Answer::Now(kind)
        }
        Err(arrival) => Answer::Later(ReceiveBytes(Some(arrival), target)),
    })
}

/// Where to write a received message.
struct Target {
    buffer: Range,
    header: Out<{ MessageHeader::SIZE }>,
}

impl Target {
    /// Returns whether the data is copied in portions.
    fn is_large(&self, slot: &MailCursor) -> bool {
        self.buffer.is_large() && slot.is_large()
    }

    /// Writes the header of the message in the slot. Returns the message's kind.
    fn write_header(&self, memory: &mut View<'_>, slot: &MailCursor) -> i32 {
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
            Mail::LinkDied { tag, pid, exit, .. } | Mail::ProcessDied { tag, pid, exit } => {
                header.length = exit.to_string().len() as u32;
                header.exit = exit.kind() as u32;
                header.pid = pid.number();
                header.detail = exit.detail();
                header.tag = *tag;
            }
        }
        memory.put(self.header, header.to_bytes());
        kind as i32
    }
}
