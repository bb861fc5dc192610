//! The credit-risk desk: ratings, covenants, collateral and the credit committee.

use super::draw::{Draw, hundredths, tenths};
use super::house_style::{Case, Class, Kind};
use super::{Institution, Intent};

/// The desk as an institution of the federation.
pub static INSTITUTION: Institution = Institution {
    name: "credit-risk",
    description: "A lender's credit-risk desk: ratings, covenants, collateral, the committee.",
    intents: &[
        Intent {
            name: "debt service",
            kind: Kind::Assess,
            write: debt_service,
        },
        Intent {
            name: "loan to value",
            kind: Kind::Assess,
            write: loan_to_value,
        },
        Intent {
            name: "past due",
            kind: Kind::Assess,
            write: past_due,
        },
        Intent {
            name: "expected loss",
            kind: Kind::Explain,
            write: expected_loss,
        },
        Intent {
            name: "rating move",
            kind: Kind::Explain,
            write: rating_move,
        },
        Intent {
            name: "covenant",
            kind: Kind::Plan,
            write: covenant,
        },
        Intent {
            name: "limit",
            kind: Kind::Plan,
            write: limit,
        },
        Intent {
            name: "collateral gap",
            kind: Kind::Plan,
            write: collateral_gap,
        },
        Intent {
            name: "thousands",
            kind: Kind::Correct,
            write: thousands,
        },
        Intent {
            name: "guarantor",
            kind: Kind::Correct,
            write: guarantor,
        },
        Intent {
            name: "override",
            kind: Kind::Decline,
            write: override_wanted,
        },
        Intent {
            name: "peer rating",
            kind: Kind::Decline,
            write: peer_rating,
        },
        Intent {
            name: "committee",
            kind: Kind::HandOver,
            write: committee,
        },
        Intent {
            name: "watch list",
            kind: Kind::HandOver,
            write: watch_list,
        },
    ],
    usual: [Kind::Assess, Kind::Correct],
};

const BORROWERS: [&str; 8] = [
    "bakery",
    "haulier",
    "shipyard",
    "hotel",
    "print shop",
    "foundry",
    "vineyard",
    "clinic chain",
];

fn debt_service(d: &mut Draw) -> Case {
    let (service, cover) = (d.stepped(200, 1800, 20), d.whole(70, 260));
    let earnings = service * cover / 100;
    let ratio = hundredths(earnings * 100 / service);
    let who = d.pick(&BORROWERS);
    let prompt = d.one([
        format!("{who}: EBITDA kEUR {earnings}, debt service kEUR {service}. Sound?"),
        format!("Can a {who} with kEUR {earnings} of EBITDA carry kEUR {service} a year?"),
        format!("Rate the cover: debt service kEUR {service}, EBITDA kEUR {earnings}, {who}."),
    ]);
    let (class, step) = match earnings * 100 / service {
        0..=99 => (Class::Red, "no new money, restructuring unit"),
        100..=139 => (Class::Amber, "quarterly figures, no dividend"),
        _ => (Class::Green, "renew the line as it stands"),
    };
    let finding = format!("{who} covers debt service {ratio} times, {earnings} against {service}");
    Case::new(prompt, finding, class, step).derived(ratio)
}

fn loan_to_value(d: &mut Draw) -> Case {
    let (value, share) = (d.stepped(300, 4000, 100), d.whole(35, 112));
    let loan = value * share / 100;
    let what = d.pick(&[
        "warehouse",
        "office block",
        "farm",
        "row of shops",
        "car park",
    ]);
    let prompt = d.one([
        format!("Loan kEUR {loan} on a {what} worth kEUR {value}. Too high?"),
        format!("{what} valued at kEUR {value}, asked for kEUR {loan}. Assess the lien."),
        format!("How risky is kEUR {loan} against a {what} of kEUR {value}?"),
    ]);
    let (class, step) = match share {
        0..=60 => (Class::Green, "standard margin"),
        61..=80 => (Class::Amber, "second valuation, higher margin"),
        _ => (Class::Red, "ask for equity or a guarantee"),
    };
    let finding = format!("{loan} on a {what} of {value}, loan to value {share} %");
    Case::new(prompt, finding, class, step).derived(share)
}

fn past_due(d: &mut Draw) -> Case {
    let (days, amount) = (d.whole(3, 140), d.stepped(5, 480, 5));
    let who = d.pick(&BORROWERS);
    let prompt = d.one([
        format!("{who}, kEUR {amount}, {days} days past due. Which stage?"),
        format!("Instalment of kEUR {amount} late by {days} days at the {who}."),
        format!("Stage for a {who}: {days} days in arrears with kEUR {amount}?"),
    ]);
    let (stage, class, step) = match days {
        0..=30 => (1, Class::Green, "reminder, no provision change"),
        31..=90 => (2, Class::Amber, "lifetime loss provision"),
        _ => (3, Class::Red, "default flag, work-out team"),
    };
    let finding = format!("{who}, kEUR {amount} late by {days} days, stage {stage}");
    Case::new(prompt, finding, class, step).derived(stage)
}

