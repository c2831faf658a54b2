//! One instance, and how a call crosses into its memory and back.

use crate::{Answer, Argument, CallError};
use lunatic_vm::{Exit, FuncType, Live, Module, Val, ValType};
use std::collections::HashMap;

/// What a result that is found by a 64-bit number begins with.
mod kind {
    pub(super) const JSON: u8 = 0;
    pub(super) const BYTES: u8 = 1;
    pub(super) const ERROR: u8 = 2;
}

/// How much longer than its argument a result that overwrites it may be, at least, in bytes.
const ROOM: u64 = 64 << 10;

/// The function by which a module gives room: length in, address out; 0 where there is none.
const ALLOCATE: &str = "lunatic_alloc";
/// The one by which it takes room back: address and length.
const FREE: &str = "lunatic_free";

/// What a library of the kind that WASI calls a reactor wants to be called first.
const INITIALIZE: &str = "_initialize";

/// How the result of a function is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Convention {
    /// It overwrites the argument; its length is returned.
    InPlace,
    /// Its address and its length are returned; the argument's room is the guest's from the call on.
    Elsewhere,
}

impl Convention {
    fn of(ty: &FuncType) -> Option<Convention> {
        let results: Vec<ValType> = ty.results().collect();
        match results[..] {
            [ValType::I32] => Some(Convention::InPlace),
            [ValType::I64] => Some(Convention::Elsewhere),
            _ => None,
        }
    }
}

/// What is remembered of an instance between calls.
pub(crate) struct Instance {
    module: Module,
    /// Where arguments are written, where the embedder has decided that.
    index: Option<u32>,
    can_allocate: bool,
    can_free: bool,
    /// Pages that were added to the memory for arguments and results.
    area: Option<Area>,
    /// What is known of functions that were called. Never more than the module exports.
    functions: HashMap<Box<str>, Signature>,
}

/// How a function is called.
#[derive(Clone, Copy)]
struct Signature {
    parameters: usize,
    /// `None` where nothing is known to return so.
    convention: Option<Convention>,
}

#[derive(Clone, Copy)]
struct Area {
    start: u32,
    length: u64,
}

impl Instance {
    pub(crate) fn new(module: &Module, index: Option<u32>) -> Instance {
        let takes = |name: &str, parameters: usize, results: usize| {
            let is_number = |ty: ValType| matches!(ty, ValType::I32);
            module.function(name).is_some_and(|ty| {
                (ty.params().len(), ty.results().len()) == (parameters, results)
                    && ty.params().chain(ty.results()).all(is_number)
            })
        };
        let (can_allocate, can_free) = (takes(ALLOCATE, 1, 1), takes(FREE, 2, 0));
        Instance {
            module: module.clone(),
            index,
            can_allocate,
            can_free,
            area: None,
            functions: HashMap::new(),
        }
    }

    /// Does what the module wants to be done before anything is called.
    pub(crate) async fn begin(&self, live: &mut Live) -> Result<(), Exit> {
        match self.module.function(INITIALIZE) {
            Some(ty) if ty.params().len() == 0 => live
                .call(INITIALIZE, &[])
                .await
                .map(drop)
                .map_err(lunatic_vm::CallError::into_exit),
            _ => Ok(()),
        }
    }

    /// Calls a function. Where the error is [`CallError::Ended`], the instance is of no use any more.
    pub(crate) async fn call(
        &mut self,
        live: &mut Live,
        function: &str,
        argument: &Argument,
    ) -> Result<Answer, CallError> {
        let bytes = argument.bytes();
        let mut parameters = vec![Val::I32(0), Val::I32((bytes.len() as u32).cast_signed())];
        if let Argument::Image { width, height, .. } = argument {
            parameters.extend([
                Val::I32(width.cast_signed()),
                Val::I32(height.cast_signed()),
            ]);
        }
        let Some(signature) = self
            .signature(function)
            .filter(|known| known.parameters == parameters.len())
        else {
            // The call itself says what is wrong with that.
            return Err(live
                .call(function, &parameters)
                .await
                .map_err(ended)
                .expect_err("it cannot be called so"));
        };
        let convention = signature.convention.ok_or_else(|| {
            CallError::Answer(
                "it returns neither 32 bits, a length, nor 64, an address and a length".to_string(),
            )
        })?;
        let (index, room) = self.place(live, argument, convention).await?;
        live.write(index, bytes).map_err(misplaced)?;
        parameters[0] = Val::I32(index.cast_signed());

        match live.call(function, &parameters).await.map_err(ended)?[..] {
            [Val::I32(length)] => {
                let length = usize::try_from(length).map_err(|_| {
                    CallError::Answer(format!("it returned {length} as the length of its result"))
                })?;
                let json = live.read(index, length).map_err(misplaced)?;
                if self.can_allocate {
                    self.free(live, index, room).await?;
                }
                Ok(Answer::Json(json))
            }
            [Val::I64(found)] => self.fetch(live, found.cast_unsigned()).await,
            _ => unreachable!("the function's type was looked at"),
        }
    }

