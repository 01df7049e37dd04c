//! The contract: bytes that the dataplane and the control process agree on.
//!
//! Called by both processes and by nobody else; `LAYOUT.md` beside this crate has the byte rulers.
//! This room never opens a socket or a file, never reads a clock, and never changes meaning without
//! raising [`ABI_EPOCH`]: the two processes must carry exactly the same number, `Hello` refuses
//! any other.
#![deny(unsafe_code)]
#![expect(
    unexpected_cfgs,
    reason = "cfg(loom) is how the model checker is switched on"
)]
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic)
)]

pub mod aggregate;
pub mod counters;
#[cfg(not(loom))]
mod header;
pub mod image;
pub mod link;
pub mod reason;
pub mod record;
#[expect(
    unsafe_code,
    reason = "one of the four addresses of unsafe: rings in shared memory"
)]
pub mod ring;
#[cfg(not(loom))]
#[expect(
    unsafe_code,
    reason = "one of the four addresses of unsafe: mapping the region"
)]
pub mod shm;
#[expect(
    unsafe_code,
    reason = "one of the four addresses of unsafe: blocks in shared memory"
)]
pub mod stats;
mod sync;
pub mod verdict;

pub use aggregate::AggregateRecord;
pub use counters::{CoreCounters, PortCounters, Stage};
pub use reason::Reason;
pub use record::FlowRecord;
pub use ring::{Consumer, Producer};
#[cfg(not(loom))]
pub use shm::{Region, RegionOptions, RegionView};
pub use verdict::{Action, Decision, Mode, VerdictSource};

/// Number of this contract. Raised with every change of a layout or a meaning; both processes must
/// carry the same one.
pub const ABI_EPOCH: u32 = 4;

/// Declares an enum that lives in one byte of the contract, with its name for people and a checked
/// way back from the byte.
macro_rules! byte_enum {
    ($(#[$meta:meta])* $vis:vis enum $name:ident { $($(#[$vmeta:meta])* $variant:ident = $code:literal => $text:literal,)+ }) => {
        $(#[$meta])*
        #[repr(u8)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        $vis enum $name { $($(#[$vmeta])* $variant = $code,)+ }

        impl $name {
            /// Every value, in the order of its code.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The value of a byte, or `None` where the contract has no such value.
            #[must_use]
            pub const fn from_byte(byte: u8) -> Option<Self> {
                match byte { $($code => Some(Self::$variant),)+ _ => None }
            }

            /// The byte in records and images.
            #[must_use]
            pub const fn byte(self) -> u8 { self as u8 }

            /// The word shown to people, in metrics and in JSON.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }

        impl core::fmt::Display for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.pad(self.name())
            }
        }
    };
}
pub(crate) use byte_enum;
