import time
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from uwm.data.draws import Draws
from uwm.errors import UserError
from uwm.training.batches import IndexSource, epoch_indices, micro_batch_size, seeded_generator

sizes = st.integers(1, 40)


@settings(max_examples=50, deadline=None)
@given(rows=sizes, batch_size=sizes, seed=st.integers(0, 2**40))
def test_each_epoch_has_each_row_once(rows: int, batch_size: int, seed: int) -> None:
    steps = -(-3 * rows // batch_size)
    stream = np.concatenate([epoch_indices(rows, batch_size, step, seed) for step in range(steps)])
    for epoch in stream[: 3 * rows].reshape(3, rows):
        assert sorted(epoch) == list(range(rows))


@settings(max_examples=30, deadline=None)
@given(rows=sizes, batch_size=sizes, step=st.integers(0, 10**6), seed=st.integers(0, 100))
def test_indices_are_a_pure_function_of_seed_and_step(
    rows: int, batch_size: int, step: int, seed: int
) -> None:
    first = epoch_indices(rows, batch_size, step, seed).copy()
    epoch_indices(rows, batch_size, step + 5, seed + 1)
    np.testing.assert_array_equal(first, epoch_indices(rows, batch_size, step, seed))


def test_epochs_and_seeds_differ() -> None:
    orders = [tuple(epoch_indices(100, 100, step, seed)) for step in range(3) for seed in range(3)]
    assert len(set(orders)) == 9


def drawn(indices: torch.Tensor, draws: Draws) -> torch.Tensor:
    count = len(indices)
    drawn = draws.rand(count, 2).sum(1) + draws.randn(count) + draws.randint(9, count, 1)[:, 0]
    return torch.stack([indices.double(), drawn.double()], 1)  # (b, 2)


@settings(max_examples=30, deadline=None)
@given(
    rows=st.integers(1, 60),
    per_micro=st.integers(1, 5),
    world_size=st.integers(1, 4),
    accumulate=st.integers(1, 3),
    step=st.integers(0, 50),
)
def test_ranks_and_micro_batches_partition_the_global_batch(
    rows: int, per_micro: int, world_size: int, accumulate: int, step: int
) -> None:
    batch_size = per_micro * world_size * accumulate
    source = IndexSource(rows, drawn, batch_size=batch_size, accumulate=accumulate, seed=3)
    streams = [source.batches(step, rank, world_size) for rank in range(world_size)]
    parts = [torch.stack([next(stream) for stream in streams], 1) for _ in range(accumulate)]
    assert all(part.shape == (per_micro, world_size, 2) for part in parts)
    rows_and_draws = torch.cat([part.flatten(0, 1) for part in parts])  # the ranks in turn
    np.testing.assert_array_equal(rows_and_draws[:, 0], epoch_indices(rows, batch_size, step, 3))
    alone = source.batches(step, 0, 1)  # what is drawn for a sample depends on its place in the batch alone
    torch.testing.assert_close(
        rows_and_draws, torch.cat([next(alone) for _ in range(accumulate)]), rtol=0, atol=0
    )


def test_stream_from_a_later_step_is_the_tail_of_the_stream() -> None:
    def load(indices: torch.Tensor, draws: Draws) -> torch.Tensor:
        return indices + draws.rand(len(indices))

    source = IndexSource(11, load, batch_size=4, accumulate=2)
    whole, tail = source.batches(0, 0, 1), source.batches(3, 0, 1)
    for _ in range(6):
        next(whole)
    for _ in range(10):
        torch.testing.assert_close(next(whole), next(tail), rtol=0, atol=0)


def test_threads_load_the_same_batches_in_the_same_order() -> None:
    def load(indices: torch.Tensor, draws: Draws) -> torch.Tensor:
        time.sleep(0.002 * float(draws.rand(1)))
        return indices

    plain = IndexSource(30, load, batch_size=4).batches(2, 0, 1)
    ahead = IndexSource(30, load, batch_size=4, workers=3).batches(2, 0, 1)
    assert [next(plain).tolist() for _ in range(20)] == [next(ahead).tolist() for _ in range(20)]
    ahead.close()


def test_an_error_in_a_loading_thread_arrives() -> None:
    def load(indices: torch.Tensor, draws: Draws) -> torch.Tensor:
        raise UserError("no such clip")

    with pytest.raises(UserError, match="no such clip"):
        next(IndexSource(5, load, batch_size=1, workers=2).batches(0, 0, 1))


def test_indivisible_batch_and_empty_data_are_user_errors() -> None:
    assert micro_batch_size(24, 3, 2) == 4
    with pytest.raises(
        UserError, match=r"batch_size 10 can't be split over 4 processes x 2 .* multiple of 8"
    ):
        micro_batch_size(10, 2, 4)
    with pytest.raises(UserError, match="no rows"):
        epoch_indices(0, 4, 0, 0)


def test_generators_of_different_keys_and_streams_differ() -> None:
    keys = product(range(4), repeat=3)
    seeds = {seeded_generator(*key, stream=s).initial_seed() for key in keys for s in (0, 1)}
    assert len(seeds) == 4**3 * 2
