//! Echoes data as it arrives. Each connection has its own process.

use std::io::{self, Read, Write};

fn main() -> io::Result<()> {
    let (mut input, mut output) = (io::stdin().lock(), io::stdout().lock());
    let mut buffer = vec![0; 16 << 10];
    loop {
        match input.read(&mut buffer)? {
            0 => return Ok(()),
            length => output
                .write_all(&buffer[..length])
                .and_then(|()| output.flush())?,
        }
    }
}
