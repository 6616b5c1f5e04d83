//! The bytes of DCMI's "Get Power Reading" (DCMI 1.5, 6.6.1). Pure: nothing in here asks a device.

/// Network function of commands that a group other than IPMI's has defined.
pub(crate) const GROUP_EXTENSION: u8 = 0x2c;
/// "Get Power Reading".
pub(crate) const GET_POWER_READING: u8 = 0x02;
/// The group that defined it: DCMI.
const DCMI: u8 = 0xdc;
/// The request: the power of the system, without attributes.
pub(crate) const REQUEST: [u8; 4] = [DCMI, 0x01, 0x00, 0x00];
/// Length of a good reply, completion code included.
const LENGTH: usize = 19;

/// What a BMC says of the server's power.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Now.
    pub watts: u16,
    /// When, in seconds, by the BMC's clock, which may be anything. It stands still if the BMC no longer
    /// measures.
    pub seconds: u32,
}

/// A reply that holds no reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The BMC has no such command, no power meter, or does not let this channel ask.
    Unsupported(u8),
    /// It can't just now.
    NotNow(u8),
    /// It says that it does not measure at present.
    Inactive,
    /// The bytes make no sense, and why not.
    Nonsense(&'static str),
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
            Refusal::Nonsense(why) => write!(f, "the BMC's reply {why}"),
        }
    }
}

/// Reads the reply to [`REQUEST`], from the completion code on.
///
/// # Errors
/// [`Refusal`], if there is no reading in it.
pub fn parse(reply: &[u8]) -> Result<Reading, Refusal> {
    match reply.first() {
        None => return Err(Refusal::Nonsense("is empty")),
        Some(0) => {}
        // Invalid command, for this sensor, for this LUN; no such data; not in this state, insufficient
        // privilege.
        Some(&code @ (0xc1 | 0xc2 | 0xcb | 0xcd | 0xd4)) => return Err(Refusal::Unsupported(code)),
        Some(&code) => return Err(Refusal::NotNow(code)),
    }
    let Some(reply) = reply.get(..LENGTH) else { return Err(Refusal::Nonsense("is cut short")) };
    if reply[1] != DCMI {
        return Err(Refusal::Nonsense("is another group's"));
    }
    let [low, high] = [reply[2], reply[3]];
    let watts = u16::from_le_bytes([low, high]);
    let seconds = u32::from_le_bytes([reply[10], reply[11], reply[12], reply[13]]);
    // Bit 6: power measurement is active.
    if reply[18] & 0x40 == 0 {
        return Err(Refusal::Inactive);
    }
    match watts {
        // Whoever asks is running.
        0 => Err(Refusal::Nonsense("says that a running server draws nothing")),
        u16::MAX => Err(Refusal::Nonsense("has all bits of the power set")),
        _ => Ok(Reading { watts, seconds }),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A reply as a BMC gives it: 212 W, between 180 and 420, 205 on average over a second.
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
    fn a_good_reply_is_read_as_written_and_bytes_after_it_do_no_harm() {
        let bytes = [
            0x00, 0xdc, 0xd4, 0x00, 0xb4, 0x00, 0xa4, 0x01, 0xcd, 0x00, 0x78, 0x56, 0x34, 0x12, 0xe8, 0x03,
            0x00, 0x00, 0x40,
        ];
        let reading = Reading { watts: 212, seconds: 0x1234_5678 };
        assert_eq!(parse(&bytes), Ok(reading));
        assert_eq!(reply(212, 0x1234_5678), bytes);
        assert_eq!(parse(&[&bytes[..], &[1, 2, 3]].concat()), Ok(reading));
    }

    #[test]
    fn whatever_is_cut_off_or_refused_is_no_reading() {
        let good = reply(212, 5);
        for length in 0..good.len() {
            assert!(matches!(parse(&good[..length]), Err(Refusal::Nonsense(_))), "{length}");
        }
        let mut other = good.clone();
        other[1] = 0xdd;
        assert_eq!(parse(&other), Err(Refusal::Nonsense("is another group's")));
        let mut inactive = good;
        inactive[18] = 0x00;
        assert_eq!(parse(&inactive), Err(Refusal::Inactive));
        assert_eq!(parse(&[0xc1]), Err(Refusal::Unsupported(0xc1)));
        assert_eq!(parse(&[0xc0, 0xdc]), Err(Refusal::NotNow(0xc0)));
        for watts in [0, u16::MAX] {
            assert!(matches!(parse(&reply(watts, 5)), Err(Refusal::Nonsense(_))));
        }
    }

    #[test]
    fn no_bytes_panic() {
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
