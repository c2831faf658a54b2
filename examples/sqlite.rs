//! A bank in a file: processes that share nothing share a database.
//!
//! Every clerk is a process with a connection of its own. They transfer money at the same time, and each transfer is a
//! transaction: nobody ever sees money that is on its way, also not when a clerk dies in the middle of one. The file is
//! in the directory where the program is run.

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
        .map(|_| Task::spawn((), clerk).expect("there is room for clerks"))
        .collect();
    let done: u32 = clerks
        .into_iter()
        .map(|clerk| clerk.result().expect("a clerk comes to an end"))
        .sum();
    println!("{done} transfers");

    // This one dies with the money taken from one account and not yet given to the other.
    let fraud = process::spawn(|_: Mailbox<()>| {
        let connection = Connection::open(FILE).expect("the file is there");
        connection
            .execute_batch("BEGIN; UPDATE accounts SET balance = 0 WHERE owner = 'Ada'")
            .expect("it is not locked");
        std::process::exit(3);
    });
    fraud.expect("there is room for one more").monitor();
    let Err(ReceiveError::Signal(signal)) = mailbox.receive() else {
        panic!("nobody sends anything")
    };
    println!("the last one {}", signal.reason);

    for row in connection.query("SELECT owner, balance FROM accounts ORDER BY owner", ())? {
        println!(
            "{}: {}",
            row.get::<String>("owner")?,
            row.get::<i64>("balance")?
        );
    }
    let refused = transfer(&connection, "Ada", "Grace", 5_000).expect_err("nobody has so much");
    println!("5000 more: {refused}");
    Ok(())
}

/// Transfers money to and fro, a little more to Grace, and returns how often.
fn clerk(_: ()) -> u32 {
    let connection = Connection::open(FILE).expect("the file is there");
    // All of them want to write all the time, and each has to wait for its turn.
    connection.set_busy_timeout(Duration::from_secs(60));
    for _ in 0..TRANSFERS {
        transfer(&connection, "Ada", "Grace", 3).expect("Ada has enough");
        transfer(&connection, "Grace", "Ada", 2).expect("Grace has enough");
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
