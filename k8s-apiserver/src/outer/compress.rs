//! Long answers, compressed for clients that take it. Watches are never compressed.

use std::io::Write;

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use http::{HeaderMap, HeaderValue, Response, header};
use k8s_wire::body::Body;

/// Shorter answers are sent as they are: upstream's bound.
pub const MIN_BYTES: usize = 128 * 1024;

/// Whether a client takes gzip.
pub(crate) fn takes_gzip(headers: &HeaderMap) -> bool {
    let encodings = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    encodings.flat_map(|value| value.split(',')).any(|encoding| {
        let mut pieces = encoding.split(';').map(str::trim);
        pieces.next() == Some("gzip") && !pieces.any(|piece| piece == "q=0")
    })
}

/// Says that the body of an answer is compressed.
pub fn mark(response: &mut Response<Body>) {
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    headers.insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
}

/// The pieces of a text, compressed as they come; as fast as gzip can, as upstream does.
pub struct Gzip<I> {
    pieces: I,
    /// `None` after the last piece.
    zip: Option<GzEncoder<Vec<u8>>>,
}

impl<I> Gzip<I> {
    /// Compresses `pieces`.
    pub fn new(pieces: I) -> Self {
        Self { pieces, zip: Some(GzEncoder::new(Vec::new(), Compression::fast())) }
    }
}

impl<I: Iterator<Item = Vec<u8>>> Iterator for Gzip<I> {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        while let Some(mut zip) = self.zip.take() {
            let Some(piece) = self.pieces.next() else {
                // Invariant: writing to memory does not fail.
                return Some(zip.finish().unwrap_or_default().into());
            };
            // Invariant: as above.
            let _ = zip.write_all(&piece);
            let ready = std::mem::take(zip.get_mut());
            self.zip = Some(zip);
            if !ready.is_empty() {
                return Some(ready.into());
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn pieces_come_back_whole() {
        let pieces = (0..2000).map(|n| format!("piece {n}, ").into_bytes());
        let text: Vec<u8> = pieces.clone().flatten().collect();
        let zipped: Vec<u8> = Gzip::new(pieces).flatten().collect();
        assert!(zipped.len() < text.len() / 2);
        let mut unzipped = Vec::new();
        flate2::read::GzDecoder::new(&zipped[..]).read_to_end(&mut unzipped).unwrap();
        assert_eq!(unzipped, text);
    }

    #[test]
    fn gzip_is_for_those_who_say_so() {
        for (value, expected) in [("gzip", true), ("br, gzip;q=0.5", true), ("gzip;q=0", false), ("br", false)] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_ENCODING, value.parse().unwrap());
            assert_eq!(takes_gzip(&headers), expected, "{value}");
        }
        assert!(!takes_gzip(&HeaderMap::new()));
    }
}
