//! What becomes of an [`Embedded`](crate::Embedded) store when power, disk or bits fail. All of it over a simulated
//! disk, which does the worst that a disk may do: it loses and reorders what was not flushed, sector by sector and name
//! by name.

use std::sync::Arc;

use parking_lot::Mutex;

use super::{
    executor::block_on,
    random::Random,
    script::{Script, open},
};
use crate::{
    Revision, Store, StoreError, Transaction,
    embedded::simulated::{DiskFault, Simulated},
};

/// What a series of disasters came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Survived {
    /// Disasters, after each of which the store was opened and compared.
    pub disasters: u64,
    /// Disasters that took away something that was not acknowledged, or that were reported as damage.
    pub noticed: u64,
    /// Snapshots that the stores wrote.
    pub snapshots: u64,
    /// Log segments that they used again.
    pub recycled: u64,
}

impl Survived {
    /// Both together.
    pub fn and(self, other: Self) -> Self {
        Self {
            disasters: self.disasters + other.disasters,
            noticed: self.noticed + other.noticed,
            snapshots: self.snapshots + other.snapshots,
            recycled: self.recycled + other.recycled,
        }
    }

    fn count(&mut self, store: &dyn Store) -> Result<(), String> {
        let statistics = block_on(store.statistics()).map_err(|error| error.to_string())?;
        let disk = statistics.disk.unwrap_or_default();
        self.snapshots += disk.snapshots;
        self.recycled += disk.segments_recycled;
        Ok(())
    }
}

/// A disk as a loss of power left it, and what had been acknowledged before.
type Cuts = Arc<Mutex<Vec<(Simulated, Revision)>>>;

/// Cuts the power at least `cuts` times in one run of a store: before every operation of its disk, a few times each.
/// After each cut the store must open and show exactly a prefix of what was written, with everything acknowledged.
///
/// Does not end before the run has written snapshots and used segments again.
///
/// # Errors
///
/// Says what is wrong, and after which cut.
pub fn power_cuts(seed: u64, cuts: u64) -> Result<Survived, String> {
    power_cuts_on(&Simulated::default(), seed, cuts).map_err(|wrong| format!("power cuts, seed {seed}: {wrong}"))
}

/// As [`power_cuts`], over a disk whose flushes do nothing. It must fail: that is how the search is tested.
///
/// # Errors
///
/// Always, or the search is worth nothing.
pub fn power_cuts_on_a_disk_that_lies(seed: u64, cuts: u64) -> Result<Survived, String> {
    let disk = Simulated::default();
    disk.fail(40..u64::MAX, DiskFault::Lie);
    power_cuts_on(&disk, seed, cuts)
}

fn power_cuts_on(disk: &Simulated, seed: u64, cuts: u64) -> Result<Survived, String> {
    let mut random = Random::new(seed);
    let caught = Cuts::default();
    let acknowledged = Arc::new(Mutex::new(Revision::ZERO));
    catch(disk, &caught, &acknowledged, Random::new(random.bits()));
    let store = open(disk).map_err(|error| error.to_string())?;
    let mut script = Script::new(random.bits());
    let (mut survived, mut enough) = (Survived::default(), Survived::default());
    while survived.disasters < cuts || enough.snapshots < 3 || enough.recycled < 3 {
        let step = script.next_step();
        if let Some(error) = script.perform(&*store, &step)? {
            return Err(error.to_string());
        }
        *acknowledged.lock() = script.head();
        let images = std::mem::take(&mut *caught.lock());
        for (image, acknowledged) in images {
            survived = survived.and(survive(&script, &image, acknowledged, &mut random)?);
        }
        enough = Survived::default();
        enough.count(&*store)?;
    }
    Ok(survived.and(enough))
}

/// Before each operation of the disk, notes what a loss of power would leave.
fn catch(disk: &Simulated, cuts: &Cuts, acknowledged: &Arc<Mutex<Revision>>, mut random: Random) {
    let (cuts, acknowledged) = (cuts.clone(), acknowledged.clone());
    disk.before_each(move |files| {
        let acknowledged = *acknowledged.lock();
        cuts.lock().extend((0..3).map(|_| (files.after_cut(&mut random), acknowledged)));
    });
}

