//! The record ring: one producer (a core of the dataplane), one consumer (the control process),
//! slots of one [`FlowRecord`] each, in memory that both map.
//!
//! Called by `dataplane/src/export.rs` on one side and the collector on the other. The producer
//! never waits, never loops and never believes the other side: a full ring refuses, the caller
//! sheds and counts. The consumer never writes anything but its own block.
//!
//! # Words
//!
//! Cursors count records since the region was created and never wrap (2^56 records are 228 years
//! at 10 million a second). The slot of cursor `c` is `c mod capacity`; the capacity is a power of
//! two.
//!
//! | word | written by | meaning |
//! |---|---|---|
//! | `tail` | producer | every record below it is published |
//! | `accepted` | producer | the last consumer cursor that the producer checked and believed; slots below it may be overwritten |
//! | `faults` | producer | consumer cursors that the producer refused to believe |
//! | `head` | consumer | attach number (8 bits, top) and cursor (56 bits): every record below the cursor is released |
//! | `process_id` | consumer | who is attached, for people; decides nothing |
//!
//! Always: `accepted <= head.cursor <= tail <= accepted + capacity`.
//!
//! # State of one slot
//!
//! | state of slot of cursor `c` | who | change | why it is safe |
//! |---|---|---|---|
//! | free: `c >= tail` as pushed, `c < accepted + capacity` | producer | `push` writes the slot: *free -> written* | no consumer reads at or above `tail`; the producer read `head` with Acquire, so the consumer's reads of the slot's previous record happened before |
//! | written: pushed, `c >= tail` as published | producer | `publish` stores `tail` with Release: *written -> published* | the one store makes all pushed records visible at once; the consumer's Acquire load of `tail` sees their words |
//! | published: `head.cursor <= c < tail` | consumer | `read` copies the slot out: *published -> read* (known to this consumer only) | the producer does not touch the slot before `head` passes it |
//! | read | consumer | `release` moves `head` by compare-exchange with Release: *read -> released* | the copy is finished; a newer consumer makes the exchange fail |
//! | released: `c < head.cursor` | producer | a later `push` finds no room, loads and checks `head`, stores `accepted`: *released -> free* (as `c + capacity`) | see the first row |
//!
//! # State of the consumer's seat
//!
//! | who | change | why |
//! |---|---|---|
//! | any process | `attach`: compare-exchange of `head` to (attach number + 1, same cursor) | the newer takes over. From that instant every `release` of the older fails with [`ConsumerError::Superseded`], because its attach number is gone |
//! | the older consumer | learns it at its next `read` or `release` and gets no record | what it had copied from slots that may meanwhile be overwritten is thrown away, by the check after the copy |
//! | a consumer killed with -9 | nothing | `head` lies in the shared memory; the next `attach` goes on at the cursor that the dead one released last |
//!
//! **What is read twice:** exactly the records that a consumer read and had not released when it
//! died or was superseded; at most one `read` batch if it releases after each. **What is lost:**
//! nothing that was published; what the full ring refused (the caller counts it), and what a killed
//! *producer* had pushed and not published (at most one batch; its flow cache is gone with it).
//! A region outlives a dead dataplane for as long as control maps it, so the rest is drained.
//!
//! # Prohibited, and what happens then
//!
//! | prohibited move | why | answer |
//! |---|---|---|
//! | consumer moves `head` above `tail`, or back below `accepted` | the producer would overwrite unread records, or think the ring emptier than it is | `push` counts a fault, keeps its own last good cursor, and refuses when that says full: no loop, no unsafe access. The next `attach` puts `head` back to `accepted` and says so ([`Consumer::resumed_after_fault`]); records since then may be read twice |
//! | producer writes a slot at or above `accepted + capacity` | it is not released | cannot be written in safe code: `push` refuses |
//! | producer moves `tail` back or more than `capacity` ahead | the consumer would read slots never written | [`ConsumerError::ProducerBroken`], no record is returned |
//! | second producer on one ring | slots would be written by two | a region hands out each producer once |
//! | a consumer releases what it has not read | a record would be lost without a count | `release` moves `head` to the read cursor only |
//!
//! # Proof
//!
//! Slots are words of relaxed atomics, so that even the read of a superseded consumer that races
//! with the producer is defined behaviour. `tests/loom_ring.rs` tries every interleaving of small
//! rings; `tests/ring.rs` compares with a `VecDeque`. Each ordering marked load-bearing below
//! was weakened once by hand; the model then fails (see the table in `README.md`).

