//! The cardiology department: heart failure, rhythm, valves, stents and devices.

use super::draw::{Draw, tenths};
use super::house_style::{Case, Class, Kind};
use super::{Institution, Intent};

/// The department as an institution of the federation.
pub static INSTITUTION: Institution = Institution {
    name: "cardiology",
    description: "A hospital's cardiology department: heart failure, rhythm, valves, stents, devices.",
    intents: &[
        Intent {
            name: "ejection fraction",
            kind: Kind::Assess,
            write: ejection_fraction,
        },
        Intent {
            name: "troponin",
            kind: Kind::Assess,
            write: troponin,
        },
        Intent {
            name: "pressure",
            kind: Kind::Assess,
            write: pressure,
        },
        Intent {
            name: "stroke score",
            kind: Kind::Explain,
            write: stroke_score,
        },
        Intent {
            name: "aortic valve",
            kind: Kind::Explain,
            write: aortic_valve,
        },
        Intent {
            name: "apixaban dose",
            kind: Kind::Plan,
            write: apixaban_dose,
        },
        Intent {
            name: "statin",
            kind: Kind::Plan,
            write: statin,
        },
        Intent {
            name: "stent tablets",
            kind: Kind::Plan,
            write: stent_tablets,
        },
        Intent {
            name: "weight slip",
            kind: Kind::Correct,
            write: weight_slip,
        },
        Intent {
            name: "swapped signs",
            kind: Kind::Correct,
            write: swapped_signs,
        },
        Intent {
            name: "relative calls",
            kind: Kind::Decline,
            write: relative_calls,
        },
        Intent {
            name: "list wanted",
            kind: Kind::Decline,
            write: list_wanted,
        },
        Intent {
            name: "night",
            kind: Kind::HandOver,
            write: night,
        },
        Intent {
            name: "device battery",
            kind: Kind::HandOver,
            write: device_battery,
        },
    ],
    usual: [Kind::Assess, Kind::Plan],
};

fn patient(d: &mut Draw) -> String {
    let age = d.whole(38, 89);
    let who = d.pick(&["man", "woman"]);
    d.one([
        format!("a {who} of {age}"),
        format!("a {age}-year-old {who}"),
    ])
}

fn ejection_fraction(d: &mut Draw) -> Case {
    let (who, fraction, nyha) = (patient(d), d.whole(18, 62), d.pick(&["I", "II", "III"]));
    let prompt = d.one([
        format!("Echo of {who}: LVEF {fraction} %, NYHA {nyha}. How serious is it?"),
        format!(
            "How worried should we be about an ejection fraction of {fraction} %, NYHA {nyha}?"
        ),
        format!("Heart failure clinic, {who}. NYHA {nyha}, LVEF measured at {fraction} %. Assess."),
    ]);
    let (word, class, step) = match fraction {
        0..=34 => (
            "severely reduced",
            Class::Red,
            "start all four pillars, discuss a defibrillator",
        ),
        35..=49 => (
            "mildly reduced",
            Class::Amber,
            "raise the beta blocker, repeat the echo",
        ),
        _ => (
            "preserved",
            Class::Green,
            "treat pressure and weight, no device",
        ),
    };
    Case::new(
        prompt,
        format!("LVEF {fraction} %, {word}, symptoms NYHA {nyha}"),
        class,
        step,
    )
}

fn troponin(d: &mut Draw) -> Case {
    let (who, first) = (patient(d), d.whole(6, 40));
    let rise = d.pick(&[1, 2, 3, 12, 28, 64, 95]);
    let second = first + rise;
    let prompt = d.one([
        format!("Chest pain in {who}. Troponin {first} ng/l, after three hours {second}. Verdict?"),
        format!(
            "Troponin went from {first} to {second} ng/l within three hours. Is it an infarct?"
        ),
        format!("Emergency room asks: {who}, troponins {first} and {second} ng/l. What now?"),
    ]);
    let (class, word, step) = if rise >= 10 {
        (
            Class::Red,
            "acute injury likely",
            "aspirin, monitor bed, angiography list",
        )
    } else {
        (
            Class::Green,
            "no dynamic change",
            "exercise test as an outpatient",
        )
    };
    let finding = format!("troponin {first} to {second} ng/l, a rise of {rise}, {word}");
    Case::new(prompt, finding, class, step).derived(rise)
}

