//! Tests for databases: the functions, the statements that are allowed, and what a process that is
//! killed during a query leaves behind.

use crate::support::{Lab, guest, import, signature};
use lunatic_abi::sqlite::{Key, List, Value, write_binding, write_length};
use lunatic_abi::{HOST_FUNCTIONS, Limit};
use lunatic_vm::{Access, CallError, Config, Environment, Exit, Process, Val, Vm};
use std::fmt::Write;
use std::fs;
use std::path::Path;
use tempfile::TempDir;

/// The SQLite result codes that the tests use.
mod code {
    pub(super) const OK: u32 = 0;
    pub(super) const ERROR: u32 = 1;
    pub(super) const BUSY: u32 = 5;
    pub(super) const NOMEM: u32 = 7;
    pub(super) const READONLY: u32 = 8;
    pub(super) const CORRUPT: u32 = 11;
    pub(super) const FULL: u32 = 13;
    pub(super) const CANTOPEN: u32 = 14;
    pub(super) const TOOBIG: u32 = 18;
    pub(super) const CONSTRAINT: u32 = 19;
    pub(super) const MISUSE: u32 = 21;
    pub(super) const AUTH: u32 = 23;
    pub(super) const RANGE: u32 = 25;
    pub(super) const NOTADB: u32 = 26;
    pub(super) const ROW: u32 = 100;
    pub(super) const DONE: u32 = 101;
    pub(super) const CONSTRAINT_UNIQUE: u32 = 2067;
}

/// The addresses at which the guest stores the test's bytes, results, the blocks that
/// `lunatic_alloc` returns, and rows.
const TEXT: u32 = 1 << 16;
const RESULT: u32 = 1024;
const GIVEN: u32 = 1 << 18;
const ROWS: u32 = 1 << 20;
const ROWS_LENGTH: u32 = 1 << 16;

