use proptest::prelude::*;

use super::*;

const SECOND: u64 = 1_000_000;
/// A wall clock of 2026.
const START: u64 = 1_790_000_000 * SECOND;

/// That many microseconds after the start, by both clocks.
fn at(micros: u64) -> ReadTime {
    ReadTime { wall: START + micros, monotonic: Duration::from_micros(micros) }
}

fn sample(pid: u32, micros: u64, sm: u32) -> ProcessSample {
    ProcessSample { pid, at: START + micros, sm, memory: 0, encoder: 0, decoder: 0 }
}

/// A buffer that was read at `micros`, when nothing was going on.
fn read_at(micros: u64) -> Buffer {
    let mut buffer = Buffer::default();
    assert_eq!(buffer.take(at(micros), &[], false), Err(Gap::FirstRead));
    buffer
}

/// A buffer of a driver that gives out its ring, read at `micros` and accounted for up to then.
fn ring_at(micros: u64) -> Buffer {
    let mut buffer = Buffer::default();
    let twice = [sample(1, micros - 1, 0), sample(1, micros, 0)];
    assert_eq!(buffer.take(at(micros), &twice, false), Err(Gap::FirstRead));
    buffer
}

fn sm(window: &Window, pid: u32) -> f64 {
    window.of(pid)[0].unwrap_or_else(|| panic!("{pid} is known in {window:?}"))
}

#[test]
fn one_row_for_each_process_is_its_mean_since_the_last_read() {
    let mut buffer = read_at(2 * SECOND);
    let window = buffer.take(at(3 * SECOND), &[sample(7, 2_900_000, 60), sample(8, 2_300_000, 30)], false).unwrap();
    assert_eq!((sm(&window, 7), sm(&window, 8)), (60.0, 30.0));
    assert_eq!(buffer.since(at(4 * SECOND)), START + 2_900_000, "the next window begins where this one ends");
}

#[test]
fn r1_a_process_that_nvml_does_not_mention_used_nothing() {
    let mut buffer = read_at(2 * SECOND);
    assert_eq!(buffer.take(at(3 * SECOND), &[], false).unwrap().of(7), [Some(0.0); 4]);
}

#[test]
fn several_rows_of_a_process_are_weighted_by_the_time_they_stand_for() {
    let mut buffer = ring_at(2 * SECOND);
    let rows = [sample(7, 2_100_000, 100), sample(7, 2_500_000, 50), sample(7, 3_000_000, 0)];
    let window = buffer.take(at(3 * SECOND), &rows, false).unwrap();
    assert!((sm(&window, 7) - (100.0 * 0.1 + 50.0 * 0.4)).abs() < 1e-9, "{window:?}: the last row alone says 0");
}

#[test]
fn processes_that_take_turns_on_a_card_share_its_time() {
    // Each row of the ring names the process that was active when it was taken.
    let mut buffer = ring_at(2 * SECOND);
    let rows: Vec<_> = (1..=6_u64).map(|n| sample((n % 2) as u32, 2 * SECOND + n * SECOND / 6, 100)).collect();
    let window = buffer.take(at(3 * SECOND), &rows, false).unwrap();
    assert!((sm(&window, 0) - 50.0).abs() < 1e-3 && (sm(&window, 1) - 50.0).abs() < 1e-3, "{window:?}");
}

#[test]
fn a_row_after_a_long_silence_stands_for_one_period_and_the_rest_was_idle() {
    let mut buffer = ring_at(2 * SECOND);
    let window = buffer.take(at(6 * SECOND), &[sample(7, 6 * SECOND, 80)], false).unwrap();
    assert!((sm(&window, 7) - 20.0).abs() < 1e-9, "80 % of 1 s in 4 s: {window:?}");
}

