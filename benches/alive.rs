//! Measures how many processes can be alive at once with the kernel's default settings. Mappings
//! run out first, so a process must not need more than one.

use lunatic_benches::{Bar, Chart, Crowd, HEAP, PROFILES, Peer, Row, guest, meters, promise};

fn main() {
    let depth = promise(
        "processes alive at once with the current vm.max_map_count, each having handled a message and used its heap",
    );
    println!("  vm.max_map_count is {}", meters::max_mappings());
    let bytes = Chart::new(
        "alive-bytes",
        "total memory of a waiting process",
        "processes alive",
        "bytes each",
    );
    let times = Chart::new(
        "alive-spawn",
        "spawning one more process",
        "processes alive",
        "µs each",
    );
    let goals = depth.choose(&[1_000, 3_000, 10_000, 30_000, 65_000][..], &[50, 100]);

    let crowd = guest("crowd");
    for profile in PROFILES {
        let mut alive = 0;
        let mut machine = Crowd::new(profile, &crowd);
        for &goal in goals {
            let footprint = machine.grow(goal);
            if footprint.alive > alive {
                alive = footprint.alive;
                bytes.point(profile.name, alive as f64, footprint.bytes);
                times.point(profile.name, alive as f64, footprint.microseconds);
            }
            if let Some(ceiling) = footprint.ceiling {
                for chart in [&bytes, &times] {
                    chart.note(&format!("{}: ends at {alive}: {ceiling}", profile.name));
                }
                break;
            }
        }
        let alive = [alive as f64].into_iter().collect();
        Row::new(&profile.of("alive"), "processes", &alive)
            .print(profile.bar(Bar::AtLeast(60_000.0)));
    }

    for peer in [Peer::erlang("crowd"), Peer::go("crowd")] {
        for &goal in goals {
            if let [alive, microseconds, each] = peer.run(&[&goal.to_string(), HEAP])[..] {
                bytes.point(peer.name(), alive, each);
                times.point(peer.name(), alive, microseconds);
            }
        }
    }
}
