//! Tests SQLite. The library supports only one connection per process: the first.

use lunatic::spawn_link;
use lunatic::sqlite::{Query, SqliteClient, SqliteCode, Value};

fn memory() -> SqliteClient {
    SqliteClient::connect(":memory:").expect("an in-memory database can always be opened")
}

pub fn rows_come_back_as_they_were_inserted() {
    let client = memory();
    client.execute("CREATE TABLE things (a, b, c, d, e)").expect("the statement is valid");
    client.execute("INSERT INTO things VALUES (NULL, x'00ff', 'text', 0.5, 9007199254740993)").expect("the statement is valid");
    println!("{:?}", client.query("SELECT * FROM things"));
    println!("{:?}", client.query("SELECT * FROM things WHERE a = 1"));
}

pub fn values_are_bound_by_position() {
    let client = memory();
    let statement = client.prepare_query("SELECT ?, ?, ?, ?, ?");
    let statement = statement.bind(1).bind("two").bind(3.5).bind(()).bind(vec![5u8, 6]);
    println!("{:?}", statement.execute());
}

pub fn rows_are_iterated() {
    let client = memory();
    let numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n";
    let rows = client.prepare_query(numbers).execute_iter().take(3);
    println!("{:?}", rows.flatten().filter_map(Value::into_int64).collect::<Vec<_>>());
}

pub fn an_error_has_a_code() {
    let client = memory();
    let error = client.execute("SELEC 1").expect_err("the text is not SQL");
    println!("{}", error.code == SqliteCode::Error);
    client.execute("CREATE TABLE once (a UNIQUE)").expect("the statement is valid");
    client.execute("INSERT INTO once VALUES (1)").expect("the value is not in the table yet");
    let error = client.execute("INSERT INTO once VALUES (1)").expect_err("the value is inserted a second time");
    println!("{:?}", error.code);
}

pub fn a_file_keeps_its_tables() {
    // Each connection belongs to its own process.
    let writer = spawn_link!(@task || {
        let client = SqliteClient::connect("things.db").expect("the current directory is granted");
        client.execute("CREATE TABLE things (a); INSERT INTO things VALUES (7)").is_ok()
    });
    println!("{}", writer.result());
    println!("{}", std::fs::metadata("things.db").is_ok());
    let client = SqliteClient::connect("things.db").expect("the current directory is granted");
    println!("{:?}", client.query("SELECT a FROM things"));
    // No other directory is granted.
    let elsewhere = spawn_link!(@task || SqliteClient::connect("/etc/things.db").is_err());
    println!("{}", elsewhere.result());
}
