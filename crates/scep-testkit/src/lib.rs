//! stub
pub mod ca;
