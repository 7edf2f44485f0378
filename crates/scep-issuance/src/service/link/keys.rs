//! Which keys may be used, and which one the challenges of a group are encrypted to.
