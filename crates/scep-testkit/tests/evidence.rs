//! Skipping a stage does not compile: what each crate promises of its own values, tried from outside and across
//! the crates. What a message's values promise is tried in scep-message; single forgeries are `compile_fail` examples
//! beside the types.
//!
//! Each `.stderr` is pinned, as a case that fails to build for another reason proves nothing. One runner for all of
//! them, as each runner builds its own copy of the dependencies.

#[test]
fn evidence_cannot_be_forged_copied_or_skipped() {
    let cases = trybuild::TestCases::new();
    cases.compile_fail("tests/evidence/*.rs");
}
