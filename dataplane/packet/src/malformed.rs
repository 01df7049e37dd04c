//! Why a frame could not be read in full. One row per cause: name and sentence.

macro_rules! malformed {
    ($($(#[$doc:meta])* $name:ident => $sentence:literal,)*) => {
        /// Why a frame could not be read in full. The first cause met is the one reported.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Malformed { $(#[doc = $sentence] $(#[$doc])* $name,)* }

        impl Malformed {
            /// Every cause, in order of [`Malformed::index`].
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The cause in one sentence, as operators read it.
            #[must_use]
            pub const fn sentence(self) -> &'static str {
                match self { $(Self::$name => $sentence,)* }
            }
        }
    };
}

malformed! {
    EthernetTruncated => "the frame ends inside its Ethernet header",
    LinkTruncated => "the frame ends inside a header between Ethernet and IP",
    MplsStackTooLong => "the MPLS label stack does not end within the label limit",
    TooManyLayers => "more headers are nested in the frame than the layer limit",
    IpVersion => "the IP version is not the one announced by the header before",
    Ipv4Truncated => "the frame ends inside its IPv4 header",
    Ipv4HeaderLength => "the IPv4 header length is below 20 bytes",
    Ipv4TotalLength => "the IPv4 total length is smaller than its header",
    Ipv4TotalBeyondFrame => "the IPv4 total length exceeds the frame",
    Ipv4SourceRoute => "the IPv4 packet is source routed: its next hop is not its destination",
    Ipv6Truncated => "the frame ends inside its IPv6 header",
    Ipv6PayloadBeyondFrame => "the IPv6 payload length exceeds the frame",
    Ipv6ExtensionTruncated => "an IPv6 extension header is cut short",
    ExtensionChainTooLong => "the chain of IPv6 extension headers exceeds its limit",
    TransportTruncated => "the packet ends inside its transport header",
    TcpHeaderLength => "the TCP header length is below 20 bytes or exceeds the packet",
    UdpLength => "the UDP length is below 8 bytes or exceeds the packet",
    IcmpTruncated => "the packet ends inside its ICMP header",
    TunnelTooDeep => "more IP headers are nested in the frame than the tunnel depth limit",
}

impl Malformed {
    /// Position in [`Malformed::ALL`], for tables of counters. Starts at 0.
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }
}
