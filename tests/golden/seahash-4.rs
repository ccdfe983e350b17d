// Makes seahash-4.bin: cargo run with seahash = "4" (4.1.0 made the committed one), output to the file.
// Inputs come from a generator that the test repeats; only the hashes are kept.
use std::io::Write;
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e3779b97f4a7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d049bb133111eb);
    z ^ (z >> 31)
}
fn main() {
    let mut state = 1u64;
    let mut out = std::io::BufWriter::new(std::io::stdout());
    for _ in 0..12000 {
        let size = (next(&mut state) % 301) as usize;
        let bytes: Vec<u8> = (0..size).map(|_| next(&mut state) as u8).collect();
        out.write_all(&seahash::hash(&bytes).to_le_bytes()).unwrap();
    }
}
