//! Programs that do not use comms, but read from standard input and write to standard output.
//!
//! The input is the first message, and ends when that message ends. Everything the program writes
//! is one message, which ends when the program ends.

use super::comm::CommPipes;
use crate::code::EntryPoint;
use futures_lite::{FutureExt, future};
use lunatic_vm::{Exit, Live, MessageReader, MessageWriter, Part, Pipe, PipeReader, PipeWriter};

/// The number of bytes buffered between the comm and the program's streams, in each direction.
const BYTES: usize = 16 << 10;

/// Runs a program to completion. By the time this returns, all of the program's output is in the
/// comm.
pub(super) async fn run(
    live: &mut Live,
    entry_point: EntryPoint,
    (reader, writer): CommPipes,
) -> Exit {
    let (input, stdin) = Pipe::bounded(BYTES);
    let (stdout, output) = Pipe::bounded(BYTES);
    live.guest().redirect(stdin, stdout.clone());
    let feeding = async {
        feed(reader, input).await;
        std::future::pending().await
    };
    let program = async {
        let exit = entry_point.run(live).or(feeding).await;
        // Output that is still in the pipe is passed on, no matter how slowly it is read.
        stdout.close();
        exit
    };
    let (exit, ()) = future::zip(program, drain(&output, &writer)).await;
    exit
}

/// Passes the first message to the program.
async fn feed(reader: MessageReader, input: PipeWriter) {
    let mut piece = vec![0; BYTES];
    while let Part::Bytes(count) = reader.read(&mut piece).await {
        // It is not a failure if a program does not read its input.
        if input.write_all(&piece[..count]).await.is_err() {
            break;
        }
    }
}

/// Passes on the bytes that the program writes.
async fn drain(output: &PipeReader, writer: &MessageWriter) {
    let mut piece = vec![0; BYTES];
    loop {
        match output.read(&mut piece).await {
            0 => return,
            // If nothing reads the output any longer, it can be dropped.
            count => drop(writer.write_all(&piece[..count]).await),
        }
    }
}
