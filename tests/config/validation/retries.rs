//! `retries` of a pool.

use crate::{pool_error, pool_with};

#[test]
fn retries() {
    for (value, expected) in [
        ("never", ": `never` is neither `none` nor a map"),
        (
            "3",
            ": `3` is neither `none` nor a map; did you mean `{ attempts: 3 }`?",
        ),
        (
            "{ attempts: 0 }",
            ".attempts: `0` is not a whole number from 1 to 10; `retries: none` turns them off",
        ),
        (
            "{ attempts: 11 }",
            ".attempts: `11` is not a whole number from 1 to 10",
        ),
        (
            "{ statuses: 200 }",
            ".statuses: `200` is not a failure, which has a status from 400 to 599",
        ),
        (
            "{ statuses: [503, 504-502] }",
            ".statuses[1]: `504-502` is empty; did you mean `502-504`?",
        ),
        (
            "{ budget: 20 }",
            ".budget: `20` has no percent sign; write `20%`",
        ),
        (
            "{ budget: 101% }",
            ".budget: `101%` is not a whole percentage from 0% to 100%",
        ),
        (
            "{ min: -1 }",
            ".min: `-1` is not a whole number from 0 to 1000000",
        ),
        (
            "{ deadline: 0s }",
            ".deadline: `0s` is not above 0; write a time such as `500ms` or `2s`",
        ),
    ] {
        let line = pool_error(&format!("retries: {value}"));
        assert_eq!(line, format!("pools.web.retries{expected}"));
    }
    assert_eq!(pool_with("retries: none").retries, None);
    let retries = pool_with("retries: { statuses: [] }").retries;
    assert_eq!(retries.expect("retries").statuses, []);
    let retries = pool_with("retries: { statuses: 500-599, budget: 0% }").retries;
    let retries = retries.expect("retries");
    assert_eq!((retries.statuses, retries.budget), (vec![(500, 599)], 0));
}
