//! Each connection has its own process, and a thousand connections are served as fast as in Erlang.

use lunatic_benches::client::load;
use lunatic_benches::{Bar, Peer, Row, Server, command, promise, side_by_side};
use std::time::Duration;

/// The bytes that a client sends and expects back.
const LINE: [u8; 64] = [b'.'; 64];

fn main() {
    let depth = promise("TCP echo of 64 bytes, one process per connection, 1,000 connections");
    let (erlang, go) = (Peer::erlang("echo"), Peer::go("echo"));
    let ours = Server::start(command("echo"));
    let [erlang, go] = [erlang, go].map(|peer| peer.command(&[]).map(Server::start));

    let time = depth.choose(Duration::from_secs(2), Duration::from_millis(100));
    let echoes = |server: &Server| load(server, &LINE, |_| Some(LINE.len()), time);
    let [ours, erlang, go] = side_by_side(
        depth.choose(5, 1),
        [
            &|| vec![echoes(&ours)],
            &|| erlang.iter().map(echoes).collect(),
            &|| go.iter().map(echoes).collect(),
        ],
    );
    Row::new("echoes", "/s", &ours)
        .beside("Erlang", &erlang)
        .print(Bar::AtLeastTimes(1.0));
    Row::new("echoes", "/s", &ours)
        .beside("Go", &go)
        .print(Bar::AtLeastTimes(0.8));
}
