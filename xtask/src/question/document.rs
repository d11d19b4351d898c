//! Writes the measured parts of docs/question-2020.md: all figures, and every sentence that depends on a verdict.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::algorithms::{ALGORITHMS, Algorithm};
use super::claims::{CLAIMS, Claim};
use super::measured::{Finding, MACHINES, Machine, Measured, Recorded, Verdict};
use crate::bench::document::replaced;

const DOCS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs");
const PAGE: &str = "question-2020.md";

/// Path and new text of the page.
pub fn generated() -> Result<(PathBuf, String)> {
    let path = Path::new(DOCS).join(PAGE);
    let page = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let rules = fs::read_to_string(Path::new(DOCS).join("evaluation.md"))?;
    let text = filled(&page, &Measured::read()?, &rules)?;
    Ok((path, text))
}

/// The page with the parts between its markers made anew.
fn filled(page: &str, measured: &Measured, rules: &str) -> Result<String> {
    let keys: Vec<_> = measured.algorithms.iter().map(|each| &each.key).collect();
    ensure!(
        keys == ALGORITHMS.each_ref().map(|algorithm| algorithm.key),
        "docs/question-2020.json has other algorithms: run `cargo xtask question`"
    );
    let parts = [
        ("answer", answer(measured)?),
        ("algorithms", algorithms(measured)),
        ("claims", claims(measured, rules)?),
        ("command", command(measured)),
    ];
    parts
        .into_iter()
        .try_fold(page.to_owned(), |text, (name, made)| {
            replaced(&text, name, &made)
                .with_context(|| format!("docs/{PAGE} has no markers for {name}"))
        })
}

/// A row of a table: its name, and a cell for each algorithm.
fn row(name: &str, cells: impl IntoIterator<Item = String>) -> String {
    let cells = cells.into_iter().map(|cell| format!(" {cell} |"));
    format!("| {name} |{}\n", cells.collect::<String>())
}

fn head(first: &str) -> String {
    let titles = ALGORITHMS.each_ref().map(|each| each.title.to_owned());
    row(first, titles) + &"|---".repeat(ALGORITHMS.len() + 1) + "|\n"
}

fn finding<'a>(recorded: &'a Recorded, claim: &Claim) -> Result<&'a Finding> {
    let mut findings = recorded.on[claim.on].claims.iter();
    let found = findings.find(|finding| finding.id == claim.id);
    found.with_context(|| format!("{} has no claim {}", recorded.key, claim.id))
}

/// The findings on a claim, in the order of [`ALGORITHMS`].
fn findings<'a>(measured: &'a Measured, claim: &Claim) -> Result<Vec<&'a Finding>> {
    let all = measured.algorithms.iter();
    all.map(|recorded| finding(recorded, claim)).collect()
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Supported => "**supported**",
        Verdict::Refuted => "**refuted**",
        Verdict::NotEnoughData => "not enough data",
        Verdict::NotMeasured => "not measured",
    }
}

fn answer(measured: &Measured) -> Result<String> {
    let mut text = head("Claim");
    let mut sentences = String::new();
    for claim in &CLAIMS {
        let found = findings(measured, claim)?;
        let name = format!(
            "[{}](#{}) {}",
            claim.id,
            claim.id.to_lowercase(),
            found[0].claim
        );
        text += &row(
            &name,
            found.iter().map(|each| word(each.verdict).to_owned()),
        );
        writeln!(sentences, "- {}: {}", claim.id, sentence(claim, &found))?;
    }
    Ok(format!("{text}\n{sentences}"))
}

/// Who was right about a claim, on which algorithm.
fn sentence(claim: &Claim, found: &[&Finding]) -> String {
    let on = |verdict: Verdict| {
        let all = ALGORITHMS.iter().zip(found);
        let with = all.filter(|(_, each)| each.verdict == verdict);
        with.map(|(algorithm, _)| algorithm.name)
            .collect::<Vec<_>>()
    };
    let answers = [
        (Verdict::Supported, claim.supported),
        (Verdict::Refuted, claim.refuted),
        (Verdict::NotEnoughData, "these pins do not decide it"),
        (Verdict::NotMeasured, "it was not measured"),
    ];
    let sentences = answers.into_iter().filter_map(|(verdict, answer)| {
        let on = on(verdict);
        let others = found.len() - on.len();
        match on.len() {
            0 => None,
            _ if others == 0 => Some(format!("On all four, {answer}.")),
            _ => Some(format!("On {}, {answer}.", listed(&on))),
        }
    });
    let author = format!("{} says \"{}\"", claim.author, claim.quote);
    let end = if claim.quote.ends_with('.') { "" } else { "." };
    format!("{author}{end} {}", sentences.collect::<Vec<_>>().join(" "))
}

