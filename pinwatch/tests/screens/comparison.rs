//! The page of `pinwatch compare --html` in a browser, for recordings of two kernels.

use std::process::Command;

use serde_json::json;

use super::browser::Browser;

/// Made by `cargo xtask evaluate --base 5.10 --new 6.12`.
const RECORDINGS: [&str; 2] = ["5.10.pw", "6.12.pw"];

#[test]
fn the_comparison_page_shows_all_groups_and_fits_a_narrow_window() {
    let folder = std::env::temp_dir().join(format!("pinwatch-page-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let page = folder.join("comparison.html");
    let data = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/recordings");
    let status = Command::new(env!("CARGO_BIN_EXE_pinwatch"))
        .args(["compare", "--allow=hooks", "--html"])
        .arg(&page)
        .args(RECORDINGS)
        .current_dir(data)
        .output()
        .expect("it runs")
        .status;
    assert_eq!(status.code(), Some(1), "6.12 fails where 5.10 does not");
    let mut browser = Browser::open(&format!("file://{}", page.display()));
    browser.wait_until("document.readyState === 'complete'");
    let shown = browser.evaluate("document.body.innerText");
    let shown = shown.as_str().expect("text");
    for wanted in [
        "worse: ",
        "held-one, io_uring, 129 to 256 pages",
        "ENOMEM (migrate_busy)",
        "C10",
        "6.12.",
    ] {
        assert!(shown.contains(wanted), "{wanted} in {shown}");
    }
    let count = |browser: &mut Browser, what: &str| {
        let count = browser.evaluate(&format!("document.querySelectorAll('{what}').length"));
        count.as_u64().expect("a number")
    };
    let groups = count(&mut browser, "details");
    assert!(groups >= 14, "{groups} groups of pins");
    assert_eq!(count(&mut browser, "details figure > svg"), 3 * groups);
    assert_eq!(count(&mut browser, "details .area.base"), groups);
    // The page fits a narrow window. The light and the dark scheme have different colours.
    let size = json!({ "width": 420, "height": 900, "deviceScaleFactor": 1, "mobile": false });
    browser.call("Emulation.setDeviceMetricsOverride", size);
    let width = browser.evaluate("document.documentElement.scrollWidth");
    assert!(width.as_u64() <= Some(420), "{width}");
    let mut inks = Vec::new();
    for scheme in ["light", "dark"] {
        let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        browser.call("Emulation.setEmulatedMedia", features);
        let size =
            json!({ "width": 1200, "height": 1600, "deviceScaleFactor": 1, "mobile": false });
        browser.call("Emulation.setDeviceMetricsOverride", size);
        inks.push(browser.evaluate("getComputedStyle(document.body).color + getComputedStyle(document.body).backgroundColor"));
        if let Some(folder) = std::env::var_os("PINWATCH_SCREENSHOTS") {
            let shot = browser.call("Page.captureScreenshot", json!({ "format": "png" }));
            let path = std::path::Path::new(&folder).join(format!("comparison-{scheme}.base64"));
            std::fs::write(path, shot["data"].as_str().expect("a picture")).expect("written");
        }
    }
    assert_ne!(inks[0], inks[1]);
    std::fs::remove_dir_all(&folder).expect("it is there");
}