use crate::record::{FlowRecord, RECORD_BYTES};
use crate::sync::{AtomicU64, Ordering, fence};
use core::any::Any;
use core::ptr::NonNull;
use std::sync::Arc;

/// Fewest records of a ring.
pub const RING_RECORDS_MIN: u32 = 2;
/// Most records of a ring: 4,194,304 (1 GiB per worker).
pub const RING_RECORDS_MAX: u32 = 1 << 22;
/// Records of a ring unless configured: 65,536 (16 MiB per worker), which is 0.6 s of a core that
/// ends 100,000 flows a second while control is away.
pub const RING_RECORDS_DEFAULT: u32 = 1 << 16;
/// Times [`Consumer::attach`](crate::shm::RegionView::attach) tries while another consumer moves.
pub const ATTACH_TRIES_MAX: u32 = 16;

const CURSOR_BITS: u32 = 56;
const CURSOR_MASK: u64 = (1 << CURSOR_BITS) - 1;

/// Slots between the one being written and the one being fetched. A slot is four cache lines that
/// the consumer's core read last; 32 stores of a word fill a core's store buffer before the lines
/// arrive, so they are asked for this many records earlier.
const FETCH_AHEAD: u64 = 4;

/// Words of a slot. Loom follows two of them (the record's times) to keep its model small.
const SLOT_WORDS: usize = if cfg!(loom) { 2 } else { RECORD_BYTES / 8 };

/// What the producer of a ring writes and the consumer only reads. 128 bytes, so that the adjacent
/// line prefetcher of x86 does not pull another worker's line along.
#[repr(C, align(128))]
#[derive(Debug)]
pub struct ProducerBlock {
    /// Every record below this cursor is published.
    pub(crate) tail: AtomicU64,
    /// The last consumer cursor that the producer believed.
    pub(crate) accepted: AtomicU64,
    /// Consumer cursors that the producer refused to believe.
    pub(crate) faults: AtomicU64,
}

/// What the consumer of a ring writes and the producer only reads.
#[repr(C, align(128))]
#[derive(Debug)]
pub struct ConsumerBlock {
    /// Attach number (8 bits, top) and cursor (56 bits): every record below is released.
    pub(crate) head: AtomicU64,
    /// Process that attached last, for people.
    pub(crate) process_id: AtomicU64,
}

/// The place of one record.
#[repr(C, align(64))]
#[derive(Debug)]
pub(crate) struct Slot {
    words: [AtomicU64; SLOT_WORDS],
}

#[cfg(not(loom))]
const _: () = {
    assert!(size_of::<ProducerBlock>() == 128 && align_of::<ProducerBlock>() == 128);
    assert!(size_of::<ConsumerBlock>() == 128 && align_of::<ConsumerBlock>() == 128);
    assert!(size_of::<Slot>() == RECORD_BYTES);
    assert!(core::mem::offset_of!(ProducerBlock, tail) == 0);
    assert!(core::mem::offset_of!(ProducerBlock, accepted) == 8);
    assert!(core::mem::offset_of!(ProducerBlock, faults) == 16);
    assert!(core::mem::offset_of!(ConsumerBlock, head) == 0);
    assert!(core::mem::offset_of!(ConsumerBlock, process_id) == 8);
};

impl Slot {
    fn write(&self, record: &FlowRecord) {
        let words: &[u64; RECORD_BYTES / 8] = zerocopy::transmute_ref!(record);
        for (slot, word) in self.words.iter().zip(words) {
            // Relaxed: `publish` orders all words of all pushed records by one Release store.
            slot.store(*word, Ordering::Relaxed);
        }
    }

