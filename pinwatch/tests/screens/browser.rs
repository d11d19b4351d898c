//! Headless Chromium, controlled through its debugging pipe: JSON messages, each followed by a NUL byte.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

use super::wait::{PATIENCE, wait_until};

/// A running browser with one page. Killed when dropped.
pub struct Browser {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    session: Option<Value>,
    calls: u64,
}

impl Browser {
    /// Starts a browser and opens a page.
    pub fn open(url: &str) -> Self {
        // Chromium reads from descriptor 3 and writes to 4.
        let command = "exec chromium-headless-shell --no-sandbox --disable-gpu --remote-debugging-pipe 3<&0 4>&1";
        let mut child = Command::new("sh")
            .args(["-c", command])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("a shell");
        let mut browser = Self {
            to: child.stdin.take().expect("piped"),
            from: BufReader::new(child.stdout.take().expect("piped")),
            child,
            session: None,
            calls: 0,
        };
        let target = browser.call("Target.createTarget", json!({ "url": "about:blank" }));
        let params = json!({ "targetId": target["targetId"], "flatten": true });
        let attached = browser.call("Target.attachToTarget", params);
        browser.session = Some(attached["sessionId"].clone());
        // Returns once the page has replaced the blank document.
        browser.call("Page.navigate", json!({ "url": url }));
        browser
    }

    /// Calls a method of the DevTools protocol and returns its result. Panics on an error.
    pub fn call(&mut self, method: &str, params: Value) -> Value {
        self.calls += 1;
        let mut message = json!({ "id": self.calls, "method": method, "params": params });
        if let Some(session) = &self.session {
            message["sessionId"] = session.clone();
        }
        let sent = write!(self.to, "{message}\0").and_then(|()| self.to.flush());
        sent.expect("chromium-headless-shell: `cargo xtask setup` installs it");
        loop {
            let mut answer = Vec::new();
            self.from.read_until(0, &mut answer).expect("an answer");
            assert_eq!(answer.pop(), Some(0), "the browser ended");
            let mut answer: Value = serde_json::from_slice(&answer).expect("JSON");
            if answer["id"] == self.calls {
                assert!(answer["error"].is_null(), "{method}: {answer}");
                return answer["result"].take();
            }
        }
    }

    /// The value of an expression on the page. Waits for the value of a promise.
    pub fn evaluate(&mut self, expression: &str) -> Value {
        let params =
            json!({ "expression": expression, "awaitPromise": true, "returnByValue": true });
        let mut answer = self.call("Runtime.evaluate", params);
        assert!(answer["exceptionDetails"].is_null(), "{answer}");
        answer["result"]["value"].take()
    }

    /// Waits until a condition holds on the page.
    pub fn wait_until(&mut self, condition: &str) {
        wait_until(condition, PATIENCE, || {
            self.evaluate(&format!("Boolean({condition})")) == true
        });
    }

    /// Presses and releases a key, given by its DOM name.
    pub fn press(&mut self, key: &str) {
        let code = match key {
            "Tab" => 9,
            "Enter" => 13,
            "ArrowUp" => 38,
            _ => panic!("no such key: {key}"),
        };
        let text = if key == "Enter" { "\r" } else { "" };
        for kind in ["keyDown", "keyUp"] {
            self.call(
                "Input.dispatchKeyEvent",
                json!({ "type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code, "text": text }),
            );
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
