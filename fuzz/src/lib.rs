//! What the fuzz targets share: structures out of a fuzzer's octets that are nearly right, one change to them, and
//! OpenSSL as the second reader of what ours accept.

pub mod csr;
pub mod message;
pub mod second;
pub mod tree;
