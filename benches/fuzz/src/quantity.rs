//! Quantities: one canonical text per value, and the order of the numbers.

use k8s_core::quantity::Quantity;

pub fn run(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let quantities: Vec<Quantity> = text.split('\n').take(4).filter_map(|line| Quantity::parse(line).ok()).collect();
    for quantity in &quantities {
        canonical(*quantity);
    }
    for pair in quantities.windows(2) {
        ordered(pair[0], pair[1]);
    }
}

fn canonical(quantity: Quantity) {
    let text = quantity.to_string();
    let again = Quantity::parse(&text).unwrap_or_else(|why| panic!("{text} is canonical, but {why}"));
    assert_eq!(again, quantity, "{text} is another value");
    assert_eq!(again.to_string(), text, "the canonical form has a canonical form of its own");
    let rounded = quantity.round_up_to_milli();
    assert!(if quantity.is_negative() { rounded <= quantity } else { rounded >= quantity }, "{text} to {rounded}");
    assert_eq!(rounded.round_up_to_milli(), rounded);
    assert_eq!(-(-quantity), quantity);
    let same = quantity;
    assert_eq!(quantity - same, Quantity::ZERO);
    assert_eq!(quantity.is_zero(), quantity == Quantity::ZERO);
    let whole = Quantity::new(quantity.value(), quantity.format());
    assert!(if quantity.is_negative() { whole <= quantity } else { whole >= quantity }, "{text} to {whole}");
}

fn ordered(a: Quantity, b: Quantity) {
    assert_eq!(a.cmp(&b), b.cmp(&a).reverse());
    assert_eq!((-a).cmp(&-b), b.cmp(&a));
    assert_eq!(a + b, b + a);
    if a <= b {
        assert!(a.value() <= b.value() && a.milli_value() <= b.milli_value(), "{a} and {b}");
        assert!(a.as_f64() <= b.as_f64(), "{a} and {b}");
    }
}
