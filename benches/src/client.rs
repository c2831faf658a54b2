//! A client with many connections on one thread, which asks every server the same way.

use crate::peers::Server;
use smol::LocalExecutor;
use smol::io::{AsyncReadExt, AsyncWriteExt};
use smol::net::TcpStream;
use std::cell::Cell;
use std::time::{Duration, Instant};

/// How many are connected, where nothing else is said.
pub const CONNECTIONS: usize = 1_000;

/// Returns how long an answer is, once enough of it has come to know.
pub type Length = fn(&[u8]) -> Option<usize>;

/// Has all connections ask and wait for the answer, again and again, and returns how many answers came in a second. All
/// answers on one connection are as long as the first.
///
/// # Panics
///
/// Where the server does not accept, does not answer, or answers something else than at first.
pub fn load(server: &Server, request: &[u8], length: Length, time: Duration) -> f64 {
    load_over(CONNECTIONS, server, request, length, time)
}

/// Does the same over so many connections. Over one, it says how long an answer takes.
///
/// # Panics
///
/// As [`load`].
pub fn load_over(
    connections: usize,
    server: &Server,
    request: &[u8],
    length: Length,
    time: Duration,
) -> f64 {
    let count = connections;
    let answers = Cell::new(0u64);
    let executor = LocalExecutor::new();
    smol::block_on(executor.run(async {
        let mut connections = Vec::new();
        for _ in 0..count {
            let mut stream = TcpStream::connect(&server.address)
                .await
                .expect("the server accepts");
            stream.set_nodelay(true).expect("it is a TCP stream");
            let first = first(&mut stream, request, length).await;
            connections.push((stream, first));
        }
        let start = Instant::now();
        let clients: Vec<_> = connections
            .into_iter()
            .map(|(mut stream, first)| {
                let answers = &answers;
                executor.spawn(async move {
                    let mut answer = vec![0; first.len()];
                    // A date in the answer may be another, the first line not.
                    let line = first
                        .iter()
                        .position(|&byte| byte == b'\r')
                        .unwrap_or(first.len());
                    while start.elapsed() < time {
                        stream
                            .write_all(request)
                            .await
                            .expect("the server is there");
                        stream
                            .read_exact(&mut answer)
                            .await
                            .expect("the server answers");
                        assert_eq!(
                            answer[..line],
                            first[..line],
                            "the server answers as it did at first"
                        );
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

/// Asks once and returns the answer.
async fn first(stream: &mut TcpStream, request: &[u8], length: Length) -> Vec<u8> {
    stream
        .write_all(request)
        .await
        .expect("the server is there");
    let mut answer = Vec::new();
    loop {
        let mut more = [0; 4096];
        let count = stream.read(&mut more).await.expect("the server answers");
        assert!(
            count > 0,
            "the server closed the connection after {:?}",
            String::from_utf8_lossy(&answer)
        );
        answer.extend_from_slice(&more[..count]);
        if let Some(length) = length(&answer).filter(|&length| length <= answer.len()) {
            assert_eq!(answer.len(), length, "one request has one answer");
            return answer;
        }
    }
}
