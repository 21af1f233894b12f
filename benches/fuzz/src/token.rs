//! Service account tokens: what we sign we know again, and nothing else.

use std::{cell::OnceCell, sync::Arc};

use k8s_apiserver::auth::{
    Follower, TokenClaims, TokenIssuer,
    bearer::{Known, TokenAuthenticator},
    token::{ServiceAccountTokens, SigningKey},
};
use k8s_core::{doc, object::Object};

use crate::quiet::Quiet;

/// A token; or, behind a letter and a number, what to claim and how to change what was signed.
pub fn run(input: &[u8]) {
    thread_local!(static TOKENS: OnceCell<Tokens> = const { OnceCell::new() });
    TOKENS.with(|tokens| tokens.get_or_init(Tokens::new).check(input));
}

struct Tokens {
    quiet: Quiet,
    tokens: ServiceAccountTokens,
    valid: String,
}

impl Tokens {
    fn new() -> Self {
        let quiet = Quiet::new();
        let key = SigningKey::from_der(KEY).unwrap_or_else(|why| panic!("{why}"));
        let tokens =
            ServiceAccountTokens::new(quiet.env.clone(), &key, "https://issuer").unwrap_or_else(|why| panic!("{why}"));
        let mut account = doc!({"metadata": {"name": "a", "namespace": "n", "uid": "u"}});
        let account = Arc::new(Object::from_doc(&mut account, 1).unwrap_or_else(|why| panic!("{why}")));
        tokens.changed("", "serviceaccounts", &account.meta.key(), Some(&account));
        let valid = issued(&tokens, &own());
        Self { quiet, tokens, valid }
    }

    fn check(&self, input: &[u8]) {
        match input {
            [b'c', rest @ ..] => self.claimed(rest),
            [b't', at, change, ..] => self.tampered(usize::from(*at) * 2 + usize::from(*change & 1), *change),
            _ => {
                let Ok(text) = std::str::from_utf8(input) else { return };
                assert!(self.known(text, &own()).is_none(), "somebody made up a token");
                let (signed, signature) = self.valid.rsplit_once('.').unwrap_or_default();
                let spliced = self.known(&format!("{text}.{signature}"), &own());
                assert!(text == signed || spliced.is_none(), "a signature fits twice");
            }
        }
    }

    fn claimed(&self, rest: &[u8]) {
        let Ok(text) = std::str::from_utf8(rest) else { return };
        let audiences: Vec<String> = text.lines().map(str::to_owned).collect();
        let token = issued(&self.tokens, &audiences);
        let wanted = if audiences.is_empty() { own() } else { audiences };
        let known = self.known(&token, &wanted).unwrap_or_else(|| panic!("we do not know {token}"));
        assert_eq!(known.caller.name, "system:serviceaccount:n:a");
        assert_eq!(known.audiences, wanted);
        let other = vec![wanted.concat() + "x"];
        assert!(self.known(&token, &other).is_none(), "it is for somebody else");
    }

    /// Whom a token stands for, with any of these audiences.
    fn known(&self, token: &str, audiences: &[String]) -> Option<Known> {
        self.quiet.run(self.tokens.authenticate(token, audiences)).ok().flatten()
    }

    /// One letter is another one.
    fn tampered(&self, at: usize, change: u8) {
        const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.=+/";
        let (letter, mut bytes) = (LETTERS[usize::from(change) % LETTERS.len()], self.valid.clone().into_bytes());
        let place = at % bytes.len();
        if std::mem::replace(&mut bytes[place], letter) == letter {
            return;
        }
        let text = String::from_utf8_lossy(&bytes);
        assert!(self.known(&text, &own()).is_none(), "letter {place} does not matter");
    }
}

/// The audience of tokens that name none.
fn own() -> Vec<String> {
    vec!["https://issuer".to_owned()]
}

fn issued(tokens: &ServiceAccountTokens, audiences: &[String]) -> String {
    let claims = TokenClaims {
        namespace: "n".into(),
        service_account: "a".into(),
        uid: "u".into(),
        audiences: audiences.to_vec(),
        seconds: 3600,
        ..TokenClaims::default()
    };
    tokens.issue(&claims).unwrap_or_else(|why| panic!("{why}")).0
}

/// A key that signs nothing but these tokens.
const KEY: &[u8] = &[
    0x30, 0x81, 0x87, 0x02, 0x01, 0x00, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08,
    0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x04, 0x6d, 0x30, 0x6b, 0x02, 0x01, 0x01, 0x04, 0x20, 0xe8, 0xf1,
    0x49, 0x7e, 0xc1, 0x01, 0x69, 0xeb, 0x07, 0x70, 0x80, 0x7c, 0xed, 0xc0, 0x52, 0x5c, 0x34, 0x22, 0x09, 0xb3, 0xe2,
    0x8e, 0x99, 0xee, 0xeb, 0x17, 0xb0, 0x78, 0xce, 0xba, 0x2c, 0x63, 0xa1, 0x44, 0x03, 0x42, 0x00, 0x04, 0x55, 0xa1,
    0x2b, 0xbe, 0x7f, 0x52, 0x93, 0xc0, 0x4b, 0x53, 0x13, 0xa8, 0x3d, 0x00, 0x0f, 0x4c, 0xbc, 0x79, 0xd5, 0xbb, 0xc0,
    0x5c, 0x49, 0xcf, 0x65, 0xbf, 0x60, 0x8f, 0xbe, 0xb6, 0xa4, 0x31, 0xb6, 0xcd, 0x87, 0xe1, 0x6a, 0xf8, 0x42, 0x37,
    0x13, 0xc4, 0x4a, 0xbe, 0xf3, 0x26, 0x4b, 0x27, 0x3f, 0x82, 0xb8, 0xeb, 0xf2, 0xe0, 0x83, 0xe6, 0x9f, 0xf5, 0xe2,
    0x7a, 0xef, 0xd4, 0x61, 0x77,
];
