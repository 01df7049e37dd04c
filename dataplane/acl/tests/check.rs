//! What is not exactly a policy image is refused; what is accepted can be evaluated.
//!
//! The image is the shop of `control/policy/examples`, compiled. `control/policy/tests` keeps it up
//! to date and holds tables and rules together over random policies.

use abi::image::{Header, SECTIONS_OFFSET, Section, SectionEntry, VerdictRow, reseal};
use abi::{Action, Decision};
use acl::{ImageError, PolicyImage, Service, reference};
use zerocopy::FromBytes;

const SHOP: &[u8] = include_bytes!("../fixtures/shop.image");

fn check(bytes: &[u8]) -> Result<PolicyImage, ImageError> {
    PolicyImage::check(bytes)
}

fn shop() -> PolicyImage {
    check(SHOP).expect("the fixture is an image")
}

/// The shop with some bytes changed and a checksum that says they are right.
fn forged(change: impl FnOnce(&mut Vec<u8>)) -> Result<PolicyImage, ImageError> {
    let mut bytes = SHOP.to_vec();
    change(&mut bytes);
    reseal(&mut bytes);
    check(&bytes)
}

/// First byte and length of a section of the shop.
fn section(section: Section) -> (usize, usize) {
    let at = size_of::<Header>() + usize::from(section.byte() - 1) * size_of::<SectionEntry>();
    let (entry, _) = SectionEntry::read_from_prefix(&SHOP[at..]).expect("an entry");
    let count = usize::try_from(entry.count.get()).expect("small");
    (
        usize::try_from(entry.offset.get()).expect("small"),
        count * section.row_bytes(),
    )
}

fn addresses() -> Vec<[u8; 16]> {
    let v4 = [
        [10, 0, 1, 10],
        [10, 0, 2, 11],
        [10, 0, 3, 10],
        [10, 9, 0, 10],
        [10, 9, 1, 1],
        [10, 0, 9, 10],
        [192, 168, 10, 5],
        [10, 77, 0, 1],
        [198, 51, 100, 7],
        [255, 255, 255, 255],
    ];
    let v6 = [
        "2001:db8:1::10",
        "2001:db8:3::10",
        "2001:db8:9::1",
        "2001:db8:ffff::1",
        "fe80::1",
    ];
    let v4 = v4
        .iter()
        .map(|a| core::net::Ipv4Addr::from(*a).to_ipv6_mapped().octets());
    let v6 = v6.iter().map(|a| {
        a.parse::<core::net::Ipv6Addr>()
            .expect("an address")
            .octets()
    });
    v4.chain(v6).collect()
}

fn services() -> Vec<Service> {
    let tcp = [
        0, 21, 22, 23, 80, 443, 5432, 7999, 8000, 8099, 8100, 9100, 65535,
    ];
    let tcp = tcp.into_iter().map(|port| Service::port(6, port));
    let rest = [
        Service::port(17, 443),
        Service::icmp(1, 8, 0),
        Service::icmp(1, 8, 9),
        Service::icmp(1, 0, 0),
        Service::icmp(58, 128, 0),
        Service::port(47, 0),
    ];
    tcp.chain(rest).collect()
}

/// Every flow between the addresses.
fn flows() -> impl Iterator<Item = ([u8; 16], [u8; 16], Service)> {
    let (addresses, services) = (addresses(), services());
    let pairs: Vec<_> = addresses
        .iter()
        .flat_map(|src| addresses.iter().map(|dst| (*src, *dst)))
        .collect();
    pairs
        .into_iter()
        .flat_map(move |(src, dst)| services.clone().into_iter().map(move |s| (src, dst, s)))
}

#[test]
fn the_shop_is_accepted_and_shared_with_cores() {
    fn shareable<T: Send + Sync>(_: &T) {}
    let shop = shop();
    shareable(&shop);
    assert_eq!(shop.bytes(), SHOP);
    assert_eq!(shop.epoch(), 1);
    assert_eq!(shop.rules().count(), 8);
    let names: Vec<_> = shop
        .segments()
        .map(|segment| segment.name.to_owned())
        .collect();
    assert_eq!(
        names[..5],
        ["any", "internet", "unmanaged", "shop-web", "shop-app"]
    );
}