    /// Asks for the slot's cache lines. A hint: it changes nothing, wherever it points.
    #[inline]
    fn fetch(&self) {
        #[cfg(all(target_arch = "x86_64", not(loom)))]
        for words in self.words.chunks(8) {
            use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            // SAFETY: a prefetch accesses no memory and cannot fault; SSE is part of x86-64.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(words.as_ptr().cast()) };
        }
    }

    fn read(&self, record: &mut FlowRecord) {
        let words: &mut [u64; RECORD_BYTES / 8] = zerocopy::transmute_mut!(record);
        for (slot, word) in self.words.iter().zip(words) {
            *word = slot.load(Ordering::Relaxed);
        }
    }
}

const fn pack(attach: u8, cursor: u64) -> u64 {
    ((attach as u64) << CURSOR_BITS) | (cursor & CURSOR_MASK)
}

const fn cursor_of(word: u64) -> u64 {
    word & CURSOR_MASK
}

const fn attach_of(word: u64) -> u8 {
    (word >> CURSOR_BITS) as u8
}

/// Where a ring lies, and what keeps that memory mapped.
#[derive(Clone)]
pub(crate) struct RingMemory {
    pub(crate) producer: NonNull<ProducerBlock>,
    pub(crate) consumer: NonNull<ConsumerBlock>,
    pub(crate) slots: NonNull<Slot>,
    /// Power of two, from the side's own knowledge, never re-read from shared memory.
    pub(crate) capacity: u64,
    /// Unmaps or frees when the last user has gone.
    pub(crate) _owner: Arc<dyn Any + Send + Sync>,
}

// SAFETY: the three pointers lead to atomics only, in memory that `_owner` keeps alive, and
// `_owner` itself is Send.
unsafe impl Send for RingMemory {}
// SAFETY: as above; `&RingMemory` gives access to atomics only.
unsafe impl Sync for RingMemory {}

impl RingMemory {
    fn producer(&self) -> &ProducerBlock {
        // SAFETY: `_owner` keeps the block mapped for as long as `self` lives; it is aligned (checked
        // by who made this value) and holds atomics only, so shared references are always valid.
        unsafe { self.producer.as_ref() }
    }

    fn consumer(&self) -> &ConsumerBlock {
        // SAFETY: as in `producer`.
        unsafe { self.consumer.as_ref() }
    }

    fn slot(&self, cursor: u64) -> &Slot {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "masked below a capacity of 2^22"
        )]
        let index = (cursor & (self.capacity - 1)) as usize;
        // SAFETY: the mask keeps `index` below `capacity`, and whoever made this value guarantees
        // that many slots behind `slots`; any cursor, even a hostile one, stays inside.
        unsafe { self.slots.add(index).as_ref() }
    }
}

/// The ring is full: the record was not taken. The caller sheds and counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the record ring is full; control releases too slowly or is away, so the record is shed")]
pub struct Full;

/// The dataplane's end of a ring. One per ring; a worker owns it.
pub struct Producer {
    memory: RingMemory,
    /// Next cursor to write.
    tail: u64,
    /// `tail` as last published.
    published: u64,
    /// Consumer cursor as last believed.
    accepted: u64,
    /// Head word that was refused last, so that one bad store counts once.
    refused: Option<u64>,
    faults: u64,
}

impl core::fmt::Debug for Producer {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Producer")
            .field("tail", &self.tail)
            .field("published", &self.published)
            .field("accepted", &self.accepted)
            .field("faults", &self.faults)
            .finish_non_exhaustive()
    }
}

impl Producer {
    /// `memory` must be zero and have no other producer.
    pub(crate) fn new(memory: RingMemory) -> Self {
        Self {
            memory,
            tail: 0,
            published: 0,
            accepted: 0,
            refused: None,
            faults: 0,
        }
    }

    /// Writes a record into the next slot. The consumer sees it after [`publish`](Self::publish).
    ///
    /// Bounded: one copy, and where the ring looks full one load of the consumer's cursor.
    ///
    /// # Errors
    /// [`Full`] where the consumer has not released the slot.
    #[inline]
    pub fn push(&mut self, record: &FlowRecord) -> Result<(), Full> {
        if self.tail - self.accepted >= self.memory.capacity {
            self.refresh()?;
        }
        self.memory.slot(self.tail + FETCH_AHEAD).fetch();
        self.memory.slot(self.tail).write(record);
        self.tail += 1;
        Ok(())
    }

