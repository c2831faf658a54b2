//! The initial values of a module's globals, tables and memory.
//!
//! Wasmtime compiles all of them that are not constant into one function, which runs when the
//! module is instantiated. A few bytes per value are enough, so the size of a module says little
//! about the size of this function.

use crate::module::ModuleError;
use wasmparser::{
    ConstExpr, DataKind, Element, ElementItems, ElementKind, Operator, Payload, Table, TableInit,
    TypeRef,
};

/// The work to compile a reference to a function, in microseconds.
const REFERENCE: u64 = 20;

/// The additional work to compile writing an element to a table, in microseconds.
const TABLE_WRITE: u64 = 20;

/// The work to compile an active segment, in microseconds, without its elements.
const SEGMENT: u64 = 50;

/// The work to compile any other operator of an expression, in microseconds.
const OPERATOR: u64 = 8;

/// The maximum size of a table whose functions wasmtime records while compiling.
const MAX_RECORDED: u64 = 1 << 20;

/// The number of recorded functions that take as much memory as a microsecond of compilation.
const RECORDED_PER_MICROSECOND: u64 = 64;

/// What is known about the initial values of a module.
#[derive(Default)]
pub(super) struct Startup {
    /// The estimated time to compile all initial values, in microseconds on one core.
    pub(super) work: u64,
    /// The number of elements and globals that are computed at each instantiation.
    pub(super) elements: u64,
    /// The tables by index. `None` if wasmtime does not record the table's functions.
    tables: Vec<Option<Recorded>>,
    /// Set once an active segment cannot be recorded. Wasmtime does not record any that follow.
    has_unrecorded: bool,
}

/// A table whose functions wasmtime records while compiling, so that no code is compiled for them.
#[derive(Clone, Copy)]
struct Recorded {
    size: u64,
    /// The number of elements recorded so far, including gaps.
    length: u64,
}

impl Startup {
    /// Reads a section's initial values. Ignores sections that have none.
    pub(super) fn declare(&mut self, payload: &Payload<'_>) -> Result<(), ModuleError> {
        match payload {
            Payload::ImportSection(imports) => {
                for import in imports.clone().into_imports() {
                    if let TypeRef::Table(_) = import?.ty {
                        self.tables.push(None);
                    }
                }
            }
            Payload::TableSection(tables) => {
                for table in tables.clone() {
                    self.declare_table(&table?)?;
                }
            }
            Payload::GlobalSection(globals) => {
                for global in globals.clone() {
                    let work = work_of(&global?.init_expr)?;
                    self.work += work;
                    self.elements += u64::from(work > 0);
                }
            }
            Payload::ElementSection(segments) => {
                for segment in segments.clone() {
                    self.declare_elements(segment?)?;
                }
            }
            Payload::DataSection(segments) => {
                for segment in segments.clone() {
                    if let DataKind::Active { offset_expr, .. } = segment?.kind {
                        self.work += SEGMENT + work_of(&offset_expr)?;
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn declare_table(&mut self, table: &Table<'_>) -> Result<(), ModuleError> {
        let size = table.ty.initial;
        let length = match &table.init {
            TableInit::RefNull => Some(0),
            TableInit::Expr(value) if is_reference(value)? && size <= MAX_RECORDED => {
                self.work += size / RECORDED_PER_MICROSECOND;
                Some(size)
            }
            TableInit::Expr(value) => {
                self.work += SEGMENT + work_of(value)?;
                None
            }
        };
        let is_of_functions = table.ty.element_type.is_func_ref();
        let length = length.filter(|_| is_of_functions);
        self.tables
            .push(length.map(|length| Recorded { size, length }));
        Ok(())
    }

    fn declare_elements(&mut self, segment: Element<'_>) -> Result<(), ModuleError> {
        let count = u64::from(match &segment.items {
            ElementItems::Functions(functions) => functions.count(),
            ElementItems::Expressions(_, expressions) => expressions.count(),
        });
        let write = match &segment.kind {
            // These are not compiled, but they are held in memory while they are read.
            ElementKind::Declared => {
                self.work += count;
                return Ok(());
            }
            ElementKind::Passive => 0,
            ElementKind::Active {
                table_index,
                offset_expr,
            } => {
                let table = table_index.unwrap_or(0);
                let is_plain = matches!(segment.items, ElementItems::Functions(_));
                let offset = constant(offset_expr)?;
                if !self.has_unrecorded
                    && is_plain
                    && let Some(offset) = offset
                    && self.record(table, offset + count)
                {
                    return Ok(());
                }
                self.has_unrecorded = true;
                self.work += work_of(offset_expr)?;
                TABLE_WRITE
            }
        };
        self.work += SEGMENT + count * write;
        self.elements += count;
        match segment.items {
            ElementItems::Functions(_) => self.work += count * REFERENCE,
            ElementItems::Expressions(_, expressions) => {
                for expression in expressions {
                    self.work += work_of(&expression?)?;
                }
            }
        }
        Ok(())
    }

    /// Records functions up to the given end in a table. Returns false if wasmtime would not do so.
    fn record(&mut self, table: u32, end: u64) -> bool {
        let Some(Some(table)) = self.tables.get_mut(table as usize) else {
            return false;
        };
        if end > table.size.min(MAX_RECORDED) {
            return false;
        }
        self.work += end.saturating_sub(table.length) / RECORDED_PER_MICROSECOND;
        table.length = table.length.max(end);
        true
    }
}

/// Returns the work to compile an expression, in microseconds. Wasmtime evaluates a single number
/// while compiling, so no code is compiled for it.
fn work_of(expression: &ConstExpr<'_>) -> Result<u64, ModuleError> {
    let (mut numbers, mut references, mut others) = (0, 0, 0);
    for operator in expression.get_operators_reader() {
        match operator? {
            Operator::End => {}
            Operator::I32Const { .. }
            | Operator::I64Const { .. }
            | Operator::F32Const { .. }
            | Operator::F64Const { .. } => numbers += 1,
            Operator::RefFunc { .. } => references += 1,
            _ => others += 1,
        }
    }
    match (numbers, references, others) {
        (1, 0, 0) => Ok(0),
        _ => Ok(OPERATOR * (numbers + others) + REFERENCE * references),
    }
}

/// If an expression is a single 32-bit number, returns the number.
fn constant(expression: &ConstExpr<'_>) -> Result<Option<u64>, ModuleError> {
    let mut operators = expression.get_operators_reader();
    let Operator::I32Const { value } = operators.read()? else {
        return Ok(None);
    };
    let is_single = matches!(operators.read()?, Operator::End);
    Ok(is_single.then_some(u64::from(value.cast_unsigned())))
}

/// Returns whether an expression is a single reference to a function.
fn is_reference(expression: &ConstExpr<'_>) -> Result<bool, ModuleError> {
    let mut operators = expression.get_operators_reader();
    Ok(matches!(operators.read()?, Operator::RefFunc { .. })
        && matches!(operators.read()?, Operator::End))
}
