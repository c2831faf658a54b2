//! `lunatic::message`: compose, send, receive.

use super::call::kinds::{Buffer, Bytes, Length, Millis, ModuleId, OutHeader, StreamId, Words};
use super::guest::Slot;
use super::{Call, Failure, Guest};
use crate::process::{Mail, Message, Pid, Received, SendError, Wanted};
use crate::resources::{Attachment, Held, Resource};
use crate::scheduler;
use async_io::Timer;
use futures_lite::FutureExt;
use lunatic_abi::{Errno, Limit, MessageHeader, NOBODY_LEFT, TIMED_OUT};
use std::task::Poll;

/// A receive that names more tags is a mistake or an attack: each is looked for.
const MAX_TAGS: usize = 1024;

/// What is said of a message that is larger than its author's environment allows.
pub(super) const TOO_LARGE: &str = "the message is larger than the environment lets messages be";

/// A message carries at most so many resources.
const MAX_RESOURCES: usize = 256;

pub(super) fn create_data(call: &mut Call<'_>, tag: i64, _capacity: u64) -> Result<(), Failure> {
    // The capacity is the guest's wish; memory is taken as data comes.
    call.guest().fill_slot(Mail::Data(Message { tag, ..Message::default() }));
    Ok(())
}

pub(super) fn write_data(call: &mut Call<'_>, data: Bytes, length: Length) -> Result<u32, Failure> {
    let range = call.range(data.0, length.0)?;
    let most = call.guest().environment().limits().get(Limit::MessageBytes);
    let (bytes, guest) = call.bytes_and_guest(range);
    let (message, _) = guest.message()?;
    if (message.data.len() + bytes.len()) as u64 > most {
        return Err(Failure::trap(format!("a message has at most {most} bytes")));
    }
    message.data.extend_from_slice(bytes);
    Ok(length.0)
}