    /// Makes every pushed record visible to the consumer with one store.
    #[inline]
    pub fn publish(&mut self) {
        if self.tail != self.published {
            // Release, load-bearing: pairs with the Acquire of `tail` in `Consumer::read`; without
            // it the consumer could see the cursor before the words of the records.
            self.memory
                .producer()
                .tail
                .store(self.tail, Ordering::Release);
            self.published = self.tail;
        }
    }

    /// Looks how far the consumer has come; `Err` where that makes no room.
    #[cold]
    fn refresh(&mut self) -> Result<(), Full> {
        // Acquire, load-bearing: pairs with the Release in `Consumer::release`; without it this
        // side could overwrite a slot whose copy the consumer has not finished.
        let word = self.memory.consumer().head.load(Ordering::Acquire);
        let head = cursor_of(word);
        if head < self.accepted || head > self.published {
            self.refuse(word);
            return Err(Full);
        }
        if head == self.accepted {
            return Err(Full);
        }
        self.accepted = head;
        // Release: pairs with the Acquire of `accepted` in `Consumer::attach`.
        self.memory
            .producer()
            .accepted
            .store(head, Ordering::Release);
        // Load-bearing: pairs with the Acquire fence in `Consumer::read`. A superseded consumer
        // that copies a word written from here on also sees the `head` that superseded it.
        fence(Ordering::Release);
        Ok(())
    }

    fn refuse(&mut self, word: u64) {
        if self.refused != Some(word) {
            self.refused = Some(word);
            self.faults += 1;
            self.memory
                .producer()
                .faults
                .store(self.faults, Ordering::Relaxed);
        }
    }

    /// Records that the ring can hold.
    #[must_use]
    pub fn capacity(&self) -> u64 {
        self.memory.capacity
    }

    /// Records pushed and not yet published.
    #[must_use]
    pub fn unpublished(&self) -> u64 {
        self.tail - self.published
    }

    /// Records published since the region was created.
    #[must_use]
    pub fn published(&self) -> u64 {
        self.published
    }

    /// Consumer cursors that were refused because they broke the protocol. 0 in a healthy system.
    #[must_use]
    pub fn consumer_faults(&self) -> u64 {
        self.faults
    }
}

impl Drop for Producer {
    /// Publishes what was pushed: an orderly stop loses nothing.
    fn drop(&mut self) {
        self.publish();
    }
}

/// Why a consumer got no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConsumerError {
    /// Another consumer attached after this one.
    #[error(
        "another control process took this ring over (attach {ours}, now {theirs}); stop this one \
         or drop its reader"
    )]
    Superseded {
        /// Attach number of this consumer.
        ours: u8,
        /// Attach number in the ring.
        theirs: u8,
    },
    /// The producer's cursor contradicts the ring.
    #[error(
        "the dataplane's cursor {tail} cannot be right for a ring of {capacity} records read up to \
         {cursor}; restart the dataplane and report this"
    )]
    ProducerBroken {
        /// Published cursor as found.
        tail: u64,
        /// Cursor up to which this consumer has read.
        cursor: u64,
        /// Records of the ring.
        capacity: u64,
    },
    /// Another process kept moving the cursor while this one attached.
    #[error(
        "another process moved the ring's cursor {tries} times while this one attached; stop the \
         other control process"
    )]
    Contended {
        /// Attempts made.
        tries: u32,
    },
}

/// The control process's end of a ring.
pub struct Consumer {
    memory: RingMemory,
    attach: u8,
    /// Records below are released.
    released: u64,
    /// Records below are read.
    cursor: u64,
    /// `tail` as last seen.
    tail: u64,
    resumed_after_fault: bool,
}

