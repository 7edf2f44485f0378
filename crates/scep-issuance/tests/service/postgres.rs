//! What only a server has: several issuers on one database, lost connections, a server that is not as it must be.

use crate::harness::tests;

tests![];
