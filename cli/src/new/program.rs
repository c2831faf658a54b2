use lunatic::{Mailbox, Process, process};

#[lunatic::main]
fn main(mailbox: Mailbox<String>) {
    let this = process::this(&mailbox);
    // The function runs in a process of its own, with memory of its own. What it is to know goes along as a value.
    process::spawn_with((this, "world".to_string()), greet).expect("there is room for a second process");
    println!("{}", mailbox.receive().expect("the process sends before it ends"));
}

fn greet((parent, name): (Process<String>, String), _: Mailbox<()>) {
    parent.send(format!("Hello, {name}!"));
}

#[cfg(test)]
mod tests {
    use super::*;

    // Runs in the machine, apart from all other tests: `cargo test`.
    #[lunatic::test]
    fn a_process_greets(mailbox: Mailbox<String>) {
        let this = process::this(&mailbox);
        process::spawn_with((this, "tests".to_string()), greet).expect("there is room for a second process");
        assert_eq!(mailbox.receive().expect("the process sends before it ends"), "Hello, tests!");
    }
}
