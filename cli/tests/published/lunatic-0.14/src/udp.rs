//! Tests UDP on the loopback interface, with ports chosen by the system.

use lunatic::net::UdpSocket;
use lunatic::{Mailbox, Process};
use std::io::ErrorKind;

fn bind() -> UdpSocket {
    UdpSocket::bind("127.0.0.1:0").expect("the system chooses a free port")
}

pub fn datagrams_are_sent_and_received() {
    let (one, other) = (bind(), bind());
    let (from, to) = (one.local_addr().expect("the socket is bound"), other.local_addr().expect("the socket is bound"));
    println!("{}", one.send_to(b"hello", to).expect("the limits allow this"));
    let mut buffer = [0; 8];
    let (length, sender) = other.recv_from(&mut buffer).expect("a datagram was sent");
    println!("{} {}", String::from_utf8_lossy(&buffer[..length]), sender == from);
    // A datagram longer than the buffer is truncated.
    other.send_to(b"longer than will fit", sender).expect("the limits allow this");
    other.send_to(b"next", sender).expect("the limits allow this");
    let length = one.recv(&mut buffer).expect("a datagram was sent");
    println!("{}", String::from_utf8_lossy(&buffer[..length]));
    let length = one.recv(&mut buffer).expect("a datagram was sent");
    println!("{}", String::from_utf8_lossy(&buffer[..length]));
}

pub fn a_connected_socket_knows_its_peer() {
    let (one, other) = (bind(), bind());
    println!("{}", one.peer_addr().expect_err("the socket is not connected").kind() == ErrorKind::NotConnected);
    let address = other.local_addr().expect("the socket is bound");
    one.connect(address).expect("the text is an address");
    println!("{}", one.peer_addr().expect("the socket is connected") == address);
    let clone = one.try_clone().expect("the limits allow this");
    println!("{}", clone.send(b"hello").expect("the limits allow this"));
    // In the meantime, another process receives on its own socket.
    Process::spawn_link(address, |address, _: Mailbox<()>| {
        bind().send_to(b"from another process", address).expect("the limits allow this");
    });
    let mut buffer = [0; 32];
    let mut words: Vec<String> =
        (0..2).map(|_| other.recv(&mut buffer).expect("a datagram was sent")).map(|length| length.to_string()).collect();
    words.sort();
    println!("{words:?}");
}

pub fn options_are_kept() {
    let socket = bind();
    socket.set_ttl(42).expect("42 is a valid TTL");
    socket.set_broadcast(true).expect("any socket can be configured");
    println!("{} {}", socket.ttl().expect("the socket is bound"), socket.broadcast().expect("the socket is bound"));
    socket.set_broadcast(false).expect("any socket can be configured");
    println!("{}", socket.broadcast().expect("the socket is bound"));
}
