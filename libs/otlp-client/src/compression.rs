//! How requests are compressed.

use std::io::{self, Write as _};

use flate2::write::GzEncoder;
use hyper::body::Bytes;
use tonic::codec::CompressionEncoding;
use tracing::warn;
use wattrace_api::Error;

use crate::env::Env;

/// A way to compress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// None.
    None,
    /// What every collector knows.
    Gzip,
    /// Smaller in less time than gzip. The specification leaves it to the collector whether it knows it.
    Zstd,
}

/// zstd's own default: points compress well, so its faster levels gain little.
const ZSTD_LEVEL: i32 = zstd::DEFAULT_COMPRESSION_LEVEL;

impl Compression {
    /// The compression that is configured or, if that is empty, named by `env`; otherwise none.
    ///
    /// # Errors
    /// An unknown name in the configuration.
    pub(crate) fn resolve(configured: &str, env: &Env<'_>) -> Result<Self, Error> {
        if !configured.is_empty() {
            let unknown = || {
                env.bad("compression", format!("`{configured}` is unknown; it is `gzip`, `zstd` or `none`"))
            };
            return named(configured).ok_or_else(unknown);
        }
        let Some((name, value)) = env.exporter("COMPRESSION") else { return Ok(Compression::None) };
        Ok(named(&value.to_ascii_lowercase()).unwrap_or_else(|| {
            warn!("{name}={value} is ignored: it is neither gzip, zstd nor none");
            Compression::None
        }))
    }

    /// The value of HTTP's Content-Encoding. `None`: there is no such header.
    pub(crate) fn http(self) -> Option<&'static str> {
        match self {
            Compression::None => None,
            Compression::Gzip => Some("gzip"),
            Compression::Zstd => Some("zstd"),
        }
    }

    /// gRPC's encoding of messages.
    pub(crate) fn grpc(self) -> Option<CompressionEncoding> {
        match self {
            Compression::None => None,
            Compression::Gzip => Some(CompressionEncoding::Gzip),
            Compression::Zstd => Some(CompressionEncoding::Zstd),
        }
    }

    /// A body, compressed.
    ///
    /// # Errors
    /// Those of the libraries, which are not expected.
    pub(crate) fn compress(self, plain: Bytes) -> io::Result<Bytes> {
        match self {
            Compression::None => Ok(plain),
            Compression::Gzip => {
                let out = Vec::with_capacity(plain.len() / 8);
                let mut encoder = GzEncoder::new(out, flate2::Compression::fast());
                encoder.write_all(&plain)?;
                Ok(encoder.finish()?.into())
            }
            Compression::Zstd => Ok(zstd::bulk::compress(&plain, ZSTD_LEVEL)?.into()),
        }
    }
}

fn named(name: &str) -> Option<Compression> {
    match name {
        "none" => Some(Compression::None),
        "gzip" => Some(Compression::Gzip),
        "zstd" => Some(Compression::Zstd),
        _ => None,
    }
}
