//! Writes the test vectors of `vectors/`: blobs, requests and messages, good and bad, with their keys.
//!
//! The same files each time: whatever is random in them follows from a seed. A file that is no vector any more is
//! removed; README.md is written by hand and stays. With the argument `explain` it writes none, and says of each how it
//! ends and why.
#![allow(clippy::expect_used, reason = "a tool for developers: what does not fit is its failure")]

use scep_testkit::vectors::{Kind, all, materials};
use std::path::Path;

fn main() {
    if std::env::args().nth(1).as_deref() == Some("explain") {
        for vector in all() {
            let (ended, why) = vector.run();
            println!("{}: {}: {ended}: {why}", vector.path(), vector.about);
        }
        return;
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors");
    for kind in Kind::ALL {
        let of_kind = folder.join(kind.name());
        if of_kind.exists() {
            std::fs::remove_dir_all(&of_kind).expect("the old files can be removed");
        }
        std::fs::create_dir_all(&of_kind).expect("a folder for the vectors");
    }
    std::fs::create_dir_all(folder.join("keys")).expect("a folder for the keys");
    for (path, contents) in materials() {
        std::fs::write(folder.join(path), contents).expect("a file is written");
    }
    let mut wrong = 0_u32;
    for vector in all() {
        std::fs::write(folder.join(vector.path()), vector.to_text()).expect("a file is written");
        let (ended, why) = vector.run();
        if ended != vector.expected {
            wrong = wrong.saturating_add(1);
            eprintln!("{}: expected {}, got {ended}: {why}", vector.path(), vector.expected);
        }
    }
    assert_eq!(wrong, 0, "vectors do not end as they say");
}
