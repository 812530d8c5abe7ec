"""What a training on live video or shards could not read, said at its end and kept beside its log."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from uwm.stages.pair_training import LiveBatches
from uwm.training.batches import BatchSource
from uwm.training.distributed import environment_ranks


@contextmanager
def telling_stand_ins(source: BatchSource, run: Path) -> Iterator[None]:
    """Around a training in the folder `run`: however it ends, say which pairs others stood in for.

    One line on stderr and one of JSON in `replaced.jsonl` for each corpus, rank and attempt in which there
    were any: pairs_read and pairs_replaced in this attempt, and `skipped`, (clip or shard, reason).
    """
    try:
        yield
    finally:
        for corpus, stream in source.streams.items() if isinstance(source, LiveBatches) else ():
            report = stream.report()
            if report["pairs_replaced"]:
                _tell(corpus, report["pairs_replaced"], report["pairs_read"], report["skipped"][0])
                line = json.dumps({"corpus": corpus, "rank": environment_ranks().rank, **report})
                with (run / "replaced.jsonl").open("a", encoding="utf-8") as file:
                    file.write(line + "\n")


def _tell(corpus: str, replaced: int, read: int, first: tuple[str, str]) -> None:
    print(
        f"{corpus}: others stood in for {replaced} of {read} training pairs that could not be read; "
        f"the first: {first[0]}: {first[1]}",
        file=sys.stderr,
    )
