//! A sandboxed process that compiles a single module.

#![expect(unsafe_code, reason = "listed in vm/README.md")]

#[cfg(target_os = "linux")]
mod filter;

use crate::engine::EngineKind;
use rustix::process::{Resource, Rlimit, setrlimit};
use std::io::{self, Read, Write};

/// The maximum amount of memory that compiling one module may use, in bytes.
pub(super) const MAX_MEMORY: u64 = 3 << 30;

/// The process's maximum CPU time, in seconds, summed over all cores. The machine usually stops the
/// process earlier.
const MAX_SECONDS: u64 = 600;

/// The process's output.
pub(super) enum Answer<'a> {
    Code(&'a [u8]),
    /// The module is invalid for this reason.
    Malformed(&'a str),
}

const CODE: u8 = 0;
const MALFORMED: u8 = 1;

impl Answer<'_> {
    /// Reads an answer: its kind, length and bytes. Returns `None` if it is incomplete.
    pub(super) fn read(bytes: &[u8]) -> Option<Answer<'_>> {
        let (&kind, rest) = bytes.split_first()?;
        let (length, rest) = rest.split_first_chunk()?;
        if rest.len() as u64 != u64::from_le_bytes(*length) {
            return None;
        }
        match kind {
            CODE => Some(Answer::Code(rest)),
            MALFORMED => Some(Answer::Malformed(str::from_utf8(rest).ok()?)),
            _ => None,
        }
    }

    fn write(&self, to: &mut impl Write) -> io::Result<()> {
        let (first, rest) = match self {
            Answer::Code(code) => (CODE, *code),
            Answer::Malformed(text) => (MALFORMED, text.as_bytes()),
        };
        to.write_all(&[first])?;
        to.write_all(&(rest.len() as u64).to_le_bytes())?;
        to.write_all(rest)?;
        to.flush()
    }
}

/// Compiles one module from standard input to standard output. The command passed to
/// [`VmBuilder::compiler`](crate::VmBuilder::compiler) must do this and nothing else.
///
/// Before it reads the module, the process drops its privileges: it closes all descriptors except
/// the standard streams, its memory is limited and, as far as the kernel can enforce this, it
/// cannot open files or sockets or start programs.
///
/// # Errors
///
/// Fails if the process was not started by a machine.
pub fn compile() -> io::Result<()> {
    #[cfg(target_os = "linux")]
    close_inherited();
    let mut input = io::stdin().lock();
    let mut kind = [0];
    input.read_exact(&mut kind)?;
    let kind = EngineKind::of_index(kind[0].into()).ok_or(io::ErrorKind::InvalidInput)?;
    let engine = crate::engine::compiling(kind).map_err(io::Error::other)?;
    confine()?;

    let mut wasm = Vec::new();
    input.read_to_end(&mut wasm)?;
    let compiled = match kind {
        EngineKind::Module(..) => engine.precompile_module(&wasm),
        EngineKind::Component(_) => engine.precompile_component(&wasm),
    };
    let mut output = io::stdout().lock();
    match compiled {
        Ok(code) => Answer::Code(&code).write(&mut output),
        Err(error) => Answer::Malformed(&format!("{error:#}")).write(&mut output),
    }
}

/// Closes everything but the standard streams. The machine's own descriptors are closed when a
/// program is started, but those that the embedder inherited, or opened in some other way, may not
/// be.
#[cfg(target_os = "linux")]
fn close_inherited() {
    // SAFETY: nothing in this process has yet opened a descriptor that it uses later. On kernels
    // before Linux 5.9, which do not have this call, it does nothing.
    unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0) };
}

/// Drops all privileges that compiling does not need.
fn confine() -> io::Result<()> {
    let bound = |resource, most| {
        let limit = Rlimit {
            current: Some(most),
            maximum: Some(most),
        };
        setrlimit(resource, limit)
    };
    bound(Resource::Core, 0)?;
    bound(Resource::Fsize, 0)?;
    bound(Resource::Cpu, MAX_SECONDS)?;
    bound(Resource::As, MAX_MEMORY)?;
    // If memory runs out, the kernel kills this process rather than the machine.
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    #[cfg(target_os = "linux")]
    filter::apply();
    Ok(())
}
