//! Runs a program under callgrind and reads the counts.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

/// The C library chooses its copying functions by the processor. This setting leaves only those that every x86-64 has;
/// without it, the count of a request differs by a tenth between processors.
const ANY_PROCESSOR: &str = "glibc.cpu.hwcaps=-AVX2,-ERMS,-AVX_Fast_Unaligned_Load";

/// A command that runs a program under callgrind, which writes its counts to `folder`. The caller adds the program.
pub(crate) fn command(valgrind: &Path, folder: &Path, options: &[&str]) -> Command {
    let mut command = Command::new(valgrind);
    command
        .args(["--tool=callgrind", "--read-inline-info=no"])
        .arg(format!(
            "--callgrind-out-file={}",
            folder.join("out").display()
        ))
        .args(options)
        .env("GLIBC_TUNABLES", ANY_PROCESSOR);
    command
}

/// The instructions of each file that callgrind left in `folder`, by the file's number.
pub(crate) fn counts(folder: &Path) -> BTreeMap<u32, u64> {
    let files = fs::read_dir(folder).expect("the folder is there");
    files
        .filter_map(|file| {
            let path = file.expect("the folder can be read").path();
            let name = path.file_name()?.to_str()?;
            let number = name.strip_prefix("out")?.get(1..)?.parse().ok()?;
            let text = fs::read_to_string(&path).expect("callgrind has written text");
            let total = text.lines().find_map(|line| line.strip_prefix("totals: "));
            let total = total.and_then(|total| total.trim().parse().ok());
            Some((number, total.expect("a file of callgrind has a total")))
        })
        .collect()
}
