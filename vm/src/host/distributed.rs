//! `lunatic::distributed`: functions for communication between nodes. This machine is the only
//! node.
//!
//! Guests look up a process's node before they send messages to it, so these functions present this
//! machine as node 0.

use crate::guest::kinds::{Bytes, ConfigId, Millis, ModuleId, OutU32, OutU64, OutWords, Text};
use crate::guest::mail::{deliver_soon, request, take_message};
use crate::guest::{Call, Failure, HostError};
use crate::machine::THIS_NODE;
use crate::spawn::request::SpawnRequest;
use lunatic_abi::Errno;
use lunatic_process::{Pid, Wanted};

/// The result of a send to a node that does not exist.
pub(super) const NO_SUCH_NODE: i32 = 2;

/// The maximum length of a query, in bytes.
const MAX_QUERY: usize = 64 << 10;

fn no_such_node(node: u64) -> HostError {
    HostError::new(
        Errno::NotFound,
        format!("there is no node {node}: this machine is the only one, and is node {THIS_NODE}"),
    )
}

fn nobody_to_ask() -> HostError {
    HostError::new(
        Errno::NotFound,
        "this machine is the only one: there are no nodes to look up",
    )
}

pub(super) fn nodes_count(_: &mut Call<'_>) -> Result<u32, Failure> {
    Ok(0)
}

pub(super) fn get_nodes(call: &mut Call<'_>, nodes: OutWords) -> Result<u32, Failure> {
    call.range(nodes)?;
    Ok(0)
}

pub(super) fn node_id(_: &mut Call<'_>) -> Result<u64, Failure> {
    Ok(THIS_NODE)
}

pub(super) fn module_id(_: &mut Call<'_>) -> Result<u64, Failure> {
    Ok(0)
}

pub(super) async fn spawn(
    call: &mut Call<'_>,
    node: u64,
    config_id: ConfigId,
    module_id: ModuleId,
    function: Text,
    parameters: Bytes,
    process: OutU64,
) -> Result<i32, Failure> {
    let out = call.out(process)?;
    let request = SpawnRequest::read_permitted(call, module_id, function, parameters)?;
    let spawned = match node {
        THIS_NODE => request.spawn_configured(call, config_id, 0).await?,
        _ => Err(no_such_node(node)),
    };
    call.answer(out, spawned.map(Pid::number))
}

pub(super) async fn send(call: &mut Call<'_>, node: u64, process: Pid) -> Result<i32, Failure> {
    let message = take_message(call)?;
    if node != THIS_NODE {
        return Ok(NO_SUCH_NODE);
    }
    let answer = deliver_soon(call.guest(), process, message)?;
    answer.result(call).await
}

pub(super) async fn send_receive_skip_search(
    call: &mut Call<'_>,
    node: u64,
    process: Pid,
    tag: i64,
    timeout: Millis,
) -> Result<i32, Failure> {
    if node != THIS_NODE {
        take_message(call)?;
        return Ok(NO_SUCH_NODE);
    }
    request(call, process, &Wanted::Tag(tag), timeout).await
}

pub(super) fn exec_lookup_nodes(
    call: &mut Call<'_>,
    query: Text,
    result: OutU64,
    nodes: OutU64,
    error: OutU64,
) -> Result<i32, Failure> {
    call.out(result)?;
    call.out(nodes)?;
    let out = call.out(error)?;
    call.short_text(query, MAX_QUERY)?;
    call.answer(out, Err(nobody_to_ask()))
}

pub(super) fn copy_lookup_nodes_results(
    call: &mut Call<'_>,
    _result: u64,
    nodes: OutWords,
    error: OutU64,
) -> Result<i32, Failure> {
    call.range(nodes)?;
    let out = call.out(error)?;
    call.answer(out, Err(nobody_to_ask()))?;
    Ok(-1)
}

fn no_authority() -> Failure {
    Failure::trap("there is no cluster, and no authority that could issue certificates")
}

pub(super) fn test_root_cert(call: &mut Call<'_>, length: OutU32) -> Result<u32, Failure> {
    call.out(length)?;
    Err(no_authority())
}

pub(super) fn default_server_certificates(
    call: &mut Call<'_>,
    certificate: Bytes,
    private_key: Bytes,
    length: OutU32,
) -> Result<u32, Failure> {
    call.range(certificate)?;
    call.range(private_key)?;
    call.out(length)?;
    Err(no_authority())
}

pub(super) fn sign_node(
    call: &mut Call<'_>,
    certificate: Bytes,
    private_key: Bytes,
    request: Bytes,
    length: OutU32,
) -> Result<u32, Failure> {
    call.range(request)?;
    default_server_certificates(call, certificate, private_key, length)
}
