//! The system calls that have no safe wrapper. The only place of this crate with `unsafe`.
#![allow(unsafe_code)]

use std::{
    ffi::CString,
    io,
    os::fd::{AsRawFd, BorrowedFd, OwnedFd},
};

use nix::{
    libc,
    sys::signal::{SigHandler, SigSet, Signal, signal},
    unistd::{ForkResult, Pid},
};
use tokio::io::unix::AsyncFd;

/// Forks. Answers the child's id in the parent and `None` in the child.
///
/// Refuses when the process has more than one thread, which is what makes it safe.
pub fn fork() -> io::Result<Option<Pid>> {
    let threads = std::fs::read_dir("/proc/self/task")?.count();
    if threads != 1 {
        return Err(io::Error::other(format!("cannot fork with {threads} threads")));
    }
    // SAFETY: the only thread forks, so no lock is left held by a thread that does not exist in the child.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Parent { child } => Ok(Some(child)),
        ForkResult::Child => Ok(None),
    }
}

/// Ends the process without running anything registered for its end: what a forked child must do.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: _exit takes any code and never returns.
    unsafe { libc::_exit(code) }
}

/// Gives every signal its default action and unblocks all: what a program expects to be started with.
pub fn default_signals() -> io::Result<()> {
    for number in Signal::iterator() {
        if number != Signal::SIGKILL && number != Signal::SIGSTOP {
            // SAFETY: the default action is no function of ours, so nothing can be called at a wrong time.
            unsafe { signal(number, SigHandler::SigDfl) }?;
        }
    }
    Ok(SigSet::all().thread_unblock()?)
}

/// Ignores a signal.
pub fn ignore_signal(number: Signal) -> io::Result<()> {
    // SAFETY: ignoring is no function of ours, so nothing can be called at a wrong time.
    unsafe { signal(number, SigHandler::SigIgn) }?;
    Ok(())
}

/// Makes every descriptor from `first` on close when a program is executed.
pub fn close_on_exec_from(first: u32) -> io::Result<()> {
    // SAFETY: marking descriptors touches no memory and closes none now.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Makes a mount, and all mounts below it, read-only.
pub fn mount_read_only_recursive(mount: BorrowedFd<'_>) -> io::Result<()> {
    set_mount_attributes(mount, libc::MOUNT_ATTR_RDONLY, 0)
}

/// Sets the propagation (`MS_PRIVATE`, `MS_SLAVE` or `MS_SHARED`) of a mount and all mounts below it.
pub fn mount_propagation_recursive(mount: BorrowedFd<'_>, propagation: u64) -> io::Result<()> {
    set_mount_attributes(mount, 0, propagation)
}

fn set_mount_attributes(mount: BorrowedFd<'_>, attr_set: u64, propagation: u64) -> io::Result<()> {
    let attributes = libc::mount_attr { attr_set, attr_clr: 0, propagation, userns_fd: 0 };
    let flags = libc::AT_EMPTY_PATH | libc::AT_RECURSIVE;
    // SAFETY: the path is a terminated string and the structure's size is given; both outlive the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Brings the loopback interface of the current network namespace up.
pub fn loopback_up() -> io::Result<()> {
    let socket = rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::DGRAM, None)?;
    // SAFETY: the structure is plain data, for which all zeroes is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l'.cast_signed();
    request.ifr_name[1] = b'o'.cast_signed();
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads one `ifreq` with a terminated name, which outlives the call.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// One instruction of a system call filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FilterStep {
    /// Operation.
    pub code: u16,
    /// Steps to skip if true.
    pub jump_true: u8,
    /// Steps to skip if false.
    pub jump_false: u8,
    /// Operand.
    pub operand: u32,
}

/// Installs a system call filter for this thread and all that it starts. It cannot be removed.
pub fn install_filter(steps: &[FilterStep]) -> io::Result<()> {
    let mut program: Vec<libc::sock_filter> = steps
        .iter()
        .map(|step| libc::sock_filter { code: step.code, jt: step.jump_true, jf: step.jump_false, k: step.operand })
        .collect();
    let length = u16::try_from(program.len()).map_err(|_| io::Error::other("the system call filter is too long"))?;
    let description = libc::sock_fprog { len: length, filter: program.as_mut_ptr() };
    // SAFETY: the description points to as many instructions as it says; the kernel copies and checks them.
    let result = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const description) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A terminated copy of `text`, or an error that names it.
pub fn c_string(text: &str) -> io::Result<CString> {
    CString::new(text).map_err(|_| io::Error::other(format!("{text:?} contains a zero byte")))
}

/// Sends a signal, real-time ones included, to exactly the process of the handle.
pub fn send_signal(process: &impl AsRawFd, signal: i32) -> io::Result<()> {
    let (nothing, flags) = (std::ptr::null::<libc::siginfo_t>(), 0);
    // SAFETY: a null pointer asks the kernel to fill in the sender's details itself.
    let result = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, process.as_raw_fd(), signal, nothing, flags) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Registers a descriptor with the tokio runtime that the caller runs in.
pub fn async_descriptor(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an owned descriptor is open, is ours alone, and stays the same until it is dropped.
    Ok(unsafe { AsyncFd::register(descriptor) }?)
}
