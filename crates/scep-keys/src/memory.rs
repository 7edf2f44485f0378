//! Keys stay out of core dumps.

use std::io;

/// Forbids core dumps of this process, in which its private keys would be: by its resource limit and, on Linux, by making
/// it undumpable, since a dump that is piped into a program heeds no limit. Another process of the same user can then not
/// read its memory either. To be called first, before any key is read; nothing turns it back.
///
/// Does nothing where there are no such limits.
///
/// # Errors
/// When the system refuses.
#[cfg_attr(not(unix), allow(clippy::unnecessary_wraps, reason = "nothing to do there"))]
pub fn forbid_core_dumps() -> io::Result<()> {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, Rlimit, setrlimit};
        setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    }
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        use rustix::process::{DumpableBehavior, set_dumpable_behavior};
        set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    }
    Ok(())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use rustix::process::{DumpableBehavior, Resource, dumpable_behavior, getrlimit};

    #[test]
    fn attack_61_no_core_is_dumped_once_it_is_forbidden() {
        assert_eq!(dumpable_behavior().unwrap(), DumpableBehavior::Dumpable);
        forbid_core_dumps().unwrap();
        assert_eq!(dumpable_behavior().unwrap(), DumpableBehavior::NotDumpable);
        let limit = getrlimit(Resource::Core);
        assert_eq!((limit.current, limit.maximum), (Some(0), Some(0)));
        // Not twice an error.
        forbid_core_dumps().unwrap();
    }
}
