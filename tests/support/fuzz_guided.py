"""The feed under a coverage-guided fuzzer (atheris, the extra `fuzz`): `scripts/fuzz`, kept out of CI.

The feed's Python is run as it stands (NUMBA_DISABLE_JIT=1) and instrumented, so that each branch that is reached for the first time
keeps the input that reached it; every row access is checked (HFTD_CHECKED=1). Compiled code would run more inputs, but blind: its
branches are not seen, and what stands behind three counters in the right order is not found by chance.

What is found is left in --corpus as crash-…; run it again with: scripts/fuzz --input FILE
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

SEEDS = 64


def main() -> None:
    """Fuzz, or run one input."""
    parser = argparse.ArgumentParser(prog="scripts/fuzz", description="throw hostile market data at the feed, guided by coverage")
    parser.add_argument("--seconds", type=int, default=60, help="how long, for each target (default 60)")
    parser.add_argument("--target", choices=("messages", "packets", "all"), default="all", help="what to fuzz (default all)")
    parser.add_argument("--corpus", default="", metavar="DIR", help="keep inputs there from run to run (default: nowhere)")
    parser.add_argument("--seed", type=int, default=1, help="of the fuzzer's own choices")
    parser.add_argument("--input", default="", metavar="FILE", help="run this one input on each target, and stop")
    options = parser.parse_args()
    names = ("messages", "packets") if options.target == "all" else (options.target,)
    if options.input:
        from tests.support.feed_fuzz import TARGETS

        for name in names:
            sys.stdout.write(f"{name}: {TARGETS[name]().run(Path(options.input).read_bytes())} delivered\n")
        return
    with tempfile.TemporaryDirectory(prefix="hftd-fuzz-") as temporary:
        failed = 0
        for name in names:                            # libFuzzer ends its process
            corpus = Path(options.corpus or temporary) / name
            corpus.mkdir(parents=True, exist_ok=True)
            child = os.fork()
            if child == 0:
                fuzz(name, corpus, options.seconds, options.seed)
                os._exit(0)
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            failed += status != 0
            sys.stdout.write(f"scripts/fuzz: {name}: {'nothing found' if status == 0 else f'FOUND something, see {corpus}'}\n")
            for crash in corpus.glob("crash-*"):
                sys.stdout.write(f"{crash.name}: {crash.read_bytes().hex()}\n")
        sys.exit(1 if failed else 0)


def fuzz(name: str, corpus: Path, seconds: int, seed: int) -> None:
    """Fuzz one target; does not come back."""
    import random

    import atheris

    with atheris.instrument_imports(include=["hftd.venues", "hftd.feed"]):
        from tests.support.feed_fuzz import TARGETS

    target = TARGETS[name]()
    if not any(corpus.iterdir()):
        chance = random.Random(seed)
        for number in range(SEEDS):
            (corpus / f"seed-{number}").write_bytes(chance.randbytes(chance.randrange(20, 600)))
    atheris.Setup([sys.argv[0], str(corpus), f"-max_total_time={seconds}", f"-seed={seed}", "-max_len=1024", "-timeout=60",
                   "-rss_limit_mb=4096", f"-artifact_prefix={corpus}/", "-print_final_stats=1"], target.run)  # fmt: skip
    atheris.Fuzz()


if __name__ == "__main__":
    main()
