//! Table of the fuzz targets in `pinwatch/fuzz/fuzz_targets`.

/// A fuzz target.
pub struct Target {
    pub name: &'static str,
    /// Input, in words.
    pub input: &'static str,
    /// Folder of its first inputs, relative to the crate `pinwatch`.
    pub seeds: &'static str,
    /// Maximum length of an input in bytes; a little more than the largest seed.
    pub longest: u32,
}

const fn target(
    name: &'static str,
    input: &'static str,
    seeds: &'static str,
    longest: u32,
) -> Target {
    Target {
        name,
        input,
        seeds,
        longest,
    }
}

pub const TARGETS: [Target; 12] = [
    target(
        "recording",
        "recordings, through every command that reads one",
        "fuzz/seeds/recording",
        32 << 10,
    ),
    target(
        "extremes",
        "recordings with figures at the limits of their types, through the same commands",
        "fuzz/seeds/extremes",
        4096,
    ),
    target(
        "filter",
        "filters that a client sends to the socket",
        "fuzz/seeds/filter",
        4096,
    ),
    target(
        "daemon",
        "the stream of a hostile daemon, through `tail`, `top` and `record`",
        "fuzz/seeds/daemon",
        8192,
    ),
    target("btf", "BTF of the kernel", "fuzz/seeds/btf", 4096),
    target("kallsyms", "`/proc/kallsyms`", "fuzz/seeds/kallsyms", 4096),
    target("cgroup", "`/proc/PID/cgroup`", "tests/data/cgroups", 4096),
    target("procfs", "`/proc/TID/stat`", "fuzz/seeds/procfs", 1024),
    target(
        "tracefs",
        "`kprobe_events` and `kprobe_profile`",
        "fuzz/seeds/tracefs",
        4096,
    ),
    target(
        "web_config",
        "the file of `--web.config.file`",
        "fuzz/seeds/web_config",
        8192,
    ),
    target("http", "HTTP requests", "fuzz/seeds/http", 32 << 10),
    target(
        "facts",
        "fact sheets, through the planner and `check`",
        "tests/data/facts",
        8192,
    ),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;

    use super::*;

    const PINWATCH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../pinwatch");

    #[test]
    fn every_target_is_in_the_table_and_has_small_seeds() {
        let folder = format!("{PINWATCH}/fuzz/fuzz_targets");
        let files = fs::read_dir(folder).expect("a folder");
        let files = files.map(|file| file.expect("a file").file_name());
        let files: BTreeSet<_> = files
            .map(|name| name.into_string().expect("a name").replace(".rs", ""))
            .collect();
        let names: BTreeSet<_> = TARGETS
            .iter()
            .map(|target| target.name.to_owned())
            .collect();
        assert_eq!(names, files);
        let manifest = format!("{PINWATCH}/fuzz/Cargo.toml");
        let manifest = fs::read_to_string(manifest).expect("a manifest");
        for target in &TARGETS {
            assert!(manifest.contains(&format!("name = \"{}\"", target.name)));
            let seeds = fs::read_dir(format!("{PINWATCH}/{}", target.seeds));
            let seeds: Vec<_> = seeds
                .unwrap_or_else(|error| panic!("{}: {error}", target.seeds))
                .collect();
            assert!(!seeds.is_empty(), "{}", target.name);
            for seed in seeds {
                let length = seed.expect("a file").metadata().expect("metadata").len();
                assert!(length <= target.longest.into(), "{}", target.name);
            }
        }
    }
}
