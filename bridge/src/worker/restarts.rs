//! When an instance that crashed is followed by another: plain data, without a clock.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How often instances may crash, and how long the next one waits.
///
/// As with Erlang's supervisors, more than `most` crashes within `period` are too many, and it is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Intensity {
    /// So many crashes are put up with.
    pub most: usize,
    /// In so long.
    pub period: Duration,
    /// So long is waited after the second crash of a period; after the first the next instance is made at once, and after
    /// each further one it is twice as long.
    pub pause: Duration,
    /// But so long at most.
    pub longest_pause: Duration,
}

impl Default for Intensity {
    /// Ten crashes in a minute; pauses of 10 ms to 1 s.
    fn default() -> Intensity {
        Intensity {
            most: 10,
            period: Duration::from_secs(60),
            pause: Duration::from_millis(10),
            longest_pause: Duration::from_secs(1),
        }
    }
}

/// What follows a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// Another instance, not before so long.
    Restart(Duration),
    /// Nothing: it crashed too often.
    GiveUp,
}

/// The crashes of late.
#[derive(Debug, Default)]
pub(super) struct Crashes(VecDeque<Instant>);

impl Crashes {
    /// Takes note of a crash and decides what follows.
    pub(super) fn crashed(&mut self, now: Instant, intensity: &Intensity) -> Decision {
        while self
            .0
            .front()
            .is_some_and(|&crash| now.saturating_duration_since(crash) > intensity.period)
        {
            self.0.pop_front();
        }
        self.0.push_back(now);
        let crashes = self.0.len();
        if crashes > intensity.most {
            return Decision::GiveUp;
        }
        let pause = match crashes {
            1 => Duration::ZERO,
            crashes => intensity.pause.saturating_mul(1 << (crashes - 2).min(31)),
        };
        Decision::Restart(pause.min(intensity.longest_pause))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_the_crash_too_many_gives_up() {
        let intensity = Intensity {
            most: 5,
            period: Duration::from_secs(10),
            pause: Duration::from_millis(100),
            longest_pause: Duration::from_millis(300),
        };
        let (start, mut crashes) = (Instant::now(), Crashes::default());
        let mut crash = |seconds| crashes.crashed(start + Duration::from_secs(seconds), &intensity);
        assert_eq!(crash(0), Decision::Restart(Duration::ZERO));
        assert_eq!(crash(1), Decision::Restart(Duration::from_millis(100)));
        assert_eq!(crash(2), Decision::Restart(Duration::from_millis(200)));
        assert_eq!(crash(3), Decision::Restart(Duration::from_millis(300)));
        assert_eq!(crash(4), Decision::Restart(Duration::from_millis(300)));
        assert_eq!(crash(5), Decision::GiveUp);
    }

    #[test]
    fn crashes_of_long_ago_do_not_count() {
        let intensity = Intensity {
            most: 1,
            period: Duration::from_secs(10),
            ..Intensity::default()
        };
        let (start, mut crashes) = (Instant::now(), Crashes::default());
        for round in 0..100 {
            let now = start + Duration::from_secs(11 * round);
            assert_eq!(
                crashes.crashed(now, &intensity),
                Decision::Restart(Duration::ZERO)
            );
        }
        assert!(crashes.0.len() <= 2);
    }
}
