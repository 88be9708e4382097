//! The cost of finding the route of a request among 1, 10, 1,000 and 10,000 routes.
//!
//! `hosts`: a host name and a prefix each. `prefixes`: a prefix each, for any host. The last route is for everything else.
//! 10,000 routes should cost at most twice what 10 do.

use std::hint::black_box;
use std::path::Path;

use ballast::config::Config;
use ballast::message::FieldsView;
use ballast::route::{Router, RoutingInput};
use criterion::{BenchmarkId, Criterion};
use http::{HeaderMap, Method};

const ROUTES: [usize; 4] = [1, 10, 1_000, 10_000];

/// Routes that get requests. More of them would measure how long the memory takes for what no cache holds.
const REQUESTED: usize = 100;

/// The host and the prefix of a route.
fn place(kind: &str, number: usize) -> (String, String) {
    match kind {
        "hosts" => (format!("s{number}.test"), "/api/".to_owned()),
        _ => ("any.test".to_owned(), format!("/a{number}/b/")),
    }
}

fn router(kind: &str, count: usize) -> Router {
    let mut text =
        "listeners: [\"127.0.0.1:80\"]\npools: { w: { hosts: [\"127.0.0.1:1\"] } }\nroutes:\n"
            .to_owned();
    for number in 1..count {
        let (host, prefix) = place(kind, number);
        text += &match kind {
            "hosts" => format!("- {{ host: {host}, path: {prefix}, pool: w }}\n"),
            _ => format!("- {{ path: {prefix}, pool: w }}\n"),
        };
    }
    text += "- { pool: w }\n";
    let config = Config::parse(&text, Path::new("b.yaml"));
    let config = config.unwrap_or_else(|errors| panic!("{errors}"));
    Router::new(&config.routes, config.paths.ambiguous)
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    for kind in ["hosts", "prefixes"] {
        let mut group = criterion.benchmark_group(format!("route/{kind}"));
        for count in ROUTES {
            let router = router(kind, count);
            // They are spread over the whole file.
            let steps = 0..count.min(REQUESTED);
            let places = steps.map(|step| place(kind, step * 7_919 % count + 1));
            let places = Vec::from_iter(places.map(|(host, prefix)| (host, prefix + "x/y")));
            let fields = HeaderMap::new();
            let mut next = 0;
            group.bench_function(BenchmarkId::from_parameter(count), |bencher| {
                bencher.iter(|| {
                    next = (next + 1) % places.len();
                    let (host, path) = &places[next];
                    let input = RoutingInput {
                        method: &Method::GET,
                        authority: host.as_bytes(),
                        path: path.as_bytes(),
                        query: b"",
                        fields: FieldsView::Map(&fields),
                        client: None,
                    };
                    black_box(router.find(input))
                });
            });
        }
        group.finish();
    }
    criterion.final_summary();
}
