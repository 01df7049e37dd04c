//! A cursor over the captured bytes of a frame that also knows how many bytes were on the wire.

/// What is left to read: captured bytes, and how many the wire and every length field so far allow.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bytes<'f> {
    /// Captured bytes left, never more than `claimed`.
    rest: &'f [u8],
    /// Bytes from the start of the frame to the start of `rest`.
    offset: usize,
    /// Bytes left on the wire; more than `rest` holds where the capture was cut.
    claimed: usize,
}

impl<'f> Bytes<'f> {
    #[inline]
    pub(crate) fn new(frame: &'f [u8], wire_bytes: usize) -> Self {
        Self {
            rest: frame,
            offset: 0,
            claimed: wire_bytes.max(frame.len()),
        }
    }

    /// Bytes from the start of the frame.
    #[inline]
    pub(crate) const fn offset(&self) -> usize {
        self.offset
    }

    /// Captured bytes left.
    #[inline]
    pub(crate) const fn captured(&self) -> usize {
        self.rest.len()
    }

    /// Bytes left on the wire, captured or not.
    #[inline]
    pub(crate) const fn claimed(&self) -> usize {
        self.claimed
    }

    /// The next `N` bytes, left in place.
    #[inline]
    pub(crate) fn peek<const N: usize>(&self) -> Option<&'f [u8; N]> {
        self.rest.first_chunk::<N>()
    }

    /// One byte `at` bytes ahead, left in place.
    #[inline]
    pub(crate) fn byte(&self, at: usize) -> Option<u8> {
        self.rest.get(at).copied()
    }

    /// Two bytes `at` bytes ahead in network order, left in place.
    #[inline]
    pub(crate) fn u16(&self, at: usize) -> Option<u16> {
        self.rest
            .get(at..)?
            .first_chunk::<2>()
            .map(|bytes| u16::from_be_bytes(*bytes))
    }

    /// Four bytes `at` bytes ahead in network order, left in place.
    #[inline]
    pub(crate) fn u32(&self, at: usize) -> Option<u32> {
        self.rest
            .get(at..)?
            .first_chunk::<4>()
            .map(|bytes| u32::from_be_bytes(*bytes))
    }

    /// Takes the next `N` bytes, or nothing if fewer were captured.
    #[inline]
    pub(crate) fn take<const N: usize>(&mut self) -> Option<&'f [u8; N]> {
        let (taken, rest) = self.rest.split_first_chunk::<N>()?;
        self.rest = rest;
        self.offset += N;
        self.claimed -= N;
        Some(taken)
    }

    /// Steps over `count` bytes, or stays if fewer were captured.
    #[inline]
    pub(crate) fn skip(&mut self, count: usize) -> Option<()> {
        self.rest = self.rest.get(count..)?;
        self.offset += count;
        self.claimed -= count;
        Some(())
    }

    /// A length field says that no more than `bytes` belong to what is being read.
    #[inline]
    pub(crate) fn limit(&mut self, bytes: usize) {
        if bytes < self.claimed {
            self.claimed = bytes;
            if let Some(within) = self.rest.get(..bytes) {
                self.rest = within;
            }
        }
    }
}

/// A length or offset as kept in headers. Frames are shorter than 4 GiB.
#[inline]
pub(crate) fn as_u32(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}
