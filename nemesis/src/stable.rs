//! Stable periods: times in which nothing is broken, so that the system must come back to rest.

use squall_harness::config::{ConfigError, Section};
use squall_harness::nemesis::PlanContext;
use std::time::Duration;

/// What it is called in test files, and what it is.
pub(crate) const STABLE: (&str, &str) = ("stable", "periods in which no fault begins and those that are in force end");

/// (beginning, end) of the periods that an entry asks for.
pub(crate) fn read(section: &mut Section, context: &PlanContext<'_>) -> Result<Vec<(Duration, Duration)>, ConfigError> {
    let every = section.get("every", Duration::from_secs(30), "from one period to the next")?;
    let lasts = section.get("for", Duration::from_secs(10), "how long nothing is broken")?;
    let after = section.get("after", Duration::from_secs(20), "when the first begins")?;
    if lasts >= every || lasts < Duration::from_millis(100) {
        return Err(section.error("`for` must be at least 100ms and shorter than `every`"));
    }
    let beginnings = std::iter::successors(Some(after), |at| Some(*at + every));
    Ok(beginnings.take_while(|at| *at < context.duration).map(|at| (at, at + lasts)).collect())
}

/// What is left of a step from `begin` that would last so long: it ends with the beginning of a period at the latest;
/// `None` when it would begin in one, or nothing to speak of is left.
pub(crate) fn cut(periods: &[(Duration, Duration)], begin: Duration, lasts: Duration) -> Option<Duration> {
    if periods.iter().any(|(from, to)| (*from..*to).contains(&begin)) {
        return None;
    }
    let next = periods.iter().map(|(from, _)| *from).filter(|from| *from > begin).min();
    let left = next.map_or(lasts, |next| lasts.min(next - begin));
    (left >= Duration::from_millis(10)).then_some(left)
}
