//! Unrolls short loops.
//!
//! For code to be interruptible at any time, each iteration of a loop must check for an
//! interruption. The check itself is only three instructions, but it is expensive because it may be
//! followed by a call. Values cannot stay in registers across a call, so they are read from and
//! written to the stack in each iteration, and a loop of a few instructions takes twice as long.
//! Therefore, the body of a short innermost loop is repeated several times, with one check for all
//! copies.
//!
//! Unrolled code behaves the same and traps at the same instructions. Invalid code stays invalid,
//! and the compiler reports it.

use std::ops::Range;
use wasm_encoder::Encode;
use wasmparser::{BinaryReader, BlockType, CodeSectionReader, FunctionBody, Operator};

/// The maximum number of operators in a loop after unrolling.
const MAX_OPERATORS: usize = 256;

/// The maximum number of copies of a loop's body.
const MAX_COPIES: usize = 8;

/// A section grows by at most its own length plus this number of bytes.
const MARGIN: usize = 4096;

/// The function length, in bytes, above which loops are not unrolled, because compile time grows
/// faster than function length.
const MAX_FUNCTION: usize = 1 << 20;

/// The contents of a code section with its short loops unrolled.
#[derive(Debug)]
pub(super) struct Unrolled {
    pub(super) code: Vec<u8>,
    moves: Moves,
}

/// The positions that a section's instructions have moved to.
#[derive(Debug)]
pub(super) struct Moves {
    /// Ordered by `to`. Each entry applies up to the next.
    list: Vec<Move>,
}

/// The old and new positions of a run of bytes, relative to the start of the section's contents.
#[derive(Clone, Copy, Debug)]
struct Move {
    from: usize,
    to: usize,
}

impl Unrolled {
    pub(super) fn into_moves(self) -> Moves {
        self.moves
    }
}

impl Moves {
    /// Returns an instruction's original offset. Offsets are relative to the start of the section's
    /// contents.
    pub(super) fn original(&self, offset: usize) -> usize {
        let after = self.list.partition_point(|moved| moved.to <= offset);
        // Only the function count precedes the first entry.
        let Some(moved) = after.checked_sub(1).map(|last| self.list[last]) else {
            return offset;
        };
        moved.from + (offset - moved.to)
    }
}

/// Unrolls short loops in a code section, which is passed and returned without its header. The
/// section grows by at most its own length plus `MARGIN` bytes.
///
/// Returns `None` if there are no short loops or the section cannot be parsed.
pub(super) fn unroll(code: &[u8]) -> Option<Unrolled> {
    let section = CodeSectionReader::new(BinaryReader::new(code, 0)).ok()?;
    let mut unrolled = Unrolled {
        code: Vec::with_capacity(code.len()),
        moves: Moves { list: Vec::new() },
    };
    section.count().encode(&mut unrolled.code);
    let all_room = code.len() + MARGIN;
    let mut room = all_room;
    for body in section {
        let body = body.ok()?;
        let function = Function::read(code, &body)?;
        let mut output = Output {
            code,
            bytes: Vec::with_capacity(body.as_bytes().len()),
            moves: Vec::new(),
            room,
        };
        function.write(&mut output);
        room = output.room;
        output.bytes.len().encode(&mut unrolled.code);
        let start = unrolled.code.len();
        unrolled
            .moves
            .list
            .extend(output.moves.iter().map(|moved| Move {
                to: moved.to + start,
                ..*moved
            }));
        unrolled.code.extend(output.bytes);
    }
    (room < all_room).then_some(unrolled)
}

/// An operator in a function.
struct Op {
    /// The operator's start position in the section.
    start: usize,
    kind: OperatorKind,
}

/// The properties of an operator that matter for unrolling.
enum OperatorKind {
    /// Begins a block, or a loop that is not unrolled.
    Block,
    /// Begins a short loop that contains no loops or calls and ends `length` operators later.
    ShortLoop {
        length: usize,
    },
    End,
    /// Refers to labels, which are encoded after `head` bytes.
    Branch {
        head: usize,
        labels: Vec<u32>,
    },
    Other,
}

/// A parsed function.
struct Function {
    /// The declarations of the function's locals.
    locals: Range<usize>,
    operators: Vec<Op>,
    end: usize,
}

