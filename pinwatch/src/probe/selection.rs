//! The user's selection of measurements and of the kind of hook.
#![forbid(unsafe_code)]

use super::table::Measurement;
use crate::kernel::defects::repeats_scans;
use crate::kernel::facts::Facts;

/// Preferred kind of hook on kernel functions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Prefer {
    /// fentry and fexit if the kernel accepts them, otherwise kprobe and kretprobe
    #[default]
    Auto,
    /// Same as auto
    Fentry,
    /// kprobe and kretprobe if the kernel accepts them, otherwise fentry and fexit
    Kprobe,
}

/// The user's selection.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Selection {
    /// Preferred kind of hook on kernel functions
    #[arg(long = "attach", value_name = "KIND", default_value = "auto")]
    pub prefer: Prefer,

    /// Add a measurement that is off by default: fast_path, isolate_lru, refusals or weak_pins (repeatable)
    #[arg(long, value_name = "MEASUREMENT", value_parser = optional)]
    pub with: Vec<Measurement>,

    /// Leave out a measurement and its cost (repeatable); `pinwatch check` lists the names
    #[arg(long, value_name = "MEASUREMENT", value_parser = dispensable)]
    pub without: Vec<Measurement>,
}

impl From<Prefer> for Selection {
    fn from(prefer: Prefer) -> Self {
        Self {
            prefer,
            ..Self::default()
        }
    }
}

impl Selection {
    /// Reason why a measurement is not selected on this kernel; `None` if it is.
    pub(super) fn refuses(&self, measurement: Measurement, facts: &Facts) -> Option<String> {
        use Measurement as M;
        // Entry and return of memfd_pin_folios go together: pins without returns would never end.
        let given = |unwanted: M| {
            self.without.contains(&unwanted) && !matches!(unwanted, M::MemfdEntry | M::MemfdReturn)
        };
        let memfd = self.without.contains(&M::MemfdEntry) || self.without.contains(&M::MemfdReturn);
        let of_memfd = matches!(measurement, M::MemfdEntry | M::MemfdReturn);
        if given(measurement) || (of_memfd && memfd) {
            Some("--without".to_owned())
        } else if is_off_by_default(measurement, facts) && !self.with.contains(&measurement) {
            Some(format!(
                "off by default because of its cost: use --with {}",
                measurement.name()
            ))
        } else {
            None
        }
    }
}

/// Nothing but isolations shows the scans that the loop up to 5.12 repeats: there they are on.
fn is_off_by_default(measurement: Measurement, facts: &Facts) -> bool {
    let shows_scans = measurement == Measurement::IsolateLru && repeats_scans(facts);
    measurement.is_optional() && !shows_scans
}

fn optional(name: &str) -> Result<Measurement, String> {
    by_name(name, Measurement::is_optional)
}

fn dispensable(name: &str) -> Result<Measurement, String> {
    use Measurement as M;
    by_name(name, |m| {
        !matches!(m, M::PinEntry | M::PinReturn | M::FastPath | M::WeakPins)
    })
}

fn by_name(name: &str, may_be: fn(Measurement) -> bool) -> Result<Measurement, String> {
    let mut all = Measurement::ALL.into_iter().filter(|m| may_be(*m));
    all.clone().find(|m| m.name() == name).ok_or_else(|| {
        let names: Vec<_> = all.by_ref().map(Measurement::name).collect();
        format!("the measurement must be one of {}", names.join(", "))
    })
}
