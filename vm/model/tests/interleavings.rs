//! One test for each case. They are integration tests because unit tests would run along with the
//! unit tests in the scheduler's files.

#[test]
fn tasks_from_outside_find_a_worker() {
    lunatic_model::tasks_from_outside_find_a_worker();
}

#[test]
fn tasks_of_a_worker_are_shared_and_run_once() {
    lunatic_model::tasks_of_a_worker_are_shared_and_run_once();
}

#[test]
fn a_beat_frees_a_task_behind_a_blocked_worker() {
    lunatic_model::a_beat_frees_a_task_behind_a_blocked_worker();
}

#[test]
fn woken_tasks_are_handed_over_or_shared_and_run_once() {
    lunatic_model::woken_tasks_are_handed_over_or_shared_and_run_once();
}

#[test]
fn a_beat_frees_a_task_that_a_blocked_worker_was_handed_over_to() {
    lunatic_model::a_beat_frees_a_task_that_a_blocked_worker_was_handed_over_to();
}

#[test]
fn a_hand_over_during_a_beat_and_a_stop_loses_no_task() {
    lunatic_model::a_hand_over_during_a_beat_and_a_stop_loses_no_task();
}

#[test]
fn the_clock_is_awake_while_a_worker_is() {
    lunatic_model::the_clock_is_awake_while_a_worker_is();
}

#[test]
fn the_clock_is_awake_while_a_thread_is_lent() {
    lunatic_model::the_clock_is_awake_while_a_thread_is_lent();
}

#[test]
fn a_pool_that_stops_loses_no_task() {
    lunatic_model::a_pool_that_stops_loses_no_task();
}

#[test]
fn a_woken_task_sees_what_it_was_woken_for() {
    lunatic_model::task::a_woken_task_sees_what_it_was_woken_for();
}

#[test]
fn a_task_whose_wakers_are_dropped_is_dropped_once() {
    lunatic_model::task::a_task_whose_wakers_are_dropped_is_dropped_once();
}

#[test]
fn a_parked_task_is_resumed_or_woken() {
    lunatic_model::task::a_parked_task_is_resumed_or_woken();
}

#[test]
fn a_sleeping_process_is_woken_by_a_message_and_by_a_kill() {
    lunatic_model::process::a_sleeping_process_is_woken_by_a_message_and_by_a_kill();
}

#[test]
fn a_link_to_a_dying_process_is_reported_once() {
    lunatic_model::process::a_link_to_a_dying_process_is_reported_once();
}

#[test]
fn a_monitor_of_a_dying_process_is_reported_or_removed() {
    lunatic_model::process::a_monitor_of_a_dying_process_is_reported_or_removed();
}

#[test]
fn linked_processes_can_die_together() {
    lunatic_model::process::linked_processes_can_die_together();
}

#[test]
fn nobody_is_refused_what_is_on_its_way() {
    lunatic_model::tally::nobody_is_refused_what_is_on_its_way();
}