#[test]
fn tables_and_rules_agree_about_the_shop() {
    let shop = shop();
    let mut actions = std::collections::BTreeSet::new();
    for (src, dst, service) in flows() {
        let decision = shop.evaluate(&src, &dst, &service);
        assert_eq!(decision, reference::evaluate(&shop, &src, &dst, &service));
        let (from, to) = (decision.src_identity, decision.dst_identity);
        assert_eq!(decision, shop.evaluate_identities(from, to, &service));
        actions.insert((decision.enforced, decision.pending));
    }
    // The flows are worth asking about: each action is there, and the views differ somewhere.
    assert!(
        Action::ALL
            .iter()
            .all(|action| actions.contains(&(*action, *action)))
    );
    assert!(actions.contains(&(Action::Allow, Action::Deny)));
}

#[test]
fn explain_says_what_evaluate_says() {
    let shop = shop();
    for (src, dst, service) in flows() {
        let explanation = shop.explain(&src, &dst, &service);
        assert_eq!(explanation.decision, explanation.reference);
        let decides = |index: Option<u32>| {
            explanation
                .matches
                .iter()
                .find(|m| Some(m.rule) == index)
                .copied()
        };
        let [enforced, pending] = shop.deciding_rules(&explanation.decision);
        let enforced = enforced.map(|rule| decides(Some(rule)).expect("it matches").enforced);
        let pending = pending.map(|rule| decides(Some(rule)).expect("it matches").pending);
        assert!(enforced.is_none_or(|standing| standing == acl::Standing::Decides));
        assert!(pending.is_none_or(|standing| standing == acl::Standing::Decides));
    }
}

#[test]
fn every_flipped_byte_is_refused() {
    let mut bytes = SHOP.to_vec();
    for at in 0..bytes.len() {
        for flip in [0x01, 0x80, 0xff] {
            bytes[at] ^= flip;
            assert!(
                check(&bytes).is_err(),
                "byte {at} flipped by {flip:#x} was accepted"
            );
            bytes[at] ^= flip;
        }
    }
    assert!(check(&bytes).is_ok());
}

#[test]
fn every_truncation_and_every_extension_is_refused() {
    for length in 0..SHOP.len() {
        assert!(
            check(&SHOP[..length]).is_err(),
            "{length} bytes were accepted"
        );
        // A header that states the shorter length and a right checksum do not help.
        if length >= size_of::<Header>() && length.is_multiple_of(8) {
            let mut cut = SHOP[..length].to_vec();
            cut[24..32].copy_from_slice(&(length as u64).to_le_bytes());
            reseal(&mut cut);
            assert!(
                check(&cut).is_err(),
                "{length} bytes with a right checksum were accepted"
            );
        }
    }
    assert!(check(&[SHOP, &[0; 8]].concat()).is_err());
}

/// Evaluates everything; with overflow checks on, a bad index that got through would panic.
fn evaluate_all(image: &PolicyImage) -> Vec<Decision> {
    flows()
        .map(|(src, dst, service)| image.evaluate(&src, &dst, &service))
        .collect()
}

#[test]
fn a_forged_image_is_refused_or_evaluates_within_bounds() {
    let mut accepted = 0;
    // Each word of the tables in turn points far away, or just beyond its neighbour.
    for at in (SECTIONS_OFFSET..SHOP.len()).step_by(4) {
        for word in [u32::MAX, 0x7fff_ffff, 0x0001_0000, 1] {
            let forged = forged(|bytes| bytes[at..at + 4].copy_from_slice(&word.to_le_bytes()));
            if let Ok(image) = forged {
                let (src, dst) = (addresses()[0], addresses()[1]);
                for service in services() {
                    let explanation = image.explain(&src, &dst, &service);
                    assert!(explanation.decision.src_identity < image.identity_count());
                }
                accepted += 1;
            }
        }
    }
    // Some words may be anything in range (a class, an identity): that is what the checksum is for.
    assert!(accepted > 0);
}

