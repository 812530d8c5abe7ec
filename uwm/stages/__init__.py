"""One file per trained thing: its recipe, its identity, its training."""
