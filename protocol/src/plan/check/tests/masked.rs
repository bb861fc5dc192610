//! What secure aggregation is not combined with (algorithms.md 9.2 and 9.3), each refused with its code where the plan is made and again
//! where a site opens it, however it is signed.

use super::*;

/// A plan that masks, but for one thing, and the field and code with which it is refused.
type Combination = (&'static str, &'static str, fn(&mut RunPlan));

const REFUSED: [Combination; 18] = [
    (
        "limits.participants_max with secure aggregation",
        "E_SECAGG_MIN",
        |plan| {
            plan.cohort.participants = Participants::Any;
            plan.cohort.quorum = 2;
            plan.limits.participants_max = 2;
        },
    ),
    (
        "limits.participants_max with secure aggregation",
        "E_SECAGG_MIN",
        |plan| {
            plan.limits.participants_max = 1001;
        },
    ),
    ("secure_aggregation.cohort_min", "E_SECAGG_MIN", |plan| {
        plan.secure_aggregation.as_mut().unwrap().cohort_min = 2;
    }),
    ("cohort.quorum", "E_SECAGG_MIN", |plan| {
        plan.cohort.quorum = 2
    }),
    ("ring.bits", "E_SECAGG_OVERFLOW", |plan| {
        plan.ring.as_mut().unwrap().bits = RingBits::Bits16;
        plan.limits.participants_max = 4096;
    }),
    ("ring.bits", "E_RING_STEP", |plan| {
        plan.ring.as_mut().unwrap().bits = RingBits::Bits16;
        plan.limits.participants_max = 64;
        plan.training.learning_rate = 1e-6;
    }),
    ("cohort.late", "E_SECAGG_ASYNC", |plan| {
        plan.cohort.late = LatePolicy::LaterRound { rounds_max: 1 };
    }),
    ("cohort.enough", "E_SECAGG_ASYNC", |plan| {
        plan.cohort.enough = Some(3);
    }),
    ("run.transfer", "E_SECAGG_NONLINEAR_AGG", |plan| {
        plan.encoding = ValueEncoding::Int8;
    }),
    ("strategy", "E_KRUM_SECAGG", |plan| {
        plan.strategy = StrategyPlan::Median;
    }),
    ("strategy", "E_KRUM_SECAGG", |plan| {
        plan.strategy = StrategyPlan::TrimmedMean { trim: 1 };
    }),
    ("strategy", "E_KRUM_SECAGG", |plan| {
        plan.strategy = StrategyPlan::Krum {
            byzantine: 1,
            keep: 1,
        };
    }),
    ("strategy", "E_KRUM_SECAGG", |plan| {
        plan.strategy = StrategyPlan::GeometricMedian { passes: 8 };
    }),
    ("limits.weight_max", "E_DP_WEIGHTED", |plan| {
        plan.privacy = private().privacy;
        plan.limits.weight_max = 2;
    }),
    ("limits.weight_max", "E_DP_WEIGHTED", |plan| {
        plan.limits.participants_max = 1000;
        plan.participant_privacy = protected().participant_privacy;
        plan.limits.weight_max = 2;
    }),
    ("participant_privacy.expected", "E_DP_FEW_CLIENTS", |plan| {
        plan.limits.participants_max = 1000;
        plan.limits.weight_max = 1;
        plan.participant_privacy = protected().participant_privacy;
        plan.participant_privacy.as_mut().unwrap().expected = 20;
    }),
    ("cohort.select", "among all", |plan| {
        plan.cohort.select = Some(3);
    }),
    ("secure_aggregation", "needs the plan's ring", |plan| {
        plan.ring = None;
    }),
];

#[test]
fn what_masks_are_not_combined_with_is_refused_with_its_code_at_the_server_and_again_at_the_site() {
    secured().check().unwrap();
    for (field, code, spoil) in REFUSED {
        let mut plan = secured();
        spoil(&mut plan);
        let at_server = plan.clone().check().unwrap_err();
        assert_eq!(at_server.field, field, "{at_server}");
        assert!(at_server.to_string().contains(code), "{at_server}");

        // A server of another make signs it all the same.
        let bytes = codec::encode(&plan).unwrap();
        let seal = sign(&[b"foedus/plan/1", bytes.as_slice()].concat());
        let at_site = SignedPlan { plan: bytes, seal }.open(&Eye).unwrap_err();
        assert_eq!(at_site, SignedPlanError::Plan(at_server));
    }
}
