//! Read buffers, borrowed for as long as bytes are under way: an idle session holds none. Each thread keeps a few
//! spare ones, so that taking one costs no allocation and no lock.

use std::cell::RefCell;

/// Size of a buffer, in bytes. Fewer and larger system calls are what makes forwarding cheap; below 64 KiB it is dearer
/// than a blind proxy.
pub(super) const BUFFER: usize = 64 * 1024;

/// Sizes of buffers, in bytes: the usual one, and those of connections that fill the one before. Three quarters of a
/// mebibyte stay in the second-level cache of today's servers (deploy/design/0008).
pub(super) const SIZES: [usize; 3] = [BUFFER, 256 * 1024, 768 * 1024];

/// Spare buffers a thread keeps, of each size.
const SPARE_MAX: [usize; SIZES.len()] = [32, 16, 8];

thread_local! {
    static SPARE: RefCell<[Vec<Box<[u8]>>; SIZES.len()]> =
        const { RefCell::new([const { Vec::new() }; SIZES.len()]) };
}

fn class(size: usize) -> Option<usize> {
    SIZES.iter().position(|known| *known == size)
}

/// A buffer of `size` bytes, from the spare ones where `size` is one of [`SIZES`].
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
            && SPARE_MAX.get(class).is_some_and(|most| kept.len() < *most)
        {
            kept.push(buffer);
        }
    });
}
