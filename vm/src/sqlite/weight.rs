//! Limits how long a statement's values may be, so that the statement can be interrupted in time.
//!
//! SQLite checks for interruption only at the end of loops. In between, it executes instructions
//! that may each read a whole value, such as a comparison or a conversion to a number, which takes
//! up to 3 ms for a value of 1 MiB. Nothing else interrupts these instructions, since they allocate
//! no memory. A statement with many of them can therefore only use shorter values.

use super::database::MAX_LENGTH;
use super::functions;

/// How many bytes a statement's instructions may read before SQLite checks for interruption.
pub(super) const MAX_READ: u64 = 1 << 29;

/// A statement whose compiled program has at most this size, in bytes, can use values of any
/// length: even if each of its instructions read the longest value, it would stay within about
/// `MAX_READ`. An instruction takes 24 bytes.
pub(super) const SMALL_PROGRAM: usize = 24 * (MAX_READ as usize / MAX_LENGTH as usize);

/// The weight of an instruction that parses a value or compares it character by character. An
/// instruction that copies a value has a weight of 1.
const READS: u64 = 32;

/// The instructions that do not read values. `SCopy` and `Variable` copy the address of a value.
const FREE: &[&str] = &[
    "AutoCommit",
    "BeginSubrtn",
    "Close",
    "CollSeq",
    "DecrJumpZero",
    "EndCoroutine",
    "Explain",
    "Goto",
    "Gosub",
    "Halt",
    "IfNullRow",
    "IfPos",
    "Init",
    "InitCoroutine",
    "Int64",
    "IntCopy",
    "Integer",
    "IsNull",
    "Move",
    "Next",
    "Noop",
    "NotNull",
    "Null",
    "NullRow",
    "Once",
    "OpenAutoindex",
    "OpenDup",
    "OpenEphemeral",
    "OpenPseudo",
    "OpenRead",
    "OpenWrite",
    "Param",
    "Prev",
    "ReadCookie",
    "Real",
    "ReleaseReg",
    "ReopenIdx",
    "ResetCount",
    "ResultRow",
    "Return",
    "Rewind",
    "Rowid",
    "SCopy",
    "Sequence",
    "SoftNull",
    "SorterOpen",
    "String",
    "String8",
    "TableLock",
    "Trace",
    "Transaction",
    "Variable",
    "Yield",
];

/// The instructions that copy values, in addition to `Affinity` and `MakeRecord`.
const COPIES: &[&str] = &[
    "Column",
    "Concat",
    "Copy",
    "Delete",
    "IdxDelete",
    "Insert",
    "RowData",
    "SorterData",
    "SorterInsert",
];

/// How much the instructions in a statement and its triggers read.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Weight {
    total: u64,
    /// The length of the longest blob that is part of the program. Unlike other values, it is never
    /// compared with the limit on lengths.
    blob: i32,
}

impl Weight {
    /// Adds an instruction, whose operands are passed as `EXPLAIN` shows them.
    pub(super) fn add(&mut self, instruction: &str, p1: i32, p2: i32, p4: &str) {
        let converted = || p4.bytes().filter(|affinity| *affinity > b'B').count() as u64;
        self.total += match instruction {
            "Blob" => {
                self.blob = self.blob.max(p1);
                0
            }
            "Affinity" | "MakeRecord" => 1 + READS * converted(),
            // A function of our own, shown as `like(2)`.
            "Function" | "PureFunc" if p4.split('(').next().is_some_and(functions::stops) => 1,
            // This instruction converts values to the types of a strict table's columns.
            "TypeCheck" => READS * u64::try_from(p2).unwrap_or(0),
            name if FREE.contains(&name) => 0,
            name if COPIES.contains(&name) => 1,
            _ => READS,
        };
    }

