//! Incorrect calls to every row, derived from the kinds of the row's parameters.

use super::{call_of, call_with_result, imports_of};
use crate::support::constant;
use lunatic_abi::parameter::I64;
use lunatic_abi::{Generation, HostFunction, Kind, MessageHeader};
use std::fmt;
use std::fmt::Write;

/// The memory size of attacking guests: one page.
const SIZE: u64 = 65_536;

/// The addresses of the data that a valid call points to.
const FUNCTION: u64 = 1_024;
const ADDRESS: u64 = 1_040;
const VECTOR: u64 = 2_048;
const NOT_TEXT: u64 = 3_000;
const SQL: u64 = 3_100;
const QUERY: u64 = 3_104;
const BUFFER: u64 = 4_096;
const RESULTS: u64 = 8_192;
const SCRATCH: u64 = 16_384;
const CERTIFICATE: u64 = 32_768;
const KEY: u64 = 40_960;

/// The address of a string that is not a host name, so that no lookup is made.
const NO_HOST: u64 = 1_056;
const LOCALHOST: &str = "127.0.0.1";
const HOST: u64 = 1_064;
const CHILD: &str = "serves";
const CHILD_NAME: u64 = 1_080;
const AUTHORITY: u64 = 2_064;

/// A call to a row with one wrong argument, or with two that are wrong in combination.
pub(super) struct Attack {
    row: &'static HostFunction,
    /// The numbers that the guest passes for each parameter.
    arguments: Vec<Vec<u64>>,
    weapon: Weapon,
    /// The index of the wrong parameter.
    parameter: usize,
    pub(super) expected: Expected,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Weapon {
    Pointer,
    Count,
    Id,
    Text,
    Number,
}

/// The required outcome of a call.
#[derive(Clone, Copy, Debug)]
pub(super) enum Expected {
    /// A trap whose message contains these words.
    Trap(&'static str),
    /// The call returns, with any result.
    Answer,
    /// The call returns, traps with a message that names the function, or ends the process as
    /// requested.
    Either,
}

impl Attack {
    pub(super) fn row(&self) -> &'static HostFunction {
        self.row
    }

    pub(super) fn is_pointer(&self) -> bool {
        self.weapon == Weapon::Pointer
    }

    pub(super) fn is_count(&self) -> bool {
        self.weapon == Weapon::Count
    }

    pub(super) fn is_id(&self) -> bool {
        self.weapon == Weapon::Id
    }

    /// Returns whether the call passes the id of the first resource of the parameter's kind. This
    /// is an attack if the caller has no such resource.
    pub(super) fn is_first_id(&self) -> bool {
        self.is_id() && self.arguments[self.parameter] == [0]
    }

    pub(super) fn is_text(&self) -> bool {
        self.weapon == Weapon::Text
    }

    pub(super) fn is_number(&self) -> bool {
        self.weapon == Weapon::Number
    }

    /// Returns whether the call may wait longer than any test does.
    pub(super) fn may_wait(&self) -> bool {
        let is_accept =
            is_accept_without_client(self.row()) && matches!(self.expected, Expected::Either);
        let kind = self.row().parameters[self.parameter].kind;
        is_accept || self.row().waits && matches!(kind, Kind::Millis | Kind::ShortMillis)
    }

    /// Returns the name of the function that creates one resource of every kind that the call could
    /// need.
    pub(super) fn prepare(&self) -> &'static str {
        let is_tls = |kind| matches!(kind, Kind::TlsListenerId | Kind::TlsStreamId);
        let needs_tls = self
            .row()
            .parameters
            .iter()
            .any(|parameter| is_tls(parameter.kind));
        if needs_tls { "prepare_all" } else { "prepare" }
    }
}

impl fmt::Display for Attack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let row = self.row();
        write!(f, "{}::{}(", row.namespace, row.name)?;
        for (index, (parameter, values)) in row.parameters.iter().zip(&self.arguments).enumerate() {
            let mark = if index == self.parameter { "!" } else { "" };
            write!(
                f,
                "{}{mark}{}: {values:#x?}",
                if index == 0 { "" } else { ", " },
                parameter.name
            )?;
        }
        f.write_str(")")
    }
}