#[test]
fn a_figure_above_100_makes_that_family_of_that_process_unknown_and_is_counted() {
    let mut buffer = read_at(2 * SECOND);
    let odd = ProcessSample { encoder: 50_583, ..sample(7, 2_900_000, 37_100) };
    let window = buffer.take(at(3 * SECOND), &[odd, sample(8, 2_900_000, 100)], false).unwrap();
    assert_eq!(window.of(7), [None, Some(0.0), None, Some(0.0)]);
    assert_eq!((sm(&window, 8), window.above_full), (100.0, 2));
    let mut ring = ring_at(2 * SECOND);
    let window = ring.take(at(3 * SECOND), &[sample(7, 2_400_000, 101), sample(7, 2_800_000, 10)], false).unwrap();
    assert_eq!((window.of(7)[0], window.above_full), (None, 1), "one bad row and the mean is not known");
}

#[test]
fn rows_of_impossible_times_are_dropped_and_counted_and_do_not_move_the_window() {
    // As nvtop has met them: times of another clock, far in the future or the past.
    let mut buffer = read_at(2 * SECOND);
    let odd = [
        ProcessSample { at: 217_144_956_601_725, ..sample(7, 0, 90) },
        ProcessSample { at: START * 2, ..sample(7, 0, 90) },
        sample(7, 1_000_000, 90),
        sample(7, 2_500_000, 40),
    ];
    let window = buffer.take(at(3 * SECOND), &odd, false).unwrap();
    assert_eq!((sm(&window, 7), window.out_of_time), (40.0, 3));
    assert_eq!(buffer.since(at(4 * SECOND)), START + 2_500_000);
}

#[test]
fn r1_reads_that_continue_nothing_say_nothing() {
    let row = |micros| [sample(7, micros, 60)];
    let mut buffer = Buffer::default();
    assert_eq!(buffer.take(at(2 * SECOND), &row(1_900_000), false), Err(Gap::FirstRead));
    assert!(buffer.take(at(3 * SECOND), &row(2_900_000), false).is_ok());
    assert_eq!(buffer.take(at(30 * SECOND), &row(29_900_000), false), Err(Gap::LateRead));
    assert!(buffer.take(at(31 * SECOND), &row(30_900_000), false).is_ok());
    buffer.forget();
    assert_eq!(buffer.take(at(32 * SECOND), &row(31_900_000), false), Err(Gap::FirstRead), "after a failure");
}

#[test]
fn a_full_buffer_tells_only_of_the_time_after_its_first_row() {
    let mut buffer = ring_at(2 * SECOND);
    let rows = [sample(7, 2_500_000, 100), sample(7, 3_000_000, 50)];
    let window = buffer.clone().take(at(3 * SECOND), &rows, true).unwrap();
    assert_eq!((sm(&window, 7), window.length), (50.0, 500_000), "what was before 2.5 s was overwritten");
    assert_eq!(buffer.take(at(3 * SECOND), &rows[..1], true), Err(Gap::Overwritten), "one moment is no time");
}

/// Rows of a ring: times that rise by less than a period, and what up to three processes did.
fn ring() -> impl Strategy<Value = Vec<ProcessSample>> {
    proptest::collection::vec((1..LONGEST_PERIOD, 0..3_u32, 0..=100_u32), 1..60).prop_map(|steps| {
        let mut time = 2 * SECOND;
        let row = |(step, pid, value)| {
            time += step;
            sample(pid, time, value)
        };
        steps.into_iter().map(row).collect()
    })
}

