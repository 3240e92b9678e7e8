"""Run a benchmark: `python -m benchmarks rest`."""

import argparse
import json
import sys

from benchmarks.report import print_markdown, print_tables
from benchmarks.rest import rest


def main() -> int:
    """Run what the command line names; return 1 when a contestant failed, else 0."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure holdfast beside the clients people use today, in one run.",
    )
    parser.add_argument("benchmark", choices=["rest"], help="what to measure")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print one JSON object")
    form.add_argument("--markdown", action="store_true", help="print the README's tables")
    parser.add_argument("--quick", action="store_true", help="a tenth of the time, rougher")
    options = parser.parse_args()
    results = rest(options.quick)
    if options.json:
        print(json.dumps(results.as_json(), indent=2))
    elif options.markdown:
        print_markdown(results)
    else:
        print_tables(results)
    return 1 if results.failed else 0


if __name__ == "__main__":
    sys.exit(main())
