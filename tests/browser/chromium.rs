//! Headless Chromium over the DevTools protocol, on a pair of pipes: no port, and it ends when they do.

use std::{
    fmt::Write as _,
    fs,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::cluster::process::Scratch;

/// It reads commands from descriptor 3 and writes answers and events to descriptor 4.
const PIPES: &str = r#"log=$1; shift; exec "$@" 3<&0 4>&1 </dev/null >"$log" 2>&1"#;

/// What keeps it from looking for its maker's hosts, and lets it run as root.
const FLAGS: [&str; 10] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
];

/// How long one answer may take. The machine may be busy with other things.
const PATIENCE: Duration = Duration::from_mins(5);

/// A browser with one page.
pub struct Page {
    child: Child,
    commands: ChildStdin,
    messages: Receiver<Value>,
    session: Option<String>,
    sent: u64,
    /// What it said without being asked.
    pub events: Vec<Value>,
    log: PathBuf,
    _profile: Scratch,
}

impl Page {
    /// Opens a URL and waits until it has loaded.
    pub fn open(name: &str, url: &str) -> Result<Self, String> {
        let profile = Scratch::new(&format!("browser-{name}-{}", std::process::id()))?;
        let log = profile.path.join("chromium.log");
        let spawned = Command::new("/bin/sh")
            .args(["-c", PIPES, "chromium"])
            .arg(&log)
            .arg("chromium")
            .args(FLAGS)
            .arg(format!("--user-data-dir={}", profile.path.join("profile").display()))
            .arg("about:blank")
            .env("HOME", &profile.path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let mut child = spawned.map_err(|error| error.to_string())?;
        let commands = child.stdin.take().ok_or("no pipe")?;
        let answers = BufReader::new(child.stdout.take().ok_or("no pipe")?);
        let (sender, messages) = channel();
        std::thread::spawn(move || {
            for message in answers.split(0).map_while(Result::ok) {
                let Ok(message) = serde_json::from_slice(&message) else { continue };
                if sender.send(message).is_err() {
                    return;
                }
            }
        });
        let mut page =
            Self { child, commands, messages, session: None, sent: 0, events: Vec::new(), log, _profile: profile };
        let target = page.call("Target.createTarget", &json!({"url": "about:blank"}))?;
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let session = page.call("Target.attachToTarget", &attach)?;
        page.session = session["sessionId"].as_str().map(str::to_owned);
        for domain in ["Runtime", "Log", "Network", "Page"] {
            page.call(&format!("{domain}.enable"), &json!({}))?;
        }
        page.size(1240, 1000)?;
        page.call("Page.navigate", &json!({"url": url}))?;
        page.until("document.readyState === 'complete'")?;
        Ok(page)
    }

    /// Sends a command and waits for its answer.
    pub fn call(&mut self, method: &str, parameters: &Value) -> Result<Value, String> {
        self.sent += 1;
        let mut command = json!({"id": self.sent, "method": method, "params": parameters});
        if let Some(session) = &self.session {
            command["sessionId"] = json!(session);
        }
        let sent = write!(self.commands, "{command}\0").and_then(|()| self.commands.flush());
        sent.map_err(|error| self.words(&error.to_string()))?;
        let start = Instant::now();
        loop {
            let left = PATIENCE.saturating_sub(start.elapsed());
            let message =
                self.messages.recv_timeout(left).map_err(|error| self.words(&format!("{method}: {error}")))?;
            if message["id"] != json!(self.sent) {
                self.events.push(message);
            } else if message["error"].is_null() {
                return Ok(message["result"].clone());
            } else {
                return Err(format!("{method}: {}", message["error"]));
            }
        }
    }

    /// The value of an expression in the page.
    pub fn value(&mut self, expression: &str) -> Result<Value, String> {
        let answer = self.call("Runtime.evaluate", &json!({"expression": expression, "returnByValue": true}))?;
        match &answer["exceptionDetails"] {
            Value::Null => Ok(answer["result"]["value"].clone()),
            exception => Err(format!("{expression}: {exception}")),
        }
    }

    /// Waits until an expression is true.
    pub fn until(&mut self, expression: &str) -> Result<(), String> {
        let start = Instant::now();
        while self.value(expression)? != json!(true) {
            if start.elapsed() > PATIENCE {
                return Err(format!("waited {PATIENCE:?} for {expression}"));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// Size of the window in pixels; narrow ones are phones.
    pub fn size(&mut self, width: u32, height: u32) -> Result<(), String> {
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 640});
        self.call("Emulation.setDeviceMetricsOverride", &size).map(|_| ())
    }

    /// Moves the mouse to the middle of an element, into view if need be.
    pub fn point_at(&mut self, selector: &str) -> Result<(), String> {
        let place = self.value(&format!(
            "(() => {{ const e = document.querySelector({selector:?}); e.scrollIntoView({{block: 'center'}}); \
             const b = e.getBoundingClientRect(); return [b.x + b.width / 2, b.y + b.height / 2]; }})()"
        ))?;
        let event = json!({"type": "mouseMoved", "x": place[0], "y": place[1]});
        self.call("Input.dispatchMouseEvent", &event).map(|_| ())
    }

    /// Presses a key, as `ArrowRight`, on what has the focus.
    pub fn press(&mut self, key: &str, shift: bool) -> Result<(), String> {
        for kind in ["keyDown", "keyUp"] {
            let event = json!({"type": kind, "key": key, "code": key, "modifiers": if shift { 8 } else { 0 }});
            self.call("Input.dispatchKeyEvent", &event)?;
        }
        Ok(())
    }

    /// Leaves a picture of the whole page for people to look at.
    pub fn picture(&mut self, file: &Path, dark: bool) -> Result<(), String> {
        let scheme = json!({"name": "prefers-color-scheme", "value": if dark { "dark" } else { "light" }});
        self.call("Emulation.setEmulatedMedia", &json!({"features": [scheme]}))?;
        let shot = json!({"format": "png", "captureBeyondViewport": true});
        let answer = self.call("Page.captureScreenshot", &shot)?;
        let text = answer["data"].as_str().ok_or("no picture")?;
        let decoded = Command::new("base64").arg("-d").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut decoded = decoded.map_err(|error| error.to_string())?;
        let mut input = decoded.stdin.take().ok_or("no pipe")?;
        let text = text.to_owned();
        let writer = std::thread::spawn(move || input.write_all(text.as_bytes()));
        let bytes = decoded.wait_with_output().map_err(|error| error.to_string())?.stdout;
        let _ = writer.join();
        fs::write(file, bytes).map_err(|error| format!("{}: {error}", file.display()))
    }

    /// Errors on the console, uncaught exceptions, and every request but the page itself.
    pub fn complaints(&mut self, url: &str) -> Result<String, String> {
        self.value("1")?; // whatever was said before this was answered has come
        let mut complaints = String::new();
        for event in &self.events {
            let parameters = &event["params"];
            let bad = match event["method"].as_str().unwrap_or_default() {
                "Runtime.exceptionThrown" => true,
                "Runtime.consoleAPICalled" => {
                    ["error", "assert", "warning"].iter().any(|kind| parameters["type"] == *kind)
                }
                "Log.entryAdded" => {
                    parameters["entry"]["level"] == "error" || parameters["entry"]["level"] == "warning"
                }
                "Network.requestWillBeSent" => {
                    let asked = parameters["request"]["url"].as_str().unwrap_or_default();
                    asked != url && !asked.starts_with("data:")
                }
                _ => false,
            };
            if bad {
                let _ = writeln!(complaints, "{event}");
            }
        }
        Ok(complaints)
    }

    fn words(&self, error: &str) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        format!("chromium: {error} (not installed? on Debian: apt-get install chromium); its last words:\n{log}")
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
