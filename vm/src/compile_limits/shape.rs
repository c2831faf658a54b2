//! The properties of a function that determine how long it takes to compile.
//!
//! A single byte in a function's body can produce or consume a thousand values: the parameters and
//! results of a called function. Operators are therefore read together with their types.

use crate::module::ModuleError;
use std::collections::HashSet;
use wasmparser::{
    BlockType, CompositeInnerType, ConstExpr, ContType, ElementItems, ExternalKind, FrameKind,
    FuncType, FunctionBody, ModuleArity, Operator, Payload, RefType, SubType, TypeRef,
};

/// Up to this number of operands and results, an operator's size in bytes reflects its cost.
const FEW: u64 = 16;

/// Information about a module, collected while reading its functions.
#[derive(Default)]
pub(super) struct Module {
    pub(super) types: Vec<SubType>,
    /// The type of each function, by index. Imported functions come first.
    functions: Vec<u32>,
    imported: usize,
    /// The number of bodies read so far.
    bodies: usize,
    /// The functions that can be called by the host or through a table.
    escaped: HashSet<u32>,
    /// The open blocks, and the height of the stack below each.
    open: Vec<(BlockType, FrameKind, u64)>,
}

/// The properties of a function that determine how long it takes to compile.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Shape {
    size: u64,
    /// The number of parameters and results.
    arity: u64,
    /// The number of local variables and of any other variables that the function can have.
    variables: u64,
    /// The number of points where control flow splits or joins.
    blocks: u64,
    /// The nesting depth of loops.
    loops: u64,
    /// The number of calls and reads through tables.
    indirect: u64,
    /// The number of values that calls take and return, counting only calls with many values.
    called: u64,
    /// The number of values that blocks and branches take and return, counting only those with many
    /// values.
    passed: u64,
    /// The total number of values on the stack at the starts of all loops.
    carried: u64,
    /// The functions that this function creates references to.
    pub(super) references: Vec<u32>,
}

impl Shape {
    /// Estimates the compilation time, in microseconds on one core. This is also a measure of
    /// memory use, because a second of compilation can use 300 MiB.
    ///
    /// Each term was measured separately, with: 100,000 empty functions; a megabyte of calls;
    /// 60,000 branches that each change one of 1,000 variables; 200 nested loops with 100
    /// variables; 40,000 indirect calls; 1,000 calls with 1,000 parameters and results; 500 blocks
    /// with 1,000 parameters and results; 2,000 loops above 5,000 values.
    pub(super) fn work(&self) -> u64 {
        let each = 100 + self.arity / 2;
        let straight = 4 * self.size;
        let joins = self.blocks.saturating_mul(self.variables) / 12;
        let nested = self
            .loops
            .saturating_mul(self.loops)
            .saturating_mul(self.variables)
            / 2;
        let indirect = self.indirect.saturating_mul(self.indirect) / 60;
        let values = (8 * self.called)
            .saturating_add(4 * self.passed)
            .saturating_add(self.carried / 6);
        (each + straight)
            .saturating_add(joins)
            .saturating_add(nested)
            .saturating_add(indirect)
            .saturating_add(values)
    }
}

/// Returns the work, in microseconds, for the code between functions of a type and the host: each
/// such type has code for calls to the host, and each function that escapes has code for calls from
/// the host. Both were measured with 1 to 1,000 functions and types that have up to 1,000
/// parameters.
pub(super) fn work_of_type(ty: &SubType) -> u64 {
    match &ty.composite_type.inner {
        CompositeInnerType::Func(ty) => {
            80 + 25 * (ty.params().len() as u64 + ty.results().len() as u64)
        }
        _ => 0,
    }
}

impl Module {
    /// Reads a section's declarations. Returns the functions that can be called by the host or
    /// through a table.
    pub(super) fn declare(&mut self, payload: Payload<'_>) -> Result<Vec<u32>, ModuleError> {
        let mut escaping = Vec::new();
        match payload {
            Payload::ImportSection(imports) => {
                for import in imports.into_imports() {
                    if let TypeRef::Func(ty) = import?.ty {
                        self.functions.push(ty);
                        self.imported += 1;
                    }
                }
            }
            Payload::FunctionSection(functions) => {
                for ty in functions {
                    self.functions.push(ty?);
                }
            }
            Payload::ExportSection(exports) => {
                for export in exports {
                    let export = export?;
                    if export.kind == ExternalKind::Func {
                        escaping.push(export.index);
                    }
                }
            }
            Payload::GlobalSection(globals) => {
                for global in globals {
                    references(&global?.init_expr, &mut escaping)?;
                }
            }
            Payload::ElementSection(segments) => {
                for segment in segments {
                    match segment?.items {
                        ElementItems::Functions(functions) => {
                            for function in functions {
                                escaping.push(function?);
                            }
                        }
                        ElementItems::Expressions(_, expressions) => {
                            for expression in expressions {
                                references(&expression?, &mut escaping)?;
                            }
                        }
                    }
                }
            }
            _ => {}
        }
        Ok(escaping)
    }

    /// Returns the work, in microseconds, to make a function callable from outside, or 0 if it
    /// already is.
    pub(super) fn escape(&mut self, function: u32) -> u64 {
        if !self.escaped.insert(function) {
            return 0;
        }
        self.type_index_of_function(function)
            .and_then(|ty| self.sub_type_at(ty))
            .map_or(0, work_of_type)
    }