/// `a`, `a and b`, `a, b and c`.
fn listed(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

fn algorithms(measured: &Measured) -> String {
    let mut text = String::new();
    for Algorithm { title, does, .. } in &ALGORITHMS {
        text += &format!("- **{title}**: {does}\n");
    }
    text += "\n";
    text += &head("");
    text += &row("kernel", ALGORITHMS.each_ref().map(Algorithm::origin));
    let mut add = |name: &str, cell: &dyn Fn(&Recorded) -> String| {
        text += &row(name, measured.algorithms.iter().map(cell));
    };
    add("release", &|each| format!("`{}`", each.release));
    add("places user pages", &|each| {
        format!("`{}`", each.command_line)
    });
    add("processor", &|each| each.cpu.clone());
    add("memory", &|each| format!("{} MiB", each.memory_mib));
    add("load", &|each| {
        format!("`pinwatch load --evaluation --repeat {}`", each.load)
    });
    for (at, Machine { cpus, .. }) in MACHINES.iter().enumerate() {
        let s = if *cpus == 1 { "" } else { "s" };
        add(&format!("**{cpus} processor{s}**, 1 boot"), &|_| {
            String::new()
        });
        add("clock", &|each| {
            let clock = match each.on[at].counts_instructions {
                true => "counts instructions",
                false => "time",
            };
            clock.to_owned()
        });
        add("pins", &|each| each.on[at].pins.to_string());
        add("of those, failed", &|each| each.on[at].failed.to_string());
        add("lost", &|each| each.on[at].lost.to_string());
    }
    text
}

fn command(measured: &Measured) -> String {
    let load = measured.algorithms.first().map_or(1, |each| each.load);
    format!("    cargo xtask question --load {load}\n")
}

fn claims(measured: &Measured, rules: &str) -> Result<String> {
    let mut text = String::new();
    for claim in &CLAIMS {
        let found = findings(measured, claim)?;
        let (judged_by, supported_if) = rule(rules, claim.id)?;
        let Claim {
            id,
            quote,
            author,
            mail,
            note,
            ..
        } = claim;
        write!(
            text,
            "### {id}\n\n\
             > {quote}\n\n\
             {author}, [mail](https://lore.kernel.org/all/{mail}/). As a claim: {}.\n\n\
             Judged by: {judged_by}. Supported if: {supported_if}. Processors: {}.\n\n\
             {}{}",
            found[0].claim,
            MACHINES[claim.on].cpus,
            head(""),
            row("verdict", found.iter().map(|each| full(each)))
        )?;
        for name in names(&found) {
            let cell = |each: &&Finding| value(each, name).unwrap_or("-").to_owned();
            text += &row(name, found.iter().map(cell));
        }
        if !note.is_empty() {
            write!(text, "\n{note}\n")?;
        }
        text += "\n";
    }
    Ok(text)
}

/// A verdict. An undecided one names the missing data.
fn full(finding: &Finding) -> String {
    let why = finding.needs.as_ref().or(finding.reason.as_ref());
    let why = why.map(|why| format!(": {why}")).unwrap_or_default();
    format!("{}{why}", word(finding.verdict))
}

/// The names of all figures, each after the one that is before it in a finding. Some depend on the pins.
fn names<'a>(found: &[&'a Finding]) -> Vec<&'a str> {
    let mut names: Vec<&str> = Vec::new();
    for finding in found {
        let mut next = 0;
        for (name, _) in &finding.figures {
            let there = names.iter().position(|there| there == name);
            let at = there.unwrap_or_else(|| {
                names.insert(next, name);
                next
            });
            next = at + 1;
        }
    }
    names
}

fn value<'a>(finding: &'a Finding, name: &str) -> Option<&'a str> {
    let mut figures = finding.figures.iter();
    let found = figures.find(|(figure, _)| figure == name);
    found.map(|(_, value)| value.as_str())
}

