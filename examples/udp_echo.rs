//! A UDP server that echoes every datagram, with several processes sharing one socket.
//!
//! ```text
//! lunatic udp_echo.wasm                  listens on 127.0.0.1:1337
//! lunatic udp_echo.wasm 127.0.0.1:0      listens on any free port
//! ```
//!
//! Note the socket: each worker is spawned with its own handle. All of them wait in `recv_from`,
//! and each datagram goes to one of them. The datagram `exit` makes the worker that receives it
//! exit.

use lunatic::{Mailbox, net, process};

const WORKERS: usize = 4;

#[lunatic::main]
fn main(mailbox: Mailbox<()>) {
    let address = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "127.0.0.1:1337".to_owned());
    let socket = match net::UdpSocket::bind(address.as_str()) {
        Ok(socket) => socket,
        Err(error) => {
            eprintln!("cannot listen on {address}: {error}");
            std::process::exit(1);
        }
    };
    println!(
        "listening on {}",
        socket.local_addr().expect("the socket is bound")
    );
    let workers: Vec<_> = (0..WORKERS)
        .map(|_| process::spawn_with(socket.clone(), echo).expect("the worker can be spawned"))
        .collect();
    // The program ends when this process exits, so this process waits for the others.
    for worker in &workers {
        worker.monitor();
    }
    for _ in &workers {
        let _ = mailbox.receive();
    }
}

fn echo(socket: net::UdpSocket, _: Mailbox<()>) {
    let mut buffer = [0; 1 << 16];
    while let Ok((length, sender)) = socket.recv_from(&mut buffer) {
        if &buffer[..length] == b"exit" {
            return;
        }
        // Like any datagram, an answer may get lost.
        let _ = socket.send_to(&buffer[..length], sender);
    }
}
