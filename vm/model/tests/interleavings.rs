//! The cases, each as a test. They are no unit tests, since the scheduler's own are not for a model checker.

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
fn the_clock_is_awake_while_a_worker_is() {
    lunatic_model::the_clock_is_awake_while_a_worker_is();
}

#[test]
fn a_crew_that_leaves_loses_no_task() {
    lunatic_model::a_crew_that_leaves_loses_no_task();
}