impl core::fmt::Debug for Consumer {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Consumer")
            .field("attach", &self.attach)
            .field("released", &self.released)
            .field("cursor", &self.cursor)
            .finish_non_exhaustive()
    }
}

impl Consumer {
    /// Takes the consumer's seat, from whoever holds it, at the cursor released last.
    pub(crate) fn attach(memory: RingMemory, process_id: u32) -> Result<Self, ConsumerError> {
        for _ in 0..ATTACH_TRIES_MAX {
            // Order, load-bearing: `head` before `tail`. Who stored this `head` had seen a `tail` at
            // least as far, so an honest ring always shows head <= tail here. `accepted` may be
            // old: it only grows, and only up to a `head` that the exchange below would miss.
            let accepted = memory.producer().accepted.load(Ordering::Acquire);
            let word = memory.consumer().head.load(Ordering::Acquire);
            let tail = memory.producer().tail.load(Ordering::Acquire);
            let head = cursor_of(word);
            let sound = accepted <= head && head <= tail;
            let cursor = if sound { head } else { accepted };
            let attach = attach_of(word).wrapping_add(1);
            // An exchange: where the predecessor releases meanwhile, nothing is taken and all is
            // looked at again. From here on every release of the predecessor fails.
            let taken = memory.consumer().head.compare_exchange(
                word,
                pack(attach, cursor),
                Ordering::AcqRel,
                Ordering::Relaxed,
            );
            if taken.is_ok() {
                memory
                    .consumer()
                    .process_id
                    .store(u64::from(process_id), Ordering::Relaxed);
                return Ok(Self {
                    memory,
                    attach,
                    released: cursor,
                    cursor,
                    tail: cursor,
                    resumed_after_fault: !sound,
                });
            }
        }
        Err(ConsumerError::Contended {
            tries: ATTACH_TRIES_MAX,
        })
    }

    /// Copies published records into `batch`, oldest first, and returns how many. Their slots stay
    /// taken until [`release`](Self::release).
    ///
    /// Bounded by `batch.len()`. Where an error is returned, the contents of `batch` mean nothing.
    ///
    /// # Errors
    /// [`ConsumerError::Superseded`] where a newer consumer attached,
    /// [`ConsumerError::ProducerBroken`] where the producer's cursor contradicts the ring.
    pub fn read(&mut self, batch: &mut [FlowRecord]) -> Result<usize, ConsumerError> {
        let count = usize::try_from(self.published()?).map_or(batch.len(), |n| n.min(batch.len()));
        let mut cursor = self.cursor;
        for record in &mut batch[..count] {
            self.memory.slot(cursor).read(record);
            cursor += 1;
        }
        // Load-bearing: pairs with the Release fence in `Producer::refresh`. If one word above
        // came from a later lap, the load below sees the newer consumer's `head`.
        fence(Ordering::Acquire);
        self.still_attached(Ordering::Relaxed)?;
        self.cursor = cursor;
        Ok(count)
    }

    /// Hands the slots of all records read so far back to the producer. From here on no successor
    /// reads them again.
    ///
    /// # Errors
    /// [`ConsumerError::Superseded`] where a newer consumer attached; it will read the records
    /// since the last release again.
    pub fn release(&mut self) -> Result<(), ConsumerError> {
        if self.cursor == self.released {
            return Ok(());
        }
        // Release, load-bearing: pairs with the Acquire in `Producer::refresh`. An exchange and not
        // a store: a consumer that was superseded must not move the cursor of its successor.
        self.memory
            .consumer()
            .head
            .compare_exchange(
                pack(self.attach, self.released),
                pack(self.attach, self.cursor),
                Ordering::Release,
                Ordering::Relaxed,
            )
            .map_err(|word| self.superseded_by(word))?;
        self.released = self.cursor;
        Ok(())
    }

    /// Published records not yet read, looking at the producer's cursor where none are known.
    fn published(&mut self) -> Result<u64, ConsumerError> {
        if self.tail == self.cursor {
            // Acquire, load-bearing: pairs with the Release in `Producer::publish`.
            let tail = self.memory.producer().tail.load(Ordering::Acquire);
            if tail < self.cursor || tail - self.released > self.memory.capacity {
                self.still_attached(Ordering::Relaxed)?;
                return Err(ConsumerError::ProducerBroken {
                    tail,
                    cursor: self.cursor,
                    capacity: self.memory.capacity,
                });
            }
            self.tail = tail;
        }
        Ok(self.tail - self.cursor)
    }

