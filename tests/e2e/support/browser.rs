//! A real browser: Debian's Chromium without a window, driven by Playwright (`tests/browser/`).

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::peers::{installed, peer};
use super::wait::wait_until;

/// How long a browser on a busy machine may take for a command.
const PATIENCE: Duration = Duration::from_secs(60);

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/browser");

/// A browser with one tab. It ends when dropped.
pub(crate) struct Browser {
    driver: Child,
    /// `None`: the browser has received the command to end.
    commands: Option<ChildStdin>,
    outcomes: Mutex<Receiver<String>>,
}

impl Browser {
    /// Starts a browser with a window of this size; `None` where none is installed.
    pub(crate) fn start(width: u32, height: u32) -> Option<Self> {
        let (chromium, node) = (peer("chromium")?, peer("node")?);
        let library = Path::new(FOLDER).join("node_modules/playwright-core");
        let there = library.is_dir().then_some(());
        installed(there, "playwright-core: npm ci --prefix tests/browser")?;
        let mut driver = Command::new(node)
            .arg("driver.mjs")
            .arg(chromium)
            .args([width.to_string(), height.to_string()])
            .current_dir(FOLDER)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("node can be run");
        let commands = driver.stdin.take();
        let stdout = driver.stdout.take().expect("the output is piped");
        let (sender, outcomes) = channel();
        thread::spawn(move || {
            let lines = BufReader::new(stdout).lines().map_while(Result::ok);
            lines.for_each(|line| drop(sender.send(line)));
        });
        Some(Browser {
            driver,
            commands,
            outcomes: Mutex::new(outcomes),
        })
    }

    /// Sends a command to the driver and returns its result.
    #[track_caller]
    fn command(&self, command: &Value) -> Value {
        let mut commands = self.commands.as_ref().expect("the driver has not ended");
        writeln!(commands, "{command}").expect("the driver reads");
        let outcomes = self.outcomes.lock().expect("the lock is not poisoned");
        let line = outcomes.recv_timeout(PATIENCE);
        let line = line.unwrap_or_else(|error| panic!("no outcome of {command}: {error}"));
        let mut outcome: Value = serde_json::from_str(&line).expect("the driver speaks JSON");
        assert!(
            outcome["error"].is_null(),
            "{command}: {}",
            outcome["error"]
        );
        outcome["value"].take()
    }

    /// Opens a page.
    #[track_caller]
    pub(crate) fn open(&self, address: &str) {
        self.command(&json!({ "do": "open", "address": address }));
    }

    /// The current address.
    #[track_caller]
    pub(crate) fn address(&self) -> String {
        let address = self.command(&json!({ "do": "address" }));
        address.as_str().unwrap_or_default().to_owned()
    }

    /// The value of an expression on the page.
    #[track_caller]
    pub(crate) fn value(&self, expression: &str) -> Value {
        self.command(&json!({ "do": "value", "expression": expression }))
    }

    /// The text of the first element that a selector finds; empty if it finds none.
    #[track_caller]
    pub(crate) fn text(&self, selector: &str) -> String {
        let text = format!("document.querySelector('{selector}')?.innerText ?? ''");
        self.value(&text).as_str().unwrap_or_default().to_owned()
    }

    /// Waits until an expression holds on the page.
    #[track_caller]
    pub(crate) fn wait_for(&self, expression: &str) {
        wait_until(PATIENCE, expression, || {
            self.value(&format!("Boolean({expression})")) == true
        });
    }

    /// Clicks the first element that a selector finds, as a person would: it must be visible.
    #[track_caller]
    pub(crate) fn click(&self, selector: &str) {
        self.command(&json!({ "do": "click", "selector": selector }));
    }

    /// Moves the pointer to the middle of the first element that a selector finds.
    #[track_caller]
    pub(crate) fn hover(&self, selector: &str) {
        self.command(&json!({ "do": "hover", "selector": selector }));
    }

    /// Types into the element that has the focus, and presses Enter.
    #[track_caller]
    pub(crate) fn enter(&self, text: &str) {
        self.write(text);
        self.press("Enter");
    }

    /// Types into the element that has the focus.
    #[track_caller]
    pub(crate) fn write(&self, text: &str) {
        self.command(&json!({ "do": "type", "text": text }));
    }

    /// Presses a key.
    #[track_caller]
    pub(crate) fn press(&self, key: &str) {
        self.command(&json!({ "do": "press", "key": key }));
    }

    /// Resizes its window.
    #[track_caller]
    pub(crate) fn resize(&self, width: u32, height: u32) {
        self.command(&json!({ "do": "resize", "width": width, "height": height }));
    }

    /// Writes a screenshot to `target/screenshots`, for people.
    #[track_caller]
    pub(crate) fn screenshot(&self, name: &str) {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("screenshots");
        let file = folder.join(format!("{name}.png"));
        self.command(&json!({ "do": "screenshot", "file": file }));
    }

    /// The errors on the page since the last call: script errors, violations of its policy, and resources that did not
    /// load.
    #[track_caller]
    pub(crate) fn complaints(&self) -> Vec<String> {
        let complaints = self.command(&json!({ "do": "complaints" }));
        serde_json::from_value(complaints).expect("a list of texts")
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The driver ends its browser, and then itself.
        self.commands = None;
        if !thread::panicking() {
            wait_until(PATIENCE, "the browser ends", || {
                matches!(self.driver.try_wait(), Ok(Some(_)))
            });
        }
        let _ = self.driver.wait();
    }
}
