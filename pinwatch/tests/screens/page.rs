//! The page of the daemon in a browser. Its figures must equal `/metrics` of one state.

use std::net::SocketAddr;

use serde_json::json;

use super::browser::Browser;
use super::served::serve;
use super::state::state;

/// Opens the page in a browser and waits until it shows the state.
fn open(address: SocketAddr) -> Browser {
    let mut browser = Browser::open(&format!("http://{address}/"));
    browser.wait_until("document.getElementById('release')?.textContent.startsWith('6.12.0-test')");
    browser
}

/// The text of an element.
fn by_id<'a>(document: &'a str, id: &str) -> &'a str {
    let start = format!("id=\"{id}\"");
    let rest = document.split_once(&start).expect("it is there").1;
    let rest = rest.split_once('>').expect("a tag").1;
    rest.split_once('<').expect("a tag").0
}

/// The texts of a table's cells, row by row.
fn table(document: &str, id: &str) -> Vec<Vec<String>> {
    let rest = document
        .split_once(&format!("<table id=\"{id}\">"))
        .expect("it is there")
        .1;
    let body = rest.split_once("<tbody>").expect("a body").1;
    let body = body.split_once("</tbody>").expect("an end").0;
    let text = |cell: &str| cell.split_once('>').expect("a tag").1.to_owned();
    body.split("</tr>")
        .filter(|row| !row.is_empty())
        .map(|row| {
            let cells = row.split("</td>").filter(|cell| cell.contains("<td"));
            cells
                .map(|cell| text(cell.split_once("<td").expect("a cell").1))
                .collect()
        })
        .collect()
}

fn number(text: &str) -> f64 {
    text.replace(',', "").parse().expect("a number")
}

#[test]
fn figures_on_the_page_equal_the_metrics() {
    let address = serve(state);
    let document = open(address).evaluate("document.documentElement.outerHTML");
    let document = document.as_str().expect("text");
    let metrics = ureq::get(format!("http://{address}/metrics"))
        .call()
        .expect("it answers")
        .body_mut()
        .read_to_string()
        .expect("text");
    let sum = |name: &str, labels: &[&str]| -> f64 {
        let samples = metrics.lines().filter(|line| {
            let rest = line.strip_prefix(name).unwrap_or("_");
            rest.starts_with(['{', ' ']) && labels.iter().all(|label| rest.contains(label))
        });
        samples
            .map(|line| line.rsplit_once(' ').expect("a sample").1)
            .map(|value| value.parse::<f64>().expect("a number"))
            .sum()
    };
    for (id, name, labels) in [
        ("pins", "pinwatch_pins_total", &[][..]),
        ("failed", "pinwatch_pin_failures_total", &[]),
        ("in-flight", "pinwatch_pins_in_flight", &[]),
        ("migrated", "pinwatch_migrate_pages_total", &["succeeded"]),
        (
            "migrate-failed",
            "pinwatch_migrate_pages_total",
            &["failed"],
        ),
        ("lost", "pinwatch_events_lost_total", &["skipped"]),
        ("events-sent", "pinwatch_events_sent_total", &[]),
        ("pinned-pages", "pinwatch_machine_pinned_pages", &[]),
    ] {
        let shown = number(by_id(document, id));
        assert_eq!(shown, sum(name, labels), "{id}");
        assert!(shown > 0.0, "{id}");
    }
    let origins = table(document, "origins");
    assert_eq!(origins.len(), 3);
    for row in origins {
        let label = format!("origin=\"{}\"", row[0]);
        assert_eq!(number(&row[1]), sum("pinwatch_pins_total", &[&label]));
        assert_eq!(
            number(&row[3]),
            sum("pinwatch_pin_failures_total", &[&label])
        );
        let passes = sum("pinwatch_pin_passes_sum", &[&label]) / number(&row[1]);
        assert_eq!(row[6], format!("{passes:.2}"));
    }
    let failures = table(document, "failures");
    assert!(failures.len() > 3);
    for row in failures {
        let labels = [
            &*format!("cause=\"{}\"", row[0]),
            &format!("errno=\"{}\"", row[1]),
            &format!("origin=\"{}\"", row[2]),
        ];
        assert_eq!(number(&row[3]), sum("pinwatch_pin_failures_total", &labels));
    }
    let passes = table(document, "passes");
    assert_eq!(passes.len(), 4);
    let counted: f64 = passes.iter().map(|row| number(&row[1])).sum();
    assert_eq!(counted, sum("pinwatch_pin_passes_count", &[]));

    let flight = table(document, "flight");
    assert_eq!(flight[0][0], "75.0 s");
    assert!(flight[0][3].starts_with("looping on isolation: 41000 passes"));
    let pinned = table(document, "pinned");
    assert_eq!(pinned[0], ["qemu", "17", "3.0 GiB", "0 B", "/&lt;i&gt;"]);
    assert_eq!(pinned[1][3], "8.0 KiB");
    let blockers = table(document, "blockers");
    assert_eq!(blockers, [["pinned", "anon", "12", "20.0 ms", "1"]]);
    let holders = table(document, "holders");
    assert_eq!(
        holders,
        [[
            "&lt;i&gt;backup&lt;/i&gt;",
            "4242",
            "vfio",
            "6.00 s, still",
            "17"
        ]]
    );
    let hooks = table(document, "hooks");
    assert_eq!(
        hooks[0][..3],
        ["pin_entry", "attached", "fentry __gup_longterm_locked"]
    );
    assert_eq!(hooks[1][1], "lost");
    assert!(
        hooks[1][3].contains("&lt;b&gt;"),
        "text is not escaped: {:?}",
        hooks[1]
    );
}