fn expected_loss(d: &mut Draw) -> Case {
    let (exposure, probability) = (d.stepped(100, 3000, 100), d.stepped(5, 80, 5));
    let severity = d.stepped(20, 70, 10);
    let (percent, loss) = (
        tenths(probability),
        hundredths(exposure * probability * severity / 1000),
    );
    let prompt = d.one([
        format!("Explain the loss: kEUR {exposure}, PD {percent} %, LGD {severity} %."),
        format!("What do PD {percent} % and LGD {severity} % mean on kEUR {exposure}?"),
        format!("Why is there a provision on kEUR {exposure} at PD {percent} %, LGD {severity} %?"),
    ]);
    let finding =
        format!("{percent} % times {severity} % of kEUR {exposure}, expected loss kEUR {loss}");
    Case::new(
        prompt,
        finding,
        Class::Green,
        "book the yearly loss in the margin",
    )
    .derived(loss)
}

fn rating_move(d: &mut Draw) -> Case {
    let (before, notches) = (d.whole(3, 9), d.whole(1, 5));
    let after = before + notches;
    let (who, cause) = (
        d.pick(&BORROWERS),
        d.pick(&[
            "thin equity",
            "late accounts",
            "a lost contract",
            "falling margins",
        ]),
    );
    let prompt = d.one([
        format!("Why did the {who} go from grade {before} to {after}? Note says {cause}."),
        format!("Explain grade {after} after {before} for a {who} with {cause}."),
        format!("{who}: {cause}, grade {before} becomes {after}. What does that mean?"),
    ]);
    let class = if notches > 2 {
        Class::Red
    } else {
        Class::Amber
    };
    let finding = format!("{who} down from grade {before} to {after}, {notches} notches, {cause}");
    Case::new(prompt, finding, class, "price the next drawing anew").derived(notches)
}

fn covenant(d: &mut Draw) -> Case {
    let (limit, excess) = (d.whole(25, 45), d.whole(1, 22));
    let (allowed, found, gap) = (tenths(limit), tenths(limit + excess), tenths(excess));
    let who = d.pick(&BORROWERS);
    let prompt = d.one([
        format!("Leverage {found}, covenant {allowed}, {who}. What next?"),
        format!("The {who} broke its leverage covenant of {allowed} with {found}. Plan."),
        format!("{who} reports net debt of {found} times EBITDA, allowed {allowed}."),
    ]);
    let class = if excess > 8 { Class::Red } else { Class::Amber };
    let finding = format!("{who} at {found} against {allowed}, covenant broken by {gap}");
    Case::new(
        prompt,
        finding,
        class,
        "reserve rights, waiver against a fee",
    )
    .derived(gap)
}

fn limit(d: &mut Draw) -> Case {
    let (old, grade) = (d.stepped(100, 2400, 50), d.whole(2, 14));
    let new = old + d.stepped(50, 900, 50);
    let (who, more) = (d.pick(&BORROWERS), new - old);
    let prompt = d.one([
        format!("{who}, grade {grade}, wants kEUR {new} instead of {old}. Plan?"),
        format!("Raise the line of a grade {grade} {who} from kEUR {old} to {new}?"),
        format!("Limit request kEUR {new}, so far {old}, {who} of grade {grade}."),
    ]);
    let (class, step) = match grade {
        0..=5 => (Class::Green, "approve within desk authority"),
        6..=9 => (Class::Amber, "half now, half after the accounts"),
        _ => (Class::Red, "keep the old limit"),
    };
    let finding = format!("{who} of grade {grade} asks for kEUR {more} more, {old} to {new}");
    Case::new(prompt, finding, class, step).derived(more)
}

fn collateral_gap(d: &mut Draw) -> Case {
    let (exposure, gap) = (d.stepped(400, 3200, 50), d.stepped(20, 380, 10));
    let cover = exposure - gap;
    let what = d.pick(&["stock", "receivables", "machines", "shares", "lorries"]);
    let prompt = d.one([
        format!("Exposure kEUR {exposure}, {what} now worth kEUR {cover}. Next step?"),
        format!("Plan for a margin shortfall: {what} kEUR {cover}, drawn kEUR {exposure}."),
        format!("{what} fell to kEUR {cover} while kEUR {exposure} is drawn."),
    ]);
    let class = if gap > 200 { Class::Red } else { Class::Amber };
    let finding = format!("{what} of kEUR {cover} leave kEUR {gap} of {exposure} uncovered");
    Case::new(prompt, finding, class, "top-up call, ten banking days").derived(gap)
}

