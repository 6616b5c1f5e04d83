//! How a collector behaves, request by request and connection by connection, and what that means to a client
//! that follows OTLP. `server` does it.

use std::sync::{Mutex, PoisonError};

/// How the collector behaves to one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    /// It takes everything.
    Well,
    /// A status of HTTP, with a body and perhaps `Retry-After: 1`.
    Status(u16, Body, bool),
    /// A status of gRPC, perhaps with RetryInfo; HTTP status 503 over HTTP.
    Grpc(u32, bool),
    /// It takes the first half of the points, and rejects the rest.
    Partial,
    /// The connection ends without an answer; with or without the request having been taken.
    Reset { takes: bool },
    /// It ends within the request.
    Torn,
    /// Half of an answer of success comes. It may be taken for one over HTTP, and the request was taken.
    Half,
    /// The answer does not come in time. The request was taken.
    Slow,
    /// The request is read in pieces. It was taken.
    SlowRead,
}

/// The body of an answer, as its type says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    Page,
    Text,
    Json,
    Nothing,
}

impl Body {
    /// Its type, and itself.
    pub(crate) fn parts(self) -> (&'static str, &'static str) {
        match self {
            Body::Page => ("text/html", "<html><h1>sorry</h1></html>"),
            Body::Text => ("text/plain", "not now"),
            Body::Json => ("application/json", "{\"message\":\"restarting\"}"),
            Body::Nothing => ("application/x-protobuf", ""),
        }
    }
}

/// What becomes of a request, as OTLP says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Taken,
    /// The client must not send it again.
    Refused,
    /// The client splits it, and may have to give up a single point.
    TooLarge,
    /// The client sends it again.
    Later,
}

impl Mood {
    /// What this means for a request over gRPC, or over HTTP.
    pub(crate) fn fate(self, is_grpc: bool) -> Fate {
        match self {
            Mood::Well | Mood::Partial | Mood::Half | Mood::Slow | Mood::SlowRead => Fate::Taken,
            Mood::Reset { takes: true } => Fate::Taken,
            Mood::Reset { takes: false } | Mood::Torn => Fate::Later,
            Mood::Status(200..=299, body, _) if !is_grpc && body != Body::Page => Fate::Taken,
            Mood::Status(413, ..) => Fate::TooLarge,
            Mood::Status(408 | 425 | 429 | 502..=504 | 520..=524, ..) => Fate::Later,
            Mood::Status(..) => Fate::Refused,
            Mood::Grpc(..) if !is_grpc => Fate::Later,
            Mood::Grpc(0, _) => Fate::Taken,
            Mood::Grpc(1 | 4 | 10 | 14 | 15, _) | Mood::Grpc(8 | 11, true) => Fate::Later,
            Mood::Grpc(8 | 11, false) => Fate::TooLarge,
            Mood::Grpc(..) => Fate::Refused,
        }
    }

    /// Any, well in two of five cases.
    fn any(random: &mut fastrand::Rng) -> Self {
        let body = [Body::Page, Body::Text, Body::Json, Body::Nothing][random.usize(..4)];
        match random.u8(..20) {
            0..8 => Mood::Well,
            // These have no body.
            8..10 => match random.u16(200..600) {
                status @ (204 | 205 | 304) => Mood::Status(status, Body::Nothing, false),
                status => Mood::Status(status, body, random.bool()),
            },
            10..13 => Mood::Grpc(random.u32(..17), random.bool()),
            13 => Mood::Partial,
            14 => Mood::Reset { takes: random.bool() },
            15 => Mood::Torn,
            16 => Mood::Half,
            17 => Mood::Slow,
            18 => Mood::SlowRead,
            _ => Mood::away(random),
        }
    }

    /// Any with which nothing is taken, and nothing refused for good.
    fn away(random: &mut fastrand::Rng) -> Self {
        match random.u8(..4) {
            0 => Mood::Reset { takes: false },
            1 => Mood::Torn,
            2 => Mood::Grpc([1, 4, 10, 14, 15][random.usize(..5)], random.bool()),
            _ => Mood::Status([429, 502, 503, 504][random.usize(..4)], Body::Page, random.bool()),
        }
    }

    /// Any that is an answer to a whole request, and by which the client knows what became of each point.
    fn answer(random: &mut fastrand::Rng) -> Self {
        loop {
            let mood = Self::any(random);
            let is_answer = matches!(
                mood,
                Mood::Well | Mood::Status(..) | Mood::Grpc(..) | Mood::Partial | Mood::SlowRead
            );
            if is_answer && [true, false].iter().all(|is_grpc| mood.fate(*is_grpc) != Fate::TooLarge) {
                return mood;
            }
        }
    }
}

/// How the collector behaves to all requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Conduct {
    Always(Mood),
    /// Another mood for each request, and another certificate for each connection.
    AtRandom,
    /// The same, but nothing is taken.
    Away,
    /// The same, but each request has a whole answer that says what became of each point.
    Answers,
}

/// How a connection begins, if it is one of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Handshake {
    Valid,
    Expired,
    /// There is none: the connection is closed.
    None,
}

/// The conduct at the moment, and the chance behind it.
pub(crate) struct Script(Mutex<(Conduct, fastrand::Rng)>);

impl Script {
    pub(crate) fn new(conduct: Conduct, seed: u64) -> Self {
        Self(Mutex::new((conduct, fastrand::Rng::with_seed(seed))))
    }

    /// From now on it is so.
    pub(crate) fn set(&self, conduct: Conduct) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0 = conduct;
    }

    /// For the next request.
    pub(crate) fn mood(&self) -> Mood {
        let (conduct, random) = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match conduct {
            Conduct::Always(mood) => *mood,
            Conduct::AtRandom => Mood::any(random),
            Conduct::Away => Mood::away(random),
            Conduct::Answers => Mood::answer(random),
        }
    }

    /// For the next connection.
    pub(crate) fn handshake(&self) -> Handshake {
        let (conduct, random) = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match (conduct, random.u8(..6)) {
            (Conduct::AtRandom | Conduct::Away, 0 | 1) => Handshake::Expired,
            (Conduct::AtRandom | Conduct::Away, 2) => Handshake::None,
            _ => Handshake::Valid,
        }
    }
}
