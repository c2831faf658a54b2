//! `lunatic::sqlite`: databases.
//!
//! A statement belongs to a connection and is dropped with it. SQLite's work counts toward the
//! process's compute, if compute is counted.

use crate::environment::Access;
use crate::guest::HostError;
use crate::guest::call::{Out, Range};
use crate::guest::kinds::{Buffer, Bytes, ConnectionId, Millis, OutU32, OutU64, StatementId, Text};
use crate::guest::{Call, Failure};
use crate::sqlite::{
    Account, Connection, Held, Location, MAX_LIST, MAX_SQL, Permits, SqlError, Step, Values,
};
use lunatic_abi::sqlite::write_error;
use lunatic_abi::{Errno, Limit};

/// The maximum length of a database path, in bytes.
const MAX_PATH: usize = 4096;

/// The result codes of a step, as in `sqlite3.h`.
const ROW: u32 = 100;
const DONE: u32 = 101;

/// The fuel charged for each SQLite VM instruction, which does more work than a wasm instruction.
const FUEL_PER_INSTRUCTION: u64 = 20;

fn connection<'a>(call: &'a mut Call<'_>, id: ConnectionId) -> Result<&'a mut Connection, Failure> {
    call.guest().handles().connections.get_mut(id.0)
}

/// Returns the connection that a statement belongs to.
fn connection_of(call: &mut Call<'_>, id: StatementId) -> Result<ConnectionId, Failure> {
    let connection = call.guest().handles().statements.get(id.0);
    connection.copied().map(ConnectionId)
}

fn of_statement<'a>(
    call: &'a mut Call<'_>,
    id: StatementId,
) -> Result<&'a mut Connection, Failure> {
    let connection_id = connection_of(call, id)?;
    connection(call, connection_id)
}

/// The number of SQLite VM instructions that may run in one call.
struct Allowance(u64);

impl Allowance {
    /// Gives a connection all of the guest's remaining compute.
    fn give(call: &mut Call<'_>, id: ConnectionId) -> Result<Allowance, Failure> {
        let instructions = call
            .compute_left()
            .map_or(u64::MAX, |fuel| fuel / FUEL_PER_INSTRUCTION);
        connection(call, id)?.allow(instructions);
        Ok(Allowance(instructions))
    }

    /// Charges the guest for the instructions that the connection ran. The guest is terminated if
    /// it exceeds its limit.
    fn settle(self, call: &mut Call<'_>, id: ConnectionId) -> Result<(), Failure> {
        let connection = connection(call, id)?;
        let left = connection.allowed();
        connection.allow(u64::MAX);
        match (self.0, left) {
            (u64::MAX, _) => Ok(()),
            // If the allowance is used up, charge all remaining compute, including a remainder
            // smaller than the price of one instruction.
            (_, 0) => call.charge_compute(u64::MAX),
            (given, left) => call.charge_compute((given - left) * FUEL_PER_INSTRUCTION),
        }
    }
}

/// The number of copies of an SQL string that exist at the same time: one read by the host, one
/// read by SQLite, and one kept by the statement.
const COPIES_OF_SQL: usize = 3;

/// Reads an SQL string. Its memory is charged until the second value is dropped. If the string is
/// longer than SQLite accepts, it is not copied, and the error that SQLite would report is
/// returned.
fn sql(
    call: &mut Call<'_>,
    id: ConnectionId,
    text: Text,
) -> Result<Result<(String, Held), SqlError>, Failure> {
    let range = call.range(text)?;
    let connection = connection(call, id)?;
    if range.len() > MAX_SQL {
        return Ok(connection.fail(SqlError::too_long()));
    }
    match connection.hold(COPIES_OF_SQL * range.len()) {
        Ok(held) => Ok(Ok((call.text_of(range)?, held))),
        Err(error) => Ok(Err(error)),
    }
}

/// Returns SQLite's extended result code and writes the error's id.
fn fail(call: &mut Call<'_>, out: Out<8>, error: SqlError) -> Result<u32, Failure> {
    let code = error.code.cast_unsigned();
    let id = call
        .guest()
        .keep_error(HostError::new(errno(&error), error))?;
    call.put(out, id.to_le_bytes());
    Ok(code)
}