/// A guest that exports an allocator and every function in the namespace, so that the test can call
/// them.
fn passing_on(allocate: &str) -> String {
    let rows = || {
        HOST_FUNCTIONS
            .iter()
            .filter(|row| row.namespace == "lunatic::sqlite" || row.namespace == "lunatic::error")
    };
    let imports: String = rows()
        .map(|row| import(&format!("{}::{}", row.namespace, row.name)))
        .collect();
    let mut text = format!(
        "(module {imports} (import \"test\" \"say\" (func $say (param i64)))
            (memory (export \"memory\") 40) {allocate}"
    );
    for row in rows() {
        let _ = write!(text, "(func (export \"{}\"){}", row.name, signature(row));
        let arguments: String = (0..row.parameter_types().count())
            .map(|index| format!(" (local.get {index})"))
            .collect();
        let _ = writeln!(text, " (call ${}{arguments}))", row.name);
    }
    text.push(')');
    text
}

/// An allocator that always returns the same address, which is enough for one block at a time.
const ALLOCATE: &str =
    "(func (export \"lunatic_alloc\") (param i32) (result i32) (i32.const 262144))";

/// An operation that the test wants the process to perform.
enum Order {
    Call(&'static str, Vec<Val>),
    Write(u32, Vec<u8>),
    Read(u32, usize),
}

/// The result of an operation.
enum Answer {
    Results(Vec<Val>),
    Bytes(Vec<u8>),
    Ended(Exit),
}

/// A process that makes the calls that the test requests, one at a time.
struct Client<'a> {
    lab: &'a Lab,
    process: Process,
    orders: async_channel::Sender<Order>,
    answers: async_channel::Receiver<Answer>,
}

/// How a call to an extension function failed: SQLite's extended code and a message.
type Failed = (u32, String);

/// An owned value.
#[derive(Clone, Debug, PartialEq)]
enum Kept {
    Null,
    Blob(Vec<u8>),
    Text(String),
    Real(f64),
    Integer(i64),
}

impl From<Value<'_>> for Kept {
    fn from(value: Value<'_>) -> Kept {
        match value {
            Value::Null => Kept::Null,
            Value::Blob(bytes) => Kept::Blob(bytes.to_vec()),
            Value::Text(text) => Kept::Text(text.to_string()),
            Value::Real(number) => Kept::Real(number),
            Value::Integer(number) => Kept::Integer(number),
        }
    }
}

fn text(text: &str) -> Kept {
    Kept::Text(text.to_string())
}

/// Decodes a row.
fn row(bytes: &[u8]) -> Vec<Kept> {
    let mut list = List::new(bytes).expect("a row is a list");
    std::iter::from_fn(|| list.value().expect("the values are well-formed"))
        .map(Kept::from)
        .collect()
}

/// Encodes a list of values for parameters.
fn bindings(values: &[(Key<'_>, Value<'_>)]) -> Vec<u8> {
    let mut list = Vec::new();
    write_length(&mut list, values.len());
    for (key, value) in values {
        write_binding(&mut list, *key, *value);
    }
    list
}

impl<'a> Client<'a> {
    fn new(lab: &'a Lab, environment: &Environment) -> Client<'a> {
        Client::of(lab, environment, ALLOCATE)
    }

    fn of(lab: &'a Lab, environment: &Environment, allocate: &str) -> Client<'a> {
        let module = lab.module(&passing_on(allocate));
        let (orders, ordered) = async_channel::unbounded();
        let (answer, answers) = async_channel::unbounded();
        let process = environment
            .drive(&module, "client", move |live| {
                Box::pin(async move {
                    while let Ok(order) = ordered.recv().await {
                        let told = match order {
                            Order::Call(function, parameters) => {
                                match live.call(function, &parameters).await {
                                    Ok(results) => Answer::Results(results),
                                    Err(CallError::Ended(exit)) => {
                                        let _ = answer.send(Answer::Ended(exit.clone())).await;
                                        return exit;
                                    }
                                    Err(error) => panic!("{error}"),
                                }
                            }
                            Order::Write(address, bytes) => {
                                live.write(address, &bytes).expect("the write is in bounds");
                                continue;
                            }
                            Order::Read(address, length) => Answer::Bytes(
                                live.read(address, length).expect("the read is in bounds"),
                            ),
                        };
                        let _ = answer.send(told).await;
                    }
                    Exit::Normal
                })
            })
            .expect("no limit applies");
        Client {
            lab,
            process,
            orders,
            answers,
        }
    }

    /// Spawns a client in an environment that grants all functions and a directory.
    fn at(lab: &'a Lab, directory: &Path) -> Client<'a> {
        Client::new(
            lab,
            &lab.environment_with(|config| grant(config, directory, Access::Write)),
        )
    }

    fn order(&self, order: Order) {
        self.orders
            .try_send(order)
            .expect("the client is alive and is receiving");
    }

    fn begin(&self, function: &'static str, parameters: Vec<Val>) {
        self.order(Order::Call(function, parameters));
    }

    /// Waits for the result of a call. The result is 0 if the call has no result.
    fn result(&self) -> Result<u64, Exit> {
        match self.lab.wait_for("a call's result", self.answers.recv()) {
            Ok(Answer::Results(results)) => Ok(match results.first() {
                Some(Val::I32(number)) => number.cast_unsigned().into(),
                Some(Val::I64(number)) => number.cast_unsigned(),
                _ => 0,
            }),
            Ok(Answer::Ended(exit)) => Err(exit),
            Ok(Answer::Bytes(_)) => panic!("the client sent bytes instead of a result"),
            // The process was terminated from outside.
            Err(_) => Err(self.lab.exit(&self.process)),
        }
    }

    fn call(&self, function: &'static str, parameters: Vec<Val>) -> Result<u64, Exit> {
        self.begin(function, parameters);
        self.result()
    }

    /// Makes a call that must return.
    #[track_caller]
    fn do_call(&self, function: &'static str, parameters: Vec<Val>) -> u64 {
        self.call(function, parameters)
            .unwrap_or_else(|exit| panic!("{function}: {exit}"))
    }

    /// Makes a call that must trap in the called function, and returns the reason.
    #[track_caller]
    fn trapped(&self, function: &'static str, parameters: Vec<Val>) -> String {
        let exit = self
            .call(function, parameters)
            .expect_err("the call must trap");
        let reason = exit
            .trap()
            .unwrap_or_else(|| panic!("{function}: {exit}"))
            .reason
            .clone();
        assert!(
            reason.contains(&format!("in `lunatic::sqlite::{function}`")),
            "{reason}"
        );
        reason
    }

    fn write(&self, bytes: &[u8]) -> [Val; 2] {
        self.order(Order::Write(TEXT, bytes.to_vec()));
        [Val::I32(TEXT as i32), Val::I32(bytes.len() as i32)]
    }

    fn read(&self, address: u32, length: usize) -> Vec<u8> {
        self.order(Order::Read(address, length));
        match self
            .lab
            .wait_for("bytes from the client", self.answers.recv())
        {
            Ok(Answer::Bytes(bytes)) => bytes,
            _ => panic!("the client did not send bytes"),
        }
    }

    fn read_u64(&self, address: u32) -> u64 {
        u64::from_le_bytes(
            self.read(address, 8)
                .try_into()
                .expect("the slice has 8 bytes"),
        )
    }

    /// Returns the message of the error whose id the last call wrote to `RESULT`, and drops the
    /// error.
    fn error(&self) -> String {
        let id = self.read_u64(RESULT).cast_signed();
        let length = self.do_call("string_size", vec![Val::I64(id)]) as usize;
        self.do_call("to_string", vec![Val::I64(id), Val::I32(GIVEN as i32)]);
        self.do_call("drop", vec![Val::I64(id)]);
        String::from_utf8(self.read(GIVEN, length)).expect("error messages are UTF-8")
    }

    fn open(&self, path: &str) -> Result<i64, String> {
        let [at, length] = self.write(path.as_bytes());
        match self.do_call("open", vec![at, length, Val::I32(RESULT as i32)]) {
            0 => Ok(self.read_u64(RESULT).cast_signed()),
            1 => Err(self.error()),
            other => panic!("open returned {other}"),
        }
    }

    #[track_caller]
    fn opened(&self, path: &str) -> i64 {
        self.open(path).unwrap_or_else(|error| panic!("{error}"))
    }

    fn execute(&self, connection: i64, sql: &str) -> u32 {
        let [at, length] = self.write(sql.as_bytes());
        self.do_call("execute", vec![Val::I64(connection), at, length]) as u32
    }

    /// Makes a call that returns 0 or an SQLite result code. On success, the call writes a number;
    /// on failure, an error's id.
    fn checked(&self, function: &'static str, parameters: Vec<Val>) -> Result<u64, Failed> {
        match self.do_call(function, parameters) as u32 {
            code::OK => Ok(self.read_u64(RESULT)),
            code => Err((code, self.error())),
        }
    }

    fn execute_all(&self, connection: i64, sql: &str) -> Result<(), Failed> {
        let [at, length] = self.write(sql.as_bytes());
        self.checked(
            "execute_all",
            vec![Val::I64(connection), at, length, Val::I32(RESULT as i32)],
        )
        .map(drop)
    }

    fn prepare(&self, connection: i64, sql: &str) -> Result<i64, Failed> {
        let [at, length] = self.write(sql.as_bytes());
        let parameters = vec![Val::I64(connection), at, length, Val::I32(RESULT as i32)];
        self.checked("prepare", parameters).map(u64::cast_signed)
    }

    fn bind(&self, statement: i64, values: &[(Key<'_>, Value<'_>)]) -> Result<(), Failed> {
        let [at, length] = self.write(&bindings(values));
        self.checked(
            "bind",
            vec![Val::I64(statement), at, length, Val::I32(RESULT as i32)],
        )
        .map(drop)
    }

    fn step(&self, statement: i64) -> Result<Option<Vec<Kept>>, Failed> {
        let (buffer, length) = (Val::I32(ROWS as i32), Val::I32(ROWS_LENGTH as i32));
        let parameters = vec![Val::I64(statement), buffer, length, Val::I32(RESULT as i32)];
        match self.do_call("step_row", parameters) as u32 {
            code::ROW => {
                let length = self.read_u64(RESULT) as usize;
                assert!(
                    length <= ROWS_LENGTH as usize,
                    "the tests' rows fit in the buffer"
                );
                Ok(Some(row(&self.read(ROWS, length))))
            }
            code::DONE => Ok(None),
            code => Err((code, self.error())),
        }
    }

    /// Returns all rows of a query.
    fn query(&self, connection: i64, sql: &str) -> Result<Vec<Vec<Kept>>, Failed> {
        let statement = self.prepare(connection, sql)?;
        let rows = std::iter::from_fn(|| self.step(statement).transpose()).collect();
        self.do_call("sqlite3_finalize", vec![Val::I64(statement)]);
        rows
    }

    /// Returns the single value of a query's only row.
    #[track_caller]
    fn value(&self, connection: i64, sql: &str) -> Kept {
        match self.query(connection, sql).as_deref() {
            Ok([row]) if row.len() == 1 => row[0].clone(),
            other => panic!("{sql}: {other:?}"),
        }
    }

    /// Returns the bytes that a call wrote to a block that it allocated in the guest.
    fn given(&self, function: &'static str, parameters: &[Val]) -> Vec<u8> {
        // The length is 32 bits wide. The bytes after it must not change.
        self.order(Order::Write(RESULT, vec![0xff; 8]));
        let parameters = [parameters, &[Val::I32(RESULT as i32)]].concat();
        assert_eq!(
            self.do_call(function, parameters),
            GIVEN.into(),
            "the address is the one that `lunatic_alloc` returned"
        );
        let length = self.read_u64(RESULT);
        assert_eq!(length >> 32, 0xffff_ffff, "{function} writes four bytes");
        self.read(GIVEN, (length & 0xffff_ffff) as usize)
    }
}

fn grant(config: &mut Config, path: &Path, access: Access) {
    config
        .preopen(path, ".", access)
        .expect("the directory exists");
}

fn temporary() -> TempDir {
    tempfile::tempdir().expect("a temporary directory can be created")
}

/// A query that never ends.
const ENDLESS: &str =
    "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t) SELECT max(n) FROM t";

#[test]
fn the_published_functions_do_what_the_published_guest_expects() {
    let lab = Lab::new();
    let client = Client::new(&lab, &lab.environment());
    // The published guest opens a database with 0 as the address of the result, and assumes that
    // the id of the first connection is 0.
    let [at, length] = client.write(b":memory:");
    assert_eq!(client.do_call("open", vec![at, length, Val::I32(0)]), 0);
    assert_eq!(client.read_u64(0), 0);
    assert_eq!(
        client.execute(0, "CREATE TABLE t (n INTEGER, x REAL, s TEXT, b BLOB)"),
        code::OK
    );
    assert_eq!(
        client.execute(
            0,
            "INSERT INTO t VALUES (1, 1.5, 'one', x'01'); INSERT INTO t VALUES (2, 2.5, NULL, x'')"
        ),
        0
    );
    assert_eq!(client.do_call("sqlite3_changes", vec![Val::I64(0)]), 1);

    let [at, length] = client.write(b"SELECT * FROM t WHERE n >= ?1 ORDER BY n; SELECT 2");
    assert_eq!(
        client.do_call("query_prepare", vec![Val::I64(0), at, length]),
        0,
        "statement ids also start at 0"
    );
    let [at, length] = client.write(&bindings(&[(Key::Number(1), Value::Integer(0))]));
    client.do_call("bind_value", vec![Val::I64(0), at, length]);
    assert_eq!(client.do_call("column_count", vec![Val::I64(0)]), 4);
    assert_eq!(
        client.given("column_name", &[Val::I64(0), Val::I32(2)]),
        b"s"
    );
    let names = client.given("column_names", &[Val::I64(0)]);
    let mut names = List::new(&names).expect("the result is a list");
    assert_eq!(
        std::array::from_fn(|_| names.text().expect("the list contains strings")),
        [Some("n"), Some("x"), Some("s"), Some("b"), None]
    );
    assert_eq!(
        row(&client.given("read_row", &[Val::I64(0)])),
        vec![Kept::Null; 4],
        "there is no row yet"
    );

    let step = || client.do_call("sqlite3_step", vec![Val::I64(0)]) as u32;
    assert_eq!(step(), code::ROW);
    let one = [
        Kept::Integer(1),
        Kept::Real(1.5),
        text("one"),
        Kept::Blob(vec![1]),
    ];
    assert_eq!(row(&client.given("read_row", &[Val::I64(0)])), one);
    // A single value is encoded in the same way as in a row.
    assert_eq!(
        client.given("read_column", &[Val::I64(0), Val::I32(0)]),
        [4, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]
    );
    assert_eq!(step(), code::ROW);
    let two = [
        Kept::Integer(2),
        Kept::Real(2.5),
        Kept::Null,
        Kept::Blob(vec![]),
    ];
    assert_eq!(row(&client.given("read_row", &[Val::I64(0)])), two);
    assert_eq!(step(), code::DONE);
    client.do_call("statement_reset", vec![Val::I64(0)]);
    assert_eq!(
        step(),
        code::ROW,
        "the statement starts again with the bound value"
    );
    client.do_call("sqlite3_finalize", vec![Val::I64(0)]);
    assert!(
        client
            .trapped("sqlite3_step", vec![Val::I64(0)])
            .contains("there is no statement 0")
    );
}

#[test]
fn a_failed_execute_returns_sqlites_code_and_last_error_returns_details() {
    let lab = Lab::new();
    let client = Client::new(&lab, &lab.environment());
    let connection = client.opened(":memory:");
    for (sql, code, words) in [
        ("CREATE TABLE t (n UNIQUE)", code::OK, ""),
        ("SELEC 1", code::ERROR, "near \"SELEC\": syntax error"),
        (
            "INSERT INTO t VALUES (1); INSERT INTO t VALUES (1)",
            code::CONSTRAINT,
            "UNIQUE constraint failed: t.n",
        ),
        (
            "SELECT * FROM nowhere",
            code::ERROR,
            "no such table: nowhere",
        ),
    ] {
        assert_eq!(client.execute(connection, sql), code, "{sql}");
        if code != code::OK {
            let error = client.given("last_error", &[Val::I64(connection)]);
            // The error consists of `Some(code)` and `Some(message)`.
            assert_eq!(
                (error[0], &error[1..5], error[5]),
                (1, &code.to_le_bytes()[..], 1),
                "{sql}"
            );
            let message = String::from_utf8_lossy(&error[14..]);
            assert_eq!(message, words, "{sql}");
        }
    }
    assert_eq!(
        client.value(connection, "SELECT count(*) FROM t"),
        Kept::Integer(1),
        "the statements before the failure were executed"
    );
    assert!(
        client
            .trapped(
                "last_error",
                vec![Val::I64(connection), Val::I32(RESULT as i32)]
            )
            .contains("did not fail")
    );
}

#[test]
fn a_failed_call_without_a_result_code_traps_with_sqlites_message() {
    let lab = Lab::new();
    let environment = lab.environment();
    let check = |function: &'static str, sql: &str, words: &str| {
        let client = Client::new(&lab, &environment);
        let connection = client.opened("");
        client
            .execute_all(
                connection,
                "CREATE TABLE t (n UNIQUE); INSERT INTO t VALUES (1)",
            )
            .expect("the SQL is valid");
        let parameters = if function == "query_prepare" {
            let [at, length] = client.write(sql.as_bytes());
            vec![Val::I64(connection), at, length]
        } else {
            let statement = client.prepare(connection, sql).expect("the SQL is valid");
            let [at, length] = match function {
                "bind_value" => client.write(&bindings(&[(Key::Name("other"), Value::Null)])),
                _ => [Val::I32(9), Val::I32(RESULT as i32)],
            };
            if function == "sqlite3_step" {
                vec![Val::I64(statement)]
            } else {
                vec![Val::I64(statement), at, length]
            }
        };
        let reason = client.trapped(function, parameters);
        assert!(reason.contains(words), "{reason}");
    };
    check("query_prepare", "SELEC 1", "near \"SELEC\": syntax error");
    check("query_prepare", "-- nothing", "there is no statement");
    check("query_prepare", "SELECT 1\0", "zero byte");
    check(
        "sqlite3_step",
        "INSERT INTO t VALUES (1)",
        "UNIQUE constraint failed: t.n",
    );
    check("bind_value", "SELECT :name", "no parameter `other`");
    check("column_name", "SELECT 1", "no column 9");
    check("read_column", "SELECT 1", "no column 9");
}

#[test]
fn values_can_be_bound_by_number_by_name_and_by_position() {
    let lab = Lab::new();
    let client = Client::new(&lab, &lab.environment());
    let connection = client.opened(":memory:");
    let statement = client
        .prepare(connection, "SELECT ?, :b, @c, $d, ?5")
        .expect("the SQL is valid");
    let values = [
        (Key::Position, Value::Text("zwölf")),
        (Key::Name("b"), Value::Integer(i64::MIN)),
        (Key::Name("@c"), Value::Real(-0.5)),
        (Key::Name("d"), Value::Blob(&[0, 255])),
        (Key::Number(5), Value::Null),
    ];
    client
        .bind(statement, &values)
        .expect("the statement has all of these parameters");
    let all = vec![
        text("zwölf"),
        Kept::Integer(i64::MIN),
        Kept::Real(-0.5),
        Kept::Blob(vec![0, 255]),
        Kept::Null,
    ];
    assert_eq!(client.step(statement), Ok(Some(all)));
    // A second binding replaces the first one. Parameters that are not in the list become NULL.
    client
        .bind(statement, &[(Key::Number(2), Value::Text(""))])
        .expect("the statement has this parameter");
    assert_eq!(
        client.step(statement),
        Ok(Some(vec![
            Kept::Null,
            text(""),
            Kept::Null,
            Kept::Null,
            Kept::Null
        ]))
    );
    assert_eq!(client.step(statement), Ok(None));

    for (key, words) in [
        (Key::Number(0), "no parameter 0"),
        (Key::Number(6), "no parameter 6"),
        (Key::Number(u64::MAX), "no parameter 18446744073709551615"),
        (Key::Name("e"), "no parameter `e`"),
        (Key::Name("b\0"), "no parameter"),
    ] {
        let (code, sentence) = client
            .bind(statement, &[(key, Value::Null)])
            .expect_err("the statement has no such parameter");
        assert_eq!(code, code::RANGE);
        assert!(sentence.contains(words), "{sentence}");
    }
    let [at, _] = client.write(&[255; 64]);
    let parameters = vec![
        Val::I64(statement),
        at,
        Val::I32(64),
        Val::I32(RESULT as i32),
    ];
    assert_eq!(
        client
            .checked("bind", parameters)
            .expect_err("the list is malformed")
            .0,
        code::MISUSE
    );
}

#[test]
fn extension_functions_return_an_error_with_a_message() {
    let lab = Lab::new();
    let client = Client::new(&lab, &lab.environment());
    let connection = client.opened(":memory:");
    client
        .execute_all(connection, "CREATE TABLE t (n UNIQUE)")
        .expect("the SQL is valid");
    let error = client
        .execute_all(connection, "INSERT INTO t VALUES (1), (1)")
        .expect_err("the value is inserted twice");
    assert_eq!(
        error,
        (
            code::CONSTRAINT_UNIQUE,
            "UNIQUE constraint failed: t.n".into()
        )
    );
    for (sql, code, words) in [
        ("SELEC 1", code::ERROR, "syntax error"),
        ("", code::MISUSE, "no statement"),
        (
            "SELECT 1; SELECT 2",
            code::MISUSE,
            "more than one statement",
        ),
    ] {
        let (failed, sentence) = client.prepare(connection, sql).expect_err(sql);
        assert_eq!(failed, code, "{sql}");
        assert!(sentence.contains(words), "{sentence}");
    }
    client
        .prepare(connection, "SELECT 1; -- and no more\n ;")
        .expect("the SQL is a single statement");
    let insert = client
        .prepare(connection, "INSERT INTO t VALUES (?)")
        .expect("the SQL is valid");
    client
        .bind(insert, &[(Key::Number(1), Value::Integer(7))])
        .expect("the statement has this parameter");
    assert_eq!(client.step(insert), Ok(None));
    assert_eq!(
        client.do_call("last_insert_rowid", vec![Val::I64(connection)]),
        1
    );
    let (failed, sentence) = client.step(insert).expect_err("7 is in the table already");
    assert_eq!(
        (failed, sentence.as_str()),
        (code::CONSTRAINT_UNIQUE, "UNIQUE constraint failed: t.n")
    );
    client
        .bind(insert, &[(Key::Number(1), Value::Integer(8))])
        .expect("a statement that failed can be used again");
    assert_eq!(client.step(insert), Ok(None));
    assert_eq!(
        client.value(connection, "SELECT sum(n) FROM t"),
        Kept::Integer(15)
    );
}

#[test]
fn a_row_that_does_not_fit_into_the_buffer_can_be_copied_again() {
    let lab = Lab::new();
    let client = Client::new(&lab, &lab.environment());
    let connection = client.opened(":memory:");
    let statement = client
        .prepare(connection, "SELECT 'twelve bytes' AS words")
        .expect("the SQL is valid");
    let buffer = |length: i32| [Val::I64(statement), Val::I32(ROWS as i32), Val::I32(length)];
    let stepped = client.do_call(
        "step_row",
        [&buffer(3)[..], &[Val::I32(RESULT as i32)]].concat(),
    ) as u32;
    let length = client.read_u64(RESULT);
    assert_eq!((stepped, length), (code::ROW, 8 + 4 + 8 + 12));
    assert_eq!(
        client.read(ROWS, 4),
        [1, 0, 0, 0],
        "three bytes of the row are written, and nothing after them"
    );
    assert_eq!(
        client.do_call("copy_row", buffer(length as i32).to_vec()),
        length
    );
    assert_eq!(
        row(&client.read(ROWS, length as usize)),
        [text("twelve bytes")]
    );
    assert_eq!(
        client.do_call("copy_column_names", buffer(0).to_vec()),
        8 + 8 + 5
    );
}

#[test]
fn dropping_a_connection_drops_its_statements_and_rolls_back_its_transaction() {
    let (lab, directory) = (Lab::new(), temporary());
    let client = Client::at(&lab, directory.path());
    let (one, two) = (client.opened("app.db"), client.opened("app.db"));
    assert_eq!((one, two), (0, 1));
    client
        .execute_all(one, "CREATE TABLE t (n); BEGIN; INSERT INTO t VALUES (1)")
        .expect("the database is empty");
    let of_one = client.prepare(one, "SELECT 1").expect("the SQL is valid");
    assert_eq!(client.execute(two, "INSERT INTO t VALUES (2)"), code::BUSY);
    client.do_call("drop_connection", vec![Val::I64(one)]);
    assert_eq!(
        client.value(two, "SELECT count(*) FROM t"),
        Kept::Integer(0)
    );
    assert_eq!(client.execute(two, "INSERT INTO t VALUES (2)"), code::OK);
    assert!(
        client
            .trapped("column_count", vec![Val::I64(of_one)])
            .contains("there is no statement")
    );
}

#[test]
fn a_database_in_a_granted_directory_persists() {
    let (lab, directory) = (Lab::new(), temporary());
    fs::create_dir(directory.path().join("inner")).expect("the test owns the directory");
    let client = Client::at(&lab, directory.path());
    let connection = client.opened("./inner//app.db");
    client
        .execute_all(connection, "CREATE TABLE t (n); INSERT INTO t VALUES (42)")
        .expect("the SQL is valid");
    client
        .execute_all(connection, "VACUUM; PRAGMA integrity_check; ANALYZE")
        .expect("these maintenance statements are allowed");
    assert!(directory.path().join("inner/app.db").exists());
    let other = Client::at(&lab, &directory.path().join("inner"));
    let connection = other.opened("app.db");
    assert_eq!(
        other.value(connection, "SELECT n FROM t"),
        Kept::Integer(42)
    );
}

#[test]
fn t090_a_path_that_leads_out_of_a_granted_directory_is_an_error() {
    let (lab, house) = (Lab::new(), temporary());
    let granted = house.path().join("granted");
    fs::create_dir_all(granted.join("inner")).expect("the test owns the directory");
    let secret = house.path().join("secret.db");
    fs::write(&secret, "").expect("the test owns the directory");
    for (target, link) in [("../secret.db", "link.db"), ("..", "up"), ("/", "root")] {
        std::os::unix::fs::symlink(target, granted.join(link))
            .expect("the test owns the directory");
    }
    let client = Client::at(&lab, &granted);
    for path in [
        "../secret.db",
        "inner/../../secret.db",
        "/etc/passwd",
        "link.db",
        "up/secret.db",
        "root/etc/passwd",
        "inner",
        "inner/",
        ".",
        "missing/app.db",
        "a\0b",
        "/proc/self/fd/0",
    ] {
        let error = client.open(path).expect_err(path);
        assert!(error.contains("cannot be opened"), "{path}: {error}");
    }
    // These are ordinary file names.
    for path in [
        "file:secret.db?mode=memory",
        "file:..%2fsecret.db",
        "app.db?vfs=unix",
    ] {
        let connection = client.opened(path);
        client
            .execute_all(connection, "CREATE TABLE t (n)")
            .expect("the SQL is valid");
        assert!(granted.join(path).exists(), "{path}");
    }
    assert_eq!(fs::read(&secret).expect("the file exists"), b"");
    let nothing = Client::new(&lab, &lab.environment());
    assert!(
        nothing
            .open("app.db")
            .expect_err("no directory is granted")
            .contains("is not inside any of the environment's directories")
    );
}

#[test]
fn t090_links_next_to_a_database_are_not_followed() {
    let (lab, house) = (Lab::new(), temporary());
    let (granted, outside) = (house.path().join("granted"), house.path().join("outside"));
    fs::create_dir(&granted).expect("the test owns the directory");
    let client = Client::at(&lab, &granted);
    let connection = client.opened("app.db");
    client
        .execute_all(connection, "CREATE TABLE t (n)")
        .expect("the SQL is valid");
    // The link is created after the database is opened. A guest with write access to the directory
    // could do the same.
    std::os::unix::fs::symlink("../outside", granted.join("app.db-journal"))
        .expect("the test owns the directory");
    let failed = client
        .execute_all(connection, "INSERT INTO t VALUES (1)")
        .expect_err("the insert needs a journal");
    assert_eq!(failed.0 & 0xff, code::CANTOPEN, "{failed:?}");
    assert!(!outside.exists());
}

#[test]
fn t090_a_database_stays_in_its_directory_even_if_the_path_changes() {
    let (lab, house) = (Lab::new(), temporary());
    let granted = house.path().join("granted");
    fs::create_dir_all(granted.join("inner")).expect("the test owns the directory");
    fs::create_dir(house.path().join("outside")).expect("the test owns the directory");
    let client = Client::at(&lab, &granted);
    let connection = client.opened("inner/app.db");
    client
        .execute_all(connection, "CREATE TABLE t (n)")
        .expect("the SQL is valid");
    // The directory is replaced with a link that leads out of the granted directory.
    fs::rename(granted.join("inner"), granted.join("moved")).expect("the test owns the directory");
    std::os::unix::fs::symlink("../outside", granted.join("inner"))
        .expect("the test owns the directory");
    client
        .execute_all(
            connection,
            "INSERT INTO t VALUES (1); BEGIN; INSERT INTO t VALUES (2)",
        )
        .expect("the database is open");
    assert_eq!(
        fs::read_dir(house.path().join("outside"))
            .expect("the directory exists")
            .count(),
        0
    );
    assert!(granted.join("moved/app.db-journal").exists());
}

#[test]
fn t092_databases_in_a_read_only_directory_are_read_only() {
    let (lab, directory) = (Lab::new(), temporary());
    let writer = Client::at(&lab, directory.path());
    let connection = writer.opened("app.db");
    writer
        .execute_all(connection, "CREATE TABLE t (n); INSERT INTO t VALUES (42)")
        .expect("the SQL is valid");
    writer.do_call("drop_connection", vec![Val::I64(connection)]);
    // SQLite would normally remove these files next to an empty database.
    for name in ["empty.db", "empty.db-wal", "empty.db-journal"] {
        fs::write(directory.path().join(name), "").expect("the test owns the directory");
    }
    let names = || {
        let entries = fs::read_dir(directory.path()).expect("the directory exists");
        let mut names: Vec<_> = entries
            .map(|entry| entry.expect("the test owns the directory").file_name())
            .collect();
        names.sort();
        names
    };
    let before = names();
    let reader = Client::new(
        &lab,
        &lab.environment_with(|config| grant(config, directory.path(), Access::Read)),
    );
    let connection = reader.opened("app.db");
    assert_eq!(
        reader.value(connection, "SELECT n FROM t"),
        Kept::Integer(42)
    );
    assert_eq!(
        reader.execute(connection, "INSERT INTO t VALUES (1)"),
        code::READONLY
    );
    assert_eq!(reader.execute(connection, "VACUUM"), code::READONLY);
    assert!(reader.open("new.db").is_err());
    if let Ok(empty) = reader.open("empty.db") {
        // Whether these statements fail is up to SQLite, but the VM must ensure that nothing
        // changes.
        reader.execute(empty, "SELECT * FROM sqlite_schema");
        reader.execute(empty, "CREATE TABLE t (n)");
    }
    assert_eq!(names(), before);
}

#[test]
fn no_database_file_is_mapped_as_shared_memory() {
    let (lab, directory) = (Lab::new(), temporary());
    let path = directory.path().join("app.db");
    let client = Client::at(&lab, directory.path());
    let connection = client.opened("app.db");
    assert_eq!(
        client.value(connection, "PRAGMA journal_mode = WAL"),
        text("delete")
    );
    client
        .execute_all(connection, "PRAGMA mmap_size = 1000000; CREATE TABLE t (n)")
        .expect("the setting is ignored");
    client.do_call("drop_connection", vec![Val::I64(connection)]);
    // A database's header determines which kind of journal is used. Any program that may write to
    // the file can change the header.
    let mut bytes = fs::read(&path).expect("the file exists");
    bytes[18..20].copy_from_slice(&[2, 2]);
    fs::write(&path, bytes).expect("the test owns the directory");
    let connection = client.opened("app.db");
    let (failed, sentence) = client
        .execute_all(connection, "SELECT * FROM t")
        .expect_err("a write-ahead log needs shared memory");
    assert_eq!(failed & 0xff, code::CANTOPEN, "{sentence}");
    // A connection with exclusive access does not need shared memory.
    client
        .execute_all(
            connection,
            "PRAGMA locking_mode = EXCLUSIVE; INSERT INTO t VALUES (1)",
        )
        .expect("no other connection uses the database");
    assert!(!directory.path().join("app.db-shm").exists());
}

#[test]
fn t170_statements_that_reach_beyond_the_database_are_refused_with_a_message() {
    let (lab, directory) = (Lab::new(), temporary());
    let client = Client::at(&lab, directory.path());
    let connection = client.opened("app.db");
    client
        .execute_all(connection, "CREATE TABLE t (n)")
        .expect("the SQL is valid");
    for (sql, words) in [
        ("ATTACH '/etc/passwd' AS other", "open another connection"),
        ("ATTACH 'other.db' AS other", "open another connection"),
        ("ATTACH ':memory:' AS other", "open another connection"),
        (
            "ATTACH 'file:/etc/passwd?mode=ro' AS other",
            "open another connection",
        ),
        (
            "ATTACH 'ot' || 'her.db' AS other",
            "cannot be determined when it is prepared",
        ),
        ("VACUUM INTO 'copy.db'", "open another connection"),
        ("VACUUM INTO '/tmp/copy.db'", "open another connection"),
        ("SELECT load_extension('/lib/libm.so')", "`load_extension`"),
        ("SELECT LOAD_EXTENSION('/lib/libm.so')", "`load_extension`"),
        ("SELECT fts3_tokenizer('simple')", "`fts3_tokenizer`"),
        ("PRAGMA writable_schema = 1", "`PRAGMA writable_schema`"),
        ("PRAGMA Writable_Schema = 1", "`PRAGMA Writable_Schema`"),
        ("PRAGMA trusted_schema = 1", "`PRAGMA trusted_schema`"),
        ("PRAGMA schema_version = 7", "`PRAGMA schema_version`"),
        ("PRAGMA hard_heap_limit = 1", "`PRAGMA hard_heap_limit`"),
        ("PRAGMA soft_heap_limit = 1", "`PRAGMA soft_heap_limit`"),
        (
            "PRAGMA temp_store_directory = '/tmp'",
            "`PRAGMA temp_store_directory`",
        ),
        (
            "PRAGMA data_store_directory = '/tmp'",
            "`PRAGMA data_store_directory`",
        ),
        ("PRAGMA lock_proxy_file = 'x'", "`PRAGMA lock_proxy_file`"),
        ("PRAGMA key = 'x'", "`PRAGMA key`"),
        ("SELECT * FROM pragma_hard_heap_limit", "hard_heap_limit"),
    ] {
        let (failed, sentence) = client.execute_all(connection, sql).expect_err(sql);
        assert!(
            sentence.to_lowercase().contains(&words.to_lowercase()),
            "{sql}: {failed} {sentence}"
        );
    }
    let (failed, _) = client
        .execute_all(connection, "ATTACH 'x' AS y")
        .expect_err("`ATTACH` is refused");
    assert_eq!(failed, code::AUTH);
    // The schema cannot be changed in other ways either.
    for sql in [
        "UPDATE sqlite_schema SET sql = ''",
        "DELETE FROM sqlite_schema",
        "INSERT INTO sqlite_schema VALUES ('table', 'x', 'x', 0, '')",
    ] {
        client.execute_all(connection, sql).expect_err(sql);
    }
    assert_eq!(
        client.value(connection, "PRAGMA journal_mode = OFF"),
        text("delete")
    );
    let files: Vec<_> = fs::read_dir(directory.path())
        .expect("the directory exists")
        .collect();
    assert_eq!(files.len(), 1, "{files:?}");
}

#[test]
fn t171_an_endless_query_ends_when_its_process_ends() {
    let lab = Lab::new();
    let cross = "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t LIMIT 1000)
        SELECT count(*) FROM t a, t b, t c, t d, t e";
    for sql in [ENDLESS, cross] {
        // The process is terminated by its time limit, then by its own compute limit, and then by
        // its environment's compute limit.
        for (limit, bound) in [
            (Limit::Time, 100),
            (Limit::Compute, 50),
            (Limit::TotalCompute, 50),
        ] {
            let environment = lab.environment_with(|config| {
                config.limit(limit, bound);
            });
            let client = Client::new(&lab, &environment);
            let connection = client.opened(":memory:");
            let [at, length] = client.write(sql.as_bytes());
            let exit = client
                .call("execute", vec![Val::I64(connection), at, length])
                .expect_err("the query never ends");
            let Exit::Limit(reached) = exit else {
                panic!("{limit:?}: {exit}")
            };
            assert_eq!(reached.limit, limit);
        }
        let client = Client::new(&lab, &lab.environment());
        let connection = client.opened(":memory:");
        let [at, length] = client.write(sql.as_bytes());
        client.begin("execute", vec![Val::I64(connection), at, length]);
        client.process.kill();
        assert!(matches!(lab.exit(&client.process), Exit::Killed));
    }
}

#[test]
fn the_compute_of_a_query_is_the_same_every_time() {
    let lab = Lab::new();
    let used = || {
        let environment = lab.environment_with(|config| {
            config.limit(Limit::TotalCompute, 1_000_000);
        });
        let client = Client::new(&lab, &environment);
        let connection = client.opened(":memory:");
        let sql = ENDLESS.replace("FROM t) SELECT", "FROM t LIMIT 100000) SELECT");
        client
            .execute_all(connection, &sql)
            .expect("the query ends");
        client.process.kill();
        lab.exit(&client.process);
        environment.used(Limit::TotalCompute)
    };
    let first = used();
    assert!(
        first > 50,
        "{first} units are not enough for a hundred thousand rows"
    );
    assert_eq!(used(), first);
}

#[test]
fn t171_values_and_statements_that_are_too_large_are_errors() {
    let lab = Lab::new();
    let client = Client::new(&lab, &lab.environment());
    let connection = client.opened(":memory:");
    for sql in [
        "SELECT randomblob(2000000000)",
        "SELECT zeroblob(2000000000)",
        "SELECT length(hex(zeroblob(1000000)))",
        "SELECT printf('%.*c', 100000000, 'x')",
        "SELECT replace(hex(zeroblob(100000)), '0', 'ten bytes.')",
        "SELECT group_concat(hex(randomblob(1000))) FROM (WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t LIMIT 2000) SELECT n FROM t)",
    ] {
        let (failed, sentence) = client.execute_all(connection, sql).expect_err(sql);
        assert_eq!(failed, code::TOOBIG, "{sql}: {sentence}");
    }
    let deep = format!("SELECT {}1{}", "(".repeat(5_000), ")".repeat(5_000));
    let long = format!("SELECT '{}'", "x".repeat(1 << 20));
    let wide = format!("SELECT {}1", "1, ".repeat(5_000));
    let compound = "SELECT 1 UNION ALL ".repeat(500) + "SELECT 1";
    for sql in [deep, wide, compound, long] {
        client.execute_all(connection, &sql).expect_err(&sql[..40]);
    }
    assert_eq!(client.value(connection, "SELECT 1"), Kept::Integer(1));
}

#[test]
fn t171_sql_functions_take_time_in_proportion_to_their_input() {
    let lab = Lab::new();
    let client = Client::new(&lab, &lab.environment());
    let connection = client.opened(":memory:");
    // SQLite's own functions would take from half a minute to more than an hour for these queries.
    for sql in [
        "SELECT instr(zeroblob(1000000), CAST(zeroblob(500000) || x'01' AS BLOB))",
        "SELECT instr(hex(zeroblob(500000)), hex(zeroblob(250000)) || '1')",
        "SELECT length(replace(hex(zeroblob(500000)), hex(zeroblob(250000)) || '1', 'x'))",
        "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t LIMIT 300000)
            SELECT length(trim(hex(zeroblob(500000)), group_concat(char(0x4e00 + n % 20000), '') || '0')) FROM t",
        "SELECT length(unhex('AB' || printf('%.*c', 900000, 'x'), printf('%.*c', 900000, 'y') || 'x'))",
    ] {
        client.query(connection, sql).unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }
    let check =
        |sql: &str, expected: Kept| assert_eq!(client.value(connection, sql), expected, "{sql}");
    check("SELECT instr('zwölf', 'lf')", Kept::Integer(4));
    check("SELECT instr(x'c3b601', x'01')", Kept::Integer(3));
    check("SELECT instr('abc', x'62')", Kept::Integer(2));
    check("SELECT instr('abc', 'd')", Kept::Integer(0));
    check("SELECT instr('abc', '')", Kept::Integer(1));
    check("SELECT instr(12.5, '.')", Kept::Integer(3));
    check("SELECT instr(NULL, 'a')", Kept::Null);
    check("SELECT replace('aXbXc', 'X', '--')", text("a--b--c"));
    check("SELECT replace('abc', '', 'x')", text("abc"));
    check("SELECT replace(121, 1, 3)", text("323"));
    check("SELECT replace('abc', 'b', NULL)", Kept::Null);
    check("SELECT trim('  a b ')", text("a b"));
    check("SELECT ltrim('äöaö', 'öä')", text("aö"));
    check("SELECT rtrim('äöaöä', 'öä')", text("äöa"));
    check("SELECT trim('aaa', 'a')", text(""));
    check("SELECT trim('a', NULL)", Kept::Null);
    check("SELECT trim(NULL)", Kept::Null);
    check("SELECT unhex('4a-4B', '-')", Kept::Blob(b"JK".to_vec()));
    check("SELECT unhex('4-a', '-')", Kept::Null);
    check("SELECT unhex('4a4')", Kept::Null);
    check("SELECT unhex('')", Kept::Blob(Vec::new()));
    check("SELECT unhex(NULL)", Kept::Null);
    check("SELECT 'Straße' LIKE 'S%_E'", Kept::Integer(1));
    check("SELECT '10%' LIKE '10\\%' ESCAPE '\\'", Kept::Integer(1));
    check("SELECT 12 LIKE '1_'", Kept::Integer(1));
    check("SELECT NULL LIKE '%'", Kept::Null);
    check("SELECT 'abc' GLOB 'a[a-c]?'", Kept::Integer(1));
    check("SELECT 'abc' GLOB 'A*'", Kept::Integer(0));
    client
        .execute_all(connection, "PRAGMA case_sensitive_like = ON")
        .expect("the pragma is available");
    check("SELECT 'abc' LIKE 'A%'", Kept::Integer(0));
    check("SELECT 'abc' LIKE 'a%'", Kept::Integer(1));
}

#[test]
fn t171_a_statement_without_jumps_ends_when_its_process_ends() {
    let lab = Lab::new();
    // SQLite checks for interruption only at jumps, and this statement would take an hour.
    let pattern = format!("%{}b", "_a".repeat(100));
    let sql = format!(
        "SELECT {}",
        vec![format!("?1 LIKE '{pattern}'"); 2_000].join(", ")
    );
    for limit in [None, Some(Limit::Compute), Some(Limit::TotalCompute)] {
        let environment = lab.environment_with(|config| {
            if let Some(limit) = limit {
                config.limit(limit, 1_000);
            }
        });
        let client = Client::new(&lab, &environment);
        let connection = client.opened(":memory:");
        let statement = client.prepare(connection, &sql).expect("the SQL is valid");
        let long = "a".repeat(900_000);
        client
            .bind(statement, &[(Key::Position, Value::Text(&long))])
            .expect("the text is short enough");
        client.begin("sqlite3_step", vec![Val::I64(statement)]);
        if limit.is_none() {
            client.process.kill();
        }
        let exit = lab.exit(&client.process);
        assert_eq!(
            matches!(&exit, Exit::Limit(reached) if Some(reached.limit) == limit),
            limit.is_some(),
            "{exit}"
        );
    }
}

/// A query with 1,000 columns, each of which applies an operation 20 times.
fn many_times(operation: &str) -> String {
    // A statement can call at most 10,000 functions.
    let calls_function = operation.contains("length(") || operation.contains("max(");
    let count = if calls_function { 9 } else { 20 };
    let column = vec![format!("({operation})"); count].join(" OR ");
    format!("SELECT {}", vec![column; 1_000].join(", "))
}

#[test]
fn t171_a_statement_with_many_operations_may_use_only_short_values() {
    let lab = Lab::new();
    let client = Client::new(&lab, &lab.environment());
    let connection = client.opened(":memory:");
    let one = "1".repeat(900_000);
    let two = one.clone() + "2";
    let step = |sql: &str, values: [&str; 2]| {
        let statement = client.prepare(connection, sql)?;
        let values = values.map(|value| (Key::Position, Value::Text(value)));
        client.bind(statement, &values)?;
        let row = client.step(statement);
        client.do_call("sqlite3_finalize", vec![Val::I64(statement)]);
        row
    };
    // SQLite does not check for interruption between these operations, and each can take
    // milliseconds.
    for operation in [
        "?1 = ?2",
        "?1 COLLATE NOCASE < ?2",
        "?1 IS ?2",
        "?1 + ?2",
        "NOT ?1 IS ?2",
        "(?1, 1) < (?2, 2)",
        "?1 IN (?2, ?1)",
        "?1 BETWEEN ?2 AND ?1",
        "CASE ?1 WHEN ?2 THEN 1 END",
        "CAST(?1 AS INTEGER) = ?2",
        "length(?1) = ?2",
        "max(?1, ?2) IS NULL",
        "?1 = x'313233' || ?2",
    ] {
        let sql = many_times(operation);
        let (failed, sentence) = step(&sql, [&one, &two]).expect_err(operation);
        assert_eq!(failed, code::TOOBIG, "{operation}: {sentence}");
        assert!(sentence.contains("split it"), "{operation}: {sentence}");
        let row = step(&sql, ["1", "2"]).expect(operation);
        assert_eq!(row.expect("there is a row").len(), 1_000, "{operation}");
        let sql = format!("SELECT {operation}, ?1 = ?2");
        step(&sql, [&one, &two]).expect(operation);
    }
    // A blob literal counts as a value too.
    let blob = "31".repeat(200_000);
    let sql = many_times("b = b") + &format!(" FROM (SELECT x'{blob}' AS b LIMIT 1)");
    let (failed, sentence) = step(&sql, ["1", "2"]).expect_err("the blob is too long");
    assert_eq!(failed, code::TOOBIG, "{sentence}");
}

#[test]
fn many_rows_with_long_values_can_be_inserted_by_one_statement() {
    let lab = Lab::new();
    let client = Client::new(&lab, &lab.environment());
    let connection = client.opened(":memory:");
    let create = "CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT, b BLOB)";
    client.execute_all(connection, create).expect(create);
    let sql = format!("INSERT INTO t VALUES {}", ["(?, ?, ?)"; 3_000].join(", "));
    let statement = client.prepare(connection, &sql).expect("the SQL is valid");
    let long = "a".repeat(900_000);
    let mut values = Vec::new();
    for id in 0..3_000 {
        let text = if id == 7 { &*long } else { "short" };
        values.extend([Value::Integer(id), Value::Text(text), Value::Blob(b"b")]);
    }
    let values: Vec<_> = values
        .into_iter()
        .map(|value| (Key::Position, value))
        .collect();
    client
        .bind(statement, &values)
        .expect("the values are valid");
    assert_eq!(client.step(statement), Ok(None));
    let lengths = client.value(connection, "SELECT sum(length(a)) FROM t");
    assert_eq!(lengths, Kept::Integer(900_000 + 2_999 * 5));
    let listed: String = (0..200).map(|id| format!("{id}, ")).collect();
    let sql = format!("SELECT max(length(a)) FROM t WHERE id IN ({listed} 200)");
    assert_eq!(client.value(connection, &sql), Kept::Integer(900_000));
}

#[test]
fn t171_a_statement_is_checked_again_after_the_schema_has_changed() {
    let lab = Lab::new();
    let client = Client::new(&lab, &lab.environment());
    let connection = client.opened(":memory:");
    let run = |sql: &str| {
        client
            .execute_all(connection, sql)
            .unwrap_or_else(|error| panic!("{error:?} in `{sql:.40}`"))
    };
    run("CREATE TABLE t (b); INSERT INTO t VALUES (zeroblob(900000))");
    run("CREATE VIEW v AS SELECT 1 AS x FROM t");
    let statement = client
        .prepare(connection, "SELECT *, ?1 FROM v")
        .expect("the SQL is valid");
    client
        .bind(statement, &[(Key::Position, Value::Integer(7))])
        .expect("there is a parameter");
    let view = |select: &str| run(&format!("DROP VIEW v; CREATE VIEW v AS {select}"));
    let row = |values: &[i64]| {
        let row = values.iter().map(|value| Kept::Integer(*value)).collect();
        assert_eq!(client.step(statement), Ok(Some(row)));
        assert_eq!(client.step(statement), Ok(None));
    };
    row(&[1, 7]);
    // The values stay bound, and the columns are the new ones.
    view("SELECT 2 AS x, 3 AS y FROM t");
    row(&[2, 3, 7]);
    view(&(many_times("b = x'00'") + " FROM t"));
    let (failed, sentence) = client.step(statement).expect_err("the blob is too long");
    assert_eq!(failed, code::TOOBIG, "{sentence}");
    view("SELECT * FROM json_tree('[1]')");
    let (failed, sentence) = client
        .step(statement)
        .expect_err("`json_tree` is not available in views");
    assert_eq!(failed, code::AUTH, "{sentence}");
    view("SELECT 4 AS x FROM t");
    row(&[4, 7]);
    // SQLite itself prepares statements while others run.
    let table = "SELECT name, ?1 FROM pragma_table_info('t')";
    assert_eq!(
        client.query(connection, table),
        Ok(vec![vec![text("b"), Kept::Null]])
    );
    run("VACUUM; ANALYZE");
    row(&[4, 7]);
}

#[test]
fn t171_features_that_cannot_be_stopped_are_not_available() {
    let lab = Lab::new();
    let client = Client::new(&lab, &lab.environment());
    let connection = client.opened(":memory:");
    let functions = format!("SELECT {}1", "abs(1) + ".repeat(150));
    let many = vec![functions; 80].join(" UNION ALL ");
    for (sql, words) in [
        ("SELECT json_patch('{}', '{}')", "`json_patch`"),
        ("CREATE VIRTUAL TABLE f USING fts5(x)", "no such module"),
        (
            "CREATE VIRTUAL TABLE r USING rtree(i, a, b)",
            "no such module",
        ),
        ("SELECT * FROM dbstat", "no such table"),
        ("SELECT * FROM json_tree('[1]', '$[0]')", "without a path"),
        (
            "SELECT * FROM json_tree WHERE json = '[1]' AND root = '$[0]'",
            "without a path",
        ),
        (&*many, "at most 10000 functions"),
    ] {
        let (_, sentence) = client.execute_all(connection, sql).expect_err(sql);
        assert!(sentence.contains(words), "{sql}: {sentence}");
    }
    for (sql, expected) in [
        (
            "SELECT count(*) FROM json_tree('[1, [2]]')",
            Kept::Integer(4),
        ),
        (
            "SELECT count(*) FROM json_each('[[1, 2]]', '$[0]')",
            Kept::Integer(2),
        ),
        ("SELECT '{\"a\": [7]}' ->> '$.a[0]'", Kept::Integer(7)),
    ] {
        assert_eq!(client.value(connection, sql), expected, "{sql}");
    }
    client
        .execute_all(
            connection,
            "CREATE TABLE t (a, b); ALTER TABLE t RENAME a TO c; ALTER TABLE t DROP b; ANALYZE",
        )
        .expect("the functions that `ALTER TABLE` uses are available");
}

#[test]
fn foreign_keys_are_enforced_only_on_request() {
    let lab = Lab::new();
    let client = Client::new(&lab, &lab.environment());
    let connection = client.opened(":memory:");
    let tables = "CREATE TABLE owner (id INTEGER PRIMARY KEY);
        CREATE TABLE thing (owner REFERENCES owner); INSERT INTO thing VALUES (1)";
    client
        .execute_all(connection, tables)
        .expect("foreign keys are not enforced by default");
    client
        .execute_all(connection, "PRAGMA foreign_keys = ON")
        .expect("the pragma is available");
    let failed = client
        .execute_all(connection, "INSERT INTO thing VALUES (2)")
        .expect_err("there is no owner 2");
    assert_eq!(failed.0 & 0xff, code::CONSTRAINT);
}

#[test]
fn a_row_that_repeats_a_large_value_is_not_written_out() {
    let lab = Lab::new();
    let client = Client::new(&lab, &lab.environment());
    let connection = client.opened(":memory:");
    let sql = format!("SELECT {}", vec!["?1"; 1_900].join(", "));
    let statement = client.prepare(connection, &sql).expect("the SQL is valid");
    client
        .bind(
            statement,
            &[(Key::Position, Value::Blob(&vec![0; 1_000_000]))],
        )
        .expect("the value is small enough");
    let (failed, sentence) = client.step(statement).expect_err("the row is 1.9 GB long");
    assert_eq!(failed, code::TOOBIG, "{sentence}");
    let copied = client.trapped(
        "copy_row",
        vec![
            Val::I64(statement),
            Val::I32(ROWS as i32),
            Val::I32(ROWS_LENGTH as i32),
        ],
    );
    assert!(copied.contains("a row can have at most"), "{copied}");
}

#[test]
fn many_parameters_can_be_bound_by_name() {
    let lab = Lab::new();
    let client = Client::new(&lab, &lab.environment());
    let connection = client.opened(":memory:");
    const COUNT: i64 = 30_000;
    let names: Vec<String> = (0..COUNT).map(|number| format!(":p{number}")).collect();
    let sql = format!(
        "SELECT count(DISTINCT column1) FROM (VALUES ({}))",
        names.join("), (")
    );
    let statement = client.prepare(connection, &sql).expect("the SQL is valid");
    let values: Vec<_> = (0..COUNT)
        .map(|number| (Key::Name(&names[number as usize]), Value::Integer(number)))
        .collect();
    client.bind(statement, &values).expect("all names exist");
    let rows = client.step(statement).expect("the values are bound");
    assert_eq!(rows, Some(vec![Kept::Integer(COUNT)]));
}

/// Writes a journal that SQLite would roll back and that names a super-journal.
fn forge_journal(database: &Path, super_journal: &Path) {
    const MAGIC: [u8; 8] = [0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7];
    const PAGE: u32 = 4096;
    let pages = fs::metadata(database).expect("the database exists").len() as u32 / PAGE;
    let mut journal = MAGIC.to_vec();
    for number in [0, 0x1234, pages, 512, PAGE] {
        journal.extend(number.to_be_bytes());
    }
    journal.resize(512, 0);
    let name = super_journal.as_os_str().as_encoded_bytes();
    journal.extend((0x4000_0000 / PAGE + 1).to_be_bytes());
    journal.extend(name);
    journal.extend((name.len() as u32).to_be_bytes());
    journal.extend(
        name.iter()
            .map(|byte| u32::from(*byte))
            .sum::<u32>()
            .to_be_bytes(),
    );
    journal.extend(MAGIC);
    let path = database.with_extension("db-journal");
    fs::write(path, journal).expect("the test owns the directory");
}

#[test]
fn t090_a_forged_journal_leads_to_no_other_file() {
    let (lab, house) = (Lab::new(), temporary());
    let granted = house.path().join("granted");
    fs::create_dir(&granted).expect("the test owns the directory");
    let there = house.path().join("there");
    fs::write(&there, "secret").expect("the test owns the directory");
    let mut answers = Vec::new();
    for (outside, name) in [
        (there.clone(), "granted/x.db-mj0000009AA"),
        (house.path().join("nowhere"), "granted/x.db-mj0000009AA"),
        (there.clone(), "there-mj0000009AA"),
    ] {
        let database = granted.join("x.db");
        {
            let client = Client::at(&lab, &granted);
            let connection = client.opened("x.db");
            client
                .execute_all(connection, "CREATE TABLE IF NOT EXISTS t (n)")
                .expect("the SQL is valid");
            client.process.kill();
            lab.exit(&client.process);
        }
        let super_journal = house.path().join(name);
        let mut list = outside.as_os_str().as_encoded_bytes().to_vec();
        list.push(0);
        fs::write(&super_journal, list).expect("the test owns the directory");
        forge_journal(&database, &super_journal);
        let client = Client::at(&lab, &granted);
        let connection = client.opened("x.db");
        answers.push(client.execute_all(connection, "SELECT * FROM t"));
        client.process.kill();
        lab.exit(&client.process);
        assert!(super_journal.exists() && there.exists());
        fs::remove_file(database.with_extension("db-journal"))
            .expect("the journal was not removed");
    }
    assert!(
        answers
            .iter()
            .all(|answer| *answer == answers[0] && answer.is_err()),
        "{answers:?}"
    );
}

#[test]
fn t090_a_fifo_in_place_of_a_database_or_its_journal_is_an_error() {
    let (lab, directory) = (Lab::new(), temporary());
    let fifo = |name: &str| {
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        let kind = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, directory.path().join(name), kind, mode, 0)
            .expect("the test owns the directory");
    };
    fifo("fifo.db");
    for access in [Access::Read, Access::Write] {
        let environment = lab.environment_with(|config| grant(config, directory.path(), access));
        let client = Client::new(&lab, &environment);
        let failed = client.open("fifo.db").map(|connection| {
            client
                .execute_all(connection, "SELECT * FROM sqlite_schema")
                .is_err()
        });
        assert!(failed.unwrap_or(true), "{access:?}");
    }
    let client = Client::at(&lab, directory.path());
    let connection = client.opened("app.db");
    client
        .execute_all(connection, "CREATE TABLE t (n)")
        .expect("the SQL is valid");
    fifo("app.db-journal");
    client
        .execute_all(connection, "INSERT INTO t VALUES (1)")
        .expect_err("the journal cannot be written");
}

#[test]
fn t171_the_memory_that_sqlite_allocates_for_a_process_is_limited_and_returned() {
    let lab = Lab::new();
    let environment = lab.environment();
    let sorts = "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t LIMIT 1000)
        SELECT randomblob(500000) AS b FROM t ORDER BY b";
    let keeps = "CREATE TABLE t (b); WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t LIMIT 1000)
        INSERT INTO main.t SELECT randomblob(500000) FROM t";
    let holds = "CREATE TEMP TABLE u (b); WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t LIMIT 1000)
        INSERT INTO u SELECT randomblob(500000) FROM t";
    let client = Client::new(&lab, &environment);
    let connection = client.opened(":memory:");
    for sql in [sorts, keeps, holds] {
        let (failed, sentence) = client.execute_all(connection, sql).expect_err(sql);
        assert_eq!(failed & 0xff, code::NOMEM, "{sql}: {sentence}");
    }
    let used = environment.used(Limit::TotalHostMemory);
    assert!(used <= (64 << 20) + (1 << 20), "{used} bytes are counted");
    // A process that has not reached its own limit is not affected.
    let other = Client::new(&lab, &environment);
    let of_other = other.opened(":memory:");
    other
        .execute_all(
            of_other,
            "CREATE TABLE t (b); INSERT INTO t VALUES (randomblob(900000))",
        )
        .expect("other processes have their own limits");
    for client in [client, other] {
        client.process.kill();
        lab.exit(&client.process);
    }
    lab.wait_for("the memory of the processes to be released", async {
        while environment.used(Limit::TotalHostMemory) > 0 {
            futures_lite::future::yield_now().await;
        }
    });

    let poor = lab.environment_with(|config| {
        config.limit(Limit::Memory, 3 << 20);
    });
    let client = Client::new(&lab, &poor);
    let connection = client.opened(":memory:");
    client
        .execute_all(
            connection,
            "CREATE TABLE t (b); INSERT INTO t VALUES (randomblob(500000))",
        )
        .expect("the data is within the limit");
    let all = "INSERT INTO t SELECT b FROM t; ".repeat(4);
    assert_eq!(
        client
            .execute_all(connection, &all)
            .expect_err("3 MiB is too little")
            .0,
        code::NOMEM
    );
}

#[test]
fn t070_a_kill_stops_a_step_and_releases_its_locks() {
    let (lab, directory) = (Lab::new(), temporary());
    let environment = lab.environment_with(|config| grant(config, directory.path(), Access::Write));
    let client = Client::new(&lab, &environment);
    let connection = client.opened("app.db");
    client
        .execute_all(connection, "CREATE TABLE t (n)")
        .expect("the SQL is valid");
    let sql = ENDLESS
        .replace("SELECT max(n)", "INSERT INTO t SELECT n")
        .replace("WITH", "INSERT INTO t SELECT 1; WITH");
    let sql = sql.replace(
        "INSERT INTO t SELECT n FROM t",
        "INSERT INTO main.t SELECT n FROM t",
    );
    let [at, length] = client.write(format!("BEGIN; {sql}").as_bytes());
    client.begin("execute", vec![Val::I64(connection), at, length]);
    // The journal exists while a connection is writing.
    let journal = directory.path().join("app.db-journal");
    lab.wait_for("the query to begin", async {
        while !journal.exists() {
            futures_lite::future::yield_now().await;
        }
    });
    client.process.kill();
    assert!(matches!(lab.exit(&client.process), Exit::Killed));
    // A process that is notified of the exit finds the database unlocked and without uncommitted
    // changes.
    let other = Client::new(&lab, &environment);
    let connection = other.opened("app.db");
    assert_eq!(
        other.execute(connection, "INSERT INTO t VALUES (7)"),
        code::OK
    );
    assert_eq!(
        other.value(connection, "SELECT sum(n) FROM t"),
        Kept::Integer(7)
    );
}

#[test]
fn t172_the_lock_of_a_killed_process_is_released() {
    let (lab, directory) = (Lab::new(), temporary());
    let environment = lab.environment_with(|config| grant(config, directory.path(), Access::Write));
    let holder = Client::new(&lab, &environment);
    let connection = holder.opened("app.db");
    holder
        .execute_all(
            connection,
            "CREATE TABLE t (n); BEGIN EXCLUSIVE; INSERT INTO t VALUES (1)",
        )
        .expect("the database is empty");
    let other = Client::new(&lab, &environment);
    let of_other = other.opened("app.db");
    assert_eq!(
        other.execute(of_other, "INSERT INTO t VALUES (2)"),
        code::BUSY
    );
    holder.process.kill();
    lab.exit(&holder.process);
    assert_eq!(
        other.execute(of_other, "INSERT INTO t VALUES (2)"),
        code::OK
    );
    assert_eq!(
        other.value(of_other, "SELECT sum(n) FROM t"),
        Kept::Integer(2)
    );
}

#[test]
fn t172_a_full_database_and_a_corrupt_one_are_errors() {
    let (lab, directory) = (Lab::new(), temporary());
    let client = Client::at(&lab, directory.path());
    let connection = client.opened("full.db");
    client
        .execute_all(
            connection,
            "CREATE TABLE t (b); PRAGMA max_page_count = 10; BEGIN",
        )
        .expect("the database is empty");
    let (failed, _) = client
        .execute_all(connection, "INSERT INTO t VALUES (randomblob(100000))")
        .expect_err("the database is full");
    assert_eq!(failed, code::FULL);
    client
        .execute_all(connection, "INSERT INTO t VALUES (1)")
        .expect("the database still works");

    fs::write(
        directory.path().join("text.db"),
        "This is not a database. ".repeat(100),
    )
    .expect("the test owns the directory");
    let text = client.opened("text.db");
    assert_eq!(
        client.execute(text, "SELECT * FROM sqlite_schema"),
        code::NOTADB
    );

    let whole = client.opened("broken.db");
    client
        .execute_all(
            whole,
            "CREATE TABLE t (b); INSERT INTO t VALUES (randomblob(20000))",
        )
        .expect("the database is empty");
    client.do_call("drop_connection", vec![Val::I64(whole)]);
    let path = directory.path().join("broken.db");
    let mut bytes = fs::read(&path).expect("the file exists");
    bytes[4096..].fill(0xa5);
    fs::write(&path, bytes).expect("the test owns the directory");
    let broken = client.opened("broken.db");
    assert_eq!(client.execute(broken, "SELECT b FROM t"), code::CORRUPT);
    assert_eq!(
        client.value(connection, "SELECT count(*) FROM t"),
        Kept::Integer(1),
        "the other database is not affected"
    );
}

#[test]
fn waiting_for_a_locked_database_does_not_occupy_a_thread() {
    let (lab, directory) = (Lab::with(Vm::builder().workers(1)), temporary());
    let environment = lab.environment_with(|config| grant(config, directory.path(), Access::Write));
    let holder = Client::new(&lab, &environment);
    let connection = holder.opened("app.db");
    holder
        .execute_all(
            connection,
            "CREATE TABLE t (n); BEGIN IMMEDIATE; INSERT INTO t VALUES (0)",
        )
        .expect("the database is empty");
    // More processes wait for the lock than may use databases at the same time, but the process
    // that holds the lock still gets its turn.
    let waiting: Vec<Client<'_>> = (0..40).map(|_| Client::new(&lab, &environment)).collect();
    for (number, client) in waiting.iter().enumerate() {
        let connection = client.opened("app.db");
        if number % 2 == 0 {
            client.do_call("set_busy_timeout", vec![Val::I64(connection), Val::I64(-1)]);
        } else {
            client
                .execute_all(connection, "PRAGMA busy_timeout = 60000")
                .expect("the pragma is valid");
        }
        let [at, length] = client.write(format!("INSERT INTO t VALUES ({number})").as_bytes());
        client.begin("execute", vec![Val::I64(connection), at, length]);
    }
    // Each waiting connection briefly locks the database to check whether it can write.
    holder.do_call(
        "set_busy_timeout",
        vec![Val::I64(connection), Val::I64(60_000)],
    );
    holder
        .execute_all(connection, "COMMIT")
        .expect("no other connection writes");
    for client in &waiting {
        assert_eq!(client.result().expect("the call returns") as u32, code::OK);
    }
    assert_eq!(
        holder.value(connection, "SELECT count(*) FROM t"),
        Kept::Integer(41)
    );
}

#[test]
fn a_query_does_not_block_a_worker() {
    let lab = Lab::with(Vm::builder().workers(1));
    let environment = lab.environment();
    let spinning: Vec<Client<'_>> = (0..20).map(|_| Client::new(&lab, &environment)).collect();
    let opened: Vec<i64> = spinning
        .iter()
        .map(|client| client.opened(":memory:"))
        .collect();
    for (client, connection) in spinning.iter().zip(opened) {
        let [at, length] = client.write(ENDLESS.as_bytes());
        client.begin("execute", vec![Val::I64(connection), at, length]);
    }
    let exit = lab.run(&guest(
        &[],
        "(func (export \"main\") (call $say (i64.const 7)))",
    ));
    assert!(exit.is_normal(), "{exit}");
    assert_eq!(lab.hear(), 7);
    // Another program has its own permits.
    let other = Client::new(&lab, &lab.environment());
    let connection = other.opened(":memory:");
    assert_eq!(other.value(connection, "SELECT 1"), Kept::Integer(1));
    for client in &spinning {
        client.process.kill();
    }
    for client in &spinning {
        assert!(matches!(lab.exit(&client.process), Exit::Killed));
    }
}

#[test]
fn the_number_of_connections_and_statements_is_limited() {
    let lab = Lab::new();
    let environment = lab.environment_with(|config| {
        config.limit(Limit::Files, 3).limit(Limit::Handles, 5);
    });
    let client = Client::new(&lab, &environment);
    for number in 0..3 {
        assert_eq!(client.open(":memory:"), Ok(number));
    }
    let error = client
        .open(":memory:")
        .expect_err("only three connections are allowed");
    assert!(error.contains("3"), "{error}");
    client.do_call("drop_connection", vec![Val::I64(1)]);
    assert_eq!(client.open(":memory:"), Ok(3));
    for _ in 0..5 {
        client
            .prepare(0, "SELECT 1")
            .expect("five statements are allowed");
    }
    let [at, length] = client.write(b"SELECT 1");
    let parameters = vec![Val::I64(3), at, length, Val::I32(RESULT as i32)];
    assert!(
        client
            .trapped("prepare", parameters)
            .contains("at most 5 statements")
    );
}

#[test]
fn a_descriptor_that_sqlite_keeps_open_counts_until_it_is_closed() {
    let (lab, directory) = (Lab::new(), temporary());
    let environment = lab.environment_with(|config| {
        grant(config, directory.path(), Access::Write);
        config.limit(Limit::Descriptors, 12);
    });
    let client = Client::new(&lab, &environment);
    let used = || environment.used(Limit::Descriptors);
    // While a connection has a lock on its file, SQLite does not close the file's other
    // descriptors.
    let mut holders = Vec::new();
    let error = loop {
        let path = format!("{}.db", holders.len());
        let holder = client.opened(&path);
        holders.push(holder);
        client
            .execute_all(holder, "BEGIN EXCLUSIVE")
            .expect("nothing else uses the file");
        match client.open(&path) {
            Ok(other) => client.do_call("drop_connection", vec![Val::I64(other)]),
            Err(error) => break error,
        };
    };
    assert!(error.contains("12"), "{error}");
    assert_eq!(holders.len(), 3);
    assert_eq!(used(), 3 * 3 + 2, "three databases, and two descriptors");
    // The descriptor is given to the next connection to the file, and counts only once.
    client.do_call("drop_connection", vec![Val::I64(holders[2])]);
    let other = client.opened("0.db");
    assert_eq!(used(), 2 * 3 + 2 + 3);
    client.do_call("drop_connection", vec![Val::I64(other)]);
    assert_eq!(used(), 2 * 3 + 2);
    client
        .execute_all(holders[0], "COMMIT")
        .expect("the transaction is open");
    assert_eq!(used(), 2 * 3 + 1, "the lock has been released");
    client.process.kill();
    lab.exit(&client.process);
    assert_eq!(used(), 0);
}

#[test]
fn a_database_that_cannot_be_opened_holds_no_descriptors() {
    let (lab, directory) = (Lab::new(), temporary());
    fs::create_dir(directory.path().join("directory.db")).expect("the test owns the directory");
    let environment = lab.environment_with(|config| {
        grant(config, directory.path(), Access::Write);
    });
    let client = Client::new(&lab, &environment);
    client
        .open("directory.db")
        .expect_err("a directory is not a database");
    assert_eq!(environment.used(Limit::Descriptors), 0);
    client.opened("app.db");
    assert_eq!(environment.used(Limit::Descriptors), 3);
}

/// Repeats a condition. The repetitions are combined in pairs, because long chains are too deep for
/// SQLite.
fn repeated(condition: &str, operator: &str, count: usize) -> String {
    let mut conditions = vec![condition.to_string(); count];
    while conditions.len() > 1 {
        conditions = conditions
            .chunks(2)
            .map(|pair| format!("({})", pair.join(&format!(" {operator} "))))
            .collect();
    }
    conditions.concat()
}

#[test]
fn a_clause_with_too_many_conditions_is_refused_before_it_is_planned() {
    let lab = Lab::new();
    let client = Client::new(&lab, &lab.environment());
    let connection = client.opened(":memory:");
    client
        .execute_all(
            connection,
            "CREATE TABLE t (a, b, c); INSERT INTO t VALUES (1, 1, 1)",
        )
        .expect("the SQL is valid");
    let check = |condition: &str, operator: &str, most: usize, from: &str| {
        let of = |count| {
            let conditions = repeated(condition, operator, count);
            format!("SELECT count(*) FROM {from} WHERE {conditions}")
        };
        client.value(connection, &of(most));
        let (failed, sentence) = client
            .prepare(connection, &of(most + 1))
            .expect_err("the clause has one condition too many");
        assert_eq!(failed, code::TOOBIG, "{condition}: {sentence}");
        assert!(sentence.contains("at most 2048 conditions"), "{sentence}");
    };
    check("a = b", "AND", 1_024, "t");
    check("a > 1", "AND", 2_048, "t");
    check("a > 1", "OR", 2_048, "t");
    // The columns of a subquery are not reported to the authorizer.
    check("a = b", "AND", 1_024, "(SELECT a, b FROM t LIMIT 5)");
}

#[test]
fn ordinary_large_statements_are_not_refused() {
    let lab = Lab::new();
    let client = Client::new(&lab, &lab.environment());
    let connection = client.opened(":memory:");
    let columns: Vec<String> = (0..200).map(|number| format!("c{number}")).collect();
    let columns = columns.join(", ");
    client
        .execute_all(
            connection,
            &format!("CREATE TABLE t (a, b, c); CREATE TABLE wide ({columns})"),
        )
        .expect("the SQL is valid");
    let numbers: Vec<String> = (0..1_000).map(|number| number.to_string()).collect();
    let numbers = numbers.join(", ");
    // SQLite copies this text to an allocation that has the size of an array with too many
    // conditions.
    let long = format!("SELECT '{}'", "x".repeat(229_380));
    for sql in [
        format!("SELECT a FROM t WHERE a IN ({numbers}) AND b NOT IN ({numbers})"),
        format!("INSERT INTO t VALUES {}", ["(?, ?, ?)"; 500].join(", ")),
        format!("SELECT {columns} FROM wide"),
        format!(
            "SELECT a FROM t WHERE {}",
            ["(a = ? AND b = ?)"; 150].join(" OR ")
        ),
        long,
    ] {
        client
            .prepare(connection, &sql)
            .unwrap_or_else(|error| panic!("{}: {error:?}", &sql[..40]));
    }
}

/// Opens a database, prepares a statement and calls `read_row`, which calls the allocator.
fn ask_for_room(lab: &Lab, allocate: &str) -> Exit {
    let client = Client::of(lab, &lab.environment(), allocate);
    let connection = client.opened(":memory:");
    let statement = client
        .prepare(connection, "SELECT 1")
        .expect("the SQL is valid");
    match client.call(
        "read_row",
        vec![Val::I64(statement), Val::I32(RESULT as i32)],
    ) {
        Ok(_) => Exit::Normal,
        Err(exit) => exit,
    }
}

#[test]
fn t085_an_invalid_allocator_ends_its_process_with_a_message() {
    let lab = Lab::new();
    for (allocate, words) in [
        ("", "exports no function named `lunatic_alloc`"),
        (
            "(global (export \"lunatic_alloc\") i32 (i32.const 0))",
            "exports no function named `lunatic_alloc`",
        ),
        (
            "(func (export \"lunatic_alloc\"))",
            "`lunatic_alloc` has the wrong type",
        ),
        (
            "(func (export \"lunatic_alloc\") (param i64) (result i32) (i32.const 0))",
            "`lunatic_alloc` has the wrong type",
        ),
        (
            "(func (export \"lunatic_alloc\") (param i32) (result i32) (i32.const -1))",
            "bad pointer",
        ),
        (
            "(func (export \"lunatic_alloc\") (param i32) (result i32) (i32.const 2621430))",
            "bad pointer",
        ),
    ] {
        let exit = ask_for_room(&lab, allocate);
        let reason = exit
            .trap()
            .unwrap_or_else(|| panic!("{allocate}: {exit}"))
            .reason
            .clone();
        assert!(
            reason.contains(words) && reason.contains("in `lunatic::sqlite::read_row`"),
            "{reason}"
        );
    }
    let exit = ask_for_room(
        &lab,
        "(func (export \"lunatic_alloc\") (param i32) (result i32) unreachable)",
    );
    assert!(
        exit.trap()
            .is_some_and(|trap| trap.reason.contains("unreachable")),
        "{exit}"
    );
}

#[test]
fn t073_a_kill_inside_the_allocator_ends_the_process() {
    let lab = Lab::new();
    let allocate = "(func (export \"lunatic_alloc\") (param i32) (result i32)
        (call $say (i64.const 1)) (loop br 0) unreachable)";
    let client = Client::of(&lab, &lab.environment(), allocate);
    let connection = client.opened(":memory:");
    let statement = client
        .prepare(connection, "SELECT 1")
        .expect("the SQL is valid");
    client.begin(
        "read_row",
        vec![Val::I64(statement), Val::I32(RESULT as i32)],
    );
    assert_eq!(lab.hear(), 1);
    client.process.kill();
    assert!(matches!(lab.exit(&client.process), Exit::Killed));
}

#[test]
fn t086_the_allocator_may_call_host_functions_and_recursion_through_it_is_limited() {
    let lab = Lab::new();
    // This allocator finalizes the statement that is currently being read.
    let finalizes = "(func (export \"lunatic_alloc\") (param i32) (result i32)
        (call $sqlite3_finalize (i64.const 0)) (i32.const 262144))";
    assert!(ask_for_room(&lab, finalizes).is_normal());
    let again = "(func (export \"lunatic_alloc\") (param i32) (result i32)
        (call $read_row (i64.const 0) (i32.const 0)))";
    let exit = ask_for_room(&lab, again);
    assert!(
        exit.trap()
            .is_some_and(|trap| trap.reason.contains("stack overflow")),
        "{exit}"
    );
}
