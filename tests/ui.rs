//! What must not compile, each case beside a twin that must.
//!
//! The expected messages are those of the pinned toolchain; CI runs no other.

/// The twins: that this file compiles is their test.
#[path = "ui/pass"]
mod pass {
    #![allow(dead_code)]

    #[path = "accept_before_recover.rs"]
    mod accept_before_recover;
    #[path = "clone_a_handle.rs"]
    mod clone_a_handle;
    #[path = "commit_a_step_twice.rs"]
    mod commit_a_step_twice;
    #[path = "end_a_handed_over.rs"]
    mod end_a_handed_over;
    #[path = "end_rows_by_ones_own_word.rs"]
    mod end_rows_by_ones_own_word;
    #[path = "end_rows_of_a_host_by_an_engine.rs"]
    mod end_rows_of_a_host_by_an_engine;
    #[path = "fail_a_failed.rs"]
    mod fail_a_failed;
    #[path = "fail_a_succeeded.rs"]
    mod fail_a_succeeded;
    #[path = "hand_over_a_pending.rs"]
    mod hand_over_a_pending;
    #[path = "ignore_a_transition.rs"]
    mod ignore_a_transition;
    #[path = "set_a_status.rs"]
    mod set_a_status;
    #[path = "settle_rows_of_the_engine.rs"]
    mod settle_rows_of_the_engine;
    #[path = "start_a_running.rs"]
    mod start_a_running;
    #[path = "succeed_a_pending.rs"]
    mod succeed_a_pending;
    #[path = "succeed_twice.rs"]
    mod succeed_twice;
    #[path = "take_a_step_for_a_state.rs"]
    mod take_a_step_for_a_state;
    #[path = "use_after_move.rs"]
    mod use_after_move;
    #[path = "use_started_rows_twice.rs"]
    mod use_started_rows_twice;
}

#[test]
fn invalid_steps_do_not_compile() {
    trybuild::TestCases::new().compile_fail("tests/ui/fail/*.rs");
}
