//! The cost of a packet does not depend on the number of rules; the cost of compiling is told.

use acl::{PolicyImage, Service, reference};
use core::fmt::Write;
use core::hint::black_box;
use core::net::Ipv4Addr;
use jiff::civil::{Date, date};
use policy::{Compiler, Loader, compile, parse, validate};
use std::sync::Arc;
use std::time::Instant;

const TODAY: Date = date(2026, 11, 22);
/// Roles of an application; each is a segment.
const ROLES: usize = 4;
/// Services that rules use.
const SERVICES: usize = 200;

/// A data centre: `apps` applications of four roles with `replicas` workloads each, an environment
/// label that a few segments select across applications, and `rules` rules between roles.
struct Plan {
    apps: usize,
    replicas: usize,
    rules: usize,
}

/// Numbers without pattern, the same every time.
fn scatter(number: usize) -> usize {
    let mixed = (number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    usize::try_from((mixed ^ (mixed >> 29)) >> 16).expect("48 bits")
}

impl Plan {
    fn text(&self) -> String {
        let mut text = String::new();
        self.members(&mut text).expect("a string takes it");
        self.rules(&mut text).expect("a string takes it");
        text
    }

    fn members(&self, t: &mut String) -> core::fmt::Result {
        for index in 0..self.workloads() {
            let (app, role) = (
                index / (ROLES * self.replicas),
                index / self.replicas % ROLES,
            );
            let (address, env) = (Self::address(index), scatter(index) % 3);
            writeln!(
                t,
                "[[workload]]\nname = \"w{index}\"\naddresses = [\"{address}\"]\nlabels = {{ app = \"a{app}\", role = \"r{role}\", env = \"e{env}\" }}"
            )?;
        }
        for segment in 0..self.segments() {
            let (app, role) = (segment / ROLES, segment % ROLES);
            let mode = ["enforce", "test", "observe"][app % 3];
            writeln!(
                t,
                "[[segment]]\nname = \"a{app}-r{role}\"\nselect = \"app=a{app}, role=r{role}\"\nmode = \"{mode}\""
            )?;
        }
        for env in 0..3 {
            writeln!(
                t,
                "[[segment]]\nname = \"e{env}\"\nselect = \"env=e{env}\"\nmode = \"observe\""
            )?;
        }
        (0..SERVICES).try_for_each(|service| {
            let port = 1_000 + 10 * service;
            writeln!(
                t,
                "[[service]]\nname = \"s{service}\"\nports = [\"tcp/{port}\", \"udp/{port}\"]"
            )
        })
    }

    fn rules(&self, t: &mut String) -> core::fmt::Result {
        for rule in 0..self.rules {
            let (from, to) = (
                scatter(3 * rule) % self.segments(),
                scatter(3 * rule + 1) % self.segments(),
            );
            let service = scatter(3 * rule + 2) % SERVICES;
            let action = if rule % 10 == 0 { "deny" } else { "allow" };
            let name = |segment: usize| format!("a{}-r{}", segment / ROLES, segment % ROLES);
            // One in a hundred speaks of everybody, one in a thousand of a whole environment.
            let (from, to) = match rule {
                _ if rule % 1_000 == 7 => (format!("e{}", rule % 3), name(to)),
                _ if rule % 100 == 1 => ("any".into(), name(to)),
                _ if rule % 1_000 == 2 => (name(from), "any".into()),
                _ => (name(from), name(to)),
            };
            writeln!(
                t,
                "[[rule]]\nname = \"rule-{rule}\"\nfrom = [\"{from}\"]\nto = [\"{to}\"]\nservices = [\"s{service}\"]\naction = \"{action}\""
            )?;
        }
        Ok(())
    }

    fn workloads(&self) -> usize {
        self.apps * ROLES * self.replicas
    }

    fn segments(&self) -> usize {
        self.apps * ROLES
    }

    fn address(index: usize) -> Ipv4Addr {
        Ipv4Addr::from(0x0a00_0000 + u32::try_from(index * 3).expect("a small number"))
    }

    /// Flows between workloads, and to strangers.
    fn flows(&self, count: usize) -> Vec<([u8; 16], [u8; 16], Service)> {
        let end = |number: usize| match scatter(number) % 16 {
            0 => Ipv4Addr::from(u32::try_from(scatter(number) >> 17).expect("31 bits")),
            _ => Self::address(scatter(number) % self.workloads()),
        };
        (0..count)
            .map(|number| {
                let [src, dst] =
                    [2 * number, 2 * number + 1].map(|n| end(n).to_ipv6_mapped().octets());
                let port = 1_000 + scatter(number) % (10 * SERVICES);
                (
                    src,
                    dst,
                    Service::port(6, u16::try_from(port).expect("a port")),
                )
            })
            .collect()
    }

    fn image(&self) -> Arc<PolicyImage> {
        let text = self.text();
        let started = Instant::now();
        let file = parse(&text, "large.toml");
        let parsed = started.elapsed();
        let policy = validate(&file, TODAY).expect("a valid policy");
        let validated = started.elapsed();
        let compiled = compile(&policy, 1, TODAY).expect("it compiles");
        let done = started.elapsed();
        println!(
            "{} rules, {} segments, {} workloads: parse {:.2?}, validate {:.2?}, compile {:.2?}, image {:.1} MB, {} identities, {} verdict rows",
            self.rules,
            self.segments(),
            self.workloads(),
            parsed,
            validated - parsed,
            done - validated,
            compiled.image.byte_count() as f64 / 1e6,
            compiled.image.identity_count(),
            compiled.image.verdict_row_count(),
        );
        compiled.image
    }
}

#[test]
fn packet_cost_does_not_depend_on_rules() {
    let plan = |rules| Plan {
        apps: 10,
        replicas: 2,
        rules,
    };
    let (few, many) = (plan(10).image(), plan(2_000).image());
    assert_eq!(few.loads_max(), many.loads_max());
    for (src, dst, service) in plan(0).flows(2_000) {
        // A pair of which rules speak with one class of services needs a load less.
        let [of_few, of_many] = [&few, &many].map(|image| image.loads(&src, &dst, &service));
        assert!(of_few.abs_diff(of_many) <= 1, "{of_few} and {of_many}");
        assert!(of_few.max(of_many) <= many.loads_max());
        let rules = reference::evaluate(&many, &src, &dst, &service);
        assert_eq!(many.evaluate(&src, &dst, &service), rules);
    }
}

#[test]
fn the_same_policy_gives_the_same_bytes() {
    let plan = Plan {
        apps: 5,
        replicas: 2,
        rules: 300,
    };
    assert!(plan.image().bytes() == plan.image().bytes());
}

/// `cargo test --release -p ringfence-policy --test large -- --ignored --nocapture`
#[test]
#[ignore = "measures: run it in a release build"]
fn compile_large() {
    let plan = |rules| Plan {
        apps: 500,
        replicas: 5,
        rules,
    };
    for rules in [10, 1_000, 100_000] {
        let image = plan(rules).image();
        let flows = plan(rules).flows(1 << 16);
        let mut loads = 0;
        for (src, dst, service) in &flows {
            loads = loads.max(image.loads(src, dst, service));
        }
        let rounds: u32 = 20;
        let started = Instant::now();
        for _ in 0..rounds {
            for (src, dst, service) in &flows {
                black_box(image.evaluate(black_box(src), black_box(dst), black_box(service)));
            }
        }
        let each = started.elapsed() / rounds / u32::try_from(flows.len()).expect("small");
        println!("    evaluate {each:?} a flow (64 Ki random flows), at most {loads} loads");
        for (src, dst, service) in flows.iter().take(20) {
            let rules = reference::evaluate(&image, src, dst, service);
            assert_eq!(image.evaluate(src, dst, service), rules);
        }
    }
}

/// `cargo test --release -p ringfence-policy --test large -- --ignored --nocapture`
#[test]
#[ignore = "measures: run it in a release build"]
fn republish_large() {
    let plan = Plan {
        apps: 500,
        replicas: 5,
        rules: 100_000,
    };
    let mut text = plan.text();
    let (mut loader, mut compiler) = (Loader::new(), Compiler::new());
    let (mut load_us, mut compile_us) = (Vec::new(), Vec::new());
    for round in 0..42_u64 {
        let started = Instant::now();
        let policy = loader.load(&text, "large.toml", TODAY).expect("valid");
        let loaded = started.elapsed();
        let compiled = compiler
            .compile(&policy, round + 1, TODAY)
            .expect("it compiles");
        let done = started.elapsed();
        assert_eq!(compiled.tables_kept, round > 0);
        if round == 0 {
            println!("first: load {loaded:.2?}, compile {:.2?}", done - loaded);
        } else {
            load_us.push(loaded.as_micros());
            compile_us.push((done - loaded).as_micros());
        }
        // One workload moves: to another application, to labels nobody else has, to a new address.
        let who = scatter(usize::try_from(round).expect("small")) % plan.workloads();
        let from = text.find(&format!("\"w{who}\"")).expect("a workload");
        let end = from + text[from..].find("[[").expect("another table");
        let app = scatter(who) % plan.apps;
        let rest = match round % 3 {
            0 => format!(
                "addresses = [\"10.9.0.{round}\"]\nlabels = {{ app = \"a{app}\", role = \"r1\", env = \"e2\" }}\n"
            ),
            1 => format!("addresses = [\"10.9.0.{round}\"]\n"),
            _ => format!(
                "addresses = [\"{}\"]\nlabels = {{ app = \"a{app}\", role = \"r3\", env = \"e1\" }}\n",
                Plan::address(who)
            ),
        };
        text.replace_range(from..end, &format!("\"w{who}\"\n{rest}"));
    }
    for (what, mut us) in [("load", load_us), ("compile", compile_us)] {
        us.sort_unstable();
        println!(
            "one workload changed: {what} median {} us, most {} us",
            us[us.len() / 2],
            us[us.len() - 1]
        );
    }
}

/// `cargo test --release -p ringfence-policy --test large -- --ignored --nocapture reach`
#[test]
#[ignore = "measures: run it in a release build"]
fn reach_large() {
    let plan = Plan {
        apps: 500,
        replicas: 5,
        rules: 100_000,
    };
    let invariant =
        "[[invariant]]\nname = \"i\"\nnever = { from = \"a1-r1\", to = \"a7-r2\", hops = 3 }\n";
    let text = format!("{}{invariant}", plan.text());
    let less = text.replacen("action = \"allow\"", "action = \"deny\"", 1);
    let [old, new] = [&text, &less].map(|text| {
        let policy = policy::load(text, "large.toml", TODAY).expect("a valid policy");
        compile(&policy, 1, TODAY).expect("it compiles")
    });
    let timed = |what: &str, ask: &dyn Fn() -> usize| {
        let started = Instant::now();
        let found = ask();
        println!("{what}: {found} in {:?}", started.elapsed());
    };
    let view = policy::View::Intended;
    println!("{} identities", old.image.identity_count());
    timed("prove one invariant, broken", &|| {
        policy::prove(&old, view).len()
    });
    timed("diff, rows", &|| policy::diff(&old, &new, view).reach.len());
    timed("diff with itself, rows", &|| {
        policy::diff(&old, &old, view).reach.len()
    });
    timed("blast of one segment", &|| {
        policy::blast(&old, view, Some("a1-r1"), 3).map_or(0, |all| all.len())
    });
    timed("blast of every segment", &|| {
        policy::blast(&old, view, None, 3).map_or(0, |all| all.len())
    });
    timed("analyze, findings", &|| policy::analyze(&old, None).len());
}

/// `cargo test --release -p ringfence-policy --test large -- --ignored --nocapture explain`
#[test]
#[ignore = "measures: run it in a release build"]
fn explain_large() {
    let plan = Plan {
        apps: 500,
        replicas: 5,
        rules: 100_000,
    };
    let text = plan.text();
    let policy = policy::load(&text, "large.toml", TODAY).expect("a valid policy");
    let compiled = compile(&policy, 1, TODAY).expect("it compiles");
    let ends = |number: usize| {
        let of = |at: usize| core::net::IpAddr::V4(Plan::address(scatter(at) % plan.workloads()));
        [of(2 * number), of(2 * number + 1)]
    };
    let (started, asked) = (Instant::now(), 1_000_usize);
    for number in 0..asked {
        let [src, dst] = ends(number);
        let port = u16::try_from(1_000 + 10 * (scatter(number) % SERVICES)).expect("a port");
        let report = policy::explain(&compiled, src, dst, &Service::port(6, port));
        assert!(report.consistent);
    }
    let each = started.elapsed() / u32::try_from(asked).expect("few");
    println!("explain a flow: {each:?}");
    let inventory = policy::Inventory::default();
    for number in 0..4 {
        let [src, dst] = ends(number);
        let service = Service::port(6, 1_000);
        let permit = !compiled
            .image
            .evaluate(&address_bytes(src), &address_bytes(dst), &service)
            .enforced
            .permits();
        let wanted = policy::Wanted {
            src,
            dst,
            service,
            permit,
            view: policy::View::Enforced,
        };
        let repaired = policy::Repaired {
            text: &text,
            inventory: &inventory,
            compiled: &compiled,
        };
        let started = Instant::now();
        let found = policy::repair(repaired, &wanted);
        let found = found.map_or_else(|e| e.to_string(), |all| format!("{} changes", all.len()));
        println!(
            "smallest change, permit {permit}: {found} in {:?}",
            started.elapsed()
        );
    }
}

fn address_bytes(address: core::net::IpAddr) -> [u8; 16] {
    match address {
        core::net::IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        core::net::IpAddr::V6(v6) => v6.octets(),
    }
}
