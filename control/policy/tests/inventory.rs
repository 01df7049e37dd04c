//! Inventories: read, judged by line and column, put beside a policy.

use jiff::civil::date;
use policy::{Inventory, InventoryFile, Loader, Resolved, ValidPolicy, Workload, compile, merge};
use proptest::prelude::*;

const TODAY: jiff::civil::Date = date(2026, 11, 23);

const POLICY: &str = r#"[[workload]]
name = "web-1"
addresses = ["10.0.1.10"]
labels = { app = "shop", role = "web" }

[[segment]]
name = "shop-web"
select = "role=web"
mode = "enforce"

[[segment]]
name = "shop-db"
select = "role=db"
mode = "enforce"

[[service]]
name = "postgres"
ports = ["tcp/5432"]

[[rule]]
name = "web-to-db"
from = ["shop-web"]
to = ["shop-db"]
services = ["postgres"]
action = "allow"
"#;

fn read(text: &str, file: &str) -> InventoryFile {
    InventoryFile::read(text, file).unwrap_or_else(|errors| panic!("{errors}"))
}

fn errors(text: &str, file: &str) -> String {
    InventoryFile::read(text, file)
        .expect_err("it has an error")
        .to_string()
}

fn beside(policy: &str, files: &[InventoryFile], resolved: Resolved) -> ValidPolicy {
    let own = policy::load(policy, "p.toml", TODAY).unwrap();
    let merged = merge(&own.workloads, "p.toml", files).unwrap();
    let inventory = Inventory {
        tables: merged.tables,
        resolved,
    };
    let loaded = Loader::new().load_with(policy, &inventory, "p.toml", TODAY);
    loaded.unwrap_or_else(|errors| panic!("{errors}"))
}

fn told(workloads: &[Workload]) -> Vec<String> {
    let one = |w: &Workload| {
        let addresses: Vec<_> = w.addresses.iter().map(ToString::to_string).collect();
        let labels: Vec<_> = w.labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
        let (addresses, labels, dns) = (addresses.join(" "), labels.join(" "), w.dns.join(" "));
        format!("{}|{addresses}|{dns}|{labels}|{}", w.name, w.line)
    };
    workloads.iter().map(one).collect()
}

#[test]
fn workloads_are_read_from_csv_with_labels_in_either_form() {
    let text = "\u{feff}# written by the asset database\n\
                name,addresses,labels,label:env,dns,comment\r\n\
                web-1,10.0.1.10 2001:db8::1,app=shop; role=web,prod,,\"first, of\r\nmany\"\r\n\
                \r\n\
                db-1,\"10.0.2.0/28;10.0.9.9\",,,DB.example.internal.,\n\
                cache , ,app=shop,,a.example b.example,\n";
    let file = read(text, "assets.csv");
    let found = told(&file.workloads);
    assert_eq!(
        found,
        [
            "web-1|10.0.1.10/32 2001:db8::1/128||app=shop env=prod role=web|3",
            "db-1|10.0.2.0/28 10.0.9.9/32|db.example.internal||6",
            "cache||a.example b.example|app=shop|7",
        ]
    );
}

#[test]
fn columns_are_named_in_the_first_line() {
    assert_eq!(
        errors("nam,adresses,dns,dns\na,b,c,d\n", "a.csv"),
        "\
a.csv:1:1: error: unknown column `nam`
    did you mean `name`?
a.csv:1:1: error: there is no column `name`
    the first line names the columns: name,addresses,labels
a.csv:1:5: error: unknown column `adresses`
    did you mean `addresses`?
a.csv:1:18: error: two columns are named `dns`
    remove one of them"
    );
}

