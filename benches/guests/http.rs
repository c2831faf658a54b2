//! A web server that says hello to every request, with one process per connection. Prints the
//! address it listens on.
//!
//! It implements only as much of HTTP/1.1 as the clients need: requests without a body, one after
//! another on a connection.

use lunatic::net::{TcpListener, TcpStream};
use lunatic::{Mailbox, process};
use std::io::{Read, Write};

const HELLO: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 13\r\n\r\nHello, world!";

/// The maximum length of a request head.
const HEAD: usize = 8192;

fn main() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("some port is free");
    println!("{}", listener.local_addr().expect("the listener is bound"));
    while let Ok((stream, _)) = listener.accept() {
        process::spawn_with(stream, serve).expect("no limit is set");
    }
}

fn serve(mut stream: TcpStream, _: Mailbox<()>) {
    let mut buffer = [0; HEAD];
    let mut filled = 0;
    // If a head is too long, there is no space left to read into, and the connection is closed.
    while let Ok(length @ 1..) = stream.read(&mut buffer[filled..]) {
        filled += length;
        let mut start = 0;
        while let Some(end) = end_of_head(&buffer[start..filled]) {
            let is_last = asks_to_close(&buffer[start..start + end]);
            if stream.write_all(HELLO).is_err() || is_last {
                return;
            }
            start += end;
        }
        buffer.copy_within(start..filled, 0);
        filled -= start;
    }
}

/// Returns the position where the first head ends, if it is complete.
fn end_of_head(bytes: &[u8]) -> Option<usize> {
    bytes
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .map(|start| start + 4)
}

fn asks_to_close(head: &[u8]) -> bool {
    let mut lines = head.split(|&byte| byte == b'\n');
    lines.any(|line| line.trim_ascii().eq_ignore_ascii_case(b"connection: close"))
}
