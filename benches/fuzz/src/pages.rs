//! Continue tokens: one that is taken says the same when it is written again.

use k8s_apiserver::cache::Token;

pub fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    match Token::decode(text) {
        Ok(token) => assert_eq!(Token::decode(&token.encode()).ok(), Some(token)),
        Err(why) => assert_eq!(why.code(), 400),
    }
}
