"""Experiments as Slurm jobs, through submitit."""
