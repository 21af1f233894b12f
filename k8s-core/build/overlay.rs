//! The overlay files: what the typed layer's JSON schemas do not say.
//!
//! One file per API group, one line per field:
//!
//! ```text
//! # a comment
//! package io.k8s.api.core
//! v1.Container
//!   *      atomic
//!   name   1 required
//!   ports  6 list=map keys=containerPort,protocol patch=merge key=containerPort
//! ```
//!
//! The struct's name continues the package's; the line `*` is about the struct itself; a lone number is the field's
//! number in protobuf. `src/schema/text.rs` says what each word means.

use std::{collections::BTreeMap, fs, path::Path};

use serde_json::{Value, json};

/// All overlay files.
#[derive(Default)]
pub struct Overlay {
    /// Struct, then field (or `*`), to its line.
    structs: BTreeMap<String, BTreeMap<String, Line>>,
}

struct Line {
    rules: String,
    whence: String,
}

impl Overlay {
    /// Reads every `*.overlay` of a directory.
    pub fn read(directory: &Path) -> Result<Self, String> {
        let mut overlay = Self::default();
        let entries = fs::read_dir(directory).map_err(|why| format!("{}: {why}", directory.display()))?;
        let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "overlay"));
        paths.sort();
        for path in paths {
            let text = fs::read_to_string(&path).map_err(|why| format!("{}: {why}", path.display()))?;
            overlay.add(&path.display().to_string(), &text)?;
        }
        Ok(overlay)
    }

    /// Adds the lines of one file; `path` is what messages call it.
    pub fn add(&mut self, path: &str, text: &str) -> Result<(), String> {
        let (mut package, mut current) = (String::new(), None);
        for (number, line) in text.lines().enumerate() {
            let whence = format!("{path}:{}", number + 1);
            let words: Vec<&str> = line.split_whitespace().collect();
            match (line.starts_with(' '), words.as_slice()) {
                (_, []) => {}
                (_, [word, ..]) if word.starts_with('#') => {}
                (false, ["package", name]) => package = (*name).to_owned(),
                (false, [name]) => {
                    let name = format!("{package}.{name}");
                    if self.structs.insert(name.clone(), BTreeMap::new()).is_some() {
                        return Err(format!("{whence}: {name} stands here twice"));
                    }
                    current = Some(name);
                }
                (true, [field, rules @ ..]) => {
                    let current = current.as_ref().ok_or_else(|| format!("{whence}: a field without its struct"))?;
                    let fields = self.structs.entry(current.clone()).or_default();
                    let line = Line { rules: rules.join(" "), whence: whence.clone() };
                    if fields.insert((*field).to_owned(), line).is_some() {
                        return Err(format!("{whence}: {field} stands here twice"));
                    }
                }
                _ => return Err(format!("{whence}: expected `package NAME`, `STRUCT` or an indented field line")),
            }
        }
        Ok(())
    }

    /// Fails when a line names what the structure does not have.
    pub fn check(&self, definitions: &BTreeMap<String, Value>) -> Result<(), String> {
        for (name, fields) in &self.structs {
            let schema = definitions.get(name).ok_or_else(|| format!("overlay: there is no struct {name}"))?;
            for (field, line) in fields {
                if field != "*" && schema.get("properties").and_then(|known| known.get(field)).is_none() {
                    return Err(format!("{}: {name} has no field {field}", line.whence));
                }
            }
        }
        Ok(())
    }

    /// The rules of a field, or of the struct itself for `*`; empty if there are none.
    pub fn rules(&self, name: &str, field: &str) -> &str {
        self.structs.get(name).and_then(|fields| fields.get(field)).map_or("", |line| &line.rules)
    }

    /// What the OpenAPI document says of these rules.
    pub fn extensions(&self, name: &str, field: &str) -> Vec<(String, Value)> {
        let mut found = Vec::new();
        for word in self.rules(name, field).split_whitespace() {
            let (key, value) = word.split_once('=').unwrap_or((word, ""));
            let (extension, value) = match key {
                "list" => ("list-type", json!(value)),
                "keys" => ("list-map-keys", json!(value.split(',').collect::<Vec<_>>())),
                "patch" => ("patch-strategy", json!(value)),
                "key" => ("patch-merge-key", json!(value)),
                "atomic" => ("map-type", json!("atomic")),
                _ => continue,
            };
            found.push((format!("x-kubernetes-{extension}"), value));
        }
        found
    }
}
