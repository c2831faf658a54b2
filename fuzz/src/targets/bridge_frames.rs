//! The frames that another program uses to send calls to `lunatic bridge`.

// Only the command uses those parts of this file that are dead code here.
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
