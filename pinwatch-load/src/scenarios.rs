//! The table of scenarios: name, description, expected result, and plan.
#![forbid(unsafe_code)]

use std::fmt::Write;
use std::iter;
use std::time::Duration;

use crate::host::disruption;
use crate::plan::Plan;
use crate::spec::{Access, Company, Hold, Memory, Pages, Via};

#[derive(Debug)]
pub struct Scenario {
    pub name: &'static str,
    /// One sentence without a subject: the scenario is the subject.
    pub does: &'static str,
    /// The result for memory in ZONE_MOVABLE, by kernel.
    pub expect: &'static str,
    pub plan: Plan,
}

/// The plan of `pinwatch load` without a scenario.
pub const DEFAULTS: Plan = Plan {
    via: Via::IoUring,
    pages: Pages::Count(256),
    repeat: 1,
    threads: 1,
    memory: Memory::Touched,
    access: Access::Write,
    hold: Hold::None,
    company: Company::None,
    same_range: false,
    fresh: true,
    in_child: false,
    hold_for: Duration::ZERO,
    release_after: None,
    weak_for: Duration::ZERO,
    stall_for: Duration::from_secs(5),
    file: None,
    device: None,
    memlock: None,
    waiters: 0,
};

pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "touched",
        does: "Pins 256 anonymous pages that were written before.",
        expect: "5.10: ok, no page migrates. Later: ok, 256 pages leave Movable.",
        plan: DEFAULTS,
    },
    Scenario {
        name: "untouched",
        does: "Pins 256 pages that the pin itself faults in.",
        expect: "5.10: ok, faulted into Movable. Later: ok, faulted in outside Movable, no page migrates.",
        plan: Plan {
            memory: Memory::Untouched,
            ..DEFAULTS
        },
    },
    Scenario {
        name: "zero-page",
        does: "Pins 256 pages that were only read and map the zero page.",
        expect: "5.10: ok, new pages in Movable. Later: ok, new pages outside Movable, no page migrates.",
        plan: Plan {
            memory: Memory::Zero,
            ..DEFAULTS
        },
    },
    Scenario {
        name: "read-only",
        does: "Pins a mapping without write permission.",
        expect: "EFAULT on every kernel, no page migrates.",
        plan: Plan {
            memory: Memory::Readonly,
            ..DEFAULTS
        },
    },
    Scenario {
        name: "thp",
        does: "Pins 2 transparent huge pages.",
        expect: "5.10: ok, no page migrates. Later: ok, or ENOMEM if no free huge page is outside Movable.",
        plan: Plan {
            memory: Memory::Thp,
            pages: Pages::Huge(2),
            ..DEFAULTS
        },
    },
    Scenario {
        name: "hugetlb",
        does: "Pins 2 hugetlbfs pages. Raises the pool first if it has too few free pages.",
        expect: "5.10: ok, no page migrates. 6.1: ENOMEM, and the kernel warns. Later: ok, both leave Movable.",
        plan: Plan {
            memory: Memory::Hugetlb,
            pages: Pages::Huge(2),
            ..DEFAULTS
        },
    },
    Scenario {
        name: "memfd",
        does: "Pins 256 written memfd pages through a shared mapping.",
        expect: "5.10: ok, no page migrates. Later: ok, 256 pages leave Movable.",
        plan: Plan {
            memory: Memory::Memfd,
            ..DEFAULTS
        },
    },
    Scenario {
        name: "udmabuf",
        does: "Creates a udmabuf of 256 written memfd pages.",
        expect: "Before 6.12: ok, no long-term pin. Later: ok, 256 pages leave Movable (memfd_pin_folios).",
        plan: Plan {
            via: Via::Udmabuf,
            memory: Memory::Memfd,
            ..DEFAULTS
        },
    },
    Scenario {
        name: "vfio",
        does: "Maps 1,024 touched pages for the DMA of --device, or of the first device that vfio-pci has.",
        expect: "5.10: ok, one or two pins per page, no page migrates. Later: ok, 2 pins, 1,024 pages leave Movable.",
        plan: Plan {
            via: Via::Vfio,
            pages: Pages::Count(1024),
            ..DEFAULTS
        },
    },
    Scenario {
        name: "vfio-read-only",
        does: "Maps 1,024 touched pages, which the device may only read: the pins have no FOLL_WRITE.",
        expect: "5.10: ok, one or two pins per page, no page migrates. Later: ok, 2 pins, 1,024 pages leave Movable.",
        plan: Plan {
            via: Via::Vfio,
            access: Access::Read,
            pages: Pages::Count(1024),
            ..DEFAULTS
        },
    },
    Scenario {
        name: "vfio-zero-page",
        does: "Maps 1,024 pages that map the zero page, which the device may only read.",
        expect: "5.10: ok, one or two pins per page of the zero page. 6.1: ok, 2 pins of the zero page. Later: ok, 2 pins of new pages outside Movable.",
        plan: Plan {
            via: Via::Vfio,
            memory: Memory::Zero,
            access: Access::Read,
            pages: Pages::Count(1024),
            ..DEFAULTS
        },
    },
    Scenario {
        name: "rdma",
        does: "Registers 1,024 touched pages with the RDMA device --device, or with a soft RoCE device on the interface --device.",
        expect: "5.10: ok, GUP-fast only, no page migrates. Later: ok, 2 pins, 1,024 pages leave Movable.",
        plan: Plan {
            via: Via::Rdma,
            pages: Pages::Count(1024),
            ..DEFAULTS
        },
    },
    Scenario {
        name: "rdma-write",
        does: "Registers 1,024 touched pages as `rdma` does, with the command in a write(2) instead of an ioctl.",
        expect: "5.10: ok, GUP-fast only, no page migrates. Later: ok, 2 pins, 1,024 pages leave Movable.",
        plan: Plan {
            via: Via::RdmaWrite,
            pages: Pages::Count(1024),
            ..DEFAULTS
        },
    },
    Scenario {
        name: "rdma-read-only",
        does: "Registers 1,024 touched pages, which the device may only read: from 6.2 on, the pins have no FOLL_WRITE.",
        expect: "5.10: ok, GUP-fast only, no page migrates. Later: ok, 2 pins, 1,024 pages leave Movable.",
        plan: Plan {
            via: Via::Rdma,
            access: Access::Read,
            pages: Pages::Count(1024),
            ..DEFAULTS
        },
    },
    Scenario {
        name: "rdma-zero-page",
        does: "Registers 1,024 pages that map the zero page, which the device may only read.",
        expect: "Before 6.2: ok, new pages, since these pins have FOLL_WRITE. Later: ok, 2 pins of new pages outside Movable.",
        plan: Plan {
            via: Via::Rdma,
            memory: Memory::Zero,
            access: Access::Read,
            pages: Pages::Count(1024),
            ..DEFAULTS
        },
    },
    Scenario {
        name: "held-one",
        does: "Pins 256 touched pages while a pipe holds the first of them.",
        expect: "5.10: ok, no page migrates. Later: ENOMEM, 255 pages leave Movable and 1 stays.",
        plan: Plan {
            hold: Hold::Pages(1),
            ..DEFAULTS
        },
    },
    Scenario {
        name: "held-all",
        does: "Pins 256 touched pages while pipes hold all of them.",
        expect: "5.10: ok, no page migrates. Later: ENOMEM, no page migrates.",
        plan: Plan {
            hold: Hold::All,
            ..DEFAULTS
        },
    },
    Scenario {
        name: "weak-pin",
        does: "Pins 256 touched pages while process_vm_readv pins the first of them without FOLL_LONGTERM.",
        expect: "5.10: ok, no page migrates. Later: ENOMEM, 255 pages leave Movable and 1 stays.",
        plan: Plan {
            hold: Hold::Weak(1),
            ..DEFAULTS
        },
    },
    Scenario {
        name: "long-term-pin",
        does: "Pins 256 touched pages while an io_uring registration has pinned the first of them long-term.",
        expect: "5.10: ok, no page migrates. Later: ok, 255 pages leave Movable, which the first page has left before.",
        plan: Plan {
            hold: Hold::LongTerm(1),
            ..DEFAULTS
        },
    },
    Scenario {
        name: "weak-pin-ordinary",
        does: "Pins 256 pages outside ZONE_MOVABLE while process_vm_readv pins the first of them without FOLL_LONGTERM.",
        expect: "5.10: ok, in Movable. Later: ok, no page migrates. From 6.12 on GUP-fast can take all pages without a pin.",
        plan: Plan {
            memory: Memory::Ordinary,
            hold: Hold::Weak(1),
            ..DEFAULTS
        },
    },
    Scenario {
        name: "locked",
        does: "Maps 16 pages of a file for the reads of --device while the FUSE server of this file locks the first of them for 5 s.",
        expect: "5.10: ok at once, no page migrates. Later: ok after 5 s, which the migration waits; 16 pages leave Movable.",
        plan: Plan {
            via: Via::Vfio,
            access: Access::Read,
            memory: Memory::File,
            pages: Pages::Count(16),
            hold: Hold::Locked,
            ..DEFAULTS
        },
    },
    Scenario {
        name: "writeback",
        does: "Maps 16 pages of a file on a disk for the reads of --device while the first of them is under writeback for 5 s.",
        expect: "5.10: ok at once, no page migrates. Later: ok after 5 s, which the migration waits; 16 pages leave Movable.",
        plan: Plan {
            via: Via::Vfio,
            access: Access::Read,
            memory: Memory::Disk,
            pages: Pages::Count(16),
            hold: Hold::Writeback,
            ..DEFAULTS
        },
    },
    Scenario {
        name: "file-backed",
        does: "Registers 256 pages of a file that is mapped shared and writable.",
        expect: "5.10, 6.1: EOPNOTSUPP, after a pin that succeeded. Later: EFAULT, no page migrates. AF_XDP, 5.10 and 6.1: ok.",
        plan: Plan {
            memory: Memory::File,
            ..DEFAULTS
        },
    },
    Scenario {
        name: "hidden",
        does: "Pins 256 touched pages twice while a pipe holds the last of them.",
        expect: "5.10: ok. 6.1: ENOMEM twice. Later: ENOMEM, then EFAULT: GUP-fast returns the 255 pages that the first pin migrated, and the errno is lost.",
        plan: Plan {
            hold: Hold::Last,
            fresh: false,
            repeat: 2,
            ..DEFAULTS
        },
    },
    Scenario {
        name: "held-thp",
        does: "Pins 2 transparent huge pages while a pipe holds one base page of the first.",
        expect: "5.10: ok, no page migrates. Later: ENOMEM, the held huge page stays.",
        plan: Plan {
            memory: Memory::Thp,
            pages: Pages::Huge(2),
            hold: Hold::Pages(1),
            ..DEFAULTS
        },
    },
    Scenario {
        name: "memlock",
        does: "Registers 256 touched pages, 3 times, without CAP_IPC_LOCK while RLIMIT_MEMLOCK allows 64 pages.",
        expect: "ENOMEM on every kernel: io_uring pins the pages first, and unpins them. AF_XDP: ENOBUFS, before the pin. 5.10 refuses the ring of io_uring itself where root has BPF maps: use `--via xdp` there.",
        plan: Plan {
            memlock: Some(64),
            repeat: 3,
            ..DEFAULTS
        },
    },
    Scenario {
        name: "fork",
        does: "Pins 256 touched pages that a forked child shares copy-on-write.",
        expect: "5.10: ok, new pages in Movable. Later: ok, new pages outside Movable, no page migrates.",
        plan: Plan {
            company: Company::Fork,
            ..DEFAULTS
        },
    },
    Scenario {
        name: "contention",
        does: "Pins 256 touched pages, 20 times, while another process reads them continuously.",
        expect: "5.10: ok. Later: ok or ENOMEM, by chance, with retries.",
        plan: Plan {
            company: Company::Reader,
            repeat: 20,
            ..DEFAULTS
        },
    },
    Scenario {
        name: "two-pinners",
        does: "Pins the same 256 touched pages in two threads at the same time, 20 times.",
        expect: "5.10: ok. Later: ok or ENOMEM, by chance. From 6.12 on GUP-fast can serve the later thread without a pin.",
        plan: Plan {
            threads: 2,
            same_range: true,
            repeat: 20,
            ..DEFAULTS
        },
    },
    Scenario {
        name: "shortage",
        does: "Pins, in a child process, as much memory as all zones except Movable have.",
        expect: "5.10: ok, no page migrates. Later: the OOM killer kills the child inside the pin.",
        plan: Plan {
            pages: Pages::AllNonMovable,
            in_child: true,
            ..DEFAULTS
        },
    },
    Scenario {
        name: "threads",
        does: "Pins 16 fresh pages 60 times in each of 24 threads that start together.",
        expect: "1,440 pins, all ok.",
        plan: Plan {
            threads: 24,
            repeat: 60,
            pages: Pages::Count(16),
            ..DEFAULTS
        },
    },
    Scenario {
        name: "large",
        does: "Pins 2 GiB of address space in one call (AF_XDP): 64 MiB of memfd, mapped repeatedly.",
        expect: "5.10: ok, no page migrates. 6.11: ENOMEM. Otherwise: ok, the 64 MiB leave Movable. Needs more than 2 GiB of memory.",
        plan: Plan {
            via: Via::Xdp,
            memory: Memory::Alias,
            pages: Pages::Mib(2048),
            ..DEFAULTS
        },
    },
    Scenario {
        name: "slow",
        does: "Pins memory whose first page fault waits for 5 s (userfaultfd). The pin is in flight for that long.",
        expect: "5.10, 6.1: EFAULT at once, because the pin may not wait. 6.12 and later: ok after 5 s.",
        plan: Plan {
            memory: Memory::Userfault,
            ..DEFAULTS
        },
    },
    Scenario {
        name: "starved",
        does: "Pins 256 MiB of untouched memory while a real-time thread takes the CPU for 5 s.",
        expect: "ok after 5 s or slightly more, on every kernel.",
        plan: Plan {
            memory: Memory::Untouched,
            company: Company::Hog,
            pages: Pages::Mib(256),
            ..DEFAULTS
        },
    },
    Scenario {
        name: "drain",
        does: "Pins 256 touched pages, of which one is in the LRU batch of another CPU, while a real-time thread takes that CPU for 5 s.",
        expect: "5.10: ok at once, no page migrates. 6.1: ok after 5 s or slightly more, inside the drain. From 6.12 on: ok, once the fair server lets that CPU drain.",
        plan: Plan {
            company: Company::Drain,
            ..DEFAULTS
        },
    },
    Scenario {
        name: "no-progress",
        does: "Maps 2 huge pages for the DMA of a device that may only read them: a private mapping of a tmpfs file, which is truncated 5 s later.",
        expect: "5.10, 6.1: ok. From 6.12 on: EFAULT after 5 s. Each fault succeeds and maps the huge page again, which such a pin may not take.",
        plan: Plan {
            via: Via::Vfio,
            memory: Memory::Private,
            access: Access::Read,
            pages: Pages::Huge(2),
            ..DEFAULTS
        },
    },
];

