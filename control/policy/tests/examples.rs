//! The example policies compile without a word, and decide as their comments say.

use abi::{Action, Mode, VerdictSource};
use acl::Service;
use jiff::civil::{Date, date};
use policy::{CompiledPolicy, compile, explain, load};

const TODAY: Date = date(2026, 11, 22);

fn compiled(text: &str) -> CompiledPolicy {
    let policy = load(text, "policy.toml", TODAY).unwrap_or_else(|errors| panic!("{errors}"));
    let warnings: Vec<_> = policy
        .warnings
        .iter()
        .map(|w| w.text("policy.toml"))
        .collect();
    assert_eq!(warnings, Vec::<String>::new());
    compile(&policy, 1, TODAY).expect("an example compiles")
}

fn shop() -> CompiledPolicy {
    compiled(include_str!("../examples/shop.toml"))
}

/// `enforced pending rule pending_rule`, as one line.
fn verdict(policy: &CompiledPolicy, src: &str, dst: &str, service: Service) -> String {
    let report = explain(
        policy,
        src.parse().expect(src),
        dst.parse().expect(dst),
        &service,
    );
    assert!(report.consistent, "{report:#?}");
    let name = |view: &policy::ViewReport| view.rule.clone().unwrap_or_else(|| "default".into());
    let (enforced, pending) = (&report.enforced, &report.pending);
    format!(
        "{} by {}, {} by {}",
        enforced.action,
        name(enforced),
        pending.action,
        name(pending)
    )
}

const TCP: u8 = 6;

#[test]
fn the_shop_sells() {
    let shop = shop();
    let check = |src, dst, service, expected: &str| {
        assert_eq!(
            verdict(&shop, src, dst, service),
            expected,
            "{src} to {dst}"
        );
    };
    let web = "allow by customers-to-web, allow by customers-to-web";
    check("198.51.100.7", "10.0.1.10", Service::port(TCP, 443), web);
    check(
        "2001:db8:ffff::7",
        "2001:db8:1::11",
        Service::port(17, 443),
        web,
    );
    let app = "allow by web-to-app, allow by web-to-app";
    check("10.0.1.10", "10.0.2.11", Service::port(TCP, 8099), app);
    let db = "allow by app-to-db, allow by app-to-db";
    check(
        "2001:db8:2::10",
        "2001:db8:3::10",
        Service::port(TCP, 5432),
        db,
    );
}

#[test]
fn what_no_rule_allows_follows_the_stricter_end() {
    let shop = shop();
    let check = |src, dst, service, expected: &str| {
        assert_eq!(
            verdict(&shop, src, dst, service),
            expected,
            "{src} to {dst}"
        );
    };
    // The web segment enforces, the application segment tests, the office observes.
    let denied = "deny by default, deny by default";
    check("10.0.1.10", "10.0.3.10", Service::port(TCP, 5432), denied);
    let would = "allow by default, deny by default";
    check("192.168.10.5", "10.0.2.10", Service::port(TCP, 8080), would);
    let free = "allow by default, allow by default";
    check("192.168.10.5", "10.9.0.10", Service::port(TCP, 8080), free);
}

#[test]
fn rules_stand_in_tiers_and_modes() {
    let shop = shop();
    let check = |src, dst, service, expected: &str| {
        assert_eq!(
            verdict(&shop, src, dst, service),
            expected,
            "{src} to {dst}"
        );
    };
    let closed = "reject by development-never-in-db, reject by development-never-in-db";
    check("10.9.0.10", "10.0.3.10", Service::port(TCP, 5432), closed);
    let tested = "allow by default, deny by no-ssh-from-elsewhere";
    check("10.77.0.1", "10.0.2.10", Service::port(TCP, 22), tested);
    let office = "allow by office-ssh, allow by office-ssh";
    check("192.168.10.5", "10.0.3.10", Service::port(TCP, 22), office);
    let ping = "limit by ping-within-reason, limit by ping-within-reason";
    check("198.51.100.7", "10.77.0.1", Service::icmp(1, 8, 0), ping);
    let metrics = "allow by metrics, allow by metrics";
    check("10.0.9.10", "10.0.3.10", Service::port(TCP, 9100), metrics);
}

