//! What must not compile, each case beside a twin that must.
//!
//! The expected messages are those of the pinned toolchain; CI runs no other.

/// The twins: that this file compiles is their test.
#[path = "ui/pass"]
mod pass {
    #![allow(dead_code)]

    #[path = "clone_a_handle.rs"]
    mod clone_a_handle;
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
}

#[test]
fn invalid_steps_do_not_compile() {
    trybuild::TestCases::new().compile_fail("tests/ui/fail/*.rs");
}
