//! A TLS server that echoes every line, with one process per connection.
//!
//! ```text
//! lunatic tls_echo.wasm server.pem server.key                  listens on 127.0.0.1:1337
//! lunatic tls_echo.wasm server.pem server.key 127.0.0.1:0      listens on any free port
//! ```
//!
//! Note what the program does not have to do: the machine deals with clients that send nothing,
//! send garbage, or do not trust the certificate. `accept` returns only connections that have
//! completed their handshake.

use lunatic::{Mailbox, net, process};
use std::io::{BufRead, BufReader, Write};

fn main() -> std::io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (Some(certificates), Some(private_key)) = (arguments.next(), arguments.next()) else {
        eprintln!(
            "the arguments must be a certificate file, a key file, and optionally an address"
        );
        std::process::exit(1);
    };
    let address = arguments
        .next()
        .unwrap_or_else(|| "127.0.0.1:1337".to_owned());
    let (certificates, private_key) = (std::fs::read(certificates)?, std::fs::read(private_key)?);
    let listener = net::TlsListener::bind(address.as_str(), &certificates, &private_key)?;
    println!("listening on {}", listener.local_addr()?);
    loop {
        let (stream, _peer) = listener.accept()?;
        if let Err(error) = process::spawn_with(stream, handle) {
            eprintln!("a connection was refused: {error}");
        }
    }
}

fn handle(mut stream: net::TlsStream, _: Mailbox<()>) {
    // Both are handles to the same connection, which is closed when the last handle is dropped.
    let lines = BufReader::new(stream.clone()).lines();
    for line in lines.map_while(Result::ok) {
        if writeln!(stream, "{line}").is_err() {
            return;
        }
    }
}