#[test]
fn cells_are_judged_where_they_stand() {
    let text = "name,addresses,labels,dns\n\
                web-1,10.0.1.10;10.0.1.300,app=shop,\n\
                web-2,10.0.1.7/24,app;role=x,\n\
                \"web 3\",\"10.0.1.12\",k=v w,\n\
                ,10.0.1.13,,\n\
                web-5,,,\n\
                web-6,10.0.1.16\n\
                web-7,10.0.1.10,,db_.example 10.0.0.1\n\
                web-8,\"10.0.1.18,,\n";
    assert_eq!(
        errors(text, "a.csv"),
        "\
a.csv:2:17: error: workload `web-1`: `10.0.1.300` is neither an address nor a prefix
    write an address (10.0.1.10, 2001:db8::10) or a prefix (10.0.1.0/24)
a.csv:3:7: error: workload `web-2`: `10.0.1.7/24` has host bits set
    write 10.0.1.0/24 for the whole prefix, or 10.0.1.7 for the one address
a.csv:3:19: error: workload `web-2`: `app` is not a label
    write key=value, several with ; between them
a.csv:4:2: error: `web 3` cannot name a workload
    use 1 to 64 letters, digits and - _ . / :, a letter or digit first
a.csv:4:23: error: workload `web 3`: `v w` cannot be a label or its value
    use 1 to 64 letters, digits and - _ . / :, a letter or digit first
a.csv:5:1: error: this workload has no `name`
    write its name in the column name
a.csv:6:1: error: workload `web-5` has neither an address nor a DNS name
    add addresses = [\"10.0.1.10\"], or dns = [\"db.example.internal\"]
a.csv:7:1: error: this line has 2 cells, the first line has 4
    put a cell that holds a comma in \"double quotes\"; leave no cell out
a.csv:8:7: error: workload `web-7`: address 10.0.1.10 belongs to workload `web-1` (line 2) as well
    an address belongs to one workload: remove it from one of the two
a.csv:8:30: error: workload `web-7`: `10.0.0.1` is not a DNS name
    write a name such as db.example.internal
a.csv:9:1: error: this line has 2 cells, the first line has 4
    put a cell that holds a comma in \"double quotes\"; leave no cell out"
    );
}

#[test]
fn an_inventory_without_a_workload_is_an_error() {
    let nothing = "1:1: error: there is no workload in it\n    look whether the file is whole; to \
                   have none take it out of inventory.files";
    assert_eq!(errors("", "a.toml"), format!("a.toml:{nothing}"));
    assert_eq!(errors("", "a.csv"), format!("a.csv:{nothing}"));
    assert_eq!(
        errors("name,addresses\n", "a.csv"),
        format!("a.csv:{nothing}")
    );
}

#[test]
fn an_inventory_in_toml_has_workloads_only() {
    let workload = "[[workload]]\nname = \"a\"\naddresses = [\"10.0.0.1\"]\n";
    assert_eq!(read(workload, "a.toml").workloads.len(), 1);
    let text = format!("{workload}[[segment]]\nname = \"s\"\nselect = \"a=b\"\nmode = \"test\"\n");
    assert_eq!(
        errors(&text, "a.toml"),
        "a.toml:4:1: error: an inventory has [[workload]] tables only\n    segments, services and \
         rules stand in the policy; `ringfence policy apply` takes it"
    );
}

#[test]
fn workloads_of_an_inventory_count_as_those_of_the_policy() {
    let file = read("name,addresses,label:role\ndb-1,10.0.2.20,db\n", "a.csv");
    let policy = beside(POLICY, &[file], Resolved::new());
    assert_eq!(policy.revision, policy::Revision::of(POLICY));
    assert_eq!(policy.warnings, []);
    let compiled = compile(&policy, 1, TODAY).unwrap();
    let asked = acl::Service::port(6, 5432);
    let ends = ["10.0.1.10", "10.0.2.20"].map(|text| text.parse().unwrap());
    let report = policy::explain(&compiled, ends[0], ends[1], &asked);
    assert_eq!(report.enforced.rule.as_deref(), Some("web-to-db"));
    assert_eq!(report.dst.workload.as_deref(), Some("db-1"));
}

#[test]
fn of_one_name_the_policys_workload_is_taken() {
    let file = read(
        "name,addresses\nweb-1,10.0.1.99\nweb-2,10.0.1.11\n",
        "a.csv",
    );
    let own = policy::load(POLICY, "p.toml", TODAY).unwrap();
    let merged = merge(&own.workloads, "p.toml", std::slice::from_ref(&file)).unwrap();
    let over: Vec<_> = merged
        .overridden
        .iter()
        .map(|o| (&*o.workload, &*o.file, o.line))
        .collect();
    assert_eq!(
        (over, merged.workload_count),
        (vec![("web-1", "a.csv", 2)], 1)
    );
    let policy = beside(POLICY, &[file], Resolved::new());
    assert_eq!(
        told(&policy.workloads)[0],
        "web-1|10.0.1.10/32||app=shop role=web|1"
    );
}

#[test]
fn conflicts_name_both_sides_and_both_places() {
    let one = read("name,addresses\na,10.0.5.0/24\nb,10.0.6.1\n", "one.csv");
    let two = read(
        "name,addresses\nc,10.0.7.7;10.0.5.9\nb,10.0.6.2\nd,10.0.1.10\n",
        "two.csv",
    );
    let own = policy::load(POLICY, "p.toml", TODAY).unwrap();
    let found = merge(&own.workloads, "p.toml", &[one, two]).unwrap_err();
    let told: Vec<String> = found.iter().map(ToString::to_string).collect();
    let mend = "\n    remove one of the two; the inventory that was good before stays in force";
    let lines = [
        "two.csv:2:12: error: workload `c`: address 10.0.5.9 belongs to workload `a` (one.csv:2) as well",
        "two.csv:3:1: error: workload `b` is in one.csv:3 as well; a name stands in one inventory file only",
        "two.csv:4:3: error: workload `d`: address 10.0.1.10 belongs to workload `web-1` (p.toml:1) as well",
    ];
    assert_eq!(told, [lines.map(|line| format!("{line}{mend}")).join("\n")]);
}

#[test]
fn a_workload_has_the_addresses_of_its_dns_names() {
    let text = POLICY.replace(
        "[\"10.0.1.10\"]",
        "[]\ndns = [\"Web.Example.\", \"other.example\"]",
    );
    assert_eq!(
        policy::load(&text, "p.toml", TODAY).unwrap().workloads[0].addresses,
        []
    );
    let ip = |text: &str| text.parse::<std::net::IpAddr>().unwrap();
    let resolved = Resolved::from([
        (
            "web.example".to_owned(),
            vec![ip("10.0.1.77"), ip("2001:db8::77")],
        ),
        ("nobody.example".to_owned(), vec![ip("10.0.1.78")]),
    ]);
    let policy = beside(&text, &[], resolved);
    let expected =
        "web-1|10.0.1.77/32 2001:db8::77/128|web.example other.example|app=shop role=web|1";
    assert_eq!(told(&policy.workloads), [expected]);
    assert_eq!(policy.workloads[0].resolved_count, 2);
    let names = policy::dns_names(&policy);
    assert_eq!(
        names.into_iter().collect::<Vec<_>>(),
        ["other.example", "web.example"]
    );
}

#[test]
fn an_address_that_was_resolved_gives_way_to_one_that_is_written() {
    let text = format!(
        "{POLICY}[[workload]]\nname = \"x\"\ndns = [\"x.example\"]\nlabels = {{ role = \"db\" }}\n\
         [[workload]]\nname = \"y\"\ndns = [\"x.example\"]\nlabels = {{ role = \"db\" }}\n"
    );
    let ip = |text: &str| text.parse::<std::net::IpAddr>().unwrap();
    let both = vec![ip("10.0.1.10"), ip("10.0.8.8")];
    let policy = beside(&text, &[], Resolved::from([("x.example".to_owned(), both)]));
    let told = told(&policy.workloads);
    assert_eq!(
        told[1..],
        [
            "x|10.0.8.8/32|x.example|role=db|26",
            "y||x.example|role=db|30"
        ]
    );
    let warnings: Vec<String> = policy
        .warnings
        .iter()
        .map(|w| w.problem.to_string())
        .collect();
    assert_eq!(
        warnings,
        [
            "workload `x`: x.example stands for 10.0.1.10, which is workload `web-1`'s (line 1)",
            "workload `y`: x.example stands for 10.0.1.10, which is workload `web-1`'s (line 1)",
            "workload `y`: x.example stands for 10.0.8.8, which is workload `x`'s (line 26)",
        ]
    );
}

#[test]
fn a_workload_without_any_address_compiles() {
    let text = POLICY.replace("addresses = [\"10.0.1.10\"]", "dns = [\"web.example\"]");
    let policy = policy::load(&text, "p.toml", TODAY).unwrap();
    assert!(compile(&policy, 1, TODAY).is_ok());
}

#[test]
fn a_list_is_brought_into_a_policy_and_nothing_else_changes() {
    let own = policy::load(POLICY, "p.toml", TODAY).unwrap().workloads;
    let list = read(
        "name,addresses,labels,dns\nweb-1,10.0.1.10;10.0.1.11,role=web,\ndb-1,10.0.2.20,role=db,db.example\n",
        "a.csv",
    );
    let import = policy::import(POLICY, &own, &list.workloads, false).unwrap();
    assert_eq!(
        (&*import.added, &*import.changed),
        (&["db-1".to_owned()][..], &["web-1".to_owned()][..])
    );
    let after = policy::load(&import.text, "p.toml", TODAY).unwrap();
    assert_eq!(
        told(&after.workloads),
        [
            "web-1|10.0.1.10/32 10.0.1.11/32||role=web|1",
            "db-1|10.0.2.20/32|db.example|role=db|6",
        ]
    );
    assert_eq!(after.rules.len(), 1);
    let again = policy::import(&import.text, &after.workloads, &list.workloads, true).unwrap();
    assert_eq!((again.same_count, again.text), (2, import.text.clone()));
    let fewer = read(
        "name,addresses,labels,dns\ndb-1,10.0.2.20,role=db,db.example\n",
        "a.csv",
    );
    let fewer = policy::import(&import.text, &after.workloads, &fewer.workloads, true).unwrap();
    assert_eq!(fewer.removed, ["web-1"]);
    assert_eq!(
        policy::load(&fewer.text, "p.toml", TODAY)
            .unwrap()
            .workloads
            .len(),
        1
    );
}

/// A workload that any inventory may have.
fn workload() -> impl Strategy<Value = (u8, Vec<u8>, bool, bool)> {
    (
        0..12_u8,
        prop::collection::vec(0..60_u8, 1..3),
        any::<bool>(),
        any::<bool>(),
    )
}

fn csv(workloads: &[(u8, Vec<u8>, bool, bool)]) -> String {
    let mut text = "name,addresses,labels,dns\n".to_owned();
    for (name, addresses, is_db, dns) in workloads {
        let addresses: Vec<_> = addresses
            .iter()
            .map(|last| format!("10.9.0.{last}"))
            .collect();
        let role = if *is_db { "db" } else { "web" };
        let dns = if *dns {
            format!("n{name}.example")
        } else {
            String::new()
        };
        text += &format!("w{name},{},role={role},{dns}\n", addresses.join(";"));
    }
    text
}

proptest! {
    /// One loader that remembers gives what loaders that remember nothing give, whatever moves.
    #[test]
    fn moves_are_loaded_as_if_nothing_were_remembered(
        steps in prop::collection::vec((prop::collection::vec(workload(), 0..6), 0..60_u8), 1..6)
    ) {
        let mut remembers = Loader::new();
        for (workloads, resolved) in steps {
            let Ok(file) = InventoryFile::read(&csv(&workloads), "a.csv") else {
                continue;
            };
            let own = policy::load(POLICY, "p.toml", TODAY).unwrap();
            let tables = merge(&own.workloads, "p.toml", &[file]).unwrap().tables;
            let name = format!("n{}.example", resolved % 12);
            let resolved = Resolved::from([(name, vec![[10, 9, 0, resolved].into()])]);
            let inventory = Inventory { tables, resolved };
            let now = remembers.load_with(POLICY, &inventory, "p.toml", TODAY).unwrap();
            let anew = Loader::new().load_with(POLICY, &inventory, "p.toml", TODAY).unwrap();
            prop_assert_eq!(format!("{now:?}"), format!("{anew:?}"));
        }
    }

    #[test]
    fn no_text_makes_the_reader_of_csv_fail(text in "[a-c,;=\"\n\r#0-9. ]{0,80}") {
        let _ = InventoryFile::read(&text, "a.csv");
        let _ = InventoryFile::read(&format!("name,addresses,labels\n{text}"), "a.csv");
    }
}