/// Returns all attacks on all rows of a generation.
pub(super) fn attacks(generation: Generation) -> Vec<Attack> {
    let mut attacks = Vec::new();
    for row in generation.host_functions() {
        let good: Vec<Vec<u64>> = (0..row.parameters.len())
            .map(|index| good(row, index))
            .collect();
        for parameter in 0..row.parameters.len() {
            // Replaces the numbers that the call passes for the parameter, starting with the one at
            // index `first`.
            let mut add = |weapon, first: usize, wrong: &[u64], expected| {
                let expected = match expected {
                    Expected::Answer if is_accept_without_client(row) => Expected::Either,
                    expected => expected,
                };
                let mut arguments = good.clone();
                arguments[parameter][first..first + wrong.len()].copy_from_slice(wrong);
                attacks.push(Attack {
                    row,
                    arguments,
                    weapon,
                    parameter,
                    expected,
                });
            };
            on_parameter(row, parameter, &mut add);
        }
    }
    attacks
}

/// Returns a valid call to each row of a generation.
pub(super) fn valid_calls(generation: Generation) -> Vec<Attack> {
    let rows = generation.host_functions();
    rows.map(|row| Attack {
        row,
        arguments: (0..row.parameters.len())
            .map(|index| good(row, index))
            .collect(),
        weapon: Weapon::Number,
        parameter: 0,
        expected: Expected::Either,
    })
    .collect()
}

/// Returns a call to each row that takes a slice. Each slice is the upper half of a `size`-byte
/// memory.
pub(super) fn huge_slices(generation: Generation, size: u64) -> Vec<Attack> {
    let attack = |row: &'static HostFunction| {
        let mut first = None;
        let arguments = (0..row.parameters.len()).map(|index| {
            let item = match row.parameters[index].kind {
                Kind::Bytes | Kind::Text | Kind::Buffer => 1,
                Kind::Words | Kind::OutWords | Kind::Vectors => 8,
                _ => return good(row, index),
            };
            first.get_or_insert(index);
            vec![size / 2, size / 2 / item]
        });
        let arguments = arguments.collect();
        Some(Attack {
            row,
            arguments,
            weapon: Weapon::Count,
            parameter: first?,
            expected: Expected::Either,
        })
    };
    generation.host_functions().filter_map(attack).collect()
}

/// Returns whether the call waits for a client that an attacking process cannot have, because a
/// process cannot complete a handshake with itself.
fn is_accept_without_client(row: &HostFunction) -> bool {
    row.name == "tls_accept"
}

const BAD_POINTER: Expected = Expected::Trap("bad pointer");

