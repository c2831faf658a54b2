//! `lunatic::trap`: traps that end a call instead of a process.

use crate::guest::{Call, Failure};
use crate::run;

/// The guest's function that is called, with the arguments of the host function.
const CATCHING: &str = "_lunatic_catch_trap";

/// The result if it trapped.
const TRAPPED: i32 = 0;

pub(super) async fn catch(
    call: &mut Call<'_>,
    function: i32,
    pointer: i32,
) -> Result<i32, Failure> {
    // A limit that was refused before has nothing to do with what comes now.
    let refused = call.guest().take_refused();
    let called = call
        .call_back::<(i32, i32), i32>(CATCHING, (function, pointer))
        .await?;
    let answer = match called {
        Ok(result) => result,
        // A kill, an exit and a limit end the process and are not caught.
        Err(error) if run::end_of(call.guest(), &error).is_some() => {
            return Err(Failure::Guest(error));
        }
        Err(_) => TRAPPED,
    };
    call.guest().remember_refused(refused);
    Ok(answer)
}
