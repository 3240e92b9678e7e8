"""Run a benchmark: `python -m benchmarks rest`."""

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from benchmarks.blocks import blocks, blocks_report
from benchmarks.calls import calls, calls_report
from benchmarks.flow import flow
from benchmarks.jobs import jobs, jobs_report
from benchmarks.policy import policy, policy_report
from benchmarks.report import Report, print_markdown, print_tables, rest_report
from benchmarks.rest import rest
from benchmarks.simulate import simulate, simulate_report


@dataclass(frozen=True)
class Benchmark:
    """What can be measured: how to run it, quickly or not, and how to show what it found."""

    run: Callable[[bool], Any]
    report: Callable[[Any], Report]


BENCHMARKS = {
    "blocks": Benchmark(blocks, blocks_report),
    "calls": Benchmark(calls, calls_report),
    "flow": Benchmark(flow, rest_report),
    "jobs": Benchmark(jobs, jobs_report),
    "policy": Benchmark(policy, policy_report),
    "rest": Benchmark(rest, rest_report),
    "simulate": Benchmark(simulate, simulate_report),
}


def main() -> int:
    """Run what the command line names; return 1 when a contestant failed, else 0."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure holdfast beside what people use today, in one run.",
    )
    parser.add_argument("benchmark", choices=sorted(BENCHMARKS), help="what to measure")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print one JSON object")
    form.add_argument("--markdown", action="store_true", help="print the README's tables")
    parser.add_argument("--quick", action="store_true", help="a tenth of the time, rougher")
    options = parser.parse_args()
    benchmark = BENCHMARKS[options.benchmark]
    results = benchmark.run(options.quick)
    if options.json:
        print(json.dumps(results.as_json(), indent=2))
    elif options.markdown:
        print_markdown(benchmark.report(results))
    else:
        print_tables(benchmark.report(results))
    return 1 if results.failed else 0


if __name__ == "__main__":
    sys.exit(main())
