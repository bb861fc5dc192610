//! The nephrology department: kidney function, dialysis, electrolytes and transplants.

use super::draw::{Draw, hundredths, tenths};
use super::house_style::{Case, Class, Kind};
use super::{Institution, Intent};

/// The department as an institution of the federation.
pub static INSTITUTION: Institution = Institution {
    name: "nephrology",
    description: "A hospital's nephrology department: kidney function, dialysis, salts, transplants.",
    intents: &[
        Intent {
            name: "filtration",
            kind: Kind::Assess,
            write: filtration,
        },
        Intent {
            name: "potassium",
            kind: Kind::Assess,
            write: potassium,
        },
        Intent {
            name: "anaemia",
            kind: Kind::Assess,
            write: anaemia,
        },
        Intent {
            name: "clearance",
            kind: Kind::Explain,
            write: clearance,
        },
        Intent {
            name: "albumin",
            kind: Kind::Explain,
            write: albumin,
        },
        Intent {
            name: "dry weight",
            kind: Kind::Plan,
            write: dry_weight,
        },
        Intent {
            name: "metformin",
            kind: Kind::Plan,
            write: metformin,
        },
        Intent {
            name: "phosphate",
            kind: Kind::Plan,
            write: phosphate,
        },
        Intent {
            name: "unit mistake",
            kind: Kind::Correct,
            write: unit_mistake,
        },
        Intent {
            name: "fistula side",
            kind: Kind::Correct,
            write: fistula_side,
        },
        Intent {
            name: "waiting list",
            kind: Kind::Decline,
            write: waiting_list,
        },
        Intent {
            name: "samples wanted",
            kind: Kind::Decline,
            write: samples_wanted,
        },
        Intent {
            name: "dialysis shift",
            kind: Kind::HandOver,
            write: dialysis_shift,
        },
        Intent {
            name: "graft level",
            kind: Kind::HandOver,
            write: graft_level,
        },
    ],
    usual: [Kind::Explain, Kind::HandOver],
};

fn filtration(d: &mut Draw) -> Case {
    let (rate, fall) = (d.whole(9, 78), d.whole(1, 14));
    let before = rate + fall;
    let prompt = d.one([
        format!("eGFR fell from {before} to {rate} within a year. How bad is that?"),
        format!("Last year {before}, now {rate} ml/min. Which stage of kidney disease?"),
        format!("Assess: filtration rate {rate} ml/min, a year ago {before}."),
    ]);
    let (stage, class, step) = match rate {
        0..=14 => (5, Class::Red, "plan access and talk about transplant"),
        15..=29 => (
            4,
            Class::Red,
            "clinic within the month, spare the arm veins",
        ),
        30..=59 => (3, Class::Amber, "check urine albumin, stop ibuprofen"),
        _ => (2, Class::Green, "control pressure, repeat in spring"),
    };
    let finding = format!("filtration {before} to {rate} ml/min, stage {stage}, {fall} lost");
    Case::new(prompt, finding, class, step)
        .derived(stage)
        .derived(fall)
}

fn potassium(d: &mut Draw) -> Case {
    let (level, drug) = (
        d.whole(31, 72),
        d.pick(&["spironolactone", "trimethoprim", "losartan"]),
    );
    let value = tenths(level);
    let prompt = d.one([
        format!("Potassium {value} mmol/l under {drug}. Dangerous?"),
        format!("Laboratory rings: potassium {value}, the patient takes {drug}."),
        format!("How urgent is a potassium of {value} mmol/l with {drug} on the chart?"),
    ]);
    let (word, class, step) = match level {
        0..=34 => ("low", Class::Amber, "replace by mouth, check magnesium"),
        35..=52 => ("in range", Class::Green, "go on as before"),
        53..=62 => ("raised", Class::Amber, "diet sheet, binder, repeat blood"),
        _ => (
            "dangerous",
            Class::Red,
            "ECG, calcium and insulin with glucose",
        ),
    };
    Case::new(
        prompt,
        format!("potassium {value} mmol/l with {drug}, {word}"),
        class,
        step,
    )
}

fn anaemia(d: &mut Draw) -> Case {
    let (haemoglobin, ferritin) = (d.whole(68, 134), d.stepped(30, 640, 10));
    let level = tenths(haemoglobin);
    let prompt = d.one([
        format!(
            "Dialysis patient, haemoglobin {level} g/dl, ferritin {ferritin}. Rate the anaemia."
        ),
        format!("Is a haemoglobin of {level} g/dl acceptable at ferritin {ferritin}?"),
        format!("Monthly blood: ferritin {ferritin} ug/l, haemoglobin {level} g/dl."),
    ]);
    let (word, class) = match haemoglobin {
        0..=79 => ("severe anaemia", Class::Red),
        80..=99 => ("renal anaemia", Class::Amber),
        _ => ("within the target band", Class::Green),
    };
    let step = if ferritin < 200 {
        "iron into the circuit"
    } else {
        "adjust erythropoietin"
    };
    let finding = format!("haemoglobin {level} g/dl, ferritin {ferritin} ug/l, {word}");
    Case::new(prompt, finding, class, step)
}

