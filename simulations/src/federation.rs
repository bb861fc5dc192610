//! One federated run: a real server and one real client per institution, in one process.
//!
//! They speak over QUIC on the loopback interface with mutual TLS from a throw-away authority, exactly as
//! between machines. What they share is the base model's weights (one copy) and the device (one turn).

mod watch;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use certs::throwaway;
use client::{DeviceTurn, Settings, Shutdown, TrainingText};
use finetune::base::BaseModel;
use protocol::plan::{CohortPlan, EwcPlace, LimitsPlan, Participants, Schedule, TrainingPlan};
use protocol::quic::TlsMaterial;
use protocol::{ParticipantName, RunId};
use server::{RunOutcome, Server};
use tokio::task::JoinSet;

use self::watch::Watch;
use crate::experiment::{Course, Experiment};
use crate::hostile::HostileSite;
use crate::privacy::PrivateRun;
use crate::progress::Progress;
use crate::summary::{Arm, StepRecord};
use crate::text::InstitutionText;

/// The federation's name in every certificate.
const FEDERATION: &str = "simulation";
/// Nobody is given up while others have the device: the turns of a round can take long.
const PATIENCE: Duration = Duration::from_secs(6 * 3600);

/// What every run of a simulation shares.
pub struct Federation {
    certificates: throwaway::Federation,
    names: Vec<ParticipantName>,
}

/// One run.
pub struct FederatedRun<'a> {
    /// The experiment.
    pub experiment: &'a Experiment,
    /// Without or with EWC.
    pub arm: Arm,
    /// The frozen model, shared by all.
    pub base: &'a Arc<BaseModel>,
    /// The institutions.
    pub institutions: &'a [InstitutionText],
    /// The PEFT folder the run starts from.
    pub start: PathBuf,
    /// The folder the server writes its runs into.
    pub runs: PathBuf,
    /// The anchor's file, if the run has EWC.
    pub anchor: Option<PathBuf>,
    /// Differential privacy, if the run has it.
    pub private: Option<&'a PrivateRun>,
}

/// What a run gave.
pub struct FederatedOutcome {
    /// What the server did.
    pub server: RunOutcome,
    /// The plan that all agreed on.
    pub plan: protocol::plan::RunPlan,
    /// The largest share that rounding cut off of an institution's update, by round, if updates were rounded to blocks of int8.
    pub update_rounding: BTreeMap<u32, f64>,
    /// The training loss of every step of every institution, by institution and step.
    pub steps: Vec<StepRecord>,
}

impl Federation {
    /// Makes the certificates: an authority, a server, one participant per institution.
    ///
    /// # Errors
    /// If a name is none or the system has no randomness.
    pub fn create(institutions: &[InstitutionText]) -> anyhow::Result<Self> {
        let names: Vec<&str> = institutions.iter().map(|one| one.name.as_str()).collect();
        let certificates = throwaway::Federation::create(FEDERATION, &names)
            .context("certificates of the throw-away federation cannot be made")?;
        let names = names
            .into_iter()
            .map(str::parse)
            .collect::<Result<_, _>>()?;
        Ok(Self {
            certificates,
            names,
        })
    }

