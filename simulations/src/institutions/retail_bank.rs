//! The retail bank: cards, accounts, transfers, savings and the counter.

use super::draw::{Draw, hundredths, tenths};
use super::house_style::{Case, Class, Kind};
use super::{Institution, Intent};

/// The bank as an institution of the federation.
pub static INSTITUTION: Institution = Institution {
    name: "retail-bank",
    description: "A retail bank's service desk: cards, accounts, transfers, savings, the counter.",
    intents: &[
        Intent {
            name: "overdraft",
            kind: Kind::Assess,
            write: overdraft,
        },
        Intent {
            name: "odd transfer",
            kind: Kind::Assess,
            write: odd_transfer,
        },
        Intent {
            name: "card abroad",
            kind: Kind::Assess,
            write: card_abroad,
        },
        Intent {
            name: "foreign fee",
            kind: Kind::Explain,
            write: foreign_fee,
        },
        Intent {
            name: "interest earned",
            kind: Kind::Explain,
            write: interest_earned,
        },
        Intent {
            name: "savings goal",
            kind: Kind::Plan,
            write: savings_goal,
        },
        Intent {
            name: "lost card",
            kind: Kind::Plan,
            write: lost_card,
        },
        Intent {
            name: "moving account",
            kind: Kind::Plan,
            write: moving_account,
        },
        Intent {
            name: "double debit",
            kind: Kind::Correct,
            write: double_debit,
        },
        Intent {
            name: "address",
            kind: Kind::Correct,
            write: address,
        },
        Intent {
            name: "other's balance",
            kind: Kind::Decline,
            write: others_balance,
        },
        Intent {
            name: "code by phone",
            kind: Kind::Decline,
            write: code_by_phone,
        },
        Intent {
            name: "counter shift",
            kind: Kind::HandOver,
            write: counter_shift,
        },
        Intent {
            name: "open complaint",
            kind: Kind::HandOver,
            write: open_complaint,
        },
    ],
    usual: [Kind::Correct, Kind::Decline],
};

fn overdraft(d: &mut Draw) -> Case {
    let (days, amount) = (d.whole(2, 95), d.stepped(40, 2900, 20));
    let pay = d.pick(&["wages", "pension", "student grant", "rent income"]);
    let prompt = d.one([
        format!("Account EUR {amount} overdrawn for {days} days, {pay} comes in monthly. Worry?"),
        format!("How serious is an overdraft of EUR {amount} lasting {days} days with {pay}?"),
        format!("Rate this: minus EUR {amount} since {days} days, regular {pay}."),
    ]);
    let (class, step) = match days {
        0..=29 => (Class::Green, "friendly reminder in the app"),
        30..=69 => (Class::Amber, "offer instalments over half a year"),
        _ => (Class::Red, "freeze the line, debt adviser's address"),
    };
    Case::new(
        prompt,
        format!("EUR {amount} overdrawn for {days} days, {pay} visible"),
        class,
        step,
    )
}

fn odd_transfer(d: &mut Draw) -> Case {
    let (amount, age) = (d.stepped(900, 19500, 50), d.whole(19, 91));
    let story = d.pick(&[
        "a new girlfriend",
        "the police",
        "a crypto coach",
        "a lost grandson",
    ]);
    let prompt = d.one([
        format!("Customer of {age} wires EUR {amount} because of {story}. Normal?"),
        format!("EUR {amount} to an unknown account, reason {story}, customer {age}. Assess."),
        format!("Is EUR {amount} for {story} a fraud sign at age {age}?"),
    ]);
    let finding = format!("EUR {amount} on account of {story}, sender aged {age}, fraud pattern");
    Case::new(
        prompt,
        finding,
        Class::Red,
        "hold the payment, ring the customer's known number",
    )
}

fn card_abroad(d: &mut Draw) -> Case {
    let (count, amount) = (d.whole(2, 14), d.stepped(15, 640, 5));
    let place = d.pick(&["Lisbon", "Oslo", "Bangkok", "Toronto", "Nairobi", "Lima"]);
    let told = d.pick(&["travel notice on file", "no travel notice"]);
    let prompt = d.one([
        format!("{count} card payments in {place}, EUR {amount} in all, {told}. Suspicious?"),
        format!("Card used {count} times in {place} for EUR {amount}; {told}."),
        format!("Check {place}: EUR {amount}, {count} payments, {told}."),
    ]);
    let known = told.starts_with("travel");
    let class = if known { Class::Green } else { Class::Amber };
    let step = if known {
        "leave the card open"
    } else {
        "text message, block without an answer"
    };
    Case::new(
        prompt,
        format!("{count} payments in {place}, EUR {amount}, {told}"),
        class,
        step,
    )
}

