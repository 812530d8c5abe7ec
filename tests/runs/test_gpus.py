"""Which GPUs the processes of a run see, and what is said where some stay idle or none is there."""

import os

import pytest

from uwm.runs.gpus import gpu_of, visible_gpus


@pytest.fixture
def nvidia_smi(monkeypatch, tmp_path):
    """A machine with two GPUs, as far as `nvidia-smi -L` says."""
    tool = tmp_path / "bin" / "nvidia-smi"
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\necho 'GPU 0: A (UUID: a)'\necho 'GPU 1: A (UUID: b)'\n")
    tool.chmod(0o755)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", str(tool.parent), prepend=os.pathsep)


def gpus_seen(project):
    return sorted(path.read_text() for path in project.root.glob("runs/mini/toy-*/gpu-of-*"))


def test_each_process_sees_one_gpu_of_the_machine(project, nvidia_smi):
    project.run("--jobs", "2")
    assert gpus_seen(project) in (["0", "1"], ["0"], ["1"])  # one of them may have run every cell


def test_processes_see_the_gpus_that_the_shell_was_given(project, nvidia_smi, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    project.run("--jobs", "2")
    assert set(gpus_seen(project)) == {"7"}


def test_a_training_that_would_get_one_gpu_of_several_is_said(project, nvidia_smi, monkeypatch):
    told = "warning: with --jobs 2 one GPU trains weights while other processes wait; torchrun"
    assert "warning" not in project.run("--only", "copy", "--set", "training.steps=3")[2]  # not with --jobs
    assert told in project.run("--jobs", "2")[2]
    assert "warning" not in project.run("--jobs", "2")[2]  # it is finished
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert "warning" not in project.run("--jobs", "2", "--set", "training.steps=4")[2]


def test_a_large_scale_without_a_gpu_is_said(project, nvidia_smi, monkeypatch):
    told = "warning: no GPU is seen here: at scale paper trainings take weeks without\n"
    assert "warning" not in project.run("--scale", "paper", "--only", "copy")[2]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert told in project.run("--scale", "paper", "--only", "copy")[2]
    assert "warning" not in project.run("--only", "copy")[2]


def test_gpus_go_to_the_processes_in_turn(nvidia_smi, monkeypatch):
    found = visible_gpus()
    assert [gpu_of(worker, found)["CUDA_VISIBLE_DEVICES"] for worker in range(3)] == ["0", "1", "0"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert gpu_of(0, visible_gpus()) == {}
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setenv("PATH", "/nowhere")
    assert gpu_of(0, visible_gpus()) == {}
