//! Read buffers, borrowed for as long as bytes are under way: an idle session holds none. Each thread keeps a few
//! spare ones, so that taking one costs no allocation and no lock.

use std::cell::RefCell;

/// Size of a buffer, in bytes. Fewer and larger system calls are what makes forwarding cheap; below 64 KiB it is dearer
/// than a blind proxy.
pub(super) const BUFFER: usize = 64 * 1024;

/// Size of the buffer of a connection that fills the smaller one again and again, in bytes.
pub(super) const LARGE_BUFFER: usize = 256 * 1024;

/// Spare buffers a thread keeps, of each size.
const SPARE_MAX: usize = 32;

thread_local! {
    static SPARE: RefCell<[Vec<Box<[u8]>>; 2]> = const { RefCell::new([Vec::new(), Vec::new()]) };
}

const fn class(size: usize) -> Option<usize> {
    match size {
        BUFFER => Some(0),
        LARGE_BUFFER => Some(1),
        _ => None,
    }
}

/// A buffer of `size` bytes, from the spare ones where `size` is one of the two usual ones.
pub(super) fn take(size: usize) -> Box<[u8]> {
    let spare = class(size)
        .and_then(|class| SPARE.with_borrow_mut(|spare| spare.get_mut(class).and_then(Vec::pop)));
    spare.unwrap_or_else(|| vec![0; size].into_boxed_slice())
}

/// Gives a buffer back.
pub(super) fn give(buffer: Box<[u8]>) {
    let Some(class) = class(buffer.len()) else {
        return;
    };
    SPARE.with_borrow_mut(|spare| {
        if let Some(kept) = spare.get_mut(class)
            && kept.len() < SPARE_MAX
        {
            kept.push(buffer);
        }
    });
}
