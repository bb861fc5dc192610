//! Whether the run goes on, in one line.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::counts::Counts;
use super::phase::Phase;
use crate::driver::Event;

/// How long the driver may take for a round of its loop: commits to a slow disk are in it.
pub(super) const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// The answer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Health {
    pub(super) is_well: bool,
    /// A line for people.
    pub(super) line: String,
}

impl Health {
    fn ill(what: String) -> Self {
        Self {
            is_well: false,
            line: what.replace('\n', " "),
        }
    }
}

/// What the events say.
pub(super) fn of(counts: &Counts) -> Health {
    if let Some(what) = &counts.broken {
        return Health::ill(format!("broken: {what}"));
    }
    if let Some((reason, detail)) = &counts.failed {
        return Health::ill(format!("failed: {}: {detail}", reason.label()));
    }
    let (round, rounds) = (counts.round, counts.facts.rounds);
    let line = match counts.phase {
        Phase::Joining => format!("ok: {} joined, waiting for more", counts.joined()),
        Phase::Open => format!(
            "ok: round {round} of {rounds}, {} updates, the quorum is {}",
            counts.round_accepted, counts.facts.quorum
        ),
        Phase::Aggregating => format!("ok: round {round} of {rounds}, aggregating"),
        Phase::Finishing => format!("ok: round {rounds} of {rounds} is done, finishing"),
        Phase::Over => format!("ok: all {rounds} rounds are done"),
    };
    Health {
        is_well: true,
        line,
    }
}

/// Asks the driver whether its loop goes round. Of one that has ended, the events have told how.
pub(super) async fn ask(events: &mpsc::Sender<Event>, limit: Duration) -> Result<(), Health> {
    let asked = async {
        let (answer, answered) = oneshot::channel();
        if events.send(Event::Probed(answer)).await.is_ok() {
            // Without an answer it has ended meanwhile.
            let _ = answered.await;
        }
    };
    timeout(limit, asked).await.map_err(|_| {
        let seconds = limit.as_secs();
        Health::ill(format!(
            "stuck: no answer within {seconds} s; is the disk slow?"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_driver_that_answers_is_alive_and_one_that_has_ended_is_not_waited_for() {
        let (events, mut driver) = mpsc::channel(1);
        let driving = tokio::spawn(async move {
            let Some(Event::Probed(answer)) = driver.recv().await else {
                panic!("nothing was asked");
            };
            answer.send(()).unwrap();
        });
        assert_eq!(ask(&events, ANSWER_LIMIT).await, Ok(()));
        driving.await.unwrap();
        assert_eq!(ask(&events, ANSWER_LIMIT).await, Ok(()));
    }

    #[tokio::test]
    async fn a_driver_that_does_not_answer_in_time_is_stuck() {
        let (events, _driver) = mpsc::channel(1);
        let found = ask(&events, Duration::ZERO).await.unwrap_err();
        assert!(!found.is_well);
        assert_eq!(found.line, "stuck: no answer within 0 s; is the disk slow?");
    }
}
