//! The code in the section "Run a spark", as in the guide.
#![allow(unused_variables, unused_mut, reason = "the code is from the guide")]

use embly::Comm;
use embly::Spark;
use std::io;

#[embly::spark]
fn entrypoint(comm: Comm) -> io::Result<()> {
    let mut foo_comm = Spark::run("maxmcd/foo", "Hello".as_bytes())?;
    // can send an empty vec if your spark doesn't expect
    // to receive any bytes
    let mut foo_comm = Spark::run("maxmcd/foo", vec![])?;
    foo_comm.write_all(" foo".as_bytes())?;

    // get a response back from  foo
    let mut buffer = Vec::new();
    foo_comm.read_to_end(&mut buffer)?;

    Ok(())
}