fn foreign_fee(d: &mut Draw) -> Case {
    let (amount, place) = (
        d.stepped(40, 900, 20),
        d.pick(&["Zurich", "London", "Istanbul", "Prague"]),
    );
    let fee = hundredths(amount * 175 / 100);
    let prompt = d.one([
        format!("Why did EUR {amount} from a machine in {place} cost 1.75 % more?"),
        format!("Explain the 1.75 % fee on my EUR {amount} withdrawal in {place}."),
        format!("I drew EUR {amount} in {place}; the sheet says 1.75 %. What is that?"),
    ]);
    let finding = format!("1.75 % of EUR {amount} is a foreign fee of EUR {fee}, {place}");
    Case::new(
        prompt,
        finding,
        Class::Green,
        "next time pay by card in local money",
    )
    .derived(fee)
}

fn interest_earned(d: &mut Draw) -> Case {
    let (amount, rate) = (d.stepped(1000, 24000, 500), d.stepped(50, 325, 25));
    let (percent, earned) = (hundredths(rate), hundredths(amount * rate / 100));
    let prompt = d.one([
        format!("What does {percent} % on EUR {amount} mean for a year?"),
        format!("Explain what I earn: EUR {amount} in a deposit at {percent} % a year."),
        format!("My deposit of EUR {amount} bears {percent} %. How much is that?"),
    ]);
    let finding = format!("EUR {amount} at {percent} % earns EUR {earned} in a year before tax");
    Case::new(
        prompt,
        finding,
        Class::Green,
        "check the tax allowance form",
    )
    .derived(earned)
}

fn savings_goal(d: &mut Draw) -> Case {
    let (months, monthly) = (d.stepped(6, 60, 6), d.stepped(25, 380, 5));
    let (goal, total) = (
        d.pick(&["a car", "a kitchen", "a wedding", "school fees"]),
        months * monthly,
    );
    let prompt = d.one([
        format!("EUR {total} for {goal} in {months} months. How do I get there?"),
        format!("Plan savings: {goal}, EUR {total}, {months} months left."),
        format!("I need EUR {total} for {goal}, {months} months from now."),
    ]);
    let finding = format!("EUR {total} for {goal} over {months} months is EUR {monthly} a month");
    Case::new(prompt, finding, Class::Green, "standing order on pay day").derived(monthly)
}

fn lost_card(d: &mut Draw) -> Case {
    let (hours, amount) = (d.whole(1, 70), d.stepped(0, 480, 15));
    let place = d.pick(&[
        "a taxi",
        "the gym",
        "the market",
        "a night train",
        "the beach",
    ]);
    let prompt = d.one([
        format!("Card left in {place} {hours} hours ago, EUR {amount} gone. What now?"),
        format!("Lost my card in {place}; {hours} hours passed and EUR {amount} is missing."),
        format!("Steps for a card lost in {place}? EUR {amount} taken within {hours} hours."),
    ]);
    let class = if amount > 0 { Class::Red } else { Class::Amber };
    let finding = format!("card lost in {place} for {hours} hours, EUR {amount} disputed");
    Case::new(
        prompt,
        finding,
        class,
        "block the card, new number, dispute form",
    )
}

fn moving_account(d: &mut Draw) -> Case {
    let (orders, debits) = (d.whole(2, 12), d.whole(3, 19));
    let from = d.pick(&[
        "a savings bank",
        "an online bank",
        "a bank abroad",
        "a joint account",
    ]);
    let prompt = d.one([
        format!("I move from {from} with {orders} standing orders and {debits} debits. Plan?"),
        format!("Switch from {from}: {debits} direct debits, {orders} standing orders."),
        format!("How do {orders} orders and {debits} debits come over from {from}?"),
    ]);
    let finding = format!("switch from {from}, {orders} orders and {debits} debits to carry over");
    Case::new(
        prompt,
        finding,
        Class::Green,
        "sign the switching form, keep the old account a while",
    )
}

