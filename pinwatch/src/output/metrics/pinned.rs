//! Samples of memory that is pinned now. Users without a series of their own are added up in kind `other`.

#![forbid(unsafe_code)]

use super::samples::Samples;
use crate::model::pinned::{Pinned, User};
use crate::model::state::State;

/// Adds the pages that are pinned on the machine.
pub fn pages(state: &State, out: &mut Samples) {
    if let Some(pages) = state.pinned.read().and_then(|pinned| pinned.pages) {
        out.value(&[], pages);
    }
}

/// Adds bytes of the largest users by name.
pub fn by_name(state: &State, bytes: fn(&User) -> u64, out: &mut Samples) {
    each(state, "process", Pinned::by_name, bytes, out);
}

/// Adds bytes of the largest users by cgroup.
pub fn by_cgroup(state: &State, bytes: fn(&User) -> u64, out: &mut Samples) {
    each(state, "cgroup", Pinned::by_cgroup, bytes, out);
}

fn each(
    state: &State,
    kind: &str,
    largest: fn(&Pinned) -> (Vec<User>, User),
    bytes: fn(&User) -> u64,
    out: &mut Samples,
) {
    let Some(pinned) = state.pinned.read() else {
        return;
    };
    let (users, other) = largest(&pinned);
    for (kind, user) in users
        .iter()
        .map(|user| (kind, user))
        .chain([("other", &other)])
    {
        let mut labels = vec![("kind", kind)];
        labels.extend(
            user.labels
                .iter()
                .map(|(name, value)| (*name, value.as_str())),
        );
        out.value(&labels, bytes(user));
    }
}
