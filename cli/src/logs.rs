//! `lunatic logs`: what a function wrote, and why it failed.

use crate::client;
use crate::command_line::Logs;
use crate::failure::Outcome;

/// Prints the newest lines of a function's log, and then those that come.
pub(crate) fn logs(logs: &Logs) -> Outcome {
    let follow = if logs.follow { "&follow" } else { "" };
    let path = format!(
        "/functions/{}/logs?lines={}{follow}",
        client::part(&logs.name),
        logs.lines
    );
    let accept = if logs.json {
        "application/json"
    } else {
        "text/plain"
    };
    client::block_on(async {
        client::print(client::ask(&logs.deployer, &path, accept).await?).await
    })?;
    Ok(0)
}
