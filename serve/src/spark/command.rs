//! Programs that know of no comm: they read their standard input and write their standard output.
//!
//! The input is the first message, and ends with it. Everything they write is one message, which ends with them.

use super::comm::Ends;
use super::{Entry, run as run_entry};
use futures_lite::FutureExt;
use lunatic_vm::{Exit, Live, MessageReader, MessageWriter, Part, Pipe, PipeReader, PipeWriter};

/// How many bytes wait on their way between the comm and the program's streams, in each direction.
const BYTES: usize = 16 << 10;

/// Runs such a program to its end. What it wrote is with its runner by then.
pub(super) async fn run(live: &mut Live, entry: Entry, (reader, writer): Ends) -> Exit {
    let (input, its_input) = Pipe::bounded(BYTES);
    let (its_output, output) = Pipe::bounded(BYTES);
    live.guest().redirect(its_input, its_output.clone());
    let streams = async {
        futures_lite::future::zip(feed(reader, input), drain(&output, &writer)).await;
        std::future::pending().await
    };
    let exit = run_entry(live, entry).or(streams).await;
    // What it wrote last may be on its way.
    its_output.close();
    drain(&output, &writer).await;
    exit
}

/// Gives the program the first message.
async fn feed(reader: MessageReader, input: PipeWriter) {
    let mut piece = vec![0; BYTES];
    while let Part::Bytes(count) = reader.read(&mut piece).await {
        // A program that does not read its input has not failed.
        if input.write_all(&piece[..count]).await.is_err() {
            break;
        }
    }
}

/// Takes what the program writes.
async fn drain(output: &PipeReader, writer: &MessageWriter) {
    let mut piece = vec![0; BYTES];
    loop {
        match output.read(&mut piece).await {
            0 => return,
            // Where nobody reads it any more, it is nobody's loss.
            count => drop(writer.write_all(&piece[..count]).await),
        }
    }
}
