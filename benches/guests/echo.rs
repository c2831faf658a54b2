//! An echo server with one process per connection. Prints the address it listens on.

use lunatic::net::{TcpListener, TcpStream};
use lunatic::{Mailbox, process};
use std::io::{Read, Write};

fn main() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("some port is free");
    println!("{}", listener.local_addr().expect("the listener is bound"));
    for stream in listener.incoming().flatten() {
        // If no more processes can be spawned, this client is dropped and the server continues.
        let _ = process::spawn_with(stream, echo);
    }
}

fn echo(mut stream: TcpStream, _: Mailbox<()>) {
    let mut buffer = [0; 1024];
    while let Ok(length @ 1..) = stream.read(&mut buffer) {
        if stream.write_all(&buffer[..length]).is_err() {
            return;
        }
    }
}
