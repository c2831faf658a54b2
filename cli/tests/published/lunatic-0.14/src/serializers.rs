//! Tests serializers, which determine the format of the messages between two processes.

use lunatic::serializer::{Bincode, CanSerialize, Json, MessagePack};
use lunatic::{Mailbox, Process};

#[derive(serde::Serialize, serde::Deserialize, Debug)]
enum Shape {
    Circle { radius: f64 },
    Path(Vec<(i32, i64)>, Option<String>),
    Nothing,
}

fn echo<S>((): (), mailbox: Mailbox<(Process<Shape, S>, Shape), S>)
where
    S: CanSerialize<(Process<Shape, S>, Shape)> + CanSerialize<Shape>,
{
    loop {
        let (sender, shape) = mailbox.receive();
        sender.send(shape);
    }
}

fn send_and_receive<S>()
where
    S: CanSerialize<(Process<Shape, S>, Shape)> + CanSerialize<Shape> + CanSerialize<()>,
    S: CanSerialize<lunatic::protocol::ProtocolCapture<()>>,
{
    let mailbox: Mailbox<Shape, S> = unsafe { Mailbox::new() };
    let child = Process::<(Process<Shape, S>, Shape), S>::spawn_link((), echo::<S>);
    let path = Shape::Path(vec![(-1, i64::MAX), (i32::MIN, 0)], Some("ä \"quoted\" 語".to_owned()));
    for shape in [Shape::Circle { radius: 0.1 }, path, Shape::Nothing] {
        child.send((mailbox.this(), shape));
        println!("{:?}", mailbox.receive());
    }
    child.unlink();
    child.kill();
}

pub fn bincode_json_and_message_pack_carry_the_same_values() {
    send_and_receive::<Bincode>();
    send_and_receive::<Json>();
    send_and_receive::<MessagePack>();
}

fn pass_on<S>()
where
    S: CanSerialize<Process<u32, S>> + CanSerialize<u32>,
    S: CanSerialize<lunatic::protocol::ProtocolCapture<Process<u32, S>>>,
{
    let mailbox: Mailbox<u32, S> = unsafe { Mailbox::new() };
    Process::<u32, S>::spawn_link(mailbox.this(), |parent, _: Mailbox<u32, S>| parent.send(7));
    println!("{}", mailbox.receive());
}

pub fn a_process_can_be_sent_with_each_serializer() {
    pass_on::<Bincode>();
    pass_on::<Json>();
    pass_on::<MessagePack>();
}
