"""Measure what an event costs, for each subject, in interleaved rounds.

    python -m benchmarks.run [--rounds 7] [--clients 1000] [--subjects floor,direct,...]
                             [--against CHECKOUT] [--cache FOLDER]

A round starts each subject's server once, in an order that changes from round to round, connects
the clients, and has single events broadcast (each after the last client has the one before) and
then bursts of 20. Reported are medians over the rounds; ratios are taken within each round, so that
a machine that is slower for a while does not blur them. Medians, ratios and samples go into
`benchmarks.json` in the cache, after each round; `benchmarks.page` makes a page of it.

With `--against`, each of our subjects is measured a second time, as `NAME@before`: with the package
and the servers of that checkout, by the same Python. So are `floor` and `bare`, as the machine may
be slower at that time. In the end it tells the ratios that have a limit, and those after / before.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Final

from .report.comparison import against_peers, compare
from .report.machine import describe_machine, list_versions
from .report.results import Results, Sample, Work
from .servers.processes import Load, Server, clean_up_on_sigterm, environment
from .servers.subjects import CACHE, PEERS, SUBJECTS, Subject, python

_PAYLOAD: Final = 64
_BURST: Final = 20
_WARM_UP: Final = 3


def _work(server: Server, load: Load, batches: int, burst: int, clients: int) -> Work:
    """Have bursts broadcast; return what each delivered event cost, and the latency."""
    before = server.cpu()
    answer = load.ask(f"publish {batches} {burst} {_PAYLOAD}")
    cpu = server.cpu() - before
    if answer["wrong"]:
        raise RuntimeError(f"{answer['wrong']} clients did not get each event exactly once")
    return Work(cpu / (batches * burst * clients) * 1e6, median(answer["latencies"]) * 1e3)


def measure(subject: Subject, options: argparse.Namespace) -> Sample:
    """Return one round's sample of one subject."""
    clients: int = options.clients
    with Server(subject, options.cache) as server:
        before = server.resident()
        with Load(server, clients) as load:
            resident = (server.resident() - before) / clients / 1024
            load.ask(f"publish {_WARM_UP} 1 {_PAYLOAD}")
            single = _work(server, load, options.singles, 1, clients)
            burst = _work(server, load, options.bursts, _BURST, clients)
            bypassed = clients - _went_direct(server) if subject.direct else 0
    return Sample(single, burst, resident, bypassed)


def _went_direct(server: Server) -> int:
    """Return how many clients go the direct way; servers from before there was one do not tell."""
    clients: int = server.ask("report").get("clients_direct", 0)
    return clients


def measure_round(
    number: int, subjects: Sequence[Subject], options: argparse.Namespace, results: Results
) -> None:
    """Add a sample of each subject; every second round goes backwards."""
    turn = number % len(subjects)
    for subject in [*subjects[turn:], *subjects[:turn]][:: (-1) ** number]:
        sample = measure(subject, options)
        results.samples[subject.name].append(sample)
        print(f"round {number + 1}: {subject.name}: {sample}", file=sys.stderr, flush=True)


def _chosen(options: argparse.Namespace) -> list[Subject]:
    """Return the subjects that were asked for, each beside what it was in the other checkout."""
    subjects: list[Subject] = []
    for name in options.subjects:
        subjects.append(SUBJECTS[name])
        if options.against and name in {*PEERS, *PEERS.values()}:
            subjects.append(SUBJECTS[name].of(options.against))
    return subjects


def _check_origin(checkout: Path, cache: Path) -> None:
    """Refuse a checkout whose package another one hides."""
    command = (python(cache), "-c", "import trio_sse, benchmarks; print(trio_sse.__file__)")
    env = environment(checkout)
    file = subprocess.check_output(command, cwd=checkout, env=env, text=True)  # noqa: S603
    if not Path(file).is_relative_to(checkout):
        raise SystemExit(f"trio_sse comes from {file.strip()}, not from {checkout}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--singles", type=int, default=40, help="single events in a round")
    parser.add_argument("--bursts", type=int, default=8, help="bursts of 20 in a round")
    parser.add_argument("--subjects", type=_subjects, default=list(SUBJECTS))
    parser.add_argument("--against", type=_path, metavar="CHECKOUT")
    parser.add_argument("--cache", type=_path, default=CACHE)
    return parser.parse_args()


def _path(text: str) -> Path:
    return Path(text).absolute()


def _subjects(text: str) -> list[str]:
    names = text.split(",")
    if unknown := set(names) - set(SUBJECTS):
        raise argparse.ArgumentTypeError(f"unknown: {unknown}; there are {', '.join(SUBJECTS)}")
    return names


def main() -> None:
    """Measure, and note the results after each round."""
    options = _arguments()
    clean_up_on_sigterm()
    cache: Path = options.cache
    machine = {**describe_machine(), **list_versions(cache)}
    subjects = _chosen(options)
    for checkout in {subject.checkout for subject in subjects}:
        _check_origin(checkout, cache)
    results = Results({subject.name: [] for subject in subjects})
    for number in range(options.rounds):
        measure_round(number, subjects, options, results)
        record = {"machine": machine, "clients": options.clients, **results.as_json()}
        (cache / "benchmarks.json").write_text(json.dumps(record, indent=1) + "\n")
    for line in (*against_peers(results), *compare(results)):
        print(line)


if __name__ == "__main__":
    main()