/// A block that is currently open while parsing a function.
struct OpenBlock {
    /// The index of the operator that begins the block. `None` for the function itself.
    index: Option<usize>,
    is_loop: bool,
    /// Whether any operator branches to the block's label.
    is_target: bool,
    /// Whether the block contains an operator that keeps a loop from being unrolled.
    is_blocked: bool,
}

impl Function {
    fn read(code: &[u8], body: &FunctionBody<'_>) -> Option<Function> {
        let mut reader = body.get_operators_reader().ok()?;
        let locals = body.range().start..reader.original_position();
        let mut operators: Vec<Op> = Vec::new();
        let mut open = vec![OpenBlock {
            index: None,
            is_loop: false,
            is_target: false,
            is_blocked: false,
        }];
        while !reader.eof() {
            let (operator, start) = reader.read_with_offset().ok()?;
            let index = operators.len();
            let mut begin = |is_loop, is_blocked| {
                open.push(OpenBlock {
                    index: Some(index),
                    is_loop,
                    is_target: false,
                    is_blocked,
                });
                OperatorKind::Block
            };
            let kind = match operator {
                Operator::Block { .. } | Operator::If { .. } => begin(false, false),
                // A loop with parameters would need them on the stack at the start of each copy.
                Operator::Loop { blockty } => {
                    begin(true, matches!(blockty, BlockType::FuncType(_)))
                }
                // These operators encode their labels differently.
                Operator::TryTable { .. } | Operator::Try { .. } => begin(false, true),
                Operator::End => {
                    let closed = open.pop()?;
                    if let Some(begun) = closed.index {
                        let length = index - begun;
                        let is_short = length * 2 <= MAX_OPERATORS;
                        if is_short && closed.is_loop && closed.is_target && !closed.is_blocked {
                            operators[begun].kind = OperatorKind::ShortLoop { length };
                        }
                        open.last_mut()?.is_blocked |= closed.is_blocked || closed.is_loop;
                    }
                    OperatorKind::End
                }
                Operator::Br { relative_depth } | Operator::BrIf { relative_depth } => {
                    branch(&mut open, vec![relative_depth], 1)?
                }
                Operator::BrTable { targets } => {
                    let mut labels = targets.targets().collect::<Result<Vec<_>, _>>().ok()?;
                    labels.push(targets.default());
                    branch(&mut open, labels, 1 + number_length(code, start + 1)?)?
                }
                // A called function performs its own check, so the loop's check adds little
                // overhead. The same applies to operators whose running time grows with the size of
                // a memory or table; besides, at most one such operator should run between two
                // checks.
                Operator::Call { .. }
                | Operator::CallIndirect { .. }
                | Operator::CallRef { .. }
                | Operator::MemoryGrow { .. }
                | Operator::MemoryFill { .. }
                | Operator::MemoryCopy { .. }
                | Operator::MemoryInit { .. }
                | Operator::TableGrow { .. }
                | Operator::TableFill { .. }
                | Operator::TableCopy { .. }
                | Operator::TableInit { .. } => {
                    open.last_mut()?.is_blocked = true;
                    OperatorKind::Other
                }
                Operator::BrOnNull { .. }
                | Operator::BrOnNonNull { .. }
                | Operator::BrOnCast { .. }
                | Operator::BrOnCastFail { .. }
                | Operator::Delegate { .. }
                | Operator::Rethrow { .. } => return None,
                _ => OperatorKind::Other,
            };
            operators.push(Op { start, kind });
        }
        // A function that does not end with its outermost block is invalid, and the compiler
        // reports it.
        open.is_empty().then(|| Function {
            locals,
            operators,
            end: body.range().end,
        })
    }

    /// Returns an operator's end position.
    fn end_of(&self, index: usize) -> usize {
        self.operators
            .get(index + 1)
            .map_or(self.end, |next| next.start)
    }

    fn write(&self, output: &mut Output<'_>) {
        output.raw(self.locals.clone());
        let mut index = 0;
        while let Some(operator) = self.operators.get(index) {
            match operator.kind {
                OperatorKind::ShortLoop { length }
                    if output
                        .has_room((self.end_of(index + length) - operator.start) * MAX_COPIES) =>
                {
                    self.unroll_loop(index, length, output);
                    index += length + 1;
                }
                _ => {
                    output.raw(operator.start..self.end_of(index));
                    index += 1;
                }
            }
        }
    }

