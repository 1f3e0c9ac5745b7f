//! The bearer token: who carries it may ask.

use std::fmt;
use std::hint::black_box;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use sha2::{Digest as _, Sha256};

use super::answer::Trouble;

/// A bearer token. Kept as its hash, and compared in constant time; `Debug`
/// shows nothing of it.
///
/// ```
/// use decnet_lifecycle::http::Token;
///
/// let token = Token::parse("0123456789abcdef0123456789abcdef")?;
/// assert!(token.is("0123456789abcdef0123456789abcdef") && !token.is("0123"));
/// assert!(Token::parse("").is_err());
/// # Ok::<(), decnet_lifecycle::http::TokenError>(())
/// ```
#[derive(Clone)]
pub struct Token {
    hash: [u8; 32],
    place: Option<Arc<str>>,
}

/// The text is no token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "a token is {} or more visible ASCII characters, as random as a key; make one of 32 random bytes in hex",
    Token::MIN
)]
pub struct TokenError(());

impl Token {
    /// The fewest characters of a token: 32.
    pub const MIN: usize = 32;

    /// The token that this text is, without spaces around it.
    ///
    /// # Errors
    /// [`TokenError`]: it is shorter than [`Token::MIN`], or no header can
    /// carry it.
    pub fn parse(text: &str) -> Result<Self, TokenError> {
        let text = text.trim();
        if text.len() < Self::MIN || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(TokenError(()));
        }
        Ok(Self { hash: Sha256::digest(text).into(), place: None })
    }

    /// Where whoever may have the token finds it, as a request without it is
    /// told, such as `a file of the master's`.
    #[must_use]
    pub fn found_in(mut self, place: &str) -> Self {
        self.place = Some(place.into());
        self
    }

    /// Whether this text is the token. It takes no longer the more of it is
    /// right.
    #[must_use]
    pub fn is(&self, text: &str) -> bool {
        let other: [u8; 32] = Sha256::digest(text).into();
        // All of both, whatever comes first.
        let differs = self.hash.iter().zip(&other).fold(0, |differs, (a, b)| black_box(differs | (a ^ b)));
        differs == 0
    }

    /// These routes, for requests with `Authorization: Bearer TOKEN`; all
    /// others are answered 401 before a byte of a body is read.
    pub fn guard(self, routes: Router) -> Router {
        routes.layer(from_fn_with_state(self, carried))
    }

    fn is_in(&self, headers: &HeaderMap) -> bool {
        let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let given = given.and_then(|value| value.split_once(' '));
        given.is_some_and(|(scheme, token)| scheme.eq_ignore_ascii_case("bearer") && self.is(token.trim()))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").finish_non_exhaustive()
    }
}

async fn carried(State(token): State<Token>, request: Request, next: Next) -> Response {
    if token.is_in(request.headers()) {
        return next.run(request).await;
    }
    let mut detail = "Authorization: Bearer TOKEN is asked for".to_owned();
    if let Some(place) = &token.place {
        detail.push_str("; the token is in ");
        detail.push_str(place);
    }
    let mut response = Trouble::new(StatusCode::UNAUTHORIZED, detail).into_response();
    response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    response
}