#[test]
fn both_ends_are_named() {
    let shop = shop();
    let names = |address: &str| {
        let address = address.parse().expect(address);
        let report = explain(&shop, address, address, &Service::port(TCP, 1));
        let workload = report.src.workload.unwrap_or_else(|| "-".into());
        format!(
            "{workload} in {} ({})",
            report.src.segments.join(" "),
            report.src.mode
        )
    };
    assert_eq!(names("10.0.1.10"), "web-1 in shop-web (enforce)");
    assert_eq!(names("2001:db8:2::11"), "app-2 in shop-app (test)");
    assert_eq!(names("10.9.0.10"), "build-1 in development (observe)");
    assert_eq!(names("10.9.0.11"), "- in unmanaged development (observe)");
    assert_eq!(names("10.77.0.1"), "- in unmanaged (observe)");
    assert_eq!(names("198.51.100.7"), "- in internet (observe)");
    // None of these is anywhere in the internet.
    for address in [
        "ff02::1",
        "fe80::1",
        "::",
        "::1",
        "0.0.0.0",
        "255.255.255.255",
        "224.0.0.251",
        "169.254.1.1",
        "127.0.0.1",
    ] {
        assert_eq!(names(address), "- in unmanaged (observe)", "{address}");
    }
}

#[test]
fn the_dictionary_names_what_records_tell() {
    let shop = shop();
    let (image, dictionary) = (&shop.image, shop.dictionary());
    let address = |text: &str| match text.parse().expect(text) {
        std::net::IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        std::net::IpAddr::V6(v6) => v6.octets(),
    };
    let (src, dst) = (address("10.0.2.10"), address("10.0.3.10"));
    let decision = image.evaluate(&src, &dst, &Service::port(TCP, 5432));
    let rule = dictionary
        .rule(decision.rule_id)
        .expect("the rule has an entry");
    assert_eq!(rule.name, "app-to-db");
    assert_eq!(rule.services, ["postgres"]);
    assert_eq!(dictionary.workload(&src).expect("a workload").name, "app-1");
    assert!(dictionary.workload(&address("10.0.2.12")).is_none());
    let names: Vec<_> = dictionary.segment_names(decision.dst_identity).collect();
    assert_eq!(names, ["shop-db"]);
    assert!(dictionary.rule(0).is_none());
}

#[test]
fn limits_come_with_the_image() {
    let shop = shop();
    let limits = shop.image.limits();
    assert_eq!(limits.len(), 1);
    let rule = shop
        .image
        .rule_by_id(limits[0].rule_id)
        .expect("the limit's rule");
    assert_eq!(
        (rule.name, limits[0].rate, limits[0].burst),
        ("ping-within-reason", 10, 20)
    );
    assert_eq!(rule.limit_index, Some(0));
}

#[test]
fn the_minimal_policy_denies_nothing() {
    let minimal = compiled(include_str!("../examples/minimal.toml"));
    let report = explain(
        &minimal,
        "192.0.2.1".parse().expect("an address"),
        "10.0.0.1".parse().expect("an address"),
        &Service::port(TCP, 22),
    );
    assert_eq!(
        (report.enforced.action, report.mode),
        (Action::Allow, Mode::Observe)
    );
    assert_eq!(report.enforced.source, VerdictSource::Rule);
}

/// The image that the tests of `acl` and of the dataplane read. `UPDATE_FIXTURES=1 cargo test -p
/// ringfence-policy` writes it anew.
#[test]
fn the_fixture_is_the_compiled_shop() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../dataplane/acl/fixtures/shop.image"
    );
    let shop = shop();
    if std::env::var_os("UPDATE_FIXTURES").is_some() {
        std::fs::write(path, shop.image.bytes()).expect("the fixture is written");
    }
    let fixture = std::fs::read(path).expect("the fixture is there");
    assert!(
        fixture == shop.image.bytes(),
        "run the test again with UPDATE_FIXTURES=1"
    );
}
