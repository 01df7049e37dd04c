//! Names of ports: read, written, refused.

use dpdk::{PciAddress, PortSpec};
use proptest::prelude::*;

fn round(text: &str) -> String {
    match text.parse::<PortSpec>() {
        Ok(spec) => {
            let shown = spec.to_string();
            assert_eq!(shown.parse::<PortSpec>().unwrap(), spec, "{text}");
            shown
        }
        Err(error) => {
            let error = error.to_string();
            error.split("; a port is one of").next().unwrap().to_owned()
        }
    }
}

#[test]
fn every_form_is_read_and_written() {
    for (text, shown) in [
        ("pcap:in=a.pcap", "pcap:in=a.pcap"),
        (
            "pcap:infinite,in=/x/a b.pcap",
            "pcap:in=/x/a b.pcap,infinite",
        ),
        ("pcap:out=o,in=i", "pcap:in=i,out=o"),
        ("pcap:out=o", "pcap:out=o"),
        ("null", "null:size=64"),
        ("null,no-rx", "null:size=64,no-rx"),
        ("null:no-rx,size=1500", "null:size=1500,no-rx"),
        ("af_packet:eth0.100", "af_packet:eth0.100"),
        ("tap:rf0", "tap:rf0"),
        ("ring:joint", "ring:joint"),
        ("pci:01:00.0", "pci:0000:01:00.0"),
        ("pci:ABCD:1f:1F.7", "pci:abcd:1f:1f.7"),
        ("vdev:net_memif0,role=client", "vdev:net_memif0,role=client"),
    ] {
        assert_eq!(round(text), shown);
    }
}

#[test]
fn nonsense_is_refused_with_the_part_that_is_wrong() {
    for (text, message) in [
        ("", "port ``: unknown kind ``"),
        ("eth0", "port `eth0`: unknown kind `eth0`"),
        ("pcap:", "port `pcap:`: `in=FILE` or `out=FILE` is missing"),
        (
            "pcap:in=a,loop",
            "port `pcap:in=a,loop`: unknown setting `loop`",
        ),
        (
            "pcap:infinite,out=a",
            "port `pcap:infinite,out=a`: `infinite` needs `in=FILE`",
        ),
        (
            "null:size=0",
            "port `null:size=0`: `0` is not a frame size from 1 to 9000 bytes",
        ),
        (
            "af_packet:",
            "port `af_packet:`: the name of an interface is missing",
        ),
        (
            "tap:a-name-of-16-byt",
            "port `tap:a-name-of-16-byt`: `a-name-of-16-byt` cannot be the name of an interface \
             (1 to 15 bytes, no `/`)",
        ),
        (
            "pci:0000:01:20.0",
            "`0000:01:20.0` is not a pci address such as 0000:01:00.0",
        ),
        (
            "pci:+1:00.0",
            "`+1:00.0` is not a pci address such as 0000:01:00.0",
        ),
    ] {
        assert_eq!(round(text), message);
    }
}

#[test]
fn what_the_host_does_not_have_is_named() {
    let check = |text: &str| {
        text.parse::<PortSpec>()
            .unwrap()
            .check()
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        check("pcap:in=/nowhere/a.pcap"),
        "port `pcap:in=/nowhere/a.pcap`: cannot read capture `/nowhere/a.pcap`: No such file or \
         directory (os error 2)"
    );
    assert_eq!(
        check("pcap:out=/nowhere/a.pcap"),
        "port `pcap:out=/nowhere/a.pcap`: cannot write `/nowhere/a.pcap`: folder `/nowhere` does \
         not exist"
    );
    assert!(check("pcap:in=/").contains("is a directory"));
    assert_eq!(
        check("af_packet:no-such-if"),
        "port `af_packet:no-such-if`: no interface `no-such-if` on this host (`ip link` lists \
         them)"
    );
    assert_eq!(
        check("pci:ffff:ff:1f.7"),
        "port `pci:ffff:ff:1f.7`: no pci device ffff:ff:1f.7 on this host (`lspci -D` lists them)"
    );
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "(pcap|null|af_packet|tap|ring|pci|vdev|x)[:,]?.{0,30}") {
        if let Ok(spec) = text.parse::<PortSpec>() {
            prop_assert_eq!(spec.to_string().parse::<PortSpec>().unwrap(), spec);
        }
    }

    #[test]
    fn any_pci_address_reads_back(domain in any::<u16>(), bus in any::<u8>(), device in 0..32_u8, function in 0..8_u8) {
        let text = format!("{domain:04x}:{bus:02x}:{device:02x}.{function}");
        prop_assert_eq!(text.parse::<PciAddress>().unwrap().to_string(), text);
    }
}