    fn still_attached(&self, ordering: Ordering) -> Result<(), ConsumerError> {
        let word = self.memory.consumer().head.load(ordering);
        if word == pack(self.attach, self.released) {
            Ok(())
        } else {
            Err(self.superseded_by(word))
        }
    }

    fn superseded_by(&self, word: u64) -> ConsumerError {
        ConsumerError::Superseded {
            ours: self.attach,
            theirs: attach_of(word),
        }
    }

    /// Records read since the region was created, by this consumer and its predecessors.
    #[must_use]
    pub fn cursor(&self) -> u64 {
        self.cursor
    }

    /// Records published and not read, as of now. For gauges.
    #[must_use]
    pub fn backlog(&self) -> u64 {
        let tail = self.memory.producer().tail.load(Ordering::Relaxed);
        tail.saturating_sub(self.cursor).min(self.memory.capacity)
    }

    /// Records that the ring can hold.
    #[must_use]
    pub fn capacity(&self) -> u64 {
        self.memory.capacity
    }

    /// Consumer cursors that the producer refused, over the life of the region.
    #[must_use]
    pub fn faults(&self) -> u64 {
        self.memory.producer().faults.load(Ordering::Relaxed)
    }

    /// Whether the predecessor left a cursor that breaks the protocol, so that this consumer began
    /// at the last cursor the producer believed; records since then may be read twice.
    #[must_use]
    pub fn resumed_after_fault(&self) -> bool {
        self.resumed_after_fault
    }
}

/// A ring on the heap, for tests, benches and models: the same code on private memory.
#[derive(Clone)]
pub struct HeapRing {
    memory: RingMemory,
}

impl core::fmt::Debug for HeapRing {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("HeapRing")
            .field("capacity", &self.memory.capacity)
            .finish()
    }
}

struct HeapBlocks {
    producer: ProducerBlock,
    consumer: ConsumerBlock,
    slots: Box<[Slot]>,
}

impl HeapRing {
    /// A ring of `capacity` records, rounded up to a power of two within the limits, and its
    /// producer.
    #[must_use]
    pub fn new(capacity: u32) -> (Producer, Self) {
        let capacity = capacity
            .clamp(RING_RECORDS_MIN, RING_RECORDS_MAX)
            .next_power_of_two();
        let word = || AtomicU64::new(0);
        let blocks = Arc::new(HeapBlocks {
            producer: ProducerBlock {
                tail: word(),
                accepted: word(),
                faults: word(),
            },
            consumer: ConsumerBlock {
                head: word(),
                process_id: word(),
            },
            slots: (0..capacity)
                .map(|_| Slot {
                    words: core::array::from_fn(|_| word()),
                })
                .collect(),
        });
        let memory = RingMemory {
            producer: NonNull::from(&blocks.producer),
            consumer: NonNull::from(&blocks.consumer),
            slots: NonNull::from(&*blocks.slots).cast(),
            capacity: u64::from(capacity),
            _owner: blocks,
        };
        (Producer::new(memory.clone()), Self { memory })
    }

    /// Attaches a consumer; the newer takes over.
    ///
    /// # Errors
    /// [`ConsumerError::Contended`] where another thread keeps moving the cursor.
    pub fn attach(&self, process_id: u32) -> Result<Consumer, ConsumerError> {
        Consumer::attach(self.memory.clone(), process_id)
    }

    /// Writes any word where the consumer's cursor lies, as a broken or hostile consumer could.
    pub fn break_head(&self, word: u64) {
        self.memory.consumer().head.store(word, Ordering::Release);
    }

    /// Writes any cursor where the producer's lies, as a broken producer could.
    pub fn break_tail(&self, tail: u64) {
        self.memory.producer().tail.store(tail, Ordering::Release);
    }
}
