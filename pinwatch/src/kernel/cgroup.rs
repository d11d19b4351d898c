//! Parser of `/proc/PID/cgroup`: container, Kubernetes pod, systemd unit of a process.
//!
//! Pure. Reports only formats that it recognises; never guesses. Any user who may create cgroups
//! chooses their names, so the results are untrusted text.
#![forbid(unsafe_code)]

/// A process's cgroup and its owners; `None` for a format that is not recognised.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cgroup {
    /// Path in the v2 hierarchy; on v1 hosts in systemd's, or that of the first controller.
    pub path: Option<String>,
    /// Container id: 64 hexadecimal digits.
    pub container: Option<String>,
    /// Pod uid with dashes, or the 32 digits of a static pod.
    pub pod: Option<String>,
    /// Innermost service. Without a service and a container: innermost scope.
    pub unit: Option<String>,
}

/// Longest path that is kept, in characters. No known path is longer.
const MAX_PATH_CHARS: usize = 1024;

/// Parses the text of `/proc/PID/cgroup`.
#[must_use]
pub fn parse(text: &str) -> Cgroup {
    let mut paths: Vec<_> = text.lines().filter_map(ranked).collect();
    paths.sort_by_key(|(rank, _)| *rank);
    let first = |find: fn(&str) -> Option<&str>| paths.iter().find_map(|(_, path)| find(path));
    let container = first(container);
    let scope = || first(|path| unit(path, ".scope")).filter(|_| container.is_none());
    Cgroup {
        path: paths
            .first()
            .map(|(_, path)| path.chars().take(MAX_PATH_CHARS).collect()),
        container: container.map(str::to_owned),
        pod: first(pod).map(|uid| uid.replace('_', "-")),
        unit: first(|path| unit(path, ".service"))
            .or_else(scope)
            .map(str::to_owned),
    }
}

/// Path of a line, and its rank: the lowest rank is preferred.
fn ranked(line: &str) -> Option<((bool, u8), &str)> {
    let mut fields = line.splitn(3, ':');
    let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
    let path = path.strip_suffix(" (deleted)").unwrap_or(path);
    let rank = match controllers {
        "" => 0,
        "name=systemd" => 1,
        _ => 2,
    };
    Some(((path == "/", rank), path))
}

/// Innermost container id in a path. containerd, CRI-O, Docker and Podman put the id into a cgroup's
/// name. The cgroup of conmon, which supervises a container from outside, does not count.
fn container(path: &str) -> Option<&str> {
    const DIGITS: usize = 64;
    let folders = path.rsplit('/').filter(|folder| !folder.contains("conmon"));
    let mut words = folders.flat_map(|folder| folder.rsplit(|c: char| !c.is_ascii_alphanumeric()));
    words.find(|word| word.len() == DIGITS && is_hex(word))
}

/// Innermost pod uid in a path. The kubelet writes `pod` and the uid as a folder's name, or at the end of a
/// slice's name with underscores for dashes.
fn pod(path: &str) -> Option<&str> {
    let mut names = path.rsplit(['/', ':']);
    names.find_map(|name| {
        let name = name.strip_suffix(".slice").unwrap_or(name);
        let (before, uid) = name.rsplit_once("pod")?;
        let whole = before.is_empty() || before.ends_with('-');
        (whole && is_uid(uid)).then_some(uid)
    })
}

/// Whether a text is a pod uid: `8-4-4-4-12` digits, or 32 for a static pod, which the kubelet reads from
/// a file.
fn is_uid(text: &str) -> bool {
    let parts: Vec<_> = text.split(['-', '_']).collect();
    let lengths: Vec<_> = parts.iter().map(|part| part.len()).collect();
    matches!(lengths[..], [8, 4, 4, 4, 12] | [32]) && parts.into_iter().all(is_hex)
}

fn unit<'a>(path: &'a str, kind: &str) -> Option<&'a str> {
    path.rsplit('/')
        .find(|name| name.ends_with(kind) && name.len() > kind.len())
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests;