fn survive(
    script: &Script,
    image: &Simulated,
    acknowledged: Revision,
    random: &mut Random,
) -> Result<Survived, String> {
    let mut survived = Survived { disasters: 1, ..Survived::default() };
    if random.one_in(20) {
        survived.disasters += cut_while_opening(script, &image.copy(), acknowledged, random)?;
    }
    let store = script.verify(image, acknowledged)?;
    let head = block_on(store.head()).map_err(|error| error.to_string())?;
    survived.noticed += u64::from(head < script.head());
    if random.one_in(8) {
        let written = block_on(store.commit(Transaction::new().put("afterwards", "v")));
        let written = written.map_err(|error| format!("it takes no writes: {error}"))?.revision;
        drop(store);
        let again = open(&image.cut(random)).map_err(|error| format!("it does not open twice: {error}"))?;
        let head = block_on(again.head()).map_err(|error| error.to_string())?;
        if head != written {
            return Err(format!("revision {written} was acknowledged after a cut, and after the next {head} is there"));
        }
        survived.disasters += 1;
    }
    Ok(survived)
}

/// The power fails once more while the store recovers from the first time.
fn cut_while_opening(
    script: &Script,
    image: &Simulated,
    acknowledged: Revision,
    random: &mut Random,
) -> Result<u64, String> {
    let caught = Cuts::default();
    catch(image, &caught, &Arc::new(Mutex::new(acknowledged)), Random::new(random.bits()));
    drop(script.verify(image, acknowledged)?);
    let images = std::mem::take(&mut *caught.lock());
    for (image, acknowledged) in &images {
        script.verify(image, *acknowledged).map_err(|wrong| format!("cut while it opened: {wrong}"))?;
    }
    Ok(images.len() as u64)
}

/// How often an operation of the disk fails.
const FAULTS: [(DiskFault, u64); 4] =
    [(DiskFault::Device, 1), (DiskFault::Full, 1), (DiskFault::Short, 1), (DiskFault::Full, 9)];

/// Runs a script of `steps` again and again. In each run another operation of the disk fails: with a device that does
/// not answer, with no space, with half of a write, and with no space for a while. Whatever the store says, it must
/// have everything acknowledged and nothing made up, after a restart and after a loss of power.
///
/// # Errors
///
/// Says what is wrong, and after which fault.
pub fn disk_faults(seed: u64, steps: u64) -> Result<Survived, String> {
    let disk = Simulated::default();
    let (operations, _) = {
        drop(faulty_run(&disk, seed, steps).map_err(|wrong| format!("without any fault: {wrong}"))?);
        disk.count()
    };
    let mut survived = Survived::default();
    for number in 0..operations {
        for (fault, times) in FAULTS {
            let place = |wrong| format!("disk faults, seed {seed}, {fault:?} {times} times at {number}: {wrong}");
            survived = survived.and(one_fault(seed, steps, number..number + times, fault).map_err(place)?);
        }
    }
    Ok(survived)
}

fn one_fault(seed: u64, steps: u64, range: std::ops::Range<u64>, fault: DiskFault) -> Result<Survived, String> {
    let disk = Simulated::default();
    let mut random = Random::new(seed ^ range.start);
    disk.fail(range, fault);
    let (script, acknowledged, mut survived) = faulty_run(&disk, seed, steps)?;
    let (_, failed) = disk.count();
    disk.repair();
    let restarted = script.verify(&disk.copy(), acknowledged).map_err(|wrong| format!("after a restart: {wrong}"))?;
    // What a restart shows it must keep, whatever the failed flush left.
    let shown = block_on(restarted.head()).map_err(|error| error.to_string())?;
    drop(restarted);
    script.verify(&disk.copy().cut(&mut random), acknowledged).map_err(|wrong| format!("after a cut: {wrong}"))?;
    drop(script.verify(&disk, acknowledged)?);
    script.verify(&disk.cut(&mut random), shown).map_err(|wrong| format!("after a restart and a cut: {wrong}"))?;
    survived.disasters = u64::from(failed > 0);
    Ok(survived)
}

