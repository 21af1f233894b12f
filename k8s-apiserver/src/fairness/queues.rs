//! The queues of one priority level: whose turn it is. Pure.
//!
//! Every flow is dealt a few of the queues (a hand) and waits in the least loaded of them, so that a flow that asks too much
//! spoils its own hand and hardly anybody else's. Queues take turns by start-time fair queuing: each has a virtual time at
//! which its next request begins, which moves on by what its requests take (seats times seconds: first as estimated, then in
//! truth); the least is next, the level's virtual time is that of the request that was let in last, and a queue that was empty
//! begins there. So no queue that has something waiting is passed over for ever, and over time each gets as many seat-seconds
//! as any other.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

/// How long a request is thought to take before it is known, in virtual nanoseconds.
const ESTIMATE: u64 = 50_000_000;

/// How requests of a level wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Queuing {
    /// How many queues there are; 0: nothing waits.
    pub queues: usize,
    /// How many of them a flow may use.
    pub hand: usize,
    /// How many requests wait in one at most.
    pub length: usize,
}

/// What tells one that waits from every other one of its level.
pub type Ticket = u64;

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offer {
    /// It is answered now; the number of its queue is for [`Queues::finish`].
    Run(usize),
    /// It waits, in this queue.
    Wait(Ticket, usize),
    /// It is not.
    Refuse(Refusal),
}

/// Why a request is not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Its queue is full.
    QueueFull,
    /// Nothing waits in this level.
    NoRoom,
    /// Its turn did not come in time.
    TooLate,
}

/// The queues and seats of a level.
#[derive(Debug)]
pub struct Queues {
    queuing: Queuing,
    seats: u32,
    /// Invariant: the sum of the widths of what runs.
    taken: u32,
    queues: Vec<Queue>,
    tickets: BTreeMap<Ticket, usize>,
    last: Ticket,
    /// The virtual time.
    time: u64,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    /// When, in virtual time, the next one begins.
    next: u64,
}

#[derive(Debug)]
struct Waiting {
    ticket: Ticket,
    width: u32,
}

impl Queues {
    /// Empty queues.
    pub fn new(queuing: Queuing, seats: u32) -> Self {
        let mut queues =
            Self { queuing, seats, taken: 0, queues: Vec::new(), tickets: BTreeMap::new(), last: 0, time: 0 };
        queues.configure(queuing);
        queues
    }

    /// From now on so many queues. Who waits in one that is gone waits on in another.
    pub fn configure(&mut self, queuing: Queuing) {
        self.queuing = queuing;
        let count = queuing.queues.max(1);
        let gone = if self.queues.len() > count { self.queues.split_off(count) } else { Vec::new() };
        self.queues.resize_with(count, Queue::default);
        for (at, waiting) in gone.into_iter().flat_map(|queue| queue.waiting).enumerate() {
            let at = at % count;
            self.tickets.insert(waiting.ticket, at);
            self.queues[at].waiting.push_back(waiting);
        }
    }

    /// From now on so many seats. What runs, runs on.
    pub fn set_seats(&mut self, seats: u32) {
        self.seats = seats;
    }

    /// The seats that there are.
    pub fn seats(&self) -> u32 {
        self.seats
    }

    /// The seats that are taken.
    pub fn taken(&self) -> u32 {
        self.taken
    }

    /// How many requests wait.
    pub fn waiting(&self) -> u32 {
        u32::try_from(self.tickets.len()).unwrap_or(u32::MAX)
    }

    /// The seats that are taken and waited for.
    pub fn wanted(&self) -> u32 {
        let waiting = self.queues.iter().flat_map(|queue| &queue.waiting).map(|waiting| waiting.width);
        waiting.fold(self.taken, u32::saturating_add)
    }

    /// A request of a flow comes, for `width` seats.
    pub fn offer(&mut self, flow: u64, width: u32) -> Offer {
        let at = self.choose(flow);
        if self.tickets.is_empty() && self.has_room(width) {
            self.begin(at);
            self.run(at, width);
            return Offer::Run(at);
        }
        if self.queuing.queues == 0 {
            return Offer::Refuse(Refusal::NoRoom);
        }
        if self.queues[at].waiting.len() >= self.queuing.length {
            return Offer::Refuse(Refusal::QueueFull);
        }
        self.begin(at);
        self.last += 1;
        self.tickets.insert(self.last, at);
        self.queues[at].waiting.push_back(Waiting { ticket: self.last, width });
        Offer::Wait(self.last, at)
    }