/// The last two cells of a claim's row in docs/evaluation.md.
fn rule<'a>(rules: &'a str, id: &str) -> Result<(&'a str, &'a str)> {
    let mut lines = rules.lines();
    let line = lines.find(|line| line.starts_with(&format!("| {id} |")));
    let cells: Vec<_> = line
        .into_iter()
        .flat_map(|line| line.split(" | "))
        .collect();
    match cells[..] {
        [_, _, judged_by, supported_if] => Ok((judged_by, supported_if.trim_end_matches(" |"))),
        _ => Err(anyhow::anyhow!("docs/evaluation.md has no row for {id}")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::measured::Recording;
    use super::*;

    fn measured(verdicts: [Verdict; 4]) -> Measured {
        let algorithms = ALGORITHMS.iter().zip(verdicts).map(|(algorithm, verdict)| {
            let finding = |claim: &Claim| Finding {
                id: claim.id.to_owned(),
                claim: "a claim".to_owned(),
                figures: vec![(algorithm.key.to_owned(), "3 of 4".to_owned())],
                verdict,
                needs: (verdict == Verdict::NotEnoughData).then(|| "9 more".to_owned()),
                reason: None,
            };
            let recording = |_: &Machine| Recording {
                counts_instructions: true,
                pins: 1,
                failed: 0,
                lost: 0,
                claims: CLAIMS.iter().map(finding).collect(),
            };
            Recorded {
                key: algorithm.key.to_owned(),
                release: String::new(),
                command_line: String::new(),
                cpu: String::new(),
                memory_mib: 1,
                load: 1,
                on: MACHINES.each_ref().map(recording),
            }
        });
        Measured {
            algorithms: algorithms.collect(),
        }
    }

    const RULES: &str = include_str!("../../../docs/evaluation.md");

    #[test]
    fn answers_follow_the_verdicts() {
        use Verdict::{NotEnoughData, Refuted, Supported};
        let found = measured([Supported, Refuted, Supported, NotEnoughData]);
        let found = findings(&found, &CLAIMS[1]).unwrap();
        let said = sentence(&CLAIMS[1], &found);
        let (_, answers) = said.split_once("\". ").unwrap();
        assert_eq!(
            answers,
            "On the old loop and 6.1, he was right: trying again at once mostly failed again. \
             On version 4, he was wrong: trying again at once mostly helped. \
             On 7.3, these pins do not decide it."
        );
        let found = measured([Supported; 4]);
        let found = findings(&found, &CLAIMS[8]).unwrap();
        let said = sentence(&CLAIMS[8], &found);
        assert!(said.ends_with(
            "On all four, that is so: pins failed, and as many pages were unpinned as pinned."
        ));
    }

    #[test]
    fn every_claim_has_its_rule_and_its_figures() {
        let made = claims(&measured([Verdict::NotEnoughData; 4]), RULES).unwrap();
        assert_eq!(made.matches("\n### ").count() + 1, CLAIMS.len());
        assert!(made.contains("Supported if: at most 1.05."), "{made}");
        assert_eq!(
            made.matches("not enough data: 9 more").count(),
            4 * CLAIMS.len()
        );
        // A figure that another algorithm lacks.
        assert!(made.contains("| v4 | - | 3 of 4 | - | - |"), "{made}");
    }

    #[test]
    fn the_page_is_current() {
        let (path, text) = generated().unwrap();
        let there = fs::read_to_string(&path).unwrap();
        assert!(
            there == text,
            "docs/{PAGE} is stale: run `cargo xtask docs`"
        );
    }

    #[test]
    fn no_figure_is_typed() {
        let page = fs::read_to_string(Path::new(DOCS).join(PAGE)).unwrap();
        let mut typed = page.clone();
        for name in ["answer", "algorithms", "claims", "command"] {
            typed = replaced(&typed, name, "").unwrap();
        }
        // The mail with the patch, the year, the version, and names of claims.
        typed = typed.replace(CLAIMS[7].mail, "").replace("version 4", "");
        let is_name = |word: &str| {
            word == "2020"
                || word
                    .strip_prefix('C')
                    .is_some_and(|n| n.parse::<u8>().is_ok())
        };
        let words = typed.split(|c: char| !c.is_alphanumeric());
        let figure = words
            .into_iter()
            .find(|word| !is_name(word) && word.contains(|c: char| c.is_ascii_digit()));
        assert_eq!(figure, None);
    }
}
