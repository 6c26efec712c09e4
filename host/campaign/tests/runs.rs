//! The long runs, as short as they get.

#[test]
fn one_piece_of_each_long_run() {
    for summary in [twizzler_campaign::crash(1, 0), twizzler_campaign::mmu(1, 0)] {
        println!("{}", summary.unwrap_or_else(|what| panic!("{what}")));
    }
}
