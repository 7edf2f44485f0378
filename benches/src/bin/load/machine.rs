//! What the machine is, and what a process has used of it.

use crate::Result;
use crate::stats::{median, milliseconds};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::io::{Seek as _, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

/// The processors that this process may use.
pub(crate) fn processors() -> Result<Vec<usize>> {
    let all = sched_getaffinity(None)?;
    Ok((0..CpuSet::MAX_CPU).filter(|processor| all.is_set(*processor)).collect())
}

/// From now on this thread, and what it starts, runs on these.
pub(crate) fn run_on(processors: &[usize]) -> Result<()> {
    let mut set = CpuSet::new();
    for processor in processors {
        set.set(*processor);
    }
    Ok(sched_setaffinity(None, &set)?)
}

/// How busy the machine is with other things: the load average of the last minute.
pub(crate) fn load_average() -> f64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().and_then(|first| first.parse().ok()).unwrap_or(0.0)
}

/// The name of the processor.
pub(crate) fn processor_name() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("model name"));
    let name = line.and_then(|line| line.split_once(':')).map_or("?", |(_, name)| name.trim());
    name.to_owned()
}

/// The median of 200 writes of a page, each synced, ms: what a commit waits for at least.
pub(crate) fn sync_time(folder: &Path) -> Result<f64> {
    let mut file = tempfile::tempfile_in(folder)?;
    let page = [0x5a; 4096];
    let mut all = Vec::new();
    for _ in 0..200 {
        file.rewind()?;
        file.write_all(&page)?;
        let start = Instant::now();
        file.sync_data()?;
        all.push(milliseconds(start.elapsed()));
    }
    Ok(median(&mut all))
}

/// What a process has used so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Used {
    /// Processor time of all its threads, in user and kernel mode.
    pub(crate) cpu: Duration,
    /// The most memory it has had at once (VmHWM), KiB.
    pub(crate) peak: u64,
}

impl Used {
    pub(crate) fn by(pid: u32) -> Result<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let ticks = ticks(&stat).ok_or("/proc/PID/stat has another form")?;
        let peak = peak(&status).ok_or("/proc/PID/status has another form")?;
        let second = rustix::param::clock_ticks_per_second().max(1);
        let cpu = Duration::from_millis(ticks.saturating_mul(1000) / second);
        Ok(Self { cpu, peak })
    }
}

/// utime and stime. What stands in brackets, the program's name, may hold anything.
fn ticks(stat: &str) -> Option<u64> {
    let (_, behind) = stat.rsplit_once(')')?;
    let mut fields = behind.split_ascii_whitespace().skip(11);
    let mut field = || fields.next()?.parse::<u64>().ok();
    field()?.checked_add(field()?)
}

fn peak(status: &str) -> Option<u64> {
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// The child of this process that runs this program.
pub(crate) fn child(program: &str) -> Result<u32> {
    let own = std::process::id();
    for entry in std::fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        if parent(&stat) == Some(own) && stat.contains(&format!("({program})")) {
            return Ok(pid);
        }
    }
    Err(format!("{program} does not run").into())
}

fn parent(stat: &str) -> Option<u32> {
    let (_, behind) = stat.rsplit_once(')')?;
    behind.split_ascii_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_lines_are_read() {
        let stat = "42 (a ) b) S 7 42 42 0 -1 4194560 900 0 0 0 31 11 5 6 20 0 9 0 100 1 2";
        assert_eq!((ticks(stat), parent(stat)), (Some(42), Some(7)));
        assert_eq!(ticks("42 (short) S 7"), None);
        assert_eq!(peak("Name:\tx\nVmHWM:\t   12345 kB\nVmRSS:\t 1 kB\n"), Some(12_345));
        assert_eq!(peak("VmRSS:\t 1 kB\n"), None);
    }

    #[test]
    fn this_process_has_used_something() {
        let used = Used::by(std::process::id()).unwrap();
        assert!(used.peak > 0, "{used:?}");
        assert!(!processors().unwrap().is_empty());
    }
}
