//! One workload is changed in a text, and nothing else is.

use policy::{EditError, Loader, WorkloadChange, load};

const TODAY: jiff::civil::Date = jiff::civil::date(2026, 11, 22);
const TEXT: &str = "\
# The shop.
[[workload]] # first
name = \"web-1\"
addresses = [\"10.0.1.10\"] # rack 7
labels = { app = \"shop\", role = \"web\" }

# The second one.
[[workload]]
name = \"web-2\"
addresses = [\"10.0.1.11\"]
[workload.labels]
app = \"shop\"

# Segments.
[[segment]]
name = \"shop\"
select = \"app=shop\"
mode = \"enforce\"
";

fn change(addresses: &[&str], labels: &[(&str, Option<&str>)]) -> WorkloadChange {
    WorkloadChange {
        addresses: (!addresses.is_empty())
            .then(|| addresses.iter().map(ToString::to_string).collect()),
        labels: labels
            .iter()
            .map(|(key, value)| (key.to_string(), value.map(str::to_owned)))
            .collect(),
        remove: false,
        ..WorkloadChange::default()
    }
}

/// The text is changed as a known one, by its tables, and as an unknown one, as a whole.
fn changed(name: &str, change: &WorkloadChange) -> Result<String, EditError> {
    let mut known = Loader::new();
    known.load(TEXT, "p.toml", TODAY).expect("valid");
    let by_table = known.set_workload(TEXT, name, change);
    let whole = Loader::new().set_workload(TEXT, name, change);
    assert_eq!(by_table.is_ok(), whole.is_ok());
    if let (Ok(by_table), Ok(whole)) = (&by_table, &whole) {
        let known = known.load(by_table, "p.toml", TODAY).expect("valid");
        assert_eq!(
            format!("{known:?}"),
            format!("{:?}", load(by_table, "p.toml", TODAY).expect("valid"))
        );
        let of = |text: &str| {
            let policy = load(text, "p.toml", TODAY).expect("valid");
            let all: Vec<_> = policy
                .workloads
                .iter()
                .map(|w| (w.name.clone(), w.addresses.clone(), w.labels.clone()))
                .collect();
            all
        };
        assert_eq!(of(by_table), of(whole));
    }
    by_table
}

#[test]
fn an_address_is_changed_where_it_stands() {
    let expected = TEXT.replace("[\"10.0.1.10\"]", "[\"10.0.1.20\", \"2001:db8::1\"]");
    let found = changed("web-1", &change(&["10.0.1.20", "2001:db8::1"], &[]));
    assert_eq!(found.expect("changed"), expected);
}

#[test]
fn labels_are_set_and_taken_away_one_by_one() {
    let found = changed(
        "web-1",
        &change(&[], &[("role", Some("db")), ("app", None)]),
    );
    let found = found.expect("changed");
    assert!(found.contains("labels = { role = \"db\" }"), "{found}");
    let found = changed("web-2", &change(&[], &[("tier", Some("x"))])).expect("changed");
    let expected = TEXT.replace(
        "[workload.labels]\napp = \"shop\"\n",
        "[workload.labels]\napp = \"shop\"\ntier = \"x\"\n",
    );
    assert_eq!(found, expected);
}

#[test]
fn a_new_workload_stands_behind_the_others() {
    let found =
        changed("web-3", &change(&["10.0.1.12"], &[("app", Some("shop"))])).expect("changed");
    let new = "[[workload]]\nname = \"web-3\"\naddresses = [\"10.0.1.12\"]\nlabels = { app = \"shop\" }\n";
    assert!(found.contains(new), "{found}");
    assert_eq!(found.replace(&format!("{new}\n"), ""), TEXT);
}

#[test]
fn a_workload_is_taken_out_with_its_labels() {
    let remove = WorkloadChange {
        remove: true,
        ..WorkloadChange::default()
    };
    let found = changed("web-2", &remove).expect("changed");
    assert!(
        !found.contains("web-2") && found.contains("web-1") && found.contains("# Segments."),
        "{found}"
    );
}

#[test]
fn what_changes_nothing_or_cannot_be_is_said() {
    let remove = WorkloadChange {
        remove: true,
        ..WorkloadChange::default()
    };
    assert_eq!(
        changed("db-1", &remove),
        Err(EditError::NoWorkload("db-1".into()))
    );
    assert_eq!(
        changed("db-1", &change(&[], &[("app", Some("x"))])),
        Err(EditError::NoAddress("db-1".into()))
    );
    let same = change(&["10.0.1.10"], &[("app", Some("shop")), ("none", None)]);
    assert_eq!(
        changed("web-1", &same),
        Err(EditError::Same("web-1".into()))
    );
}