fn pressure(d: &mut Draw) -> Case {
    let (systolic, diastolic) = (d.stepped(118, 196, 2), d.stepped(68, 112, 2));
    let drug = d.pick(&["ramipril", "amlodipine", "candesartan", "no tablets"]);
    let prompt = d.one([
        format!("Mean home pressure {systolic}/{diastolic} mmHg on {drug}. Good enough?"),
        format!("The diary shows {systolic}/{diastolic} mmHg with {drug}. Rate it."),
        format!("Week of readings averages {systolic} over {diastolic} mmHg, takes {drug}."),
    ]);
    let (word, class, step) = match systolic {
        0..=134 => ("at target", Class::Green, "keep the present tablets"),
        135..=169 => (
            "above target",
            Class::Amber,
            "add a second agent at a low dose",
        ),
        _ => (
            "far above target",
            Class::Red,
            "same-day visit, check eyes and urine",
        ),
    };
    let finding = format!("pressure {systolic} over {diastolic} mmHg on {drug}, {word}");
    Case::new(prompt, finding, class, step)
}

fn stroke_score(d: &mut Draw) -> Case {
    let age = d.whole(52, 86);
    let (sign, sign_points) = d.pick(&[
        ("diabetes", 1),
        ("hypertension", 1),
        ("heart failure", 1),
        ("a past stroke", 2),
    ]);
    let points = sign_points + u32::from(age >= 65) + u32::from(age >= 75);
    let prompt = d.one([
        format!("What does the stroke score say for a man of {age} with fibrillation and {sign}?"),
        format!("Explain CHA2DS2-VASc: male, {age}, atrial fibrillation, {sign}."),
        format!(
            "Why would a {age}-year-old man with fibrillation and {sign} need a blood thinner?"
        ),
    ]);
    let class = if points >= 2 {
        Class::Amber
    } else {
        Class::Green
    };
    let step = if points >= 2 {
        "offer an anticoagulant"
    } else {
        "no anticoagulant yet"
    };
    Case::new(
        prompt,
        format!("age {age} and {sign} give a stroke score of {points}"),
        class,
        step,
    )
    .derived(points)
}

fn aortic_valve(d: &mut Draw) -> Case {
    let (gradient, area) = (d.whole(12, 64), d.whole(6, 19));
    let area_cm2 = tenths(area);
    let prompt = d.one([
        format!("What does an aortic gradient of {gradient} mmHg with {area_cm2} cm2 mean?"),
        format!(
            "Please explain the echo: valve area {area_cm2} cm2, mean gradient {gradient} mmHg."
        ),
        format!(
            "The letter says {gradient} mmHg across the aortic valve, area {area_cm2} cm2. Meaning?"
        ),
    ]);
    let (word, class, step) = if gradient >= 40 || area < 10 {
        ("severe", Class::Red, "heart team, valve replacement")
    } else if gradient >= 20 {
        ("moderate", Class::Amber, "echo every year")
    } else {
        ("mild", Class::Green, "echo every three years")
    };
    let finding = format!("{word} narrowing, {gradient} mmHg through {area_cm2} cm2");
    Case::new(prompt, finding, class, step)
}