fn errno(error: &SqlError) -> Errno {
    use rusqlite::ffi;
    match error.code & 0xff {
        ffi::SQLITE_AUTH => Errno::NotGranted,
        ffi::SQLITE_PERM | ffi::SQLITE_READONLY => Errno::PermissionDenied,
        ffi::SQLITE_NOMEM | ffi::SQLITE_FULL => Errno::Exhausted,
        ffi::SQLITE_TOOBIG => Errno::LimitReached,
        ffi::SQLITE_RANGE | ffi::SQLITE_MISUSE | ffi::SQLITE_MISMATCH => Errno::InvalidInput,
        ffi::SQLITE_CANTOPEN => Errno::NotFound,
        _ => Errno::Other,
    }
}

/// Converts an SQLite error to a trap.
fn trap(error: &SqlError) -> Failure {
    Failure::trap(format!("{error} (SQLite code {})", error.code))
}

pub(super) async fn open(
    call: &mut Call<'_>,
    path: Text,
    connection: OutU64,
) -> Result<u64, Failure> {
    let out = call.out(connection)?;
    let path = call.short_text(path, MAX_PATH)?;
    let result = match prepare_to_open(call, &path) {
        Ok((database, account)) => match Connection::open(database, &account).await {
            Ok(connection) => Ok(call.guest().handles().connections.insert(connection)),
            Err(error) => Err(HostError::new(
                errno(&error),
                format!("`{}`: {error}", lunatic_process::printable(&path)),
            )),
        },
        Err(error) => Err(error),
    };
    call.answer(out, result)
        .map(|code| code.unsigned_abs().into())
}

/// The number of descriptors that a database uses in addition to the one for its file: for its
/// journal and its directory.
const OTHER_DESCRIPTORS: u64 = 2;

/// Returns a database's location, with its share of the environment's descriptors, and the account
/// to charge for SQLite's memory.
fn prepare_to_open(call: &mut Call<'_>, path: &str) -> Result<(Location, Account), HostError> {
    let guest = call.guest();
    let (held, allowed) = (
        guest.handles().connections.len() as u64,
        guest.environment().limits().get(Limit::Files),
    );
    if held >= allowed {
        let sentence = format!(
            "a process can have at most {allowed} databases open (its limit on files); close some"
        );
        return Err(HostError::new(Errno::LimitReached, sentence));
    }
    let place = match path {
        "" | ":memory:" => Location::Memory,
        path => {
            let file = guest
                .domain()
                .config()
                .preopens
                .file(path)
                .map_err(|reason| {
                    let sentence = format!(
                        "the database `{}` cannot be opened: {reason}",
                        lunatic_process::printable(path)
                    );
                    HostError::new(Errno::PermissionDenied, sentence)
                })?;
            let is_writable = file.access == Access::Write;
            let permit = |descriptors| {
                let quota = guest.domain().quota();
                let permit = quota.permit(Limit::Descriptors, descriptors);
                permit.map_err(|reached| HostError::new(Errno::LimitReached, reached))
            };
            Location::File {
                directory: file.directory,
                path: file.path,
                is_writable,
                permits: Permits {
                    file: permit(1)?,
                    others: permit(OTHER_DESCRIPTORS)?,
                },
            }
        }
    };
    Ok((place, guest.databases()))
}

pub(super) async fn execute(
    call: &mut Call<'_>,
    id: ConnectionId,
    text: Text,
) -> Result<u32, Failure> {
    // The guest can get the reason for a failure from `last_error`.
    Ok(run(call, id, text)
        .await?
        .map_or_else(|error| error.primary(), |()| 0))
}

pub(super) async fn execute_all(
    call: &mut Call<'_>,
    id: ConnectionId,
    text: Text,
    error: OutU64,
) -> Result<u32, Failure> {
    let out = call.out(error)?;
    match run(call, id, text).await? {
        Ok(()) => Ok(0),
        Err(error) => fail(call, out, error),
    }
}

async fn run(
    call: &mut Call<'_>,
    id: ConnectionId,
    text: Text,
) -> Result<Result<(), SqlError>, Failure> {
    let (text, _held) = match sql(call, id, text)? {
        Ok(text) => text,
        Err(error) => return Ok(Err(error)),
    };
    let allowance = Allowance::give(call, id)?;
    let result = connection(call, id)?.execute(&text).await;
    allowance.settle(call, id)?;
    Ok(result)
}

pub(super) async fn query_prepare(
    call: &mut Call<'_>,
    id: ConnectionId,
    text: Text,
) -> Result<u64, Failure> {
    prepare_first(call, id, text, false)
        .await?
        .map_err(|error| trap(&error))
}

