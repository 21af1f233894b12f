//! Canonical forms by example, arithmetic by property.

use proptest::prelude::*;

use super::*;

#[test]
fn canonical_forms() {
    let cases = [
        ("0", "0"),
        ("0.0", "0"),
        ("0Ki", "0"),
        ("-0", "0"),
        ("+1", "1"),
        ("1.", "1"),
        (".5", "500m"),
        ("0.5", "500m"),
        ("1.5", "1500m"),
        ("100m", "100m"),
        ("1000m", "1"),
        ("1500m", "1500m"),
        ("1000", "1k"),
        ("1234", "1234"),
        ("10000k", "10M"),
        ("1e3", "1e3"),
        ("1e2", "100"),
        ("100e3", "100e3"),
        ("1E3", "1e3"),
        ("1E-3", "1e-3"),
        ("1e-1", "100e-3"),
        ("1E", "1E"),
        ("0.001E", "1P"),
        ("1Ki", "1Ki"),
        ("1024Ki", "1Mi"),
        ("1.5Gi", "1536Mi"),
        ("0.5Gi", "512Mi"),
        ("0.5Ki", "512"),
        ("1.3Ki", "1331200m"),
        ("1.5Ki", "1536"),
        ("1024", "1024"),
        ("-1.5Gi", "-1536Mi"),
        ("-500m", "-500m"),
        ("0.1n", "1n"),
        ("-0.1n", "-1n"),
        ("0.0000000001", "1n"),
        ("1u", "1u"),
        ("1000n", "1u"),
        ("9223372036854775807", "9223372036854775807"),
        ("9223372036854775808", "9223372036854775807"),
        ("99999999999999999999999", "9223372036854775807"),
        ("100E", "9223372036854775807"),
        ("100Ei", "9223372036854775807"),
        ("0000001", "1"),
        ("1.10", "1100m"),
    ];
    for (text, expected) in cases {
        let quantity = Quantity::parse(text).unwrap_or_else(|why| panic!("{why}"));
        assert_eq!(quantity.to_string(), expected, "{text}");
        assert_eq!(Quantity::parse(expected).unwrap(), quantity, "{text}");
    }
}

#[test]
fn refuses_what_is_no_quantity() {
    let texts = [
        "",
        ".",
        "-",
        "+",
        "x",
        "1x",
        "1ki",
        "1K",
        "1mi",
        "1e",
        "1e+",
        "1e1.5",
        "1.2.3",
        " 1",
        "1 ",
        "--1",
        "1E9999",
        "1e-9999",
        "0.0000000001n",
        "1e99999999999",
        "٣",
        "1_000",
        "0x10",
        "Ki",
        "1KiKi",
    ];
    for text in texts {
        assert!(Quantity::parse(text).is_err(), "{text:?} was read as {:?}", Quantity::parse(text));
    }
    let said = Quantity::parse("1x").unwrap_err().to_string();
    assert_eq!(said, r#""1x" is no quantity: expected a number with an optional suffix, such as 500m, 1.5Gi or 1e3"#);
}

#[test]
fn rounds_away_from_zero() {
    let small = Quantity::parse("1u").unwrap();
    assert_eq!((small.value(), small.milli_value(), small.round_up_to_milli().to_string()), (1, 1, "1m".into()));
    assert_eq!(((-small).value(), (-small).milli_value()), (-1, -1));
    assert_eq!(Quantity::parse("1.5").unwrap().value(), 2);
}

#[test]
fn long_texts_are_bounded() {
    let digits = "9".repeat(1_000_000);
    assert_eq!(Quantity::parse(&digits).unwrap().value(), i64::MAX);
    assert!(Quantity::parse(&format!("0.{digits}")).is_err());
    assert!(Quantity::parse(&format!("{digits}x")).unwrap_err().to_string().len() < 200);
}

proptest! {
    #[test]
    fn canonical_form_reads_back(text in "[+-]?[0-9]{1,6}(\\.[0-9]{0,4})?(n|u|m|k|M|G|Ki|Mi|Gi|e[+-]?[0-9])?") {
        let quantity = Quantity::parse(&text).unwrap();
        let canonical = quantity.to_string();
        let back = Quantity::parse(&canonical).unwrap();
        prop_assert_eq!(back, quantity);
        prop_assert_eq!(back.to_string(), canonical);
    }

    #[test]
    fn adds_and_compares_exactly(a in -1_000_000_000i64..1_000_000_000, b in -1_000_000_000i64..1_000_000_000) {
        let (left, right) = (Quantity::from_milli(a, Format::DecimalSi), Quantity::from_milli(b, Format::DecimalSi));
        prop_assert_eq!(left + right, Quantity::from_milli(a + b, Format::DecimalSi));
        prop_assert_eq!(left - right, Quantity::from_milli(a - b, Format::DecimalSi));
        prop_assert_eq!(left.cmp(&right), a.cmp(&b));
        prop_assert_eq!(left.milli_value(), a);
    }

    #[test]
    fn never_panics(text in ".{0,40}") {
        let _ = Quantity::parse(&text);
    }
}
