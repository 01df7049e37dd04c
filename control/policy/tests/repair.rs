//! The smallest change that turns a flow: by hand, and that it turns it whatever the policy.

mod drawn;

use acl::Service;
use drawn::{ADDRESSES, TODAY, drawn, service};
use policy::quarantine::{Quarantine, with_quarantine};
use policy::{
    Inventory, InventoryFile, RepairError, RepairStep, Repaired, View, Wanted, compile, load,
    repair,
};
use proptest::prelude::*;
use proptest::sample::select;

const SHOP: &str = include_str!("../examples/shop.toml");

fn wanted(src: &str, dst: &str, service: Service, permit: bool, view: View) -> Wanted {
    Wanted {
        src: src.parse().expect("an address"),
        dst: dst.parse().expect("an address"),
        service,
        permit,
        view,
    }
}

/// Changes of any number of steps.
fn changes(text: &str, wanted: &Wanted) -> Result<Vec<Vec<RepairStep>>, RepairError> {
    let policy = load(text, "shop.toml", TODAY).unwrap_or_else(|e| panic!("{e}"));
    let compiled = compile(&policy, 1, TODAY).expect("it compiles");
    let inventory = &Inventory::default();
    let compiled = &compiled;
    let policy = Repaired {
        text,
        inventory,
        compiled,
    };
    let found = repair(policy, wanted)?;
    for repair in &found {
        load(&repair.text, "repaired.toml", TODAY)
            .unwrap_or_else(|e| panic!("{e}\n{}", repair.text));
    }
    Ok(found.into_iter().map(|repair| repair.steps).collect())
}

/// Changes of one step each.
fn steps(text: &str, wanted: &Wanted) -> Result<Vec<RepairStep>, RepairError> {
    let single = |steps: Vec<RepairStep>| <[RepairStep; 1]>::try_from(steps);
    let found = changes(text, wanted)?.into_iter().map(single);
    let found: Result<Vec<_>, _> = found.collect();
    Ok(found.expect("one step each").concat())
}

#[test]
fn a_flow_that_the_default_denies_gets_a_rule_of_its_own() {
    let flow = wanted(
        "10.9.0.10",
        "10.0.2.10",
        Service::port(6, 8443),
        true,
        View::Intended,
    );
    let tables = "[[service]]\nname = \"tcp-8443\"\nports = [\"tcp/8443\"]\n\n[[rule]]\nname = \"development-to-shop-app-tcp-8443\"\nfrom = [\"development\"]\nto = [\"shop-app\"]\nservices = [\"tcp-8443\"]\naction = \"allow\"\n";
    let add = RepairStep::Add {
        tables: tables.to_owned(),
    };
    assert_eq!(steps(SHOP, &flow), Ok(vec![add]));
}

#[test]
fn a_guardrail_that_denies_is_narrowed_or_goes() {
    let flow = wanted(
        "10.9.0.10",
        "10.0.3.10",
        Service::port(6, 5432),
        true,
        View::Enforced,
    );
    let remove = RepairStep::Remove {
        rule: "development-never-in-db".to_owned(),
    };
    // Without it the default of an enforced segment denies: that takes a rule as well.
    let found = changes(SHOP, &flow).expect("a change of two steps");
    for change in &found {
        assert_eq!(change.len(), 2, "{change:?}");
        assert!(matches!(change[1], RepairStep::Add { .. }), "{change:?}");
    }
    assert!(found.iter().any(|change| change[0] == remove), "{found:?}");
    let observed = SHOP.replace(
        "tier exists\"\nmode = \"enforce\"",
        "tier exists\"\nmode = \"observe\"",
    );
    assert_eq!(steps(&observed, &flow), Ok(vec![remove]));
}

#[test]
fn a_flow_that_a_rule_permits_is_denied_by_the_least() {
    let flow = wanted(
        "192.168.10.4",
        "10.0.3.10",
        Service::port(6, 22),
        false,
        View::Enforced,
    );
    let found = steps(SHOP, &flow).expect("something");
    let narrow = RepairStep::Narrow {
        rule: "office-ssh".to_owned(),
        key: "to",
        without: vec!["shop-db".to_owned()],
    };
    assert!(found.contains(&narrow), "{found:?}");
    // The rule itself opens three segments: taking it out is the largest of the three.
    let remove = RepairStep::Remove {
        rule: "office-ssh".to_owned(),
    };
    assert_eq!(found.last(), Some(&remove), "{found:?}");
}