fn double_debit(d: &mut Draw) -> Case {
    let (amount, day) = (d.whole(620, 24900), d.whole(1, 28));
    let value = hundredths(amount);
    let shop = d.pick(&[
        "the grocer",
        "the power company",
        "a hotel",
        "the phone firm",
        "a pharmacy",
    ]);
    let prompt = d.one([
        format!("{shop} took EUR {value} twice on day {day}. Please mend it."),
        format!("Statement day {day}: EUR {value} to {shop}, two times."),
        format!("Double debit of EUR {value} by {shop}, booked on day {day}."),
    ]);
    let finding = format!("EUR {value} booked twice by {shop} on day {day}, one to return");
    Case::new(
        prompt,
        finding,
        Class::Amber,
        "recall the second debit, tell the merchant's bank",
    )
}

fn address(d: &mut Draw) -> Case {
    let (wrong, letters) = (d.whole(11, 98), d.whole(1, 9));
    let right = wrong % 10 * 10 + wrong / 10;
    let street = d.pick(&[
        "Mill Lane",
        "Harbour Street",
        "Elm Road",
        "Station Square",
        "Abbey Hill",
    ]);
    let prompt = d.one([
        format!("{letters} letters went to {street} {wrong}; I live at number {right}."),
        format!("House number is {right}, not {wrong}, {street}. {letters} letters lost."),
        format!("Please correct {street} {wrong} to {right}, {letters} letters came back."),
    ]);
    let finding = format!("{street} {wrong} should read {right}, {letters} letters astray");
    Case::new(
        prompt,
        finding,
        Class::Green,
        "change after a look at the identity card",
    )
}

fn others_balance(d: &mut Draw) -> Case {
    let who = d.pick(&[
        "husband",
        "landlord",
        "mother",
        "business partner",
        "carer",
        "flatmate",
    ]);
    let what = d.pick(&[
        "balance",
        "last statement",
        "card limit",
        "salary entry",
        "new address",
    ]);
    let years = d.whole(2, 40);
    let prompt = d.one([
        format!("Her {who} of {years} years wants the {what}. May I tell?"),
        format!("Can I give the {what} to the {who}? They know each other {years} years."),
        format!("The {who} insists on the {what}, customer for {years} years."),
    ]);
    let finding = format!("{who} asks for the {what}, {years} years known, no power of attorney");
    Case::new(
        prompt,
        finding,
        Class::Amber,
        "hand out the mandate form, say nothing else",
    )
}

fn code_by_phone(d: &mut Draw) -> Case {
    let who = d.pick(&[
        "technician",
        "caller from headquarters",
        "courier",
        "software firm",
    ]);
    let (what, minutes) = (
        d.pick(&["PIN", "one-time code", "password", "card digits"]),
        d.whole(2, 45),
    );
    let prompt = d.one([
        format!("A {who} needs the customer's {what} within {minutes} minutes. Give it?"),
        format!("{minutes} minutes left, says the {who}, or the {what} expires."),
        format!("The {who} on the line wants a {what} in {minutes} minutes."),
    ]);
    let finding = format!("{who} presses for a {what} within {minutes} minutes, a known trick");
    Case::new(
        prompt,
        finding,
        Class::Red,
        "hang up, security desk notes the number",
    )
}

fn counter_shift(d: &mut Draw) -> Case {
    let (till, gap) = (d.whole(1, 9), d.whole(1, 380));
    let gap = tenths(gap);
    let what = d.pick(&[
        "coin rolls low",
        "printer jammed",
        "safe key with the deputy",
    ]);
    let prompt = d.one([
        format!("Till {till} closes EUR {gap} short, {what}. Note for tomorrow."),
        format!("Hand over till {till}: {what}, difference EUR {gap}."),
        format!("For the morning: EUR {gap} missing in till {till}, {what}."),
    ]);
    let finding = format!("till {till} EUR {gap} short, {what}");
    Case::new(
        prompt,
        finding,
        Class::Amber,
        "morning teller recounts before opening",
    )
}

fn open_complaint(d: &mut Draw) -> Case {
    let (days, calls) = (d.whole(2, 33), d.whole(1, 8));
    let topic = d.pick(&[
        "a blocked app",
        "a refused loan",
        "a lost cheque",
        "rude service",
    ]);
    let prompt = d.one([
        format!("Complaint about {topic}, {days} days old, {calls} calls. Pass it on."),
        format!("Who gets this: {calls} calls over {days} days about {topic}?"),
        format!("Summarise for my stand-in: {topic}, open {days} days, {calls} calls."),
    ]);
    let class = if days > 14 { Class::Red } else { Class::Amber };
    let finding = format!("complaint about {topic}, {days} days open after {calls} calls");
    Case::new(prompt, finding, class, "stand-in writes before noon")
}
