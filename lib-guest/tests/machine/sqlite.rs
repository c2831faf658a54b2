//! Claims about SQLite databases.

use crate::LONG;
use lunatic::sqlite::{Connection, Error, Row, Value};
use lunatic::{Config, Environment, ExitReason, Mailbox, process};

/// SQLite result codes that the claims expect.
const ERROR: u32 = 1;
const TOOBIG: u32 = 18;
const MISMATCH: u32 = 20;
const MISUSE: u32 = 21;
const AUTH: u32 = 23;
const RANGE: u32 = 25;

fn table() -> Connection {
    let connection = Connection::open_in_memory().unwrap();
    connection
        .execute_batch("CREATE TABLE t (n INTEGER UNIQUE, s TEXT)")
        .unwrap();
    connection
}

fn count(connection: &Connection) -> i64 {
    connection
        .query_row("SELECT count(*) FROM t", ())
        .unwrap()
        .unwrap()
        .get(0)
        .unwrap()
}

fn for_ever(_: Mailbox<()>) {
    let sql =
        "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t) SELECT max(n) FROM t";
    let _ = Connection::open_in_memory().unwrap().query(sql, ());
}

claims! {
    fn values_of_every_type_are_returned_unchanged(_mailbox: Mailbox<()>) {
        let connection = Connection::open_in_memory().unwrap();
        let long = "ü".repeat(5_000);
        let values = (i64::MIN, 1.5, long.as_str(), [0_u8, 255], None::<bool>, u32::MAX, true, "");
        let row = connection.query_row("SELECT ?, ?, ?, ?, ?, ?, ?, ? AS last", values).unwrap().unwrap();
        assert_eq!(row.get(0), Ok(i64::MIN));
        assert_eq!(row.get(1), Ok(1.5));
        assert_eq!(row.get::<String>(2), Ok(long));
        assert_eq!(row.get::<Vec<u8>>(3), Ok(vec![0, 255]));
        assert_eq!(row.get::<Option<bool>>(4), Ok(None));
        assert_eq!(row.get(5), Ok(u32::MAX));
        assert_eq!(row.get(6), Ok(true));
        assert_eq!(row.get("last"), Ok(Value::Text(String::new())));
        assert_eq!(row.column_names()[7], "last");
        assert_eq!(row.get::<u8>(0).unwrap_err().code(), MISMATCH);
        assert_eq!(row.get::<i64>(4).unwrap_err().to_string(), "column `?` is NULL, not an integer");
        assert_eq!(row.get::<i64>(8).unwrap_err().code(), RANGE);
        assert_eq!(row.get::<i64>("first").unwrap_err().to_string(), "the row has no column `first`");
    }

    fn invalid_sql_is_an_error_and_the_connection_keeps_working(_mailbox: Mailbox<()>) {
        let connection = table();
        let failed = |sql: &str| connection.execute(sql, ()).unwrap_err();
        assert_eq!(failed("SELEC 1"), failed("SELEC 1"));
        assert_eq!(failed("SELEC 1").to_string(), "near \"SELEC\": syntax error");
        for (sql, code) in [
            ("SELEC 1", ERROR),
            ("", MISUSE),
            ("SELECT 1; SELECT 2", MISUSE),
            ("ATTACH 'other.db' AS other", AUTH),
            ("SELECT zeroblob(100000000)", TOOBIG),
        ] {
            assert_eq!(failed(sql).code(), code, "{sql}");
        }
        let wide = format!("SELECT '{}'", " ".repeat(2 << 20));
        assert_eq!(failed(&wide).code(), TOOBIG);
        assert_eq!(connection.execute("SELECT ?1", (1, 2)).unwrap_err().code(), RANGE);
        assert_eq!(connection.execute("SELECT :a", [("b", 1)]).unwrap_err().code(), RANGE);
        assert!(Connection::open("/nowhere/app.db").unwrap_err().to_string().contains("`/nowhere/app.db`"));
        assert_eq!(count(&connection), 0);
    }

    fn a_statement_can_be_executed_many_times(_mailbox: Mailbox<()>) {
        let connection = table();
        let mut insert = connection.prepare("INSERT INTO t VALUES (:n, :s)").unwrap();
        for n in 0..100 {
            assert_eq!(insert.execute((n, "some")), Ok(1));
        }
        assert_eq!(connection.last_insert_rowid(), 100);
        // These values are passed by name. A parameter without a value is NULL.
        insert.execute([("n", 100)]).unwrap();
        assert!(insert.execute([("n", 100)]).unwrap_err().is_constraint());
        let mut select = connection.prepare("SELECT n, s FROM t WHERE n >= ? ORDER BY n").unwrap();
        assert_eq!(select.column_names(), ["n", "s"]);
        // A query that was dropped early starts over.
        let first = |row: Result<Row, Error>| row.unwrap().get::<i64>(0).unwrap();
        assert_eq!(select.query([40]).unwrap().next().map(first), Some(40));
        assert_eq!(select.query([99]).unwrap().map(first).collect::<Vec<_>>(), [99, 100]);
        let mut rows = select.query([100]).unwrap();
        assert_eq!(rows.next().unwrap().unwrap().values(), [Value::Integer(100), Value::Null]);
        assert!(rows.next().is_none() && rows.next().is_none());
    }

    fn a_transaction_is_committed_or_rolled_back_as_a_whole(_mailbox: Mailbox<()>) {
        let connection = table();
        let insert = |numbers: &[i64]| {
            connection.transaction(|connection| {
                for n in numbers {
                    connection.execute("INSERT INTO t (n) VALUES (?)", [*n])?;
                }
                Ok::<_, Error>(numbers.len())
            })
        };
        assert_eq!(insert(&[1, 2]), Ok(2));
        assert!(insert(&[3, 1]).unwrap_err().is_constraint());
        assert_eq!(count(&connection), 2);
        // The connection can still be used if SQLite has already rolled back the transaction
        // itself.
        let failed = connection.transaction(|connection| connection.execute_batch("INSERT OR ROLLBACK INTO t (n) VALUES (1)"));
        assert!(failed.unwrap_err().is_constraint());
        assert_eq!(insert(&[3]), Ok(1));
    }

    fn a_dropped_connection_makes_room_for_another(_mailbox: Mailbox<()>) {
        for _ in 0..1_000 {
            let connection = table();
            let mut statement = connection.prepare("SELECT 1").unwrap();
            let _rows = statement.query(()).unwrap();
        }
    }

    fn an_endless_query_ends_when_its_process_ends(mailbox: Mailbox<()>) {
        let mut config = Config::new(4 << 20, None);
        config.allow_namespace("").max_time(20);
        let signal = crate::end_in(config, mailbox, for_ever);
        assert!(matches!(signal.reason, ExitReason::Limit(_)), "{signal}");
        let spinning = process::spawn(for_ever).unwrap();
        spinning.kill();
        spinning.monitor();
        // SAFETY: this process's mailbox was passed to `end_in`, so there is no other one.
        let mailbox: Mailbox<()> = unsafe { Mailbox::new() };
        assert!(mailbox.receive_timeout(LONG).is_err());
        assert!(!spinning.is_alive());
    }

    fn a_process_without_the_right_to_open_databases_cannot_open_one(mailbox: Mailbox<()>) {
        let mut config = Config::new(4 << 20, None);
        config.allow_namespace("lunatic::message").allow_namespace("wasi_snapshot_preview1");
        let _ = Environment::new(config.clone()).unwrap();
        let signal = crate::end_in(config, mailbox, for_ever);
        assert!(signal.to_string().contains("lunatic::sqlite::open"), "{signal}");
    }

    fn columns_added_to_a_table_later_have_their_names(_mailbox: Mailbox<()>) {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch("CREATE TABLE one (a); INSERT INTO one VALUES (1)").unwrap();
        let mut all = connection.prepare("SELECT * FROM one").unwrap();
        assert_eq!(all.column_names(), ["a"]);
        connection.execute_batch("ALTER TABLE one ADD COLUMN b DEFAULT 2").unwrap();
        let rows: Vec<Row> = all.query(()).unwrap().collect::<Result<_, _>>().unwrap();
        assert_eq!(rows[0].column_names(), ["a", "b"]);
        assert_eq!(rows[0].get::<i64>("b").unwrap(), 2);
        let error = rows[0].get::<String>(1).unwrap_err();
        assert_eq!(error.to_string(), "column `b` is an integer, not a string");
    }
}
