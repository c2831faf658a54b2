use lunatic::{Mailbox, Process, process};

#[lunatic::main]
fn main(mailbox: Mailbox<String>) {
    let this = process::this(&mailbox);
    // The function runs in its own process, with its own memory. The values it needs are passed to
    // it.
    process::spawn_with((this, "world".to_string()), greet).expect("there is room for a second process");
    println!("{}", mailbox.receive().expect("the process sends before it ends"));
}

fn greet((parent, name): (Process<String>, String), _: Mailbox<()>) {
    parent.send(format!("Hello, {name}!"));
}

#[cfg(test)]
mod tests {
    use super::*;

    // `cargo test` runs this test in the machine, isolated from all other tests.
    #[lunatic::test]
    fn a_process_greets(mailbox: Mailbox<String>) {
        let this = process::this(&mailbox);
        process::spawn_with((this, "tests".to_string()), greet).expect("there is room for a second process");
        assert_eq!(mailbox.receive().expect("the process sends before it ends"), "Hello, tests!");
    }
}
