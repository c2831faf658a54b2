//! Tests TCP on the loopback interface, with ports chosen by the system.

use crate::mailbox;
use lunatic::net::{resolve, TcpListener, TcpStream};
use lunatic::serializer::{Bincode, CanSerialize, Json, MessagePack};
use lunatic::{Mailbox, Process};
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("the system chooses a free port");
    let address = listener.local_addr().expect("the listener has an address");
    (listener, address)
}

/// Returns both ends of a connection.
fn connect() -> (TcpStream, TcpStream) {
    let (listener, address) = listen();
    let client = TcpStream::connect(address).expect("the listener exists");
    let (server, _) = listener.accept().expect("a client has connected");
    (client, server)
}

fn echo(stream: TcpStream, _: Mailbox<()>) {
    let mut lines = BufReader::new(stream.clone());
    let mut stream = stream;
    let mut line = String::new();
    while lines.read_line(&mut line).expect("the reply is text") > 0 {
        stream.write_all(line.as_bytes()).expect("the socket is connected");
        stream.flush().expect("the socket is connected");
        line.clear();
    }
}

pub fn a_stream_is_handed_to_a_child() {
    let (mut client, server) = connect();
    Process::spawn_link(server, echo);
    let mut lines = BufReader::new(client.clone());
    for word in ["first\n", "second\n"] {
        client.write_all(word.as_bytes()).expect("the socket is connected");
        let mut line = String::new();
        lines.read_line(&mut line).expect("the reply is text");
        print!("{line}");
    }
}

fn hand_over<S>()
where
    S: CanSerialize<TcpStream> + CanSerialize<()>,
    S: CanSerialize<lunatic::protocol::ProtocolCapture<TcpStream>>,
{
    let (mut client, server) = connect();
    Process::<(), S>::spawn_link(server, |mut stream: TcpStream, _: Mailbox<(), S>| {
        stream.write_all(b"from the child").expect("the socket is connected");
    });
    let mut text = String::new();
    client.read_to_string(&mut text).expect("the reply is text");
    println!("{text}");
}

pub fn a_stream_can_be_sent_with_every_serializer() {
    hand_over::<Bincode>();
    hand_over::<Json>();
    hand_over::<MessagePack>();
}

pub fn a_peek_does_not_remove_the_bytes() {
    let (mut client, mut server) = connect();
    client.write_all(b"abc").expect("the socket is connected");
    let mut buffer = [0; 3];
    let peeked = server.peek(&mut buffer[..1]).expect("the socket is connected");
    println!("{peeked} {:?}", buffer[0] as char);
    server.read_exact(&mut buffer).expect("the socket is connected");
    println!("{}", String::from_utf8_lossy(&buffer));
}

pub fn a_read_can_time_out() {
    let (mut client, mut server) = connect();
    println!("{:?}", server.read_timeout());
    server.set_read_timeout(Some(Duration::from_millis(1))).expect("the timeout is not zero");
    server.set_write_timeout(Some(Duration::from_millis(1500))).expect("the timeout is not zero");
    server.set_peek_timeout(Some(Duration::from_millis(1))).expect("the timeout is not zero");
    println!("{:?} {:?} {:?}", server.read_timeout(), server.write_timeout(), server.peek_timeout());
    println!("{:?}", server.read(&mut [0]).map_err(|error| error.kind() == ErrorKind::TimedOut));
    println!("{:?}", server.peek(&mut [0]).map_err(|error| error.kind() == ErrorKind::TimedOut));
    server.set_read_timeout(None).expect("the timeout can be removed");
    client.write_all(b"x").expect("the socket is connected");
    println!("{:?}", server.read(&mut [0]).ok());
}

pub fn clones_share_the_stream() {
    let (mut client, server) = connect();
    let mut clone = server.clone();
    drop(server);
    clone.write_all(b"by the clone").expect("the socket is connected");
    drop(clone);
    let mut text = String::new();
    client.read_to_string(&mut text).expect("the last clone is closed");
    println!("{text}");
}

pub fn both_ends_know_each_other() {
    let (listener, address) = listen();
    let client = TcpStream::connect(address).expect("the listener exists");
    let (server, peer) = listener.accept().expect("a client has connected");
    println!("{}", client.peer_addr().expect("the socket is connected") == address);
    println!("{}", server.peer_addr().expect("the socket is connected") == peer);
}

pub fn connecting_without_a_listener_is_an_error() {
    let (listener, address) = listen();
    drop(listener);
    let error = TcpStream::connect(address).expect_err("there is no listener");
    println!("{}", error.to_string().is_empty());
    let error = TcpStream::connect_timeout(address, Duration::from_secs(60)).expect_err("there is no listener");
    println!("{}", error.to_string().is_empty());
    let mailbox = mailbox::<()>();
    println!("{}", mailbox.receive_timeout(Duration::ZERO).is_err());
}

pub fn a_name_is_resolved() {
    let addresses: Vec<SocketAddr> = resolve("127.0.0.1:80").expect("the text is an address").collect();
    println!("{addresses:?}");
    let addresses: Vec<SocketAddr> = resolve("[::1]:80").expect("the text is an address").collect();
    println!("{addresses:?}");
    println!("{}", resolve("localhost:80").expect("every system resolves this name").all(|address| address.ip().is_loopback()));
    println!("{}", resolve("no port").is_err());
}
