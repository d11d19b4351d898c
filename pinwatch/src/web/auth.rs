//! Who is let in: basic authentication with bcrypt, as Prometheus' exporters do it.
//! Every path needs it, `/healthz` and `/readyz` too.
//!
//! bcrypt is made to be slow, so it runs beside the event loop, once at a time,
//! and what it let in is remembered. A user that does not exist costs as much
//! as a wrong password.

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

use super::reload::{Current, Settings};

/// Salt and digest of no password that anybody knows, to be compared in place of
/// a user's who does not exist.
const NOBODY: &str = "QOauhQNbBCuQDKes6eFzPeMqBSjb7Mr5DUmpZ/VcEd00UAV/LDeSi";
/// bcrypt's usual cost, where no user says otherwise.
const COST: u32 = 10;

/// Lets in whom the settings name, and says in every answer what they want said.
pub struct Gate {
    current: Arc<Current>,
    bcrypt: Arc<Semaphore>,
    /// What was let in before, by user: never the password itself.
    known: Mutex<HashMap<String, hmac::Tag>>,
    key: hmac::Key,
}

impl Gate {
    /// Fails only without random numbers.
    pub fn new(current: Arc<Current>) -> anyhow::Result<Self> {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new());
        Ok(Self {
            current,
            bcrypt: Arc::new(Semaphore::new(1)),
            known: Mutex::default(),
            key: key.map_err(|_| anyhow::anyhow!("no random numbers"))?,
        })
    }

    async fn lets_in(&self, settings: &Settings, headers: &HeaderMap) -> bool {
        if settings.users.is_empty() {
            return true;
        }
        let Some((user, password)) = credentials(headers) else {
            return false;
        };
        let stored = settings.users.get(&user);
        let hash = stored.cloned().unwrap_or_else(|| nobody(settings));
        let tag = self.tag(&user, &hash, &password);
        // Tags are made with a key that nobody knows: how far they agree tells nothing.
        let is_tag = |known: &hmac::Tag| known.as_ref() == tag.as_ref();
        if self.known().get(&user).is_some_and(is_tag) {
            return true;
        }
        let Ok(turn) = Arc::clone(&self.bcrypt).acquire_owned().await else {
            return false;
        };
        let fits = tokio::task::spawn_blocking(move || {
            let fits = bcrypt::verify(password, &hash).unwrap_or(false);
            drop(turn);
            fits
        });
        let lets_in = fits.await.unwrap_or(false) && stored.is_some();
        if lets_in {
            // One for each user that there ever was: no more than the file has named.
            self.known().insert(user, tag);
        }
        lets_in
    }

    fn known(&self) -> MutexGuard<'_, HashMap<String, hmac::Tag>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tag(&self, user: &str, hash: &str, password: &[u8]) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&self.key);
        // A name has no colon, a hash neither.
        for part in [user.as_bytes(), b":", hash.as_bytes(), b":", password] {
            context.update(part);
        }
        context.sign()
    }
}

/// The middleware.
pub async fn gate(State(gate): State<Arc<Gate>>, request: Request, next: Next) -> Response {
    let settings = gate.current.get();
    let mut response = if gate.lets_in(&settings, request.headers()).await {
        next.run(request).await
    } else {
        let ask = [(header::WWW_AUTHENTICATE, "Basic realm=\"pinwatch\"")];
        (StatusCode::UNAUTHORIZED, ask, "Unauthorized\n").into_response()
    };
    for (name, value) in &settings.headers {
        response
            .headers_mut()
            .entry(name)
            .or_insert_with(|| value.clone());
    }
    response
}

/// A hash that costs as much as the users' own.
fn nobody(settings: &Settings) -> String {
    let costs = settings.users.values();
    let costs = costs.filter_map(|hash| hash.parse().ok());
    let cost = costs.map(|parts: HashParts| parts.get_cost()).max();
    format!("$2y${:02}${NOBODY}", cost.unwrap_or(COST))
}

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
    fn nobody_costs_as_much_as_the_dearest_user() {
        let hash = |cost| format!("$2y${cost:02}${NOBODY}");
        let users = [("a", 5), ("b", 11)].map(|(user, cost)| (user.to_owned(), hash(cost)));
        let settings = Settings {
            users: users.into(),
            ..Settings::default()
        };
        assert_eq!(nobody(&settings), hash(11));
        assert!(nobody(&settings).parse::<HashParts>().is_ok());
    }
}
