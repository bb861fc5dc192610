#!/usr/bin/env python3
"""Runs an exchange without training with many participants in one process, by Foedus and by Flower's simulation, and prints the ratio.

    benches/peers/simulation.py --flower PYTHON [--sim PATH] [--participants 1000] [--megabytes 1] [--tensors 16] [--rounds 4]

PYTHON is that of an environment with `flwr[simulation]` (1.42.0 with ray 2.55.1 were measured). In each round every participant
returns what it was sent plus a constant; the first round is left out of the medians, as each side starts its workers in it. Flower's
clients are not authenticated and nothing of theirs crosses a socket as it does between machines; ours speak QUIC under mutual TLS over
loopback. By hand only; the simulator is built by `cargo build --release -p simulations`.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def flower(a):
    """This file once more, in Flower's environment."""
    environment = {**os.environ, "FLWR_TELEMETRY_ENABLED": "0"}
    command = [a.flower, __file__, "--flower", "", *sizes(a)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    lines = [line for line in done.stdout.splitlines() if line.startswith("[")]
    if done.returncode != 0 or not lines:
        sys.exit(f"Flower failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    return statistics.median(json.loads(lines[-1])[1:])


def serve_flower(a):
    import time

    import numpy
    from flwr.client import ClientApp, NumPyClient
    from flwr.common import ndarrays_to_parameters
    from flwr.server import ServerApp, ServerAppComponents, ServerConfig
    from flwr.server.strategy import FedAvg
    from flwr.simulation import run_simulation

    each = int(a.megabytes * 1e6 / 4 / a.tensors)
    start = ndarrays_to_parameters([numpy.zeros(each, numpy.float32) for _ in range(a.tensors)])
    seconds = []

    class Constant(NumPyClient):
        def fit(self, parameters, config):
            return [values + numpy.float32(1) for values in parameters], 1, {}

    class Timed(FedAvg):
        def configure_fit(self, *given, **named):
            self.since = time.monotonic()
            return super().configure_fit(*given, **named)

        def aggregate_fit(self, server_round, results, failures):
            merged = super().aggregate_fit(server_round, results, failures)
            if len(results) != a.participants:
                sys.exit(f"round {server_round} has {len(results)} of {a.participants} results")
            seconds.append(time.monotonic() - self.since)
            return merged

    def parts(_):
        strategy = Timed(fraction_fit=1.0, fraction_evaluate=0.0, min_fit_clients=a.participants,
                         min_available_clients=a.participants, initial_parameters=start)
        return ServerAppComponents(strategy=strategy, config=ServerConfig(num_rounds=a.rounds))

    run_simulation(server_app=ServerApp(server_fn=parts), client_app=ClientApp(client_fn=lambda _: Constant().to_client()),
                   num_supernodes=a.participants, backend_config={"client_resources": {"num_cpus": 1, "num_gpus": 0}})
    print(json.dumps(seconds))


def ours(a, transfer):
    command = [a.sim, "bench", "exchange", "--in-process", "--transfer", transfer, "--json", *sizes(a)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"Foedus failed:\n{done.stdout}\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])["s_per_round_median"]


def sizes(a):
    return ["--participants", str(a.participants), "--megabytes", str(a.megabytes), "--tensors", str(a.tensors),
            "--rounds", str(a.rounds)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flower", required=True)
    parser.add_argument("--sim", type=Path, default=HERE.parents[1] / "target/release/foedus-sim")
    parser.add_argument("--participants", type=int, default=1000)
    parser.add_argument("--megabytes", type=float, default=1)
    parser.add_argument("--tensors", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=4)
    a = parser.parse_args()
    if not a.flower:
        return serve_flower(a)
    peer = flower(a)
    print(f"flower simulation {peer:8.2f} s a round")
    for transfer in ("f32", "bf16"):
        found = ours(a, transfer)
        print(f"foedus {transfer:<10} {found:8.2f} s a round, {peer / found:.1f} times as fast", flush=True)


if __name__ == "__main__":
    main()
