//! The bytes of DCMI's "Get Power Reading" (DCMI 1.5, 6.6.1). Pure functions of bytes.

/// The network function of commands that are defined outside of IPMI.
pub(crate) const GROUP_EXTENSION: u8 = 0x2c;
/// "Get Power Reading".
pub(crate) const GET_POWER_READING: u8 = 0x02;
/// The defining body: DCMI.
const DCMI: u8 = 0xdc;
/// The request for the system's power, without attributes.
pub(crate) const REQUEST: [u8; 4] = [DCMI, 0x01, 0x00, 0x00];
/// The length of a good reply, with its completion code.
const LENGTH: usize = 19;

/// The server's power, as the BMC reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PowerReading {
    /// Now.
    pub watts: u16,
    /// When, in seconds of the BMC's clock, which may be wrong. It stops if the BMC no longer measures.
    pub seconds: u32,
    /// Whether the BMC says that it measures. Some say that they do not, and do.
    pub is_active: bool,
}

/// A reply that holds no reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The BMC has no such command or no power meter, or does not allow it on this channel.
    Unsupported(u8),
    /// It cannot at the moment.
    NotNow(u8),
    /// It says that it does not measure at present.
    Inactive,
    /// The bytes are not a valid reply, and why.
    Malformed(&'static str),
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Refusal::Unsupported(code) => {
                write!(f, "the BMC offers no power reading over DCMI (completion code {code:#04x})")
            }
            Refusal::NotNow(code) => {
                write!(f, "the BMC gives no power reading now (completion code {code:#04x})")
            }
            Refusal::Inactive => f.write_str("the BMC says that it does not measure power at present"),
            Refusal::Malformed(why) => write!(f, "the BMC's reply {why}"),
        }
    }
}

/// Parses the reply to [`REQUEST`], from the completion code on.
///
/// # Errors
/// [`Refusal`], if it holds no reading.
pub fn parse(reply: &[u8]) -> Result<PowerReading, Refusal> {
    match reply.first() {
        None => return Err(Refusal::Malformed("is empty")),
        Some(0) => {}
        // Invalid command, for this LUN; wrong length, parameter or field of a request that has but one form;
        // no such data; invalid for this sensor; insufficient privilege; disabled.
        Some(&code @ (0xc1 | 0xc2 | 0xc7 | 0xc9 | 0xcb | 0xcc | 0xcd | 0xd4 | 0xd6)) => {
            return Err(Refusal::Unsupported(code));
        }
        Some(&code) => return Err(Refusal::NotNow(code)),
    }
    let Some(reply) = reply.get(..LENGTH) else { return Err(Refusal::Malformed("is cut short")) };
    if reply[1] != DCMI {
        return Err(Refusal::Malformed("is another group's"));
    }
    let [low, high] = [reply[2], reply[3]];
    let watts = u16::from_le_bytes([low, high]);
    let seconds = u32::from_le_bytes([reply[10], reply[11], reply[12], reply[13]]);
    // Bit 6: power measurement is active. Firmware that measures may leave it out, and then its watts decide.
    let is_active = reply[18] & 0x40 != 0;
    match watts {
        0 if !is_active => Err(Refusal::Inactive),
        // The server is running.
        0 => Err(Refusal::Malformed("says that a running server draws nothing")),
        u16::MAX => Err(Refusal::Malformed("has all bits of the power set")),
        _ => Ok(PowerReading { watts, seconds, is_active }),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A reply in the form of a real one: 212 W, between 180 and 420, 205 on average over a second.
    pub(crate) fn reply(watts: u16, seconds: u32) -> Vec<u8> {
        let mut reply = vec![0x00, 0xdc];
        for watts in [watts, 180, 420, 205] {
            reply.extend(watts.to_le_bytes());
        }
        reply.extend(seconds.to_le_bytes());
        reply.extend(1_000_u32.to_le_bytes());
        reply.push(0x40);
        reply
    }

    #[test]
    fn a_good_reply_is_parsed_and_bytes_after_it_are_ignored() {
        let bytes = [
            0x00, 0xdc, 0xd4, 0x00, 0xb4, 0x00, 0xa4, 0x01, 0xcd, 0x00, 0x78, 0x56, 0x34, 0x12, 0xe8, 0x03,
            0x00, 0x00, 0x40,
        ];
        let reading = PowerReading { watts: 212, seconds: 0x1234_5678, is_active: true };
        assert_eq!(parse(&bytes), Ok(reading));
        assert_eq!(reply(212, 0x1234_5678), bytes);
        assert_eq!(parse(&[&bytes[..], &[1, 2, 3]].concat()), Ok(reading));
    }

    #[test]
    fn truncated_and_refused_replies_are_no_readings() {
        let good = reply(212, 5);
        for length in 0..good.len() {
            assert!(matches!(parse(&good[..length]), Err(Refusal::Malformed(_))), "{length}");
        }
        let mut other = good.clone();
        other[1] = 0xdd;
        assert_eq!(parse(&other), Err(Refusal::Malformed("is another group's")));
        for code in [0xc1, 0xc2, 0xc7, 0xc9, 0xcb, 0xcc, 0xcd, 0xd4, 0xd6] {
            assert_eq!(parse(&[code]), Err(Refusal::Unsupported(code)));
        }
        for code in [0xc0, 0xc3, 0xce, 0xd0, 0xd2, 0xd5, 0xff] {
            assert_eq!(parse(&[code, 0xdc]), Err(Refusal::NotNow(code)));
        }
        for watts in [0, u16::MAX] {
            assert!(matches!(parse(&reply(watts, 5)), Err(Refusal::Malformed(_))));
        }
    }

    #[test]
    fn a_bmc_that_says_it_does_not_measure_is_believed_if_it_gives_no_watts() {
        let mut gives_watts = reply(212, 5);
        gives_watts[18] = 0x00;
        assert_eq!(parse(&gives_watts), Ok(PowerReading { watts: 212, seconds: 5, is_active: false }));
        let mut zero = [0; LENGTH];
        zero[1] = DCMI;
        assert_eq!(parse(&zero), Err(Refusal::Inactive));
        gives_watts[2..4].copy_from_slice(&[0xff, 0xff]);
        assert!(matches!(parse(&gives_watts), Err(Refusal::Malformed(_))));
    }

    #[test]
    fn random_bytes_do_not_panic() {
        let mut seed = 5_u64;
        for _ in 0..200_000 {
            let mut bytes = [0_u8; 24];
            for byte in &mut bytes {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                *byte = (seed >> 56) as u8;
            }
            bytes[0] &= 1;
            _ = parse(&bytes[..(seed >> 40) as usize % 25]);
        }
    }
}
