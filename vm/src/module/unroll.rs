//! Short loops, written out several times.
//!
//! Code that can be interrupted at any time asks in each turn of a loop whether it is. The question is three instructions;
//! what costs is that a call may follow: what the loop works with cannot stay in registers across a call, so it lies on the
//! stack and is read and written in each turn. A loop of a few instructions takes twice its time by that. So the body of a
//! short innermost loop is put several times behind itself, and the question is asked once for all of them.
//!
//! What the code does stays the same, also where it traps. This changes no validity: what is not valid is left to whoever
//! compiles it.

use std::ops::Range;
use wasmparser::{BinaryReader, BlockType, CodeSectionReader, FunctionBody, Operator};

/// A loop is written out up to so many operators,
const MAX_OPERATORS: usize = 256;

/// and up to so many times.
const MAX_TIMES: usize = 8;

/// A section becomes longer by at most its length and so many bytes.
const MARGIN: usize = 4096;

/// In a function that has become so long, in bytes, further loops stay what they are: to compile takes longer than the
/// length grows.
const MAX_FUNCTION: usize = 1 << 20;

/// The contents of a code section whose short loops are written out.
#[derive(Debug)]
pub(super) struct Unrolled {
    pub(super) code: Vec<u8>,
    /// In the order of `to`. What begins at an entry lies there up to the next one.
    moves: Vec<Move>,
}

/// From where to where bytes went, in the contents of the section.
#[derive(Clone, Copy, Debug)]
struct Move {
    from: usize,
    to: usize,
}

impl Unrolled {
    /// Returns where an instruction was before. Both count from the beginning of the section's contents.
    pub(super) fn original(&self, offset: usize) -> usize {
        let after = self.moves.partition_point(|moved| moved.to <= offset);
        // The count of the functions lies before everything that moves.
        let Some(moved) = after.checked_sub(1).map(|last| self.moves[last]) else {
            return offset;
        };
        moved.from + (offset - moved.to)
    }
}

/// Writes out the short loops of a code section, given and returned without its head. The section at most doubles, but for
/// a short one.
///
/// `None` where there is no such loop, or where the section cannot be read.
pub(super) fn unroll(code: &[u8]) -> Option<Unrolled> {
    let section = CodeSectionReader::new(BinaryReader::new(code, 0)).ok()?;
    let mut unrolled = Unrolled {
        code: Vec::with_capacity(code.len()),
        moves: Vec::new(),
    };
    write_number(&mut unrolled.code, section.count());
    let all_room = code.len() + MARGIN;
    let mut room = all_room;
    for body in section {
        let body = body.ok()?;
        let function = Function::read(code, &body)?;
        let mut written = Written {
            code,
            bytes: Vec::with_capacity(body.as_bytes().len()),
            moves: Vec::new(),
            room,
        };
        function.write(&mut written);
        room = written.room;
        write_number(&mut unrolled.code, u32::try_from(written.bytes.len()).ok()?);
        let start = unrolled.code.len();
        unrolled
            .moves
            .extend(written.moves.iter().map(|moved| Move {
                to: moved.to + start,
                ..*moved
            }));
        unrolled.code.extend(written.bytes);
    }
    (room < all_room).then_some(unrolled)
}

/// An operator of a function.
struct Op {
    /// Where it begins in the section.
    start: usize,
    kind: Kind,
}

/// What has to be known of an operator.
enum Kind {
    /// Begins a block or another loop.
    Block,
    /// Begins a loop that is short and has no loop or call in it, and ends so many operators later.
    ShortLoop {
        length: usize,
    },
    End,
    /// Names labels, with so many bytes in front of them.
    Branch {
        head: usize,
        labels: Vec<u32>,
    },
    Other,
}

/// A function, taken apart.
struct Function {
    /// Its locals' declarations.
    locals: Range<usize>,
    operators: Vec<Op>,
    end: usize,
}

/// A block that is open while a function is read.
struct Open {
    /// Its operator; none is the function itself.
    place: Option<usize>,
    is_loop: bool,
    /// Whether something branches to its label.
    is_target: bool,
    /// Whether there is something in it that a loop is not written out with.
    is_blocked: bool,
}

