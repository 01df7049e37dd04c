//! The two ends that `explain` is asked about, as addresses of one family.

use super::{ICMPV6, bad};
use api::error::ApiError;
use api::explain::ExplainQuery;
use std::net::IpAddr;

/// Protocol number of ICMP, which is IPv4 only.
const ICMP: u8 = 1;

/// One end of a question: addresses that it may stand for, in the order of the policy.
struct Asked<'q> {
    text: &'q str,
    addresses: Vec<IpAddr>,
}

impl<'q> Asked<'q> {
    /// An address, or those of a workload.
    fn new(valid: &policy::ValidPolicy, which: &str, text: &'q str) -> Result<Self, ApiError> {
        let addresses = match text.parse::<IpAddr>() {
            Ok(address) => vec![address.to_canonical()],
            Err(_) => {
                let workload = valid.workloads.iter().find(|w| w.name == text);
                let nets = workload.iter().flat_map(|w| &w.addresses);
                nets.map(|net| net.addr()).collect()
            }
        };
        if addresses.is_empty() {
            let what = format!("`{text}` is neither an address nor a workload of the policy");
            return Err(bad(which, what, "see `ringfence workloads`"));
        }
        Ok(Self { text, addresses })
    }

    fn of_family(&self, v4: bool) -> Option<IpAddr> {
        self.addresses.iter().copied().find(|a| a.is_ipv4() == v4)
    }

    /// The one family it has, where it has one only.
    fn only_family(&self) -> Option<&'static str> {
        match (self.of_family(true), self.of_family(false)) {
            (Some(_), None) => Some("IPv4"),
            (None, Some(_)) => Some("IPv6"),
            _ => None,
        }
    }
}

/// The addresses of both ends: of one family, that of the protocol asked for where it has one.
pub(super) fn ends_of(
    valid: &policy::ValidPolicy,
    query: &ExplainQuery,
    proto: u8,
) -> Result<(IpAddr, IpAddr), ApiError> {
    let src = Asked::new(valid, "src", &query.src)?;
    let dst = Asked::new(valid, "dst", &query.dst)?;
    let first_v4 = src.addresses.first().is_some_and(IpAddr::is_ipv4);
    let v4 = match proto {
        ICMP => true,
        ICMPV6 => false,
        _ => first_v4,
    };
    let pair = |v4| src.of_family(v4).zip(dst.of_family(v4));
    pair(v4).or_else(|| pair(!v4)).ok_or_else(|| {
        let family = |end: &Asked<'_>| end.only_family().unwrap_or("both");
        let what = format!(
            "`{}` has only {} and `{}` only {}: no packet goes from one to the other",
            src.text,
            family(&src),
            dst.text,
            family(&dst)
        );
        bad(
            "dst",
            what,
            "ask with addresses of one family; see `ringfence workloads`",
        )
    })
}
