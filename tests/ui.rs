//! What must not compile, each case beside a twin that must.
//!
//! The expected messages are those of the pinned toolchain; CI runs no other.

#[test]
fn invalid_steps_do_not_compile() {
    let cases = trybuild::TestCases::new();
    cases.compile_fail("tests/ui/fail/*.rs");
    cases.pass("tests/ui/pass/*.rs");
}
