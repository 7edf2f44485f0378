//! Skipping a stage does not compile.

#[test]
fn evidence_cannot_be_skipped_or_forged() {
    let cases = trybuild::TestCases::new();
    cases.compile_fail("tests/evidence/*.rs");
}
