//! Tests programs that use the published library 0.14.1. The program runs the code for the claim
//! named by its first argument and prints the results. The expected results are in
//! `cli/tests/all/published.rs`.

mod abstract_processes;
mod configs;
mod distribution;
mod function_references;
mod links;
mod mailboxes;
mod metrics;
mod modules;
mod names;
mod panics;
mod process_locals;
mod processes;
mod protocols;
mod serializers;
mod sqlite;
mod supervisors;
mod tasks;
mod tcp;
mod timers;
mod tls;
mod udp;
mod wasi;

use lunatic::{Mailbox, MessageSignal, Process, ProcessDiedSignal};
use std::time::Duration;

/// How long a claim waits for something that must happen. Claims never wait for something that must
/// not happen.
const PATIENCE: Duration = Duration::from_secs(60);

/// Lists each subject's functions along with their names, so that they can be called by name.
macro_rules! claims {
    ($($subject:ident { $($claim:ident)* })*) => {
        [$($((concat!(stringify!($subject), "::", stringify!($claim)), $subject::$claim as fn()),)*)*]
    };
}

#[lunatic::main]
fn main(_: Mailbox<()>) {
    let claims = claims! {
        processes {
            a_child_has_the_captured_values
            messages_from_one_sender_arrive_in_order
            a_thousand_processes_each_spawn_the_next
            macros_spawn_the_same_processes_as_functions
            a_process_is_alive_until_it_is_killed
            a_message_to_a_dead_process_is_lost
            handles_of_one_process_are_equal
            a_flooded_mailbox_still_gets_the_reply
        }
        links {
            a_parent_survives_a_child_that_fails
            a_parent_dies_with_the_child_that_it_is_linked_to
            a_parent_that_catches_link_deaths_gets_the_tag
            a_normal_exit_is_not_reported
            a_link_to_a_dead_process_is_reported
            an_unlinked_child_can_fail_without_killing_its_parent
            a_monitor_is_notified_of_every_exit
            monitoring_a_dead_process_reports_its_exit
            a_stopped_monitor_reports_nothing
            one_mailbox_receives_messages_and_link_and_monitor_signals
        }
        mailboxes {
            tags_choose_the_message
            a_receive_that_timed_out_loses_nothing
            a_receive_with_a_timeout_of_zero_polls
            a_message_that_cannot_be_decoded_is_an_error
            a_message_of_a_megabyte_arrives
        }
        configs {
            what_was_set_is_what_is_read
            without_the_right_a_child_spawns_nothing
            with_the_right_a_child_spawns
            without_the_right_there_are_no_configs
            without_the_right_nothing_is_compiled
            a_process_cannot_grant_a_right_that_it_lacks
            memory_is_limited
            compute_is_limited
            arguments_and_variables_are_the_childs_own
            a_directory_is_granted
            a_config_grants_no_directory_by_itself
        }
        modules {
            an_export_runs_with_its_parameters
            a_module_can_be_sent_in_a_message
            an_invalid_module_is_an_error
            a_linked_module_reports_its_exit
            a_missing_export_is_an_error
        }
        protocols {
            both_sides_follow_the_protocol
            a_protocol_repeats_until_one_side_ends_it
            a_protocol_in_message_pack
            a_protocol_that_is_dropped_early_fails_both_sides
        }
        tasks {
            a_task_has_a_result
            a_parent_dies_with_a_task_that_fails
            a_task_can_time_out
            tasks_can_be_nested
        }
        abstract_processes {
            messages_and_requests_are_handled_in_order
            a_deferred_request_can_be_answered_by_another_process
            a_request_can_time_out
            a_message_can_be_sent_after_a_delay
            a_process_that_does_not_start_reports_why
            a_shutdown_calls_terminate
            the_macro_generates_the_handlers
            a_link_death_is_handled
            a_name_can_be_registered_only_once
            an_abstract_process_has_a_config
        }
        supervisors {
            one_for_one_restarts_the_one
            one_for_all_restarts_all
            rest_for_one_restarts_the_rest
            a_child_comes_back_under_its_name
            a_shutdown_goes_from_the_last_to_the_first
        }
        process_locals {
            every_process_has_its_own
        }
        timers {
            a_message_arrives_later
            a_cancelled_message_does_not_arrive
            a_timer_that_fired_cannot_be_cancelled
        }
        names {
            a_process_can_be_found_by_name
            a_name_belongs_to_one_type
            a_derived_name_is_a_name
            the_name_of_a_dead_process_is_free
        }
        panics {
            a_panic_is_caught
            a_capture_survives_if_nothing_panics
            a_function_may_wait_before_its_panic_is_caught
            a_stack_overflow_is_caught
        }
        function_references {
            function_references_can_be_sent
        }
        serializers {
            bincode_json_and_message_pack_carry_the_same_values
            a_process_can_be_sent_with_each_serializer
        }
        distribution {
            there_is_one_node
        }
        metrics {
            metrics_are_accepted
        }
        tcp {
            a_stream_is_handed_to_a_child
            a_stream_can_be_sent_with_every_serializer
            a_peek_does_not_remove_the_bytes
            a_read_can_time_out
            clones_share_the_stream
            both_ends_know_each_other
            connecting_without_a_listener_is_an_error
            a_name_is_resolved
        }
        udp {
            datagrams_are_sent_and_received
            a_connected_socket_knows_its_peer
            options_are_kept
        }
        tls {
            a_stream_is_encrypted
            a_stream_is_handed_to_a_child
            an_untrusted_certificate_is_refused
        }
        sqlite {
            rows_come_back_as_they_were_inserted
            values_are_bound_by_position
            rows_are_iterated
            an_error_has_a_code
            a_file_keeps_its_tables
        }
        wasi {
            arguments_are_those_of_the_command
            variables_are_those_of_the_command
            a_file_is_written_and_read
            a_directory_is_listed
            clocks_and_random_numbers_are_available
        }
    };
    let wanted = std::env::args().nth(1).expect("the first argument names a claim, or is `--list`");
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
fn mailbox<M>() -> Mailbox<M>
where
    lunatic::serializer::Bincode: lunatic::serializer::CanSerialize<M>,
{
    unsafe { Mailbox::new() }
}

/// Waits until a process is dead.
fn wait_for<M, S>(process: Process<M, S>) {
    let mailbox = mailbox::<()>().monitorable();
    mailbox.monitor(process);
    match mailbox.receive_timeout(PATIENCE).expect("every process that is waited for ends") {
        MessageSignal::Signal(ProcessDiedSignal(id)) => assert_eq!(id, process.id()),
        MessageSignal::Message(()) => panic!("a message arrived instead of an exit signal"),
    }
}
