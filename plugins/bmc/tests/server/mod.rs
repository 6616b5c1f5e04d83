//! A simulated Redfish service: with or without TLS, with sessions and basic authentication. The test sets
//! its answers, and it records the requests.
#![allow(dead_code, reason = "each test file uses a part")]

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::{Value, json};
use tokio_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned};

pub(crate) const PASSWORD: &str = "s3cret: with a colon";
/// `reader:s3cret: with a colon` in base64.
const BASIC: &str = "Basic cmVhZGVyOnMzY3JldDogd2l0aCBhIGNvbG9u";

/// What is sent for a path.
#[derive(Clone, Default)]
pub(crate) struct Reply {
    pub status: u16,
    /// Header lines.
    pub headers: String,
    pub body: Vec<u8>,
}

#[derive(Default)]
pub(crate) struct Bmc {
    pub answers: HashMap<String, Reply>,
    /// What is sent instead of a session, by the path of the request.
    pub logins_refused: HashMap<String, Reply>,
    /// Where sessions are granted.
    pub sessions: String,
    /// `METHOD path`, with how the client authenticated.
    pub asked: Vec<String>,
    pub tokens: Vec<String>,
    pub logins: u32,
    pub password: String,
}

#[derive(Clone)]
pub(crate) struct Server {
    pub bmc: Arc<Mutex<Bmc>>,
    pub endpoint: String,
}

impl Server {
    /// Over plain HTTP.
    pub(crate) fn plain() -> Self {
        Self::listen("http", |stream| Some(Box::new(stream)))
    }

    /// Over TLS, with `config`'s certificate.
    pub(crate) fn tls(config: Arc<ServerConfig>) -> Self {
        Self::listen("https", move |stream| {
            let connection = ServerConnection::new(config.clone()).ok()?;
            Some(Box::new(StreamOwned::new(connection, stream)))
        })
    }

    fn listen(scheme: &str, wrap: impl Fn(TcpStream) -> Option<Box<dyn ReadWrite>> + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("{scheme}://localhost:{}", listener.local_addr().unwrap().port());
        let sessions = "/redfish/v1/SessionService/Sessions".to_owned();
        let bmc = Bmc { password: PASSWORD.to_owned(), sessions, ..Bmc::default() };
        let bmc = Arc::new(Mutex::new(bmc));
        let served = bmc.clone();
        // Ends with the test's process.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let served = served.clone();
                let Some(stream) = wrap(stream) else { continue };
                thread::spawn(move || serve(stream, &served));
            }
        });
        Self { bmc, endpoint }
    }

    pub(crate) fn set(&self, path: &str, answer: Value) {
        self.reply(path, Reply { status: 200, body: answer.to_string().into(), ..Reply::default() });
    }

    pub(crate) fn fail(&self, path: &str, status: u16) {
        let body = json!({"error": {"code": "Base.1.0"}}).to_string().into();
        self.reply(path, Reply { status, body, ..Reply::default() });
    }

    pub(crate) fn reply(&self, path: &str, reply: Reply) {
        self.bmc.lock().unwrap().answers.insert(path.to_owned(), reply);
    }

    pub(crate) fn redirect(&self, path: &str, status: u16, to: &str) {
        let headers = format!("Location: {to}\r\n");
        self.reply(path, Reply { status, headers, body: Vec::new() });
    }

    /// The requests since the last call.
    pub(crate) fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.bmc.lock().unwrap().asked)
    }

    /// A service like those of vendors: a root, a rack server whose chassis has its power in the older
    /// resource, and a drawer of disks that has none.
    pub(crate) fn with_older_chassis(self) -> Self {
        let link = |path: &str| json!({"@odata.id": path});
        self.set("/redfish/v1/", json!({"RedfishVersion": "1.6.0", "Chassis": link("/redfish/v1/Chassis")}));
        let members = json!([link("/redfish/v1/Chassis/1U"), link("/redfish/v1/Chassis/Disks")]);
        self.set("/redfish/v1/Chassis", json!({"Members@odata.count": 2, "Members": members}));
        let links = json!({"ComputerSystems": [link("/redfish/v1/Systems/437XR1138R2")]});
        let power = link("/redfish/v1/Chassis/1U/Power");
        let chassis = json!({"Id": "1U", "ChassisType": "RackMount", "Links": links, "Power": power});
        self.set("/redfish/v1/Chassis/1U", chassis);
        self.set("/redfish/v1/Chassis/Disks", json!({"Id": "Disks", "ChassisType": "StorageEnclosure"}));
        self.older_power(300.0);
        self
    }

    pub(crate) fn older_power(&self, watts: f64) {
        let control = json!({"MemberId": "0", "Name": "System Input Power", "PowerConsumedWatts": watts,
            "PowerCapacityWatts": 800, "PowerMetrics": {"IntervalInMin": 30, "MaxConsumedWatts": 489}});
        self.set(
            "/redfish/v1/Chassis/1U/Power",
            json!({"Id": "Power", "PowerControl": [control], "Voltages": []}),
        );
    }

    /// The same with the newer resource, which counts energy as well.
    pub(crate) fn with_newer_chassis(self) -> Self {
        let server = self.with_older_chassis();
        let metrics = "/redfish/v1/Chassis/1U/EnvironmentMetrics";
        let links = json!({"ComputerSystems": [{"@odata.id": "/redfish/v1/Systems/1"}]});
        let chassis = json!({"Id": "1U", "Links": links, "EnvironmentMetrics": {"@odata.id": metrics},
            "PowerSubsystem": {"@odata.id": "/redfish/v1/Chassis/1U/PowerSubsystem"}});
        server.set("/redfish/v1/Chassis/1U", chassis);
        server.newer_power(374.25, 325_675.0);
        server
    }

    pub(crate) fn newer_power(&self, watts: f64, kilowatt_hours: f64) {
        let sensor = |name: &str, reading: f64| {
            let uri = format!("/redfish/v1/Chassis/1U/Sensors/{name}");
            json!({"DataSourceUri": uri, "Reading": reading})
        };
        let metrics = json!({"Id": "EnvironmentMetrics", "TemperatureCelsius": {"Reading": 39},
            "PowerWatts": sensor("TotalPower", watts), "EnergykWh": sensor("TotalEnergy", kilowatt_hours)});
        self.set("/redfish/v1/Chassis/1U/EnvironmentMetrics", metrics);
    }
}

