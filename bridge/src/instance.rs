//! An instance, and the code that writes arguments to its memory and reads results from it.

use crate::{Answer, Argument, CallError};
use lunatic_vm::{Exit, FuncType, Live, Module, Trap, Val, ValType};
use std::sync::Arc;

/// The first byte of a result that is returned as an address and a length.
mod kind {
    pub(super) const JSON: u8 = 0;
    pub(super) const BYTES: u8 = 1;
    pub(super) const ERROR: u8 = 2;
}

/// The number of bytes by which a result that overwrites its argument may always exceed the
/// argument's length.
const ROOM: u64 = 64 << 10;

/// The function that a module allocates memory with. It takes a length and returns an address, or 0
/// if there is not enough memory.
const ALLOCATE: &str = "lunatic_alloc";
/// The function that frees the memory allocated by [`ALLOCATE`]. It takes an address and a length.
const FREE: &str = "lunatic_free";

/// The function that returns the address of two 32-bit numbers: the address and the length of the
/// message of the panic that ended a call, or zeros.
const PANIC: &str = "lunatic_panic";

/// The maximum length of a panic message, in bytes. Longer messages are truncated.
const MAX_WORDS: u32 = 2048;

/// The function that a WASI reactor expects to be called first.
const INITIALIZE: &str = "_initialize";

/// How a function returns its result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Convention {
    /// The result overwrites the argument, and its length is returned.
    InPlace,
    /// The result's address and length are returned. The guest owns the argument's memory as soon
    /// as the function is called.
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

/// What the host keeps for an instance between calls.
pub(crate) struct Instance {
    module: Module,
    /// Where to write arguments, if the embedder chose the address.
    index: Option<u32>,
    can_allocate: bool,
    can_free: bool,
    /// The address returned by the function [`PANIC`].
    panic: Option<u32>,
    /// The pages that were added to the memory for arguments and results.
    area: Option<Area>,
    /// The functions called so far. There are never more of them than the module exports, and there
    /// are usually only a few.
    functions: Vec<(Box<str>, Signature)>,
}