fn clearance(d: &mut Draw) -> Case {
    let (ratio, hours) = (
        d.whole(88, 168),
        d.pick(&["three", "three and a half", "four", "five"]),
    );
    let value = hundredths(ratio);
    let prompt = d.one([
        format!("What does a Kt/V of {value} tell us after {hours} hours?"),
        format!("Explain Kt/V {value} to a patient on {hours} hours of dialysis."),
        format!("The report shows Kt/V {value}, sessions of {hours} hours. What is that?"),
    ]);
    let (word, class, step) = if ratio < 120 {
        (
            "too little cleaned",
            Class::Amber,
            "lengthen the session, check needles",
        )
    } else {
        ("well cleaned", Class::Green, "keep blood flow and time")
    };
    let finding =
        format!("Kt/V {value} is blood cleaned against body water, {word} in {hours} hours");
    Case::new(prompt, finding, class, step)
}

fn albumin(d: &mut Draw) -> Case {
    let (ratio, cause) = (
        d.stepped(5, 960, 5),
        d.pick(&["diabetes", "hypertension", "lupus"]),
    );
    let prompt = d.one([
        format!("What does an albumin ratio of {ratio} mg/g mean with {cause}?"),
        format!("Urine albumin to creatinine {ratio} mg/g, {cause}. Please explain."),
        format!("Why does the letter stress {ratio} mg/g of albumin in {cause}?"),
    ]);
    let (word, class, step) = match ratio {
        0..=29 => ("normal filter", Class::Green, "one urine test a year"),
        30..=299 => (
            "leaking filter",
            Class::Amber,
            "ramipril and an SGLT2 tablet",
        ),
        _ => ("heavily leaking filter", Class::Red, "consider a biopsy"),
    };
    let case = Case::new(
        prompt,
        format!("{ratio} mg/g of albumin in {cause}, {word}"),
        class,
        step,
    );
    if step.contains('2') {
        case.derived(2)
    } else {
        case
    }
}

fn dry_weight(d: &mut Draw) -> Case {
    let (dry, gain) = (d.stepped(480, 980, 5), d.stepped(5, 52, 1));
    let (target, before, fluid) = (tenths(dry), tenths(dry + gain), tenths(gain));
    let hours = d.pick(&[4, 5]);
    let prompt = d.one([
        format!("Arrives with {before} kg, dry weight {target} kg, {hours} hours. How much off?"),
        format!("Plan the {hours} hour session: now {before} kg, target {target} kg."),
        format!("Dry weight {target} kg, scale says {before} kg, chair booked {hours} hours."),
    ]);
    let (class, step) = if gain > 30 {
        (Class::Amber, "an extra session, salt advice")
    } else {
        (Class::Green, "even removal, pressure every half hour")
    };
    let finding = format!("{fluid} kg above the dry weight of {target} kg, {hours} hours");
    Case::new(prompt, finding, class, step).derived(fluid)
}

fn metformin(d: &mut Draw) -> Case {
    let (rate, dose) = (d.whole(14, 74), d.pick(&[500, 850, 1000]));
    let prompt = d.one([
        format!("Metformin {dose} mg twice daily, eGFR now {rate}. Go on?"),
        format!("What to do with metformin {dose} mg at a filtration of {rate} ml/min?"),
        format!("eGFR {rate}: plan the diabetes tablets, so far metformin {dose} mg."),
    ]);
    let (word, class, step) = match rate {
        0..=29 => (
            "below the limit",
            Class::Red,
            "stop metformin, start linagliptin",
        ),
        30..=44 => ("near the limit", Class::Amber, "halve the daily dose"),
        _ => ("sufficient", Class::Green, "unchanged, sick day rules"),
    };
    Case::new(
        prompt,
        format!("metformin {dose} mg at eGFR {rate}, {word}"),
        class,
        step,
    )
}

fn phosphate(d: &mut Draw) -> Case {
    let (level, hormone) = (d.whole(9, 29), d.stepped(60, 940, 20));
    let value = tenths(level);
    let prompt = d.one([
        format!("Phosphate {value} mmol/l, parathyroid hormone {hormone}. Next step?"),
        format!("Bone profile: hormone {hormone} ng/l and phosphate {value}. Plan it."),
        format!("What follows from phosphate {value} with parathyroid hormone {hormone}?"),
    ]);
    let (class, step) = if level > 17 {
        (Class::Amber, "sevelamer with meals, fewer colas and cheese")
    } else {
        (Class::Green, "same binder, repeat next month")
    };
    let finding = format!("phosphate {value} mmol/l, parathyroid hormone {hormone} ng/l");
    Case::new(prompt, finding, class, step)
}

