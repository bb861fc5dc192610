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

/// Asks the driver whether its loop goes round; none if it has ended.
pub(super) async fn ask(
    events: &mpsc::Sender<Event>,
    limit: Duration,
) -> Option<Result<(), Health>> {
    let asked = async {
        let (answer, answered) = oneshot::channel();
        events.send(Event::Asked(answer)).await.ok()?;
        answered.await.ok()
    };
    match timeout(limit, asked).await {
        Ok(answered) => answered.map(Ok),
        Err(_) => {
            let seconds = limit.as_secs();
            let line = format!("stuck: no answer within {seconds} s; is the disk slow?");
            Some(Err(Health::ill(line)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_driver_that_answers_is_alive_and_one_that_is_gone_has_ended() {
        let (events, mut driver) = mpsc::channel(1);
        let driving = tokio::spawn(async move {
            let Some(Event::Asked(answer)) = driver.recv().await else {
                panic!("nothing was asked");
            };
            answer.send(()).unwrap();
        });
        assert_eq!(ask(&events, ANSWER_LIMIT).await, Some(Ok(())));
        driving.await.unwrap();
        assert_eq!(ask(&events, ANSWER_LIMIT).await, None);
    }

    #[tokio::test]
    async fn a_driver_that_does_not_answer_in_time_is_stuck() {
        let (events, _driver) = mpsc::channel(1);
        let found = ask(&events, Duration::ZERO).await.unwrap().unwrap_err();
        assert!(!found.is_well);
        assert_eq!(found.line, "stuck: no answer within 0 s; is the disk slow?");
    }
}
