//! The user's choice of measurements, and of the kind of hook.

use super::table::Measurement;

/// Which kind of hook to prefer on functions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Prefer {
    /// fentry and fexit wherever the kernel has them, else kprobe and kretprobe.
    #[default]
    Auto,
    /// The same.
    Fentry,
    /// kprobe and kretprobe wherever the kernel has them.
    Kprobe,
}

/// The user's choice.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Selection {
    /// Which kind of hook to prefer on kernel functions
    #[arg(long = "attach", value_name = "KIND", default_value = "auto")]
    pub prefer: Prefer,

    /// Also take a measurement that is off by default: fast_path (repeatable)
    #[arg(long, value_name = "MEASUREMENT", value_parser = optional)]
    pub with: Vec<Measurement>,

    /// Do without a measurement, and without its cost (repeatable); `pinwatch check` lists them
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
    /// Why a measurement is not wanted.
    pub(super) fn refuses(&self, measurement: Measurement) -> Option<String> {
        use Measurement as M;
        // An entry without its return would never end.
        let given = |unwanted: M| {
            self.without.contains(&unwanted) && !matches!(unwanted, M::MemfdEntry | M::MemfdReturn)
        };
        let memfd = self.without.contains(&M::MemfdEntry) || self.without.contains(&M::MemfdReturn);
        let of_memfd = matches!(measurement, M::MemfdEntry | M::MemfdReturn);
        if given(measurement) || (of_memfd && memfd) {
            Some("--without".to_owned())
        } else if measurement.is_optional() && !self.with.contains(&measurement) {
            Some(format!(
                "taken only --with {}, for its cost",
                measurement.name()
            ))
        } else {
            None
        }
    }
}

fn optional(name: &str) -> Result<Measurement, String> {
    by_name(name, Measurement::is_optional)
}

fn dispensable(name: &str) -> Result<Measurement, String> {
    use Measurement as M;
    by_name(name, |m| {
        !matches!(m, M::PinEntry | M::PinReturn) && !m.is_optional()
    })
}

fn by_name(name: &str, may_be: fn(Measurement) -> bool) -> Result<Measurement, String> {
    let mut all = Measurement::ALL.into_iter().filter(|m| may_be(*m));
    all.clone().find(|m| m.name() == name).ok_or_else(|| {
        let names: Vec<_> = all.by_ref().map(Measurement::name).collect();
        format!("not one of {}", names.join(", "))
    })
}