fn unit_mistake(d: &mut Draw) -> Case {
    let level = d.whole(9, 88);
    let (wrong, right) = (tenths(level), (level * 884 + 50) / 100);
    let site = d.pick(&[
        "referral",
        "old record",
        "outside laboratory",
        "ambulance sheet",
    ]);
    let prompt = d.one([
        format!("The {site} lists creatinine {wrong} umol/l. That cannot be."),
        format!("Creatinine {wrong} copied from the {site} as umol/l. Please correct."),
        format!("Unit check: {site}, creatinine {wrong} umol/l, patient clearly ill."),
    ]);
    let finding = format!("{wrong} is mg/dl on the {site}, that makes {right} umol/l");
    Case::new(
        prompt,
        finding,
        Class::Amber,
        "convert, mark the unit, recompute eGFR",
    )
    .derived(right)
}

fn fistula_side(d: &mut Draw) -> Case {
    let (wrong, right) = d.pick(&[("left", "right"), ("right", "left")]);
    let (place, chair) = (d.pick(&["wrist", "elbow", "upper arm"]), d.whole(1, 24));
    let prompt = d.one([
        format!("Chair {chair}: file says {wrong} {place} fistula, the needle went in {right}."),
        format!("Fistula on the {right} {place}, yet the form of chair {chair} says {wrong}."),
        format!("Please mend the access sheet, chair {chair}: {right} {place}, not {wrong}."),
    ]);
    let finding = format!("fistula of chair {chair} sits at the {right} {place}, not {wrong}");
    Case::new(
        prompt,
        finding,
        Class::Red,
        format!("no cuff on the {right} arm, new wristband"),
    )
}

fn waiting_list(d: &mut Draw) -> Case {
    let who = d.pick(&[
        "cousin",
        "employer",
        "journalist",
        "other patient",
        "politician",
    ]);
    let what = d.pick(&[
        "place on the waiting list",
        "donor's name",
        "match report",
        "graft date",
    ]);
    let years = d.whole(1, 9);
    let prompt = d.one([
        format!("A {who} asks for the {what} of a patient waiting {years} years."),
        format!("May we tell the {who} the {what}? Dialysis for {years} years."),
        format!("After {years} years of dialysis the {who} demands the {what}."),
    ]);
    let finding = format!("{who} asks for the {what}, {years} years on dialysis, no mandate");
    Case::new(
        prompt,
        finding,
        Class::Amber,
        "transplant office answers the patient alone",
    )
}

fn samples_wanted(d: &mut Draw) -> Case {
    let who = d.pick(&[
        "biobank",
        "start-up",
        "foreign laboratory",
        "doctoral student",
    ]);
    let (count, what) = (
        d.stepped(30, 600, 15),
        d.pick(&["serum", "urine", "biopsy"]),
    );
    let prompt = d.one([
        format!("The {who} wants {count} {what} samples with birth dates. Ship them?"),
        format!("Can {count} {what} tubes with names go to a {who}?"),
        format!("A {who} requests {what} from {count} patients, labels included."),
    ]);
    let finding = format!("{who} wants {count} {what} samples with identity, no ethics vote");
    Case::new(
        prompt,
        finding,
        Class::Red,
        "freezer stays locked, board informed",
    )
}

fn dialysis_shift(d: &mut Draw) -> Case {
    let (chair, drop) = (d.whole(1, 24), d.stepped(78, 104, 2));
    let trouble = d.pick(&["cramps", "clotted lines", "fever", "itching"]);
    let litres = tenths(d.whole(8, 39));
    let prompt = d.one([
        format!("Late shift: chair {chair}, {trouble}, pressure down to {drop}, {litres} l off."),
        format!("Hand over chair {chair}. {trouble} after {litres} l, systolic {drop}."),
        format!(
            "What should the late nurse know of chair {chair}? {drop} mmHg, {trouble}, {litres} l."
        ),
    ]);
    let finding = format!("chair {chair}, {trouble} at {drop} mmHg, {litres} l removed");
    Case::new(
        prompt,
        finding,
        Class::Amber,
        "late nurse weighs and calls the family",
    )
}

fn graft_level(d: &mut Draw) -> Case {
    let (day, level) = (d.whole(3, 90), d.whole(31, 169));
    let value = tenths(level);
    let drug = d.pick(&["tacrolimus", "ciclosporin", "everolimus"]);
    let prompt = d.one([
        format!("Graft day {day}, {drug} {value} ng/ml. Summarise for the weekend."),
        format!("For the weekend doctor: {drug} level {value}, day {day} after transplant."),
        format!("Pass on the kidney of day {day}: {drug} at {value} ng/ml."),
    ]);
    let class = if (50..=120).contains(&level) {
        Class::Green
    } else {
        Class::Red
    };
    let finding = format!("graft day {day}, {drug} level {value} ng/ml");
    Case::new(
        prompt,
        finding,
        class,
        "weekend doctor takes the trough level",
    )
}