    /// Unrolls a loop like this:
    ///
    /// ```text
    /// loop BODY end
    /// block loop  block BODY br 2 end  block BODY br 2 end  …  BODY  end end
    /// ```
    ///
    /// In each copy but the last, a branch to the loop's label becomes a branch to the end of the
    /// block around the copy, where the next copy begins. Falling through the end of a copy ends
    /// the loop.
    fn unroll_loop(&self, index: usize, length: usize, output: &mut Output<'_>) {
        let before = output.bytes.len();
        let (start, body) = (self.operators[index].start, index + 1..index + length);
        let type_of_loop = start + 1..self.end_of(index);
        output.bytes.push(BLOCK);
        output.raw(type_of_loop);
        output.raw(start..self.end_of(index));
        for _ in 1..(MAX_OPERATORS / length).min(MAX_COPIES) {
            output.bytes.extend([BLOCK, NO_TYPE]);
            self.write_body(body.clone(), 2, output);
            output.bytes.extend([BR, 2, END]);
        }
        self.write_body(body, 1, output);
        output.bytes.extend([END, END]);
        let was = self.end_of(index + length) - start;
        output.room = output
            .room
            .saturating_sub(output.bytes.len() - before - was);
    }

    /// Writes a loop body, which is now nested `more` labels deeper.
    fn write_body(&self, body: Range<usize>, more: u32, output: &mut Output<'_>) {
        // Labels up to this index refer to blocks in the body or to the loop itself.
        let mut inside = 0;
        for index in body {
            let Op { start, kind } = &self.operators[index];
            match kind {
                OperatorKind::Branch { head, labels }
                    if labels.iter().any(|&label| label > inside) =>
                {
                    output.raw(*start..start + head);
                    for &label in labels {
                        let label = if label > inside { label + more } else { label };
                        label.encode(&mut output.bytes);
                    }
                    continue;
                }
                OperatorKind::Block | OperatorKind::ShortLoop { .. } => inside += 1,
                OperatorKind::End => inside -= 1,
                OperatorKind::Branch { .. } | OperatorKind::Other => {}
            }
            output.raw(*start..self.end_of(index));
        }
    }
}

/// Records which blocks an operator branches to.
fn branch(open: &mut [OpenBlock], labels: Vec<u32>, head: usize) -> Option<OperatorKind> {
    for &label in &labels {
        let index = open
            .len()
            .checked_sub(1)?
            .checked_sub(usize::try_from(label).ok()?)?;
        open[index].is_target = true;
    }
    Some(OperatorKind::Branch { head, labels })
}

const BLOCK: u8 = 0x02;
const END: u8 = 0x0b;
const BR: u8 = 0x0c;
const NO_TYPE: u8 = 0x40;

/// A function being rewritten.
struct Output<'a> {
    /// The section that the function was read from.
    code: &'a [u8],
    bytes: Vec<u8>,
    moves: Vec<Move>,
    /// How many more bytes the section may grow by.
    room: usize,
}

impl Output<'_> {
    /// Copies bytes from the section.
    fn raw(&mut self, range: Range<usize>) {
        let (from, to) = (range.start, self.bytes.len());
        // Bytes that immediately follow the last range do not need a new entry.
        let goes_on = self
            .moves
            .last()
            .is_some_and(|last| from >= last.from && from - last.from == to - last.to);
        if !goes_on {
            self.moves.push(Move { from, to });
        }
        self.bytes.extend_from_slice(&self.code[range]);
    }

    fn has_room(&self, bytes: usize) -> bool {
        bytes <= self.room && self.bytes.len() + bytes <= MAX_FUNCTION
    }
}

