//! Alerts: one row each. `dashboards/pinwatch-alerts.yml` and `docs/runbook.md` are generated from them.
//! `dashboards/pinwatch-alerts.test.yml` tests that each one fires, and that it does not fire without cause.

pub struct Alert {
    pub name: &'static str,
    /// PromQL expression to compare with the threshold in `is`.
    pub value: &'static str,
    pub is: &'static str,
    /// How long the condition must hold, as a Prometheus duration.
    pub lasts: &'static str,
    pub severity: Severity,
    /// One sentence, with Prometheus' templates.
    pub summary: &'static str,
    pub meaning: &'static str,
    /// Where to look, a step each.
    pub look: &'static [&'static str],
    pub act: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Needs action now.
    Critical,
    /// Needs attention in the next days.
    Warning,
}

pub const ALERTS: &[Alert] = &[
    Alert {
        name: "PinwatchPinStuck",
        value: "pinwatch_pins_stuck",
        is: "> 0",
        lasts: "1m",
        severity: Severity::Critical,
        summary: "{{ $value }} pin(s) on {{ $labels.instance }} do not return",
        meaning: "A long-term pin has been in the kernel for longer than `--stuck-after` (10 s unless said otherwise), \
                  and for a minute more. Whoever asked for it (a VM that starts, an RDMA registration) hangs, and so \
                  does all that waits for the locks it holds.",
        look: &[
            "`curl http://HOST:10746/in-flight`: `signature` says in words what each pin does, `comm` and `cgroup` whose it is.",
            "\"looping on isolation\": passes count up and nothing is migrated. The pages are on no LRU list, or somebody else has isolated them.",
            "\"inside migration\": a page is under writeback or locked; look at the storage that it belongs to.",
            "\"faulting pages in\": the file system or the userfaultfd behind the memory does not answer.",
            "`curl http://HOST:10746/in-flight/TID/stack`: where exactly, of a thread that runs.",
            "`curl http://HOST:10746/readyz`: if attached hooks do not run, these pins may have returned unseen. See PinwatchProbeMissing.",
        ],
        act: "End the process; the loop looks at signals (but for `memfd_pin_folios`). What holds the pages on that \
              host has to let go of them: `pinwatch check` lists the defects of its kernel that look like this.",
    },
    Alert {
        name: "PinwatchPinsFailing",
        value: "sum by (job, instance, origin, cause) (rate(pinwatch_pin_failures_total[5m])) \
                / on (job, instance, origin) group_left () sum by (job, instance, origin) (rate(pinwatch_pins_total[5m]))",
        is: "> 0.05",
        lasts: "5m",
        severity: Severity::Warning,
        summary: "{{ $value | humanizePercentage }} of the {{ $labels.origin }} pins on {{ $labels.instance }} fail: {{ $labels.cause }}",
        meaning: "More than one in twenty long-term pins of an origin returns an error, for one cause. What pins sees \
                  ENOMEM for most causes, memory or not.",
        look: &[
            "`migrate_busy`: a page stayed referenced, by a pipe, direct I/O, another pin or an LRU batch. `pinwatch tail --failed` names the processes.",
            "`migrate_nomem`, `nomem`: no free memory outside ZONE_MOVABLE and CMA: compare `/proc/zoneinfo`.",
            "`fault`: addresses that cannot be written, or a process that was killed meanwhile.",
            "`isolate`: killed while it looped on isolation; see PinwatchPinStuck.",
            "`dax`: memory of a file-system DAX mapping, which long-term pins may not have.",
        ],
        act: "`migrate_busy`: let the application register its memory before it uses it for other I/O, or retry. \
              `migrate_nomem`: less memory in ZONE_MOVABLE (`movablecore=`, `kernelcore=`), or fewer pins.",
    },
    Alert {
        name: "PinwatchManyPasses",
        value: "histogram_quantile(0.99, sum by (job, instance, le) (rate(pinwatch_pin_passes_bucket[5m])))",
        is: "> 10",
        lasts: "5m",
        severity: Severity::Warning,
        summary: "one in a hundred pins on {{ $labels.instance }} takes more than {{ $value | humanize }} passes",
        meaning: "Pins sweep the same pages again and again before they succeed. Each pass unpins everything and pins \
                  it again, and may drain the LRU caches of all CPUs.",
        look: &[
            "`pinwatch tail --min-passes 10`: which processes, how many pages.",
            "`pinwatch_isolate_failures_total` by `kind`: pages that cannot be taken off their list.",
            "`pinwatch_lru_drains_total`: drains that do not help.",
        ],
        act: "Look for what touches the same pages at the same time: page reclaim, compaction, another pin. A newer \
              kernel may behave: compare two with the dashboard \"two kernels\".",
    },
    Alert {
        name: "PinwatchPinsWhereTheyMayNotStay",
        value: "rate(pinwatch_pin_pages_sampled_total{zone=\"movable\"}[15m]) \
                unless on (job, instance) pinwatch_kernel_info{era=\"cma\"}",
        is: "> 0",
        lasts: "15m",
        severity: Severity::Warning,
        summary: "{{ $labels.instance }} pins pages in ZONE_MOVABLE for long",
        meaning: "Pages were left in ZONE_MOVABLE by pins that succeeded. Memory there can then not be unplugged, nor \
                  large contiguous areas be allocated. Kernels to 5.12 do that by design (their era is `cma`); stable \
                  kernels of 2025 whose sweep returns nothing (`void`) do it by mistake.",
        look: &["`pinwatch check`: the kernel's era, and its known defects."],
        act: "Update the kernel.",
    },
    Alert {
        name: "PinwatchEventsLost",
        value: "sum by (job, instance, stage) (increase(pinwatch_events_lost_total{stage!=\"ring_full\"}[15m]))",
        is: "> 0",
        lasts: "5m",
        severity: Severity::Warning,
        summary: "pinwatch on {{ $labels.instance }} did not measure something: {{ $labels.stage }}",
        meaning: "Something happened in the pin path and was not counted, so that figures of that host are too low. \
                  (`ring_full`, which is not counted here, concerns only those who follow live.)",
        look: &[
            "`slots_full`: more pins in flight at once than there are slots: `pinwatch_map_entries`.",
            "`skipped:PROGRAM`: beside another BPF agent the kernel skips kprobe programs: \
             `pinwatch_measurement_lower_bound` names the measurements. A program with a twin is not counted here.",
            "`pinwatch_pins_lost_total`: pins that were not measured, by reason.",
            "`missed:PROGRAM`: more threads inside a function than a kretprobe has room for.",
            "docs/metrics.md has every stage.",
        ],
        act: "With `--attach kprobe` forced: leave the choice to pinwatch. Else the counter is the bound of the error.",
    },
    Alert {
        name: "PinwatchProbeMissing",
        value: "pinwatch_probe_attached",
        is: "== 0",
        lasts: "5m",
        severity: Severity::Warning,
        summary: "pinwatch on {{ $labels.instance }} has no working hook at {{ $labels.hook }}: {{ $labels.measurement }} is not measured",
        meaning: "The kernel refused a hook when pinwatch started, or a switch of the kernel has silenced it since. Its \
                  counters stand still, which is not a finding.",
        look: &[
            "`curl http://HOST:10746/readyz`: the switch that silences attached hooks, and how to turn it on.",
            "`journalctl -u pinwatch`: `attached hooks do not run` names the switch, `cannot attach` the reason of a refusal.",
            "`pinwatch check`: what was planned, and what is lost for other reasons.",
        ],
        act: "A switch: turn it on again. Do not stop or restart pinwatch before: docs/service.md says what breaks. \
              Pins that returned unseen stay in flight until their threads pin again or end. A refusal: mostly another \
              tool holds the function (live patching), or a security policy refuses. Restart pinwatch when that has \
              changed.",
    },
    Alert {
        name: "PinwatchSlotsFillUp",
        value: "pinwatch_map_entries / pinwatch_map_capacity",
        is: "> 0.8",
        lasts: "5m",
        severity: Severity::Warning,
        summary: "{{ $value | humanizePercentage }} of the slots for pins in flight on {{ $labels.instance }} are taken",
        meaning: "Pins in flight need a slot each; beyond the last one they are not measured (`slots_full`).",
        look: &[
            "`curl http://HOST:10746/in-flight`: thousands of pins at once, or many that do not return?",
        ],
        act: "See PinwatchPinStuck.",
    },
    Alert {
        name: "PinwatchSilent",
        value: "up{job=\"pinwatch\"}",
        is: "== 0",
        lasts: "5m",
        severity: Severity::Warning,
        summary: "pinwatch on {{ $labels.instance }} does not answer",
        meaning: "Prometheus gets no metrics from a host. That job has to be called `pinwatch`, as in \
                  dashboards/prometheus.yml.",
        look: &[
            "`systemctl status pinwatch`, `journalctl -u pinwatch`.",
            "Exit status 2: that kernel cannot be watched; the log says why.",
            "Prometheus' page of targets: certificate, user name and password.",
        ],
        act: "Start it again: `systemctl start pinwatch`.",
    },
];
