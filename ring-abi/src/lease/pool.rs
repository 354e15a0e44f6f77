//! The slots of a frame pool: which are free, which are lent to whom. Pure: slots are numbers here.
//!
//! Invariants: a slot is on the free list if and only if nobody has a claim to it: not the producer, not a holder, not one that waits
//! for it; a holder never holds more than its budget; and `own_max` + 1 + all budgets ≤ slots. So [`Pool::begin`] finds a free
//! slot whatever the holders do: each slot that is not free is one of the producer's, one of a budget, or the newest frame, which
//! waits for holders whose budget is used up.

use super::Violation;
use crate::layout::Lease;

/// Holders that a pool can have: the bits of a word a slot.
pub const HOLDERS_MAX: usize = 64;

/// Names a holder of a pool until it is detached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Holder(u8);

/// Where a slot is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotState {
    /// Nobody has a claim to it.
    Free,
    /// The producer writes it.
    Filling,
    /// It has a frame, which the producer, a holder, or one that waits needs.
    Published,
    /// Only evicted holders keep it from being free.
    Quarantined,
}

/// Who has which slot. All of it is the producer's own memory.
#[derive(Debug)]
pub struct Pool {
    slots: Vec<Slot>,
    /// Free slots; the most recently freed is the last, and the next: its memory is still in the caches.
    free: Vec<u32>,
    accounts: [Option<Account>; HOLDERS_MAX],
    /// Bits of the holders that were evicted and have not gone.
    evicted: u64,
    own: u32,
    own_max: u32,
    generation: u32,
    /// The newest frame's slot. It is only good while somebody waits for it.
    newest: u32,
    /// Bits of the holders that are to get the newest frame when they give one back.
    waiting: u64,
}

/// A slot without any claim is free.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    /// Of its frame; 0 before it is published.
    generation: u32,
    /// Bits of the holders, evicted ones included.
    holders: u64,
    /// The producer needs it.
    is_own: bool,
}

#[derive(Clone, Copy, Debug)]
struct Account {
    budget: u32,
    held: u32,
}

impl Pool {
    /// A pool of `slots` free slots, of which the producer itself needs at most `own_max` at a time: those it fills and
    /// those its decoder refers to. `generation` is the newest of the pool before, so that no number comes twice; 0 if there was none.
    pub fn new(slots: u32, own_max: u32, generation: u32) -> Self {
        Self {
            slots: (0..slots).map(|_| Slot::default()).collect(),
            free: (0..slots).rev().collect(),
            accounts: [None; HOLDERS_MAX],
            evicted: 0,
            own: 0,
            own_max,
            generation,
            newest: 0,
            waiting: 0,
        }
    }

    /// Takes a holder in that may hold `budget` frames; `None` when the pool is too small for that, or has too many holders.
    pub fn attach(&mut self, budget: u32) -> Option<Holder> {
        let budgets: u64 = self.accounts.iter().flatten().map(|account| u64::from(account.budget)).sum();
        let needed = u64::from(self.own_max) + 1 + budgets + u64::from(budget);
        if budget == 0 || needed > self.slots.len() as u64 {
            return None;
        }
        let (number, account) = (0..).zip(&mut self.accounts).find(|(_, account)| account.is_none())?;
        *account = Some(Account { budget, held: 0 });
        Some(Holder(number))
    }

    /// A slot to be filled: the one that was freed last. `None` when the producer has as many as it may.
    pub fn begin(&mut self) -> Option<u32> {
        if self.own == self.own_max {
            return None;
        }
        let slot = self.free.pop()?;
        *self.slots.get_mut(slot as usize)? = Slot { is_own: true, ..Slot::default() };
        self.own += 1;
        Some(slot)
    }

    /// Makes the slot that is being filled the newest frame and lends it: `grant` is called for each holder with room in its budget.
    /// From the others it is withheld, and takes the place of what was withheld before. The producer keeps its own claim until
    /// [`Pool::let_go`]. `None`, and nothing happens, when the slot is not being filled.
    pub fn publish(&mut self, slot: u32, mut grant: impl FnMut(Holder, Lease)) -> Option<Lease> {
        let filled = self.slots.get_mut(slot as usize).filter(|slot| slot.is_own && slot.generation == 0)?;
        self.generation = self.generation.checked_add(1).unwrap_or(1);
        let lease = Lease { slot, generation: self.generation };
        filled.generation = lease.generation;
        let mut waiting = 0;
        for (number, account) in (0..).zip(&mut self.accounts) {
            let (holder, Some(account)) = (Holder(number), account) else { continue };
            if self.evicted & holder.bit() != 0 {
                continue;
            }
            if account.held == account.budget {
                waiting |= holder.bit();
            } else {
                account.held += 1;
                filled.holders |= holder.bit();
                grant(holder, lease);
            }
        }
        self.wait_no_more(u64::MAX);
        (self.newest, self.waiting) = (slot, waiting);
        Some(lease)
    }

