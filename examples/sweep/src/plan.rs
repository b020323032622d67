//! In which order the Ks are measured.

/// Every K `repetitions` times: a shuffled round over all Ks, then the next. So whatever changes
/// on the machine in the meantime hits all Ks alike, and no K is always measured after the same
/// other one.
pub(crate) fn rounds(ks: &[usize], repetitions: usize) -> Vec<usize> {
    // A fixed seed: two runs with the same arguments do the same.
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut random = |below: usize| {
        // xorshift64
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    let mut order = Vec::new();
    for _ in 0..repetitions {
        let mut round = ks.to_vec();
        for last in (1..round.len()).rev() {
            round.swap(last, random(last + 1));
        }
        order.append(&mut round);
    }
    order
}