/// A function's calling convention.
#[derive(Clone, Copy)]
struct Signature {
    parameters: usize,
    /// `None` if the result type does not match any convention.
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
            panic: None,
            area: None,
            functions: Vec::new(),
        }
    }

    /// Runs the module's initializer, if it has one, and asks the module where it will store panic
    /// messages.
    pub(crate) async fn initialize(&mut self, live: &mut Live) -> Result<(), Exit> {
        let takes_nothing =
            |name| (self.module.function(name)).is_some_and(|ty| ty.params().len() == 0);
        let exit = lunatic_vm::CallError::into_exit;
        if takes_nothing(INITIALIZE) {
            live.call(INITIALIZE, &[]).await.map_err(exit)?;
        }
        if takes_nothing(PANIC) {
            let answer = live.call(PANIC, &[]).await.map_err(exit)?;
            if let [Val::I32(address)] = answer[..] {
                self.panic = Some(address.cast_unsigned());
            }
        }
        Ok(())
    }

    /// Calls a function. After [`CallError::Ended`], the instance must not be used again.
    pub(crate) async fn call(
        &mut self,
        live: &mut Live,
        function: &str,
        argument: &Argument,
    ) -> Result<Answer, CallError> {
        let answer = self.call_any(live, function, argument).await;
        answer.map_err(|error| match error {
            CallError::Ended(exit) => CallError::Ended(self.with_words(live, exit)),
            error => error,
        })
    }

    /// If a panic caused the trap, replaces the trap's reason with the panic's message, because the
    /// trap itself does not state the cause.
    fn with_words(&self, live: &mut Live, exit: Exit) -> Exit {
        let (Exit::Trapped(trap), Some(place)) = (&exit, self.panic) else {
            return exit;
        };
        let words = live.read(place, 8).ok().and_then(|place| {
            let (address, length) = place.split_first_chunk::<4>()?;
            let length = u32::from_le_bytes(*length.first_chunk()?).min(MAX_WORDS);
            live.read(u32::from_le_bytes(*address), length as usize)
                .ok()
        });
        match words {
            Some(words) if !words.is_empty() => {
                let mut trap = Trap::clone(trap);
                trap.reason = String::from_utf8_lossy(&words).into_owned();
                Exit::Trapped(Arc::new(trap))
            }
            _ => exit,
        }
    }

    async fn call_any(
        &mut self,
        live: &mut Live,
        function: &str,
        argument: &Argument,
    ) -> Result<Answer, CallError> {
        let bytes = argument.bytes();
        let number = |number: u32| Val::I32(number.cast_signed());
        let length = number(bytes.len() as u32);
        let (mut parameters, count) = match argument {
            Argument::Image { width, height, .. } => {
                ([number(0), length, number(*width), number(*height)], 4)
            }
            _ => ([number(0), length, number(0), number(0)], 2),
        };
        let parameters = &mut parameters[..count];
        let Some(signature) = self
            .signature(function)
            .filter(|known| known.parameters == parameters.len())
        else {
            // The call itself reports what is wrong with the parameters.
            return Err(live
                .call(function, parameters)
                .await
                .map_err(ended)
                .expect_err("the parameters do not match the function's type"));
        };
        let convention = signature.convention.ok_or_else(|| {
            CallError::Answer(
                "the function returns neither an i32 (a length) nor an i64 (an address \
                 and a length)"
                    .to_string(),
            )
        })?;
        let (index, room) = self.reserve(live, argument, convention).await?;
        live.write(index, bytes).map_err(out_of_bounds)?;
        parameters[0] = Val::I32(index.cast_signed());

        match live.call(function, parameters).await.map_err(ended)?[..] {
            [Val::I32(length)] => {
                let length = usize::try_from(length).map_err(|_| {
                    CallError::Answer(format!(
                        "the function returned {length} as the length of its result"
                    ))
                })?;
                let json = live.read(index, length).map_err(out_of_bounds)?;
                if self.can_allocate {
                    self.free(live, index, room).await?;
                }
                Ok(Answer::Json(json))
            }
            [Val::I64(found)] => self.fetch(live, found.cast_unsigned()).await,
            _ => unreachable!("the convention was derived from the function's type"),
        }
    }

    fn signature(&mut self, function: &str) -> Option<Signature> {
        let known = self.functions.iter().find(|(name, _)| **name == *function);
        if let Some(&(_, known)) = known {
            return Some(known);
        }
        let ty = self.module.function(function)?;
        let signature = Signature {
            parameters: ty.params().len(),
            convention: Convention::of(&ty),
        };
        self.functions.push((function.into(), signature));
        Some(signature)
    }

    /// Reads the result at an address and frees its memory.
    async fn fetch(&self, live: &mut Live, found: u64) -> Result<Answer, CallError> {
        let (address, length) = ((found >> 32) as u32, found as u32);
        if length == 0 {
            return Err(CallError::Answer(
                "it is empty, but must start with a byte that identifies its kind".to_string(),
            ));
        }
        let kind = live.read(address, 1).map_err(out_of_bounds)?[0];
        // If the first byte is at the last address, nothing follows it, and this reads zero bytes.
        let bytes = live
            .read(address.saturating_add(1), length as usize - 1)
            .map_err(out_of_bounds)?;
        self.free(live, address, length).await?;
        match kind {
            kind::JSON => Ok(Answer::Json(bytes)),
            kind::BYTES => Ok(Answer::Bytes(bytes)),
            kind::ERROR => Err(CallError::Failed(
                String::from_utf8_lossy(&bytes).into_owned(),
            )),
            other => Err(CallError::Answer(format!(
                "its first byte is {other}, which is not a known kind"
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

    /// Finds space for the argument and for a result that overwrites it. Returns its address and
    /// length.
    async fn reserve(
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
            // The embedder has chosen the address, so the memory only has to be large enough.
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
        // The new area is at least twice as long as the previous one, so that arguments of
        // increasing size do not fill the memory with abandoned areas.
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

/// Grows the memory to at least `size` bytes. Returns false if the memory cannot grow.
async fn grow(live: &mut Live, size: u64) -> bool {
    match usize::try_from(size) {
        Ok(size) => live.grow_memory(size).await,
        Err(_) => false,
    }
}

fn out_of_bounds(error: lunatic_vm::OutOfBounds) -> CallError {
    CallError::Answer(error.to_string())
}

/// Distinguishes a function that cannot be called from a call that ended its instance.
fn ended(error: lunatic_vm::CallError) -> CallError {
    match error {
        lunatic_vm::CallError::Entry(error) => CallError::Function(error),
        lunatic_vm::CallError::Ended(exit) => CallError::Ended(exit),
    }
}
