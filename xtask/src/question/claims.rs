//! The claims in the words of the thread, and the answer that each verdict gives.

/// A claim of the review.
pub struct Claim {
    pub id: &'static str,
    pub quote: &'static str,
    pub author: &'static str,
    /// Message-Id of the mail.
    pub mail: &'static str,
    /// The rest of a sentence that begins with "On" and the algorithms.
    pub supported: &'static str,
    pub refuted: &'static str,
    /// What the figures mean, whatever the verdict.
    pub note: &'static str,
    /// The recording that judges it, as an index of `MACHINES`.
    pub on: usize,
}

/// Its clock is exact, and its counts repeat.
const ONE_PROCESSOR: usize = 0;
/// Threads get in each other's way, which is what a claim about failures needs.
const TWO_PROCESSORS: usize = 1;

const PATCH: &str = "20201217185243.3288048-9-pasha.tatashin@soleen.com";
const REVIEW: &str = "20201217205048.GL5487@ziepe.ca";
const REPLY: &str = "CA+CK2bA4F+SipkReJzFjCSC-8kZdK4yrwCQZM+TvCTrqV2CGHg@mail.gmail.com";
const ISOLATION: &str = "20201218104655.GW32193@dhcp22.suse.cz";
const HANG: &str = "CA+CK2bCn++2Sk4-Eunibj6f+JoOL77uJQXGU2+dScHQ3RgC7_Q@mail.gmail.com";

const TATASHIN: &str = "Pavel Tatashin";
const GUNTHORPE: &str = "Jason Gunthorpe";
const HOCKO: &str = "Michal Hocko";

pub const CLAIMS: [Claim; 10] = [
    Claim {
        id: "C1",
        quote: "migration failures is already exception scenarios where machine is under memory stress",
        author: TATASHIN,
        mail: REPLY,
        supported: "migration failed for want of memory only, as he says",
        refuted: "he was wrong: migrations failed because a page stayed referenced, not for want of memory",
        note: "",
        on: TWO_PROCESSORS,
    },
    Claim {
        id: "C2",
        quote: "if we fail to migrate it is unlikely will succeed if we retry right away",
        author: TATASHIN,
        mail: REPLY,
        supported: "he was right: trying again at once mostly failed again",
        refuted: "he was wrong: trying again at once mostly helped",
        note: "Version 4 tries again inside the pin. The others end the pin at its first failed migration, so that the \
               caller tries again. Whether it helps depends on who holds the page: the pipes of this load hold it for \
               longer than any retry, the process that reads it does not. The shares are of both together.",
        on: TWO_PROCESSORS,
    },
    Claim {
        id: "C3",
        quote: "Those should always be temporary failure unless I am missing something.",
        author: HOCKO,
        mail: ISOLATION,
        supported: "he was right: after a failed isolation, the next pass mostly isolated all pages",
        refuted: "the next pass mostly failed again after a failed isolation",
        note: "Temporary is judged by the next pass. A failure that lasts for many passes and then ends counts against the \
               claim: the most passes of a pin, and pins that had not ended, say how long it lasted. In this load it lasts \
               while another thread migrates the same pages.",
        on: TWO_PROCESSORS,
    },
    Claim {
        id: "C4",
        quote: "Yes, but O(N) is the same.",
        author: TATASHIN,
        mail: REPLY,
        supported: "he was right: the time of a collect grows no faster than the number of pages",
        refuted: "he was wrong: the time of a collect grows faster than the number of pages",
        note: "",
        on: ONE_PROCESSOR,
    },
    Claim {
        id: "C5",
        quote: "It is exactly like the old algorithm worked",
        author: TATASHIN,
        mail: REPLY,
        supported: "he was right: hardly a page was pinned more than once",
        refuted: "the objection of Jason Gunthorpe holds (\"So we throw everything away? Why?\"): pages were pinned more than once",
        note: "The quote answers that the old loop did the same: compare the figures of the old loop and version 4.",
        on: ONE_PROCESSOR,
    },
    Claim {
        id: "C6",
        quote: "Making continuous progress is possible, but we won't see any performance betnefit [sic] from it",
        author: TATASHIN,
        mail: REPLY,
        supported: "he was right: hardly a page that a retry unpinned was fine, so that nothing would have been kept",
        refuted: "he was wrong: of the pages that a retry unpinned, some were fine and could have been kept",
        note: "",
        on: ONE_PROCESSOR,
    },
    Claim {
        id: "C7",
        quote: "I don't like this at all. It shouldn't be so flakey",
        author: GUNTHORPE,
        mail: REVIEW,
        supported: "pins of one kind all failed or all succeeded, as he demands",
        refuted: "he was right to worry: of pins of one kind, some failed and some did not",
        note: "",
        on: TWO_PROCESSORS,
    },
    Claim {
        id: "C8",
        quote: "Without FOLL_WRITE fault handler may return zero page, which can be in a movable zone, and also will fail to \
                isolate during migration, thus the longterm pin will fail.",
        author: TATASHIN,
        mail: PATCH,
        supported: "he was right: pins without FOLL_WRITE failed more often than pins with it",
        refuted: "pins without FOLL_WRITE, some of them of the zero page, failed no more often than pins with it",
        note: "Version 4 adds FOLL_WRITE itself, so that its pins never meet the zero page: its figures show that this is \
               no loss, not that it is needed. The zero page is outside ZONE_MOVABLE and CMA on these machines.",
        on: ONE_PROCESSOR,
    },
    Claim {
        id: "C9",
        quote: "We must unpin everything because if we fail, no pages should stay pinned",
        author: TATASHIN,
        mail: REPLY,
        supported: "that is so: pins failed, and as many pages were unpinned as pinned",
        refuted: "that is not so: failed pins left pages pinned",
        note: "",
        on: ONE_PROCESSOR,
    },
    Claim {
        id: "C10",
        quote: "pages can end up in per-cpu list after lru_add_drain_all() but before isolation",
        author: TATASHIN,
        mail: HANG,
        supported: "passes that drained failed to isolate pages, for this reason or another",
        refuted: "that did not matter: passes that drained hardly ever failed to isolate a page",
        note: "A page can be in a per-CPU list, or another thread can have isolated it, as two threads in this load do to each \
               other. The figures cannot tell the two apart. The failure may also come before the drain.",
        on: TWO_PROCESSORS,
    },
];
