//! Server-side apply: whoever applies the same again changes nothing, and owners are kept in a form that reads back.

use k8s_core::{
    apply::{FieldSet, Manager, Operation, apply_configuration, track_update},
    doc::Doc,
    env::Timestamp,
    structure::{Mode, check},
};

use crate::samples::{Sample, sample};

/// A manager of a sample's kind.
pub fn manager(name: &str, sample: &Sample) -> Manager {
    Manager {
        name: name.into(),
        operation: Operation::Apply,
        api_version: sample.api_version.into(),
        subresource: String::new(),
        time: Timestamp::UNIX_EPOCH,
    }
}

/// A letter chooses the sample, then come configurations. Each begins with a letter that says who writes it and how: `a`
/// and `b` apply, `A` and `B` with force, anything else updates.
pub fn run(input: &[u8]) {
    let [choice, rest @ ..] = input else { return };
    let sample = sample(*choice);
    let mut live: Option<Doc> = None;
    for part in crate::parts(rest).into_iter().take(8) {
        let [how, text @ ..] = part else { continue };
        let Ok(mut written) = Doc::parse(text) else { continue };
        if written.as_object().is_none() || written.get("metadata").is_some_and(|of| of.as_object().is_none()) {
            continue;
        }
        written.set_at(&["metadata", "name"], "a".into());
        let next = match how {
            b'a' | b'b' | b'A' | b'B' => applied(live.as_ref(), written, *how, sample),
            _ => updated(live.as_ref(), written, sample),
        };
        live = next.or(live);
    }
}

fn applied(live: Option<&Doc>, mut configuration: Doc, how: u8, sample: &Sample) -> Option<Doc> {
    let name = char::from(how.to_ascii_lowercase()).to_string();
    let (manager, force) = (manager(&name, sample), how.is_ascii_uppercase());
    if !check(&sample.schema, &mut configuration, Mode::Partial).wrong.is_empty() {
        return None;
    }
    let apply = |live: Option<&Doc>, force| apply_configuration(live, &configuration, &sample.schema, &manager, force);
    let new = match apply(live, force) {
        Ok(new) => new,
        Err(why) => {
            assert!(why.code() == 400 || why.code() == 409 && !force, "{why}");
            return None;
        }
    };
    owners(&new);
    if new.at(&["metadata", "managedFields"]).is_none() {
        // Nobody owns anything, so that whoever applies next takes the object for one that nobody tracked.
        return Some(new);
    }
    let again = apply(Some(&new), false).unwrap_or_else(|why| panic!("it was applied, but not again: {why}"));
    assert_eq!(full(&again), full(&new), "the same configuration, applied again");
    Some(new)
}

fn updated(live: Option<&Doc>, mut new: Doc, sample: &Sample) -> Option<Doc> {
    if !check(&sample.schema, &mut new, Mode::Whole).wrong.is_empty() {
        return None;
    }
    let manager = Manager { operation: Operation::Update, ..manager("u", sample) };
    track_update(live, &mut new, &sample.schema, &manager);
    owners(&new);
    let mut again = new.clone();
    track_update(Some(&new), &mut again, &sample.schema, &manager);
    assert_eq!(again, new, "the same update again");
    Some(new)
}

/// A document without what is empty: nobody owns an empty list, so that it may go with what was around it, and come
/// back the next time.
fn full(doc: &Doc) -> Doc {
    let says_something = |doc: &Doc| match doc {
        Doc::Null => false,
        Doc::Array(items) => !items.is_empty(),
        Doc::Object(fields) => !fields.is_empty(),
        _ => true,
    };
    match doc {
        Doc::Array(items) => Doc::Array(items.iter().map(full).collect()),
        Doc::Object(fields) => {
            let fields = fields.iter().map(|(name, value)| (name.to_owned(), full(value)));
            Doc::Object(fields.filter(|(_, value)| says_something(value)).collect())
        }
        other => other.clone(),
    }
}

/// Every entry that we wrote reads back as itself.
fn owners(doc: &Doc) {
    for entry in doc.at(&["metadata", "managedFields"]).map_or(&[][..], Doc::items) {
        let Some(fields) = entry.get("fieldsV1") else { continue };
        let set = FieldSet::decode(fields);
        assert_eq!(FieldSet::decode(&set.encode()), set);
    }
}
