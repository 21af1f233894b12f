//! Notices when processes end: one thread that sleeps in the kernel, for any number of processes.

use std::{
    collections::BTreeMap,
    io,
    os::fd::OwnedFd,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;
use rustix::{
    event::{EventfdFlags, epoll, eventfd},
    process::{WaitId, WaitIdOptions, waitid},
};

/// Called once when the process has ended, on the watching thread: must be short.
pub type Then = Box<dyn FnOnce() + Send>;

/// The watching thread's front. Dropping it ends the thread; nothing more is called then.
pub struct Watch {
    shared: Arc<Shared>,
    next: AtomicU64,
}

struct Shared {
    epoll: OwnedFd,
    stop: OwnedFd,
    entries: Mutex<BTreeMap<u64, (OwnedFd, Then)>>,
}

/// Not a number of any entry.
const STOP: u64 = 0;

impl Watch {
    /// Starts the thread.
    pub fn start() -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let stop = eventfd(0, EventfdFlags::CLOEXEC)?;
        epoll::add(&epoll, &stop, epoll::EventData::new_u64(STOP), epoll::EventFlags::IN)?;
        let shared = Arc::new(Shared { epoll, stop, entries: Mutex::default() });
        let of_thread = Arc::clone(&shared);
        std::thread::Builder::new().name("container-watch".to_owned()).spawn(move || of_thread.run())?;
        Ok(Self { shared, next: AtomicU64::new(STOP + 1) })
    }

    /// Calls `then` when the process has ended, soon if it has already. A child of ours is cleared away first.
    pub fn add(&self, process: OwnedFd, then: Then) -> io::Result<()> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        // The lock keeps the thread from looking for the entry before it is there.
        let mut entries = self.shared.entries.lock();
        epoll::add(&self.shared.epoll, &process, epoll::EventData::new_u64(number), epoll::EventFlags::IN)?;
        entries.insert(number, (process, then));
        Ok(())
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // Invariant: a counter that starts at zero takes one more.
        let _ = rustix::io::write(&self.shared.stop, &1u64.to_ne_bytes());
    }
}

impl Shared {
    fn run(&self) {
        let mut events = Vec::with_capacity(64);
        loop {
            match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                // Invariant: the descriptor is ours and open.
                Err(_) => return,
            }
            for event in events.drain(..) {
                let number = event.data.u64();
                if number == STOP {
                    return;
                }
                let found = self.entries.lock().remove(&number);
                if let Some((process, then)) = found {
                    self.clear(&process);
                    then();
                }
            }
        }
    }

    fn clear(&self, process: &OwnedFd) {
        use std::os::fd::AsFd;
        // It is gone in any case; and a process that we adopted is no child of ours.
        let _ = epoll::delete(&self.epoll, process);
        let _ = waitid(WaitId::PidFd(process.as_fd()), WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
    }
}