    /// The producer needs the slot no more, published or not.
    pub fn let_go(&mut self, slot: u32) {
        if let Some(own) = self.slots.get_mut(slot as usize).filter(|slot| slot.is_own) {
            own.is_own = false;
            self.own -= 1;
            self.free_if_unclaimed(slot);
        }
    }

    /// Takes back what `holder` says it gives back. If a frame was withheld from it, this is lent now: the lease.
    ///
    /// # Errors
    /// [`Violation`] when it cannot give that back; nothing changed.
    pub fn release(&mut self, holder: Holder, lease: Lease) -> Result<Option<Lease>, Violation> {
        let slot = self.slots.get_mut(lease.slot as usize).ok_or(Violation::NoSuchSlot(lease))?;
        let account = self.accounts.get_mut(usize::from(holder.0)).and_then(Option::as_mut);
        let is_held = slot.holders & !self.evicted & holder.bit() != 0;
        let account = account.filter(|_| is_held).ok_or(Violation::NotHeld(lease))?;
        if slot.generation != lease.generation {
            return Err(Violation::OtherFrame(lease));
        }
        slot.holders &= !holder.bit();
        account.held -= 1;
        self.free_if_unclaimed(lease.slot);
        Ok(self.lend_withheld(holder))
    }

    /// `holder` broke a rule or is stuck: it gets nothing any more, and what it holds stays as it is until [`Pool::detach`].
    pub fn evict(&mut self, holder: Holder) {
        if self.accounts.get(usize::from(holder.0)).is_some_and(Option::is_some) {
            self.evicted |= holder.bit();
            self.wait_no_more(holder.bit());
        }
    }

    /// `holder` has gone, and with it its mappings: what it held is free, and so is its budget.
    pub fn detach(&mut self, holder: Holder) {
        self.wait_no_more(holder.bit());
        for slot in (0..).take(self.slots.len()) {
            if let Some(held) =
                self.slots.get_mut(slot as usize).filter(|slot| slot.holders & holder.bit() != 0)
            {
                held.holders &= !holder.bit();
                self.free_if_unclaimed(slot);
            }
        }
        self.evicted &= !holder.bit();
        if let Some(account) = self.accounts.get_mut(usize::from(holder.0)) {
            *account = None;
        }
    }

    /// Generation of the newest frame.
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// Where `slot` is in its life; `None` when there is no such slot.
    pub fn state(&self, slot: u32) -> Option<SlotState> {
        let Slot { generation, holders, is_own } = *self.slots.get(slot as usize)?;
        Some(match (generation, is_own || self.is_awaited(slot), holders & !self.evicted) {
            (0, true, _) => SlotState::Filling,
            (0, false, _) => SlotState::Free,
            (_, false, 0) => SlotState::Quarantined,
            _ => SlotState::Published,
        })
    }

    fn is_awaited(&self, slot: u32) -> bool {
        self.waiting != 0 && self.newest == slot
    }

    /// Gives `holder` the newest frame if it was withheld. There is room: it has just given one back.
    fn lend_withheld(&mut self, holder: Holder) -> Option<Lease> {
        if self.waiting & holder.bit() == 0 {
            return None;
        }
        self.waiting &= !holder.bit();
        self.accounts.get_mut(usize::from(holder.0))?.as_mut()?.held += 1;
        let slot = self.slots.get_mut(self.newest as usize)?;
        slot.holders |= holder.bit();
        Some(Lease { slot: self.newest, generation: slot.generation })
    }

    /// These holders do not wait for the newest frame any more.
    fn wait_no_more(&mut self, holders: u64) {
        let before = self.waiting;
        self.waiting &= !holders;
        if before != 0 && self.waiting == 0 {
            self.free_if_unclaimed(self.newest);
        }
    }

    /// To be called when a claim to `slot` has ended, and only then: so a slot is freed once.
    fn free_if_unclaimed(&mut self, slot: u32) {
        let is_awaited = self.is_awaited(slot);
        let Some(unclaimed) = self.slots.get_mut(slot as usize) else { return };
        if !is_awaited && !unclaimed.is_own && unclaimed.holders == 0 {
            *unclaimed = Slot::default();
            self.free.push(slot);
        }
    }
}

impl Holder {
    fn bit(self) -> u64 {
        1 << (self.0 % 64)
    }
}