pub(super) async fn prepare(
    call: &mut Call<'_>,
    id: ConnectionId,
    text: Text,
    statement: OutU64,
) -> Result<u32, Failure> {
    let out = call.out(statement)?;
    match prepare_first(call, id, text, true).await? {
        Ok(statement) => {
            call.put(out, statement.to_le_bytes());
            Ok(0)
        }
        Err(error) => fail(call, out, error),
    }
}

async fn prepare_first(
    call: &mut Call<'_>,
    id: ConnectionId,
    text: Text,
    is_alone: bool,
) -> Result<Result<u64, SqlError>, Failure> {
    let text = sql(call, id, text)?;
    let statements = call.guest().handles().statements.len();
    call.guest().room_for(statements, "statements")?;
    let (text, _held) = match text {
        Ok(text) => text,
        Err(error) => return Ok(Err(error)),
    };
    let statement = call.guest().handles().statements.insert(id.0);
    let allowance = Allowance::give(call, id)?;
    let prepared = connection(call, id)?
        .prepare(statement, &text, is_alone)
        .await;
    if prepared.is_err() {
        call.guest().handles().statements.remove(statement)?;
    }
    allowance.settle(call, id)?;
    Ok(prepared.map(|()| statement))
}

pub(super) async fn bind_value(
    call: &mut Call<'_>,
    id: StatementId,
    values: Bytes,
) -> Result<(), Failure> {
    let bound = match list(call, id, values).await? {
        Ok(values) => of_statement(call, id)?.bind(id.0, values).await,
        Err(error) => Err(error),
    };
    bound.map_err(|error| trap(&error))
}

pub(super) async fn bind(
    call: &mut Call<'_>,
    id: StatementId,
    values: Bytes,
    error: OutU64,
) -> Result<u32, Failure> {
    let out = call.out(error)?;
    let bound = match list(call, id, values).await? {
        Ok(values) => of_statement(call, id)?.bind_anew(id.0, values).await,
        Err(error) => Err(error),
    };
    match bound {
        Ok(()) => Ok(0),
        Err(error) => fail(call, out, error),
    }
}

/// Copies a list of values, unless it is too large.
async fn list(
    call: &mut Call<'_>,
    id: StatementId,
    values: Bytes,
) -> Result<Result<Values, SqlError>, Failure> {
    let range = call.range(values)?;
    if range.len() > MAX_LIST {
        let error = SqlError::too_large("a list of values");
        return Ok(of_statement(call, id)?.fail(error));
    }
    let held = match of_statement(call, id)?.hold(range.len()) {
        Ok(held) => held,
        Err(error) => return Ok(Err(error)),
    };
    Ok(Ok(Values::new(call.copied(range).await, held)))
}

pub(super) fn sqlite3_changes(call: &mut Call<'_>, id: ConnectionId) -> Result<u32, Failure> {
    let changes = connection(call, id)?.database().changes();
    Ok(u32::try_from(changes).unwrap_or(u32::MAX))
}

pub(super) fn last_insert_rowid(call: &mut Call<'_>, id: ConnectionId) -> Result<i64, Failure> {
    Ok(connection(call, id)?.database().last_insert_rowid())
}

pub(super) fn set_busy_timeout(
    call: &mut Call<'_>,
    id: ConnectionId,
    timeout: Millis,
) -> Result<(), Failure> {
    connection(call, id)?.set_busy_timeout(timeout.0);
    Ok(())
}

pub(super) async fn statement_reset(call: &mut Call<'_>, id: StatementId) -> Result<(), Failure> {
    of_statement(call, id)?.reset(id.0).await;
    Ok(())
}

pub(super) async fn sqlite3_step(call: &mut Call<'_>, id: StatementId) -> Result<u32, Failure> {
    match step(call, id).await?.map_err(|error| trap(&error))? {
        Step::Row => Ok(ROW),
        Step::Done => Ok(DONE),
    }
}

async fn step(call: &mut Call<'_>, id: StatementId) -> Result<Result<Step, SqlError>, Failure> {
    let connection_id = connection_of(call, id)?;
    let allowance = Allowance::give(call, connection_id)?;
    let step = connection(call, connection_id)?.step(id.0).await;
    allowance.settle(call, connection_id)?;
    Ok(step)
}

