//! `lunatic logs`: prints a function's log.

use crate::client;
use crate::command_line::Logs;
use crate::failure::Outcome;

/// Prints the latest lines of a function's log. With `--follow`, also prints new lines as they
/// arrive.
pub(crate) fn logs(logs: &Logs) -> Outcome {
    let follow = if logs.follow { "&follow" } else { "" };
    let path = format!(
        "/functions/{}/logs?lines={}{follow}",
        client::segment(&logs.name),
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
