//! The alerts: one row each. `dashboards/pinwatch-alerts.yml` and `docs/runbook.md` are generated from this
//! table. `dashboards/pinwatch-alerts.test.yml` tests that each alert fires, and that it does not fire
//! without cause: on a healthy host, after a restart of the agent, and where a series is missing.

/// An alerting rule of Prometheus, with its section of the runbook.
pub struct Alert {
    pub name: &'static str,
    /// PromQL expression to compare with the threshold in `is`.
    pub value: &'static str,
    /// Operator and threshold, such as `> 0`.
    pub is: &'static str,
    /// How long the condition must hold, as a Prometheus duration.
    pub lasts: &'static str,
    pub severity: Severity,
    /// One sentence. May contain Prometheus templates.
    pub summary: &'static str,
    /// Meaning of the condition for the host.
    pub meaning: &'static str,
    /// Values of a healthy host, and harmless events that change them.
    pub normal: &'static str,
    /// Steps of the diagnosis, in order.
    pub look: &'static [&'static str],
    /// The remedy.
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
        meaning: "A long-term pin has been in the kernel for longer than `--stuck-after` (default: 10 s), and for a \
                  minute more. The caller (a VM that starts, an RDMA registration) hangs. Threads that wait for its \
                  locks hang too. A pin can hang in isolation, in migration, in the drain (`lru_add_drain_all`), or while it \
                  faults pages in.",
        normal: "0. Most pins return within milliseconds. A healthy pin of many gigabytes can take longer than 10 s to fault in \
                 or migrate its pages: raise `--stuck-after` on hosts with such pins. \
                 A restart of pinwatch clears the alert: the new process does not see pins that entered before it.",
        look: &[
            "`curl http://HOST:10746/in-flight`: `signature` describes the activity of each pin in words; `comm` and `cgroup` name its owner.",
            "\"looping on isolation\": the number of passes grows and nothing is migrated. The pages are on no LRU list, or other kernel code has isolated them.",
            "\"draining the LRU caches of all CPUs\": `lru_add_drain_all` waits for a kernel worker on every CPU. It hangs while \
             a real-time task keeps that worker off one CPU, or another caller of `lru_add_drain_all` hangs. Look for such a task \
             (`ps -eLo psr,cls,rtprio,comm`). The kernel's log of hung tasks shows `lru_add_drain_all` in the stack.",
            "\"waiting in drain\": the same, and the thread sleeps: another CPU has not drained yet, or another drain holds the mutex.",
            "\"inside migration\": a page is under writeback or locked. Look at the storage behind it.",
            "\"faulting pages in\": the file system or the userfaultfd behind the memory does not respond.",
            "\"faulting without progress\": the thread has more page faults than its pages can need, and no pass begins. A fault that the kernel \
             repeats without end. Seen on 6.12 to 7.3: a device maps a private mapping of a file's huge pages, and may only read them. Truncate the \
             file, or end the process.",
            "\"other threads of the process wait for mmap_lock\" or \"sleep uninterruptibly\": the pin holds a lock that they need. They go on when it returns.",
            "`curl http://HOST:10746/in-flight/TID/stack`: the kernel stack of a running thread.",
            "`curl http://HOST:10746/readyz`: if attached hooks do not run, these pins may have returned without being counted. See PinwatchProbeMissing.",
        ],
        act: "End the process: the loop checks for signals, except in `memfd_pin_folios`. A drain does not: stop the task \
              that keeps the CPU. Then find the user of the pages and release them. `pinwatch check` lists the known defects of the kernel that cause this.",
    },
    Alert {
        name: "PinwatchPinsFailing",
        value: "sum by (job, instance, origin, cause) (rate(pinwatch_pin_failures_total[5m])) \
                / on (job, instance, origin) group_left () sum by (job, instance, origin) (rate(pinwatch_pins_total[5m]))",
        is: "> 0.05",
        lasts: "5m",
        severity: Severity::Warning,
        summary: "{{ $value | humanizePercentage }} of the {{ $labels.origin }} pins on {{ $labels.instance }} fail: {{ $labels.cause }}",
        meaning: "More than one in twenty long-term pins of an origin fails, for one cause. The caller gets ENOMEM for \
                  most causes, even if memory is free.",
        normal: "0. Single failures, and bursts of failures that last less than five minutes, do not fire: for example a program \
                 that passes a bad address, or that is killed while it pins. The dashboards show them.",
        look: &[
            "`migrate_busy`: a page stayed referenced, by a pipe, direct I/O, another pin or an LRU batch. `pinwatch tail --failed` names the processes \
             of the pins, and what held the pages. `pinwatch_blockers_total` counts them by kind; `pinwatch_blocker_hold_seconds` shows how long they hold. \
             If most are gone within milliseconds, a retry helps. `--with weak_pins` names who holds such a page without FOLL_LONGTERM.",
            "`migrate_nomem`, `nomem`: no memory is free outside ZONE_MOVABLE and CMA. Compare `/proc/zoneinfo`.",
            "`fault`: an address is not mapped or not writable, or the process was killed during the pin. From 6.5 on also: the memory is a shared mapping \
             of a file, pinned for writes, and not of tmpfs or hugetlbfs.",
            "`isolate`: a page could not be isolated. The process was killed while its pin looped, or the kernel gave up. See PinwatchPinStuck.",
            "A caller that gets ENOMEM (AF_XDP: ENOBUFS) while no pin fails: `pinwatch_refusals_total{reason=\"memlock\"}` (`--with refusals`) grows if RLIMIT_MEMLOCK \
             refused the registration. Raise the limit of the process (`ulimit -l`, `LimitMEMLOCK=`). RDMA and VFIO type 1 are not \
             counted there: compare `VmPin` and `VmLck` in `/proc/PID/status` with the limit. VFIO logs `RLIMIT_MEMLOCK exceeded`. `pinwatch tail` shows the processes.",
            "`dax`: the memory is a file-system DAX mapping. The kernel refuses long-term pins there.",
        ],
        act: "`migrate_busy`: let the application register its memory before it uses it for other I/O, or retry. \
              `migrate_nomem`: make ZONE_MOVABLE smaller (`movablecore=`, `kernelcore=`), or pin less.",
    },
    Alert {
        name: "PinwatchManyPasses",
        value: "histogram_quantile(0.99, sum by (job, instance, le) (rate(pinwatch_pin_passes_bucket[5m])))",
        is: "> 10",
        lasts: "5m",
        severity: Severity::Warning,
        summary: "one in a hundred pins on {{ $labels.instance }} takes more than {{ $value | humanize }} passes",
        meaning: "Pins collect unpinnable pages in the same range again and again before they succeed. Each retry unpins \
                  the whole range and pins it again, and may drain the LRU batches of all CPUs.",
        normal: "At most 2: 1 pass, and 2 for pins that must migrate pages. Without pins there is no value, and the alert does not fire.",
        look: &[
            "`pinwatch tail --min-passes 10`: the processes, and how many pages they pin.",
            "`pinwatch_isolate_failures_total` by `kind`: pages that cannot be isolated. Pages of LRU lists need `--with isolate_lru`.",
            "`pinwatch_lru_drains_total`: drains that do not help.",
        ],
        act: "Look for another user of the same pages at the same time: page reclaim, compaction, another pin. A newer \
              kernel may need fewer passes: compare two kernels with the dashboard \"two kernels\".",
    },
    Alert {
        name: "PinwatchPinsWhereTheyMayNotStay",
        // A host that does not report its era may be of era `cma`. A range, so that a restart of the agent does
        // not end the alert.
        value: "rate(pinwatch_pin_pages_sampled_total{zone=\"movable\"}[15m]) \
                and on (job, instance) last_over_time(pinwatch_kernel_info{era!~\"cma|unknown\"}[15m])",
        is: "> 0",
        lasts: "15m",
        severity: Severity::Warning,
        summary: "long-term pins on {{ $labels.instance }} leave pages in ZONE_MOVABLE",
        meaning: "Pins succeeded and left their pages in ZONE_MOVABLE. Such memory cannot be unplugged, and large \
                  contiguous areas cannot be allocated there. Kernels up to 5.12 do this by design (era `cma`). Stable \
                  kernels of 2025 whose collect returns nothing (era `void`) do it by mistake.",
        normal: "0. Every healthy host has the series, and it stays at 0. The alert ignores hosts of era `cma`, and \
                 hosts whose agent does not report its era.",
        look: &["`pinwatch check`: the era of the kernel, and its known defects."],
        act: "Update the kernel.",
    },
    Alert {
        name: "PinwatchEventsLost",
        value: "sum by (job, instance, stage) (increase(pinwatch_events_lost_total{stage!=\"ring_full\"}[15m]))",
        is: "> 0",
        lasts: "5m",
        severity: Severity::Warning,
        summary: "pinwatch on {{ $labels.instance }} lost events: {{ $labels.stage }}",
        meaning: "pinwatch did not measure some events of the pin path. The figures of that host are too low. This alert \
                  ignores the stage `ring_full`: only followers lose those events, and the metrics have them.",
        normal: "0 for every stage. Beside another BPF agent, `skipped:PROGRAM` can grow all the time on a kernel that preempts \
                 kprobe programs. Most of these runs are for short-term pins. A restart of pinwatch sets the counters to 0 \
                 and does not fire.",
        look: &[
            "`slots_full`: all four slots of a pin's set were taken. Compare `pinwatch_map_entries` with `pinwatch_map_capacity`.",
            "`skipped:PROGRAM`: the kernel skips kprobe programs beside another BPF agent. \
             `pinwatch_measurement_lower_bound` names the measurements. Programs with a twin are not counted here.",
            "`pinwatch_pins_lost_total`: lost pins, by reason.",
            "`missed:PROGRAM`: more threads were inside a function than a kretprobe has instances for.",
            "docs/metrics.md describes every stage.",
        ],
        act: "If `--attach kprobe` is set, remove it: pinwatch then chooses the hooks. Otherwise no action is needed: \
              the counter bounds the error.",
    },
    Alert {
        name: "PinwatchProbeMissing",
        value: "pinwatch_probe_attached",
        is: "== 0",
        lasts: "5m",
        severity: Severity::Warning,
        summary: "pinwatch on {{ $labels.instance }} has no working hook at {{ $labels.hook }}: {{ $labels.measurement }} is not measured",
        meaning: "The kernel refused a hook when pinwatch started, or a kernel switch has silenced it since. Its counters \
                  stand still, even if the events happen.",
        normal: "1 for every hook of the plan. A measurement that the kernel does not allow has no hook, and does not fire: \
                 `pinwatch check` lists it.",
        look: &[
            "`curl http://HOST:10746/readyz`: the switch that silences attached hooks, and how to turn it on.",
            "`journalctl -u pinwatch`: `attached hooks do not run` names the switch, `cannot attach` gives the reason for a refusal.",
            "`pinwatch check`: the plan, and measurements that are lost for other reasons.",
        ],
        act: "If a switch is off, turn it on again. Do not stop or restart pinwatch before that: docs/service.md says what \
              breaks. Pins whose return was not seen stay in flight until their threads pin again or end. If the kernel \
              refused the hook, another tool probably holds the function (live patching), or a security policy forbids \
              the hook. Remove the obstacle, then restart pinwatch.",
    },
    Alert {
        name: "PinwatchSlotsFillUp",
        value: "pinwatch_map_entries / pinwatch_map_capacity",
        is: "> 0.8",
        lasts: "5m",
        severity: Severity::Warning,
        summary: "{{ $value | humanizePercentage }} of the slots for pins in flight on {{ $labels.instance }} are taken",
        meaning: "Each pin in flight needs a slot. A pin that gets no slot is lost (stage `slots_full`).",
        normal: "Below 1 %: the slots hold the pins that are in the kernel at the moment, of at most 4,096.",
        look: &[
            "`curl http://HOST:10746/in-flight`: check whether thousands of pins run at once, or many do not return.",
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
        meaning: "Prometheus gets no metrics from the host. The alert needs a scrape job with the name `pinwatch`, as in \
                  dashboards/prometheus.yml.",
        normal: "1. A restart takes seconds. A host that was removed from the scrape job has no series, and does not fire.",
        look: &[
            "`systemctl status pinwatch`, `journalctl -u pinwatch`.",
            "Exit status 2: pinwatch cannot watch that kernel. The log gives the reason.",
            "The targets page of Prometheus: check certificate, user name and password.",
        ],
        act: "Start pinwatch: `systemctl start pinwatch`.",
    },
];
