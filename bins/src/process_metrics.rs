//! `process_*`: what the kernel knows of this process, under the names that Prometheus clients use.

use k8s::core::metrics::Samples;

/// The kernel's unit of time in `/proc`: a hundredth of a second, whatever its own clock is.
const TICKS_PER_SECOND: f64 = 100.0;

/// The Prometheus text; figures that the kernel does not tell are left out.
pub fn samples() -> String {
    let mut out = Samples::default();
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name of the program may hold anything; what follows is numbers, of which the first is the third field.
    let fields: Vec<&str> = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
    let seconds = |number: usize| Some(fields.get(number - 3)?.parse::<u64>().ok()? as f64 / TICKS_PER_SECOND);
    if let (Some(user), Some(system)) = (seconds(14), seconds(15)) {
        let (name, help) = ("process_cpu_seconds_total", "Processor time, user and system.");
        out.single(name, "counter", help, user + system);
    }
    if let (Some(boot), Some(started)) = (boot_seconds(), seconds(22)) {
        let (name, help) = ("process_start_time_seconds", "When the process started.");
        out.single(name, "gauge", help, boot as f64 + started);
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kib = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    if let Some(resident) = kib("VmRSS") {
        let (name, help) = ("process_resident_memory_bytes", "Memory that is really there.");
        out.single(name, "gauge", help, resident * 1024);
    }
    if let Some(size) = kib("VmSize") {
        out.single("process_virtual_memory_bytes", "gauge", "Address space.", size * 1024);
    }
    if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
        out.single("process_open_fds", "gauge", "Open file descriptors.", open.count());
    }
    if let Some(limit) = rustix::process::getrlimit(rustix::process::Resource::Nofile).current {
        out.single("process_max_fds", "gauge", "How many file descriptors may be open.", limit);
    }
    out.into_text()
}

fn boot_seconds() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/stat").ok()?;
    text.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}