/// Goes on as long as the store takes writes, or says that it may do so later.
fn faulty_run(disk: &Simulated, seed: u64, steps: u64) -> Result<(Script, Revision, Survived), String> {
    let mut script = Script::new(seed);
    let mut survived = Survived::default();
    let store = match open(disk) {
        Ok(store) => store,
        Err(StoreError::Disk { .. }) => return Ok((script, Revision::ZERO, survived)),
        Err(error) => return Err(format!("opening gave {error}")),
    };
    let mut acknowledged = Revision::ZERO;
    for _ in 0..steps {
        let step = script.next_step();
        match script.perform(&*store, &step)? {
            None => acknowledged = script.head(),
            Some(StoreError::Full { .. }) => {
                survived.noticed += 1;
                acknowledged = script.head();
            }
            Some(_) => {
                survived.noticed += 1;
                // Of a step some commits may have been acknowledged, and are in the store's own state.
                acknowledged = acknowledged.max(block_on(store.head()).map_err(|error| error.to_string())?);
                break;
            }
        }
    }
    survived.count(&*store)?;
    Ok((script, acknowledged, survived))
}

/// Flips `flips` bits, one at a time, in the files of a store that was closed. Each must be reported as damage of that
/// file at or before that byte, or be harmless: in what nobody reads, in a snapshot for which the other stands in, or
/// in the last frame, which then counts as torn.
///
/// # Errors
///
/// Says what was made of which bit.
pub fn bit_flips(seed: u64, flips: u64) -> Result<Survived, String> {
    let mut random = Random::new(seed);
    let disk = Simulated::default();
    let mut script = Script::new(random.bits());
    let store = open(&disk).map_err(|error| error.to_string())?;
    let mut survived = Survived::default();
    let mut before_last = Revision::ZERO;
    while survived.recycled < 2 {
        before_last = script.head();
        let step = script.next_step();
        script.perform(&*store, &step)?;
        survived = Survived::default();
        survived.count(&*store)?;
    }
    drop(store);
    let files: Vec<_> = disk.lengths().into_iter().filter(|(_, length)| *length > 0).collect();
    for _ in 0..flips {
        let (path, length) = random.pick(&files).clone();
        let (offset, bit) = (random.below(length as u64) as usize, random.below(8) as u32);
        let image = disk.copy();
        image.flip(&path, offset, bit);
        survived.disasters += 1;
        let outcome = match open(&image) {
            Ok(store) => {
                drop(store);
                script.verify(&image, before_last).map(drop)
            }
            Err(StoreError::Corrupt { file, offset: said, .. }) if file == path && said <= offset as u64 => {
                survived.noticed += 1;
                Ok(())
            }
            Err(error) => Err(error.to_string()),
        };
        let place = |wrong| format!("bit flips, seed {seed}, bit {bit} of {} at {offset}: {wrong}", path.display());
        outcome.map_err(place)?;
    }
    Ok(survived)
}

/// Fills the disk in the middle of a run, again and again. While it is full, writes are refused cleanly; when there is
/// space they go on, without reopening.
///
/// # Errors
///
/// Says what is wrong.
pub fn full_disks(seed: u64, times: u64) -> Result<Survived, String> {
    let mut random = Random::new(seed);
    let disk = Simulated::default();
    let mut script = Script::new(random.bits());
    let store = open(&disk).map_err(|error| error.to_string())?;
    let mut survived = Survived::default();
    while survived.disasters < times {
        disk.fill(true);
        let mut refused = false;
        while !refused {
            let step = script.next_step();
            refused = match script.perform(&*store, &step)? {
                None => false,
                // A smaller one of the same step may have found room.
                Some(StoreError::Full { .. }) => read_only(&*store)?.is_some(),
                Some(other) => return Err(format!("seed {seed}: a full disk gave {other}")),
            };
        }
        survived.noticed += 1;
        drop(script.verify(&disk.copy().cut(&mut random), script.head())?);
        disk.fill(false);
        for _ in 0..5 {
            let step = script.next_step();
            if let Some(error) = script.perform(&*store, &step)? {
                return Err(format!("seed {seed}: there is space, and the store says {error}"));
            }
        }
        if let Some(reason) = read_only(&*store)? {
            return Err(format!("seed {seed}: there is space, and the statistics say {reason}"));
        }
        survived.disasters += 1;
    }
    survived.count(&*store)?;
    drop(store);
    script.verify(&disk, script.head())?;
    Ok(survived)
}

fn read_only(store: &dyn Store) -> Result<Option<String>, String> {
    Ok(block_on(store.statistics()).map_err(|error| error.to_string())?.read_only)
}
