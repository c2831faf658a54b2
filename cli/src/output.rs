//! Shows what functions write while they are being served.

use crate::background;
use crate::failure::tell;
use lunatic_serve::Function;

/// Starts showing what a function writes and why it fails. As in the function's log, each line has
/// the time, the function and its version, and the request that the line belongs to.
pub(crate) fn show(function: &Function) {
    let (_, mut follower) = function.log().follow();
    // Runs until the function is removed or the command exits.
    let following = async move {
        while let Some(lines) = follower.next().await {
            for line in lines {
                tell(&format!("{line}\n"));
            }
        }
    };
    background::spawn(following);
}
