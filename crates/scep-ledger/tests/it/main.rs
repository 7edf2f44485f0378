//! Tests from outside: what every store must do, and what the first one does to the disk. Each store runs the suite.

#[cfg(test)]
#[cfg(all(feature = "sqlite", unix))]
mod durability;
#[cfg(test)]
#[cfg(feature = "sqlite")]
mod held;
#[cfg(test)]
#[cfg(feature = "sqlite")]
mod renewal;
#[cfg(test)]
#[cfg(feature = "sqlite")]
mod revocation;
#[cfg(test)]
#[cfg(feature = "sqlite")]
mod sqlite;
#[cfg(test)]
#[cfg(feature = "sqlite")]
mod suite;
#[cfg(test)]
#[cfg(feature = "sqlite")]
mod support;
