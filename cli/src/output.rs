//! Shows the output of functions while they serve.

use crate::background;
use crate::failure::tell;
use lunatic_serve::Function;

/// Shows what a function writes from now on, and the reasons for its failures: each line with its
/// time, the function and its version, and the request that it belongs to, as in the function's log.
pub(crate) fn show(function: &Function) {
    let (_, mut follower) = function.log().follow();
    // This ends with the function or with the command.
    let following = async move {
        while let Some(lines) = follower.next().await {
            for line in lines {
                tell(&format!("{line}\n"));
            }
        }
    };
    background::spawn(following);
}