    fn signature(&mut self, function: &str) -> Option<Signature> {
        if let Some(&known) = self.functions.get(function) {
            return Some(known);
        }
        let ty = self.module.function(function)?;
        let signature = Signature {
            parameters: ty.params().len(),
            convention: Convention::of(&ty),
        };
        self.functions.insert(function.into(), signature);
        Some(signature)
    }

    /// Reads a result by its address and length, and gives its room back.
    async fn fetch(&self, live: &mut Live, found: u64) -> Result<Answer, CallError> {
        let (address, length) = ((found >> 32) as u32, found as u32);
        if length == 0 {
            return Err(CallError::Answer(
                "it is empty, and its first byte was to say what it is".to_string(),
            ));
        }
        let kind = live.read(address, 1).map_err(misplaced)?[0];
        // Where the first byte is the last of all addresses there is no rest, and reading none is right there too.
        let bytes = live
            .read(address.saturating_add(1), length as usize - 1)
            .map_err(misplaced)?;
        self.free(live, address, length).await?;
        match kind {
            kind::JSON => Ok(Answer::Json(bytes)),
            kind::BYTES => Ok(Answer::Bytes(bytes)),
            kind::ERROR => Err(CallError::Failed(
                String::from_utf8_lossy(&bytes).into_owned(),
            )),
            other => Err(CallError::Answer(format!(
                "its first byte is {other}, which means nothing"
            ))),
        }
    }

    async fn free(&self, live: &mut Live, address: u32, length: u32) -> Result<(), CallError> {
        if self.can_free {
            live.call(
                FREE,
                &[
                    Val::I32(address.cast_signed()),
                    Val::I32(length.cast_signed()),
                ],
            )
            .await
            .map_err(ended)?;
        }
        Ok(())
    }

    /// Finds room for the argument, and for a result that overwrites it. Returns where it is, and how much.
    async fn place(
        &mut self,
        live: &mut Live,
        argument: &Argument,
        convention: Convention,
    ) -> Result<(u32, u32), CallError> {
        let size = live.memory_size() as u64;
        let too_large = |wanted: u64| CallError::TooLarge { wanted, size };
        let room = match convention {
            Convention::InPlace => argument.room().saturating_mul(2).saturating_add(ROOM),
            Convention::Elsewhere => argument.bytes().len() as u64,
        };
        let length = u32::try_from(room).map_err(|_| too_large(room))?;
        if self.can_allocate {
            return match live
                .call(ALLOCATE, &[Val::I32(length.cast_signed())])
                .await
                .map_err(ended)?[..]
            {
                [Val::I32(address)] if address != 0 => Ok((address.cast_unsigned(), length)),
                _ => Err(too_large(room)),
            };
        }
        if let Some(index) = self.index {
            // The embedder knows what lies there; the memory must only reach so far.
            let end = u64::from(index) + argument.room();
            return if grow(live, end).await {
                Ok((index, length))
            } else {
                Err(too_large(end))
            };
        }
        if let Some(area) = self.area.filter(|area| area.length >= room) {
            return Ok((area.start, length));
        }
        // At least twice what there was, so that growing arguments do not fill the memory with what they left.
        let wanted = self.area.map_or(room, |area| room.max(area.length * 2));
        let start = u32::try_from(size).map_err(|_| too_large(size + wanted))?;
        if !grow(live, size + wanted).await {
            return Err(too_large(size + wanted));
        }
        self.area = Some(Area {
            start,
            length: live.memory_size() as u64 - size,
        });
        Ok((start, length))
    }
}

/// Makes the memory so large at least; says whether it is.
async fn grow(live: &mut Live, size: u64) -> bool {
    match usize::try_from(size) {
        Ok(size) => live.grow_memory(size).await,
        Err(_) => false,
    }
}

fn misplaced(error: lunatic_vm::OutOfBounds) -> CallError {
    CallError::Answer(error.to_string())
}

/// Tells a function that cannot be called from one that ended its instance.
fn ended(error: lunatic_vm::CallError) -> CallError {
    match error {
        lunatic_vm::CallError::Entry(error) => CallError::Function(error),
        lunatic_vm::CallError::Ended(exit) => CallError::Ended(exit),
    }
}
