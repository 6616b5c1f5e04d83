//! For tests: a real Chromium without a window, driven over the DevTools protocol. `pipe` has the protocol's
//! connection; this file has what a test does with a page.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests may panic: that is how tests fail"
)]

mod pipe;

use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use pipe::Pipe;

/// A page that takes longer hangs.
const HANG: Duration = Duration::from_secs(60);

/// How a page is looked at.
#[derive(Clone, Copy, Debug)]
pub struct Screen {
    /// In CSS pixels.
    pub width: u32,
    /// In CSS pixels.
    pub height: u32,
    /// Whether the person prefers dark colours.
    pub is_dark: bool,
}

impl Screen {
    /// That of a desktop machine, in light colours.
    pub const WIDE: Screen = Screen { width: 1400, height: 900, is_dark: false };
    /// That of a phone, in light colours.
    pub const NARROW: Screen = Screen { width: 400, height: 800, is_dark: false };
}

/// A browser with one page.
pub struct Browser {
    pipe: Pipe,
    session: String,
}

impl Browser {
    /// Starts a browser; `None` without Chromium, which fails under CI=true.
    pub fn start(screen: Screen) -> Option<Self> {
        let mut pipe = Pipe::open()?;
        let target = pipe.call(None, "Target.createTarget", &json!({"url": "about:blank"}), HANG);
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let attached = pipe.call(None, "Target.attachToTarget", &attach, HANG);
        let session = attached["sessionId"].as_str().unwrap().to_owned();
        let mut browser = Self { pipe, session };
        for domain in ["Page", "Runtime", "Network", "Log"] {
            browser.call(&format!("{domain}.enable"), &json!({}));
        }
        browser.resize(screen);
        Some(browser)
    }

    fn call(&mut self, method: &str, parameters: &Value) -> Value {
        self.pipe.call(Some(&self.session), method, parameters, HANG)
    }

    /// Looks at the page on another screen.
    pub fn resize(&mut self, Screen { width, height, is_dark }: Screen) {
        let metrics = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.call("Emulation.setDeviceMetricsOverride", &metrics);
        // They would take room that a picture of the whole page does not have.
        self.call("Emulation.setScrollbarsHidden", &json!({"hidden": true}));
        let scheme = if is_dark { "dark" } else { "light" };
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.call("Emulation.setEmulatedMedia", &features);
    }

    /// Opens an address, and waits until `ready`, an expression in JavaScript, is true.
    pub fn open(&mut self, url: &str, ready: &str) {
        let opened = self.call("Page.navigate", &json!({"url": url}));
        assert_eq!(opened["errorText"], Value::Null, "{url}: {opened}");
        // At first there is not even an element.
        self.wait(&format!("document.documentElement && ({ready})"));
    }

    /// Waits until an expression is true. It is looked at with every frame.
    pub fn wait(&mut self, condition: &str) {
        let wait = format!(
            "new Promise(done => {{ const look = () => {{ if ({condition}) done(true); \
             else requestAnimationFrame(look); }}; look(); }})"
        );
        self.evaluate(&wait);
    }

    /// The value of an expression, or of its promise.
    pub fn evaluate(&mut self, expression: &str) -> Value {
        let evaluate = json!({"expression": expression, "awaitPromise": true, "returnByValue": true});
        let answer = self.call("Runtime.evaluate", &evaluate);
        assert_eq!(answer["exceptionDetails"], Value::Null, "{expression}: {answer}");
        answer["result"]["value"].clone()
    }

    /// Moves the mouse from one point to another with its button pressed; it does not move for a click.
    pub fn drag(&mut self, from: (f64, f64), to: (f64, f64)) {
        let mut mouse = |kind: &str, (x, y): (f64, f64), pressed: u32| {
            let button = if kind == "mouseMoved" && pressed == 0 { "none" } else { "left" };
            let event =
                json!({"type": kind, "x": x, "y": y, "button": button, "buttons": pressed, "clickCount": 1});
            self.call("Input.dispatchMouseEvent", &event);
        };
        mouse("mouseMoved", from, 0);
        mouse("mousePressed", from, 1);
        if from != to {
            let middle = (f64::midpoint(from.0, to.0), f64::midpoint(from.1, to.1));
            mouse("mouseMoved", middle, 1);
            mouse("mouseMoved", to, 1);
        }
        mouse("mouseReleased", to, 0);
    }

    /// Moves a finger over the screen from one point to another; it does not move for a tap.
    pub fn swipe(&mut self, from: (f64, f64), to: (f64, f64)) {
        let mut touch = |kind: &str, points: &[(f64, f64)]| {
            let points: Vec<_> = points.iter().map(|(x, y)| json!({"x": x, "y": y})).collect();
            self.call("Input.dispatchTouchEvent", &json!({"type": kind, "touchPoints": points}));
        };
        touch("touchStart", &[from]);
        if from != to {
            let middle = (f64::midpoint(from.0, to.0), f64::midpoint(from.1, to.1));
            touch("touchMove", &[middle]);
            touch("touchMove", &[to]);
        }
        touch("touchEnd", &[]);
    }

    /// Moves the mouse.
    pub fn hover(&mut self, (x, y): (f64, f64)) {
        let event = json!({"type": "mouseMoved", "x": x, "y": y, "button": "none"});
        self.call("Input.dispatchMouseEvent", &event);
    }

    /// Presses and releases a key, such as `ArrowRight`; `is_shifted`: with Shift.
    pub fn press(&mut self, key: &str, is_shifted: bool) {
        for kind in ["keyDown", "keyUp"] {
            let modifiers = if is_shifted { 8 } else { 0 };
            let event = json!({"type": kind, "key": key, "code": key, "modifiers": modifiers});
            self.call("Input.dispatchKeyEvent", &event);
        }
    }

    /// Saves what the screen shows as PNG. `is_whole`: the page beyond the screen's end too.
    pub fn screenshot(&mut self, path: &Path, is_whole: bool) {
        let options = json!({"format": "png", "captureBeyondViewport": is_whole});
        let picture = self.call("Page.captureScreenshot", &options);
        let bytes = STANDARD.decode(picture["data"].as_str().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    /// The addresses of all requests so far, except for those of the blank page.
    pub fn requests(&self) -> Vec<String> {
        let sent = self.pipe.events.iter().filter(|event| event["method"] == "Network.requestWillBeSent");
        sent.map(|event| event["params"]["request"]["url"].as_str().unwrap().to_owned()).collect()
    }

    /// What the browser complained about so far: exceptions, and what a policy forbade.
    pub fn complaints(&self) -> Vec<String> {
        let is_complaint = |event: &&Value| {
            event["method"] == "Runtime.exceptionThrown"
                || event["method"] == "Log.entryAdded" && event["params"]["entry"]["level"] == "error"
        };
        self.pipe.events.iter().filter(is_complaint).map(|event| event["params"].to_string()).collect()
    }
}
