//! The machine alone, by hand, where a simulation would need a coincidence.

use std::time::{Duration, Instant};

use uuid::Uuid;

use super::{Config, Core, Reserved};
use crate::{
    Role,
    log::{
        threshold::Thresholds,
        writer::{pool::Pool, segments::Segments},
    },
    metrics::Metrics,
};

fn core(group_linger: Duration) -> Core {
    let metrics = Metrics::of(Role::Receivers);
    let config = Config {
        place: "nowhere".into(),
        block: 4096,
        align: 4096,
        in_flight: 1,
        groups: u32::MAX,
        most_group: u64::MAX,
        deferred: false,
        fenced: false,
        preallocated: true,
        marks: true,
        group_linger,
        durable: true,
        segment_size: 1 << 20,
        rolling_interval: Duration::from_secs(60),
        max_failures: 3,
        write_timeout: Duration::from_secs(10),
        idle_mark: Duration::from_secs(1),
        collect_every: None,
        reserve: false,
        prepare: true,
        metrics,
    };
    let segments = Segments::new(Uuid::nil(), Uuid::nil(), Vec::new(), 1, 0);
    Core::new(config, Pool::new(16 << 20, metrics), segments, 1, Thresholds::new(Duration::ZERO, i64::MIN))
}

/// Whoever opens a group that lingers watches its clock. If its copy fails it does not, and the next one must.
#[test]
fn whoever_comes_to_a_deserted_group_watches_its_clock() {
    let now = Instant::now();
    let mut core = core(Duration::from_millis(10));
    let Ok(Reserved::Seat(first, _, true)) = core.reserve(now, 10, 0) else {
        panic!("the first one watches")
    };
    let Ok(Reserved::Seat(second, _, false)) = core.reserve(now, 10, 0) else { panic!("one is enough") };
    // Both copies fail.
    drop((first, second));
    let third = core.reserve(now, 10, 0);
    assert!(matches!(third, Ok(Reserved::Seat(_, _, true))), "nobody watches: {third:?}");
}
