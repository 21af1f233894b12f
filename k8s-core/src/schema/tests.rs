//! The built-in schemas as a whole, and single facts that others rely on.

use super::*;

#[test]
fn every_struct_decodes() {
    let schemas = Schemas::builtin();
    let names: Vec<_> = schemas.names().collect();
    assert!(names.len() > 600, "{}", names.len());
    for name in names {
        let schema = schemas.named(name).unwrap();
        assert_eq!(schema.root().as_struct().unwrap().name(), name);
    }
}
