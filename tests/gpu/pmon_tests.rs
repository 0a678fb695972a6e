//! The reading of nvidia-smi's table, which needs no card: part of `cargo test`.

use super::pmon::{Line, Means, lines, means};

/// In the form of the manual page of nvidia-smi (driver 550), with made-up figures.
const TABLE: &str = "\
# gpu         pid   type     sm    mem    enc    dec    jpg    ofa     fb   ccpm    command 
# Idx           #    C/G      %      %      %      %      %      %     MB     MB    name 
    0       4242     C     60     10      -      -      -      -   1334      0    gpu            
    0       4243     C      -      -      -      -      -      -   1334      0    gpu            
    0       4242     C     40     10      -      -      -      -   1335      0    a b            
    0          -     -      -      -      -      -      -      -      -      -    -              
";

#[test]
fn the_table_of_nvidia_smi_pmon_is_read_by_its_head() {
    let all = lines(TABLE).unwrap();
    assert_eq!(means(&all, 4242, 2), Some(Means { sm: 50.0, memory_mib: Some(1335.0) }));
    assert_eq!(means(&all, 4243, 2), Some(Means { sm: 0.0, memory_mib: Some(1334.0) }), "a dash is idle");
    assert_eq!(means(&all, 1, 2), None, "who is not mentioned at all is not there");
    let old = "# gpu pid type fb sm mem command\n 0 7 C 100 30 5 x\n";
    assert_eq!(lines(old).unwrap(), [Line { pid: 7, sm: 30.0, memory_mib: Some(100.0) }], "another order of columns");
    assert!(lines("0 7 C 30\n").is_err(), "without a head nothing is known");
}
