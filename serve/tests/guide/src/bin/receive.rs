//! The code in the section "Receive Bytes", as in the guide.

use embly::Comm;
use std::io;

#[embly::spark]
fn entrypoint(comm: Comm) -> io::Result<()> {
    let mut buffer = Vec::new();
    // Comm implements std::io::Read
    comm.read_to_end(&mut buffer)?;

    // a little while later you might get another message
    comm.read_to_end(&mut buffer)?;

    Ok(())
}
