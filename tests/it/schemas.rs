//! What the tool writes as JSON against docs/schemas, which are closed for that: a field that no schema names is a defect.

use std::path::{Path, PathBuf};

use serde_json::Value;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/schemas")
}

/// The schema of a document that says `name/number` of itself.
fn schema(name: &str) -> Value {
    let path = folder().join(format!("{}.schema.json", name.replace('/', "-")));
    let text = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).expect("JSON")
}

/// Forbids what the schema does not name, wherever it names something.
fn close(schema: &mut Value) {
    match schema {
        Value::Object(entries) => {
            if entries.get("properties").is_some_and(Value::is_object) {
                entries.entry("additionalProperties").or_insert(Value::Bool(false));
            }
            entries.values_mut().for_each(close);
        }
        Value::Array(entries) => entries.iter_mut().for_each(close),
        _ => {}
    }
}

/// What of a document its schema does not allow.
fn faults(document: &Value) -> Vec<String> {
    let name = document["schema"].as_str().expect("a document names its schema");
    let mut schema = schema(name);
    close(&mut schema);
    let validator = jsonschema::draft202012::new(&schema).expect("a schema");
    validator.iter_errors(document).map(|it| format!("{}: {it}", it.instance_path())).collect()
}

/// Holds a document against its schema.
#[track_caller]
pub(crate) fn assert_valid(document: &Value) {
    let faults = faults(document);
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn every_schema_is_one_and_finds_what_is_missing_new_or_of_another_type() {
    let mut count = 0;
    for entry in std::fs::read_dir(folder()).expect("readable") {
        let path = entry.expect("readable").path();
        let text = std::fs::read_to_string(&path).expect("readable");
        let schema: Value = serde_json::from_str(&text).expect("JSON");
        assert!(jsonschema::draft202012::meta::is_valid(&schema), "{}", path.display());
        let name = schema["properties"]["schema"]["const"].as_str().expect("its name");
        assert_eq!(schema["$id"], format!("urn:updp-compile:{}", name.replace('/', "-")));
        count += 1;
    }
    assert!(count >= 5, "{count}");
    let table = serde_json::json!({ "schema": "updp-latency/1", "median_ms": { "a": 1.5 } });
    assert_valid(&table);
    for (field, value) in
        [("median_ms", "fast".into()), ("median_ms", Value::Null), ("new", 1.into())]
    {
        let mut wrong = table.clone();
        wrong[field] = value;
        assert_eq!(faults(&wrong).len(), 1, "{wrong}");
    }
    assert_eq!(faults(&serde_json::json!({ "schema": "updp-latency/1" })).len(), 1);
}

#[test]
fn the_example_in_the_documentation_has_no_field_that_there_is_not() {
    let page = folder().with_file_name("report.md");
    let page = std::fs::read_to_string(page).expect("readable");
    let example =
        page.split("```json").nth(1).and_then(|it| it.split("```").next()).expect("an example");
    let example: Value = serde_json::from_str(example).expect("JSON");
    // It is shortened: only what is there has to be right.
    let faults: Vec<String> =
        faults(&example).into_iter().filter(|it| !it.contains("required property")).collect();
    assert!(faults.is_empty(), "{faults:#?}");
}