pub(super) fn read_data(call: &mut Call<'_>, buffer: Buffer, length: Length) -> Result<u32, Failure> {
    let range = call.range(buffer.0, length.0)?;
    let (bytes, guest) = call.bytes_and_guest(range);
    let Some(slot) = guest.slot() else { return Err(Failure::trap("there is no message at hand")) };
    let text;
    let data = match &slot.mail {
        Mail::Data(message) => message.data.as_slice(),
        Mail::LinkDied { exit, .. } | Mail::ProcessDied { exit, .. } => {
            text = exit.to_string();
            text.as_bytes()
        }
    };
    let rest = data.get(slot.head..).ok_or_else(|| Failure::trap("the read head is behind the end of the message"))?;
    let count = rest.len().min(bytes.len());
    bytes[..count].copy_from_slice(&rest[..count]);
    slot.head += count;
    Ok(count as u32)
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

fn at_hand<'a>(call: &'a mut Call<'_>) -> Result<&'a Mail, Failure> {
    match call.guest().slot() {
        Some(slot) => Ok(&slot.mail),
        None => Err(Failure::trap("there is no message at hand: create or receive one first")),
    }
}

pub(super) fn push_module(call: &mut Call<'_>, module: ModuleId) -> Result<u64, Failure> {
    let module = super::process::module(call, module)?;
    push(call.guest(), Attachment { resource: Resource::Module(module), permit: None })
}

pub(super) fn push_tcp_stream(call: &mut Call<'_>, stream: StreamId) -> Result<u64, Failure> {
    call.guest().message()?;
    let held = call.guest().handles().streams.remove(stream.0).ok_or_else(|| super::tcp::unknown_stream(stream))?;
    push(call.guest(), Attachment { resource: Resource::TcpStream(held.socket), permit: Some(held.permit) })
}

/// Puts a resource into the message at hand and returns its place there.
pub(super) fn push(guest: &mut Guest, attachment: Attachment) -> Result<u64, Failure> {
    let (message, _) = guest.message()?;
    if message.attachments.len() >= MAX_RESOURCES {
        return Err(Failure::trap(format!("a message carries at most {MAX_RESOURCES} resources")));
    }
    message.attachments.push(Some(attachment));
    Ok(message.attachments.len() as u64 - 1)
}

pub(super) fn take_module(call: &mut Call<'_>, index: u64) -> Result<u64, Failure> {
    let modules = call.guest().handles().modules.len();
    call.guest().room_for(modules, "modules")?;
    let (message, _) = call.guest().message()?;
    let place = place(message, index)?;
    match place.take() {
        Some(Attachment { resource: Resource::Module(module), .. }) => {
            Ok(call.guest().handles().modules.insert(module))
        }
        other => Err(put_back(place, other, index, "module")),
    }
}

pub(super) fn take_tcp_stream(call: &mut Call<'_>, index: u64) -> Result<u64, Failure> {
    let (message, _) = call.guest().message()?;
    let place = place(message, index)?;
    match place.take() {
        Some(Attachment { resource: Resource::TcpStream(socket), permit }) => {
            let permit = permit.expect("a stream is counted from when it is put into a message");
            Ok(call.guest().handles().streams.insert(Held { socket, permit }))
        }
        other => Err(put_back(place, other, index, "stream")),
    }
}

pub(super) fn resource_kind(call: &mut Call<'_>, index: u64) -> Result<u32, Failure> {
    let (message, _) = call.guest().message()?;
    let attachment = usize::try_from(index).ok().and_then(|index| message.attachments.get(index)?.as_ref());
    Ok(match attachment.map(|attachment| &attachment.resource) {
        None => 0,
        Some(Resource::Module(_)) => 1,
        Some(Resource::TcpStream(_)) => 2,
        Some(Resource::Foreign(_)) => 3,
    })
}

fn place(message: &mut Message, index: u64) -> Result<&mut Option<Attachment>, Failure> {
    let index_in = usize::try_from(index).unwrap_or(usize::MAX);
    message.attachments.get_mut(index_in).ok_or_else(|| Failure::trap(format!("the message has no resource {index}")))
}

fn put_back(place: &mut Option<Attachment>, taken: Option<Attachment>, index: u64, kind: &str) -> Failure {
    *place = taken;
    Failure::trap(format!("resource {index} of the message is no {kind} or was taken out already"))
}

/// Takes the message out of the slot to send it.
pub(super) fn take_message(call: &mut Call<'_>) -> Result<Message, Failure> {
    call.guest().message()?;
    match call.guest().slot().take() {
        Some(Slot { mail: Mail::Data(message), .. }) => Ok(message),
        _ => unreachable!("the slot was just seen to hold data"),
    }
}

/// Delivers a message; where the receiver has no room, waits for one slice and tries again.
async fn deliver(call: &mut Call<'_>, to: Pid, message: Message) -> Result<(), SendError> {
    let Some(receiver) = call.guest().environment().machine().process(to) else { return Ok(()) };
    let message = match receiver.deliver(message) {
        Err((message, SendError::MailboxFull(..))) => message,
        done => return done.map_err(|(_, error)| error),
    };
    scheduler::spent().await;
    receiver.deliver(message).map_err(|(_, error)| error)
}

pub(super) async fn send(call: &mut Call<'_>, process: Pid) -> Result<i32, Failure> {
    let message = take_message(call)?;
    deliver(call, process, message).await.map_err(|error| error.errno())?;
    Ok(0)
}

pub(super) async fn send_receive_skip_search(
    call: &mut Call<'_>,
    process: Pid,
    tag: i64,
    timeout: Millis,
) -> Result<i32, Failure> {
    let message = take_message(call)?;
    let since = call.guest().process().next_sequence();
    // Whoever waits for an answer must not be told 0 for a request that was not sent; there is no code for it.
    deliver(call, process, message).await.map_err(Failure::trap)?;
    let wanted = Wanted::from_tags(&[tag]);
    Ok(match wait(call, wanted, since, timeout).await {
        Ok(()) => 0,
        Err(code) => code,
    })
}

pub(super) async fn receive(call: &mut Call<'_>, tags: Words, count: Length, timeout: Millis) -> Result<i32, Failure> {
    let wanted = wanted(call, tags, count)?;
    Ok(match wait(call, wanted, 0, timeout).await {
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
    streams: Words,
    count: Length,
) -> Result<i32, Failure> {
    let message = compose(call, tag, data, length, streams, count)?;
    deliver(call, process, message).await.map_err(|error| error.errno())?;
    Ok(0)
}

/// Makes a message from bytes and from copies of streams.
pub(super) fn compose(
    call: &mut Call<'_>,
    tag: i64,
    data: Bytes,
    length: Length,
    streams: Words,
    count: Length,
) -> Result<Message, Failure> {
    let range = call.range(data.0, length.0)?;
    let ids = call.words(streams, count, MAX_RESOURCES)?;
    let mut attachments = Vec::with_capacity(ids.len());
    for id in ids {
        let held = call.guest().handles().streams.get(id).ok_or_else(|| super::tcp::unknown_stream(StreamId(id)))?;
        let Held { socket, permit } = held.clone();
        attachments.push(Some(Attachment { resource: Resource::TcpStream(socket), permit: Some(permit) }));
    }
    if u64::from(length.0) > call.guest().environment().limits().get(Limit::MessageBytes) {
        return Err(Failure::Errno(Errno::MessageTooLarge));
    }
    Ok(Message { tag, data: call.bytes(range).to_vec(), attachments })
}

pub(super) async fn receive_bytes(
    call: &mut Call<'_>,
    tags: Words,
    count: Length,
    timeout: Millis,
    buffer: Buffer,
    length: Length,
    header: OutHeader,
) -> Result<i32, Failure> {
    let wanted = wanted(call, tags, count)?;
    call.range(buffer.0, length.0)?;
    let header = call.place::<{ MessageHeader::SIZE }>(header.0)?;
    if let Err(code) = wait(call, wanted, 0, timeout).await {
        return Ok(code);
    }
    let mail = at_hand(call)?;
    let kind = mail.kind();
    let mut described = MessageHeader { kind: kind as u32, ..MessageHeader::default() };
    match mail {
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
    call.put(header, described.to_bytes());
    read_data(call, buffer, length)?;
    Ok(kind as i32)
}

fn wanted(call: &mut Call<'_>, tags: Words, count: Length) -> Result<Wanted, Failure> {
    let words = call.words(tags, count, MAX_TAGS)?;
    let tags: Vec<i64> = words.into_iter().map(u64::cast_signed).collect();
    Ok(Wanted::from_tags(&tags))
}

/// Waits until what is wanted is in the slot. `Err` is the code of a receive that got nothing.
async fn wait(call: &mut Call<'_>, wanted: Wanted, since: u64, timeout: Millis) -> Result<(), i32> {
    let process = call.guest().process().clone();
    // However the wait ends, also where it is dropped, the process does not go on waiting.
    struct Waiting(crate::process::Process);
    impl Drop for Waiting {
        fn drop(&mut self) {
            self.0.stop_waiting();
        }
    }
    let forever = timeout.duration().is_none();
    let found = match process.receive(&wanted, since, forever) {
        Received::Mail(mail) => Ok(mail),
        Received::Nothing => {
            let _waiting = Waiting(process.clone());
            let arrives = std::future::poll_fn(|_| match process.receive(&wanted, since, forever) {
                Received::Mail(mail) => Poll::Ready(Ok(mail)),
                // Whoever leaves last wakes the process, but it may have left before this one waited, and this one may have
                // spawned others since: only this look decides. What the others sent before they left is here by now.
                Received::Nothing if forever && process.environment().program().is_alone() => {
                    match process.receive(&wanted, since, forever) {
                        Received::Mail(mail) => Poll::Ready(Ok(mail)),
                        Received::Nothing => Poll::Ready(Err(NOBODY_LEFT)),
                    }
                }
                // The process is woken by whoever sends what is wanted.
                Received::Nothing => Poll::Pending,
            });
            match timeout.duration() {
                None => arrives.await,
                Some(time) => {
                    let time_is_over = async {
                        timer(time).await;
                        Err(TIMED_OUT)
                    };
                    arrives.or(time_is_over).await
                }
            }
        }
    };
    call.guest().meter().forget_refusal();
    found.map(|mail| call.guest().fill_slot(mail))
}

/// Returns a timer; a time beyond what the clock can tell never comes.
pub(super) fn timer(time: std::time::Duration) -> Timer {
    std::time::Instant::now().checked_add(time).map_or_else(Timer::never, Timer::at)
}