pub(crate) trait ReadWrite: Read + Write + Send {}
impl<T: Read + Write + Send> ReadWrite for T {}

fn serve(stream: Box<dyn ReadWrite>, bmc: &Mutex<Bmc>) {
    let mut stream = BufReader::new(stream);
    while let Some((method, path, headers)) = head(&mut stream) {
        let length = headers.get("content-length").and_then(|l| l.parse().ok()).unwrap_or(0);
        let mut body = vec![0; length];
        if stream.read_exact(&mut body).is_err() {
            return;
        }
        let Reply { status, headers, body } =
            bmc.lock().unwrap().answer(&method, &path, &headers, &body).unwrap_or_default();
        let status = if status == 0 { 404 } else { status };
        let length = body.len();
        let head = format!("HTTP/1.1 {status} x\r\n{headers}Content-Length: {length}\r\n\r\n");
        let reply = [head.as_bytes(), &body].concat();
        if stream.get_mut().write_all(&reply).and_then(|()| stream.get_mut().flush()).is_err() {
            return;
        }
    }
}

fn head(stream: &mut impl BufRead) -> Option<(String, String, HashMap<String, String>)> {
    let mut line = String::new();
    stream.read_line(&mut line).ok().filter(|&n| n > 0)?;
    let mut words = line.split(' ').map(str::to_owned);
    let (method, path) = (words.next()?, words.next()?);
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).ok().filter(|&n| n > 0)?;
        let Some((name, value)) = line.trim_end().split_once(": ") else {
            return Some((method, path, headers));
        };
        headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
}

impl Bmc {
    /// `None`: there is nothing at `path`.
    fn answer(
        &mut self,
        method: &str,
        path: &str,
        headers: &HashMap<String, String>,
        body: &[u8],
    ) -> Option<Reply> {
        let token = headers.get("x-auth-token");
        let by_token = token.is_some_and(|token| self.tokens.contains(token));
        let by_name =
            headers.get("authorization").is_some_and(|basic| basic == BASIC) && self.password == PASSWORD;
        let who = if by_token {
            "token"
        } else if by_name {
            "basic"
        } else {
            "nobody"
        };
        self.asked.push(format!("{method} {path} {who}"));
        let status = |status| Some(Reply { status, ..Reply::default() });
        if method == "POST" {
            return match self.logins_refused.get(path) {
                Some(refused) => Some(refused.clone()),
                None if path == self.sessions => Some(self.log_in(path, body)),
                None => None,
            };
        }
        if method == "DELETE" {
            self.tokens.retain(|known| Some(known) != token);
            return status(204);
        }
        // The root needs no authentication.
        if who == "nobody" && path != "/redfish/v1/" {
            return status(401);
        }
        self.answers.get(path).cloned()
    }

    fn log_in(&mut self, path: &str, body: &[u8]) -> Reply {
        let said: Value = serde_json::from_slice(body).unwrap();
        if said != json!({"UserName": "reader", "Password": self.password}) {
            return Reply { status: 401, ..Reply::default() };
        }
        self.logins += 1;
        let token = format!("token-{}", self.logins);
        let headers = format!("X-Auth-Token: {token}\r\nLocation: {path}/{}\r\n", self.logins);
        self.tokens.push(token);
        Reply { status: 201, headers, body: json!({"Id": "1"}).to_string().into() }
    }
}
