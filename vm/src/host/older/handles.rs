//! Process handles. A handle is an id in the caller's own table, so it cannot be forged.

use crate::guest::kinds::{OutUuid, ProcessId};
use crate::guest::{Call, Failure, Guest};
use crate::travel::{Attachment, Resource};
use lunatic_abi::Limit;
use lunatic_process::Pid;

/// The maximum number of process handles that a process can hold, which is the same as an
/// environment's default process limit. Process handles do not count toward the limit on other
/// handles, because guests keep a handle to every process that they spawn.
const MAX_HANDLES: usize = 1_000_000;

/// Checks that the guest may hold another handle.
pub(super) fn room_for_handle(call: &mut Call<'_>) -> Result<(), Failure> {
    if call.guest().handles().processes.len() < MAX_HANDLES {
        return Ok(());
    }
    Err(Failure::trap(format!(
        "a process can hold at most {MAX_HANDLES} process handles; drop some"
    )))
}

/// Returns the process that a handle refers to.
pub(super) fn process(call: &mut Call<'_>, id: ProcessId) -> Result<Pid, Failure> {
    call.guest().handles().processes.get(id.0).copied()
}

pub(super) fn this(call: &mut Call<'_>) -> Result<u64, Failure> {
    room_for_handle(call)?;
    let own = call.guest().process().pid();
    Ok(call.guest().handles().processes.insert(own))
}

pub(super) fn id(call: &mut Call<'_>, id: ProcessId, uuid: OutUuid) -> Result<(), Failure> {
    let out = call.out(uuid)?;
    let pid = process(call, id)?;
    let uuid = call.guest().machine().pids.uuid(pid);
    call.put(out, uuid.to_le_bytes());
    Ok(())
}

pub(super) fn clone_process(call: &mut Call<'_>, id: ProcessId) -> Result<u64, Failure> {
    let pid = process(call, id)?;
    room_for_handle(call)?;
    Ok(call.guest().handles().processes.insert(pid))
}

pub(super) fn drop_process(call: &mut Call<'_>, id: ProcessId) -> Result<(), Failure> {
    call.guest().handles().processes.remove(id.0).map(drop)
}

pub(super) fn link(call: &mut Call<'_>, tag: i64, id: ProcessId) -> Result<(), Failure> {
    let pid = process(call, id)?;
    call.guest().room_for_end()?;
    // Programs link to child processes that may already have ended, and normal exits are not
    // reported.
    let guest = call.guest();
    guest
        .machine()
        .link_with_living(guest.process(), pid, tag)
        .map_err(Failure::limit)
}

pub(super) fn unlink(call: &mut Call<'_>, id: ProcessId) -> Result<(), Failure> {
    let pid = process(call, id)?;
    let guest = call.guest();
    guest.machine().unlink(guest.process(), pid);
    Ok(())
}

pub(super) fn push_process(call: &mut Call<'_>, id: ProcessId) -> Result<u64, Failure> {
    let pid = process(call, id)?;
    let index = push(call.guest(), pid)?;
    call.guest().handles().processes.remove(id.0)?;
    Ok(index)
}

/// Puts a process into the current message. Programs send entire lists of processes, so only the
/// size of the message is limited.
fn push(guest: &mut Guest, pid: Pid) -> Result<u64, Failure> {
    let most = guest.environment().limits().get(Limit::MessageBytes);
    let (message, _) = guest.message()?;
    if message.size() as u64 >= most {
        return Err(Failure::trap(format!(
            "a message can have at most {most} bytes, so another process handle does not fit"
        )));
    }
    let attachment = Attachment::uncounted(Resource::Process(pid));
    message.attachments.push(Some(attachment.into()));
    Ok(message.attachments.len() as u64 - 1)
}

pub(super) fn take_process(call: &mut Call<'_>, index: u64) -> Result<u64, Failure> {
    room_for_handle(call)?;
    let open = |attachment: Attachment| match attachment.resource {
        Resource::Process(pid) => Ok(pid),
        _ => Err(attachment),
    };
    let pid = call.guest().take_attachment(index, "process", open)?;
    Ok(call.guest().handles().processes.insert(pid))
}
