//! The function that is run in the guide's section "Run a spark". It prints each message and sends
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
