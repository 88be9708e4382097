//! Read buffers. A connection holds one only while bytes flow; each thread keeps a few free ones.

use std::cell::RefCell;
use std::mem;

use super::free_list::FreeList;

/// The usual read size.
pub(super) const SMALL_SIZE: usize = 16 << 10;

/// Body bytes up to this size are copied behind the head, because a write of one part costs less than one of two.
pub(super) const COPY_LIMIT: usize = 4 << 10;

/// The read size for large bodies and for responses: 64 KiB of body, and room for a head.
pub(super) const LARGE_SIZE: usize = (64 + 4) << 10;

thread_local! {
    static SMALL_BUFFERS: RefCell<FreeList<Box<[u8]>>> = const { RefCell::new(FreeList::new()) };
    static LARGE_BUFFERS: RefCell<FreeList<Box<[u8]>>> = const { RefCell::new(FreeList::new()) };
}

/// Received bytes that were not consumed yet, and space for more.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    /// Has length 0 while no space is allocated.
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

    /// Removes the first `count` bytes.
    pub(super) fn consume(&mut self, count: usize) {
        self.start += count;
        debug_assert!(self.start <= self.end);
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Returns free space after the bytes; at least `size` if the buffer is empty. May move the bytes.
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
                let mut larger = vec![0; self.space.len() * 2].into_boxed_slice();
                larger[..self.end].copy_from_slice(&self.space[..self.end]);
                recycle(mem::replace(&mut self.space, larger));
            }
        }
        &mut self.space[self.end..]
    }

    /// Marks `count` bytes of the [reserved space](Self::reserve) as filled.
    pub(super) fn advance(&mut self, count: usize) {
        self.end += count;
        debug_assert!(self.end <= self.space.len());
    }

    /// Appends `bytes`.
    pub(super) fn extend_from_slice(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let space = self.reserve(SMALL_SIZE);
            let count = bytes.len().min(space.len());
            space[..count].copy_from_slice(&bytes[..count]);
            self.advance(count);
            bytes = &bytes[count..];
        }
    }

    /// Frees the space if the buffer is empty.
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
    let reused = match size {
        SMALL_SIZE => SMALL_BUFFERS.try_with(|list| list.borrow_mut().take()),
        LARGE_SIZE => LARGE_BUFFERS.try_with(|list| list.borrow_mut().take()),
        _ => Ok(None),
    };
    let reused = reused.ok().flatten();
    reused.unwrap_or_else(|| vec![0; size].into_boxed_slice())
}

fn recycle(space: Box<[u8]>) {
    let length = space.len();
    let keep = |list: &RefCell<FreeList<_>>| list.borrow_mut().put(space);
    // Fails only while the thread ends; the buffer is then dropped.
    let _ = match length {
        SMALL_SIZE => SMALL_BUFFERS.try_with(keep),
        LARGE_SIZE => LARGE_BUFFERS.try_with(keep),
        _ => Ok(()),
    };
}

/// Drops buffers that this thread has not needed lately.
pub(super) fn trim() {
    SMALL_BUFFERS.with(|list| list.borrow_mut().trim());
    LARGE_BUFFERS.with(|list| list.borrow_mut().trim());
}