    /// Somebody does not wait any more; `false` if they did not.
    pub fn leave(&mut self, ticket: Ticket) -> bool {
        let Some(at) = self.tickets.remove(&ticket) else { return false };
        self.queues[at].waiting.retain(|waiting| waiting.ticket != ticket);
        true
    }

    /// A request of `width` seats and this queue is done. What it took in truth counts against its queue.
    pub fn finish(&mut self, at: usize, width: u32, took: Duration) {
        self.taken = self.taken.saturating_sub(width);
        let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        if let Some(queue) = self.queues.get_mut(at) {
            let width = u64::from(width);
            let truth = queue.next.saturating_add(width.saturating_mul(took));
            queue.next = truth.saturating_sub(width * ESTIMATE);
        }
    }

    /// Those whose turn it is. They run from now on.
    pub fn dispatch(&mut self) -> Vec<Ticket> {
        let mut called = Vec::new();
        loop {
            let heads = self.queues.iter().enumerate();
            let heads = heads.filter_map(|(at, queue)| queue.waiting.front().map(|head| (queue.next, head.ticket, at)));
            let Some((_, ticket, at)) = heads.min() else { return called };
            // The next one waits until there is room, however wide it is: smaller ones may not pass it for ever.
            let width = self.queues[at].waiting.front().map_or(1, |head| head.width);
            if !self.has_room(width) {
                return called;
            }
            self.queues[at].waiting.pop_front();
            self.tickets.remove(&ticket);
            self.run(at, width);
            called.push(ticket);
        }
    }

    fn run(&mut self, at: usize, width: u32) {
        self.taken = self.taken.saturating_add(width);
        let queue = &mut self.queues[at];
        self.time = self.time.max(queue.next);
        queue.next = queue.next.saturating_add(u64::from(width) * ESTIMATE);
    }

    /// Whether there is room for so many seats. What is wider than the level has it to itself, and a level that has lent
    /// everything still answers one request at a time.
    fn has_room(&self, width: u32) -> bool {
        self.taken == 0 || self.taken.saturating_add(width) <= self.seats
    }

    /// A queue that was empty has nothing to catch up on.
    fn begin(&mut self, at: usize) {
        let queue = &mut self.queues[at];
        if queue.waiting.is_empty() {
            queue.next = queue.next.max(self.time);
        }
    }

    /// The least loaded of the queues that a flow is dealt.
    fn choose(&self, flow: u64) -> usize {
        let load = |at: &usize| (self.queues[*at].waiting.len(), self.queues[*at].next);
        deal(flow, self.queues.len(), self.queuing.hand).into_iter().min_by_key(load).unwrap_or(0)
    }
}