fn apixaban_dose(d: &mut Draw) -> Case {
    let (age, weight, creatinine) = (d.whole(66, 92), d.whole(46, 94), d.whole(70, 178));
    let prompt = d.one([
        format!("Apixaban dose for age {age}, {weight} kg, creatinine {creatinine}?"),
        format!("Start apixaban: {age} years, {weight} kg, creatinine {creatinine} umol/l."),
        format!(
            "Which tablet of apixaban at {weight} kg, {age} years and creatinine {creatinine}?"
        ),
    ]);
    let met = u32::from(age >= 80) + u32::from(weight <= 60) + u32::from(creatinine >= 133);
    let dose = if met >= 2 { "2.5 mg" } else { "5 mg" };
    let class = if met >= 2 { Class::Amber } else { Class::Green };
    let finding =
        format!("{age} years, {weight} kg, creatinine {creatinine}: {met} of 3 dose criteria met");
    Case::new(
        prompt,
        finding,
        class,
        format!("apixaban {dose} twice a day"),
    )
    .derived(met)
    .derived(3)
    .derived(&dose[..dose.len() - 3])
}

fn statin(d: &mut Draw) -> Case {
    let (ldl, dose) = (d.whole(14, 44), d.pick(&[10, 20, 40]));
    let value = tenths(ldl);
    let event = d.pick(&["an infarct", "a stent", "bypass surgery", "a stroke"]);
    let prompt = d.one([
        format!("LDL {value} mmol/l on atorvastatin {dose} mg after {event}. Next?"),
        format!("After {event}: atorvastatin {dose} mg, LDL now {value} mmol/l. Plan the tablets."),
        format!(
            "What follows for an LDL of {value} mmol/l with {dose} mg atorvastatin and {event}?"
        ),
    ]);
    if ldl <= 18 {
        let finding = format!("LDL {value} mmol/l after {event}, goal reached");
        return Case::new(prompt, finding, Class::Green, format!("stay on {dose} mg"));
    }
    let gap = tenths(ldl - 18);
    let finding = format!("LDL {value} mmol/l after {event}, {gap} above goal");
    let step = if dose == 40 {
        "add ezetimibe".to_owned()
    } else {
        format!("double the {dose} mg")
    };
    Case::new(prompt, finding, Class::Amber, step).derived(gap)
}

fn stent_tablets(d: &mut Draw) -> Case {
    let (month, drug) = (
        d.whole(1, 11),
        d.pick(&["clopidogrel", "ticagrelor", "prasugrel"]),
    );
    let left = 12 - month;
    let vessel = d.pick(&["left anterior", "right coronary", "circumflex"]);
    let prompt = d.one([
        format!("Stent in the {vessel} artery {month} months ago. How long still {drug}?"),
        format!("Dentist asks to stop {drug}; {vessel} stent is {month} months old. Plan?"),
        format!("{drug} since a {vessel} stent, month {month} of twelve. What comes next?"),
    ]);
    let class = if month < 6 { Class::Red } else { Class::Amber };
    let finding = format!("{vessel} stent, month {month}, {left} of 12 months of {drug} left");
    Case::new(prompt, finding, class, "no pause, aspirin for life")
        .derived(left)
        .derived(12)
}

fn weight_slip(d: &mut Draw) -> Case {
    let kilograms = d.whole(48, 119);
    let (wrong, drug) = (
        tenths(kilograms),
        d.pick(&["heparin", "enoxaparin", "digoxin"]),
    );
    let prompt = d.one([
        format!(
            "The chart says {wrong} kg for an adult on {drug}; yesterday it was {kilograms} kg."
        ),
        format!("Weight {wrong} kg entered, {kilograms} kg on admission. {drug} is dosed by it."),
        format!("Please correct: {kilograms} kg became {wrong} kg before the {drug} order."),
    ]);
    let finding = format!("decimal slip, {wrong} kg should read {kilograms} kg");
    Case::new(
        prompt,
        finding,
        Class::Red,
        format!("stop {drug}, dose anew from {kilograms} kg"),
    )
}

