//! A TCP server that echoes every line, with one process per connection. A line that contains
//! `exit` closes the connection.
//!
//! ```text
//! lunatic tcp_echo.wasm                  listens on 127.0.0.1:1337
//! lunatic tcp_echo.wasm 127.0.0.1:0      listens on any free port
//! ```
//!
//! Note how the stream is passed to the new process, as the value that it is spawned with. Each
//! process simply waits in `read_line`, and the machine runs other processes in the meantime. If a
//! client makes its process fail, no other process is affected.

use lunatic::{Mailbox, net, process};
use std::io::{BufRead, BufReader, Write};

fn main() {
    let address = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "127.0.0.1:1337".to_owned());
    let listener = match net::TcpListener::bind(address.as_str()) {
        Ok(listener) => listener,
        Err(error) => {
            eprintln!("cannot listen on {address}: {error}");
            std::process::exit(1);
        }
    };
    println!(
        "listening on {}",
        listener.local_addr().expect("the listener is bound")
    );
    loop {
        let refused = match listener.accept() {
            Ok((stream, _peer)) => process::spawn_with(stream, handle)
                .err()
                .map(|error| error.to_string()),
            Err(error) => Some(error.to_string()),
        };
        // If there are too many clients, the server continues to serve the existing ones, some of
        // which will leave.
        if let Some(error) = refused {
            eprintln!("a connection was refused or has to wait: {error}");
            process::sleep(100);
        }
    }
}

fn handle(mut stream: net::TcpStream, _: Mailbox<()>) {
    // Both are handles to the same connection, which is closed when the last handle is dropped.
    let mut lines = BufReader::new(stream.clone());
    loop {
        let mut line = String::new();
        let Ok(length) = lines.read_line(&mut line) else {
            return;
        };
        if length == 0 || line.contains("exit") {
            return;
        }
        if stream.write_all(line.as_bytes()).is_err() {
            return;
        }
    }
}
