//! The stacks that processes run on, allocated in an arena.
//!
//! There is a guard page below each stack. Compiled code checks how much stack is left; a host
//! function that overflows the stack faults on the guard page. Stacks are not zeroed before they
//! are reused. Guests cannot tell, because compiled code only reads parts of its stack that it has
//! already written.

#![expect(unsafe_code, reason = "listed in vm/README.md")]

use super::arena::{self, Access, Arena};
use std::io;
use std::ops::Range;
use std::sync::Arc;
use wasmtime::{StackCreator, StackMemory};

/// The number of slots that are reserved at a time.
const SLOTS_PER_REGION: usize = 256;

/// The number of bytes that stay resident when a stack is dropped. Most processes do not need more.
const RESIDENT: usize = 32 << 10;

/// Allocates stacks for an engine.
#[derive(Debug)]
pub(super) struct Stacks {
    arena: Arc<Arena>,
}

impl Stacks {
    /// Creates an allocator of stacks of `size` bytes, which must be a multiple of the page size.
    pub(super) fn new(size: usize) -> Stacks {
        Stacks {
            arena: Arc::new(Arena::new(
                arena::page_size() + size,
                SLOTS_PER_REGION,
                Access::ReadWrite,
            )),
        }
    }

    fn make(&self) -> io::Result<Stack> {
        let base = match self.arena.take_used() {
            Some(base) => base,
            None => {
                let base = self.arena.take_new()?;
                // SAFETY: the slot was just taken.
                unsafe { arena::guard(base)? };
                base
            }
        };
        Ok(Stack {
            arena: self.arena.clone(),
            base,
        })
    }
}

/// A slot of the arena, used as a stack.
struct Stack {
    arena: Arc<Arena>,
    /// The start of the slot, which is the address of the guard page.
    base: usize,
}

// SAFETY: the range above the guard page consists of whole pages that are not used by anything else
// and are readable, writable and initially zero.
unsafe impl StackMemory for Stack {
    fn top(&self) -> *mut u8 {
        arena::pointer(self.base + self.arena.length()).cast()
    }

    fn range(&self) -> Range<usize> {
        self.base + arena::page_size()..self.base + self.arena.length()
    }

    fn guard_range(&self) -> Range<*mut u8> {
        arena::pointer(self.base).cast()..arena::pointer(self.base + arena::page_size()).cast()
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        let range = self.range();
        let deep = range.len().saturating_sub(RESIDENT);
        // SAFETY: the stack is being dropped. The range does not include its guard page.
        if let Err(error) = unsafe { arena::discard(range.start, deep) } {
            log::warn!(
                "the pages of the stack at {:#x} could not be returned to the kernel: {error}",
                range.start
            );
        }
        self.arena.release(self.base);
    }
}

// SAFETY: see `Stack`.
unsafe impl StackCreator for Stacks {
    fn new_stack(&self, size: usize, _zeroed: bool) -> wasmtime::Result<Box<dyn StackMemory>> {
        debug_assert_eq!(
            arena::page_size() + size,
            self.arena.length(),
            "the engine was configured with this stack size"
        );
        match self.make() {
            Ok(stack) => Ok(Box::new(stack)),
            Err(error) => Err(wasmtime::Error::msg(format!(
                "a stack could not be allocated: {error}"
            ))),
        }
    }
}