fn swapped_signs(d: &mut Draw) -> Case {
    let (rate, saturation) = (d.whole(48, 79), d.whole(93, 99));
    let bed = d.whole(1, 28);
    let prompt = d.one([
        format!("Bed {bed}: pulse {saturation}, saturation {rate} %, but looks well. Entry right?"),
        format!(
            "Monitor of bed {bed} shows saturation {rate} % and pulse {saturation}. Correct it."
        ),
        format!("Someone typed pulse {saturation} and saturation {rate} % for bed {bed}."),
    ]);
    let finding = format!("fields swapped in bed {bed}: pulse {rate}, saturation {saturation} %");
    Case::new(
        prompt,
        finding,
        Class::Amber,
        "measure again, enter both values",
    )
}

fn relative_calls(d: &mut Draw) -> Case {
    let who = d.pick(&[
        "daughter",
        "brother",
        "neighbour",
        "employer",
        "former wife",
        "lawyer",
    ]);
    let what = d.pick(&[
        "angiogram",
        "discharge letter",
        "rhythm strip",
        "medication list",
        "echo",
    ]);
    let way = d.pick(&[
        "by phone",
        "by mail",
        "at the desk",
        "through a friend on the ward",
    ]);
    let prompt = d.one([
        format!("A {who} asks {way} for the {what}. May I read it out?"),
        format!("Send the {what} to the patient's {who}? The request came {way}."),
        format!("Request {way}: the {who} wants the {what} today."),
    ]);
    let finding = format!("{who} without consent wants the {what} {way}");
    Case::new(
        prompt,
        finding,
        Class::Amber,
        "patient decides, ward clerk rings back",
    )
}

fn list_wanted(d: &mut Draw) -> Case {
    let who = d.pick(&[
        "pacemaker maker",
        "drug firm",
        "student",
        "insurer",
        "newspaper",
    ]);
    let (count, what) = (
        d.stepped(20, 400, 10),
        d.pick(&["stents", "valves", "ablations"]),
    );
    let prompt = d.one([
        format!("A {who} wants names for our last {count} {what}. Export them?"),
        format!("Can you mail the {who} a list of {count} patients with {what}?"),
        format!("The {who} offers to analyse {count} {what} if we send full files."),
    ]);
    let finding = format!("{who} wants {count} files on {what}, no legal ground");
    Case::new(
        prompt,
        finding,
        Class::Red,
        "nothing sent, data protection told",
    )
}

fn night(d: &mut Draw) -> Case {
    let (bed, who) = (d.whole(1, 28), patient(d));
    let (task, hour) = (
        d.pick(&[
            "potassium",
            "second troponin",
            "groin check",
            "ECG",
            "lactate",
        ]),
        d.whole(1, 6),
    );
    let trouble = d.pick(&["infarct", "lung oedema", "new fibrillation", "heart block"]);
    let prompt = d.one([
        format!("Sum up for the night: bed {bed}, {who}, {trouble}, {task} due at {hour}."),
        format!("Hand over bed {bed}. {trouble}, {task} open for {hour} o'clock."),
        format!("What must the night doctor know of bed {bed}? {trouble}; {task} at {hour}."),
    ]);
    let finding = format!("bed {bed}, {trouble}, {task} open until {hour} o'clock");
    Case::new(
        prompt,
        finding,
        Class::Amber,
        format!("night doctor takes the {task}"),
    )
}

fn device_battery(d: &mut Draw) -> Case {
    let (months, lead) = (d.whole(2, 90), d.pick(&["atrial", "ventricular", "left"]));
    let device = d.pick(&["pacemaker", "defibrillator", "resynchroniser"]);
    let prompt = d.one([
        format!("Device clinic to ward: {device}, {months} months of battery, {lead} lead noisy."),
        format!("Pass on: the {lead} lead is noisy and the {device} has {months} months left."),
        format!("{device} check before leave, battery {months} months, noise on the {lead} lead."),
    ]);
    let class = if months < 6 { Class::Red } else { Class::Amber };
    let finding = format!("{device} with {months} months left, noise on the {lead} lead");
    Case::new(prompt, finding, class, "device nurse books a lead test")
}