#[test]
fn each_refusal_says_what_is_wrong() {
    let refused = |change: &dyn Fn(&mut Vec<u8>)| {
        forged(|bytes| change(bytes))
            .expect_err("a forged image")
            .to_string()
    };
    let put = |at: usize, with: &'static [u8]| {
        move |bytes: &mut Vec<u8>| bytes[at..at + with.len()].copy_from_slice(with)
    };
    assert_eq!(
        refused(&put(0, b"X")),
        "not a policy image: it does not begin with RFPOLICY"
    );
    assert_eq!(
        refused(&put(8, &[99, 0, 0, 0])),
        format!(
            "policy image for abi epoch 99, this dataplane has {}: install the same release on both processes",
            abi::ABI_EPOCH
        )
    );
    assert_eq!(
        refused(&put(12, &[9, 0, 0, 0])),
        "policy image of format 9, this dataplane reads 3: install the same release on both processes"
    );
    assert_eq!(
        refused(&put(16, &[0])),
        "policy image has epoch 0, which means no policy"
    );
    assert_eq!(
        refused(&|bytes| bytes.truncate(SHOP.len() - 8)),
        format!(
            "policy image says {} bytes and has {}: it was cut or extended on the way",
            SHOP.len(),
            SHOP.len() - 8
        )
    );
    let (verdicts, _) = section(Section::Verdicts);
    let action = core::mem::offset_of!(VerdictRow, enforced);
    assert_eq!(
        refused(&put(verdicts + action, &[9])),
        "policy image: section verdicts, row 0: enforced is 9, which cannot be"
    );
    let mut damaged = SHOP.to_vec();
    damaged[verdicts] ^= 1;
    let text = check(&damaged).expect_err("a damaged image").to_string();
    assert!(
        text.starts_with("policy image is damaged: section verdicts has checksum 0x"),
        "{text}"
    );
}

#[test]
fn a_verdict_that_its_rule_does_not_give_is_refused() {
    let (verdicts, size) = section(Section::Verdicts);
    let action = core::mem::offset_of!(VerdictRow, enforced);
    for row in (verdicts..verdicts + size).step_by(size_of::<VerdictRow>()) {
        let was = SHOP[row + action];
        for other in Action::ALL
            .iter()
            .map(|a| a.byte())
            .filter(|byte| *byte != was)
        {
            let by_rule = SHOP[row + action + 1] == abi::VerdictSource::Rule.byte();
            let image = forged(|bytes| bytes[row + action] = other);
            assert!(
                image.is_err() || !by_rule,
                "row at {row}: {was} became {other}"
            );
        }
    }
}

fn ask((src, dst, service): &([u8; 16], [u8; 16], Service)) -> acl::Asked<'_> {
    (src, dst, *service)
}

#[test]
fn keys_evaluated_together_get_the_verdicts_they_get_alone() {
    let shop = shop();
    let mut asked: Vec<_> = flows().collect();
    // Addresses that no prefix covers, and services that no rule names.
    asked.push(([9; 16], [0xfe; 16], Service::port(132, 65_535)));
    asked.push((asked[0].0, [0; 16], Service::icmp(1, 8, 0)));
    let alone: Vec<_> = asked
        .iter()
        .map(|(src, dst, service)| shop.evaluate(src, dst, service))
        .collect();
    for count in [0, 1, 31, 32, 33, asked.len()] {
        let count = count.min(asked.len());
        let mut together = vec![abi::Decision::without_policy(abi::Action::Limit); count];
        shop.evaluate_burst(&asked[..count], ask, &mut together);
        assert_eq!(together, alone[..count]);
    }
}

#[test]
fn loads_stay_below_the_stated_number() {
    let shop = shop();
    let before = evaluate_all(&shop);
    for (src, dst, service) in flows() {
        let loads = shop.loads(&src, &dst, &service);
        assert!(loads <= shop.loads_max(), "{loads} loads");
        if src[..12] == dst[..12] && src[10] == 0xff {
            assert!(loads <= 20, "{loads} loads for IPv4");
        }
    }
    assert_eq!(evaluate_all(&shop), before);
}
