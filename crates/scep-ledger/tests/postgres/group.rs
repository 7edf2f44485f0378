//! Several gateways, and a server that goes away.

use crate::Test;

pub(crate) const TESTS: [(&str, Test); 0] = [];
