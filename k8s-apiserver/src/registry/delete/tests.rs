//! What a deletion decides, as data.
