//! What a process uses, as the kernel tells it: CPU and memory.

use std::{fs, time::Duration};

use nix::{
    time::{ClockId, clock_getcpuclockid, clock_gettime},
    unistd::Pid,
};

/// A process that runs: this one or another.
#[derive(Clone, Copy)]
pub struct Process {
    pid: u32,
}

impl Process {
    /// The process of that number.
    pub fn numbered(pid: u32) -> Self {
        Self { pid }
    }

    /// The one that measures.
    pub fn own() -> Self {
        Self::numbered(std::process::id())
    }

    /// User and system time so far, of all threads, ended ones included.
    pub fn cpu(self) -> Duration {
        let pid = Pid::from_raw(self.pid.try_into().expect("process numbers are small"));
        let time = clock_getcpuclockid(pid).and_then(clock_gettime);
        time.map(Duration::from).unwrap_or_else(|error| panic!("process {} does not run: {error}", self.pid))
    }

    /// Resident memory, in MiB.
    pub fn memory(self) -> f64 {
        self.status("VmRSS:")
    }

    /// The most resident memory since [`Self::forget_peak`], in MiB.
    pub fn peak_memory(self) -> f64 {
        self.status("VmHWM:")
    }

    /// Lets the peak begin anew at what is resident now.
    pub fn forget_peak(self) {
        fs::write(format!("/proc/{}/clear_refs", self.pid), "5").expect("the peak of a process of ours is reset");
    }

    fn status(self, field: &str) -> f64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).expect("the process runs");
        let line = status.lines().find_map(|line| line.strip_prefix(field)).expect("a field of every process");
        let kib: f64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
        kib / 1024.0
    }
}

/// User and system time of the calling thread so far.
pub fn thread_cpu() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map(Duration::from).expect("every thread has this clock")
}
