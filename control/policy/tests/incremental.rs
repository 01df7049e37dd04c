//! What is remembered changes nothing: a policy that is derived from the one before it is the policy
//! that is made from nothing.

mod drawn;

use abi::image::Section;
use acl::{PolicyImage, Service, reference};
use drawn::{ADDRESSES, Drawn, PREFIXES, TODAY, bytes, drawn};
use policy::{Compiler, Loader, ValidPolicy, compile, load};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select, subsequence};
use std::sync::Arc;

/// Sections in which nothing but the order of classes, row sets and verdict rows may differ.
const IN_ORDER_OF_COMING: [Section; 6] = [
    Section::Identities,
    Section::PairIndex,
    Section::PairBlocks,
    Section::RowSets,
    Section::RowSlots,
    Section::Verdicts,
];

/// What happens to the members of a policy.
#[derive(Clone, Debug)]
enum Move {
    Label(Index, u8),
    Addresses(Index, Index),
    Come(Index, u8),
    Go(Index),
    Prefixes(Index, Vec<&'static str>),
    /// Not a membership: what is remembered must not be used.
    Mode(Index, usize),
    Deny(Index),
    Nothing,
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let one = prop_oneof![
        4 => (any::<Index>(), 0_u8..4).prop_map(|(who, label)| Move::Label(who, label)),
        3 => (any::<Index>(), any::<Index>()).prop_map(|(who, to)| Move::Addresses(who, to)),
        2 => (any::<Index>(), 0_u8..4).prop_map(|(to, label)| Move::Come(to, label)),
        2 => any::<Index>().prop_map(Move::Go),
        2 => (any::<Index>(), subsequence(PREFIXES.to_vec(), 1..4))
            .prop_map(|(which, prefixes)| Move::Prefixes(which, prefixes)),
        1 => (any::<Index>(), 0_usize..3).prop_map(|(which, mode)| Move::Mode(which, mode)),
        1 => any::<Index>().prop_map(Move::Deny),
        1 => Just(Move::Nothing),
    ];
    vec(one, 1..12)
}

fn make(change: &Move, drawn: &mut Drawn) {
    let free: Vec<&'static str> = ADDRESSES
        .iter()
        .copied()
        .filter(|address| !drawn.workloads.iter().any(|w| w.0.contains(address)))
        .collect();
    let count = drawn.workloads.len();
    match change {
        Move::Label(who, label) if count > 0 => drawn.workloads[who.index(count)].1 = *label,
        Move::Addresses(who, to) if count > 0 && !free.is_empty() => {
            drawn.workloads[who.index(count)].0 = vec![*to.get(&free)];
        }
        Move::Come(to, label) if !free.is_empty() => {
            drawn.workloads.push((vec![*to.get(&free)], *label));
        }
        Move::Go(who) if count > 0 => {
            drawn.workloads.remove(who.index(count));
        }
        Move::Prefixes(which, prefixes) => {
            let segment = which.index(drawn.segments.len());
            drawn.segments[segment].1.clone_from(prefixes);
        }
        Move::Mode(which, mode) => {
            let segment = which.index(drawn.segments.len());
            drawn.segments[segment].0 = *mode;
        }
        Move::Deny(which) if !drawn.rules.is_empty() => {
            let rule = which.index(drawn.rules.len());
            drawn.rules[rule].action = "deny";
        }
        _ => {}
    }
}

/// Every key of every protocol at which services of drawn policies begin or end.
fn services() -> Vec<Service> {
    let edges = [
        0, 52, 53, 54, 79, 80, 81, 84, 85, 90, 91, 254, 255, 256, 257, 1000, 1001, 65535,
    ];
    let ports = [6, 17, 132]
        .into_iter()
        .flat_map(|proto| edges.map(|port| Service::port(proto, port)));
    let icmp = [1, 58].into_iter().flat_map(|proto| {
        [0, 8, 134, 135, 255]
            .into_iter()
            .flat_map(move |kind| [0, 1, 2].map(|code| Service::icmp(proto, kind, code)))
    });
    let others = [Service::port(47, 0), Service::port(50, 0)];
    ports.chain(icmp).chain(others).collect()
}

/// Every difference there may be between images is looked for: sections that do not depend on the
/// order of classes byte by byte, the others through the decision of every pair of identities about
/// every service.
fn same(derived: &PolicyImage, made: &PolicyImage) -> Result<(), TestCaseError> {
    let fixed = |which: &Section| !IN_ORDER_OF_COMING.contains(which);
    for which in Section::ALL.iter().copied().filter(fixed) {
        let equal = derived.section(which) == made.section(which);
        prop_assert!(equal, "{which} differs");
    }
    prop_assert_eq!(derived.identity_count(), made.identity_count());
    let services = services();
    for src in 0..made.identity_count() {
        prop_assert!(derived.segments_of(src).eq(made.segments_of(src)));
        prop_assert_eq!(derived.mode_of(src), made.mode_of(src));
        for dst in 0..made.identity_count() {
            for service in &services {
                prop_assert_eq!(
                    derived.evaluate_identities(src, dst, service),
                    made.evaluate_identities(src, dst, service)
                );
            }
        }
    }
    Ok(())
}

/// An image as it is where all of it was sent.
fn whole(image: &PolicyImage) -> PolicyImage {
    PolicyImage::check(image.bytes()).expect("it is sound")
}

/// What an image in force becomes where only what differs is sent; the same, to the last field, as
/// where all of it is.
fn changed(
    in_force: &PolicyImage,
    before: &PolicyImage,
    image: &PolicyImage,
) -> Result<PolicyImage, TestCaseError> {
    let changed = in_force.check_change(&image.change_from(before));
    let changed = changed.expect("a sound change");
    prop_assert_eq!(format!("{changed:?}"), format!("{:?}", whole(image)));
    prop_assert!(changed.bytes() == image.bytes());
    Ok(changed)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn a_policy_derived_from_the_last_is_the_policy_made_from_nothing(
        mut drawn in drawn(),
        moves in moves(),
        src in select(&ADDRESSES[..]),
        dst in select(&ADDRESSES[..]),
    ) {
        let (mut loader, mut compiler) = (Loader::new(), Compiler::new());
        let mut published: Option<(PolicyImage, PolicyImage)> = None;
        for (epoch, change) in (1..).zip(&moves) {
            let text = drawn.text();
            let loaded = loader.load(&text, "drawn.toml", TODAY);
            let read = load(&text, "drawn.toml", TODAY);
            prop_assert_eq!(format!("{loaded:?}"), format!("{read:?}"), "{}", text);
            let Ok(policy) = loaded else { return Err(TestCaseError::reject("not valid")) };
            let derived = compiler.compile(&policy, epoch, TODAY).expect("it compiles");
            let made = compile(&policy, epoch, TODAY).expect("it compiles");
            same(&derived.image, &made.image)?;
            let (before, in_force) = match published.take() {
                Some(published) => published,
                None => (whole(&derived.image), whole(&derived.image)),
            };
            let in_force = changed(&in_force, &before, &derived.image)?;
            changed(&in_force, &derived.image, &made.image)?;
            published = Some((whole(&derived.image), in_force));
            for service in services() {
                let (src, dst) = (bytes(src), bytes(dst));
                prop_assert_eq!(
                    derived.image.evaluate(&src, &dst, &service),
                    reference::evaluate(&derived.image, &src, &dst, &service)
                );
            }
            make(change, &mut drawn);
        }
    }

    /// Texts of which one is the other with bytes cut out, put in or both.
    #[test]
    fn a_text_loaded_after_another_is_the_text_loaded_alone(
        drawn in drawn(),
        other in drawn::drawn(),
        cut in any::<Index>(),
        bytes in 0_usize..80,
        put in select(&[
            "",
            "\n",
            "# a comment\n",
            "[[",
            "é",
            "'''\n",
            "[[workload]]\nname = \"x\"\naddresses = [\"192.0.2.77\"]\n",
            "[[workload]]\nname = \"x\"\naddresses = [\"192.0.2.77\"]\n[workload.labels]\napp = \"a0\"\n",
            "[workload.labels]\napp = \"a0\"\n",
            "[[segment]]\nname = \"x\"\nmode = \"test\"\nselect = \"app=a0\"\n",
        ][..]),
        at_line in any::<bool>(),
    ) {
        let one = drawn.text();
        let place = |at: usize| {
            let at = (0..=at).rev().find(|at| one.is_char_boundary(*at)).unwrap_or(0);
            if at_line { one[..at].rfind('\n').map_or(0, |end| end + 1) } else { at }
        };
        let first = place(cut.index(one.len() + 1));
        let last = place((first + bytes).min(one.len())).max(first);
        let edited = format!("{}{put}{}", &one[..first], &one[last..]);
        let mut loader = Loader::new();
        for text in [&one, &edited, &one, &other.text(), &edited] {
            let alone = load(text, "drawn.toml", TODAY);
            let after = loader.load(text, "drawn.toml", TODAY);
            prop_assert_eq!(format!("{after:?}"), format!("{alone:?}"), "{}\n---\n{}", one, text);
        }
    }
}

/// The twins above would agree as well if nothing were ever remembered.
#[test]
fn a_changed_workload_keeps_the_tables_of_rules_and_a_changed_rule_does_not() {
    let shop = include_str!("../examples/shop.toml");
    let (mut loader, mut compiler) = (Loader::new(), Compiler::new());
    let mut epoch = 0;
    let mut kept = |text: &str, before: Option<&ValidPolicy>| {
        let policy = loader.load(text, "shop.toml", TODAY).expect("valid");
        epoch += 1;
        let compiled = compiler.compile(&policy, epoch, TODAY).expect("compiles");
        let read = before.is_some_and(|before| Arc::ptr_eq(&before.rules, &policy.rules));
        (read, compiled.tables_kept, policy)
    };
    let (_, _, first) = kept(shop, None);
    let name = &first.workloads[0].name;
    let begins = shop.find("[[workload]]").expect("a workload");
    let new = "[[workload]]\nname = \"new\"\naddresses = [\"192.0.2.200\"]\n";
    let with_new = format!("{}{new}{}", &shop[..begins], &shop[begins..]);
    let renamed = shop.replacen(&format!("\"{name}\""), "\"renamed\"", 1);
    for text in [&with_new, shop, &renamed, &with_new, shop] {
        let (read, tables, _) = kept(text, Some(&first));
        assert!(read && tables, "{text}");
    }
    let renamed_rule = shop.replacen("[[rule]]\nname = \"", "[[rule]]\nname = \"x", 1);
    assert_ne!(renamed_rule, shop);
    let (read, tables, second) = kept(&renamed_rule, Some(&first));
    assert!(!read && !tables);
    // Read anew from its first to its last byte, and yet the same rules.
    let comment = format!("# a comment\n{renamed_rule}");
    let (read, tables, _) = kept(&comment, Some(&second));
    assert!(!read && tables);
}

/// Labels that a workload has one after the other bring a class each, until tables are made anew.
#[test]
fn classes_that_nobody_has_any_more_do_not_pile_up() {
    let mut rules =
        String::from("[[segment]]\nname = \"all\"\nselect = \"app exists\"\nmode = \"enforce\"\n");
    for bit in 0..8 {
        rules += &format!(
            "[[segment]]\nname = \"s{bit}\"\nselect = \"b{bit}=on\"\nmode = \"test\"\n\
             [[rule]]\nname = \"r{bit}\"\nfrom = [\"s{bit}\"]\nto = [\"all\"]\naction = \"allow\"\n"
        );
    }
    let mut compiler = Compiler::new();
    let mut source_classes = Vec::new();
    for epoch in 1..=200_u64 {
        let has = |bit: &u64| epoch >> bit & 1 == 1;
        let labels: String = (0..8)
            .filter(has)
            .map(|bit| format!(", b{bit} = \"on\""))
            .collect();
        let workload = format!(
            "[[workload]]\nname = \"w\"\naddresses = [\"10.0.0.1\"]\nlabels = {{ app = \"a\"{labels} }}\n"
        );
        let policy = load(&format!("{rules}{workload}"), "p.toml", TODAY).expect("a valid policy");
        let derived = compiler
            .compile(&policy, epoch, TODAY)
            .expect("it compiles");
        let made = compile(&policy, epoch, TODAY).expect("it compiles");
        same(&derived.image, &made.image).expect("the same policy");
        source_classes.push(derived.image.section(Section::PairIndex).len());
    }
    let most = source_classes.iter().max();
    let least = source_classes.iter().min();
    assert!(most > least, "tables are remembered: {source_classes:?}");
    let drops = source_classes.windows(2).filter(|pair| pair[1] < pair[0]);
    assert!(drops.count() >= 2, "and made anew: {source_classes:?}");
}
