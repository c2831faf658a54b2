//! A connection is a process, and a thousand of them are served as fast as Erlang serves them.

use lunatic_benches::{Bar, Erlang, Figures, Row, Server, command, promise};
use smol::io::{AsyncReadExt, AsyncWriteExt};
use smol::net::TcpStream;
use std::cell::Cell;
use std::time::{Duration, Instant};

/// How many are connected.
const CONNECTIONS: usize = 1_000;

/// What a client sends, and waits for.
const LINE: [u8; 64] = [b'.'; 64];

fn main() {
    let depth = promise("TCP echo of 64 bytes, one process per connection, 1,000 connections: ≥ Erlang's gen_tcp");
    let erlang = Erlang::compile("echo");
    let ours = Server::start(command("echo"));
    let theirs = erlang.command(&[]).map(Server::start);

    let time = depth.choose(Duration::from_secs(2), Duration::from_millis(200));
    let (mut echoes, mut peer) = (Figures::default(), Figures::default());
    for _ in 0..depth.choose(5, 1) {
        echoes.push(load(&ours, time));
        peer.extend(theirs.as_ref().map(|server| load(server, time)));
    }
    Row::new("echoes", "/s", &echoes).beside("Erlang", &peer).print(Bar::AtLeastTimes(1.0));
    println!("  ≥ 0.8 × Go's: Go is not among the peers yet");
}

/// Has all connections send and wait for the answer, again and again, and returns how many answers came in a second.
fn load(server: &Server, time: Duration) -> f64 {
    let answers = Cell::new(0u64);
    let executor = smol::LocalExecutor::new();
    smol::block_on(executor.run(async {
        let mut streams = Vec::new();
        for _ in 0..CONNECTIONS {
            let stream = TcpStream::connect(&server.address).await.expect("the server accepts");
            stream.set_nodelay(true).expect("it is a TCP stream");
            streams.push(stream);
        }
        let start = Instant::now();
        let clients: Vec<_> = streams
            .into_iter()
            .map(|mut stream| {
                let answers = &answers;
                executor.spawn(async move {
                    let mut answer = [0; LINE.len()];
                    while start.elapsed() < time {
                        stream.write_all(&LINE).await.expect("the server is there");
                        stream.read_exact(&mut answer).await.expect("the server answers");
                        answers.set(answers.get() + 1);
                    }
                })
            })
            .collect();
        for client in clients {
            client.await;
        }
        answers.get() as f64 / start.elapsed().as_secs_f64()
    }))
}