/// A hand of different queues out of `count`, by the flow's hash: shuffle sharding.
fn deal(flow: u64, count: usize, hand: usize) -> Vec<usize> {
    let (mut rest, mut dealt) = (flow, Vec::<usize>::new());
    for place in 0..hand.clamp(1, count.max(1)) {
        let left = (count - place) as u64;
        let (mut card, next) = ((rest % left) as usize, rest / left);
        rest = next;
        // The number counts among those that are not dealt yet; `dealt` is sorted.
        let mut at = 0;
        while at < dealt.len() && dealt[at] <= card {
            (card, at) = (card + 1, at + 1);
        }
        dealt.insert(at, card);
    }
    dealt
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const QUEUING: Queuing = Queuing { queues: 16, hand: 4, length: 8 };

    proptest! {
        #[test]
        fn a_hand_has_different_queues(flow: u64, count in 1usize..200, hand in 1usize..12) {
            let dealt = deal(flow, count, hand);
            prop_assert_eq!(dealt.len(), hand.min(count));
            prop_assert!(dealt.windows(2).all(|pair| pair[0] < pair[1]));
            prop_assert!(dealt.iter().all(|queue| *queue < count));
        }

        #[test]
        fn seats_and_queues_are_bounded_and_nobody_is_forgotten(
            seats in 1u32..12,
            steps in prop::collection::vec((0u8..4, 0u64..40, 1u32..6), 1..400),
        ) {
            let mut queues = Queues::new(QUEUING, seats);
            let (mut running, mut waiting) = (VecDeque::new(), BTreeMap::new());
            for (step, flow, width) in steps {
                match step {
                    0 | 1 => match queues.offer(flow, width) {
                        Offer::Run(at) => running.push_back((at, width)),
                        Offer::Wait(ticket, at) => drop(waiting.insert(ticket, (at, width))),
                        Offer::Refuse(_) => {}
                    },
                    2 => if let Some((at, width)) = running.pop_front() {
                        queues.finish(at, width, Duration::from_millis(flow));
                    },
                    _ => if let Some(ticket) = waiting.keys().next().copied() {
                        prop_assert!(queues.leave(ticket));
                        waiting.remove(&ticket);
                    },
                }
                for ticket in queues.dispatch() {
                    running.push_back(waiting.remove(&ticket).expect("who is called waits"));
                }
                let taken: u32 = running.iter().map(|(_, width)| width).sum();
                prop_assert_eq!(queues.taken(), taken);
                prop_assert!(taken <= seats || running.len() == 1);
                prop_assert!(queues.queues.iter().all(|queue| queue.waiting.len() <= QUEUING.length));
                prop_assert_eq!(queues.waiting() as usize, waiting.len());
                // Whenever somebody waits, somebody runs: nobody waits for nothing.
                prop_assert!(waiting.is_empty() || !running.is_empty());
            }
            // Without anybody new, everybody has their turn.
            while let Some((at, width)) = running.pop_front() {
                queues.finish(at, width, Duration::from_millis(1));
                for ticket in queues.dispatch() {
                    running.push_back(waiting.remove(&ticket).expect("who is called waits"));
                }
            }
            prop_assert_eq!(waiting.len(), 0);
        }

        #[test]
        fn flows_that_always_wait_get_the_same(heavy in 2u64..8, took in 1u64..50) {
            // One queue for each of two flows; one keeps many requests waiting, the other one at a time.
            let mut queues = Queues::new(Queuing { queues: 2, hand: 1, length: 50 }, 1);
            let (mut served, mut running) = ([0u64; 2], None);
            let mut owner = BTreeMap::new();
            for _ in 0..200 {
                for (flow, wanted) in [(0u64, heavy as usize), (1, 1)] {
                    while owner.values().filter(|of| **of == flow).count() < wanted {
                        match queues.offer(flow, 1) {
                            Offer::Run(at) => running = Some((at, flow)),
                            Offer::Wait(ticket, _) => drop(owner.insert(ticket, flow)),
                            Offer::Refuse(why) => prop_assert!(false, "{why:?}"),
                        }
                    }
                }
                let (at, flow) = running.take().expect("one runs");
                served[flow as usize] += 1;
                queues.finish(at, 1, Duration::from_millis(took));
                for ticket in queues.dispatch() {
                    running = Some(((owner[&ticket]) as usize, owner.remove(&ticket).unwrap()));
                }
            }
            prop_assert!(served[0].abs_diff(served[1]) <= 4, "{served:?}");
        }
    }

    #[test]
    fn a_level_without_queues_refuses_what_has_no_room() {
        let mut queues = Queues::new(Queuing { queues: 0, hand: 0, length: 0 }, 2);
        assert_eq!((queues.offer(1, 1), queues.offer(1, 1)), (Offer::Run(0), Offer::Run(0)));
        assert_eq!(queues.offer(1, 1), Offer::Refuse(Refusal::NoRoom));
        queues.finish(0, 1, Duration::ZERO);
        assert_eq!(queues.offer(1, 1), Offer::Run(0));
    }

    #[test]
    fn who_waits_in_a_queue_that_goes_waits_on_in_another() {
        let mut queues = Queues::new(QUEUING, 1);
        queues.offer(0, 1);
        let tickets: Vec<Ticket> = (0..20u64)
            .filter_map(|flow| match queues.offer(flow * 7919, 1) {
                Offer::Wait(ticket, _) => Some(ticket),
                _ => None,
            })
            .collect();
        queues.configure(Queuing { queues: 2, hand: 1, length: 50 });
        queues.set_seats(100);
        let mut called = queues.dispatch();
        called.sort_unstable();
        assert_eq!(called, tickets);
    }
}