#[test]
fn a_flow_that_is_so_already_or_cannot_be_is_said_to_be() {
    let so = wanted(
        "10.0.1.10",
        "10.0.2.10",
        Service::port(6, 8000),
        true,
        View::Enforced,
    );
    assert!(matches!(
        steps(SHOP, &so),
        Err(RepairError::AlreadySo { .. })
    ));
    let families = wanted(
        "10.0.1.10",
        "2001:db8::1",
        Service::port(6, 8000),
        true,
        View::Enforced,
    );
    let told = steps(SHOP, &families).expect_err("no flow").to_string();
    assert_eq!(
        told,
        "10.0.1.10 and 2001:db8::1 are not of one family: no flow is between them"
    );
}

#[test]
fn a_flow_of_a_workload_in_quarantine_is_let_go_by_lifting_it() {
    let policy = load(SHOP, "shop.toml", TODAY).expect("valid");
    let held = |text: &str, workload: &str| {
        let quarantine = Quarantine {
            workload: workload.to_owned(),
            allow: vec!["tcp/22".to_owned()],
            ..Quarantine::default()
        };
        with_quarantine(text, &policy, &quarantine).expect("it can be held")
    };
    let text = held(&held(SHOP, "web-1"), "db-1");
    let service = Service::port(6, 8000);
    let flow = wanted("10.0.1.10", "10.0.2.10", service, true, View::Enforced);
    let workload = "web-1".to_owned();
    assert_eq!(steps(&text, &flow), Ok(vec![RepairStep::Lift { workload }]));
    let service = Service::port(6, 5432);
    let flow = wanted("10.0.1.10", "10.0.3.10", service, true, View::Enforced);
    let first = changes(&text, &flow).expect("a change").remove(0);
    let lifted = |step: &RepairStep| matches!(step, RepairStep::Lift { .. });
    assert_eq!(
        first.iter().filter(|step| lifted(step)).count(),
        2,
        "{first:?}"
    );
}

#[test]
fn workloads_from_beside_the_text_stay_what_they_are() {
    let inventory = "[[workload]]\nname = \"web-9\"\naddresses = [\"10.0.1.99\"]\nlabels = { app = \"shop\", role = \"web\", env = \"prod\" }\n";
    let file = InventoryFile::read(inventory, "more.toml").expect("valid");
    let own = load(SHOP, "shop.toml", TODAY).expect("valid").workloads;
    let merged = policy::merge(&own, "shop.toml", &[file]).expect("no conflict");
    let inventory = Inventory {
        tables: merged.tables,
        ..Inventory::default()
    };
    let mut loader = policy::Loader::new();
    let valid = loader.load_with(SHOP, &inventory, "shop.toml", TODAY);
    let compiled = &compile(&valid.expect("valid"), 1, TODAY).expect("it compiles");
    let policy = Repaired {
        text: SHOP,
        inventory: &inventory,
        compiled,
    };
    let service = Service::port(6, 8443);
    let flow = wanted("10.0.1.99", "10.0.2.10", service, true, View::Intended);
    let found = repair(policy, &flow).expect("a rule");
    let [reach] = &found[0].diff.reach[..] else {
        panic!("{:?}", found[0].diff.reach);
    };
    assert_eq!(reach.from.names, ["shop-web"]);
    let RepairStep::Add { tables } = &found[0].steps[0] else {
        panic!("{:?}", found[0].steps);
    };
    assert!(tables.contains("from = [\"shop-web\"]"), "{tables}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn every_repair_turns_the_flow_and_says_so_in_its_diff(
        drawn in drawn(),
        src in select(&ADDRESSES[..17]),
        dst in select(&ADDRESSES[..17]),
        service in service(),
        enforced in any::<bool>(),
    ) {
        let view = if enforced { View::Enforced } else { View::Intended };
        let text = drawn.text();
        let policy = load(&text, "p.toml", TODAY).unwrap_or_else(|e| panic!("{e}\n{text}"));
        let compiled = compile(&policy, 1, TODAY).expect("it compiles");
        let inventory = Inventory::default();
        for permit in [true, false] {
            let flow = wanted(src, dst, service, permit, view);
            let asked = Repaired { text: &text, inventory: &inventory, compiled: &compiled };
            for repair in repair(asked, &flow).unwrap_or_default() {
                let again = load(&repair.text, "p.toml", TODAY).expect("valid");
                let again = compile(&again, 1, TODAY).expect("it compiles");
                // Turned: what was wanted is so, and the way back is asked for no more.
                let so = policy::repair(Repaired { text: &repair.text, compiled: &again, ..asked }, &flow);
                prop_assert!(matches!(so, Err(RepairError::AlreadySo { .. })), "{:?}\n{}", so, text);
                prop_assert!(!repair.diff.reach.is_empty(), "{:?}", repair.steps);
                prop_assert!(!repair.diff.words.is_empty(), "{:?}", repair.steps);
            }
        }
    }
}
