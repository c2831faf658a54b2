//! Many live at once, with the kernel as it comes: mappings are what runs out, and a process may cost one at most.

use lunatic_benches::{Bar, Crowd, HEAP, PROFILES, Peer, Picture, Row, guest, meters, promise};

fn main() {
    let depth = promise(
        "alive at once under the present vm.max_map_count, each having handled a message and used its heap",
    );
    println!("  vm.max_map_count is {}", meters::max_mappings());
    let bytes = Picture::new(
        "alive-bytes",
        "one process that waits, all in, of so many",
        "processes alive",
        "bytes each",
    );
    let times = Picture::new(
        "alive-spawn",
        "to spawn one more beside so many",
        "processes alive",
        "µs each",
    );
    let goals = depth.choose(&[1_000, 3_000, 10_000, 30_000, 65_000][..], &[50, 100]);

    let crowd = guest("crowd");
    for profile in PROFILES {
        let mut alive = 0;
        let mut machine = Crowd::new(profile, &crowd);
        for &goal in goals {
            let each = machine.grow(goal);
            if each.alive > alive {
                alive = each.alive;
                bytes.point(profile.name, alive as f64, each.bytes);
                times.point(profile.name, alive as f64, each.microseconds);
            }
            if let Some(ceiling) = each.ceiling {
                for picture in [&bytes, &times] {
                    picture.note(&format!("{}: ends at {alive}: {ceiling}", profile.name));
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
