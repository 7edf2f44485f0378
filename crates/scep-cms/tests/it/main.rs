//! Everything public, against hand-made messages and against OpenSSL.

#[cfg(test)]
mod auth;
#[cfg(test)]
mod ber;
#[cfg(test)]
mod common;
#[cfg(test)]
mod enveloped;
#[cfg(test)]
mod openssl;
#[cfg(test)]
mod password;
#[cfg(test)]
mod signed;