    /// Returns the maximum length of the values, in bytes, or `None` if the program itself contains
    /// a longer value.
    pub(super) fn longest(&self) -> Option<i32> {
        let longest = MAX_READ * READS / self.total.max(1);
        let longest = i32::try_from(longest).unwrap_or(i32::MAX).min(MAX_LENGTH);
        (self.blob <= longest).then_some(longest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sqlite::control::CHECK_INTERVAL;
    use rusqlite::limits::Limit;
    use rusqlite::{Connection, StatementStatus};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    #[test]
    fn the_more_instructions_read_values_the_shorter_the_values_must_be() {
        let of = |instructions: &[(&str, i32, &str)], times: usize| {
            let mut weight = Weight::default();
            for _ in 0..times {
                for (name, p2, p4) in instructions {
                    weight.add(name, 0, *p2, p4);
                }
            }
            weight.longest()
        };
        let comparisons = [("Integer", 1, ""), ("Eq", 9, ""), ("ZeroOrNull", 1, "")];
        let rows = [("Variable", 1, ""), ("Variable", 2, ""), ("Yield", 0, "")];
        for (instructions, times, longest) in [
            (&comparisons[..], 200, MAX_LENGTH),
            (&comparisons[..1], 100_000, MAX_LENGTH),
            (&comparisons[..2], 1_024, MAX_LENGTH / 2),
            (&rows, 100_000, MAX_LENGTH),
            (&[("Affinity", 3, "BBB")], 1_000, MAX_LENGTH),
            (&[("Affinity", 2, "DC")], 512, 516_222),
            (&[("TypeCheck", 2, "t")], 512, MAX_LENGTH / 2),
            (&[("Column", 2, "")], 16_384, MAX_LENGTH),
            (&[("Function", 2, "like(2)")], 16_384, MAX_LENGTH),
            (&[("Function", 2, "length(1)")], 1_024, MAX_LENGTH / 2),
            // Instructions added in future versions are assumed to read values.
            (&[("Unknown", 0, "")], 1_024, MAX_LENGTH / 2),
        ] {
            assert_eq!(of(instructions, times), Some(longest), "{instructions:?}");
        }
    }

    #[test]
    fn a_blob_in_the_program_may_be_no_longer_than_other_values() {
        let mut weight = Weight::default();
        weight.add("Blob", 500_000, 1, "");
        assert_eq!(weight.longest(), Some(MAX_LENGTH));
        for _ in 0..2_000 {
            weight.add("Add", 1, 1, "");
        }
        assert_eq!(weight.longest(), None);
    }

    /// Weighs a statement, and lets SQLite run it after it has been told to stop. Returns the
    /// number of instructions that were executed anyway, and the maximum length of the values.
    fn run_when_it_has_to_stop(sql: &str) -> (u64, u64) {
        let stops = Arc::new(AtomicBool::new(false));
        let handler = stops.clone();
        let mut connection = Connection::open_in_memory().expect("memory is available");
        connection
            .progress_handler(
                CHECK_INTERVAL as i32,
                Some(move || handler.load(Ordering::SeqCst)),
            )
            .expect("the connection is open");
        connection
            .execute_batch("CREATE TABLE t (a TEXT, b INTEGER)")
            .expect("the SQL is valid");
        let mut weight = Weight::default();
        let explain = format!("EXPLAIN {sql}");
        let mut explained = connection.prepare(&explain).expect(sql);
        let mut rows = explained.raw_query();
        while let Some(row) = rows.next().expect(sql) {
            let text = |column| row.get::<_, Option<String>>(column).expect(sql);
            let number = |column| row.get(column).expect(sql);
            let (name, p4) = (text(1).unwrap_or_default(), text(5).unwrap_or_default());
            weight.add(&name, number(2), number(3), &p4);
        }
        drop(rows);
        let longest = weight.longest().expect("the program has no blob");
        connection
            .set_limit(Limit::SQLITE_LIMIT_LENGTH, longest)
            .expect("the limit exists");
        let mut statement = connection.prepare(sql).expect(sql);
        let value = "1".repeat(longest as usize / 2);
        for parameter in 1..=statement.parameter_count() {
            statement
                .raw_bind_parameter(parameter, &value)
                .expect("the value is short enough");
        }
        stops.store(true, Ordering::SeqCst);
        // The statement is interrupted or completes with its first row.
        let _ = statement.raw_query().next().map(drop);
        let steps = statement.get_status(StatementStatus::VmStep);
        (
            u64::try_from(steps).expect("steps are counted"),
            longest as u64,
        )
    }

    #[test]
    fn a_statement_that_has_to_stop_reads_a_bounded_number_of_bytes() {
        let endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)";
        let many = |operation: &str| {
            let column = vec![format!("({operation})"); 20].join(" OR ");
            format!("SELECT {}", vec![column; 500].join(", "))
        };
        let rows = format!("INSERT INTO t VALUES {}", ["(?, ?)"; 2_000].join(", "));
        let listed = format!("SELECT ?1 IN ({})", ["?2"; 5_000].join(", "));
        for sql in [
            many("?1 = ?2"),
            many("?1 COLLATE NOCASE < ?2"),
            many("?1 + 1"),
            many("CAST(?1 AS REAL)"),
            many("(?1, ?2) > (?2, ?1)"),
            many("?1 || ?2"),
            many("max(?1, ?2)"),
            rows,
            listed,
            format!("{endless} SELECT count(*) FROM n WHERE ?1 = ?2 COLLATE NOCASE"),
            format!("{endless} SELECT i FROM n ORDER BY ?1 || i"),
            format!("{endless} SELECT count(*) FROM n GROUP BY i + ?1"),
            format!("{endless} SELECT DISTINCT i % 7 || ?1 FROM n WHERE i > 7"),
            format!("{endless} SELECT i FROM n UNION SELECT ?1 || i FROM n"),
            format!("{endless} SELECT sum(i) OVER (ORDER BY i + ?1) FROM n"),
            format!("{endless} INSERT INTO t SELECT ?1, i FROM n"),
        ] {
            let (steps, longest) = run_when_it_has_to_stop(&sql);
            let sql = &sql[..sql.len().min(100)];
            assert!(
                steps * longest <= 6 * MAX_READ,
                "{sql}: {steps} steps with values of {longest} bytes"
            );
        }
    }
}