proptest! {
    #[test]
    fn every_mean_is_a_percentage_whatever_the_driver_says(
        rows in proptest::collection::vec((0..4_u32, any::<u64>(), any::<u32>(), 0..200_u32), 0..40),
        near in proptest::collection::vec((0..4_u32, 0..4 * SECOND, 0..200_u32), 0..40),
        full: bool,
        ring: bool,
    ) {
        let odd = rows.iter().map(|(pid, at, sm, memory)| ProcessSample { pid: *pid, at: *at, sm: *sm, memory: *memory, encoder: 0, decoder: 0 });
        let rows: Vec<_> = odd.chain(near.iter().map(|(pid, micros, sm)| sample(*pid, *micros, *sm))).collect();
        let mut buffer = if ring { ring_at(2 * SECOND) } else { read_at(2 * SECOND) };
        if let Ok(window) = buffer.take(at(3 * SECOND), &rows, full) {
            for pid in 0..5 {
                for mean in window.of(pid).into_iter().flatten() {
                    prop_assert!((0.0..=100.0).contains(&mean), "{mean}");
                }
            }
        }
    }

    #[test]
    fn windows_tile_time_wherever_the_reads_fall(rows in ring(), pauses in proptest::collection::vec(200_000..3 * SECOND, 1..80)) {
        // The same ring read at other moments: the sums of mean × length are the same.
        let last = rows.last().unwrap().at - START;
        let integral = |reads: &[u64]| {
            let mut buffer = ring_at(2 * SECOND);
            let mut sums = [0.0; 3];
            let mut seen = START + 2 * SECOND;
            for read in reads {
                let since = buffer.since(at(*read));
                prop_assert_eq!(since >= seen, true, "time does not run back");
                seen = since;
                let fresh: Vec<_> = rows.iter().filter(|row| row.at > since && row.at <= START + read).copied().collect();
                let window = buffer.take(at(*read), &fresh, false).unwrap();
                for (pid, sum) in sums.iter_mut().enumerate() {
                    *sum += window.of(pid as u32)[0].unwrap() * window.length as f64;
                }
            }
            Ok(sums)
        };
        let mut reads = Vec::new();
        let mut time = 2 * SECOND;
        for pause in pauses.iter().cycle() {
            time += pause;
            reads.push(time);
            if time > last {
                break;
            }
        }
        let steady: Vec<u64> = (2..=last / SECOND).map(|n| (n + 1) * SECOND).collect();
        let (one, other) = (integral(&reads)?, integral(&steady)?);
        for (one, other) in one.into_iter().zip(other) {
            prop_assert!((one - other).abs() <= 1e-6 * one.abs().max(1.0), "{one} and {other}");
        }
    }

    #[test]
    fn what_a_ring_overwrote_changes_nothing_of_what_it_still_holds(rows in ring(), lost in 0..50_usize) {
        let lost = lost.min(rows.len() - 1);
        let read = at(rows.last().unwrap().at - START);
        prop_assume!(read.monotonic < LONGEST_WINDOW);
        let mut whole = ring_at(rows[lost].at - START);
        let mut cut = ring_at(2 * SECOND);
        let expected = whole.take(read, &rows[lost + 1..], false);
        let window = cut.take(read, &rows[lost..], true);
        match (expected, window) {
            (Ok(expected), Ok(window)) => {
                for pid in 0..3 {
                    prop_assert!((sm(&expected, pid) - sm(&window, pid)).abs() < 1e-9);
                }
            }
            (Ok(_), Err(gap)) => prop_assert_eq!((gap, lost + 1), (Gap::Overwritten, rows.len())),
            (expected, window) => prop_assert!(false, "{expected:?} {window:?}"),
        }
    }

    #[test]
    fn a_clock_that_jumps_gives_no_number_and_the_read_after_it_does(jump in -4000_i64..4000, rows in ring()) {
        prop_assume!(jump != 0);
        let wall = |micros: u64| START.saturating_add_signed(jump * 3600 * 1_000_000 / 4) + micros;
        let mut buffer = ring_at(2 * SECOND);
        let jumped = |micros: u64| ReadTime { wall: wall(micros), monotonic: Duration::from_micros(micros) };
        let shifted = |from: u64, to: u64| -> Vec<ProcessSample> {
            let shift = |row: &ProcessSample| ProcessSample { at: wall(row.at - START), ..*row };
            rows.iter().map(shift).filter(|row| row.at > from && row.at <= to).collect()
        };
        let first = jumped(3 * SECOND);
        let since = buffer.since(first);
        prop_assert!(since < first.wall, "the driver is not asked for samples of a future that was called off");
        prop_assert_eq!(buffer.take(first, &shifted(since, first.wall), false), Err(Gap::ClockJump));
        let second = jumped(4 * SECOND);
        let window = buffer.take(second, &shifted(buffer.since(second), second.wall), false);
        prop_assert!(window.is_ok_and(|window| window.length <= 3 * SECOND));
    }
}
