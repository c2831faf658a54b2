//! A bank in a file. Processes don't share memory, but they can share a database.
//!
//! Every clerk is a process with its own connection. Clerks transfer money concurrently, and each
//! transfer is a transaction: no process ever sees money in transit, even if a clerk dies in the
//! middle of a transfer. The file is in the directory that the program runs in.

use lunatic::sqlite::{Connection, Error};
use lunatic::{Mailbox, ReceiveError, Task, process};
use std::time::Duration;

const FILE: &str = "bank.db";
const CLERKS: u32 = 4;
const TRANSFERS: u32 = 10;

#[lunatic::main]
fn main(mailbox: Mailbox<()>) -> Result<(), Error> {
    let connection = Connection::open(FILE)?;
    connection.execute_batch(
        "DROP TABLE IF EXISTS accounts;
         CREATE TABLE accounts (owner TEXT PRIMARY KEY, balance INTEGER NOT NULL CHECK (balance >= 0));",
    )?;
    let mut insert = connection.prepare("INSERT INTO accounts VALUES (?, ?)")?;
    for (owner, balance) in [("Ada", 1000), ("Grace", 1000)] {
        insert.execute((owner, balance))?;
    }
    drop(insert);

    let clerks: Vec<Task<u32>> = (0..CLERKS)
        .map(|_| Task::spawn((), clerk).expect("the clerk can be spawned"))
        .collect();
    let done: u32 = clerks
        .into_iter()
        .map(|clerk| clerk.result().expect("a clerk does not fail"))
        .sum();
    println!("{done} transfers");

    // This process dies after withdrawing money from one account and before depositing it in
    // another.
    let fraud = process::spawn(|_: Mailbox<()>| {
        let connection = Connection::open(FILE).expect("`main` created the file");
        connection
            .execute_batch("BEGIN; UPDATE accounts SET balance = 0 WHERE owner = 'Ada'")
            .expect("no other process is still writing");
        std::process::exit(3);
    });
    fraud.expect("another process can be spawned").monitor();
    let Err(ReceiveError::Signal(signal)) = mailbox.receive() else {
        panic!("no process sends a message")
    };
    println!("the last process {}", signal.reason);

    for row in connection.query("SELECT owner, balance FROM accounts ORDER BY owner", ())? {
        println!(
            "{}: {}",
            row.get::<String>("owner")?,
            row.get::<i64>("balance")?
        );
    }
    let refused =
        transfer(&connection, "Ada", "Grace", 5_000).expect_err("Ada has less money than that");
    println!("5000 more: {refused}");
    Ok(())
}

/// Transfers money back and forth, slightly more to Grace, and returns the number of transfers.
fn clerk(_: ()) -> u32 {
    let connection = Connection::open(FILE).expect("`main` created the file");
    // The clerks write all the time, so each has to wait its turn.
    connection.set_busy_timeout(Duration::from_secs(60));
    for _ in 0..TRANSFERS {
        transfer(&connection, "Ada", "Grace", 3).expect("Ada has enough money");
        transfer(&connection, "Grace", "Ada", 2).expect("Grace has enough money");
    }
    2 * TRANSFERS
}

fn transfer(connection: &Connection, from: &str, to: &str, amount: i64) -> Result<(), Error> {
    connection.transaction(|connection| {
        let add = "UPDATE accounts SET balance = balance + ? WHERE owner = ?";
        connection.execute(add, (-amount, from))?;
        connection.execute(add, (amount, to))?;
        Ok(())
    })
}