/// Passes `add` every attack on a parameter: the weapon, the index of the first number to replace,
/// the replacements, and the required outcome.
fn on_parameter(
    row: &HostFunction,
    index: usize,
    add: &mut impl FnMut(Weapon, usize, &[u64], Expected),
) {
    let kind = row.parameters[index].kind;
    match kind {
        Kind::Bytes | Kind::Text | Kind::Buffer | Kind::Words | Kind::Vectors => {
            let unit = match kind {
                Kind::Words | Kind::Vectors => 8,
                _ => 1,
            };
            on_slice(unit, add);
            if kind == Kind::Text {
                for length in [1, 4] {
                    add(
                        Weapon::Text,
                        0,
                        &[NOT_TEXT, length],
                        Expected::Trap("not UTF-8"),
                    );
                }
                // These bytes are half of a character, and a surrogate.
                for wrong in [[NOT_TEXT + 4, 1], [NOT_TEXT + 8, 3]] {
                    add(Weapon::Text, 0, &wrong, Expected::Trap("not UTF-8"));
                }
            }
            if kind == Kind::Vectors {
                // The list is valid, but its entries have invalid addresses.
                for wrong in [[VECTOR + 8, 1], [VECTOR, 2]] {
                    add(Weapon::Pointer, 0, &wrong, BAD_POINTER);
                }
            }
        }
        Kind::OutWords => {
            for start in [SIZE, SIZE - 7, 0xffff_fff8, 0xffff_ffff] {
                add(Weapon::Pointer, 0, &[start, 1], BAD_POINTER);
            }
            add(Weapon::Pointer, 0, &[SIZE + 1, 0], BAD_POINTER);
            add(Weapon::Pointer, 0, &[SIZE, 0], Expected::Either);
            add(Weapon::Pointer, 0, &[SIZE - 8, 1], good_outcome(row));
            for count in [
                2,
                0x2000_0000,
                0x2000_0001,
                0x4000_0000,
                0x8000_0000,
                0xffff_ffff,
            ] {
                add(Weapon::Count, 0, &[SIZE - 8, count], BAD_POINTER);
            }
            on_number(1, add);
        }
        Kind::SocketAddr => {
            for family in [0, 5, 0xffff_ffff] {
                add(Weapon::Number, 0, &[family], Expected::Trap("family"));
            }
            for start in [SIZE, SIZE - 3, 0xffff_ffff] {
                add(Weapon::Pointer, 1, &[start], BAD_POINTER);
            }
            for part in 2..5 {
                on_number(part, add);
            }
        }
        Kind::OutU16
        | Kind::OutU32
        | Kind::OutU64
        | Kind::OutIpBytes
        | Kind::OutHeader
        | Kind::OutText
        | Kind::OutUuid => {
            let size = match kind {
                Kind::OutU16 => 2,
                Kind::OutU32 => 4,
                Kind::OutU64 => 8,
                Kind::OutIpBytes | Kind::OutUuid => 16,
                Kind::OutHeader => MessageHeader::SIZE as u64,
                _ => 1,
            };
            for start in [
                SIZE - size + 1,
                SIZE,
                SIZE + 1,
                0x8000_0000,
                0xffff_fffc,
                0xffff_ffff,
            ] {
                add(Weapon::Pointer, 0, &[start], BAD_POINTER);
            }
            // Unaligned addresses are valid.
            add(Weapon::Pointer, 0, &[RESULTS + 1], good_outcome(row));
            if kind != Kind::OutText {
                add(Weapon::Pointer, 0, &[SIZE - size], good_outcome(row));
            }
        }
        Kind::TimerId => {
            for id in [1, 77, u64::MAX, 1 << 63] {
                add(Weapon::Id, 0, &[id], Expected::Answer);
            }
        }
        Kind::ConfigId
        | Kind::ModuleId
        | Kind::EnvironmentId
        | Kind::DnsId
        | Kind::ListenerId
        | Kind::StreamId
        | Kind::TlsListenerId
        | Kind::TlsStreamId
        | Kind::UdpSocketId
        | Kind::ErrorId
        | Kind::ConnectionId
        | Kind::StatementId
        | Kind::ProcessId
        | Kind::AddedModuleId => {
            add(Weapon::Id, 0, &[0], good_outcome(row));
            for id in [77, 1 << 32, 1 << 63, u64::MAX - 1] {
                add(Weapon::Id, 0, &[id], Expected::Trap("there is no"));
            }
            if !matches!(kind, Kind::DnsId | Kind::ProcessId) {
                // The guest has two resources of each of the excluded kinds and one resource of
                // every other kind, so 1 is not the id of a resource of this kind. An id is valid
                // only for its own kind.
                add(Weapon::Id, 0, &[1], Expected::Trap("there is no"));
            }
            if !means_own(row, kind) {
                add(Weapon::Id, 0, &[u64::MAX], Expected::Trap("there is no"));
            }
        }
        Kind::Pid => {
            for pid in [0, 1, 77, u64::MAX, 1 << 63] {
                add(Weapon::Number, 0, &[pid], Expected::Either);
            }
        }
        Kind::Millis => {
            for time in [0, 1, u64::MAX - 1, u64::MAX, 1 << 63, 1 << 53] {
                add(Weapon::Number, 0, &[time], Expected::Either);
            }
        }
        Kind::I32 | Kind::U32 | Kind::ShortMillis => on_number(0, add),
        Kind::F64 => {
            for number in [
                0.0,
                -0.0,
                -1.0,
                f64::MIN_POSITIVE,
                f64::MAX,
                f64::INFINITY,
                f64::NEG_INFINITY,
                f64::NAN,
            ] {
                add(Weapon::Number, 0, &[number.to_bits()], Expected::Either);
            }
        }
        Kind::I64 | Kind::U64 | Kind::Tag => {
            for number in [0, 1, u64::MAX, 1 << 63, i64::MAX as u64] {
                add(Weapon::Number, 0, &[number], Expected::Either);
            }
        }
    }
}

