//! The tables say what the rule-by-rule twin says, for random policies and random flows.
//!
//! Policies are drawn as text and go through the whole of parse, validate and compile. Addresses,
//! prefixes and ports come from small pools, so that they meet, nest and border on each other.

mod drawn;

use acl::{PolicyImage, reference};
use core::fmt::Write;
use drawn::{TODAY, address, drawn, service};
use policy::{compile, load};
use proptest::collection::vec;
use proptest::prelude::*;

fn image(text: &str) -> std::sync::Arc<PolicyImage> {
    let policy = load(text, "drawn.toml", TODAY).unwrap_or_else(|e| panic!("{e}\n{text}"));
    compile(&policy, 7, TODAY)
        .unwrap_or_else(|e| panic!("{e}\n{text}"))
        .image
}

fn ask((src, dst, service): &([u8; 16], [u8; 16], acl::Service)) -> acl::Asked<'_> {
    (src, dst, *service)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn tables_and_rules_agree(
        drawn in drawn(),
        flows in vec((address(), address(), service()), 64),
    ) {
        let text = drawn.text();
        let image = image(&text);
        let mut together = [abi::Decision::without_policy(abi::Action::Limit); 64];
        image.evaluate_burst(&flows, ask, &mut together);
        for ((src, dst, service), burst) in flows.into_iter().zip(together) {
            let tables = image.evaluate(&src, &dst, &service);
            let rules = reference::evaluate(&image, &src, &dst, &service);
            prop_assert_eq!(tables, rules, "{:?} to {:?} {:?}\n{}", src, dst, service, text);
            prop_assert_eq!(burst, rules);
            prop_assert_eq!(image.answer(image.question(&src, &dst, &service)), rules);
            prop_assert!(image.loads(&src, &dst, &service) <= image.loads_max());
        }
    }

    #[test]
    fn every_address_has_the_identity_of_its_segments(
        prefixes in vec((any::<u128>(), 0_u8..=128), 1..120),
        nested in vec((any::<proptest::sample::Index>(), 0_u8..=128, any::<u128>()), 0..120),
        strays in vec(any::<u128>(), 16),
    ) {
        // Many lengths, many nests: each prefix has a segment of its own.
        let mut all: Vec<(u128, u8)> = prefixes;
        for (of, length, bits) in nested {
            let (base, base_length) = all[of.index(all.len())];
            let keep = abi::image::v6_masked(base, base_length);
            let rest = bits & !abi::image::v6_masked(u128::MAX, base_length);
            all.push((keep | rest, base_length.max(length)));
        }
        let mut text = String::new();
        for (at, (bits, length)) in all.iter().enumerate() {
            let net = match at % 3 {
                0 => {
                    let v4 = core::net::Ipv4Addr::from((bits >> 96) as u32);
                    ipnet::IpNet::new(v4.into(), length % 33).expect("a prefix").trunc()
                }
                _ => ipnet::IpNet::new(core::net::Ipv6Addr::from(*bits).into(), *length)
                    .expect("a prefix")
                    .trunc(),
            };
            writeln!(text, "[[segment]]\nname = \"s{at}\"\naddresses = [\"{net}\"]\nmode = \"test\"")
                .expect("a string");
        }
        let image = image(&text);
        let probes = all.iter().flat_map(|(bits, length)| {
            let edge = abi::image::v6_masked(*bits, *length);
            let v4 = core::net::Ipv4Addr::from((bits >> 96) as u32).to_ipv6_mapped();
            [edge, edge.wrapping_sub(1), edge ^ 1, *bits, u128::from(v4)]
        });
        for probe in probes.chain(strays) {
            let address = probe.to_be_bytes();
            let identity = image.identity(&address);
            let found: Vec<u32> = image.segments_of(identity).collect();
            let mut burst = [abi::Decision::without_policy(abi::Action::Limit)];
            image.evaluate_burst(&[(address, address, acl::Service::port(6, 80))], ask, &mut burst);
            prop_assert_eq!((burst[0].src_identity, burst[0].dst_identity), (identity, identity));
            prop_assert_eq!(found, reference::segments(&image, &address), "{:x}", probe);
        }
    }
}

#[test]
fn the_address_zero_is_what_it_is_beside_empty_slots_of_hosts() {
    let zero = [0; 4];
    for prefixes in [
        &["10.1.2.3/32"][..],
        &["0.0.0.0/32"],
        &["0.0.0.0/32", "10.1.2.3/32", "0.0.0.1/32"],
        &["0.0.0.0/9", "10.1.2.3/32"],
        &["0.0.0.0/25", "10.1.2.3/32", "0.0.0.77/32"],
        &["0.0.0.0/0", "0.0.0.0/32", "0.0.0.2/31"],
    ] {
        let mut text = String::new();
        for (at, prefix) in prefixes.iter().enumerate() {
            let _ = writeln!(
                text,
                "[[segment]]\nname = \"s{at}\"\naddresses = [\"{prefix}\"]\nmode = \"test\""
            );
        }
        let image = image(&text);
        for v4 in [
            zero,
            [0, 0, 0, 1],
            [0, 0, 0, 2],
            [0, 0, 0, 77],
            [10, 1, 2, 3],
            [0, 200, 0, 0],
        ] {
            let address = core::net::Ipv4Addr::from(v4).to_ipv6_mapped().octets();
            let found: Vec<u32> = image.segments_of(image.identity(&address)).collect();
            assert_eq!(
                found,
                reference::segments(&image, &address),
                "{v4:?} in {prefixes:?}"
            );
        }
    }
}
