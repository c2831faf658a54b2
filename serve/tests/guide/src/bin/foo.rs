//! The function that the section "Run a spark" of the guide runs. It prints each message and sends
//! it back.

use embly::Comm;
use std::io;

#[embly::spark]
fn entrypoint(comm: Comm) -> io::Result<()> {
    while let Some(message) = comm.receive()? {
        println!("foo got {:?}", String::from_utf8_lossy(&message));
        comm.write_all(&message)?;
    }
    Ok(())
}