    /// Reads the next function.
    pub(super) fn next_body(&mut self, body: &FunctionBody<'_>) -> Result<Shape, ModuleError> {
        let ty = self.functions.get(self.imported + self.bodies).copied();
        self.bodies += 1;
        let outermost = ty.map_or(BlockType::Empty, BlockType::FuncType);
        let (parameters, results) = self.block_type_arity(outermost).unwrap_or((0, 0));
        let arity = u64::from(parameters) + u64::from(results);
        let mut shape = Shape {
            size: body.range().len() as u64,
            arity,
            variables: arity,
            ..Shape::default()
        };
        for group in body.get_locals_reader()? {
            let (count, _) = group?;
            shape.variables += u64::from(count);
        }
        self.open.clear();
        self.open.push((outermost, FrameKind::Block, 0));
        let (mut height, mut loops) = (0, 0);
        for operator in body.get_operators_reader()? {
            let operator = operator?;
            // Invalid code has no arity. The compiler reports the error.
            let (takes, gives) = operator.operator_arity(self).unwrap_or((0, 0));
            let (takes, gives) = (u64::from(takes), u64::from(gives));
            shape.count(&operator, takes, gives, self);
            let base = self.open.last().map_or(0, |(_, _, base)| *base);
            let below = height.max(base + takes) - takes;
            height = below + gives;
            match operator {
                Operator::Block { blockty } => self.open.push((blockty, FrameKind::Block, below)),
                Operator::If { blockty } => self.open.push((blockty, FrameKind::If, below)),
                Operator::Loop { blockty } => {
                    self.open.push((blockty, FrameKind::Loop, below));
                    shape.carried += height;
                    loops += 1;
                    shape.loops = shape.loops.max(loops);
                }
                Operator::Else => height = base + gives,
                Operator::End => {
                    if let Some((_, FrameKind::Loop, _)) = self.open.pop() {
                        loops -= 1;
                    }
                    height = base + gives;
                }
                Operator::Unreachable
                | Operator::Return
                | Operator::Br { .. }
                | Operator::BrTable { .. } => height = base,
                _ => {}
            }
        }
        Ok(shape)
    }
}

impl Shape {
    fn count(&mut self, operator: &Operator<'_>, takes: u64, gives: u64, module: &Module) {
        let values = takes + gives;
        let is_wide = values > FEW;
        match operator {
            Operator::Call { .. } | Operator::ReturnCall { .. } if is_wide => self.called += values,
            Operator::CallIndirect { .. } | Operator::ReturnCallIndirect { .. } => {
                self.indirect += 1;
                self.called += if is_wide { values } else { 0 };
            }
            // The first use of an element calls into the runtime.
            Operator::TableGet { .. } => self.indirect += 1,
            Operator::RefFunc { function_index } => self.references.push(*function_index),
            Operator::BrTable { targets } => {
                let label = module.label_arity(targets.default());
                self.blocks += u64::from(targets.len());
                if label > FEW {
                    self.passed += label * (u64::from(targets.len()) + 1);
                }
            }
            Operator::Loop { .. }
            | Operator::Block { .. }
            | Operator::If { .. }
            | Operator::Else
            | Operator::Br { .. }
            | Operator::BrIf { .. }
            | Operator::Return => {
                self.blocks += u64::from(!matches!(operator, Operator::Return));
                self.passed += if is_wide { values } else { 0 };
            }
            Operator::End if is_wide => self.passed += values,
            _ => {}
        }
    }
}

impl Module {
    /// Returns the number of values that a branch to a label passes.
    fn label_arity(&self, label: u32) -> u64 {
        let arity = self
            .label_block(label)
            .and_then(|(ty, kind)| Some((self.block_type_arity(ty)?, kind)));
        match arity {
            Some(((parameters, _), FrameKind::Loop)) => parameters.into(),
            Some(((_, results), _)) => results.into(),
            None => 0,
        }
    }
}

impl ModuleArity for Module {
    fn sub_type_at(&self, index: u32) -> Option<&SubType> {
        self.types.get(index as usize)
    }

    fn tag_type_arity(&self, _: u32) -> Option<(u32, u32)> {
        None
    }

    fn type_index_of_function(&self, function: u32) -> Option<u32> {
        self.functions.get(function as usize).copied()
    }

    fn func_type_of_cont_type(&self, _: &ContType) -> Option<&FuncType> {
        None
    }

    fn sub_type_of_ref_type(&self, _: &RefType) -> Option<&SubType> {
        None
    }

    fn control_stack_height(&self) -> u32 {
        u32::try_from(self.open.len()).unwrap_or(u32::MAX)
    }

    fn label_block(&self, depth: u32) -> Option<(BlockType, FrameKind)> {
        let index = self.open.len().checked_sub(1 + depth as usize)?;
        let (ty, kind, _) = self.open[index];
        Some((ty, kind))
    }
}

/// Collects the functions that a constant expression creates references to.
fn references(expression: &ConstExpr<'_>, found: &mut Vec<u32>) -> Result<(), ModuleError> {
    for operator in expression.get_operators_reader() {
        if let Operator::RefFunc { function_index } = operator? {
            found.push(function_index);
        }
    }
    Ok(())
}
