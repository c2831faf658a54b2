//! The frames that another program uses to send calls to `lunatic bridge`.

// Parts of this file are dead code here, because only the command uses them.
#[allow(dead_code)]
#[path = "../../../cli/src/bridge/frames.rs"]
mod frames;

use frames::Broken;

pub(crate) fn run(bytes: &[u8]) {
    let mut input = bytes;
    loop {
        match frames::next(&mut input) {
            Ok(None) => {
                assert!(input.is_empty(), "bytes after the end");
                break;
            }
            Ok(Some(_)) => {}
            // The next request may be valid.
            Err(Broken::Request(_, message)) => assert!(!message.is_empty()),
            Err(Broken::Frame(_)) => break,
        }
    }
}
