//! The Huffman code of HPACK, RFC 7541 appendix B. It is canonical, so the lengths of the codes determine the codes.

/// Length of each byte's code in bits.
#[rustfmt::skip]
const LENGTHS: [u8; 256] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28,
    28, 28, 28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5,
    5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6,
    6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22,
    23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22,
    21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20,
    22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19,
    21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22,
    22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
];

const SHORTEST: usize = 5;
const LONGEST: usize = 30;

/// The bytes ordered by their codes, and for each code length the first code and the index of its byte.
struct HuffmanCode {
    octets: [u8; 256],
    first: [u32; LONGEST + 1],
    start: [u32; LONGEST + 1],
    count: [u32; LONGEST + 1],
}

const CODE: HuffmanCode = {
    let mut code = HuffmanCode {
        octets: [0; 256],
        first: [0; LONGEST + 1],
        start: [0; LONGEST + 1],
        count: [0; LONGEST + 1],
    };
    let mut next = 0;
    let mut index = 0;
    let mut length = 1;
    while length <= LONGEST {
        next <<= 1;
        code.first[length] = next;
        code.start[length] = index;
        let mut octet = 0;
        while octet < 256 {
            if LENGTHS[octet] as usize == length {
                code.octets[index as usize] = octet as u8;
                code.count[length] += 1;
                index += 1;
                next += 1;
            }
            octet += 1;
        }
        length += 1;
    }
    code
};

static TABLE: HuffmanCode = CODE;

/// Decodes `coded` and passes each byte to `each`. `None`: it is not a valid encoding.
pub(crate) fn decode(coded: &[u8], mut each: impl FnMut(u8)) -> Option<()> {
    let mut rest = coded.iter();
    let mut bits = 0_u64;
    let mut count = 0;
    loop {
        while count <= 56 {
            let Some(octet) = rest.next() else { break };
            bits = bits << 8 | u64::from(*octet);
            count += 8;
        }
        let octet = (SHORTEST..=LONGEST.min(count)).find_map(|length| {
            let code = (bits >> (count - length)) as u32 & ((1 << length) - 1);
            let index = code.checked_sub(TABLE.first[length])?;
            (index < TABLE.count[length]).then(|| {
                let octet = TABLE.octets[(TABLE.start[length] + index) as usize];
                (octet, length)
            })
        });
        match octet {
            Some((octet, length)) => {
                each(octet);
                count -= length;
            }
            // Padding consists of fewer than eight one bits.
            None => {
                let padding = (1_u64 << count.min(8)) - 1;
                return (count < 8 && bits & padding == padding).then_some(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(coded: &[u8]) -> Option<Vec<u8>> {
        let mut text = Vec::new();
        decode(coded, |octet| text.push(octet))?;
        Some(text)
    }

    /// Encodes a text bit by bit.
    fn coded(text: &[u8]) -> Vec<u8> {
        let mut bits = Vec::new();
        for octet in text {
            let length = usize::from(LENGTHS[usize::from(*octet)]);
            let start = TABLE.start[length] as usize;
            let index = TABLE.octets[start..].iter().position(|it| it == octet);
            let code = TABLE.first[length] + index.expect("each octet has a code") as u32;
            bits.extend((0..length).rev().map(|bit| code >> bit & 1 == 1));
        }
        while bits.len() % 8 != 0 {
            bits.push(true);
        }
        let octets = bits.chunks(8);
        octets
            .map(|octet| octet.iter().fold(0, |sum, bit| sum << 1 | u8::from(*bit)))
            .collect()
    }

    #[test]
    fn examples_of_the_rfc() {
        let coded = [
            0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff,
        ];
        assert_eq!(decoded(&coded).as_deref(), Some(&b"www.example.com"[..]));
        let coded = [0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf];
        assert_eq!(decoded(&coded).as_deref(), Some(&b"no-cache"[..]));
        assert_eq!(decoded(&[]).as_deref(), Some(&b""[..]));
    }

    #[test]
    fn every_byte_survives_a_round_trip() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(decoded(&coded(&all)), Some(all));
        for octet in 0..=255 {
            assert_eq!(decoded(&coded(&[octet])), Some(vec![octet]));
        }
    }

    #[test]
    fn padding_is_short_and_of_ones() {
        // A zero bit after `0`; eight one bits; the code of EOS, which must not occur in a string.
        for bad in [&[0b0000_0110][..], &[0xff], &[0x07, 0xff], &[0xff; 4]] {
            assert_eq!(decoded(bad), None, "{bad:?}");
        }
        assert_eq!(decoded(&[0x07]).as_deref(), Some(&b"0"[..]));
    }
}
