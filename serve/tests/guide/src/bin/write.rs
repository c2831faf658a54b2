//! The code in the section "Write Bytes", as in the guide.

use embly::Comm;
use std::io;

#[embly::spark]
fn entrypoint(comm: Comm) -> io::Result<()> {
    // you can call write_all to send one message
    comm.write_all("Hello World".as_bytes())?;

    // Or you can make multiple calls with write if you want to construct a
    // message and then flush the response
    comm.write(b"Hello")?;
    comm.write(b"World")?;
    comm.flush()?;

    Ok(())
}