pub(super) async fn step_row(
    call: &mut Call<'_>,
    id: StatementId,
    buffer: Buffer,
    size: OutU64,
) -> Result<u32, Failure> {
    let out = call.out(size)?;
    let buffer = call.range(buffer)?;
    match step(call, id).await? {
        Ok(Step::Row) => match of_statement(call, id)?.row(id.0).await {
            Ok(row) => {
                let size = copy(call, &row.bytes, buffer).await;
                call.put(out, size.to_le_bytes());
                Ok(ROW)
            }
            Err(error) => fail(call, out, error),
        },
        Ok(Step::Done) => Ok(DONE),
        Err(error) => fail(call, out, error),
    }
}

pub(super) async fn copy_row(
    call: &mut Call<'_>,
    id: StatementId,
    buffer: Buffer,
) -> Result<u64, Failure> {
    let buffer = call.range(buffer)?;
    let row = row(call, id).await?;
    Ok(copy(call, &row.bytes, buffer).await)
}

pub(super) async fn copy_column_names(
    call: &mut Call<'_>,
    id: StatementId,
    buffer: Buffer,
) -> Result<u64, Failure> {
    let buffer = call.range(buffer)?;
    let names = names(call, id).await?;
    Ok(copy(call, &names.bytes, buffer).await)
}

/// Returns the current row's values, for functions that can fail only by trapping.
async fn row(call: &mut Call<'_>, id: StatementId) -> Result<Values, Failure> {
    let row = of_statement(call, id)?.row(id.0).await;
    row.map_err(|error| trap(&error))
}

/// Returns the column names, for functions that can fail only by trapping.
async fn names(call: &mut Call<'_>, id: StatementId) -> Result<Values, Failure> {
    let names = of_statement(call, id)?.column_names(id.0).await;
    names.map_err(|error| trap(&error))
}

/// Copies as many bytes as fit and returns the full length.
async fn copy(call: &mut Call<'_>, bytes: &[u8], buffer: Range) -> u64 {
    call.paste(buffer, bytes).await;
    bytes.len() as u64
}

pub(super) async fn sqlite3_finalize(call: &mut Call<'_>, id: StatementId) -> Result<(), Failure> {
    of_statement(call, id)?.finalize(id.0).await;
    call.guest().handles().statements.remove(id.0).map(drop)
}

pub(super) async fn drop_connection(call: &mut Call<'_>, id: ConnectionId) -> Result<(), Failure> {
    let handles = call.guest().handles();
    let connection = handles.connections.remove(id.0)?;
    handles.statements.retain(|_, of| *of != id.0);
    connection.close().await;
    Ok(())
}

pub(super) fn column_count(call: &mut Call<'_>, id: StatementId) -> Result<u32, Failure> {
    Ok(of_statement(call, id)?.database().column_count(id.0))
}

fn no_column(column: u32) -> Failure {
    Failure::trap(format!("the statement has no column {column}"))
}

pub(super) async fn column_name(
    call: &mut Call<'_>,
    id: StatementId,
    column: u32,
    length: OutU32,
) -> Result<u32, Failure> {
    let out = call.out(length)?;
    let name = of_statement(call, id)?
        .database()
        .column_name(id.0, column)
        .ok_or_else(|| no_column(column))?;
    call.give(name.as_bytes(), out).await
}

pub(super) async fn column_names(
    call: &mut Call<'_>,
    id: StatementId,
    length: OutU32,
) -> Result<u32, Failure> {
    let out = call.out(length)?;
    let names = names(call, id).await?;
    call.give(&names.bytes, out).await
}

pub(super) async fn read_column(
    call: &mut Call<'_>,
    id: StatementId,
    column: u32,
    length: OutU32,
) -> Result<u32, Failure> {
    let out = call.out(length)?;
    let value = of_statement(call, id)?.column(id.0, column).await;
    let value = value
        .map_err(|error| trap(&error))?
        .ok_or_else(|| no_column(column))?;
    call.give(&value.bytes, out).await
}

pub(super) async fn read_row(
    call: &mut Call<'_>,
    id: StatementId,
    length: OutU32,
) -> Result<u32, Failure> {
    let out = call.out(length)?;
    let row = row(call, id).await?;
    call.give(&row.bytes, out).await
}

pub(super) async fn last_error(
    call: &mut Call<'_>,
    id: ConnectionId,
    length: OutU32,
) -> Result<u32, Failure> {
    let out = call.out(length)?;
    let Some(failed) = connection(call, id)?.failed().cloned() else {
        return Err(Failure::trap(
            "the last call on the connection did not fail",
        ));
    };
    let mut error = Vec::new();
    write_error(&mut error, failed.primary(), &failed.message);
    call.give(&error, out).await
}
