"""The paper regenerated from records: tables, figures, checks, report. Nothing here imports torch."""
