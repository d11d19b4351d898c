//! `/proc/zoneinfo`: which page frame lies in which zone. A parser of text, no I/O.

/// One zone of one node that has pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone {
    pub node: u32,
    pub name: String,
    pub start_pfn: u64,
    pub spanned: u64,
    pub managed: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Zones(Vec<Zone>);

impl Zones {
    /// Reads the text of any kernel since 4.12: the lines used (`Node`, `spanned`, `managed`, `start_pfn`)
    /// have not changed, those around them come and go. Zones without pages have no `start_pfn`.
    pub fn parse(text: &str) -> Self {
        let mut zones = Vec::new();
        let mut open: Option<Zone> = None;
        for line in text.lines() {
            if let Some((node, name)) = heading(line) {
                open = Some(Zone {
                    node,
                    name: name.to_owned(),
                    start_pfn: 0,
                    spanned: 0,
                    managed: 0,
                });
            }
            let Some(zone) = &mut open else { continue };
            let mut words = line.split_whitespace();
            let (key, value) = (
                words.next(),
                words.next().and_then(|word| word.parse().ok()),
            );
            match (key, value) {
                (Some("spanned"), Some(pages)) => zone.spanned = pages,
                (Some("managed"), Some(pages)) => zone.managed = pages,
                (Some("start_pfn:"), Some(pfn)) => {
                    zone.start_pfn = pfn;
                    zones.extend(open.take());
                }
                _ => (),
            }
        }
        zones.retain(|zone| zone.spanned > 0);
        Self(zones)
    }

    /// The zone of a page frame. Zones of two nodes may overlap where one has a hole: the smaller one wins,
    /// because it is the other that has the hole.
    pub fn of(&self, pfn: u64) -> Option<&Zone> {
        let holds = |zone: &&Zone| (zone.start_pfn..zone.start_pfn + zone.spanned).contains(&pfn);
        self.0.iter().filter(holds).min_by_key(|zone| zone.spanned)
    }

    pub fn has_movable(&self) -> bool {
        self.0.iter().any(Zone::is_movable)
    }

    /// Pages from which a long-term pin can be served.
    pub fn non_movable_pages(&self) -> u64 {
        self.0
            .iter()
            .filter(|zone| !zone.is_movable())
            .map(|zone| zone.managed)
            .sum()
    }
}

impl Zone {
    fn is_movable(&self) -> bool {
        self.name == "Movable"
    }
}

/// `Node 0, zone    DMA32`
fn heading(line: &str) -> Option<(u32, &str)> {
    let (node, zone) = line.strip_prefix("Node ")?.split_once(", zone")?;
    Some((node.parse().ok()?, zone.trim()))
}
