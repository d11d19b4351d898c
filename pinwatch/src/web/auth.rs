//! HTTP basic authentication with bcrypt hashes, as in Prometheus' exporters. Every path needs it, also
//! `/healthz` and `/readyz`.
//!
//! bcrypt is slow by design. It therefore runs beside the event loop, one call at a time, few requests wait for
//! it, and accepted passwords are remembered. An unknown user takes as long as a wrong password.

#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bcrypt::HashParts;
use ring::hmac;
use ring::rand::SystemRandom;
use tokio::sync::Semaphore;

use super::limits::RETRY;
use super::reload::{Current, Settings};

/// Salt and digest of a random password. An unknown user's password is compared with them.
const DUMMY_DIGEST: &str = "QOauhQNbBCuQDKes6eFzPeMqBSjb7Mr5DUmpZ/VcEd00UAV/LDeSi";
/// Cost of the dummy hash while there is no user: the usual cost of bcrypt.
const DEFAULT_COST: u32 = 10;

/// Requests whose password is being checked or waits for that. Further ones get 503.
const QUEUE: usize = 8;

/// Authentication by the current settings, and their headers for every response.
pub struct Gate {
    current: Arc<Current>,
    /// Held by the call that runs, even if its client is gone.
    bcrypt: Arc<Semaphore>,
    queue: Semaphore,
    /// Keyed hash of the last accepted password of each user.
    known: Mutex<HashMap<String, hmac::Tag>>,
    key: hmac::Key,
}

impl Gate {
    /// Creates a gate with a random key for its hashes.
    ///
    /// # Errors
    ///
    /// If the system has no random numbers.
    pub fn new(current: Arc<Current>) -> anyhow::Result<Self> {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new());
        Ok(Self {
            current,
            bcrypt: Arc::new(Semaphore::new(1)),
            queue: Semaphore::new(QUEUE),
            known: Mutex::default(),
            key: key.map_err(|_| {
                anyhow::anyhow!("the system has no random numbers for a key: check getrandom(2)")
            })?,
        })
    }

    async fn judge(&self, settings: &Settings, headers: &HeaderMap) -> Verdict {
        if settings.users.is_empty() {
            return Verdict::LetIn;
        }
        let Some((user, password)) = credentials(headers) else {
            return Verdict::Refuse;
        };
        let stored = settings.users.get(&user);
        let hash = stored.cloned().unwrap_or_else(|| dummy_hash(settings));
        let tag = self.tag(&user, &hash, &password);
        // The comparison need not take constant time: without the key, a common prefix reveals nothing.
        let is_tag = |known: &hmac::Tag| known.as_ref() == tag.as_ref();
        if self.known().get(&user).is_some_and(is_tag) {
            return Verdict::LetIn;
        }
        let Ok(_place) = self.queue.try_acquire() else {
            return Verdict::Later;
        };
        let Ok(turn) = Arc::clone(&self.bcrypt).acquire_owned().await else {
            return Verdict::Refuse;
        };
        let fits = tokio::task::spawn_blocking(move || {
            let fits = bcrypt::verify(password, &hash).unwrap_or(false);
            drop(turn);
            fits
        });
        let lets_in = fits.await.unwrap_or(false) && stored.is_some();
        if !lets_in {
            return Verdict::Refuse;
        }
        // Bounded: at most one entry per user that the file has ever named.
        self.known().insert(user, tag);
        Verdict::LetIn
    }

    fn known(&self) -> MutexGuard<'_, HashMap<String, hmac::Tag>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tag(&self, user: &str, hash: &str, password: &[u8]) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&self.key);
        // Neither a name nor a hash contains a colon, so the parts are unambiguous.
        for part in [user.as_bytes(), b":", hash.as_bytes(), b":", password] {
            context.update(part);
        }
        context.sign()
    }
}

/// What becomes of a request.
enum Verdict {
    LetIn,
    Refuse,
    /// Too many passwords wait for their check.
    Later,
}

/// Middleware: answers 401 unless the gate accepts the request, or 503 if too many passwords wait for their check.
/// Adds the configured headers.
pub async fn gate(State(gate): State<Arc<Gate>>, request: Request, next: Next) -> Response {
    let settings = gate.current.get();
    let mut response = match gate.judge(&settings, request.headers()).await {
        Verdict::LetIn => next.run(request).await,
        Verdict::Refuse => {
            let ask = [(header::WWW_AUTHENTICATE, "Basic realm=\"pinwatch\"")];
            (StatusCode::UNAUTHORIZED, ask, "Unauthorized\n").into_response()
        }
        Verdict::Later => {
            let text = "too many passwords wait for their check: ask again\n";
            (StatusCode::SERVICE_UNAVAILABLE, RETRY, text).into_response()
        }
    };
    for (name, value) in &settings.headers {
        response
            .headers_mut()
            .entry(name)
            .or_insert_with(|| value.clone());
    }
    response
}

/// Hash for unknown users. Its cost is the highest of all users.
fn dummy_hash(settings: &Settings) -> String {
    let costs = settings.users.values();
    let costs = costs.filter_map(|hash| hash.parse().ok());
    let cost = costs.map(|parts: HashParts| parts.get_cost()).max();
    format!("$2y${:02}${DUMMY_DIGEST}", cost.unwrap_or(DEFAULT_COST))
}

/// User and password of a basic `Authorization` header; `None` if there is no valid one.
fn credentials(headers: &HeaderMap) -> Option<(String, Vec<u8>)> {
    let value = headers.get(header::AUTHORIZATION)?.as_bytes();
    let (scheme, coded) = value.split_at_checked("Basic ".len())?;
    if !scheme.eq_ignore_ascii_case(b"Basic ") {
        return None;
    }
    let plain = STANDARD.decode(coded.trim_ascii()).ok()?;
    let colon = plain.iter().position(|byte| *byte == b':')?;
    let user = String::from_utf8(plain[..colon].to_vec()).ok()?;
    Some((user, plain[colon + 1..].to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::AUTHORIZATION, value.parse().unwrap())])
    }

    #[test]
    fn credentials_or_nothing() {
        let of = |value: &str| credentials(&headers(value));
        let basic = |plain: &str| format!("basic {}", STANDARD.encode(plain));
        assert_eq!(of(&basic("a:b:c")), Some(("a".to_owned(), b"b:c".to_vec())));
        assert_eq!(of(&basic(":")), Some((String::new(), Vec::new())));
        for wrong in [
            "",
            "Basic",
            "Basic ",
            "Basic !!!!",
            "Bearer YTpi",
            &basic("a"),
        ] {
            assert_eq!(of(wrong), None, "{wrong:?}");
        }
        assert_eq!(credentials(&HeaderMap::new()), None);
    }

    #[test]
    fn an_unknown_user_costs_as_much_as_the_dearest_user() {
        let hash = |cost| format!("$2y${cost:02}${DUMMY_DIGEST}");
        let users = [("a", 5), ("b", 11)].map(|(user, cost)| (user.to_owned(), hash(cost)));
        let settings = Settings {
            users: users.into(),
            ..Settings::default()
        };
        assert_eq!(dummy_hash(&settings), hash(11));
        assert!(dummy_hash(&settings).parse::<HashParts>().is_ok());
    }
}