/// Passes `add` the attacks on a slice that is read or written. Each item of the slice has `unit`
/// bytes.
fn on_slice(unit: u64, add: &mut impl FnMut(Weapon, usize, &[u64], Expected)) {
    for start in [SIZE, SIZE - unit + 1, 0x7fff_ffff, 0xffff_fff8, 0xffff_ffff] {
        add(Weapon::Pointer, 0, &[start, 1], BAD_POINTER);
    }
    for start in [SIZE + 1, 0xffff_ffff] {
        add(Weapon::Pointer, 0, &[start, 0], BAD_POINTER);
    }
    // An empty slice at the end of the memory is within bounds. The result depends on how the
    // function treats an empty slice.
    add(Weapon::Pointer, 0, &[SIZE, 0], Expected::Either);
    if unit == 1 {
        // If the end of the slice were computed in 32 bits, it would be before the beginning.
        for (start, length) in [
            (0xffff_fff0, 0x20),
            (SIZE - 1, 2),
            (0, SIZE + 1),
            (1, 0xffff_ffff),
        ] {
            add(Weapon::Count, 0, &[start, length], BAD_POINTER);
        }
    } else {
        for count in [
            0x2000_0000,
            0x2000_0001,
            0x4000_0000,
            0x8000_0000,
            0xffff_ffff,
        ] {
            add(Weapon::Count, 0, &[0, count], Expected::Trap(""));
        }
        add(Weapon::Count, 0, &[SIZE - 8, 2], BAD_POINTER);
    }
    // The length is wrong, but the address is valid.
    on_number(1, add);
}

/// Passes `add` the attacks on one 32-bit number of a parameter.
fn on_number(part: usize, add: &mut impl FnMut(Weapon, usize, &[u64], Expected)) {
    for number in [0, 1, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, 65_536] {
        add(Weapon::Number, part, &[number], Expected::Either);
    }
}

/// Returns the required outcome of a valid call.
fn good_outcome(row: &HostFunction) -> Expected {
    match row.name {
        // The guest has no directory that it could grant.
        "config_preopen_dir" => Expected::Trap("not inside any of the environment's directories"),
        "test_root_cert" | "default_server_certificates" | "sign_node" => {
            Expected::Trap("there is no cluster")
        }
        _ => Expected::Answer,
    }
}

/// Returns whether a number of all ones refers to the caller's own resource and is therefore not a
/// forged id.
fn means_own(row: &HostFunction, kind: Kind) -> bool {
    let is_given_back = row.name.starts_with("drop");
    match kind {
        Kind::ModuleId | Kind::EnvironmentId => !is_given_back,
        Kind::ConfigId => matches!(row.name, "spawn" | "get_or_spawn"),
        _ => false,
    }
}

/// Returns the numbers to pass for a parameter in a valid call. If the other parameters are valid
/// too, the call has an effect.
fn good(row: &HostFunction, index: usize) -> Vec<u64> {
    let parameter = row.parameters[index];
    match parameter.kind {
        Kind::Text if parameter.name == "sql" => vec![SQL, 4],
        Kind::Text if row.namespace == "lunatic::networking" => vec![NO_HOST, 4],
        Kind::Text => vec![FUNCTION, 4],
        // The list is empty.
        Kind::Bytes if parameter.name == "values" => vec![BUFFER, 8],
        // The process takes no parameters.
        Kind::Bytes if parameter.name == "parameters" => vec![FUNCTION, 0],
        Kind::Bytes => vec![FUNCTION, 4],
        Kind::Buffer | Kind::OutWords => vec![BUFFER, 4],
        Kind::Words => vec![BUFFER, 0],
        Kind::Vectors => vec![VECTOR, 1],
        Kind::SocketAddr => vec![4, ADDRESS, 0, 0, 0],
        Kind::OutU16
        | Kind::OutU32
        | Kind::OutU64
        | Kind::OutIpBytes
        | Kind::OutHeader
        | Kind::OutText
        | Kind::OutUuid => vec![RESULTS + 64 * index as u64],
        Kind::Tag => vec![5],
        // A datagram must be allowed to pass at least one router.
        Kind::U32 if parameter.name == "ttl" => vec![1],
        // A timeout of 0 would mean forever.
        Kind::ShortMillis => vec![1],
        // 0 means no process, no delay, the number zero, or the first resource that the guest
        // holds.
        _ => vec![0],
    }
}

