//! Obstacles to every measurement, each with its remedy.
#![forbid(unsafe_code)]

use super::arch;
use super::silence::silence_of_functions;
use crate::kernel::facts::Facts;

/// Obstacles to every measurement: the architecture, no BTF or no symbols, missing capabilities, silenced hooks.
pub fn obstacles(facts: &Facts) -> Vec<String> {
    let mut found: Vec<_> = arch::obstacle(facts).into_iter().collect();
    if let Some(error) = &facts.btf_error {
        found.push(format!(
            "pinwatch cannot read the prototypes of kernel functions: {error}; boot a kernel that has BTF, or mount sysfs"
        ));
    }
    if facts.symbols.is_empty() && facts.suffixed.is_empty() {
        let why = "pinwatch cannot find kernel functions: /proc/kallsyms shows no symbols; boot a kernel that has \
                   CONFIG_KALLSYMS, or mount procfs";
        found.push(why.to_owned());
    }
    let has = |name: &str| facts.capabilities.contains(name);
    let missing: Vec<_> = ["CAP_BPF", "CAP_PERFMON"]
        .into_iter()
        .filter(|name| !has(name))
        .collect();
    if !missing.is_empty() && !has("CAP_SYS_ADMIN") {
        found.push(format!(
            "pinwatch is missing {}: run it as root, or grant capabilities",
            missing.join(" and ")
        ));
    }
    found.extend(silence_of_functions(&facts.switches));
    found
}
