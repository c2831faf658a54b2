//! Tests protocols: two processes send each other values whose order and types the protocol
//! specifies.

use lunatic::protocol::{Branch, End, Offer, Pop, Protocol, Rec, Recv, Send};
use lunatic::serializer::MessagePack;
use lunatic::{spawn_link, Process};

pub fn both_sides_follow_the_protocol() {
    type Add = Recv<i32, Recv<i32, Send<i32, End>>>;
    let child = Process::spawn_link(1, |captured: i32, protocol: Protocol<Add>| {
        let (protocol, a) = protocol.receive();
        let (protocol, b) = protocol.receive();
        let _ = protocol.send(captured + a + b);
    });
    let (_, sum) = child.send(2).send(3).receive();
    println!("{sum}");
}

pub fn a_protocol_repeats_until_one_side_ends_it() {
    type Double = Offer<Recv<u64, Send<u64, Pop>>, End>;
    let protocol = Process::spawn_link((), |(), protocol: Protocol<Rec<Double>>| {
        let mut protocol = protocol.repeat();
        while let Branch::Left(more) = protocol.offer() {
            let (more, number) = more.receive();
            protocol = more.send(number * 2).pop().repeat();
        }
    });
    let mut protocol = protocol.repeat();
    for number in 0..5 {
        let (more, doubled) = protocol.select_left().send(number).receive();
        println!("{doubled}");
        protocol = more.pop().repeat();
    }
    let _ = protocol.select_right();
}

pub fn a_protocol_in_message_pack() {
    let protocol = Process::spawn_link((), |_, protocol: Protocol<Recv<Vec<f64>, Send<f64, End>>, MessagePack>| {
        let (protocol, numbers) = protocol.receive();
        let _ = protocol.send(numbers.iter().sum());
    });
    let (_, sum) = protocol.send(vec![0.5, 0.25, 0.125]).receive();
    println!("{sum}");
}

pub fn a_protocol_that_is_dropped_early_fails_both_sides() {
    let protocol = spawn_link!(|_protocol: Protocol<Send<(), End>>| {});
    let _ = protocol.receive();
    println!("the parent is still alive");
}
