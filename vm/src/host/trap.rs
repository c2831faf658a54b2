//! `lunatic::trap`: catching traps, so that they end a call instead of the process.

use crate::guest::{Call, Failure};
use crate::run;

/// The guest function to call. It is passed the host function's arguments.
const CATCHING: &str = "_lunatic_catch_trap";

/// The result if the function trapped.
const TRAPPED: i32 = 0;

pub(super) async fn catch(
    call: &mut Call<'_>,
    function: i32,
    pointer: i32,
) -> Result<i32, Failure> {
    // If a limit prevented growth before this call, that must not be mistaken for the cause of a
    // trap during this call.
    let refused = call.guest().take_refused();
    let called = call
        .call_back::<(i32, i32), i32>(CATCHING, (function, pointer))
        .await?;
    let answer = match called {
        Ok(result) => result,
        // Kills, exits and exceeded limits end the process and are not caught.
        Err(error) if run::end_of(call.guest(), &error).is_some() => {
            return Err(Failure::Guest(error));
        }
        Err(_) => TRAPPED,
    };
    call.guest().remember_refused(refused);
    Ok(answer)
}
