//! Tests modules that a program loads at run time. The test creates `plugin.wasm` in the
//! program's directory.

use crate::mailbox;
use lunatic::serializer::Bincode;
use lunatic::{LinkDiedSignal, Mailbox, MessageSignal, Param, Process, Tag, WasmModule};

fn plugin() -> WasmModule {
    let bytes = std::fs::read("plugin.wasm").expect("the test has created the file");
    WasmModule::new(&bytes).expect("the module is valid")
}

/// Spawns the export `check`, which traps unless its first and last parameters have the expected
/// values. If they do, it sends an empty message with the tag 77 to a process.
fn check(module: &WasmModule, parent: Process<()>) {
    let parameters = [Param::I32(-1), Param::I64(parent.id() as i64), Param::V128(-2)];
    module.spawn::<(), Bincode>("check", &parameters).expect("the module has this export");
}

fn checked() -> Tag {
    Tag::special(77).expect("the tag is in the range for programs")
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
    for bytes in [&b""[..], b"not a module", b"\0asm\x01\0\0\0\xff"] {
        let error = WasmModule::new(bytes).err().map(|error| error.to_string());
        println!("{}", error.is_some_and(|text| !text.is_empty()));
    }
}

pub fn a_linked_module_reports_its_exit() {
    let mailbox = mailbox::<()>().catch_link_failure();
    let tag = Tag::special(99).expect("the tag is in the range for programs");
    plugin().spawn_link::<(), Bincode>("fail", &[], tag).expect("the module has this export");
    match mailbox.receive() {
        MessageSignal::Signal(LinkDiedSignal(tag)) => println!("tag {}", tag.id()),
        MessageSignal::Message(()) => println!("a message"),
    }
}

pub fn a_missing_export_is_an_error() {
    let error = plugin().spawn::<(), Bincode>("missing", &[]).err().map(|error| error.to_string());
    println!("{}", error.is_some_and(|text| text.contains("missing")));
}