/// Returns the encoded length of a number in bytes.
fn number_length(code: &[u8], start: usize) -> Option<usize> {
    code.get(start..)?
        .iter()
        .position(|byte| byte & 0x80 == 0)
        .map(|last| last + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use wasmparser::{Parser, Payload};
    use wasmtime::{Engine, Instance, Module, Store, WasmBacktrace};

    /// Returns the range of a module's code section, without its header.
    fn code(module: &[u8]) -> Range<usize> {
        let payloads = Parser::new(0).parse_all(module).filter_map(Result::ok);
        let found = payloads.filter_map(|payload| match payload {
            Payload::CodeSectionStart { range, .. } => Some(range),
            _ => None,
        });
        found.last().expect("the module has code")
    }

    /// A module with its loops unrolled, and the offset at which its code starts.
    struct New {
        bytes: Vec<u8>,
        unrolled: Unrolled,
        start: usize,
    }

    /// Returns a module, and the same module with its loops unrolled.
    fn both(text: &str) -> (Vec<u8>, Option<New>) {
        let module = wat::parse_str(text).expect("the module text is well-formed");
        let old = code(&module);
        let unrolled = unroll(&module[old.clone()]).map(|unrolled| {
            let mut bytes = Vec::new();
            // The section's header: its id and its length.
            let mut length = Vec::new();
            old.len().encode(&mut length);
            bytes.extend_from_slice(&module[..old.start - length.len()]);
            unrolled.code.len().encode(&mut bytes);
            let start = bytes.len();
            bytes.extend_from_slice(&unrolled.code);
            bytes.extend_from_slice(&module[old.end..]);
            New {
                bytes,
                unrolled,
                start,
            }
        });
        (module, unrolled)
    }

    /// Calls the function `f` of a module. If the function traps, returns the offset of the
    /// trapping instruction.
    #[expect(
        clippy::disallowed_methods,
        reason = "this engine's code does not run in a process"
    )]
    fn call(module: &Module, argument: i32) -> Result<i32, usize> {
        let mut store = Store::new(module.engine(), ());
        let instance = Instance::new(&mut store, module, &[]).expect("the module imports nothing");
        let function = instance
            .get_typed_func::<i32, i32>(&mut store, "f")
            .expect("the module exports `f`");
        function.call(&mut store, argument).map_err(|error| {
            let backtrace = error
                .downcast_ref::<WasmBacktrace>()
                .expect("a trap has a backtrace");
            backtrace.frames()[0]
                .module_offset()
                .expect("wasm frames have offsets")
        })
    }

    /// Checks that a function still returns the same result for every argument, or traps at the
    /// same instruction.
    fn check(locals: &str, body: &str) {
        let text = format!(
            r#"(module (memory 1) (func (export "f") (param $n i32) (result i32) (local $sum i32) {locals} {body}))"#
        );
        let (old, new) = both(&text);
        let New {
            bytes: new,
            unrolled,
            start,
        } = new.unwrap_or_else(|| panic!("no loops were unrolled in {body}"));
        let engine = Engine::default();
        let [old_module, new_module] = [&old, &new].map(|bytes| {
            Module::new(&engine, bytes).unwrap_or_else(|error| panic!("{body}: {error:?}"))
        });
        let original = |offset: usize| unrolled.moves.original(offset - start) + code(&old).start;
        // The range starts at 1 because some functions count down to 0 and would not terminate if
        // they started there.
        for argument in 1..50 {
            let found = call(&new_module, argument).map_err(original);
            assert_eq!(
                found,
                call(&old_module, argument),
                "f({argument}) of {body}"
            );
        }
    }

    const ADD: &str = "(local.set $sum (i32.add (local.get $sum) (local.get $n)))";
    const DOWN: &str = "(local.tee $n (i32.sub (local.get $n) (i32.const 1)))";

    #[test]
    fn an_unrolled_loop_behaves_the_same() {
        check(
            "",
            &format!("(loop {ADD} (br_if 0 {DOWN})) (local.get $sum)"),
        );
        check(
            "",
            &format!(
                "(loop (result i32) {ADD} (br_if 0 (i32.gt_s {DOWN} (i32.const 0))) (local.get $sum))"
            ),
        );
        check(
            "",
            &format!(
                "(block (loop (br_if 1 (i32.eqz (local.get $n))) {ADD} (drop {DOWN}) (br 0))) (local.get $sum)"
            ),
        );
        check(
            "",
            &format!(
                "(loop {ADD} (if (i32.eqz {DOWN}) (then (return (local.get $sum)))) (br 0)) (unreachable)"
            ),
        );
        check(
            "",
            &format!(
                "(block (result i32) (loop {ADD} (drop (br_if 1 (local.get $sum) (i32.gt_s (i32.const 3) {DOWN}))) (br 0)) (unreachable))"
            ),
        );
        check(
            "",
            &format!(
                "(block $out (block $odd (loop $again {ADD}
                     (br_if $out (i32.gt_u (local.get $sum) (i32.const 900)))
                     (block $inside (br_table $again $inside $odd $again $out (i32.rem_u {DOWN} (i32.const 5))))
                     (br $again)))
                   (return (i32.sub (i32.const 0) (local.get $sum))))
                 (local.get $sum)"
            ),
        );
        // If loops are nested, only the innermost loop is unrolled.
        check(
            "(local $m i32)",
            &format!(
                "(loop $outer (local.set $m (i32.const 7))
                   (loop $inner {ADD}
                     (local.set $m (i32.sub (local.get $m) (i32.const 1)))
                     (br_if $outer (i32.and (i32.eq (local.get $m) (i32.const 3)) (i32.gt_s {DOWN} (i32.const 0))))
                     (br_if $inner (local.get $m))))
                 (local.get $sum)"
            ),
        );
    }

    #[test]
    fn labels_with_longer_encodings_still_name_the_same_blocks() {
        // The loop is nested so deeply that the outermost block's label takes an extra byte in a
        // copy.
        for depth in 120..130 {
            let body = format!(
                "{} (loop {ADD} (br_if {depth} (i32.le_s {DOWN} (i32.const 0))) (br 0)) {}",
                "(block".repeat(depth),
                ")".repeat(depth)
            );
            check("", &format!("{body} (local.get $sum)"));
        }
    }

    #[test]
    fn an_unrolled_loop_traps_at_the_same_place() {
        let trap = "(if (i32.gt_u (local.get $sum) (i32.const 300)) (then (unreachable)))";
        check(
            "",
            &format!("(loop {ADD} {trap} (br_if 0 {DOWN})) (local.get $sum)"),
        );
        let load = "(drop (i32.load (i32.mul (local.get $sum) (i32.const 200))))";
        check(
            "",
            &format!(
                "(loop {ADD} {load} (br_if 0 {DOWN})) (i32.div_s (local.get $sum) (local.get $n))"
            ),
        );
    }

    #[test]
    fn other_loops_are_left_alone() {
        let unchanged = |body: &str| {
            let text = format!(
                r#"(module (func $g) (func (export "f") (param $n i32) (local $sum i32) {body}))"#
            );
            assert!(both(&text).1.is_none(), "{body}");
        };
        unchanged("(nop)");
        unchanged(&format!("(loop {ADD})"));
        unchanged(&format!("(loop (call $g) (br_if 0 {DOWN}))"));
        unchanged(&format!(
            "(i32.const 1) (loop (param i32) (result i32) (br_if 0 {DOWN})) (drop)"
        ));
        unchanged(&format!(
            "(loop {} (br_if 0 {DOWN}))",
            "(nop)".repeat(MAX_OPERATORS / 2)
        ));
    }

    #[test]
    fn a_long_section_at_most_doubles_in_length() {
        let loops = format!("(loop {ADD} (br_if 0 {DOWN}))").repeat(1_000);
        let text =
            format!(r#"(module (func (export "f") (param $n i32) (local $sum i32) {loops}))"#);
        let (old, new) = both(&text);
        let New { bytes: new, .. } = new.expect("the function has loops");
        assert!(
            new.len() > old.len() * 3 / 2 && new.len() <= old.len() * 2 + MARGIN,
            "{} from {}",
            new.len(),
            old.len()
        );
    }

    #[test]
    fn damaged_code_is_left_alone_or_stays_damaged() {
        let text = format!(
            r#"(module (func (export "f") (param $n i32) (result i32) (local $sum i32)
                 (block (loop {ADD} (br_table 0 1 0 {DOWN}))) (local.get $sum)))"#
        );
        let module = wat::parse_str(text).expect("the module text is well-formed");
        let section = &module[code(&module)];
        for length in 0..section.len() {
            assert!(unroll(&section[..length]).is_none(), "{length} bytes");
        }
        let mut damaged = section.to_vec();
        for index in 0..section.len() {
            for byte in 0..=u8::MAX {
                damaged[index] = byte;
                // `unroll` must not panic. The compiler decides whether the result is valid.
                let _ = unroll(&damaged);
            }
            damaged[index] = section[index];
        }
    }
}
