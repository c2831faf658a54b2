use lunatic::{Mailbox, process};

#[lunatic::main]
fn main(mailbox: Mailbox<String>) {
    let this = process::this(&mailbox);
    // The closure runs in a process of its own, with memory of its own. It can capture nothing: what it is to know goes
    // along as a value.
    process::spawn_with((this, "world".to_string()), |(parent, name), _: Mailbox<()>| {
        parent.send(format!("Hello, {name}!"));
    })
    .expect("there is room for a second process");
    println!("{}", mailbox.receive().expect("the process sends before it ends"));
}
