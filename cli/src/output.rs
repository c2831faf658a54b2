//! Shows the output of functions while they serve.

use crate::background;
use crate::failure::tell;
use lunatic_serve::{Function, LineKind};

/// Shows what a function writes from now on, and the reasons for its failures, prefixed with its
/// name.
pub(crate) fn show(function: &Function) {
    let name = function.name().clone();
    let (_, mut follower) = function.log().follow();
    // This ends with the function or with the command.
    let following = async move {
        while let Some(lines) = follower.next().await {
            for line in lines {
                let kind = if line.kind == LineKind::Failure {
                    "error: "
                } else {
                    ""
                };
                tell(&format!("[{name}]: {kind}{}\n", line.text));
            }
        }
    };
    background::spawn(following);
}
