//! `lunatic::trap`: traps that end a call instead of a process.

use crate::guest::{Call, Failure};
use crate::run;

/// The guest function that is called with the arguments of the host function.
const CATCHING: &str = "_lunatic_catch_trap";

/// The result if the function trapped.
const TRAPPED: i32 = 0;

pub(super) async fn catch(
    call: &mut Call<'_>,
    function: i32,
    pointer: i32,
) -> Result<i32, Failure> {
    // A limit that refused growth before this call must not be mistaken for the cause of a trap in
    // this call.
    let refused = call.guest().take_refused();
    let called = call
        .call_back::<(i32, i32), i32>(CATCHING, (function, pointer))
        .await?;
    let answer = match called {
        Ok(result) => result,
        // Kills, exits and limits end the process and are not caught.
        Err(error) if run::end_of(call.guest(), &error).is_some() => {
            return Err(Failure::Guest(error));
        }
        Err(_) => TRAPPED,
    };
    call.guest().remember_refused(refused);
    Ok(answer)
}
