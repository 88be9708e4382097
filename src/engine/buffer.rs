//! Buffers that connections have only while bytes flow: each thread keeps a few for the next one.

use std::cell::RefCell;
use std::mem;

use super::free_list::FreeList;

/// What is read at once.
pub(super) const SMALL_SIZE: usize = 16 << 10;

/// As much of a body is copied behind its head, since a write of one part costs less than one of two.
pub(super) const COPY_LIMIT: usize = 4 << 10;

/// What is read at once of a long body, or of an answer: 64 KiB with their head.
pub(super) const LARGE_SIZE: usize = (64 + 4) << 10;

thread_local! {
    static SMALL_BUFFERS: RefCell<FreeList<Box<[u8]>>> = const { RefCell::new(FreeList::new()) };
    static LARGE_BUFFERS: RefCell<FreeList<Box<[u8]>>> = const { RefCell::new(FreeList::new()) };
}

/// Bytes that have been read and are to be used, and room for more.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    /// Empty while there are no bytes.
    space: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Buffer {
    pub(super) fn filled(&self) -> &[u8] {
        &self.space[self.start..self.end]
    }

    pub(super) fn len(&self) -> usize {
        self.end - self.start
    }

    pub(super) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Forgets the first `count` bytes.
    pub(super) fn consume(&mut self, count: usize) {
        self.start += count;
        debug_assert!(self.start <= self.end);
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Space behind the bytes, `size` bytes if there are none; the bytes may move.
    pub(super) fn reserve(&mut self, size: usize) -> &mut [u8] {
        if self.space.is_empty() {
            self.space = allocate(size);
        } else if self.is_empty() && self.space.len() < size {
            recycle(mem::replace(&mut self.space, allocate(size)));
        } else if self.end == self.space.len() {
            if self.start > 0 {
                self.space.copy_within(self.start..self.end, 0);
                self.end -= self.start;
                self.start = 0;
            } else {
                let mut more = vec![0; self.space.len() * 2].into_boxed_slice();
                more[..self.end].copy_from_slice(&self.space[..self.end]);
                recycle(mem::replace(&mut self.space, more));
            }
        }
        &mut self.space[self.end..]
    }

    /// So many bytes have been written into the [room](Self::reserve).
    pub(super) fn advance(&mut self, count: usize) {
        self.end += count;
        debug_assert!(self.end <= self.space.len());
    }

    /// Gives the space back while there are no bytes in it.
    pub(super) fn release_if_empty(&mut self) {
        if self.is_empty() && !self.space.is_empty() {
            recycle(mem::take(&mut self.space));
        }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        recycle(mem::take(&mut self.space));
    }
}

fn allocate(size: usize) -> Box<[u8]> {
    let kept = match size {
        SMALL_SIZE => SMALL_BUFFERS.try_with(|kept| kept.borrow_mut().take()),
        LARGE_SIZE => LARGE_BUFFERS.try_with(|kept| kept.borrow_mut().take()),
        _ => Ok(None),
    };
    let kept = kept.ok().flatten();
    kept.unwrap_or_else(|| vec![0; size].into_boxed_slice())
}

fn recycle(space: Box<[u8]>) {
    let length = space.len();
    let keep = |kept: &RefCell<FreeList<_>>| kept.borrow_mut().put(space);
    // A thread that ends keeps nothing.
    let _ = match length {
        SMALL_SIZE => SMALL_BUFFERS.try_with(keep),
        LARGE_SIZE => LARGE_BUFFERS.try_with(keep),
        _ => Ok(()),
    };
}

/// Drops the buffers that the thread has not needed lately.
pub(super) fn trim() {
    SMALL_BUFFERS.with(|kept| kept.borrow_mut().trim());
    LARGE_BUFFERS.with(|kept| kept.borrow_mut().trim());
}
