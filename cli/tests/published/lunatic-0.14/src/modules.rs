//! Modules that a program loads while it runs. The test lays `plugin.wasm` beside the program.

use crate::mailbox;
use lunatic::serializer::Bincode;
use lunatic::{LinkDiedSignal, Mailbox, MessageSignal, Param, Process, Tag, WasmModule};

fn plugin() -> WasmModule {
    let bytes = std::fs::read("plugin.wasm").expect("the test laid it there");
    WasmModule::new(&bytes).expect("it is a module")
}

/// Spawns the export that traps where the other parameters are not these, and then sends an empty message to a process,
/// with the tag 77.
fn check(module: &WasmModule, parent: Process<()>) {
    let parameters = [Param::I32(-1), Param::I64(parent.id() as i64), Param::V128(-2)];
    module.spawn::<(), Bincode>("check", &parameters).expect("it has the export");
}

fn checked() -> Tag {
    Tag::special(77).expect("it is one for programs")
}

pub fn an_export_runs_with_its_parameters() {
    let mailbox = mailbox::<()>();
    check(&plugin(), mailbox.this());
    println!("{:?}", mailbox.tag_receive(&[checked()]));
}

pub fn a_module_can_be_sent_in_a_message() {
    let mailbox = mailbox::<()>();
    let child = Process::spawn_link(mailbox.this(), |parent, modules: Mailbox<WasmModule>| {
        check(&modules.receive(), parent);
    });
    child.send(plugin());
    println!("{:?}", mailbox.tag_receive(&[checked()]));
}

pub fn an_invalid_module_is_an_error() {
    for bytes in [&b""[..], b"no module", b"\0asm\x01\0\0\0\xff"] {
        let error = WasmModule::new(bytes).err().map(|error| error.to_string());
        println!("{}", error.is_some_and(|text| !text.is_empty()));
    }
}

pub fn a_linked_module_reports_its_exit() {
    let mailbox = mailbox::<()>().catch_link_failure();
    let tag = Tag::special(99).expect("it is one for programs");
    plugin().spawn_link::<(), Bincode>("fail", &[], tag).expect("it has the export");
    match mailbox.receive() {
        MessageSignal::Signal(LinkDiedSignal(tag)) => println!("tag {}", tag.id()),
        MessageSignal::Message(()) => println!("a message"),
    }
}

pub fn a_missing_export_is_an_error() {
    let error = plugin().spawn::<(), Bincode>("missing", &[]).err().map(|error| error.to_string());
    println!("{}", error.is_some_and(|text| text.contains("missing")));
}
