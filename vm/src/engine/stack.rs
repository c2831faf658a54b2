//! The host's stacks of processes, in an arena of our own.
//!
//! Below every stack is a page that cannot be touched: compiled code looks how much is left, host functions find out there.
//! Stacks are not set back to zeros for their next owner. No guest can read one: what compiled code keeps there it has
//! written there before.

use super::arena::{self, Access, Arena};
use std::io;
use std::ops::Range;
use std::sync::Arc;
use wasmtime::{StackCreator, StackMemory};

/// So many places are reserved at once.
const PLACES: usize = 256;

/// So many bytes of a stack keep their pages when it is given up; most processes need no more.
const KEPT: usize = 32 << 10;

/// Makes the stacks of an engine.
#[derive(Debug)]
pub(super) struct Stacks {
    arena: Arc<Arena>,
}

impl Stacks {
    /// Makes stacks of so many bytes, which are whole pages.
    pub(super) fn new(size: usize) -> Stacks {
        Stacks {
            arena: Arc::new(Arena::new(
                arena::page_size() + size,
                PLACES,
                Access::ReadWrite,
            )),
        }
    }

    fn make(&self) -> io::Result<Stack> {
        let base = match self.arena.take_used() {
            Some(base) => base,
            None => {
                let base = self.arena.take_new()?;
                // SAFETY: the place was just taken.
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

/// A stack.
struct Stack {
    arena: Arc<Arena>,
    /// Where its place begins, with the page that cannot be touched.
    base: usize,
}

// SAFETY: the range above the guard is whole pages that nobody else has, readable, writable and zeros at first.
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
        let deep = range.len().saturating_sub(KEPT);
        // SAFETY: the stack is given up. Its guard stays.
        if let Err(error) = unsafe { arena::discard(range.start, deep) } {
            log::warn!(
                "pages of the stack at {:#x} could not be given back: {error}",
                range.start
            );
        }
        self.arena.give(self.base);
    }
}

// SAFETY: see `Stack`.
unsafe impl StackCreator for Stacks {
    fn new_stack(&self, size: usize, _zeroed: bool) -> wasmtime::Result<Box<dyn StackMemory>> {
        debug_assert_eq!(
            arena::page_size() + size,
            self.arena.length(),
            "the engine was told the same size"
        );
        match self.make() {
            Ok(stack) => Ok(Box::new(stack)),
            Err(error) => Err(wasmtime::Error::msg(format!(
                "there is no room for a stack: {error}"
            ))),
        }
    }
}