/// Returns the source of a guest that can create one resource of every kind and then make each
/// attack. `prepare` creates the resources that do not need another process, and `prepare_all` also
/// creates the others. The attacks are named `attack0`, `attack1` and so on. Each attack is made
/// `times` times.
pub(super) fn prepared_guest(generation: Generation, attacks: &[Attack], times: u32) -> String {
    let idle = match generation {
        Generation::V0_13 | Generation::V0_12 | Generation::V0_10 => {
            "(i32.const 0) (i32.const 0) (i64.const -1)"
        }
        Generation::V0_7 => "(i32.const 0) (i32.const 0) (i32.const 0)",
        Generation::V0_6 => "(i64.const 0) (i32.const 0)",
    };
    let mut text = format!(
        "(module {}
            (import \"test\" \"say\" (func $say (param i64)))
            (memory (export \"memory\") 1)
            (func (export \"lunatic_alloc\") (param i32) (result i32) (i32.const {SCRATCH}))
            (data (i32.const {FUNCTION}) \"idle\")
            (data (i32.const {SQL}) \"END;\")
            (data (i32.const {QUERY}) \"SELECT 1\")
            (data (i32.const {ADDRESS}) \"\\7f\\00\\00\\01\")
            (data (i32.const {VECTOR}) \"\\00\\04\\00\\00\\04\\00\\00\\00\" \"\\ff\\ff\\00\\00\\02\\00\\00\\00\")
            (data (i32.const {NOT_TEXT}) \"\\ff\\fe\\fd\\fc\" \"\\c3\\28zz\" \"\\ed\\a0\\80\")
            (func (export \"idle\") {})
            (func $prepare (export \"prepare\")\n",
        imports_of(generation),
        call_of(generation, "lunatic::message::receive", idle),
    );
    let preparation = match generation {
        Generation::V0_13 | Generation::V0_12 | Generation::V0_10 => preparation(),
        Generation::V0_7 | Generation::V0_6 => older_preparation(),
    };
    for (row, arguments) in preparation {
        text.push_str(&call_of(generation, row, &arguments));
        text.push('\n');
    }
    text.push_str(")\n");
    match generation {
        Generation::V0_13 | Generation::V0_12 | Generation::V0_10 => {
            text.push_str(&tls_preparation(generation));
        }
        Generation::V0_7 | Generation::V0_6 => {
            text.push_str("(func $prepare_all (export \"prepare_all\") (call $prepare))\n");
        }
    }
    for (number, attack) in attacks.iter().enumerate() {
        let row = attack.row();
        let _ = write!(
            text,
            "(func (export \"attack{number}\") (local $times i32) (loop $again "
        );
        let mut arguments = String::new();
        for (ty, value) in row.parameter_types().zip(attack.arguments.iter().flatten()) {
            let _ = write!(arguments, "{} ", constant(ty, *value));
        }
        text.push_str(&call_of(
            generation,
            &format!("{}::{}", row.namespace, row.name),
            &arguments,
        ));
        let _ = writeln!(
            text,
            "(local.set $times (i32.add (local.get $times) (i32.const 1)))
             (br_if $again (i32.lt_u (local.get $times) (i32.const {times})))))"
        );
    }
    text.push(')');
    text
}

/// Returns the calls that create one resource of every kind.
fn preparation() -> Vec<(&'static str, String)> {
    let result = format!("(i32.const {SCRATCH})");
    let at = |offset: u64| format!("(i32.const {})", SCRATCH + offset);
    let address = format!("(i32.const 4) (i32.const {ADDRESS})");
    let port = format!("(i32.load16_u {})", at(64));
    vec![
        ("lunatic::process::create_config", String::new()),
        (
            "lunatic::environment::create",
            format!("(i64.const 0) {result}"),
        ),
        (
            "lunatic::environment::config_set_limit",
            format!("(i64.const 0) (i32.const 99) (i64.const 0) {result}"),
        ),
        (
            "lunatic::networking::tcp_bind",
            format!("{address} (i32.const 0) (i32.const 0) (i32.const 0) {result}"),
        ),
        // There are two results that hold an address. The first is not used, and the second is
        // queried for its port.
        (
            "lunatic::networking::tcp_local_addr",
            format!("(i64.const 0) {result}"),
        ),
        (
            "lunatic::networking::tcp_local_addr",
            format!("(i64.const 0) {result}"),
        ),
        (
            "lunatic::networking::resolve_next",
            format!(
                "(i64.const 1) {} {} {} {} {}",
                at(32),
                at(40),
                at(64),
                at(72),
                at(80)
            ),
        ),
        (
            "lunatic::networking::tcp_connect",
            format!("{address} {port} (i32.const 0) (i32.const 0) (i64.const -1) {result}"),
        ),
        (
            "lunatic::networking::set_read_timeout",
            "(i64.const 0) (i64.const 0)".into(),
        ),
        (
            "lunatic::networking::set_peek_timeout",
            "(i64.const 0) (i64.const 0)".into(),
        ),
        (
            "lunatic::networking::set_write_timeout",
            "(i64.const 0) (i64.const 0)".into(),
        ),
        (
            "lunatic::networking::udp_bind",
            format!("{address} (i32.const 0) (i32.const 0) (i32.const 0) {result}"),
        ),
        (
            "lunatic::networking::set_udp_receive_timeout",
            "(i64.const 0) (i64.const 0)".into(),
        ),
        // The current message contains a module. The guest also holds a module, which it took out
        // of an earlier message.
        (
            "lunatic::message::create_data",
            "(i64.const 5) (i64.const 0)".into(),
        ),
        ("lunatic::message::push_module", "(i64.const -1)".into()),
        ("lunatic::message::take_module", "(i64.const 0)".into()),
        // There is a database with a statement. The last call on the database has failed.
        (
            "lunatic::sqlite::open",
            format!("(i32.const 0) (i32.const 0) {result}"),
        ),
        (
            "lunatic::sqlite::query_prepare",
            format!("(i64.const 0) (i32.const {QUERY}) (i32.const 8)"),
        ),
        (
            "lunatic::sqlite::execute",
            format!("(i64.const 0) (i32.const {FUNCTION}) (i32.const 4)"),
        ),
        (
            "lunatic::message::create_data",
            "(i64.const 5) (i64.const 0)".into(),
        ),
        (
            "lunatic::message::write_data",
            format!("(i32.const {FUNCTION}) (i32.const 4)"),
        ),
        ("lunatic::message::push_module", "(i64.const -1)".into()),
    ]
}

/// Writes the code that creates a TLS listener and a stream, and the process at the other end of
/// the stream.
fn tls_preparation(generation: Generation) -> String {
    let made = rcgen::generate_simple_self_signed([LOCALHOST.to_owned()])
        .expect("a certificate can be generated");
    let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let as_data = |text: &str| text.replace('\n', "\\n");
    let mut text = format!(
        "(data (i32.const {NO_HOST}) \"a..b\")
        (data (i32.const {HOST}) \"{LOCALHOST}\")
        (data (i32.const {CHILD_NAME}) \"{CHILD}\")
        (data (i32.const {CERTIFICATE}) \"{}\")
        (data (i32.const {KEY}) \"{}\")\n",
        as_data(&certificate),
        as_data(&key),
    );
    let result = format!("(i32.const {SCRATCH})");
    let at = |offset: u64| format!("(i32.const {})", SCRATCH + offset);
    let (certificate, key) = (certificate.len(), key.len());
    let bind = format!(
        "(i32.const 4) (i32.const {ADDRESS}) (i32.const 0) (i32.const 0) (i32.const 0) {result}
        (i32.const {CERTIFICATE}) (i32.const {certificate}) (i32.const {KEY}) (i32.const {key})"
    );
    let port_of = format!(
        "(i64.const 0) {} {} {} {} {}",
        at(32),
        at(40),
        at(64),
        at(72),
        at(80)
    );
    let tell = format!(
        "(local.get $parent) (i64.const 0) {} (i32.const 2) (i32.const 0) (i32.const 0)",
        at(64)
    );
    let hear = String::from("(i32.const 0) (i32.const 0) (i64.const -1)");
    let mut function = |head: &str, calls: &[(&str, String)]| {
        text.push_str(head);
        for (row, arguments) in calls {
            text.push_str(&call_of(generation, row, arguments));
            text.push('\n');
        }
        text.push_str(")\n");
    };
    // The child listens, sends its port, accepts a connection, and reports that it has accepted
    // one.
    function(
        &format!("(func (export \"{CHILD}\") (param $parent i64)\n"),
        &[
            ("lunatic::networking::tls_bind", bind.clone()),
            (
                "lunatic::networking::tls_local_addr",
                format!("(i64.const 0) {result}"),
            ),
            ("lunatic::networking::resolve_next", port_of),
            ("lunatic::message::send_bytes", tell.clone()),
            (
                "lunatic::networking::tls_accept",
                format!("(i64.const 0) {result} {}", at(8)),
            ),
            ("lunatic::message::send_bytes", tell),
            ("lunatic::message::receive", hear.clone()),
        ],
    );
    let own = call_with_result(generation, "lunatic::process::process_id", "");
    function(
        &format!(
            "(func $prepare_all (export \"prepare_all\")
            (call $prepare)
            (i32.store8 {} (i32.const {I64}))
            (i64.store {} {own})
            (i32.store (i32.const {AUTHORITY}) (i32.const {CERTIFICATE}))
            (i32.store (i32.const {}) (i32.const {certificate}))\n",
            at(128),
            at(129),
            AUTHORITY + 4,
        ),
        &[
            (
                "lunatic::process::spawn",
                format!(
                    "(i64.const 0) (i64.const -1) (i64.const -1) (i32.const {CHILD_NAME}) (i32.const {}) {} (i32.const {}) {result}",
                    CHILD.len(),
                    at(128),
                    lunatic_abi::parameter::SIZE,
                ),
            ),
            ("lunatic::message::receive", hear.clone()),
            (
                "lunatic::message::read_data",
                format!("{} (i32.const 2)", at(64)),
            ),
            (
                "lunatic::networking::tls_connect",
                format!(
                    "(i32.const {HOST}) (i32.const {}) (i32.load16_u {}) (i64.const -1) {result} (i32.const {AUTHORITY}) (i32.const 1)",
                    LOCALHOST.len(),
                    at(64),
                ),
            ),
            ("lunatic::message::receive", hear),
            (
                "lunatic::networking::set_tls_read_timeout",
                "(i64.const 0) (i64.const 0)".into(),
            ),
            (
                "lunatic::networking::set_tls_write_timeout",
                "(i64.const 0) (i64.const 0)".into(),
            ),
            ("lunatic::networking::tls_bind", bind),
            // The current message is now a different one.
            (
                "lunatic::message::create_data",
                "(i64.const 5) (i64.const 0)".into(),
            ),
            (
                "lunatic::message::write_data",
                format!("(i32.const {FUNCTION}) (i32.const 4)"),
            ),
            ("lunatic::message::push_module", "(i64.const -1)".into()),
        ],
    );
    text
}

/// Returns the calls that create one resource of every kind in the older generations.
fn older_preparation() -> Vec<(&'static str, String)> {
    let result = format!("(i32.const {SCRATCH})");
    let at = |offset: u64| format!("(i32.const {})", SCRATCH + offset);
    let address = format!("(i32.const 4) (i32.const {ADDRESS})");
    let port = format!("(i32.load16_u {})", at(64));
    vec![
        (
            "lunatic::process::create_config",
            "(i64.const 1000000) (i64.const 0)".into(),
        ),
        (
            "lunatic::process::create_environment",
            format!("(i64.const 0) {result}"),
        ),
        (
            "lunatic::process::add_this_module",
            format!("(i64.const 0) {result}"),
        ),
        (
            "lunatic::process::add_plugin",
            format!("(i64.const 0) (i32.const 0) (i32.const 0) {result}"),
        ),
        (
            "lunatic::networking::tcp_bind",
            format!("{address} (i32.const 0) (i32.const 0) (i32.const 0) {result}"),
        ),
        // There are two results that hold an address. The first is not used, and the second is
        // queried for its port.
        (
            "lunatic::networking::local_addr",
            format!("(i64.const 0) {result}"),
        ),
        (
            "lunatic::networking::local_addr",
            format!("(i64.const 0) {result}"),
        ),
        (
            "lunatic::networking::resolve_next",
            format!(
                "(i64.const 1) {} {} {} {} {}",
                at(32),
                at(40),
                at(64),
                at(72),
                at(80)
            ),
        ),
        (
            "lunatic::networking::tcp_connect",
            format!("{address} {port} (i32.const 0) (i32.const 0) (i32.const 0) {result}"),
        ),
        // There are two handles to the guest itself. One of them is in the current message.
        ("lunatic::process::this", String::new()),
        ("lunatic::process::this", String::new()),
        (
            "lunatic::message::create_data",
            "(i64.const 5) (i64.const 0)".into(),
        ),
        (
            "lunatic::message::write_data",
            format!("(i32.const {FUNCTION}) (i32.const 4)"),
        ),
        ("lunatic::message::push_process", "(i64.const 1)".into()),
    ]
}
