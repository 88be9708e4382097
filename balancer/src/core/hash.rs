//! Hashes that must never change: another one would move every key to another host.

/// FNV-1a's offset basis.
pub(crate) const OFFSET: u64 = 0xCBF2_9CE4_8422_2325;

/// FNV-1a of `bytes`, mixed.
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    let hash = bytes.iter().fold(OFFSET, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3)
    });
    mix(hash)
}

/// wyhash's mixing step: the 128-bit product of the input and two constants, folded into 64 bits. One multiplication.
#[inline]
pub(crate) fn mix(bits: u64) -> u64 {
    let product = u128::from(bits ^ 0x2D35_8DCC_AA6C_78A5) * 0x8BB8_4B93_962E_ACC9;
    (product >> 64) as u64 ^ product as u64
}