impl Function {
    fn read(code: &[u8], body: &FunctionBody<'_>) -> Option<Function> {
        let mut reader = body.get_operators_reader().ok()?;
        let locals = body.range().start..reader.original_position();
        let mut operators: Vec<Op> = Vec::new();
        let mut open = vec![Open {
            place: None,
            is_loop: false,
            is_target: false,
            is_blocked: false,
        }];
        while !reader.eof() {
            let (operator, start) = reader.read_with_offset().ok()?;
            let place = operators.len();
            let mut begin = |is_loop, is_blocked| {
                open.push(Open {
                    place: Some(place),
                    is_loop,
                    is_target: false,
                    is_blocked,
                });
                Kind::Block
            };
            let kind = match operator {
                Operator::Block { .. } | Operator::If { .. } => begin(false, false),
                // One that takes values from the stack would have to be given them in each copy.
                Operator::Loop { blockty } => {
                    begin(true, matches!(blockty, BlockType::FuncType(_)))
                }
                // Their labels are in other places.
                Operator::TryTable { .. } | Operator::Try { .. } => begin(false, true),
                Operator::End => {
                    let closed = open.pop()?;
                    if let Some(begun) = closed.place {
                        let length = place - begun;
                        let is_short = length * 2 <= MAX_OPERATORS;
                        if is_short && closed.is_loop && closed.is_target && !closed.is_blocked {
                            operators[begun].kind = Kind::ShortLoop { length };
                        }
                        open.last_mut()?.is_blocked |= closed.is_blocked || closed.is_loop;
                    }
                    Kind::End
                }
                Operator::Br { relative_depth } | Operator::BrIf { relative_depth } => {
                    branch(&mut open, vec![relative_depth], 1)?
                }
                Operator::BrTable { targets } => {
                    let mut labels = targets.targets().collect::<Result<Vec<_>, _>>().ok()?;
                    labels.push(targets.default());
                    branch(&mut open, labels, 1 + number_length(code, start + 1)?)?
                }
                // A function that is called asks by itself, beside which the loop's question is little; and so it is beside
                // what takes as long as a memory is large, of which no more than one is to lie between two questions.
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
                    Kind::Other
                }
                Operator::BrOnNull { .. }
                | Operator::BrOnNonNull { .. }
                | Operator::BrOnCast { .. }
                | Operator::BrOnCastFail { .. }
                | Operator::Delegate { .. }
                | Operator::Rethrow { .. } => return None,
                _ => Kind::Other,
            };
            operators.push(Op { start, kind });
        }
        // Whoever compiles it says what is wrong with a function that does not end where its blocks do.
        open.is_empty().then(|| Function {
            locals,
            operators,
            end: body.range().end,
        })
    }

    /// Returns where an operator ends.
    fn end_of(&self, place: usize) -> usize {
        self.operators
            .get(place + 1)
            .map_or(self.end, |next| next.start)
    }

    fn write(&self, written: &mut Written<'_>) {
        written.raw(self.locals.clone());
        let mut place = 0;
        while let Some(operator) = self.operators.get(place) {
            match operator.kind {
                Kind::ShortLoop { length }
                    if written
                        .has_room((self.end_of(place + length) - operator.start) * MAX_TIMES) =>
                {
                    self.write_out(place, length, written);
                    place += length + 1;
                }
                _ => {
                    written.raw(operator.start..self.end_of(place));
                    place += 1;
                }
            }
        }
    }

    /// Writes a loop out:
    ///
    /// ```text
    /// loop BODY end
    /// block loop  block BODY br 2 end  block BODY br 2 end  …  BODY  end end
    /// ```
    ///
    /// In a copy the label of the loop is that of the block around the copy, behind which the next one is. What falls out of
    /// a copy is done with the loop.
    fn write_out(&self, place: usize, length: usize, written: &mut Written<'_>) {
        let before = written.bytes.len();
        let (start, body) = (self.operators[place].start, place + 1..place + length);
        let type_of_loop = start + 1..self.end_of(place);
        written.bytes.push(BLOCK);
        written.raw(type_of_loop);
        written.raw(start..self.end_of(place));
        for _ in 1..(MAX_OPERATORS / length).min(MAX_TIMES) {
            written.bytes.extend([BLOCK, NO_TYPE]);
            self.write_body(body.clone(), 2, written);
            written.bytes.extend([BR, 2, END]);
        }
        self.write_body(body, 1, written);
        written.bytes.extend([END, END]);
        let was = self.end_of(place + length) - start;
        written.room = written
            .room
            .saturating_sub(written.bytes.len() - before - was);
    }

    /// Writes the body of a loop, around which there are so many labels more than there were.
    fn write_body(&self, body: Range<usize>, more: u32, written: &mut Written<'_>) {
        // Labels up to this are of the body itself and of the loop.
        let mut inside = 0;
        for place in body {
            let Op { start, kind } = &self.operators[place];
            match kind {
                Kind::Branch { head, labels } if labels.iter().any(|&label| label > inside) => {
                    written.raw(*start..start + head);
                    for &label in labels {
                        write_number(
                            &mut written.bytes,
                            if label > inside { label + more } else { label },
                        );
                    }
                    continue;
                }
                Kind::Block | Kind::ShortLoop { .. } => inside += 1,
                Kind::End => inside -= 1,
                Kind::Branch { .. } | Kind::Other => {}
            }
            written.raw(*start..self.end_of(place));
        }
    }
}

/// Notes which blocks an operator branches to.
fn branch(open: &mut [Open], labels: Vec<u32>, head: usize) -> Option<Kind> {
    for &label in &labels {
        let place = open
            .len()
            .checked_sub(1)?
            .checked_sub(usize::try_from(label).ok()?)?;
        open[place].is_target = true;
    }
    Some(Kind::Branch { head, labels })
}

const BLOCK: u8 = 0x02;
const END: u8 = 0x0b;
const BR: u8 = 0x0c;
const NO_TYPE: u8 = 0x40;

