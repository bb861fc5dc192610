//! The command line: what is accepted, what is refused, and which exit code an error leads to.

use clap::{CommandFactory as _, Parser as _, error::ErrorKind};
use protocol::{
    close::{CloseCode, RunFailure},
    quic::{HandshakeError, PeerRefusal, RefusedPeer, Rejection},
};

use super::{
    arguments::{Arguments, Command},
    failure::Failure,
};
use crate::error::ClientError;

fn parse(line: &str) -> Result<Arguments, clap::Error> {
    Arguments::try_parse_from(line.split_whitespace())
}

#[test]
fn definition_of_the_arguments_is_consistent() {
    Arguments::command().debug_assert();
}

#[test]
fn commands_of_the_documentation_are_accepted() {
    let lines = [
        "foedus-client run --config client.toml --check",
        "foedus-client train --model m --data d.jsonl --eval e.jsonl --out o --json",
        "foedus-client train --model m --data d.jsonl --out o --anchor a.safetensors --lambda 0.3",
        "foedus-client train --model m --data d.jsonl --eval e.jsonl --out o --eval-every 20 --patience 3 --checkpoint c --checkpoint-every 10",
        "foedus-client bench train --shape llama-3.2-1b --rank 16 --targets all --batch 8 --seq 512 --device cpu --json",
        "foedus-client bench train --targets q,v --activation-checkpointing block --examples e.jsonl",
        "foedus-client bench train --model m.gguf --examples e.jsonl --base-precision int8",
        "foedus-client train --model m --data d.jsonl --out o --base-precision nf4",
        "foedus-client train --model m --data d.jsonl --out o --dp --dp-epsilon 3 --dp-delta 1e-6 --dp-group-by patient --dp-records-max 4",
        "foedus-client privacy plan --target-epsilon 8 --delta 1e-5 --examples 10000 --batch 256 --steps 1000",
        "foedus-client privacy spent data/train.jsonl.privacy --json",
        "foedus-client bench train --dp --batch 4",
        "foedus-client evaluate --model m --adapter a --data d.jsonl --json",
        "foedus-client generate --model m --prompt hello --temperature 0.8 --top-p 0.9 --seed 3",
        "foedus-client fisher --model m --data general.jsonl --out anchor.safetensors",
        "foedus-client adapter new --model m --rank 16 --alpha 32 --target-modules q_proj,v_proj --seed 1 --out start/",
        "foedus-client adapter show start --json",
        "foedus-client policy check plan.foedus --config client.toml",
        "foedus-client audit --config client.toml --plan plan.foedus --out audit",
        "foedus-client audit --steps 40 --rank 8 --out audit --coins 64",
        "foedus-client ledger show --config client.toml --last 20",
        "foedus-client ledger verify --ledger adapter.ledger --certificate old.crt --certificate new.crt",
        "foedus-client ledger export --csv egress.csv",
        "foedus-client --log-format json --log debug evaluate --model m --data d.jsonl",
    ];
    for line in lines {
        parse(line).unwrap_or_else(|refused| panic!("{line}: {refused}"));
    }
}

#[test]
fn target_modules_are_a_list_and_strangers_are_named() {
    let line = "foedus-client fisher --model m --data d --out o --target-modules";
    let parsed = parse(&format!("{line} q_proj,down_proj")).unwrap();
    let Command::Fisher(arguments) = parsed.command else {
        panic!("another command")
    };
    let names: Vec<String> = arguments
        .target_modules
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(names, ["q_proj", "down_proj"]);
    let refused = parse(&format!("{line} lm_head")).unwrap_err().to_string();
    assert!(refused.contains("lm_head"), "{refused}");
}

#[test]
fn patience_needs_evaluations_and_they_need_held_out_text() {
    let line = "foedus-client train --model m --data d --out o";
    for missing in ["--patience 3", "--eval-every 5", "--checkpoint-every 5"] {
        let refused = parse(&format!("{line} {missing}")).unwrap_err();
        assert_eq!(
            refused.kind(),
            ErrorKind::MissingRequiredArgument,
            "{missing}"
        );
    }
}

#[test]
fn anchor_without_a_strength_is_refused() {
    let line = "foedus-client train --model m --data d --out o --anchor a";
    assert_eq!(
        parse(line).unwrap_err().kind(),
        ErrorKind::MissingRequiredArgument
    );
}

#[test]
fn help_teaches_every_command_and_the_exit_codes() {
    let help = Arguments::command().render_long_help().to_string();
    for expected in [
        "run", "train", "evaluate", "generate", "fisher", "adapter", "policy", "78",
    ] {
        assert!(help.contains(expected), "{expected} is missing in\n{help}");
    }
}

#[test]
fn exit_code_says_whose_turn_it_is() {
    let away = ClientError::ServerAway {
        server: "s:1".to_owned(),
        last: "silence".to_owned(),
    };
    let failed = ClientError::RunFailed {
        reason: RunFailure::QuorumNotMet,
        detail: "1 of 2 updates".into(),
    };
    assert_eq!(Failure::from(away).code(), 75);
    assert_eq!(Failure::from(failed).code(), 75);
    assert_eq!(
        Failure::from(ClientError::Closed {
            code: CloseCode::NotInCohort
        })
        .code(),
        1
    );
    assert_eq!(Failure::usage("no").code(), 64);
    let missing = crate::Config::read(std::path::Path::new("/nowhere/client.toml")).unwrap_err();
    assert_eq!(Failure::from(missing).code(), 78);
}

#[test]
fn cause_that_an_error_has_said_already_is_not_said_again() {
    let data = finetune::data::DataError {
        file: "records.jsonl".into(),
        line: Some(3),
        what: "is no JSON object".to_owned(),
    };
    let refused = Failure::from(ClientError::from(data)).to_string();
    assert_eq!(refused.matches("is no JSON object").count(), 1, "{refused}");
    // What was not said is.
    let other = anyhow::Error::msg("the disk is full").context("cannot write state");
    assert_eq!(
        Failure::from(other).to_string(),
        "cannot write state: the disk is full"
    );
}

#[test]
fn refused_certificate_is_a_matter_of_configuration_unless_the_server_could_not_check_it() {
    let refused = |reason| {
        Failure::from(ClientError::Handshake(HandshakeError::RefusedByPeer {
            remote: "192.0.2.1:4433".parse().unwrap(),
            own: Box::new("foedus://treaty/participant/north".parse().unwrap()),
            reason,
        }))
        .code()
    };
    assert_eq!(refused(PeerRefusal::Revoked), 78);
    assert_eq!(refused(PeerRefusal::WrongAuthority), 78);
    assert_eq!(refused(PeerRefusal::Unchecked), 1);
    let servers = RefusedPeer {
        remote: "192.0.2.1:4433".parse().unwrap(),
        claimed: None,
        reason: Rejection::WrongAuthority,
    };
    let servers = HandshakeError::Refused(Box::new(servers));
    assert_eq!(Failure::from(ClientError::Handshake(servers)).code(), 78);
    let own = ClientError::Certificate(Rejection::Revoked);
    assert_eq!(Failure::from(own).code(), 78);
}