    /// Does one run, from the first handshake to the merged adapter.
    ///
    /// # Errors
    /// If the server or any client fails; the error names it.
    pub fn run(
        &self,
        run: &FederatedRun<'_>,
        progress: &Progress,
    ) -> anyhow::Result<FederatedOutcome> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .context("the runtime of server and clients cannot be started")?;
        runtime.block_on(self.drive(run, progress))
    }

    async fn drive(
        &self,
        run: &FederatedRun<'_>,
        progress: &Progress,
    ) -> anyhow::Result<FederatedOutcome> {
        let server = Server::bind(self.server_config(run)?).context("the server cannot start")?;
        let address = server.address().to_string();
        let watch = Watch::new(run, progress);
        let (turn, mut clients) = (DeviceTurn::new(), JoinSet::new());
        let honest = run
            .institutions
            .len()
            .saturating_sub(run.experiment.hostile);
        for (index, institution) in run.institutions.iter().enumerate() {
            let mut settings = Settings::new(address.clone(), self.tls_of(&institution.name)?);
            // A loss tells of records, and of who took part, what no noise covers.
            settings.share_train_loss =
                run.private.is_none() && !run.experiment.participant_privacy.enabled;
            let private = run
                .private
                .map(|private| private.settings(&institution.name));
            settings.privacy = private.transpose()?;
            let name = institution.name.clone();
            let text = TrainingText::Ready(Arc::clone(&institution.train));
            let site = client::training_site(&settings, Arc::clone(run.base), text)?;
            let site = if index < honest {
                site
            } else {
                Arc::new(HostileSite(site))
            };
            let (observer, shutdown) = (watch.of(&name), Shutdown::never());
            let taking_part = client::participate(settings, site, turn.clone(), observer, shutdown);
            clients.spawn(async move {
                taking_part
                    .await
                    .with_context(|| format!("institution {name} failed"))
            });
        }
        let all_clients = async {
            let (mut plan, mut roundings) = (None, BTreeMap::new());
            while let Some(ended) = clients.join_next().await {
                let ended = ended.context("a client broke off")??;
                for done in &ended.rounds {
                    if let Some(rounding) = done.rounding {
                        let most: &mut f64 = roundings.entry(done.round.0).or_default();
                        *most = most.max(rounding);
                    }
                }
                plan = Some(ended.plan);
            }
            let plan = plan.context("a federation has at least one institution")?;
            anyhow::Ok((plan, roundings))
        };
        let serving = async {
            server
                .run(watch.of_server(), std::future::pending())
                .await
                .context("the server failed")
        };
        let (server, (plan, update_rounding)) = tokio::try_join!(serving, all_clients)?;
        Ok(FederatedOutcome {
            server,
            plan,
            update_rounding,
            steps: watch.steps(),
        })
    }

    fn tls_of(&self, name: &str) -> anyhow::Result<TlsMaterial> {
        let material = self
            .certificates
            .participant(name)
            .with_context(|| format!("institution {name} has no certificate"))?;
        tls(material)
    }

    fn server_config(&self, run: &FederatedRun<'_>) -> anyhow::Result<server::Config> {
        let Experiment { training, .. } = run.experiment;
        let name: RunId = match run.arm {
            Arm::Federated => "federated",
            Arm::Private => "private",
            Arm::WithoutEwc | Arm::Alone => "without-ewc",
        }
        .parse()?;
        let mut config =
            server::Config::new(tls(self.certificates.server())?, name, run.start.clone());
        config.run.out.clone_from(&run.runs);
        config.run.rounds = training.rounds;
        config.run.seed = run.experiment.seed;
        config.run.transfer = run.experiment.transfer.into();
        config.run.download = run.experiment.download.into();
        run.experiment.sums.configure(&mut config);
        config.strategy = run.experiment.strategy.plan()?;
        config.training = training_plan(run.experiment);
        if let Some(private) = run.private {
            config.training.accumulation = private.accumulation;
            config.training.learning_rate = private.learning_rate;
            config.privacy = Some(private.plan.clone());
        }
        config.cohort = CohortPlan {
            participants: Participants::Named(self.names.clone()),
            quorum: self.names.len() as u32,
            soft_deadline: PATIENCE,
            hard_deadline: PATIENCE,
            stall_limit: PATIENCE,
            join_deadline: PATIENCE,
            ..config.cohort
        };
        let of_participants = &run.experiment.participant_privacy;
        config.participant_privacy = of_participants
            .enabled
            .then(|| of_participants.among(self.names.len() as u32));
        config.limits = LimitsPlan {
            participants_max: self.names.len() as u32,
            ..limits(run.experiment, run.institutions, run.base)?
        };
        config.ewc = run
            .anchor
            .as_ref()
            .map(|anchor| server::config::EwcSettings {
                lambda: run.experiment.ewc.lambda,
                place: EwcPlace::Client,
                anchor: anchor.clone(),
            });
        Ok(config)
    }
}

/// A party's certificate as the transport takes it.
fn tls(material: &throwaway::Material) -> anyhow::Result<TlsMaterial> {
    let throwaway::Material {
        certificate,
        key,
        authority,
        revocations,
        ..
    } = material;
    Ok(TlsMaterial::from_pem(
        certificate,
        key,
        authority,
        Some(revocations),
    )?)
}

fn training_plan(experiment: &Experiment) -> TrainingPlan {
    let training = &experiment.training;
    TrainingPlan {
        local_steps: training.local_steps,
        batch_examples: training.batch_examples,
        accumulation: 1,
        max_tokens: experiment.text.max_tokens as u32,
        learning_rate: training.learning_rate,
        warmup_steps: training.warmup_steps,
        schedule: match training.schedule {
            Course::Constant => Schedule::Constant,
            Course::Linear => Schedule::Linear,
            Course::Cosine => Schedule::Cosine,
        },
        weight_decay: training.weight_decay,
        clip_norm: training.clip_norm,
    }
}

/// What an honest update can be at most, with room: Adam moves each value by a few rates a step.
fn limits(
    experiment: &Experiment,
    institutions: &[InstitutionText],
    base: &BaseModel,
) -> anyhow::Result<LimitsPlan> {
    let parameters = base
        .adapter_layout(&crate::run::lora(experiment)?)?
        .parameters() as f64;
    let training = &experiment.training;
    let steps = f64::from(training.local_steps);
    Ok(LimitsPlan {
        update_norm_max: 1.0 + 4.0 * training.learning_rate * steps * parameters.sqrt(),
        weight_max: institutions
            .iter()
            .map(|one| one.train.examples.len())
            .max()
            .unwrap_or(1) as u64,
        participants_max: 1,
    })
}
