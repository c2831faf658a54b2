//! Tests programs that use the published library 0.7.4. The program runs the code for the claim
//! named by its first argument and prints the results. The expected results are in
//! `cli/tests/all/published.rs`.

mod environments_and_modules;
mod links;
mod mailboxes;
mod names;
mod processes;
mod requests;
mod tcp;
mod wasi;

use lunatic::Mailbox;
use serde::{de::DeserializeOwned, Serialize};
use std::time::Duration;

/// How long a claim waits for something that must happen. Claims never wait for something that must
/// not happen.
const PATIENCE: Duration = Duration::from_secs(60);

/// Lists each subject's functions with their names, so that they can be called by name.
macro_rules! claims {
    ($($subject:ident { $($claim:ident)* })*) => {
        [$($((concat!(stringify!($subject), "::", stringify!($claim)), $subject::$claim as fn()),)*)*]
    };
}

#[lunatic::main]
fn main(_: Mailbox<()>) {
    let claims = claims! {
        processes {
            a_child_has_its_context
            messages_from_one_sender_arrive_in_order
            a_message_to_a_dead_process_is_lost
            a_process_has_one_identity
            processes_can_be_sent_in_messages
            a_sleep_ends
            a_child_runs_however_it_is_spawned
        }
        links {
            a_parent_is_told_which_child_failed
            a_normal_exit_is_not_reported
            a_parent_dies_with_the_child_that_it_is_linked_to
            a_link_can_be_made_and_removed_later
            a_process_can_stop_catching_link_deaths
        }
        mailboxes {
            tags_choose_the_message
            a_receive_that_timed_out_loses_nothing
            a_tag_comes_with_its_message
            a_message_that_cannot_be_decoded_is_an_error
        }
        requests {
            a_request_is_answered_before_earlier_messages
            a_request_knows_its_sender
        }
        environments_and_modules {
            a_missing_namespace_ends_the_child
            memory_is_limited
            compute_is_limited
            an_environment_has_what_it_was_given
            a_directory_is_granted
            an_export_runs_with_its_parameters
            an_invalid_module_is_an_error
            a_missing_export_is_an_error
            the_environment_of_this_process_has_this_module
        }
        names {
            the_newest_matching_version_is_found
            a_name_can_be_released
            an_invalid_version_is_an_error
            every_environment_has_its_own_names
        }
        tcp {
            a_stream_is_handed_to_a_child
            a_read_can_time_out
            connecting_without_a_listener_is_an_error
            a_name_is_resolved
        }
        wasi {
            arguments_are_those_of_the_command
            variables_are_those_of_the_command
            a_file_is_written_and_read
        }
    };
    let wanted = std::env::args().find(|argument| argument == "--list" || argument.contains("::"));
    let wanted = wanted.expect("the first argument names a claim, or is `--list`");
    if wanted == "--list" {
        claims.iter().for_each(|(name, _)| println!("{name}"));
        return;
    }
    let Some((_, claim)) = claims.into_iter().find(|(name, _)| *name == wanted) else {
        panic!("no claim named `{wanted}`");
    };
    claim();
}

/// Returns this process's mailbox for messages of a type. Each claim runs in its own process, so
/// the mailbox does not contain messages of other types.
fn mailbox<M: Serialize + DeserializeOwned>() -> Mailbox<M> {
    unsafe { Mailbox::new() }
}
