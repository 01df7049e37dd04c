//! How to read a frame, and the limits of the work one frame can cause.

/// Default of [`ParseOptions::tunnel_depth_max`]: IP headers followed inside the first one.
pub const TUNNEL_DEPTH_MAX: u8 = 4;

/// Default of [`ParseOptions::extension_headers_max`]: IPv6 extension headers read per IP header.
///
/// Real chains have fewer than ten; captures written to confuse parsers have about eighty, and
/// they are read in full. Reading one header costs a few nanoseconds.
pub const EXTENSION_HEADERS_MAX: u8 = 128;

/// MPLS labels read in one label stack. A longer stack is [`Malformed::MplsStackTooLong`].
///
/// [`Malformed::MplsStackTooLong`]: crate::Malformed::MplsStackTooLong
pub const MPLS_LABELS_MAX: u8 = 128;

/// Headers of any kind between which the parser steps in one frame: link layer, tunnels, IP.
/// A frame with more is [`Malformed::TooManyLayers`](crate::Malformed::TooManyLayers) and is
/// classified by the headers read so far.
pub const LAYERS_MAX: u8 = 128;

/// How to read a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParseOptions {
    /// IP headers followed inside the outermost one. 0 reads the outermost only.
    ///
    /// At the limit the frame is classified by the deepest header within it and reported as
    /// [`Malformed::TunnelTooDeep`](crate::Malformed::TunnelTooDeep) (with 0 it is not: tunnels
    /// were switched off).
    pub tunnel_depth_max: u8,
    /// IPv6 extension headers read after one IPv6 header.
    ///
    /// At the limit the protocol is the number of the first header not read, there are no ports,
    /// and the frame is [`Malformed::ExtensionChainTooLong`](crate::Malformed::ExtensionChainTooLong).
    pub extension_headers_max: u8,
}

impl Default for ParseOptions {
    fn default() -> Self {
        Self {
            tunnel_depth_max: TUNNEL_DEPTH_MAX,
            extension_headers_max: EXTENSION_HEADERS_MAX,
        }
    }
}
