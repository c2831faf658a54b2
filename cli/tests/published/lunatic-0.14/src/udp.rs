//! UDP on the loopback, with ports that the system chooses.

use lunatic::net::UdpSocket;
use lunatic::{Mailbox, Process};
use std::io::ErrorKind;

fn bind() -> UdpSocket {
    UdpSocket::bind("127.0.0.1:0").expect("the system has a port")
}

pub fn datagrams_are_sent_and_received() {
    let (one, other) = (bind(), bind());
    let (from, to) = (one.local_addr().expect("it is bound"), other.local_addr().expect("it is bound"));
    println!("{}", one.send_to(b"hello", to).expect("there is room"));
    let mut buffer = [0; 8];
    let (length, sender) = other.recv_from(&mut buffer).expect("something was sent");
    println!("{} {}", String::from_utf8_lossy(&buffer[..length]), sender == from);
    // A datagram that is longer than the room for it is cut, and the rest of it is gone.
    other.send_to(b"longer than it fits", sender).expect("there is room");
    other.send_to(b"next", sender).expect("there is room");
    let length = one.recv(&mut buffer).expect("something was sent");
    println!("{}", String::from_utf8_lossy(&buffer[..length]));
    let length = one.recv(&mut buffer).expect("something was sent");
    println!("{}", String::from_utf8_lossy(&buffer[..length]));
}

pub fn a_connected_socket_knows_its_peer() {
    let (one, other) = (bind(), bind());
    println!("{}", one.peer_addr().expect_err("it is not connected").kind() == ErrorKind::NotConnected);
    let address = other.local_addr().expect("it is bound");
    one.connect(address).expect("it is an address");
    println!("{}", one.peer_addr().expect("it is connected") == address);
    let clone = one.try_clone().expect("there is room");
    println!("{}", clone.send(b"hello").expect("there is room"));
    // Another process receives meanwhile, on a socket of its own.
    Process::spawn_link(address, |address, _: Mailbox<()>| {
        bind().send_to(b"from another process", address).expect("there is room");
    });
    let mut buffer = [0; 32];
    let mut words: Vec<String> =
        (0..2).map(|_| other.recv(&mut buffer).expect("something was sent")).map(|length| length.to_string()).collect();
    words.sort();
    println!("{words:?}");
}

pub fn options_are_kept() {
    let socket = bind();
    socket.set_ttl(42).expect("it is one");
    socket.set_broadcast(true).expect("it may");
    println!("{} {}", socket.ttl().expect("it is bound"), socket.broadcast().expect("it is bound"));
    socket.set_broadcast(false).expect("it may");
    println!("{}", socket.broadcast().expect("it is bound"));
}