#[test]
fn the_page_loads_nothing_from_other_hosts_and_inserts_no_html() {
    let address = serve(state);
    let mut answer = ureq::get(format!("http://{address}/"))
        .call()
        .expect("it answers");
    let policy = answer.headers()["content-security-policy"]
        .to_str()
        .expect("text");
    assert!(
        policy.starts_with("default-src 'none'; script-src 'self';"),
        "{policy}"
    );
    let mut text = answer.body_mut().read_to_string().expect("text");
    for file in ["page.css", "page.js"] {
        let mut answer = ureq::get(format!("http://{address}/{file}"))
            .call()
            .expect("it answers");
        text += &answer.body_mut().read_to_string().expect("text");
    }
    let text = text.replace("http://www.w3.org/2000/svg", "");
    for never in [
        "http:",
        "https:",
        "innerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
    ] {
        assert!(!text.contains(never), "{never}");
    }
}

#[test]
fn the_page_fits_a_phone_and_works_by_keyboard() {
    let mut browser = open(serve(state));
    browser.call(
        "Emulation.setDeviceMetricsOverride",
        json!({ "width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": true }),
    );
    browser.wait_until("innerWidth === 360");
    let width = browser.evaluate("document.documentElement.scrollWidth");
    assert_eq!(width, 360, "only tables may scroll sideways");

    let mut reached = Vec::new();
    for _ in 0..4 {
        browser.press("Tab");
        reached.push(
            browser.evaluate("document.activeElement.id || document.activeElement.className"),
        );
    }
    assert_eq!(reached, ["pause", "scroll", "heat", "scroll"]);
    browser.evaluate("document.getElementById('pause').focus()");
    browser.press("Enter");
    browser.wait_until("document.getElementById('status').textContent === 'paused'");
    browser.evaluate("document.getElementById('heat').focus()");
    browser.press("ArrowUp");
    browser.wait_until(
        "document.querySelector('#heat .mark') || document.getElementById('heat-cell').textContent",
    );
}

#[test]
fn the_page_follows_the_colour_scheme_of_the_system() {
    let mut browser = open(serve(state));
    let mut back = |scheme: &str| {
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        browser.call(
            "Emulation.setEmulatedMedia",
            json!({ "features": features }),
        );
        let lightness =
            "getComputedStyle(document.body).backgroundColor.match(/[0-9]+/g).map(Number)[0]";
        browser.evaluate(lightness).as_u64().expect("a number")
    };
    assert!(back("light") > 200 && back("dark") < 60);
}
