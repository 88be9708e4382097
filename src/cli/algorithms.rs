//! `ballast algorithms`: the registry of algorithms as a table.

use std::fmt::Write;

use ballast_balancer::ALGORITHMS;

/// The name and summary of each algorithm, with its options and their defaults below it.
pub(super) fn table() -> String {
    let options = ALGORITHMS.iter().flat_map(|info| info.options);
    // An option is indented by two spaces.
    let names = ALGORITHMS.iter().map(|info| info.name.len());
    let width = names
        .chain(options.map(|option| option.name.len() + 2))
        .max();
    let width = width.unwrap_or(0);
    let mut text = String::new();
    for info in ALGORITHMS {
        line(&mut text, info.name, width, info.summary);
        for option in info.options {
            let name = format!("  {}", option.name);
            let help = format!("{} (default {})", option.help, option.default);
            line(&mut text, &name, width, &help);
        }
    }
    text
}

fn line(table: &mut String, name: &str, width: usize, text: &str) {
    writeln!(table, "{name:width$}  {text}").expect("writing to a String cannot fail");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_algorithm_is_listed_and_aligned() {
        let table = table();
        for info in ALGORITHMS {
            let line = table.lines().find(|line| line.starts_with(info.name));
            assert!(
                line.is_some_and(|line| line.ends_with(info.summary)),
                "{}",
                info.name
            );
        }
        let column = |line: &str| {
            let name = line.trim_start();
            let end = name.find("  ")?;
            Some(line.len() - name[end..].trim_start().len())
        };
        let mut columns: Vec<_> = table.lines().map(column).collect();
        columns.dedup();
        assert_eq!(columns.len(), 1, "{table}");
    }
}
