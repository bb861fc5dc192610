//! Any file in the place of a run plan, and any damage to one.

use std::{fs, sync::OnceLock};

use certs::throwaway::{Federation, Material};
use proptest::prelude::*;
use protocol::{Digest, plan::SignedPlan};

use super::*;
use crate::{
    policy::tests::plan,
    properties::{any_bytes, damage, fixed_seed},
};

/// A site, and a plan that its federation's server signed.
struct Sent {
    site: TlsMaterial,
    material: TlsMaterial,
    signed: SignedPlan,
    file: Vec<u8>,
    plan: Digest,
    server: Digest,
}

fn tls(material: &Material) -> TlsMaterial {
    let list = Some(material.revocations.as_str());
    let Material {
        certificate,
        key,
        authority,
        ..
    } = material;
    TlsMaterial::from_pem(certificate, key, authority, list).unwrap()
}

fn sent() -> &'static Sent {
    static SENT: OnceLock<Sent> = OnceLock::new();
    SENT.get_or_init(|| {
        let federation = Federation::create("treaty", &["north"]).unwrap();
        let server = tls(federation.server());
        let plan = plan().check().unwrap();
        let signed = SignedPlan::new(&plan, |bytes| server.seal(bytes));
        let file = PlanFile::new(signed.clone(), &server).to_pem().unwrap();
        let site = tls(federation.participant("north").unwrap());
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("trial.plan");
        fs::write(&path, &file).unwrap();
        let (opened, signer) = super::plan(&path, &site).unwrap();
        assert_eq!(opened.digest(), plan.digest());
        Sent {
            site,
            material: server,
            signed,
            file: file.into_bytes(),
            plan: plan.digest(),
            server: signer.fingerprint,
        }
    })
}

/// What a site makes of a file with these bytes: the plan's digest and the signer's, or what it says.
fn read(bytes: &[u8]) -> Result<(Digest, Digest), String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trial.plan");
    fs::write(&path, bytes).unwrap();
    match super::plan(&path, &sent().site) {
        Ok((plan, signer)) => Ok((plan.digest(), signer.fingerprint)),
        Err(failure) => Err(failure.to_string()),
    }
}

#[track_caller]
fn assert_says_what_to_do(refused: &str) {
    for word in ["trial.plan cannot be used", "--write-plan wrote"] {
        assert!(refused.contains(word), "{refused}");
    }
}

proptest! {
    #![proptest_config(fixed_seed())]

    #[test]
    fn bytes_that_nobody_wrote_are_no_plan_and_no_panic(bytes in any_bytes()) {
        assert_says_what_to_do(&read(&bytes).unwrap_err());
    }

    #[test]
    fn damaged_file_is_refused_or_holds_the_very_plan_that_was_signed(damage in damage()) {
        // PEM has room for changes that mean nothing, as spaces and what stands outside its blocks.
        match read(&damage.done_to(&sent().file)) {
            Ok(found) => prop_assert_eq!(found, (sent().plan, sent().server)),
            Err(refused) => assert_says_what_to_do(&refused),
        }
    }

    #[test]
    fn plan_whose_signed_bytes_were_damaged_is_refused(damage in damage()) {
        let Sent { signed, material, .. } = sent();
        let mut changed = signed.clone();
        changed.plan = damage.done_to(&signed.plan);
        prop_assume!(changed != *signed);
        let file = PlanFile::new(changed, material).to_pem().unwrap();
        assert_says_what_to_do(&read(file.as_bytes()).unwrap_err());
    }
}
