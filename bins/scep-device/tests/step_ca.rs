//! step-ca as the server of `scep-device`.
fn main() {}
