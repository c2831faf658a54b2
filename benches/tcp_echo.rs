//! A connection is a process, and a thousand of them are served as fast as Erlang serves them.

use lunatic_benches::client::load;
use lunatic_benches::{Bar, Figures, Peer, Row, Server, command, promise};
use std::time::Duration;

/// What a client sends, and waits for.
const LINE: [u8; 64] = [b'.'; 64];

fn main() {
    let depth = promise("TCP echo of 64 bytes, one process per connection, 1,000 connections");
    let (erlang, go) = (Peer::erlang("echo"), Peer::go("echo"));
    let ours = Server::start(command("echo"));
    let [erlang, go] = [erlang, go].map(|peer| peer.command(&[]).map(Server::start));

    let time = depth.choose(Duration::from_secs(2), Duration::from_millis(100));
    let echoes = |server: &Server| load(server, &LINE, |_| Some(LINE.len()), time);
    let (mut figures, mut beside_erlang, mut beside_go) =
        (Figures::default(), Figures::default(), Figures::default());
    for _ in 0..depth.choose(5, 1) {
        figures.push(echoes(&ours));
        beside_erlang.extend(erlang.as_ref().map(echoes));
        beside_go.extend(go.as_ref().map(echoes));
    }
    Row::new("echoes", "/s", &figures)
        .beside("Erlang", &beside_erlang)
        .print(Bar::AtLeastTimes(1.0));
    Row::new("echoes", "/s", &figures)
        .beside("Go", &beside_go)
        .print(Bar::AtLeastTimes(0.8));
}
