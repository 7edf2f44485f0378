//! Requests as they come: good ones, each attack and quirk that the crate answers for, and requests made by
//! OpenSSL.

#[cfg(test)]
mod attacks;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod mutations;
#[cfg(test)]
mod openssl;
#[cfg(test)]
mod quirks;
#[cfg(test)]
mod support;
#[cfg(test)]
mod weak_keys;
