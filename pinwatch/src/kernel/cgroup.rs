//! What `/proc/PID/cgroup` says of a process: container, Kubernetes pod, systemd
//! unit. Pure. Reports only formats that it recognises; never guesses. Whoever may make
//! cgroups chooses their names.

/// As far as it is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cgroup {
    /// In the v2 hierarchy; on v1 hosts in systemd's, or that of the first controller.
    pub path: Option<String>,
    /// 64 hexadecimal digits.
    pub container: Option<String>,
    /// The pod's uid: with dashes, or the 32 digits of a static pod.
    pub pod: Option<String>,
    /// The innermost service; where there is neither that nor a container, the scope.
    pub unit: Option<String>,
}

/// Characters of a path that are kept; no known one has more.
const LONGEST: usize = 1024;

/// Reads the text of such a file.
#[must_use]
pub fn parse(text: &str) -> Cgroup {
    let mut paths: Vec<_> = text.lines().filter_map(ranked).collect();
    paths.sort_by_key(|(rank, _)| *rank);
    let first = |what: fn(&str) -> Option<&str>| paths.iter().find_map(|(_, path)| what(path));
    let container = first(container);
    let scope = || first(|path| unit(path, ".scope")).filter(|_| container.is_none());
    Cgroup {
        path: paths
            .first()
            .map(|(_, path)| path.chars().take(LONGEST).collect()),
        container: container.map(str::to_owned),
        pod: first(pod).map(|uid| uid.replace('_', "-")),
        unit: first(|path| unit(path, ".service"))
            .or_else(scope)
            .map(str::to_owned),
    }
}

/// The path of a line, and how much it is worth.
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

/// The id that containerd, CRI-O, Docker and Podman put into a cgroup's name: the
/// innermost, unless it is of the process that watches the container.
fn container(path: &str) -> Option<&str> {
    const DIGITS: usize = 64;
    let folders = path.rsplit('/').filter(|folder| !folder.contains("conmon"));
    let mut words = folders.flat_map(|folder| folder.rsplit(|c: char| !c.is_ascii_alphanumeric()));
    words.find(|word| word.len() == DIGITS && is_hex(word))
}

/// `pod` and a uid, as the kubelet writes it: in a folder of its own, or at the end
/// of a slice's name, where dashes are underscores.
fn pod(path: &str) -> Option<&str> {
    let mut names = path.rsplit(['/', ':']);
    names.find_map(|name| {
        let name = name.strip_suffix(".slice").unwrap_or(name);
        let (before, uid) = name.rsplit_once("pod")?;
        let whole = before.is_empty() || before.ends_with('-');
        (whole && is_uid(uid)).then_some(uid)
    })
}

/// `8-4-4-4-12` digits, or 32 of a pod that the kubelet has from a file.
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
