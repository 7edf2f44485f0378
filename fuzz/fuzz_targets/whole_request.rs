//! The whole gateway, message in and answer out, with cryptography that does nothing: no signature shields what
//! comes after it. What the input means says `scep_testkit::noop_house::InputKind`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use scep_server::Gateway;
use scep_testkit::NoOpHouse;
use std::cell::RefCell;
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

/// After so many inputs the ledger is a new one.
const INPUTS: u32 = 5_000;

struct Run {
    runtime: Runtime,
    house: NoOpHouse,
    gateway: Option<(Gateway, TempDir)>,
    left: u32,
}

impl Run {
    fn new() -> Self {
        let runtime = Builder::new_current_thread().build().expect("a runtime");
        Self { runtime, house: NoOpHouse::new(), gateway: None, left: 0 }
    }

    fn feed(&mut self, input: &[u8]) {
        if self.left == 0 {
            // The old ledger is closed before its folder goes.
            self.gateway = None;
            let folder = tempfile::tempdir().expect("a temporary folder");
            let gateway = Gateway::new(self.house.parts(folder.path())).unwrap();
            (self.gateway, self.left) = (Some((gateway, folder)), INPUTS);
        }
        self.left -= 1;
        let Some((gateway, _)) = &self.gateway else { return };
        if let Some((path, message)) = self.house.request_of(input) {
            let _ = self.runtime.block_on(gateway.answer(path, message));
        }
    }
}

thread_local! {
    static RUN: RefCell<Run> = RefCell::new(Run::new());
}

fuzz_target!(|data: &[u8]| RUN.with_borrow_mut(|run| run.feed(data)));
