//! The sections of the page, a file for each; what they show is the summary's and the records'.

mod curves;
mod details;
mod general;
mod head;
mod losses;
mod privacy;
mod rounds;

pub(super) use curves::curves;
pub(super) use details::{details, phases};
pub(super) use general::general;
pub(super) use head::head;
pub(super) use losses::losses;
pub(super) use privacy::privacy;
pub(super) use rounds::{refusals, rounds};