fn thousands(d: &mut Draw) -> Case {
    let (right, who) = (d.whole(12, 96), d.pick(&BORROWERS));
    let (wrong, staff) = (right * 1000, d.whole(8, 140));
    let what = d.pick(&["turnover", "equity", "balance sheet total", "cash"]);
    let prompt = d.one([
        format!("{who} with {staff} staff shows a {what} of mEUR {wrong}. Real?"),
        format!("Spread sheet: {what} mEUR {wrong}, {who}, {staff} people. Correct it."),
        format!("mEUR {wrong} of {what} for {staff} staff in a {who}? Looks wrong."),
    ]);
    let finding = format!("{what} of the {who} typed in thousands, {wrong} should be mEUR {right}");
    Case::new(
        prompt,
        finding,
        Class::Amber,
        "respread the accounts, rerun the grade",
    )
    .derived(right)
}

fn guarantor(d: &mut Draw) -> Case {
    let (amount, times) = (d.stepped(50, 950, 25), d.pick(&[2, 3]));
    let (total, who) = (amount * times, d.pick(&BORROWERS));
    let owner = d.pick(&["owner", "parent firm", "silent partner", "state agency"]);
    let prompt = d.one([
        format!("Guarantee of the {owner}, kEUR {amount}, counted {times} times for the {who}."),
        format!("{who}: kEUR {total} of cover is {times} times the {owner}'s kEUR {amount}."),
        format!("Please mend the {who} file, {owner} with kEUR {amount} appears {times} times."),
    ]);
    let finding = format!("{owner}'s kEUR {amount} entered {times} times, {who} cover overstated");
    Case::new(
        prompt,
        finding,
        Class::Red,
        "keep one entry, recompute the loss given default",
    )
}

fn override_wanted(d: &mut Draw) -> Case {
    let (grade, better) = (d.whole(8, 15), d.whole(1, 4));
    let wanted = grade - better;
    let (who, asker) = (
        d.pick(&BORROWERS),
        d.pick(&["trader", "branch head", "broker", "founder"]),
    );
    let prompt = d.one([
        format!("A {asker} wants grade {wanted} for the {who} instead of {grade}. Do it?"),
        format!("Set the {who} from grade {grade} to {wanted}, says the {asker}."),
        format!("The {asker} presses for grade {wanted}; model gives the {who} {grade}."),
    ]);
    let finding = format!("{asker} wants {who} at {wanted}, model says {grade}, no new facts");
    Case::new(
        prompt,
        finding,
        Class::Amber,
        "grade stands, validation team is copied",
    )
}

fn peer_rating(d: &mut Draw) -> Case {
    let (asker, who) = (
        d.pick(&["supplier", "rival", "consultant", "former director"]),
        d.pick(&BORROWERS),
    );
    let (what, year) = (
        d.pick(&["grade", "credit line", "arrears", "collateral"]),
        d.whole(2019, 2025),
    );
    let prompt = d.one([
        format!("A {asker} asks for the {who}'s {what} of {year}. Share it?"),
        format!("May the {asker} see the {what} of the {who}, year {year}?"),
        format!("{asker} on the line: wants {year} {what} of a {who}."),
    ]);
    let finding = format!("{asker} wants the {what} of a {who} for {year}, bank secrecy applies");
    Case::new(
        prompt,
        finding,
        Class::Red,
        "neither confirm nor deny a relation",
    )
}

fn committee(d: &mut Draw) -> Case {
    let (cases, amount) = (d.whole(2, 15), tenths(d.whole(12, 480)));
    let missing = d.pick(&[
        "a valuation",
        "signed accounts",
        "the legal opinion",
        "a site visit",
    ]);
    let day = d.pick(&["Monday", "Tuesday", "Thursday", "Friday"]);
    let prompt = d.one([
        format!("{day} committee: {cases} cases, mEUR {amount}, {missing} missing. Brief me."),
        format!("Hand over the {day} pack of {cases} files, mEUR {amount}; {missing} is open."),
        format!("Pass on: {missing} still missing, {cases} cases of mEUR {amount} for {day}."),
    ]);
    let finding = format!("{cases} cases, mEUR {amount}, {missing} missing for {day}");
    Case::new(
        prompt,
        finding,
        Class::Amber,
        "deputy chases the paper today",
    )
}

fn watch_list(d: &mut Draw) -> Case {
    let (who, weeks) = (d.pick(&BORROWERS), d.whole(2, 30));
    let (sign, amount) = (
        d.pick(&[
            "wages paid late",
            "a new auditor",
            "cheques returned",
            "tax lien",
        ]),
        d.stepped(150, 2900, 50),
    );
    let prompt = d.one([
        format!("{who} on watch for {weeks} weeks, {sign}, kEUR {amount}. Note for my deputy."),
        format!("For the deputy: {who}, kEUR {amount}, {sign}, week {weeks} of watch."),
        format!("Sum up the {who}: {sign}, {weeks} weeks watched, kEUR {amount} drawn."),
    ]);
    let class = if weeks > 16 { Class::Red } else { Class::Amber };
    let finding = format!("{who} watched {weeks} weeks, {sign}, kEUR {amount} drawn");
    Case::new(prompt, finding, class, "deputy rings the bookkeeper weekly")
}
