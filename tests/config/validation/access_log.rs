//! `access_log`.

use crate::{only_message, parse, with_top};

#[test]
fn access_logs() {
    for (value, expected) in [
        (
            "{ format: json }",
            ": `path` is missing; write it as in `path: /var/log/ballast/access.log`",
        ),
        (
            "{ path: logs/ }",
            ".path: `logs/` is not the path of a file",
        ),
        (
            "{ path: a, format: jsn }",
            ".format: `jsn` is not one of `json`, `combined`; did you mean `json`?",
        ),
        (
            "{ path: a, buffer: 1KiB }",
            ".buffer: `1KiB` is not from 65536 to 1073741824 bytes",
        ),
        (
            "{ path: a, sample: [{ statuses: 200 }] }",
            ".sample[0]: `share` is missing; write it as in `share: 1%`",
        ),
        (
            "{ path: a, sample: [{ statuses: [200, 2xx], share: 1% }] }",
            ".sample[0].statuses[1]: `2xx` is neither a status from 100 to 599 nor a range such as `200-299`",
        ),
        (
            "{ path: a, sample: [{ statuses: 200, share: 0.01 }] }",
            ".sample[0].share: `0.01` has no percent sign; write `0.01%`",
        ),
        (
            "{ path: a, sample: [{ statuses: 200, share: 101% }] }",
            ".sample[0].share: `101%` is not a share from 0% to 100%",
        ),
        (
            "{ path: a, sample: [{ statuses: 200, share: NaN% }] }",
            ".sample[0].share: `NaN%` is not a share from 0% to 100%",
        ),
    ] {
        let line = only_message(&with_top(&format!("access_log: {value}")));
        assert_eq!(line.strip_prefix("access_log"), Some(expected));
    }
    let text = "access_log: { path: a, sample: [{ statuses: 200-399, share: 0.25% }, { statuses: [404, 410-499], share: 100% }] }";
    let log = parse(&with_top(text)).access_log.expect("a log");
    let samples = log.sample.into_iter();
    assert_eq!(
        Vec::from_iter(samples.map(|sample| (sample.statuses, sample.share.millionths()))),
        [
            (vec![(200, 399)], 2_500),
            (vec![(404, 404), (410, 499)], 1_000_000)
        ]
    );
}
