//! Kernels and neighbours of `bench reliability`.

use crate::debian::kernels::Flavour;

/// A kernel and the arguments that set its preemption model.
pub struct Variant {
    pub name: &'static str,
    pub series: &'static str,
    pub flavour: Flavour,
    pub append: &'static str,
}

const fn stock(series: &'static str) -> Variant {
    Variant {
        name: series,
        series,
        flavour: Flavour::Cloud,
        append: "",
    }
}

pub const VARIANTS: [Variant; 8] = [
    stock("5.10"),
    stock("6.1"),
    Variant {
        name: "6.1-preempt",
        append: "preempt=full",
        ..stock("6.1")
    },
    stock("6.12"),
    Variant {
        name: "6.12-rt",
        flavour: Flavour::Rt,
        ..stock("6.12")
    },
    stock("6.18"),
    stock("7.2"),
    stock("7.3"),
];

/// Neighbours: the guest's name, and the name in the table.
pub const NEIGHBOURS: [(&str, &str); 6] = [
    ("none", "none"),
    ("updates", "map updates"),
    ("lookups", "map look-ups and batches"),
    ("bpftrace", "bpftrace"),
    ("perf", "perf record"),
    ("pinwatch", "a second pinwatch"),
];