/// A function as it is written anew.
struct Written<'a> {
    /// The section that it was read from.
    code: &'a [u8],
    bytes: Vec<u8>,
    moves: Vec<Move>,
    /// How much longer the section may become.
    room: usize,
}

impl Written<'_> {
    /// Copies bytes of the section.
    fn raw(&mut self, range: Range<usize>) {
        let (from, to) = (range.start, self.bytes.len());
        // What goes on where the last bytes went needs no entry of its own.
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

/// Writes a number as wasm does.
pub(super) fn write_number(bytes: &mut Vec<u8>, mut number: u32) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

/// Returns how many bytes a number takes that was read already.
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

    /// Returns where the contents of a module's code section are.
    fn code(module: &[u8]) -> Range<usize> {
        let payloads = Parser::new(0).parse_all(module).filter_map(Result::ok);
        let found = payloads.filter_map(|payload| match payload {
            Payload::CodeSectionStart { range, .. } => Some(range),
            _ => None,
        });
        found.last().expect("the module has code")
    }

    /// A module whose loops are written out, and where its code begins.
    struct New {
        bytes: Vec<u8>,
        unrolled: Unrolled,
        start: usize,
    }

    /// A module, and the same with its loops written out.
    fn both(text: &str) -> (Vec<u8>, Option<New>) {
        let module = wat::parse_str(text).expect("it is well-formed");
        let old = code(&module);
        let written = unroll(&module[old.clone()]).map(|unrolled| {
            let mut bytes = Vec::new();
            // The section's head: its kind and its length.
            let mut length = Vec::new();
            write_number(&mut length, u32::try_from(old.len()).expect("it is short"));
            bytes.extend_from_slice(&module[..old.start - length.len()]);
            write_number(
                &mut bytes,
                u32::try_from(unrolled.code.len()).expect("it is short"),
            );
            let start = bytes.len();
            bytes.extend_from_slice(&unrolled.code);
            bytes.extend_from_slice(&module[old.end..]);
            New {
                bytes,
                unrolled,
                start,
            }
        });
        (module, written)
    }

    /// Calls `f` of a module; where it traps, the offset of the instruction.
    fn call(module: &Module, argument: i32) -> Result<i32, usize> {
        let mut store = Store::new(module.engine(), ());
        let instance = Instance::new(&mut store, module, &[]).expect("it imports nothing");
        let function = instance
            .get_typed_func::<i32, i32>(&mut store, "f")
            .expect("it is there");
        function.call(&mut store, argument).map_err(|error| {
            let backtrace = error
                .downcast_ref::<WasmBacktrace>()
                .expect("a trap has one");
            backtrace.frames()[0].module_offset().expect("it is known")
        })
    }

    /// Checks that a function does with every argument what it did, and traps where it did.
    fn check(locals: &str, body: &str) {
        let text = format!(
            r#"(module (memory 1) (func (export "f") (param $n i32) (result i32) (local $sum i32) {locals} {body}))"#
        );
        let (old, new) = both(&text);
        let New {
            bytes: new,
            unrolled,
            start,
        } = new.unwrap_or_else(|| panic!("nothing was written out in {body}"));
        let engine = Engine::default();
        let [old_module, new_module] = [&old, &new].map(|bytes| {
            Module::new(&engine, bytes).unwrap_or_else(|error| panic!("{body}: {error:?}"))
        });
        let original = |offset: usize| unrolled.original(offset - start) + code(&old).start;
        // Not with 0: some count down to it.
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
    fn a_loop_that_is_written_out_does_what_it_did() {
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
        // A loop in a loop: the inner one is written out.
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
    fn labels_that_grow_longer_are_still_the_same_labels() {
        // Around the loop are so many blocks that the label of the outermost takes another byte in a copy.
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
    fn it_traps_where_it_did() {
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
    fn other_loops_stay_what_they_are() {
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
    fn a_long_section_at_most_doubles() {
        let loops = format!("(loop {ADD} (br_if 0 {DOWN}))").repeat(1_000);
        let text =
            format!(r#"(module (func (export "f") (param $n i32) (local $sum i32) {loops}))"#);
        let (old, new) = both(&text);
        let New { bytes: new, .. } = new.expect("there are loops");
        assert!(
            new.len() > old.len() * 3 / 2 && new.len() <= old.len() * 2 + MARGIN,
            "{} from {}",
            new.len(),
            old.len()
        );
    }

    #[test]
    fn what_is_damaged_is_left_alone_or_stays_damaged() {
        let text = format!(
            r#"(module (func (export "f") (param $n i32) (result i32) (local $sum i32)
                 (block (loop {ADD} (br_table 0 1 0 {DOWN}))) (local.get $sum)))"#
        );
        let module = wat::parse_str(text).expect("it is well-formed");
        let section = &module[code(&module)];
        for length in 0..section.len() {
            assert!(unroll(&section[..length]).is_none(), "{length} bytes");
        }
        let mut damaged = section.to_vec();
        for place in 0..section.len() {
            for byte in 0..=u8::MAX {
                damaged[place] = byte;
                // It is read without a panic, and what comes of it is for the compiler to judge.
                let _ = unroll(&damaged);
            }
            damaged[place] = section[place];
        }
    }
}