pub fn names() -> Vec<&'static str> {
    SCENARIOS.iter().map(|row| row.name).collect()
}

/// The row of a name that clap has accepted.
pub fn find(name: &str) -> &'static Scenario {
    SCENARIOS
        .iter()
        .find(|row| row.name == name)
        .expect("clap accepts the names of the table only")
}

/// The text of `--list`.
pub fn list() -> String {
    SCENARIOS.iter().fold(String::new(), |mut text, row| {
        let mut lines = vec![row.does.to_owned(), row.expect.to_owned()];
        lines.extend(needs_consent(row));
        for (line, name) in lines
            .iter()
            .zip(iter::once(row.name).chain(iter::repeat("")))
        {
            writeln!(text, "{name:<17} {line}").expect("a String accepts any text");
        }
        text
    })
}

/// `Disruptive if ...: it ...`
fn needs_consent(row: &Scenario) -> Option<String> {
    let effects: Vec<_> = disruption::possible(&row.plan)
        .into_iter()
        .map(|disruption| {
            let condition = disruption.condition().map(|when| format!(" {when}"));
            format!(
                "Disruptive{}: it {}.",
                condition.unwrap_or_default(),
                disruption.does()
            )
        })
        .collect();
    (!effects.is_empty()).then(|| effects.join(" "))
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::{env, fs};

    use super::*;

    const BEGIN: &str = "<!-- scenarios: begin -->\n";
    const END: &str = "<!-- scenarios: end -->\n";

    fn table() -> String {
        let mut text = String::from(
            "| Scenario | Load | Result for memory in ZONE_MOVABLE | Effect on the host |\n|---|---|---|---|\n",
        );
        for row in SCENARIOS {
            let mut effect = needs_consent(row).unwrap_or_else(|| "none".to_owned());
            for disruption in disruption::possible(&row.plan) {
                effect = format!("**{effect}** At the end: {}", disruption.restored());
            }
            writeln!(
                text,
                "| `{}` | {} | {} | {effect} |",
                row.name, row.does, row.expect
            )
            .unwrap();
        }
        text
    }

    /// Writes the table with PINWATCH_UPDATE_DOCS=1.
    #[test]
    fn the_guide_has_the_table() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/load.md");
        let guide = fs::read_to_string(&path).unwrap();
        let (head, rest) = guide.split_once(BEGIN).unwrap();
        let (_, tail) = rest.split_once(END).unwrap();
        let current = format!("{head}{BEGIN}{}{END}{tail}", table());
        if env::var_os("PINWATCH_UPDATE_DOCS").is_some() {
            fs::write(&path, current).unwrap();
        } else {
            assert!(
                guide == current,
                "docs/load.md is stale: PINWATCH_UPDATE_DOCS=1 cargo test -p pinwatch-load"
            );
        }
    }

    #[test]
    fn the_list_marks_disruptive_scenarios() {
        let list = list();
        assert_eq!(list.matches("Disruptive").count(), 14);
        let starved = list.split("\nstarved").nth(1).unwrap();
        assert!(starved.contains("sched_rt_runtime_us"), "{starved}");
    }

    #[test]
    fn names_are_unique() {
        let mut names = names();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), SCENARIOS.len());
    }
}
