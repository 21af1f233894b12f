//! Header blocks: names and values, compressed with one state for the whole session and a dictionary that both sides
//! know.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

/// Names (in lower case) and values.
pub type Headers = Vec<(String, String)>;

/// The largest block, decompressed.
const MAX_BLOCK_BYTES: usize = 64 * 1024;

/// The words of the protocol's dictionary that stand there with their lengths.
const WORDS: &str = "options head post put delete trace accept accept-charset accept-encoding accept-language \
    accept-ranges age allow authorization cache-control connection content-base content-encoding content-language \
    content-length content-location content-md5 content-range content-type date etag expect expires from host if-match \
    if-modified-since if-none-match if-range if-unmodified-since last-modified location max-forwards pragma \
    proxy-authenticate proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade \
    user-agent vary via warning www-authenticate method get status 200_OK version HTTP/1.1 url public set-cookie \
    keep-alive origin";

/// What follows them as it is.
const TAIL: &str = "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505\
    203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden\
    404 Not Found500 Internal Server Error501 Not Implemented503 Service Unavailable\
    Jan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMT\
    chunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,text/javascript,\
    publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0.";

pub(super) fn dictionary() -> Vec<u8> {
    let mut dictionary = Vec::with_capacity(1423);
    for word in WORDS.split(' ') {
        let word = word.replace('_', " ");
        dictionary.extend_from_slice(&(word.len() as u32).to_be_bytes());
        dictionary.extend_from_slice(word.as_bytes());
    }
    dictionary.extend_from_slice(TAIL.as_bytes());
    dictionary
}

/// Reads the blocks of one direction, in order.
pub(super) struct HeaderReader(Decompress);

impl HeaderReader {
    pub(super) fn new() -> Self {
        Self(Decompress::new(true))
    }

    /// Reads one block.
    pub(super) fn read(&mut self, block: &[u8]) -> Result<Headers, &'static str> {
        parse(&self.decompress(block)?).ok_or("a header block is malformed")
    }

    fn decompress(&mut self, block: &[u8]) -> Result<Vec<u8>, &'static str> {
        let mut out = Vec::with_capacity(4 * 1024);
        let mut rest = block;
        loop {
            if out.len() == out.capacity() {
                if out.len() >= MAX_BLOCK_BYTES {
                    return Err("a header block is too large");
                }
                out.reserve(4 * 1024);
            }
            let (read, written) = (self.0.total_in(), out.len());
            match self.0.decompress_vec(rest, &mut out, FlushDecompress::Sync) {
                Ok(Status::StreamEnd) => return Err("the header compression was ended"),
                Ok(_) => {}
                Err(error) if error.needs_dictionary().is_some() => {
                    self.0.set_dictionary(&dictionary()).map_err(|_| "another header dictionary")?;
                }
                Err(_) => return Err("a header block cannot be decompressed"),
            }
            rest = &rest[(self.0.total_in() - read) as usize..];
            if rest.is_empty() && out.len() < out.capacity() {
                return Ok(out);
            }
            if self.0.total_in() == read && out.len() == written && out.len() < out.capacity() && read > 0 {
                return Err("a header block cannot be decompressed");
            }
        }
    }
}

fn parse(block: &[u8]) -> Option<Headers> {
    let mut rest = block;
    let number = |rest: &mut &[u8]| {
        let (bytes, after) = rest.split_first_chunk::<4>()?;
        *rest = after;
        usize::try_from(u32::from_be_bytes(*bytes)).ok()
    };
    let count = number(&mut rest)?;
    let mut headers = Vec::new();
    for _ in 0..count {
        let mut text = || {
            let length = number(&mut rest)?;
            let (bytes, after) = rest.split_at_checked(length)?;
            rest = after;
            String::from_utf8(bytes.to_vec()).ok()
        };
        let name = text()?.to_ascii_lowercase();
        headers.push((name, text()?));
    }
    Some(headers)
}

/// Writes the blocks of the other direction.
pub(super) struct HeaderWriter(Option<Compress>);

impl HeaderWriter {
    pub(super) fn new() -> Self {
        let mut compress = Compress::new(Compression::fast(), true);
        // Invariant: a fresh compressor takes a dictionary.
        let ready = compress.set_dictionary(&dictionary()).is_ok();
        Self(ready.then_some(compress))
    }

    /// Appends a block without headers: replies say nothing more.
    pub(super) fn write_none(&mut self, out: &mut Vec<u8>) {
        self.write(&Vec::new(), out);
    }

    pub(super) fn write(&mut self, headers: &Headers, out: &mut Vec<u8>) {
        let mut block = (headers.len() as u32).to_be_bytes().to_vec();
        for text in headers.iter().flat_map(|(name, value)| [name, value]) {
            block.extend_from_slice(&(text.len() as u32).to_be_bytes());
            block.extend_from_slice(text.as_bytes());
        }
        let Some(compress) = &mut self.0 else { return };
        out.reserve(block.len() + 256);
        // Invariant: what was reserved holds any block of ours, so one call writes and flushes it all.
        let _ = compress.compress_vec(&block, out, FlushCompress::Sync);
    }
}
