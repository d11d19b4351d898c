//! A parser of `/proc/zoneinfo`: the zone of each page frame. No I/O.
#![forbid(unsafe_code)]

/// A zone with pages, of one node. Sizes are in base pages.
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
    /// Parses the text of any kernel since 4.12. The lines used (`Node`, `spanned`, `managed`, `start_pfn`) are the same
    /// in all of them; other lines vary. Zones without pages have no `start_pfn`.
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

    /// The zone of a page frame. Zones of two nodes overlap where one of them has a hole. The smaller zone wins, because
    /// the larger one has the hole.
    pub fn of(&self, pfn: u64) -> Option<&Zone> {
        let holds = |zone: &&Zone| (zone.start_pfn..zone.start_pfn + zone.spanned).contains(&pfn);
        self.0.iter().filter(holds).min_by_key(|zone| zone.spanned)
    }

    pub fn has_movable(&self) -> bool {
        self.0.iter().any(Zone::is_movable)
    }

    /// Base pages that a long-term pin can use.
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Debian 5.10 with movablecore=1G: no boost, promo and cma lines, and no start_pfn for empty zones.
    const V5_10: &str = "\
Node 0, zone      DMA
  per-node stats
      nr_inactive_anon 0
      nr_active_anon 79
  pages free     3849
        min      60
        low      75
        high     90
        spanned  4095
        present  3998
        managed  3977
        protection: (0, 1929, 1929, 2898, 2898)
      nr_free_pages 3849
  pagesets
    cpu: 0
              count: 0
              high:  0
              batch: 1
  vm stats threshold: 4
  node_unreclaimable:  0
  start_pfn:           1
Node 0, zone    DMA32
  pages free     491214
        min      7458
        spanned  1044480
        present  520160
        managed  496996
        protection: (0, 0, 0, 968, 968)
  pagesets
    cpu: 0
              count: 357
  node_unreclaimable:  0
  start_pfn:           4096
Node 0, zone   Normal
  pages free     0
        min      0
        spanned  0
        present  0
        managed  0
        protection: (0, 0, 0, 0, 0)
Node 0, zone  Movable
  pages free     246466
        spanned  262144
        present  262144
        managed  248041
        protection: (0, 0, 0, 0, 0)
  node_unreclaimable:  0
  start_pfn:           1048576
Node 0, zone   Device
  pages free     0
        spanned  0
        present  0
        managed  0
        protection: (0, 0, 0, 0, 0)
";

    /// Debian 7.3, the same machine: more lines, also after start_pfn.
    const V7_3: &str = "\
Node 0, zone    DMA32
  pages free     473279
        boost    0
        min      11176
        low      13970
        high     16764
        promo    19558
        spanned  1044480
        present  520160
        managed  492865
        cma      0
        protection: (0, 0, 0, 968, 968)
      nr_free_pages 473279
      nr_free_pages_blocks 401920
      nr_unaccepted 0
  pagesets
    cpu: 0
              count:    6491
              high:     6985
              batch:    63
              high_min: 6985
              high_max: 30616
  vm stats threshold: 20
  node_unreclaimable:  1
  start_pfn:           4096
  reserved_highatomic: 0
  free_highatomic:     0
Node 0, zone   Normal
  pages free     0
        boost    0
        spanned  0
        present  0
        managed  0
        cma      0
        protection: (0, 0, 0, 0, 0)
Node 0, zone  Movable
        spanned  262144
        present  262144
        managed  247944
        cma      0
  start_pfn:           1048576
  reserved_highatomic: 0
  free_highatomic:     0
";

    fn zone_names(zones: &Zones, pfns: [u64; 5]) -> [Option<&str>; 5] {
        pfns.map(|pfn| zones.of(pfn).map(|zone| zone.name.as_str()))
    }

    #[test]
    fn reads_5_10() {
        let zones = Zones::parse(V5_10);
        assert_eq!(
            zone_names(&zones, [0, 1, 4096, 1048576, 1048576 + 262144]),
            [None, Some("DMA"), Some("DMA32"), Some("Movable"), None]
        );
        assert!(zones.has_movable());
        assert_eq!(zones.non_movable_pages(), 3977 + 496996);
    }

    #[test]
    fn reads_7_3() {
        let zones = Zones::parse(V7_3);
        assert_eq!(
            zone_names(&zones, [1, 4096, 1048575, 1048576, 1048576 + 262143]),
            [
                None,
                Some("DMA32"),
                Some("DMA32"),
                Some("Movable"),
                Some("Movable")
            ]
        );
        assert_eq!(zones.non_movable_pages(), 492865);
    }

    #[test]
    fn a_zone_in_the_hole_of_another_wins() {
        let zones = Zones::parse(
            "Node 0, zone   Normal\n spanned 3000\n managed 2000\n start_pfn: 1000\n\
             Node 1, zone   Normal\n spanned 1000\n managed 1000\n start_pfn: 2000\n",
        );
        assert_eq!(zones.of(1999).map(|zone| zone.node), Some(0));
        assert_eq!(zones.of(2000).map(|zone| zone.node), Some(1));
        assert_eq!(zones.of(3000).map(|zone| zone.node), Some(0));
    }

    #[test]
    fn empty_text_has_no_zones() {
        assert_eq!(Zones::parse("").of(1), None);
        assert!(!Zones::parse("").has_movable());
    }
}
