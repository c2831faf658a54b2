//! An echo server with one process per connection. It prints where it listens.

use lunatic::net::{TcpListener, TcpStream};
use lunatic::{Mailbox, process};
use std::io::{Read, Write};

fn main() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("some port is free");
    println!("{}", listener.local_addr().expect("the listener is bound"));
    while let Ok((stream, _)) = listener.accept() {
        process::spawn_with(stream, echo).expect("no limit is set");
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
