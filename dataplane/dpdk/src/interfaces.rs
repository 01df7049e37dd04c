//! Which network interfaces of the kernel a port takes its packets from or gives them to.

use crate::spec::PortSpec;

/// Arguments of libdpdk's virtual devices that name an interface: `iface` of net_af_packet,
/// net_af_xdp, net_tap and net_pcap, `rx_iface`, `rx_iface_in` and `tx_iface` of net_pcap, `remote`
/// of net_tap.
const INTERFACE_ARGUMENTS: &[&str] = &["iface", "rx_iface", "rx_iface_in", "tx_iface", "remote"];

impl PortSpec {
    /// Names of the kernel's interfaces that this port uses, each once. Empty for a port that uses
    /// none: what it has instead (a device on the PCI bus, a file) guards itself or may be shared.
    #[must_use]
    pub fn interfaces(&self) -> Vec<&str> {
        match self {
            PortSpec::AfPacket { interface } => vec![interface],
            PortSpec::Tap { name } => vec![name],
            PortSpec::Vdev(devargs) => named_in(devargs),
            PortSpec::Pcap { .. }
            | PortSpec::Null { .. }
            | PortSpec::Ring { .. }
            | PortSpec::Pci(_) => Vec::new(),
        }
    }
}

/// Devices stand inside one another's arguments, in parentheses (net_failsafe).
fn named_in(devargs: &str) -> Vec<&str> {
    let mut names = Vec::new();
    for argument in devargs.split([',', '(', ')']) {
        if let Some((key, name)) = argument.split_once('=')
            && INTERFACE_ARGUMENTS.contains(&key.trim())
            && !names.contains(&name)
        {
            names.push(name);
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interfaces(text: &str) -> Vec<String> {
        let spec: PortSpec = text.parse().expect("a port");
        spec.interfaces().into_iter().map(str::to_owned).collect()
    }

    #[test]
    fn a_port_on_an_interface_names_it() {
        assert_eq!(interfaces("af_packet:eth1"), ["eth1"]);
        assert_eq!(interfaces("tap:rf0"), ["rf0"]);
        assert_eq!(
            interfaces("vdev:net_af_xdp0,iface=eth2,start_queue=0"),
            ["eth2"]
        );
        assert_eq!(
            interfaces("vdev:net_pcap0,rx_iface=eth3,tx_iface=eth4"),
            ["eth3", "eth4"]
        );
        assert_eq!(
            interfaces("vdev:net_pcap0,rx_iface=eth3,tx_iface=eth3"),
            ["eth3"]
        );
        assert_eq!(
            interfaces("vdev:net_failsafe0,dev(net_tap0,iface=a),dev(net_tap1,iface=b,remote=c)"),
            ["a", "b", "c"]
        );
    }

    #[test]
    fn a_port_without_an_interface_names_none() {
        for text in [
            "null:size=64",
            "ring:cable",
            "pci:0000:01:00.0",
            "pcap:in=iface=eth1",
            "vdev:net_memif0,role=client,socket=/run/memif.sock",
        ] {
            assert!(interfaces(text).is_empty(), "{text}");
        }
    }
}
