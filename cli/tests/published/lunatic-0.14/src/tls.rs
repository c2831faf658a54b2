//! Tests TLS on the loopback interface. The test creates `certificate.pem` and `key.pem` for
//! `localhost` in the program's directory.

use crate::mailbox;
use lunatic::net::{TlsListener, TlsStream};
use lunatic::{Mailbox, Process};
use std::io::{Read, Write};
use std::time::Duration;

fn certificate() -> Vec<u8> {
    std::fs::read("certificate.pem").expect("the test has created the file")
}

/// Returns the port of a server that runs `serve` on every stream.
fn serve(serve: fn(TlsStream, Mailbox<()>)) -> u32 {
    let mailbox = mailbox::<u16>();
    let serve = lunatic::function::FuncRef::new(serve);
    Process::spawn_link((mailbox.this(), serve), |(parent, serve), _: Mailbox<()>| {
        let key = std::fs::read("key.pem").expect("the test has created the file");
        let listener = TlsListener::bind("127.0.0.1:0", certificate(), key).expect("the system chooses a free port");
        parent.send(listener.local_addr().expect("the listener has an address").port());
        loop {
            // A client that does not trust the certificate fails to connect, and the next client is
            // accepted.
            if let Ok((stream, _)) = listener.accept() {
                Process::spawn(stream, serve.get());
            }
        }
    });
    mailbox.receive().into()
}

fn echo(mut stream: TlsStream, _: Mailbox<()>) {
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("the timeout is not zero");
    let mut buffer = [0; 64];
    let length = stream.read(&mut buffer).expect("the socket is connected");
    stream.write_all(&buffer[..length]).expect("the socket is connected");
    stream.flush().expect("the socket is connected");
}

fn ask(mut stream: TlsStream) {
    stream.write_all(b"hello").expect("the socket is connected");
    stream.flush().expect("the socket is connected");
    let mut buffer = [0; 5];
    stream.read_exact(&mut buffer).expect("the socket is connected");
    println!("{}", String::from_utf8_lossy(&buffer));
}

pub fn a_stream_is_encrypted() {
    let port = serve(echo);
    let stream = TlsStream::connect_with_certs("localhost", port, vec![certificate()]).expect("the certificate is trusted");
    ask(stream);
    let stream = TlsStream::connect_timeout("localhost", Duration::from_secs(60), port, vec![certificate()]);
    ask(stream.expect("the certificate is trusted"));
}

pub fn a_stream_is_handed_to_a_child() {
    let mailbox = mailbox::<()>();
    let port = serve(echo);
    let stream = TlsStream::connect_with_certs("localhost", port, vec![certificate()]).expect("the certificate is trusted");
    Process::spawn_link((mailbox.this(), stream), |(parent, stream), _: Mailbox<()>| {
        ask(stream);
        parent.send(());
    });
    mailbox.receive();
}

pub fn an_untrusted_certificate_is_refused() {
    let port = serve(echo);
    println!("{}", TlsStream::connect("localhost", port).is_err());
    // The server still accepts the next client.
    let stream = TlsStream::connect_with_certs("localhost", port, vec![certificate()]).expect("the certificate is trusted");
    ask(stream);
}
